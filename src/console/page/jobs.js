// All jobs that the viewer may see, asked for repeatedly: the newest and the running ones each time, all of them at
// intervals and when one has ended out of sight.

import { readTimestamp } from "./luxcast.js";
import { Refused, ask } from "./session.js";

const PAUSE_MS = 1_000;
/** Added for each job in an answer, so that pages with many jobs ask less often. */
const PAUSE_MS_A_JOB = 0.5;
/** Pause after a missing answer. */
const RETRY_MS = 3_000;
const NEWEST_MAX = 200;
/** The daemon sends no more in one answer. */
const RUNNING_MAX = 10_000;
const PAGE = 5_000;
const WALK_MS = 30_000;
/** Jobs on the page; the earliest are left out. */
const JOBS_MAX = 50_000;
/** Weight of the newest measurement in a rate. */
const RATE_SHARE = 0.5;

/** Dispatches `change` and `trouble` (an error, or null when it is over). */
export class Jobs extends EventTarget {
  byId = new Map();
  /** Some jobs are missing here. */
  isCut = false;
  /** How far the daemon's clock is ahead of this one, in milliseconds. */
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

  /** All jobs have been heard of since the page was opened, or since its token changed. */
  get isLoaded() {
    return this.#walkedAt > -Infinity;
  }

  async refresh() {
    clearTimeout(this.#timer);
    let pauseMs = PAUSE_MS;
    try {
      if (performance.now() - this.#walkedAt > WALK_MS) await this.#walk();
      else pauseMs += (await this.#look()) * PAUSE_MS_A_JOB;
      this.#showTrouble(null);
      this.dispatchEvent(new Event("change"));
    } catch (error) {
      pauseMs = RETRY_MS;
      this.#showTrouble(error);
    }
    clearTimeout(this.#timer);
    // A hidden page asks nothing; it asks at once when it is shown again.
    if (!this.#isHalted && !document.hidden) this.#timer = setTimeout(() => this.refresh(), pauseMs);
  }

  #showTrouble(error) {
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

  /** Returns how many jobs the answer had. */
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
    // A running job that is missing has ended, or was forgotten.
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
    // Two answers for the same moment give no rate.
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
