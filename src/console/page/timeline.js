// What ran when: the events of one job, put together into spans of time and attempts. Independent of the screen.
//
// An event says that something started or ended; `lane.js` decides which start belongs to which end. A job that is
// started again begins a new attempt.

import { Extent } from "./extent.js";
import { Lane, Span } from "./lane.js";
import { readTimestamp } from "./luxcast.js";
import { figure, member, routine } from "./words.js";

export { Lane };

const ENDINGS = new Map([["job_completed", "completed"], ["job_failed", "failed"], ["job_cancelled", "cancelled"]]);
const ENDED = new Set(ENDINGS.values());
/** Further routines have no lane. */
export const LANES_MAX = 3_000;
/** The earliest are dropped. */
const ATTEMPTS_MAX = 50;
/** Stops and states of the job; the earliest are dropped. */
const SPANS_MAX = 20_000;
/** A routine that starts this long after the job's end belongs to another attempt, and a start repeated this much
 *  later begins one. */
const LATE_MS = 30_000;

/** From one `job_started` to the next. */
class Attempt {
  extent = new Extent();
  /** Its events. */
  count = 0;
  status = "waiting";
  /** When it ended, if it has. */
  end = null;

  constructor(number) {
    this.number = number;
  }

  /** `{ from, to }`; null while there is no event. */
  get range() {
    return this.extent.range;
  }
}

/** Everything known about one job. */
export class Timeline {
  /** By the routine's name, in the order of arrival. */
  lanes = new Map();
  /** There are more routines than lanes. */
  isCut = false;
  attempts = [new Attempt(1)];
  /** The states of the job as a whole: running, paused, and how it ended. */
  states = [];
  /** Breakpoints: `to` is null while the job waits there. */
  stops = [];
  /** Times without events, with the reason. */
  gaps = [];
  /** waiting, running, paused, completed, failed or cancelled. */
  status = "waiting";
  /** No event has reported the status: a job that sends events is running, unless the daemon knows better. */
  isPresumed = true;
  /** The newest state comes from the daemon. */
  #isSupposed = false;
  #newest = null;
  /** The daemon has heard nothing for so long that it counts the job as lost. */
  isLost = false;
  flow = null;
  /** When the job ended, if it has. */
  end = null;
  /** The time of the newest event. */
  latest = null;
  /** How far the publisher's clock is behind the daemon's, in milliseconds, if more than the way can explain. */
  lagMs = 0;
  /** The event that reported the failure, if the job has failed. */
  error = null;
  #gap = null;

  /** The newest. */
  get attempt() {
    return this.attempts.at(-1);
  }

  get begin() {
    return this.attempts[0].range?.from ?? null;
  }

  /** `at` is the event's time in Unix milliseconds, null if unknown. `source` stands for the event in results.
   *  `arrival` is when it reached the daemon, if it has just come. `isSaid` is false if `at` is not the event's
   *  own time. */
  add(event, at = readTimestamp(event.timestamp), source = event, arrival = null, isSaid = at !== null) {
    const when = at ?? this.latest ?? Date.now();
    if (event.type === "metrics") return this.#hearMetrics(event);
    this.#turnAttempt(event, when);
    this.isLost = false;
    const isBound = BOUNDS.has(event.type);
    this.attempt.count += 1;
    this.attempt.extent.add(when, isBound, isSaid);
    if (this.#gap !== null) {
      this.#gap.to = Math.max(when, this.#gap.from);
      this.#gap = null;
    }
    if (typeof event.flow_id === "string") this.flow ??= event.flow_id;
    this.#apply(event, when, source);
    this.#newest = source;
    if (this.status === "waiting") this.#presume(when, "running");
    if (this.#isSupposed) this.#moveSupposed(when);
    this.attempt.status = this.status;
    this.latest = this.attempt.range.to;
    if (arrival !== null && isSaid && when === this.latest) this.lagMs = arrival - when > WAY_MS ? arrival - when : 0;
  }

  /** Takes the job's status by the daemon; an event's own word takes precedence. */
  suppose(status) {
    const isOther = status !== this.status && (status === "running" || status === "paused" || ENDED.has(status));
    if (!this.isPresumed || !isOther || this.latest === null) return;
    this.#presume(this.latest, status);
    this.attempt.status = status;
    this.#isSupposed = true;
    this.#moveSupposed(this.latest);
  }

  #presume(at, status) {
    this.#turn(at, status, this.#newest);
    this.isPresumed = true;
    this.end = null;
  }

  /** The daemon spoke of now, while this event may be old: its status holds no earlier than the newest event. */
  #moveSupposed(at) {
    const supposed = this.states.at(-1);
    const before = this.states.at(-2);
    supposed.from = Math.max(at, supposed.from);
    if (before !== undefined) before.to = supposed.from;
    supposed.event = this.#newest;
    if (!ENDED.has(this.status)) return;
    supposed.to = supposed.from;
    this.end = supposed.from;
  }

  #hearMetrics(event) {
    this.isLost = member(event, "metrics", "status") === "lost";
    if (!this.isLost) return;
    for (const lane of this.lanes.values()) lane.lose(this.latest ?? Date.now(), "unsure", true);
  }

  #turnAttempt(event, at) {
    const { count } = this.attempt;
    const isStarted = event.type === "job_started" && !this.isPresumed && (count > 1 || at > this.attempt.range.to + LATE_MS);
    const isLate = event.type === "routine_started" && this.attempt.end !== null && at > this.attempt.end + LATE_MS;
    if (!isStarted && !isLate) return;
    const last = this.attempt.range.to;
    for (const lane of this.lanes.values()) lane.lose(last, "unsure", true);
    for (const stop of this.stops) stop.to ??= Math.max(last, stop.from);
    const state = this.states.at(-1);
    if (state !== undefined) state.to ??= Math.max(last, state.from);
    this.attempts.push(new Attempt(this.attempt.number + 1));
    if (this.attempts.length > ATTEMPTS_MAX) {
      const { number } = this.attempts.shift();
      for (const lane of this.lanes.values()) lane.forgetAttempt(number);
    }
  }

  /** Events are missing from here to the next one that comes. */
  addGap(gap) {
    const at = this.latest ?? Date.now();
    if (this.#gap === null) {
      this.#gap = { from: at, to: null, gap };
      this.gaps.push(this.#gap);
      if (this.gaps.length > SPANS_MAX) this.gaps.shift();
    }
    for (const lane of this.lanes.values()) lane.lose(at, "unsure");
    for (const stop of this.stops) stop.to ??= at;
  }

  /** Drops what was reported before this number: the page no longer has those events. */
  forget(seq) {
    for (const lane of this.lanes.values()) lane.forget(seq);
    const isKept = (span) => span.to === null || !(span.seq < seq);
    const last = this.states.at(-1);
    this.states = this.states.filter((span) => isKept(span) || span === last);
    this.stops = this.stops.filter(isKept);
  }

  #apply(event, at, source) {
    const { type } = event;
    if (ENDINGS.has(type)) return this.#finish(at, event, source);
    switch (type) {
      case "job_started":
        this.end = null;
        this.error = null;
        return this.#turn(at, "running", source);
      case "job_paused":
        return this.#turn(at, "paused", source);
      case "job_resumed":
        return this.#turn(at, "running", source);
      case "routine_started":
        return this.#lane(event)?.begin(at, source, this.attempt.number);
      case "routine_completed":
        return this.#lane(event)?.end(at, "completed", source, figure(event, "data", "duration"), this.attempt.number);
      case "routine_failed":
        return this.#lane(event)?.end(at, "failed", source, figure(event, "data", "duration"), this.attempt.number);
      case "execution_event":
        return this.#hearExecution(at, event, source);
      case "breakpoint_hit":
        return this.#stop(at, event, source);
      case "breakpoint_resumed":
        return this.#release(at, event);
    }
  }

  /** A routine that emits is running. No event says when the first routine of a job began. */
  #hearExecution(at, event, source) {
    if (this.end !== null || member(event, "event", "event_type") !== "event_emit") return;
    const lane = this.#lane(event);
    const { number } = this.attempt;
    if (lane?.tally(number).runs === 0) lane.begin(at, source, number);
  }

  #lane(event) {
    const name = routine(event);
    if (name === "") return null;
    if (this.lanes.has(name)) return this.lanes.get(name);
    this.isCut = this.lanes.size >= LANES_MAX;
    if (this.isCut) return null;
    this.lanes.set(name, new Lane(name));
    return this.lanes.get(name);
  }

  #turn(at, status, source) {
    const last = this.states.at(-1);
    if (last !== undefined) last.to ??= Math.max(at, last.from);
    this.status = status;
    this.isPresumed = false;
    this.#isSupposed = false;
    const span = new Span(at, status, source);
    this.states.push(span);
    if (this.states.length > SPANS_MAX) this.states.shift();
    return span;
  }

  #finish(at, event, source) {
    const state = ENDINGS.get(event.type);
    this.#turn(at, state, source).to = at;
    this.end = at;
    this.attempt.end = at;
    this.error = state === "failed" ? event : null;
    for (const lane of this.lanes.values()) lane.lose(at, "unsure", true);
    for (const stop of this.stops) stop.to ??= Math.max(at, stop.from);
  }

  #stop(at, event, source) {
    const stop = new Span(at, "stopped", source);
    stop.lane = routine(event);
    stop.id = member(event, "breakpoint", "breakpoint_id");
    this.#lane(event);
    this.stops.push(stop);
    if (this.stops.length > SPANS_MAX) this.stops.shift();
  }

  #release(at, event) {
    const stop = this.stops.find(({ to, id }) => to === null && id === event.breakpoint_id);
    if (stop !== undefined) stop.to = Math.max(at, stop.from);
  }
}

/** No event takes longer from its publisher to here. */
const WAY_MS = 5_000;
/** Events that start or end something; they set the scale. */
const BOUNDS = new Set([...ENDINGS.keys(), "job_started", "routine_started", "routine_completed", "routine_failed"]);
