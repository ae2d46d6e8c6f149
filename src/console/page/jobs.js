// All jobs that the viewer may see, asked for again and again: the newest and those that run each time, all of them
// now and then and when one has ended out of sight.

import { readTimestamp } from "./luxcast.js";
import { Refused, ask } from "./session.js";

const PAUSE_MS = 1_000;
/** For each job in an answer, so that those who watch many ask for them less often. */
const PAUSE_MS_A_JOB = 0.5;
/** After an answer that did not come. */
const RETRY_MS = 3_000;
const NEWEST_MAX = 200;
/** The daemon has no more in one answer. */
const RUNNING_MAX = 10_000;
const PAGE = 5_000;
const WALK_MS = 30_000;
/** Jobs on the page; the earliest are left out. */
const JOBS_MAX = 50_000;
/** Of the newest measurement of a rate, the rest is what it was before. */
const RATE_SHARE = 0.5;

/** Tells of `change` and of `trouble` (an error, or null when it is over). */
export class Jobs extends EventTarget {
  byId = new Map();
  /** Not all jobs are here. */
  isCut = false;
  /** What the daemon's clock is ahead of this one, in milliseconds. */
  skewMs = 0;
  #timer = null;
  #isHalted = true;
  #walkedAt = -Infinity;
  #trouble = null;

  start() {
    document.addEventListener("visibilitychange", () => document.hidden || this.#isHalted || this.refresh());
    this.resume();
  }

  /** Asks nothing until `resume`. */
  halt() {
    this.#isHalted = true;
    clearTimeout(this.#timer);
  }

  resume() {
    this.#isHalted = false;
    this.#walkedAt = -Infinity;
    this.refresh();
  }

  async refresh() {
    clearTimeout(this.#timer);
    let pauseMs = PAUSE_MS;
    try {
      if (performance.now() - this.#walkedAt > WALK_MS) await this.#walk();
      else pauseMs += (await this.#look()) * PAUSE_MS_A_JOB;
      this.#tellTrouble(null);
      this.dispatchEvent(new Event("change"));
    } catch (error) {
      pauseMs = RETRY_MS;
      this.#tellTrouble(error);
    }
    clearTimeout(this.#timer);
    // A page that nobody sees asks nothing; it asks at once when it is looked at again.
    if (!this.#isHalted && !document.hidden) this.#timer = setTimeout(() => this.refresh(), pauseMs);
  }

  #tellTrouble(error) {
    if (error === null && this.#trouble === null) return;
    this.#trouble = error;
    this.dispatchEvent(Object.assign(new Event("trouble"), { error }));
  }

  async #walk() {
    const jobs = new Map();
    let after = "";
    let next;
    do {
      const page = await askForJobs(`limit=${PAGE}${after}`);
      for (const job of page.jobs) jobs.set(job.job_id, this.#withRate(job, page.timestamp));
      next = page.next;
      after = `&after=${next}`;
    } while (next !== null && jobs.size < JOBS_MAX);
    this.isCut = next !== null;
    this.byId = jobs;
    this.#walkedAt = performance.now();
  }

  /** Returns of how many jobs it was told. */
  async #look() {
    const parts = await Promise.all([
      askForJobs(`limit=${NEWEST_MAX}`),
      askForJobs(`status=running&limit=${RUNNING_MAX}`),
      askForJobs(`status=paused&limit=${RUNNING_MAX}`),
    ]);
    const seen = new Set();
    for (const part of parts) {
      for (const job of part.jobs) {
        seen.add(job.job_id);
        this.byId.set(job.job_id, this.#withRate(job, part.timestamp));
      }
    }
    // What ran and is not told of has ended, or has been forgotten.
    const isWhole = parts.slice(1).every(({ next }) => next === null);
    if (isWhole && [...this.byId.values()].some((job) => isGoing(job) && !seen.has(job.job_id))) await this.#walk();
    return seen.size;
  }

  #withRate(job, timestamp) {
    const at = readTimestamp(timestamp) ?? Date.now();
    this.skewMs = at - Date.now();
    const before = this.byId.get(job.job_id);
    job.at = at;
    job.perSecond = 0;
    if (before === undefined || !isGoing(job)) return job;
    // Two answers of the same moment tell nothing new.
    const seconds = (at - before.at) / 1000;
    if (seconds < 0.2) return Object.assign(job, { at: before.at, perSecond: before.perSecond, ratedEvents: before.ratedEvents });
    const events = job.total_events - (before.ratedEvents ?? before.total_events);
    job.perSecond = before.perSecond * (1 - RATE_SHARE) + (Math.max(0, events) / seconds) * RATE_SHARE;
    job.ratedEvents = job.total_events;
    return job;
  }
}

async function askForJobs(query) {
  const page = await ask(`./jobs?${query}`);
  if (!Array.isArray(page.jobs)) throw new Refused("", "A proxy answered, not the daemon");
  return page;
}

export function isGoing({ status }) {
  return status === "running" || status === "paused";
}
