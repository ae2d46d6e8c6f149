// The events of one job in the order of arrival, and the shown ones among them. Independent of the screen.

import { Entry, folded } from "./entry.js";
import { indented } from "./json_text.js";

/** Beyond this number, the earliest are dropped. */
export const EVENTS_MAX = 200_000;
/** This many are dropped at once, so that not every event costs a move. */
const DROPPED_AT_ONCE = 20_000;
/** Entries searched before other work has its turn, and how long that may take. */
const SLICE = 4_000;
const SLICE_MS = 8;

export class EventLog {
  /** Events and gaps. */
  entries = [];
  /** Shown entries: places in `entries`. */
  shown = [];
  /** Number of entries by kind. */
  kinds = new Map();
  /** Earliest entries that were dropped, and how many of them were shown. */
  dropped = 0;
  droppedShown = 0;
  /** Kinds that are hidden. */
  hidden = new Set();
  routine = "";
  #text = "";
  /** Places up to here have been searched. */
  examined = 0;
  /** Entries beyond are not searched: a paused list counts from its beginning. */
  heldAt = Infinity;

  /** Takes an entry, or a message to make one from. */
  add(message) {
    const entry = message instanceof Entry ? message : new Entry(message);
    const isUpToDate = this.isExamined;
    this.entries.push(entry);
    this.kinds.set(entry.kind, (this.kinds.get(entry.kind) ?? 0) + 1);
    // So that nothing waits until somebody looks.
    if (isUpToDate) this.examine();
    if (this.entries.length > EVENTS_MAX) this.#drop();
    return entry;
  }

  get text() {
    return this.#text;
  }

  /** After a change of the filter, everything is searched again, a slice at a time. */
  show({ text = this.#text, routine = this.routine, hidden = this.hidden }) {
    this.#text = folded(text);
    this.routine = routine;
    this.hidden = hidden;
    this.shown = [];
    this.examined = 0;
  }

  /** The index of a place in `shown`; -1 if it is not shown. */
  find(place) {
    const index = this.findNear(place);
    return this.shown[index] === place ? index : -1;
  }

  /** The index in `shown` of the first place from this one on. */
  findNear(place) {
    let [low, high] = [0, this.shown.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.shown[middle] < place) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Places still to be searched. */
  get #end() {
    return Math.min(this.entries.length, Math.max(0, this.heldAt - this.dropped));
  }

  get isExamined() {
    return this.examined >= this.#end;
  }

  /** Searches the next slice. */
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
      // An entry that cannot be read is not found; the others are.
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

/** Whether an event contains a folded text: in its JSON, in its row, in one of its strings, or in the indented
 *  JSON. The quick way comes first; it finds most texts. */
function has(entry, wanted) {
  if (folded(entry.source).includes(wanted)) return true;
  return entry.seen().includes(wanted) || (/[:[\]{},]/.test(wanted) && folded(indented(entry.source)).includes(wanted));
}
