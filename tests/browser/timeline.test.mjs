// What the page makes of events, without a browser: lanes from what began and ended, a log that is searched in slices.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { EVENTS_MAX, EventLog } from "../../src/console/page/log.js";
import { Timeline } from "../../src/console/page/timeline.js";
import * as words from "../../src/console/page/words.js";

const BEGIN = Date.parse("2026-11-25T10:00:00Z");
const at = (millis, event) => ({ timestamp: new Date(BEGIN + millis).toISOString(), job_id: "j", ...event });
const began = (millis, routine_id) => at(millis, { type: "routine_started", routine_id });
const ended = (millis, routine_id, data = {}) => at(millis, { type: "routine_completed", routine_id, data });
const failed = (millis, routine_id) => at(millis, { type: "routine_failed", routine_id, data: { error: "ValueError: no" } });

function timelineOf(...events) {
  const timeline = new Timeline();
  for (const event of events) timeline.add(event);
  return timeline;
}

/** `[from, to, state, row]` of each run, times from the beginning. */
function runs(timeline, name) {
  const relative = (time) => (time === null ? null : time - BEGIN);
  return timeline.lanes.get(name).spans.map(({ from, to, state, row }) => [relative(from), relative(to), state, row]);
}

test("a run is from its beginning to its end, and one that has none runs", () => {
  const timeline = timelineOf(began(0, "a"), ended(100, "a"), began(150, "a"), failed(300, "a"), began(400, "a"));
  assert.deepEqual(runs(timeline, "a"), [[0, 100, "completed", 0], [150, 300, "failed", 0], [400, null, "running", 0]]);
  const lane = timeline.lanes.get("a");
  assert.deepEqual([lane.runs, lane.failures, lane.millis, lane.openFrom - BEGIN], [3, 1, 250, 400]);
});

test("runs at the same time have rows of their own, and the first to begin is the first to end", () => {
  const timeline = timelineOf(began(0, "a"), began(10, "a"), ended(20, "a"), began(30, "a"), ended(40, "a"), ended(50, "a"));
  assert.deepEqual(runs(timeline, "a"), [[0, 20, "completed", 0], [10, 40, "completed", 1], [30, 50, "completed", 0]]);
  assert.equal(timeline.lanes.get("a").rows, 2);
});

test("an end without a beginning has its own duration to go by", () => {
  const timeline = timelineOf(at(0, { type: "job_started" }), ended(500, "a", { duration: 0.2 }), ended(600, "b", { duration: -0 }));
  assert.deepEqual(runs(timeline, "a"), [[300, 500, "completed", 0]]);
  assert.deepEqual(runs(timeline, "b"), [[600, 600, "completed", 0]]);
});

test("a job runs, waits, runs on and ends, and what is open then has no end of its own", () => {
  const timeline = timelineOf(
    at(0, { type: "job_started", flow_id: "f" }),
    began(10, "a"),
    at(20, { type: "job_paused" }),
    at(60, { type: "job_resumed" }),
    at(90, { type: "job_failed", data: { error: "RuntimeError: no" } }),
  );
  const states = timeline.states.map(({ from, to, state }) => [from - BEGIN, to - BEGIN, state]);
  assert.deepEqual(states, [[0, 20, "running"], [20, 60, "paused"], [60, 90, "running"], [90, 90, "failed"]]);
  assert.deepEqual(runs(timeline, "a"), [[10, 90, "unsure", 0]]);
  assert.deepEqual([timeline.status, timeline.flow, timeline.end - BEGIN], ["failed", "f", 90]);
  assert.equal(timeline.error.data.error, "RuntimeError: no");
  timeline.add(at(200, { type: "job_started" }));
  assert.deepEqual([timeline.status, timeline.end, timeline.error], ["running", null, null]);
});

test("a breakpoint holds until it is resumed", () => {
  const hit = (millis, id) => at(millis, { type: "breakpoint_hit", breakpoint: { breakpoint_id: id, routine_id: "a" }, context: { variables: { x: 1 } } });
  const timeline = timelineOf(hit(0, "one"), hit(10, "two"), at(30, { type: "breakpoint_resumed", breakpoint_id: "one" }));
  assert.deepEqual(timeline.stops.map(({ lane, to }) => [lane, to === null ? null : to - BEGIN]), [["a", 30], ["a", null]]);
});

test("behind a gap nothing is known to run on", () => {
  const timeline = timelineOf(began(0, "a"));
  timeline.addGap({ type: "stream:gap", from: 2, to: 9, missed: 8, reason: "overrun" });
  timeline.add(began(100, "a"));
  assert.deepEqual(runs(timeline, "a"), [[0, 0, "unsure", 0], [100, null, "running", 0]]);
  assert.deepEqual(timeline.gaps.map(({ from, to }) => [from - BEGIN, to - BEGIN]), [[0, 100]]);
});

test("events without what they should have are taken as they are", () => {
  const timeline = timelineOf({ type: "routine_started" }, { type: "breakpoint_hit" }, { type: "x", timestamp: "never" }, { type: "execution_event", event: 3 });
  assert.equal(timeline.lanes.size, 0);
  for (const event of [{ type: "job_failed", data: null }, { type: "execution_event" }, { type: "metrics" }, { type: "breakpoint_hit", context: 7 }]) {
    assert.equal(typeof words.summary(event), "string");
    assert.equal(words.routine(event), "");
  }
});

test("real runs leave nothing running, and each routine's end is one run's", () => {
  const timelines = new Map();
  let ends = 0;
  for (const line of readFileSync(new URL("../fixtures/events.ndjson", import.meta.url), "utf8").trim().split("\n")) {
    const event = JSON.parse(line);
    if (!timelines.has(event.job_id)) timelines.set(event.job_id, new Timeline());
    timelines.get(event.job_id).add(event);
    if (event.type === "routine_completed" || event.type === "routine_failed") ends += 1;
  }
  let counted = 0;
  for (const timeline of timelines.values()) {
    for (const lane of timeline.lanes.values()) {
      counted += lane.spans.filter(({ state }) => state === "completed" || state === "failed").length;
      for (const { from, to } of lane.spans) assert.ok(to === null || to >= from);
      if (timeline.end !== null) assert.equal(lane.openFrom, Infinity);
    }
  }
  assert.equal(counted, ends);
});

test("a log shows what is wanted, looked at in slices", () => {
  const log = new EventLog();
  for (let n = 0; n < 10_000; n += 1) log.add({ type: n % 2 === 0 ? "even" : "odd", stream_seq: n, routine_id: n % 5 === 0 ? "five" : "other" });
  log.add({ type: "stream:gap", from: 1, to: 2, reason: "overrun" });
  const examineAll = () => {
    while (!log.isExamined) log.examine();
    return log.shown.map((place) => log.entries[place].message.stream_seq);
  };
  assert.equal(examineAll().length, 10_001);
  log.show({ hidden: new Set(["odd"]), routine: "five" });
  assert.deepEqual(examineAll().slice(0, 3), [0, 10, 20]);
  log.show({ text: '"STREAM_SEQ":999' });
  // A gap is always shown.
  assert.deepEqual(examineAll(), [9990, undefined]);
  assert.equal(log.kinds.get("even"), 5_000);
});

test("a log lets the earliest go and says how many", () => {
  const log = new EventLog();
  for (let n = 0; n <= EVENTS_MAX; n += 1) {
    log.add({ type: n < 1_000 ? "early" : "late", stream_seq: n });
    if (n % 1_000 === 0) while (!log.isExamined) log.examine();
  }
  while (!log.isExamined) log.examine();
  assert.ok(log.dropped > 0 && log.entries.length + log.dropped === EVENTS_MAX + 1);
  assert.equal(log.entries[log.shown[0]].message.stream_seq, log.dropped);
  assert.equal(log.shown.length, log.entries.length);
  assert.ok(!log.kinds.has("early"));
});

test("numbers are in words", () => {
  assert.deepEqual([0.0004, 0.25, 1, 59.96, 61, 7_260, 90_000, -0.1].map(words.duration), ["0 ms", "250 ms", "1.0 s", "1 min 0 s", "1 min 1 s", "2 h 1 min", "1 d 1 h", "0 ms"]);
  assert.deepEqual([0, 0.04, 3.25, 12_345.6].map(words.rate), ["", "", "3.3/s", "12,346/s"]);
  assert.deepEqual([512, 2_048, 268_435_456].map(words.bytes), ["512 B", "2.0 KiB", "256 MiB"]);
  assert.equal(words.gap({ missed: 1, reason: "overrun" }), "1 event is left out: this page could not keep up");
});
