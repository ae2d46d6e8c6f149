// The events of the open job as they come: kinds to hide, text to find, a pause, and a choice that shows one whole.

import { EventLog } from "./log.js";
import { Rows } from "./rows.js";
import * as words from "./words.js";

const FAILURES = new Set(["job_failed", "routine_failed", "error"]);
const STOPS = new Set(["breakpoint_hit", "job_paused"]);

export class EventList {
  #log = new EventLog();
  #rows;
  #element = document.getElementById("events");
  #note = document.getElementById("events-note");
  #kinds = document.getElementById("kinds");
  #pause = document.getElementById("pause");
  #find = document.getElementById("find");
  /** What is shown stays as it is; so many entries were there when that began. */
  #pausedAt = null;
  #toCome = 0;
  #isAsked = false;
  #follows = true;

  /** `pick` is called with the message of a row that was chosen. */
  constructor(pick) {
    this.#rows = new Rows(this.#element, {
      count: () => this.#log.shown.length,
      make: () => makeRow(),
      fill: (row, index) => fillRow(row, this.#entry(index)),
      key: (index) => this.#log.shown[index] + this.#log.dropped,
      find: (key) => this.#log.find(key - this.#log.dropped),
      choose: (index) => pick(this.#entry(index).message),
    });
    this.#element.addEventListener("scroll", () => (this.#follows = this.#rows.isAtEnd), { passive: true });
    this.#find.addEventListener("input", () => this.#filter({ text: this.#find.value.trim() }));
    this.#pause.addEventListener("click", () => this.#setPaused(this.#pausedAt === null));
    this.#kinds.addEventListener("change", ({ target }) => this.#hide(target.name, !target.checked));
    document.getElementById("newest").addEventListener("click", () => this.toNewest());
  }

  clear() {
    this.#log = new EventLog();
    this.#log.show({ text: this.#find.value.trim() });
    this.#kinds.replaceChildren();
    this.#rows.activeKey = null;
    this.#setPaused(false);
    this.toNewest();
  }

  /** So many have come and are not in the list yet. */
  setToCome(count) {
    if (this.#toCome === count) return;
    this.#toCome = count;
    this.#ask();
  }

  get log() {
    return this.#log;
  }

  add(message) {
    this.#log.add(message);
    this.#ask();
  }

  /** Only what is about this routine; "" is all. */
  setRoutine(routine) {
    this.#filter({ routine });
  }

  /** Brings an event in sight, if it is shown. */
  reveal(message) {
    this.#follows = false;
    const index = this.#log.find(this.#log.entries.findIndex((entry) => entry.message === message));
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

  #hide(kind, isHidden) {
    const hidden = new Set(this.#log.hidden);
    if (isHidden) hidden.add(kind);
    else hidden.delete(kind);
    this.#filter({ hidden });
  }

  #filter(change) {
    this.#log.show(change);
    this.#ask();
  }

  #setPaused(isPaused) {
    this.#pausedAt = isPaused ? this.#log.entries.length + this.#log.dropped : null;
    this.#pause.setAttribute("aria-pressed", isPaused);
    this.#pause.textContent = isPaused ? "Resume" : "Pause";
    this.#ask();
  }

  /** In the next frame, once. */
  #ask() {
    if (this.#isAsked) return;
    this.#isAsked = true;
    requestAnimationFrame(() => this.#update());
  }

  #update() {
    this.#isAsked = false;
    const isHeld = this.#pausedAt !== null && this.#pausedAt <= this.#log.dropped + this.#log.examined;
    if (!isHeld) this.#log.examine();
    this.#rows.draw();
    // The list is as long as it will be only when it has been drawn.
    if (this.#follows && this.#pausedAt === null) requestAnimationFrame(() => this.#follows && this.#rows.toEnd());
    this.#tell();
    if (!isHeld && !this.#log.isExamined) this.#ask();
  }

  #tell() {
    const { entries, shown, dropped } = this.#log;
    const of = shown.length === entries.length ? "" : ` of ${words.count(entries.length)}`;
    const gone = dropped > 0 ? `; the first ${words.count(dropped)} are not kept on this page` : "";
    const waiting = this.#pausedAt === null ? 0 : entries.length + dropped - this.#pausedAt;
    const paused = this.#pausedAt === null ? "" : ` · paused, ${words.count(waiting)} more since`;
    const behind = this.#toCome > 0 ? ` · this page is behind, ${words.count(this.#toCome)} to come` : "";
    put(this.#note, `${words.count(shown.length)}${of} ${entries.length === 1 ? "event" : "events"}${gone}${paused}${behind}`);
    for (const [kind, count] of this.#log.kinds) put(this.#kindBox(kind).lastChild, words.count(count));
  }

  #kindBox(kind) {
    const found = this.#kinds.querySelector(`label[data-kind="${CSS.escape(kind)}"]`);
    if (found !== null) return found;
    const label = document.createElement("label");
    label.dataset.kind = kind;
    const box = Object.assign(document.createElement("input"), { type: "checkbox", name: kind });
    box.checked = !this.#log.hidden.has(kind);
    const [name, number] = [document.createElement("span"), document.createElement("small")];
    name.textContent = kind;
    label.append(box, name, number);
    this.#kinds.append(label);
    return label;
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

function fillRow(row, { message, kind, routine }) {
  const [time, name, about, summary] = row.children;
  const isGap = message.type === "stream:gap";
  row.dataset.tone = isGap ? "gap" : FAILURES.has(kind) ? "failed" : STOPS.has(kind) ? "stopped" : message.type.startsWith("job_") ? "job" : "";
  row.setAttribute("aria-selected", row.classList.contains("active"));
  put(time, words.exactClock(Date.parse(message.timestamp)));
  put(name, isGap ? "gap" : kind);
  put(about, routine);
  put(summary, isGap ? words.gap(message) : words.summary(message));
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
