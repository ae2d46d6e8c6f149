// The list of jobs: grouped by flow, newest first, with a search and a choice of states.

import { folded } from "./entry.js";
import { isGoing } from "./jobs.js";
import { readTimestamp } from "./luxcast.js";
import { Rows } from "./rows.js";
import * as words from "./words.js";

const NO_FLOW = "without a flow";

export class JobList {
  #jobs;
  #rows;
  /** The items of the list: `{ flow, jobs, going, isOpen }` and `{ job }`. */
  #items = [];
  #places = new Map();
  #closed = new Set();
  #search = "";
  #state = "";
  #note = document.getElementById("jobs-note");
  #element = document.getElementById("jobs");

  /** `open` is called with the id of the chosen job. */
  constructor(jobs, open) {
    this.#jobs = jobs;
    this.#rows = new Rows(this.#element, {
      count: () => this.#items.length,
      make: () => makeRow(),
      fill: (row, index) => this.#fill(row, this.#items[index]),
      key: (index) => keyOf(this.#items[index]),
      find: (key) => this.#places.get(key) ?? -1,
      choose: (index) => this.#choose(this.#items[index], open),
      handleKey: (key, index) => this.#handleKey(key, index),
    });
    document.getElementById("search").addEventListener("input", ({ target }) => {
      this.#search = folded(target.value.trim());
      this.update();
    });
    document.getElementById("state").addEventListener("change", ({ target }) => {
      this.#state = target.value;
      this.update();
    });
    jobs.addEventListener("change", () => this.update());
  }

  /** Marks the job that is open beside the list. */
  select(id) {
    this.#element.dataset.open = id ?? "";
    if (id !== null) this.#rows.activeKey = `job ${id}`;
    this.#rows.draw();
  }

  focus() {
    this.#element.focus({ preventScroll: true });
  }

  update() {
    const groups = new Map();
    let count = 0;
    const jobs = [...this.#jobs.byId.values()].sort((one, other) => other.first_seq - one.first_seq);
    for (const job of jobs) {
      if (!this.#isWanted(job)) continue;
      count += 1;
      const flow = job.flow_id ?? "";
      if (!groups.has(flow)) groups.set(flow, { flow, jobs: [], going: 0 });
      const group = groups.get(flow);
      group.jobs.push(job);
      if (isGoing(job)) group.going += 1;
    }
    this.#items = [];
    for (const group of [...groups.values()].sort((one, other) => one.flow.localeCompare(other.flow))) {
      this.#items.push(group);
      group.isOpen = !this.#closed.has(group.flow);
      if (group.isOpen) for (const job of group.jobs) this.#items.push({ job });
    }
    this.#places = new Map(this.#items.map((item, index) => [keyOf(item), index]));
    this.#rows.draw();
    this.#showCount(count);
  }

  #isWanted(job) {
    if (this.#state !== "" && job.status !== this.#state) return false;
    return this.#search === "" || isFound(job, this.#search);
  }

  #showCount(count) {
    const all = this.#jobs.byId.size;
    const of = count === all ? "" : ` of ${words.count(all)}`;
    const cut = this.#jobs.isCut ? "; the daemon has more that started earlier" : "";
    const text = all === 0 ? "No job has sent an event yet" : `${words.count(count)}${of} ${all === 1 ? "job" : "jobs"}${cut}`;
    if (this.#note.textContent !== text) this.#note.textContent = text;
  }

  #choose(item, open) {
    if (item.job !== undefined) return open(item.job.job_id);
    this.#turn(item);
  }

  #turn({ flow }) {
    if (!this.#closed.delete(flow)) this.#closed.add(flow);
    this.update();
  }

  /** Left closes a flow or goes up to it; right opens it, as in any tree. */
  #handleKey(key, index) {
    const item = this.#items[index];
    if (item === undefined || (key !== "ArrowLeft" && key !== "ArrowRight")) return false;
    const isLeft = key === "ArrowLeft";
    if (item.job !== undefined) {
      if (isLeft) this.#rows.activate(this.#places.get(`flow ${item.job.flow_id ?? ""}`));
    } else if (item.isOpen === isLeft) {
      this.#turn(item);
    }
    return true;
  }

  #fill(row, item) {
    const [mark, name, status, start, duration, events, rate] = row.children;
    const { job } = item;
    row.classList.toggle("group", job === undefined);
    row.setAttribute("aria-level", job === undefined ? 1 : 2);
    if (job === undefined) {
      row.dataset.status = "";
      row.setAttribute("aria-expanded", item.isOpen);
      row.removeAttribute("aria-selected");
      put(mark, item.isOpen ? "▾" : "▸");
      put(name, item.flow || NO_FLOW);
      put(status, "");
      put(start, "");
      put(duration, "");
      put(events, `${words.count(item.jobs.length)} ${item.jobs.length === 1 ? "job" : "jobs"}`);
      put(rate, item.going > 0 ? `${words.count(item.going)} live` : "");
      row.title = "";
      return;
    }
    row.dataset.status = job.status;
    row.removeAttribute("aria-expanded");
    row.setAttribute("aria-selected", job.job_id === this.#element.dataset.open);
    put(mark, "");
    put(name, job.job_id);
    put(status, job.status);
    const began = readTimestamp(job.start_time);
    put(start, words.moment(began));
    put(duration, words.duration(job.duration));
    put(events, words.count(job.total_events));
    put(rate, words.rate(job.perSecond));
    row.title = `${job.job_id}: ${job.status}, started ${words.moment(began)}`;
  }
}

/** A search matches any part of the names, but only whole cells of the rest, which changes all the time. */
function isFound(job, wanted) {
  if (folded(`${job.job_id} ${job.flow_id ?? NO_FLOW}`).includes(wanted)) return true;
  const cells = [job.status, words.moment(readTimestamp(job.start_time)), words.duration(job.duration), words.count(job.total_events)];
  return cells.some((cell) => folded(cell) === wanted);
}

function keyOf(item) {
  return item.job === undefined ? `flow ${item.flow}` : `job ${item.job.job_id}`;
}

function makeRow() {
  const row = document.createElement("div");
  row.className = "row";
  row.role = "treeitem";
  for (const name of ["mark", "name", "status", "start", "duration", "events", "rate"]) {
    const cell = document.createElement("span");
    cell.className = name;
    row.append(cell);
  }
  return row;
}

/** Changes only what differs. */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
