// What ran when: the events of one job, put together into spans of time. Knows nothing of the screen.
//
// An event tells either that something began or that something ended. Where two are of one routine, the one that began
// first is taken for the one that ended. An end whose beginning did not come has its own duration to go by.

import { routine } from "./words.js";

/** Runs of one routine at the same time that have rows of their own. */
const ROWS_MAX = 6;
const ENDINGS = { job_completed: "completed", job_failed: "failed", job_cancelled: "cancelled" };

/** A stretch of time in which something was so. `to` is null while it is. */
class Span {
  constructor(from, state, event) {
    this.from = from;
    this.to = null;
    this.state = state;
    /** What told of it, at last. */
    this.event = event;
    this.row = 0;
  }
}

/** One routine. */
export class Lane {
  spans = [];
  runs = 0;
  failures = 0;
  /** Of the runs that have ended. */
  millis = 0;
  rows = 1;
  #open = [];
  /** No span is longer: who looks for what is at a time need not look further back. */
  longestMillis = 0;

  constructor(name) {
    this.name = name;
  }

  /** When the first of those that run now began. */
  get openFrom() {
    return this.#open[0]?.from ?? Infinity;
  }

  begin(at, event) {
    const span = new Span(at, "running", event);
    const taken = new Set(this.#open.map(({ row }) => row));
    while (taken.has(span.row) && span.row < ROWS_MAX - 1) span.row += 1;
    this.rows = Math.max(this.rows, span.row + 1);
    this.#open.push(span);
    this.#insert(span);
    this.runs += 1;
  }

  end(at, state, event, seconds) {
    let span = this.#open.shift();
    if (span === undefined) {
      const millis = Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : 0;
      span = new Span(at - millis, state, event);
      this.#insert(span);
      this.runs += 1;
    }
    if (state === "failed") this.failures += 1;
    this.#close(span, at, state, event);
    this.millis += span.to - span.from;
  }

  /** Nothing more will be told of what runs now. */
  lose(at, state) {
    for (const span of this.#open.splice(0)) this.#close(span, at, state, span.event);
  }

  #close(span, at, state, event) {
    span.to = Math.max(at, span.from);
    span.state = state;
    span.event = event;
    this.longestMillis = Math.max(this.longestMillis, span.to - span.from);
  }

  /** In the order of beginnings, which is nearly always that of coming. */
  #insert(span) {
    let place = this.spans.length;
    while (place > 0 && this.spans[place - 1].from > span.from) place -= 1;
    this.spans.splice(place, 0, span);
  }
}

/** Everything that is known of one job. */
export class Timeline {
  /** By the routine's name, in the order of coming. */
  lanes = new Map();
  /** What the job as a whole did: running, paused, and how it ended. */
  states = [];
  /** Breakpoints: `to` is null while the job waits there. */
  stops = [];
  /** Times in which events are missing, for which reason. */
  gaps = [];
  /** waiting, running, paused, completed, failed or cancelled. */
  status = "waiting";
  flow = null;
  begin = null;
  /** When the job ended, if it has. */
  end = null;
  /** The time of the newest event. */
  latest = null;
  error = null;
  #gap = null;

  add(event) {
    const told = Date.parse(event.timestamp);
    const at = Number.isFinite(told) ? told : (this.latest ?? Date.now());
    this.begin = Math.min(this.begin ?? at, at);
    this.latest = Math.max(this.latest ?? at, at);
    if (this.#gap !== null) {
      this.#gap.to = at;
      this.#gap = null;
    }
    if (typeof event.flow_id === "string") this.flow = event.flow_id;
    this.#apply(event, at);
  }

  /** Events are missing from here on to the next that comes. */
  addGap(gap) {
    const at = this.latest ?? Date.now();
    if (this.#gap === null) {
      this.#gap = { from: at, to: null, gap };
      this.gaps.push(this.#gap);
    }
    for (const lane of this.lanes.values()) lane.lose(at, "unsure");
    for (const stop of this.stops) stop.to ??= at;
  }

  #apply(event, at) {
    const { type } = event;
    if (type in ENDINGS) return this.#finish(at, event);
    switch (type) {
      case "job_started":
        this.end = null;
        this.error = null;
        return this.#turn(at, "running", event);
      case "job_paused":
        return this.#turn(at, "paused", event);
      case "job_resumed":
        return this.#turn(at, "running", event);
      case "routine_started":
        return this.#lane(event)?.begin(at, event);
      case "routine_completed":
        return this.#lane(event)?.end(at, "completed", event, event.data?.duration);
      case "routine_failed":
        return this.#lane(event)?.end(at, "failed", event, event.data?.duration);
      case "breakpoint_hit":
        return this.#stop(at, event);
      case "breakpoint_resumed":
        return this.#release(at, event);
    }
  }

  #lane(event) {
    const name = routine(event);
    if (name === "") return null;
    if (!this.lanes.has(name)) this.lanes.set(name, new Lane(name));
    return this.lanes.get(name);
  }

  #turn(at, status, event) {
    const last = this.states.at(-1);
    if (last !== undefined) last.to ??= Math.max(at, last.from);
    this.status = status;
    const span = new Span(at, status, event);
    this.states.push(span);
    return span;
  }

  #finish(at, event) {
    const state = ENDINGS[event.type];
    this.#turn(at, state, event).to = at;
    this.end = at;
    this.error = state === "failed" ? event : null;
    for (const lane of this.lanes.values()) lane.lose(at, "unsure");
    for (const stop of this.stops) stop.to ??= at;
  }

  #stop(at, event) {
    const stop = new Span(at, "stopped", event);
    stop.lane = routine(event);
    stop.id = event.breakpoint?.breakpoint_id;
    this.#lane(event);
    this.stops.push(stop);
  }

  #release(at, event) {
    const stop = this.stops.find(({ to, id }) => to === null && id === event.breakpoint_id);
    if (stop !== undefined) stop.to = Math.max(at, stop.from);
  }
}
