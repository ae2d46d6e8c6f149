// The events of the open job: kinds to hide, text to find, a pause, and a choice that shows one event whole.

import { Kinds } from "./kinds.js";
import { EventLog } from "./log.js";
import { Rows } from "./rows.js";
import * as words from "./words.js";

const FAILURES = new Set(["job_failed", "routine_failed", "error"]);
const STOPS = new Set(["breakpoint_hit", "job_paused"]);

export class EventList {
  #log = new EventLog();
  #rows;
  #kinds = new Kinds((hidden) => this.#filter({ hidden }));
  #element = document.getElementById("events");
  #note = document.getElementById("events-note");
  #pause = document.getElementById("pause");
  #find = document.getElementById("find");
  /** While paused, what is shown stays; this many entries had come by then. */
  #pausedAt = null;
  #isAsked = false;
  #follows = true;
  /** How many of the rows dropped from the front the list knows about. */
  #shifted = 0;

  /** `pick` is called with the entry of the chosen row. */
  constructor(pick) {
    this.#rows = new Rows(this.#element, {
      count: () => this.#log.shown.length,
      make: () => makeRow(),
      fill: (row, index) => this.#fill(row, index),
      key: (index) => this.#log.shown[index] + this.#log.dropped,
      find: (key) => this.#log.find(key - this.#log.dropped),
      choose: (index) => pick(this.#entry(index)),
      takeShift: () => this.#takeShift(),
      isFollowing: () => this.#follows && this.#pausedAt === null,
    });
    this.#element.addEventListener("scroll", () => (this.#follows = this.#rows.isAtEnd), { passive: true });
    this.#find.addEventListener("input", () => this.#filter({ text: this.#find.value.trim() }));
    this.#pause.addEventListener("click", () => this.#setPaused(this.#pausedAt === null));
    document.getElementById("newest").addEventListener("click", () => this.toNewest());
  }

  clear() {
    this.#log = new EventLog();
    this.#log.show({ text: this.#find.value.trim() });
    this.#shifted = 0;
    this.#kinds.clear();
    this.#rows.activeKey = null;
    this.#setPaused(false);
    this.toNewest();
  }

  get log() {
    return this.#log;
  }

  add(entry) {
    this.#log.add(entry);
    this.#ask();
  }

  /** Shows only the events of this routine; "" shows all. */
  setRoutine(routine) {
    this.#filter({ routine });
  }

  /** Scrolls to an entry, if it is shown. */
  reveal(entry) {
    this.#follows = false;
    const index = this.#log.find(this.#log.entries.indexOf(entry));
    if (index >= 0) this.#rows.activate(index);
  }

  toNewest() {
    if (this.#pausedAt !== null) this.#setPaused(false);
    this.#follows = true;
    this.#ask();
  }

  focus() {
    this.#element.focus({ preventScroll: true });
  }

  #entry(index) {
    return this.#log.entries[this.#log.shown[index]];
  }

  #takeShift() {
    const shift = this.#log.droppedShown - this.#shifted;
    this.#shifted = this.#log.droppedShown;
    return shift;
  }

  #filter(change) {
    this.#log.show(change);
    this.#shifted = this.#log.droppedShown;
    this.#ask();
  }

  #setPaused(isPaused) {
    this.#pausedAt = isPaused ? this.#log.entries.length + this.#log.dropped : null;
    this.#log.heldAt = this.#pausedAt ?? Infinity;
    this.#pause.setAttribute("aria-pressed", isPaused);
    this.#pause.textContent = isPaused ? "Resume" : "Pause";
    this.#ask();
  }

  /** Draws in the next frame, once. */
  #ask() {
    if (this.#isAsked) return;
    this.#isAsked = true;
    requestAnimationFrame(() => this.#update());
  }

  #update() {
    this.#isAsked = false;
    this.#log.examine();
    this.#rows.draw();
    this.#showCounts();
    if (!this.#log.isExamined) this.#ask();
  }

  #showCounts() {
    const { entries, shown, dropped, kinds, isExamined } = this.#log;
    const of = shown.length === entries.length ? "" : ` of ${words.count(entries.length)}`;
    const gone = dropped > 0 ? `; the first ${words.count(dropped)} are no longer on this page` : "";
    const waiting = this.#pausedAt === null ? 0 : entries.length + dropped - this.#pausedAt;
    const paused = this.#pausedAt === null ? "" : ` · paused, ${words.count(waiting)} more since`;
    const searching = isExamined ? "" : " · still searching";
    put(this.#note, `${words.count(shown.length)}${of} ${entries.length === 1 ? "event" : "events"}${gone}${paused}${searching}`);
    this.#kinds.setCounts(kinds);
  }

  #fill(row, index) {
    row.setAttribute("aria-selected", row.classList.contains("active"));
    const entry = this.#entry(index);
    // An event never changes, so its row is filled once.
    if (row.entry === entry) return;
    row.entry = entry;
    const [time, name, about, summary] = row.children;
    const { kind, type, isGap } = entry;
    row.dataset.tone = isGap ? "gap" : FAILURES.has(kind) ? "failed" : STOPS.has(kind) ? "stopped" : type.startsWith("job_") ? "job" : "";
    row.title = "";
    put(time, words.exactClock(entry.at));
    time.title = words.exactMoment(entry.at);
    put(name, isGap ? "gap" : kind);
    put(about, entry.routine);
    put(summary, "");
    put(summary, entry.line);
  }
}

function makeRow() {
  const row = document.createElement("div");
  row.className = "row";
  row.role = "option";
  for (const name of ["time", "kind", "routine", "summary"]) {
    const cell = document.createElement("span");
    cell.className = name;
    row.append(cell);
  }
  return row;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
