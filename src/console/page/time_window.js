// The time span that the picture of a job shows: one attempt or all, whole or in part, with the live edge or without.

/** What a running job shows at first. */
const FIRST_MS = 30_000;
const SPAN_MS_MIN = 5;
/** Margin at both ends, as a share of the visible span. */
const ROOM_SHARE = 0.02;
/** A zoom this near to the edge follows it. */
const EDGE_SHARE = 0.15;

export class TimeWindow {
  /** The number of the attempt shown; null for all, "" for the newest at any time. */
  attempt = "";
  #timeline;
  #skewMs;
  /** The visible span: this long, up to `#to`; null is the live edge, or the end of the attempt. */
  #millis = null;
  #to = null;

  /** `skewMs` returns how far the daemon's clock is ahead of this one. */
  constructor(timeline, skewMs) {
    this.#timeline = timeline;
    this.#skewMs = skewMs;
  }

  show(attempt) {
    this.attempt = attempt;
    this.#millis = null;
    this.#to = null;
  }

  /** The attempt, null for all. */
  get shown() {
    const { attempts, attempt } = this.#timeline;
    if (this.attempt === null) return null;
    return this.attempt === "" ? attempt : (attempts.find(({ number }) => number === this.attempt) ?? attempt);
  }

  get isNewest() {
    return this.shown === null || this.shown === this.#timeline.attempt;
  }

  /** The span of what is shown; null while there is nothing. */
  get #range() {
    if (this.shown !== null) return this.shown.range;
    const ranges = this.#timeline.attempts.map(({ range }) => range).filter((range) => range !== null);
    if (ranges.length === 0) return null;
    return { from: Math.min(...ranges.map(({ from }) => from)), to: Math.max(...ranges.map(({ to }) => to)) };
  }

  /** The job is still running, as far as is known. */
  get isRunning() {
    const { end, status, isLost } = this.#timeline;
    return this.isNewest && end === null && status !== "waiting" && !isLost;
  }

  /** No event with a time is known. */
  get isEmpty() {
    return this.#range === null;
  }

  get isAtEdge() {
    return this.#to === null;
  }

  /** The visible span moves by itself. */
  get isLive() {
    return this.isAtEdge && this.isRunning;
  }

  /** The newest moment of what is shown. */
  get edge() {
    const latest = this.#range?.to ?? Date.now();
    return this.isRunning ? Math.max(latest, Date.now() + this.#skewMs() - this.#timeline.lagMs) : latest;
  }

  get #whole() {
    return Math.max(SPAN_MS_MIN, this.edge - (this.#range?.from ?? this.edge));
  }

  /** The visible span: `{ from, to, millis, edge }`, with a margin at both ends of `millis`. */
  get view() {
    const { edge } = this;
    const millis = Math.min(this.#millis ?? (this.isRunning ? FIRST_MS : Infinity), this.#whole);
    const room = millis * ROOM_SHARE;
    const to = (this.#to ?? edge) + room;
    return { from: to - millis - 2 * room, to, millis, edge };
  }

  showWhole() {
    this.#millis = Infinity;
    this.#to = null;
  }

  follow() {
    this.#to = null;
  }

  pan(millis) {
    const { edge } = this;
    const to = (this.#to ?? edge) + millis;
    this.#millis = this.view.millis;
    // A move that reaches the edge follows it from then on.
    this.#to = to >= edge ? null : Math.max(to, this.#range?.from ?? to);
  }

  /** `at` stays in place, unless the live edge is followed. */
  zoom(factor, at) {
    const { from, to, millis, edge } = this.view;
    const wanted = Math.min(Math.max(millis * factor, SPAN_MS_MIN), this.#whole);
    const share = (to - at) / (to - from);
    this.#millis = wanted;
    if (this.#to === null && at >= edge - millis * EDGE_SHARE) return;
    const end = at + share * wanted;
    this.#to = end >= edge ? null : end;
  }
}
