// The runs of one routine, put together from starts and ends. If several are open, an end belongs to the one that
// started first, unless its own duration points to another.

/** Simultaneous runs of one routine that get rows of their own. */
const ROWS_MAX = 6;
/** Beyond this number, the longest open run is no longer expected to end. */
const OPEN_MAX = 200;
/** Runs that seem over, but whose end may still come. */
const LOST_MAX = 200;
/** An end's duration points to a start that is this near: in milliseconds, or as a share of it. */
const NEAR_MS = 250;
const NEAR_SHARE = 0.02;
/** No run lasts this much longer than its own duration: one of its two times is wrong. */
const ASTRAY_MS = 3_600_000;

/** A span of time in one state. `to` is null while it lasts. */
export class Span {
  constructor(from, state, event) {
    this.from = from;
    this.to = null;
    this.state = state;
    /** The last event about it. */
    this.event = event;
    this.row = 0;
    /** Its attempt, and the number of the first event about it. */
    this.attempt = 0;
    this.seq = event?.seq ?? event?.stream_seq ?? null;
  }
}

/** Runs, failed runs, and the total duration of those that ended. */
class Tally {
  runs = 0;
  failures = 0;
  millis = 0;
}

export class Lane extends Tally {
  spans = [];
  rows = 1;
  /** By the number of the attempt. */
  #tallies = new Map();
  #open = [];
  #lost = [];
  /** No span is longer, so a search for a time need not look further back. */
  longestMillis = 0;

  constructor(name) {
    super();
    this.name = name;
  }

  /** When the earliest of the open runs started. */
  get openFrom() {
    return this.#open.reduce((first, { from }) => Math.min(first, from), Infinity);
  }

  /** For one attempt; null is for all of them. */
  tally(attempt) {
    return attempt === null ? this : (this.#tallies.get(attempt) ?? new Tally());
  }

  begin(at, event, attempt = 1) {
    const span = new Span(at, "running", event);
    const taken = new Set(this.#open.map(({ row }) => row));
    while (taken.has(span.row) && span.row < ROWS_MAX - 1) span.row += 1;
    this.rows = Math.max(this.rows, span.row + 1);
    this.#open.push(span);
    this.#insert(span, attempt);
    if (this.#open.length > OPEN_MAX) this.#close(this.#open.shift(), at, "unsure", event);
  }

  end(at, state, event, seconds, attempt = 1) {
    const millis = Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : null;
    let span = this.#takeEnded(at, millis);
    if (span === undefined) {
      span = new Span(at - (millis ?? 0), state, event);
      this.#insert(span, attempt);
    }
    this.#close(span, at, state, event);
    // The routine's own measurement is better than the result of a wrong clock.
    const took = millis !== null && span.to - span.from > millis + ASTRAY_MS ? millis : span.to - span.from;
    for (const tally of [this, this.#tallies.get(span.attempt)].filter(Boolean)) {
      if (state === "failed") tally.failures += 1;
      tally.millis += took;
    }
  }

  #takeEnded(at, millis) {
    const isIt = ({ from }) => millis !== null && Math.abs(from - (at - millis)) <= Math.max(NEAR_MS, millis * NEAR_SHARE);
    const take = (list, index) => (index < 0 ? undefined : list.splice(index, 1)[0]);
    const isOpen = this.#open.length > 0;
    const isSure = this.#open.length === 1 && this.#lost.length === 0;
    if (isSure) return this.#open.shift();
    const told = take(this.#open, this.#open.findIndex(isIt)) ?? take(this.#lost, this.#lost.findIndex(isIt));
    if (told !== undefined) return told;
    // After a gap, the end may belong to any run; after the job's end, to one that was open.
    return isOpen ? this.#open.shift() : take(this.#lost, this.#lost.findIndex(({ isAwaited }) => isAwaited));
  }

  /** The state of open runs becomes unknown. `isAwaited`: their ends may still come, since no event is missing. */
  lose(at, state, isAwaited = false) {
    for (const span of this.#open.splice(0)) {
      this.#close(span, at, state, span.event);
      span.isAwaited = isAwaited;
      this.#lost.push(span);
    }
    if (!isAwaited) for (const span of this.#lost) span.isAwaited = false;
    if (this.#lost.length > LOST_MAX) this.#lost.splice(0, this.#lost.length - LOST_MAX);
  }

  /** Drops what was reported before this number. Open runs stay. */
  forget(seq) {
    this.spans = this.spans.filter((span) => span.to === null || !(span.seq < seq));
    this.#lost = this.#lost.filter((span) => !(span.seq < seq));
  }

  forgetAttempt(attempt) {
    this.#tallies.delete(attempt);
  }

  #close(span, at, state, event) {
    span.to = Math.max(at, span.from);
    span.state = state;
    span.event = event;
    this.longestMillis = Math.max(this.longestMillis, span.to - span.from);
  }

  /** In the order of starts, which is nearly always the order of arrival. */
  #insert(span, attempt) {
    span.attempt = attempt;
    if (!this.#tallies.has(attempt)) this.#tallies.set(attempt, new Tally());
    this.#tallies.get(attempt).runs += 1;
    this.runs += 1;
    this.spans.splice(this.placeOf(span.from), 0, span);
  }

  /** The place after the spans that started until then. */
  placeOf(time) {
    const { spans } = this;
    if (spans.length === 0 || spans.at(-1).from <= time) return spans.length;
    let [low, high] = [0, spans.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (spans[middle].from <= time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The first span that may still last at `time`. */
  firstIn(time) {
    const from = Math.min(time - this.longestMillis, this.openFrom);
    const place = this.placeOf(from - 1e-3);
    return place;
  }
}
