// What the page makes of events, without a browser: lanes from starts and ends, a log that is searched in slices.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Entry } from "../../src/console/page/entry.js";
import { faultOf, headline } from "../../src/console/page/fault.js";
import { indented } from "../../src/console/page/json_text.js";
import { EVENTS_MAX, EventLog } from "../../src/console/page/log.js";
import { readToken } from "../../src/console/page/session.js";
import { TimeWindow } from "../../src/console/page/time_window.js";
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

/** `[from, to, state, row]` of each run, times from the start. */
function runs(timeline, name) {
  const relative = (time) => (time === null ? null : time - BEGIN);
  return timeline.lanes.get(name).spans.map(({ from, to, state, row }) => [relative(from), relative(to), state, row]);
}

test("a run lasts from its start to its end, and one without an end is running", () => {
  const timeline = timelineOf(began(0, "a"), ended(100, "a"), began(150, "a"), failed(300, "a"), began(400, "a"));
  assert.deepEqual(runs(timeline, "a"), [[0, 100, "completed", 0], [150, 300, "failed", 0], [400, null, "running", 0]]);
  const lane = timeline.lanes.get("a");
  assert.deepEqual([lane.runs, lane.failures, lane.millis, lane.openFrom - BEGIN], [3, 1, 250, 400]);
});

test("simultaneous runs have rows of their own, and the first to start is the first to end", () => {
  const timeline = timelineOf(began(0, "a"), began(10, "a"), ended(20, "a"), began(30, "a"), ended(40, "a"), ended(50, "a"));
  assert.deepEqual(runs(timeline, "a"), [[0, 20, "completed", 0], [10, 40, "completed", 1], [30, 50, "completed", 0]]);
  assert.equal(timeline.lanes.get("a").rows, 2);
});

test("an end without a start uses its own duration", () => {
  const timeline = timelineOf(at(0, { type: "job_started" }), ended(500, "a", { duration: 0.2 }), ended(600, "b", { duration: -0 }));
  assert.deepEqual(runs(timeline, "a"), [[300, 500, "completed", 0]]);
  assert.deepEqual(runs(timeline, "b"), [[600, 600, "completed", 0]]);
});

test("a routine that emits is running, although nothing says when it started", () => {
  const emits = (millis) => at(millis, { type: "execution_event", event: { routine_id: "source", event_type: "event_emit" } });
  const timeline = timelineOf(at(0, { type: "job_started" }), emits(10), emits(20));
  assert.deepEqual(runs(timeline, "source"), [[10, null, "running", 0]]);
  for (const event of [emits(30), ended(500, "source", { duration: 0.5 }), emits(510), at(600, { type: "job_completed" })]) timeline.add(event);
  assert.deepEqual(runs(timeline, "source"), [[10, 500, "completed", 0]]);
  timeline.add(emits(700));
  assert.deepEqual(timelineOf(at(0, { type: "job_completed" }), emits(10)).lanes.size, 0);
  assert.equal(timeline.lanes.get("source").runs, 1);
  for (const event of [at(1_000, { type: "job_started" }), emits(1_010)]) timeline.add(event);
  assert.deepEqual(runs(timeline, "source").at(-1), [1_010, null, "running", 0]);
});

test("a job runs, waits, runs on and ends, and runs open at its end have no end of their own", () => {
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

test("after a gap no run is known to continue", () => {
  const timeline = timelineOf(began(0, "a"));
  timeline.addGap({ type: "stream:gap", from: 2, to: 9, missed: 8, reason: "overrun" });
  timeline.add(began(100, "a"));
  assert.deepEqual(runs(timeline, "a"), [[0, 0, "unsure", 0], [100, null, "running", 0]]);
  assert.deepEqual(timeline.gaps.map(({ from, to }) => [from - BEGIN, to - BEGIN]), [[0, 100]]);
});

test("a jump of the numbers is no gap", () => {
  const numbers = [7, 2 ** 40, 2 ** 52];
  const timeline = timelineOf(...numbers.map((stream_seq, n) => ({ stream_seq, ...(n === 1 ? began(n, "a") : at(n, { type: "x" })) })));
  assert.deepEqual([timeline.gaps, runs(timeline, "a")], [[], [[1, null, "running", 0]]]);
  const log = new EventLog();
  for (const stream_seq of numbers) log.add({ type: "x", stream_seq });
  while (!log.isExamined) log.examine();
  assert.deepEqual(log.shown.map((place) => log.entries[place].message.stream_seq), numbers);
});

test("events with missing members are taken as they are", () => {
  const timeline = timelineOf({ type: "routine_started" }, { type: "breakpoint_hit" }, { type: "x", timestamp: "never" }, { type: "execution_event", event: 3 });
  assert.equal(timeline.lanes.size, 0);
  for (const event of [{ type: "job_failed", data: null }, { type: "execution_event" }, { type: "metrics" }, { type: "breakpoint_hit", context: 7 }]) {
    assert.equal(typeof words.summary(event), "string");
    assert.equal(words.routine(event), "");
  }
});

test("real runs leave nothing running, and each routine's end belongs to one run", () => {
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

test("a log shows what is wanted, searched in slices", () => {
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

test("a log drops the earliest entries and counts them", () => {
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

test("numbers are put into words", () => {
  assert.deepEqual([0.0004, 0.25, 1, 59.96, 61, 7_260, 90_000, -0.1].map(words.duration), ["0 ms", "250 ms", "1.0 s", "1 min 0 s", "1 min 1 s", "2 h 1 min", "1 d 1 h", "0 ms"]);
  assert.deepEqual([0, 0.04, 3.25, 12_345.6].map(words.rate), ["", "", "3.3/s", "12,346/s"]);
  assert.deepEqual([512, 2_048, 268_435_456].map(words.bytes), ["512 B", "2.0 KiB", "256 MiB"]);
  assert.equal(words.gap({ missed: 1, reason: "overrun" }), "1 event is left out: this page could not keep up");
});

test("a timestamp is read as by all other readers", () => {
  for (const { value, micros } of JSON.parse(readFileSync(new URL("../cases/timestamps.json", import.meta.url), "utf8"))) {
    const entry = new Entry({ type: "x", stream_seq: 1, timestamp: value }, { arrival: 5 });
    assert.equal(entry.at, micros === null ? 5 : Math.floor(micros / 1000), JSON.stringify(value));
  }
});

test("a job that starts again begins another attempt, with counts of its own", () => {
  const timeline = timelineOf(
    at(0, { type: "job_started" }), began(1_000, "a"), failed(2_000, "a"), at(3_000, { type: "job_failed" }),
    at(3_600_000, { type: "job_started" }), began(3_601_000, "a"), ended(3_602_000, "a"),
  );
  assert.deepEqual(timeline.attempts.map(({ number, status }) => [number, status]), [[1, "failed"], [2, "running"]]);
  assert.deepEqual(timeline.attempts.map(({ range }) => [range.from - BEGIN, range.to - BEGIN]), [[0, 3_000], [3_600_000, 3_602_000]]);
  const lane = timeline.lanes.get("a");
  assert.deepEqual([1, 2, null].map((number) => [lane.tally(number).runs, lane.tally(number).failures]), [[1, 1], [1, 0], [2, 1]]);
  // A repeated announcement of the same start is not another start.
  assert.equal(timelineOf(at(0, { type: "job_started" }), at(1, { type: "job_started" })).attempts.length, 1);
  // A run that started after the end, without an event for the new start.
  assert.equal(timelineOf(at(0, { type: "job_started" }), at(9, { type: "job_completed" }), began(60_000, "a")).attempts.length, 2);
});

test("an end that comes after the job's own belongs to its run", () => {
  const timeline = timelineOf(at(0, { type: "job_started" }), began(10, "a"), began(20, "b"), at(50, { type: "job_failed" }), ended(90, "a"), failed(95, "b"));
  assert.deepEqual(runs(timeline, "a"), [[10, 90, "completed", 0]]);
  assert.deepEqual(runs(timeline, "b"), [[20, 95, "failed", 0]]);
  assert.deepEqual([timeline.lanes.get("a").runs, timeline.lanes.get("b").failures], [1, 1]);
  // Even after the start of the next attempt, if its own duration says so.
  const retried = timelineOf(at(0, { type: "job_started" }), began(10, "a"), at(50, { type: "job_failed" }), at(900, { type: "job_started" }), began(1_000, "a"), ended(2_010, "a", { duration: 2 }));
  assert.deepEqual(runs(retried, "a"), [[10, 2_010, "completed", 0], [1_000, null, "running", 0]]);
});

test("after a gap an end belongs to the run that its duration points to, or to none", () => {
  const lost = (duration) => {
    const timeline = timelineOf(began(0, "a"));
    timeline.addGap({ type: "stream:gap", from: 2, to: 9, missed: 8, reason: "overrun" });
    timeline.add(ended(10_000, "a", duration === null ? {} : { duration }));
    return runs(timeline, "a");
  };
  assert.deepEqual(lost(10), [[0, 10_000, "completed", 0]]);
  assert.deepEqual(lost(1), [[0, 0, "unsure", 0], [9_000, 10_000, "completed", 0]]);
  assert.deepEqual(lost(null), [[0, 0, "unsure", 0], [10_000, 10_000, "completed", 0]]);
});

test("one wrong clock sets no scale, wherever it is among the events", () => {
  const years = 365 * 86_400_000;
  const good = [at(0, { type: "job_started" }), began(1_000, "a"), at(1_500, { type: "note" }), ended(2_000, "a"), at(3_000, { type: "job_completed" })];
  for (const wrong of [-56 * years, 73 * years, -2 * years]) {
    for (let place = 0; place < good.length; place += 1) {
      const events = good.with(place, { ...good[place], timestamp: new Date(BEGIN + wrong).toISOString() });
      const { from, to } = timelineOf(...events).attempt.range;
      assert.ok(from - BEGIN >= 0 && to - BEGIN <= 3_000 && to > from, `${wrong} at ${place}: ${from - BEGIN} to ${to - BEGIN}`);
    }
  }
  // What is far apart counts if it is frequent, or starts and ends something.
  const paused = [at(0, { type: "job_started" }), ...Array.from({ length: 20 }, (_, n) => at(86_400_000 + n, { type: "note" })), at(3 * 86_400_000, { type: "job_completed" })];
  const { from, to } = timelineOf(...paused).attempt.range;
  assert.deepEqual([from - BEGIN, to - BEGIN], [0, 3 * 86_400_000]);
});

test("an event without a time of its own sets no scale, whatever the publisher's clock says", () => {
  const [hour, minute] = [3_600_000, 60_000];
  const good = [at(0, { type: "job_started" }), ...Array.from({ length: 32 }, (_, n) => at((n + 1) * 1_800, { type: "note" })), at(minute, { type: "routine_started", routine_id: "a" })];
  const rangeOf = (events, strays) => {
    const timeline = timelineOf(...events);
    for (const [millis, type, isSaid = false] of strays) timeline.add({ type, job_id: "j" }, BEGIN + millis, undefined, null, isSaid);
    const { from, to } = timeline.attempt.range;
    return [from - BEGIN, to - BEGIN];
  };
  for (const far of [-9 * hour, -3 * hour, 3 * hour, 9 * hour]) {
    for (const type of ["note", "job_failed", "routine_completed"]) {
      assert.deepEqual(rangeOf(good, [[far, type]]), [0, minute], `${type} ${far / hour}`);
      assert.deepEqual(rangeOf(good, [[-5.5 * hour, "note", true], [far, type]]), [0, minute], `a note of 15:30 and ${type} ${far / hour}`);
    }
  }
  // A near event does not reach out for a far one.
  assert.deepEqual(rangeOf(good, [[-5.5 * hour, "note", true], [50 * minute, "note"]]), [0, 50 * minute]);
  assert.deepEqual(rangeOf([at(0, { type: "job_started" })], [[3 * hour, "job_failed"]]), [0, 0]);
  // Three are evidence if they are one in twenty, whatever is between and wherever their times come from.
  assert.deepEqual(rangeOf(good, [[-9 * hour, "note"], [-9 * hour, "note"], [-9 * hour, "note"]]), [-9 * hour, minute]);
  assert.deepEqual(rangeOf(good, [...Array(3).fill([-9 * hour, "note"]), [-5.5 * hour, "note", true]]), [-9 * hour, minute]);
  // If no event has a time of its own, the arrivals are the scale.
  assert.deepEqual(rangeOf([], [[0, "job_started"], [2 * hour, "note"], [5 * hour, "job_completed"]]), [0, 5 * hour]);
});

test("a job without a start is running, unless the daemon knows better, until an event says otherwise", () => {
  const timeline = timelineOf(at(0, { type: "note" }), at(10, { type: "note" }));
  const states = () => timeline.states.map(({ from, to, state }) => [from - BEGIN, to === null ? null : to - BEGIN, state]);
  assert.deepEqual([timeline.status, states()], ["running", [[0, null, "running"]]]);
  timeline.suppose("paused");
  assert.deepEqual(states(), [[0, 10, "running"], [10, null, "paused"]]);
  // The daemon spoke of now; what has come since is from the past.
  timeline.add(at(90_000, { type: "routine_started", routine_id: "a" }));
  assert.deepEqual(states(), [[0, 90_000, "running"], [90_000, null, "paused"]]);
  timeline.suppose("completed");
  assert.deepEqual([timeline.end - BEGIN, timeline.attempts[0].status], [90_000, "completed"]);
  timeline.add(at(180_000, { type: "routine_started", routine_id: "b" }));
  assert.deepEqual([timeline.attempts.length, timeline.end - BEGIN], [1, 180_000]);
  timeline.suppose("running");
  assert.equal(timeline.end, null);
  timeline.add(at(200_000, { type: "job_paused" }));
  timeline.suppose("completed");
  assert.deepEqual([timeline.status, timeline.attempts.length], ["paused", 1]);
  timeline.add(at(200_001, { type: "job_failed" }));
  assert.deepEqual([timeline.status, timeline.end - BEGIN], ["failed", 200_001]);
});

test("a lost job is lost until another event comes, and its run may still end", () => {
  const timeline = timelineOf(at(0, { type: "job_started" }), began(10, "a"), at(90, { type: "metrics", metrics: { status: "lost" } }));
  assert.deepEqual([timeline.status, timeline.isLost], ["running", true]);
  timeline.add(ended(200, "a"));
  assert.deepEqual([timeline.isLost, runs(timeline, "a")], [false, [[10, 200, "completed", 0]]]);
});

test("a timeline keeps no more than the log does", () => {
  const timeline = new Timeline();
  for (let n = 0; n < 10_000; n += 2) for (const event of [began(n, "a"), ended(n + 1, "a")]) timeline.add({ ...event, stream_seq: n });
  timeline.add({ ...began(10_000, "b"), stream_seq: 0 });
  timeline.forget(9_000);
  assert.deepEqual([timeline.lanes.get("a").spans.length, timeline.lanes.get("a").runs, timeline.lanes.get("b").spans.length], [500, 5_000, 1]);
});

test("the headline of a traceback is its exception, in many languages", () => {
  const cases = [
    ["ValueError: no", "ValueError: no"],
    ['Traceback (most recent call last):\n  File "a", line 1\n    f()\n    ^^^\nKeyError: 1\n', "KeyError: 1"],
    ['Task failed: Traceback (most recent call last):\r\n  File "a"\r\n    f()\r\npkg.mod.CustomThing: no\r\nwith a second line', "pkg.mod.CustomThing: no"],
    ["Traceback (most recent call last):\n  a\nKeyError: 1\n\nThe above exception was the direct cause of the following exception:\n\nTraceback (most recent call last):\n  b\nRuntimeError: outer", "RuntimeError: outer"],
    ["  + Exception Group Traceback (most recent call last):\n  |   File a\n  | ExceptionGroup: two (2 sub-exceptions)\n  +-+---------------- 1 ----------------\n    | ValueError: a", "ExceptionGroup: two (2 sub-exceptions)"],
    ["java.lang.IllegalStateException: no\n\tat a.B.c(B.java:1)\nCaused by: java.io.IOException: x\n\tat d", "java.lang.IllegalStateException: no"],
    ["/a/b.js:3\n  throw new TypeError()\n  ^\n\nTypeError: z\n    at f (a:1)", "TypeError: z"],
    ["thread 'main' panicked at src/main.rs:2:5:\nindex out of bounds\nnote: run with", "index out of bounds"],
    ["panic: no\n\ngoroutine 1 [running]:", "panic: no"],
    ["\n\n  something went wrong\n  and more", "something went wrong"],
    ["", ""],
  ];
  for (const [given, wanted] of cases) assert.equal(headline(given), wanted, given);
  assert.equal(faultOf({ error: { type: "ValueError", message: "no\nmore" } }), "ValueError: no");
  assert.equal(faultOf({ error: "no", error_type: "ValueError" }), "ValueError: no");
  assert.equal(faultOf({ traceback: "Traceback (most recent call last):\n  a\nOSError: full" }), "OSError: full");
});

test("JSON is laid out without a change of any token", () => {
  const text = '{"a":1.0,"b":[1e400,-0,{}],"c":"x\\"y, {z}: \\u0041","d":[],"e":{"f":null}}';
  const laid = indented(text);
  assert.equal(laid, '{\n  "a": 1.0,\n  "b": [\n    1e400,\n    -0,\n    {}\n  ],\n  "c": "x\\"y, {z}: \\u0041",\n  "d": [],\n  "e": {\n    "f": null\n  }\n}');
  assert.equal(indented(laid), laid);
});

test("what is visible can be found", () => {
  const text = '{"stream_seq":7,"type":"execution_event","timestamp":"2026-11-25T10:00:00.25Z","event":{"event_type":"slot_call","routine_id":"Lader","data":{"slot_name":"ein","data":{"path":"C:\\\\data\\\\x","said":"say \\"x\\" now","name":"\\u00e9t\\u00e9","lines":"one\\n  two","id":9007199254740993}}}}';
  const log = new EventLog();
  const entry = log.add(new Entry(JSON.parse(text), { text }));
  const many = new Entry({ type: "job_completed", stream_seq: 8, data: { duration: 61, total_events: 12_345 } });
  log.add(many);
  log.add(new Entry({ type: "other", stream_seq: 9 }));
  const found = (text) => {
    log.show({ text });
    while (!log.isExamined) log.examine();
    return log.shown.map((place) => log.entries[place]);
  };
  const clock = words.exactClock(entry.at);
  for (const wanted of ["C:\\data", "C:\\\\data", '"x"', '\\"x\\"', "\u00e9t\u00e9", "e\u0301te\u0301", "one two", "9007199254740993", "SLOT_CALL", "lader", clock, '"slot_name": "ein"', '"slot_name":"ein"', "ein · {"]) {
    assert.deepEqual(found(wanted), [entry], wanted);
  }
  for (const wanted of ["12,345", "12345", "1 min 1 s", "in 1 min 1 s · 12,345 events"]) assert.deepEqual(found(wanted), [many], wanted);
});

test("a paused list shows no more when it is searched", () => {
  const log = new EventLog();
  for (let n = 0; n < 10; n += 1) log.add({ type: "x", stream_seq: n });
  log.heldAt = 10;
  log.add({ type: "x", stream_seq: 10 });
  log.show({ text: "x" });
  log.examine();
  assert.equal(log.shown.length, 10);
  log.heldAt = Infinity;
  log.examine();
  assert.equal(log.shown.length, 11);
});

test("a row has everything that an event says, and never another value", () => {
  assert.equal(words.summary({ type: "progress", job_id: "t", percent: 42, note: "half\nway" }), "percent: 42 · note: half");
  assert.equal(words.summary({ type: "note", data: { toString: 1 } }), '{"toString":1}');
  assert.equal(words.value("x".repeat(119) + "\u{1f600}y"), `${"x".repeat(119)}…`);
});

test("a token is extracted from what surrounds it, and checked", () => {
  for (const text of ["good", " good\n", "Bearer good", "bearer  good", "Authorization: Bearer good", "X-API-Key: good", "\u201cgood\u201d", "\u00abgood\u00bb", "Bearer \u2018good\u2019", "\u201eBearer good\u201c", "\ufeffgo\u200bod"]) {
    assert.deepEqual(readToken(text), { token: "good" }, text);
  }
  // ASCII quotation marks may belong to a token.
  assert.deepEqual(readToken('"good"'), { token: '"good"' });
  for (const text of ["", "  ", "Bearer", "Bearer ", "go od", "go\u201cod", "gööd", "数"]) assert.ok(readToken(text).problem, text);
});

test("a publisher whose clock is behind has its own live edge", () => {
  const timeline = new Timeline();
  const window = new TimeWindow(timeline, () => 0);
  const now = Date.now();
  const tell = (at, type) => timeline.add({ type }, at, { type }, now);
  tell(now - 600_000, "job_started");
  assert.equal(timeline.lagMs, 600_000);
  assert.ok(Math.abs(window.edge - (now - 600_000)) < 1_000);
  tell(0, "note");
  assert.equal(timeline.lagMs, 600_000);
  tell(now - 100, "note");
  assert.equal(timeline.lagMs, 0);
});

test("an event nested deeper than any recursion affects nothing but itself", () => {
  const depth = 20_000;
  const text = `{"type":"deep","stream_seq":1,"data":${"[".repeat(depth)}"x"${"]".repeat(depth)}}`;
  const log = new EventLog();
  const deep = log.add(new Entry(JSON.parse(text), { text }));
  const other = log.add(new Entry({ type: "other", stream_seq: 2, data: "there" }));
  assert.equal(deep.line.length, 121);
  for (const [wanted, found] of [["there", [other]], ["deep", [deep]], ["nowhere", []]]) {
    log.show({ text: wanted });
    log.examine();
    assert.deepEqual(log.shown.map((place) => log.entries[place]), found);
  }
  assert.ok(indented(text).includes('"x"'));
});
