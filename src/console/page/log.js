// The events of one job as they came, and those of them that are looked at. Knows nothing of the screen.

import { kind, routine } from "./words.js";

/** Beyond, the earliest go. */
export const EVENTS_MAX = 200_000;
/** So many go at once, so that it does not cost each time. */
const DROPPED_AT_ONCE = 20_000;
/** Entries that are looked through before others have their turn. */
const SLICE = 4_000;

export class EventLog {
  /** Events and gaps. */
  entries = [];
  /** What is shown: places in `entries`. */
  shown = [];
  /** Entries by kind. */
  kinds = new Map();
  /** Earliest entries that were let go. */
  dropped = 0;
  /** Kinds that are hidden. */
  hidden = new Set();
  routine = "";
  #text = "";
  /** Places up to here have been looked at. */
  examined = 0;

  add(message) {
    this.entries.push({ message, kind: kind(message), routine: routine(message), text: null });
    const name = this.entries.at(-1).kind;
    this.kinds.set(name, (this.kinds.get(name) ?? 0) + 1);
    if (this.entries.length > EVENTS_MAX) this.#drop();
  }

  get text() {
    return this.#text;
  }

  /** Whoever changes what is looked at looks anew at everything, a slice at a time. */
  show({ text = this.#text, routine = this.routine, hidden = this.hidden }) {
    this.#text = text.toLowerCase();
    this.routine = routine;
    this.hidden = hidden;
    this.shown = [];
    this.examined = 0;
  }

  /** Where in `shown` a place is; -1 if it is not shown. */
  find(place) {
    let [low, high] = [0, this.shown.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.shown[middle] < place) low = middle + 1;
      else high = middle;
    }
    return this.shown[low] === place ? low : -1;
  }

  get isExamined() {
    return this.examined === this.entries.length;
  }

  /** Looks at a slice of what has not been looked at. */
  examine() {
    const end = Math.min(this.entries.length, this.examined + SLICE);
    for (let place = this.examined; place < end; place += 1) {
      if (this.#isWanted(this.entries[place])) this.shown.push(place);
    }
    this.examined = end;
  }

  #isWanted(entry) {
    if (entry.message.type === "stream:gap") return true;
    if (this.hidden.has(entry.kind) || (this.routine !== "" && entry.routine !== this.routine)) return false;
    return this.#text === "" || textOf(entry).includes(this.#text);
  }

  #drop() {
    for (const entry of this.entries.splice(0, DROPPED_AT_ONCE)) {
      const rest = this.kinds.get(entry.kind) - 1;
      if (rest > 0) this.kinds.set(entry.kind, rest);
      else this.kinds.delete(entry.kind);
    }
    this.dropped += DROPPED_AT_ONCE;
    this.examined = Math.max(0, this.examined - DROPPED_AT_ONCE);
    this.shown = this.shown.filter((place) => place >= DROPPED_AT_ONCE).map((place) => place - DROPPED_AT_ONCE);
  }
}

/** Made when it is first searched. */
function textOf(entry) {
  entry.text ??= JSON.stringify(entry.message).toLowerCase();
  return entry.text;
}
