// The events of one job as they came, and those of them that are looked at. Knows nothing of the screen.

import { Entry, folded } from "./entry.js";
import { indented } from "./json_text.js";

/** Beyond, the earliest go. */
export const EVENTS_MAX = 200_000;
/** So many go at once, so that it does not cost each time. */
const DROPPED_AT_ONCE = 20_000;
/** Entries that are looked through before others have their turn, and how long that may take. */
const SLICE = 4_000;
const SLICE_MS = 8;

export class EventLog {
  /** Events and gaps. */
  entries = [];
  /** What is shown: places in `entries`. */
  shown = [];
  /** Entries by kind. */
  kinds = new Map();
  /** Earliest entries that were let go, and how many of them were shown. */
  dropped = 0;
  droppedShown = 0;
  /** Kinds that are hidden. */
  hidden = new Set();
  routine = "";
  #text = "";
  /** Places up to here have been looked at. */
  examined = 0;
  /** Entries beyond are not looked at: who reads a list that is held still counts from its beginning. */
  heldAt = Infinity;

  /** Takes an entry, or a message of which it makes one. */
  add(message) {
    const entry = message instanceof Entry ? message : new Entry(message);
    const isUpToDate = this.isExamined;
    this.entries.push(entry);
    this.kinds.set(entry.kind, (this.kinds.get(entry.kind) ?? 0) + 1);
    // So that nothing waits for somebody to look.
    if (isUpToDate) this.examine();
    if (this.entries.length > EVENTS_MAX) this.#drop();
    return entry;
  }

  get text() {
    return this.#text;
  }

  /** Whoever changes what is looked at looks anew at everything, a slice at a time. */
  show({ text = this.#text, routine = this.routine, hidden = this.hidden }) {
    this.#text = folded(text);
    this.routine = routine;
    this.hidden = hidden;
    this.shown = [];
    this.examined = 0;
  }

  /** Where in `shown` a place is; -1 if it is not shown. */
  find(place) {
    const index = this.findNear(place);
    return this.shown[index] === place ? index : -1;
  }

  /** Where in `shown` the first place from this one on is. */
  findNear(place) {
    let [low, high] = [0, this.shown.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.shown[middle] < place) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Places that are to be looked at. */
  get #end() {
    return Math.min(this.entries.length, Math.max(0, this.heldAt - this.dropped));
  }

  get isExamined() {
    return this.examined >= this.#end;
  }

  /** Looks at a slice of what has not been looked at. */
  examine() {
    const end = Math.min(this.#end, this.examined + SLICE);
    const until = performance.now() + SLICE_MS;
    let place = this.examined;
    for (; place < end; place += 1) {
      if (place % 64 === 63 && performance.now() > until) break;
      if (this.#isWanted(this.entries[place])) this.shown.push(place);
    }
    this.examined = Math.max(this.examined, place);
  }

  #isWanted(entry) {
    if (entry.isGap) return true;
    if (this.hidden.has(entry.kind) || (this.routine !== "" && entry.routine !== this.routine)) return false;
    if (this.#text === "") return true;
    try {
      return has(entry, this.#text);
    } catch {
      // What cannot be read is not found, and the others are.
      return false;
    }
  }

  #drop() {
    for (const { kind } of this.entries.splice(0, DROPPED_AT_ONCE)) {
      const rest = this.kinds.get(kind) - 1;
      if (rest > 0) this.kinds.set(kind, rest);
      else this.kinds.delete(kind);
    }
    this.dropped += DROPPED_AT_ONCE;
    this.examined = Math.max(0, this.examined - DROPPED_AT_ONCE);
    const gone = this.findNear(DROPPED_AT_ONCE);
    this.droppedShown += gone;
    this.shown = this.shown.slice(gone).map((place) => place - DROPPED_AT_ONCE);
  }
}

/** Whether a folded text stands in an event: in its text, in its row, in a string of it, or as the text is laid out. The
 *  quick way first; most of what is looked for stands in the text. */
function has(entry, wanted) {
  if (folded(entry.source).includes(wanted)) return true;
  return entry.seen().includes(wanted) || (/[:[\]{},]/.test(wanted) && folded(indented(entry.source)).includes(wanted));
}
