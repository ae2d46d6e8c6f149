// Each rule of the client where no WebSocket gets through, with fake streams and without waiting.
import assert from "node:assert/strict";
import { test } from "node:test";

import { LuxcastClient, jobUrl, textOf } from "../luxcast.js";
import { FakeStreams, event, fakeClient, fakeSockets, settle } from "./harness/fake.js";

function fake(t, options = {}, url = undefined) {
  const streams = new FakeStreams();
  const made = fakeClient(t, { fetch: streams.fetch, ...options }, url);
  const confirmed = [];
  const statuses = [];
  made.client.on("subscription:confirmed", ({ action, events }) => confirmed.push([action, events]));
  made.client.on("connection:status", ({ status }) => statuses.push(status));
  return { ...made, streams, confirmed, statuses };
}

/** A client that is on HTTP, because its WebSocket was refused twice. */
async function onHttp(t, options, url) {
  const made = fake(t, options, url);
  const { client, Socket, streams, tick } = made;
  client.connect();
  Socket.last.end();
  await settle();
  tick(500);
  Socket.last.end();
  await streams.last.accept(100);
  return made;
}

function end(t, { client }) {
  client.disconnect();
  t.mock.timers.reset();
  t.mock.restoreAll();
}

test("where a WebSocket is refused twice, the same attempt goes on over HTTP", async (t) => {
  const { client, Socket, streams, notes, numbers, statuses } = await onHttp(t, { token: "s3cret" }, "ws://h:1/api/ws/events?events=a,x");
  assert.deepEqual([client.state, client.transport], ["open", "http"]);
  assert.deepEqual(
    notes.filter(([type]) => type !== "reconnecting"),
    [
      ["error", { code: "not_connected", message: "no connection", fatal: false }],
      ["error", { code: "not_connected", message: "no connection", fatal: false }],
      ["connected", { isFirst: true, transport: "http" }],
    ],
  );
  assert.equal(streams.last.url.href, "http://h:1/api/ws/events?since=now&events=a,x");
  const { headers, cache, redirect } = streams.last.init;
  assert.deepEqual(headers, { Authorization: "Bearer s3cret", Accept: "text/event-stream" });
  assert.deepEqual([cache, redirect], ["no-store", "manual"]);
  await streams.last.say(event(101), event(102));
  assert.deepEqual(numbers(), [101, 102]);
  assert.deepEqual(statuses, ["connected"]);
  assert.deepEqual([Socket.all.length, streams.all.length], [2, 1]);
});

test("a WebSocket that opens and brings nothing is given up for HTTP at once", async (t) => {
  const { client, Socket, streams, told, tick } = fake(t);
  client.connect();
  Socket.last.accept();
  assert.deepEqual([client.state, client.transport, told("connected").length], ["connecting", null, 0]);
  tick(4_999);
  assert.equal(streams.all.length, 0);
  tick(1);
  assert.equal(Socket.last.closedWith, 1000);
  await streams.last.accept(100);
  const message = "the WebSocket opened, but nothing comes through it: a proxy may hold it back";
  assert.deepEqual(told("error"), [{ code: "held_back", message, fatal: false }]);
  assert.equal(client.transport, "http");
});

test("a WebSocket that hangs and still takes the only place of its address does not take it again", async (t) => {
  const { client, Socket, streams, told, tick } = fake(t);
  client.connect();
  Socket.last.accept();
  tick(5_000);
  const body = '{"error":"too_many_requests","message":"connections_per_address_max"}';
  for (let attempt = 1; attempt <= 3; attempt += 1) {
    assert.equal(streams.all.length, attempt);
    await streams.last.refuse(429, body, { "Retry-After": "1" });
    tick(1_500);
  }
  await streams.last.accept(100);
  assert.deepEqual([client.transport, Socket.all.length], ["http", 1]);
  assert.deepEqual(told("error").map(({ code }) => code), ["held_back", ...Array(3).fill("too_many_requests")]);
});

test("a WebSocket that brings its first message and then nothing is given up for HTTP", async (t) => {
  const { client, Socket, streams, told, tick } = fake(t);
  client.connect();
  Socket.last.accept(100);
  tick(120_000);
  assert.equal(told("disconnected")[0].reason, "the daemon is silent");
  tick(500);
  await streams.last.accept(100);
  assert.equal(client.transport, "http");
  for (let ping = 0; ping < 50; ping += 1) {
    tick(30_000);
    await streams.last.say({ type: "ping", stream_seq: 100 });
  }
  assert.equal(Socket.all.length, 1, "it would only be mute again");
});

test("a daemon that is away costs no more attempts than before, and the next one is by WebSocket", async (t) => {
  const { client, Socket, streams, told, tick } = fake(t);
  client.connect();
  const order = [];
  let [sockets, asked] = [0, 0];
  for (let second = 0; second < 600; second += 1) {
    if (Socket.all.length > sockets) {
      sockets = Socket.all.length;
      order.push("websocket");
      Socket.last.end();
      await settle();
    }
    if (streams.all.length > asked) {
      asked = streams.all.length;
      order.push("http");
      streams.last.fail();
      await settle();
    }
    tick(1_000);
  }
  assert.deepEqual(order.slice(0, 5), ["websocket", "websocket", "http", "websocket", "http"]);
  assert.equal(told("reconnecting").length, sockets);
  assert.equal(told("error").length, sockets, "one failure is told once");
  assert.deepEqual(told("reconnecting").slice(0, 8).map(({ delayMs }) => delayMs), [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
  assert.deepEqual(told("reconnecting").slice(0, 4).map(({ failures }) => failures), [1, 2, 3, 4]);
});

test("after a stream that ended the next attempt is one too, and after that a WebSocket", async (t) => {
  const { client, Socket, streams, told, tick, numbers } = await onHttp(t);
  await streams.last.say(event(101));
  await streams.last.cut();
  assert.deepEqual(told("disconnected"), [{ code: 1006, reason: "the stream was cut", willReconnect: true }]);
  assert.deepEqual([client.state, client.transport], ["waiting", null]);
  tick(1_000);
  assert.equal(streams.last.asked("since"), "101");
  await streams.last.accept(105);
  await streams.last.say(event(104));
  assert.deepEqual(numbers(), [101, 104]);
  await streams.last.end();
  assert.equal(told("disconnected").at(-1).reason, "the stream has ended");
  tick(1_000);
  assert.equal(Socket.all.length, 2);
  streams.last.fail();
  await settle();
  tick(4_000);
  assert.equal(Socket.all.length, 3);
  assert.equal(Socket.last.asked("since"), "104");
});

test("a drain is told as over a WebSocket, and its wait is kept", async (t) => {
  const { client, streams, told, tick } = await onHttp(t);
  const farewell = { type: "connection:status", status: "disconnected", stream_seq: 130, reason: "drain", retry_after_ms: 4000 };
  await streams.last.say(farewell);
  await streams.last.end();
  assert.deepEqual(told("disconnected"), [{ code: 1012, reason: "drain", willReconnect: true }]);
  assert.equal(client.position, 130);
  tick(3_999);
  assert.equal(streams.all.length, 1);
  tick(1);
  assert.equal(streams.last.asked("since"), "130");
});

test("the wait of a drain holds only until a WebSocket has taken over", async (t) => {
  const { Socket, streams, told, tick } = await onHttp(t);
  await streams.last.say(event(101));
  tick(10_000);
  await streams.last.say({ type: "connection:status", status: "disconnected", stream_seq: 101, reason: "drain", retry_after_ms: 4000 });
  Socket.last.accept(101);
  Socket.last.say(event(102));
  Socket.last.end();
  assert.equal(told("reconnecting").at(-1).delayMs, 250);
});

test("a stream that opens and brings nothing is told of, and a WebSocket is next", async (t) => {
  const { client, Socket, streams, told, tick } = fake(t);
  client.connect();
  for (let attempt = 0; attempt < 2; attempt += 1) {
    Socket.last.end();
    await settle();
    tick(500);
  }
  await streams.last.accept();
  tick(5_000);
  await settle();
  const message = "the HTTP stream opened, but nothing comes through it: a proxy may hold it back";
  assert.deepEqual(told("error").at(-1), { code: "held_back", message, fatal: false });
  assert.ok(streams.last.isStopped);
  tick(1_000);
  assert.equal(Socket.all.length, 3);
});

test("a WebSocket is tried beside a stream, ever more seldom, and takes over once it is connected", async (t) => {
  const { client, Socket, streams, told, tick, numbers, statuses } = await onHttp(t, { webSocketRetryMs: 30_000 });
  const due = [];
  await streams.last.say(event(101));
  for (let second = 0; second < 100; second += 1) {
    tick(1_000);
    if (Socket.all.length === 2 + due.length) continue;
    due.push(second + 1);
    Socket.last.end();
    await settle();
    await streams.last.say({ type: "ping" });
  }
  assert.deepEqual(due.slice(0, 5), [5, 15, 30, 45, 60], "half of 10, 20 and 30 s, without chance");
  assert.deepEqual([client.transport, told("disconnected").length, told("error").length], ["http", 0, 2]);
  tick(15_000);
  const next = Socket.last;
  assert.equal(next.asked("since"), "101");
  await streams.last.say(event(105), event(106));
  next.accept();
  assert.equal(client.transport, "http", "it is only open");
  const stream = streams.last;
  next.say({ type: "connection:status", status: "connected", stream_seq: 106 });
  assert.deepEqual([client.transport, stream.isStopped, stream.isCancelled], ["websocket", true, false]);
  next.say(event(105), event(106), event(107));
  assert.deepEqual(numbers(), [101, 105, 106, 107]);
  assert.equal(client.duplicates, 0, "to come again was to be expected");
  next.say(event(107));
  assert.equal(client.duplicates, 1);
  assert.deepEqual(told("connected"), [{ isFirst: true, transport: "http" }, { isFirst: false, transport: "websocket" }]);
  assert.deepEqual(statuses, ["connected", "connected"]);
  assert.equal(told("disconnected").length, 0);
  tick(110_000);
  assert.equal(next.sent.length, 1, "the watchdog asks it for a sign of life");
});

test("a WebSocket that stands behind the stream does not make anything come again", async (t) => {
  const { client, Socket, streams, tick, numbers } = await onHttp(t);
  await streams.last.say(event(101));
  tick(10_000);
  await streams.last.say(event(140));
  // Its first message was on the way while the stream brought more.
  Socket.last.accept(120);
  assert.equal(client.transport, "websocket");
  Socket.last.say(event(110), event(140), event(141));
  assert.deepEqual(numbers(), [101, 140, 141]);
  Socket.last.end();
  tick(1_000);
  assert.equal(Socket.last.asked("since"), "141");
});

test("what is no daemon, or one with other numbers, does not take over", async (t) => {
  const first = [
    { type: "connection:status", status: "connected", stream_seq: 50 },
    { type: "connection:status", status: "connected" },
    { type: "connection:status", status: "reconnecting" },
    { type: "x", stream_seq: 200 },
    "hello",
  ];
  for (const message of first) {
    const made = await onHttp(t);
    const { client, Socket, streams, tick } = made;
    await streams.last.say(event(101));
    tick(10_000);
    Socket.last.accept();
    Socket.last.say(message);
    assert.deepEqual([client.transport, client.position, Socket.last.closedWith], ["http", 101, 1000], JSON.stringify(message));
    await streams.last.say({ type: "ping" });
    const before = Socket.all.length;
    tick(20_000);
    assert.equal(Socket.all.length, before + 1, "it is tried again");
    end(t, made);
  }
});

test("a gap that a WebSocket tells anew is told only as far as it is new", async (t) => {
  const { Socket, streams, tick, told } = await onHttp(t);
  await streams.last.say(event(101));
  tick(10_000);
  await streams.last.say(event(140));
  Socket.last.accept(150);
  const gap = { type: "stream:gap", from: 102, to: 130, missed: 20, reason: "expired" };
  Socket.last.say(gap, { ...gap, to: 145 }, { ...gap, from: 146, to: 147, missed: 2 });
  assert.deepEqual(told("stream:gap"), [
    { ...gap, from: 141, to: 145, missed: null },
    { ...gap, from: 146, to: 147, missed: 2 },
  ]);
});

test("without a position no WebSocket is tried beside the stream", async (t) => {
  const { Socket, streams, tick } = await onHttp(t, { since: "start" });
  tick(10_000);
  tick(10_000);
  assert.equal(Socket.all.length, 2);
  await streams.last.say({ type: "ping", stream_seq: 100 });
  tick(1_000);
  assert.equal(Socket.all.length, 3);
  assert.equal(Socket.last.asked("since"), "100");
});

test("a stream that ends while a WebSocket is tried beside it ends that too", async (t) => {
  const { client, Socket, streams, tick } = await onHttp(t);
  await streams.last.say(event(101));
  tick(10_000);
  const beside = Socket.last;
  await streams.last.cut();
  assert.equal(beside.closedWith, 1000);
  beside.accept(101);
  assert.equal(client.state, "waiting");
  tick(1_000);
  await streams.last.accept(101);
  assert.equal(client.transport, "http");
});

test("a filter that changes on a stream has another one take over, and is confirmed", async (t) => {
  const { client, streams, numbers, confirmed, tick, told, statuses } = await onHttp(t);
  const types = { 101: "a", 102: "b", 103: "c", 104: "a", 105: "b", 106: "c", 107: "a", 108: "b", 109: "c", 110: "c" };
  const some = (...list) => list.map((number) => event(number, types[number]));
  const first = streams.last;
  await first.say(...some(101, 102, 103));
  client.subscribe(["a"]);
  client.subscribe(["b"]);
  await first.say(...some(104, 105, 106));
  assert.deepEqual(numbers(), [101, 102, 103, 104, 105], "what is not wanted any more does not come");
  assert.deepEqual(confirmed, []);
  tick(50);
  assert.equal(streams.all.length, 2, "both changes are one new stream");
  const second = streams.last;
  assert.deepEqual([second.asked("events"), second.asked("since")], ["a,b", "106"]);
  await first.say(...some(107));
  await second.accept(108);
  assert.ok(first.isStopped);
  assert.deepEqual(confirmed, [["subscribe", ["a"]], ["subscribe", ["b"]]]);
  await second.say(...some(107, 108));
  assert.deepEqual(numbers(), [101, 102, 103, 104, 105, 107, 108]);
  assert.deepEqual([client.duplicates, told("connected").length, told("disconnected").length, statuses.length], [0, 1, 0, 1]);
  // From the other direction: c was not asked for while 109 came.
  client.subscribeAll();
  tick(50);
  await streams.last.accept(109);
  await streams.last.say(...some(109, 110));
  assert.deepEqual(numbers().slice(-2), [108, 110]);
  assert.deepEqual(confirmed.at(-1), ["subscribe_all", []]);
});

test("a stream that is about to take over is neither opened twice nor given up for a WebSocket", async (t) => {
  const { client, Socket, streams, confirmed, tick } = await onHttp(t, { webSocketRetryMs: 100 });
  await streams.last.say(event(101));
  client.subscribe(["a"]);
  tick(50);
  client.subscribe(["a"]);
  tick(50);
  tick(1_000);
  assert.deepEqual([Socket.all.length, streams.all.length], [2, 2]);
  await streams.last.accept(101);
  assert.equal(confirmed.length, 2);
  tick(1_000);
  assert.equal(Socket.all.length, 3);
});

test("what the daemon confirms itself, or what has ended, is not confirmed here", async (t) => {
  const made = await onHttp(t);
  const { client, Socket, streams, confirmed, tick } = made;
  client.unsubscribe(["b"]);
  await streams.last.cut();
  tick(1_000);
  streams.last.fail();
  await settle();
  tick(2_000);
  Socket.last.accept(100);
  assert.deepEqual(Socket.last.sent, [{ action: "unsubscribe", events: ["b"] }]);
  assert.equal(client.transport, "websocket");
  assert.deepEqual(confirmed, []);
  end(t, made);
  const other = await onHttp(t);
  other.client.subscribe(["a"]);
  other.client.disconnect();
  other.client.connect();
  await other.streams.last.accept(100);
  assert.deepEqual(other.confirmed, []);
});

test("a filter that an address cannot say is kept here alone", async (t) => {
  const { client, streams, numbers, confirmed, tick } = await onHttp(t);
  client.unsubscribe(["b"]);
  await streams.last.say(event(101, "a"), event(102, "b"));
  tick(50);
  assert.deepEqual(confirmed, [["unsubscribe", ["b"]]]);
  client.subscribe([]);
  tick(50);
  await streams.last.say(event(103, "a"));
  assert.deepEqual(numbers(), [101]);
  assert.equal(streams.all.length, 1);
  assert.equal(confirmed.length, 2);
});

test("a filter is whole after it changed again and again, and while a stream opens", async (t) => {
  const { client, Socket, streams, numbers, confirmed, tick } = fake(t);
  client.on("connected", () => client.subscribe(["a"]));
  client.connect();
  for (let attempt = 0; attempt < 2; attempt += 1) {
    Socket.last.end();
    await settle();
    tick(500);
  }
  client.subscribe(["b"]);
  const first = streams.last;
  await first.accept(100);
  assert.deepEqual(streams.all.map((stream) => stream.asked("events")), [null, "b,a"]);
  client.subscribe(["c"]);
  tick(50);
  assert.ok(streams.all[1].isStopped, "it is outdated");
  assert.equal(streams.last.asked("events"), "b,a,c");
  client.unsubscribe(["b", "a", "c"]);
  client.subscribeAll();
  tick(50);
  assert.ok(streams.all[2].isStopped);
  assert.equal(streams.all.length, 3, "the first stream has all that is wanted");
  await first.say(event(101, "z"));
  assert.deepEqual(numbers(), [101]);
  assert.deepEqual(confirmed.map(([action]) => action), ["subscribe", "subscribe", "unsubscribe", "subscribe_all"]);
});

test("where no stream with the new filter comes, the old one is left for it", async (t) => {
  const { client, streams, told, confirmed, tick } = await onHttp(t);
  await streams.last.say(event(101));
  client.subscribe(["a"]);
  tick(50);
  await streams.last.refuse(429, '{"error":"too_many_requests","message":"one is enough"}', { "Retry-After": "1" });
  assert.deepEqual(told("disconnected"), [{ code: 1006, reason: "one is enough", willReconnect: true }]);
  assert.equal(told("reconnecting").at(-1).delayMs, 1_000);
  assert.ok(streams.all[0].isStopped);
  tick(1_000);
  assert.deepEqual([streams.last.asked("events"), streams.last.asked("since")], ["a", "101"]);
  await streams.last.accept(101);
  assert.deepEqual(confirmed, [["subscribe", ["a"]]]);
});

test("a filter that changes while a WebSocket is tried holds on both", async (t) => {
  const { client, Socket, streams, confirmed, tick } = await onHttp(t);
  await streams.last.say(event(101));
  tick(10_000);
  Socket.last.accept();
  client.unsubscribe(["b"]);
  assert.deepEqual(Socket.last.sent, [{ action: "unsubscribe", events: ["b"] }]);
  Socket.last.say({ type: "connection:status", status: "connected", stream_seq: 101 });
  assert.equal(client.transport, "websocket");
  assert.deepEqual(confirmed, [["unsubscribe", ["b"]]]);
  client.subscribe(["c"]);
  assert.equal(Socket.last.sent.length, 2);
});

test("the snapshot of a job comes with the connection, not with each stream", async (t) => {
  const { client, Socket, streams, events, tick } = await onHttp(t, {}, "ws://h:1/api/ws/jobs/j/monitor");
  const snapshot = { type: "metrics", job_id: "j", metrics: {} };
  await streams.last.say(snapshot);
  client.subscribe(["metrics"]);
  tick(50);
  await streams.last.accept(100);
  await streams.last.say(snapshot, event(101, "metrics"));
  tick(10_000);
  Socket.last.accept(101);
  Socket.last.say(snapshot, event(102, "metrics"));
  assert.deepEqual(events.map(({ stream_seq }) => stream_seq), [undefined, 101, 102]);
});

test("bytes and lines are put together wherever they were cut", async (t) => {
  const { streams, events, told } = await onHttp(t);
  const long = "é😀".repeat(250_000);
  const texts = [
    '{"stream_seq":101,"type":"ä€😀","job_id":"j","n":[9007199254740993,1e400,1.0]}',
    '{"stream_seq":102,"type":"x","job_id":"j","text":"data: \\n\\ndata: \\u2028"}',
    `{"stream_seq":103,"type":"x","job_id":"j","text":"${long}"}`,
    '{"stream_seq":104,"type":"x","job_id":"j"}',
  ];
  const frame = (text) => `id: 1\ndata: ${text}\n\n`;
  await streams.last.sayText(frame(texts[0]), 1);
  await streams.last.sayText(frame(texts[1]), 3);
  await streams.last.sayText(frame(texts[2]), 65_537);
  await streams.last.sayText(`retry: 5\n:note\n\nevent: x\ndata:${texts[3]}\n\n`);
  assert.deepEqual(events.map(textOf), texts);
  assert.deepEqual(told("invalid"), []);
});

test("a cut inside a message leaves nothing of it, and bytes that are no text are a cut", async (t) => {
  const { streams, numbers, told, tick } = await onHttp(t);
  await streams.last.sayText(`data: ${JSON.stringify(event(101))}\n\ndata: {"stream_seq":102,"type":"x"}`);
  await streams.last.cut();
  tick(1_000);
  assert.equal(streams.last.asked("since"), "101");
  await streams.last.accept(110);
  await streams.last.sayText(`data: ${JSON.stringify(event(102))}\n\n`);
  await streams.last.sayBytes(Uint8Array.of(0x64, 0xff, 0x0a));
  assert.equal(told("disconnected").length, 2);
  assert.deepEqual(numbers(), [101, 102]);
});

test("a message that cannot be used is told of, as on a WebSocket", async (t) => {
  const { streams, told, numbers } = await onHttp(t);
  await streams.last.sayText('data: {\n\ndata: []\n\ndata: {"type":"x","stream_seq":101,"job_id":"j"}\n\n');
  assert.deepEqual(told("invalid").map(({ problem }) => problem), ["not JSON", "not an object"]);
  assert.deepEqual(numbers(), [101]);
});

test("disconnect() stops a stream wherever it is, also between two messages of one piece", async (t) => {
  const asking = fake(t, { transport: "http" });
  asking.client.connect();
  asking.client.disconnect();
  assert.ok(asking.streams.last.isStopped);
  end(t, asking);
  const { client, streams, numbers, told } = await onHttp(t);
  client.on("x", () => client.disconnect());
  await streams.last.say(event(101), event(102), event(103));
  assert.deepEqual(numbers(), [101]);
  assert.ok(streams.last.isStopped);
  assert.equal(told("disconnected").length, 1);
  assert.equal(client.position, 101);
});

test("a signal stops a stream and what is beside it", async (t) => {
  const stop = new AbortController();
  const { client, Socket, streams, tick } = await onHttp(t, { signal: stop.signal });
  await streams.last.say(event(101));
  tick(10_000);
  stop.abort();
  assert.equal(client.state, "closed");
  assert.ok(streams.last.isStopped);
  assert.equal(Socket.last.closedWith, 1000);
  const all = [Socket.all.length, streams.all.length];
  tick(600_000);
  await settle();
  assert.deepEqual([Socket.all.length, streams.all.length], all);
});

test("a likeness of a browser whose signals are not those of its fetch has its stream cancelled", async (t) => {
  const streams = new FakeStreams();
  const fetch = (url, init) => streams.fetch(url, { ...init, signal: init.signal ?? new AbortController().signal });
  t.mock.method(globalThis, "Request", function () {
    throw new TypeError("Expected signal to be an instance of AbortSignal");
  });
  const { client } = fakeClient(t, { fetch, transport: "http" });
  client.connect();
  await streams.last.accept(100);
  client.disconnect();
  assert.ok(!streams.last.isStopped && streams.last.isCancelled);
  client.connect();
  client.disconnect();
  await streams.last.accept();
  assert.equal(streams.all.length, 2);
  assert.ok(streams.last.isCancelled, "an answer that comes too late is not left open");
});

test("a silent stream is left after four heartbeats, and pings are not answered", async (t) => {
  const { streams, told, tick } = await onHttp(t);
  tick(119_999);
  await streams.last.say({ type: "ping", stream_seq: 120 });
  tick(90_000);
  assert.equal(told("disconnected").length, 0);
  tick(1);
  assert.deepEqual(told("disconnected"), [{ code: 1006, reason: "the daemon is silent", willReconnect: true }]);
  tick(1_000);
  assert.equal(streams.last.asked("since"), "120");
});

test("whoever comes back to the page soon learns that a stream is dead, after a heartbeat for the daemon's own ping", async (t) => {
  globalThis.document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  t.after(() => delete globalThis.document);
  const { streams, told, tick } = await onHttp(t);
  tick(30_000);
  document.dispatchEvent(new Event("visibilitychange"));
  tick(30_000);
  assert.equal(told("disconnected").length, 0);
  tick(30_000);
  assert.equal(told("disconnected").length, 1);
  assert.ok(streams.last.isStopped);
});

test("a line without an end and an answer without a body end a stream", async (t) => {
  const { streams, told, tick } = await onHttp(t);
  await streams.last.sayBytes(new Uint8Array(2 ** 26 + 1).fill(0x78));
  assert.equal(told("disconnected").at(-1).reason, "a line of the stream has no end");
  tick(1_000);
  await streams.last.refuse(200, null, { "Content-Type": "text/event-stream" });
  assert.equal(told("error").at(-1).code, "proxy_answered");
});

test("a refusal of a stream is what the daemon says, and the wait is as long as it says", async (t) => {
  const { client, streams, told, tick } = fake(t, { transport: "http" });
  client.connect();
  await streams.last.refuse(503, '{"error":"full","message":"no room"}', { "Retry-After": "5" });
  assert.deepEqual(told("error"), [{ code: "full", status: 503, message: "no room", fatal: false, retryAfterMs: 5000 }]);
  tick(4_999);
  assert.equal(streams.all.length, 1);
  tick(1);
  await streams.last.refuse(200, "<h1>Log in</h1>", { "Content-Type": "text/html" });
  assert.deepEqual(told("error").at(-1), { code: "proxy_answered", status: 200, message: "a proxy answered with HTTP 200, not the daemon", fatal: false });
  tick(1_000);
  await streams.last.refuse(426, '{"error":"upgrade_required","message":"no"}');
  assert.match(told("error").at(-1).message, /this daemon has no HTTP streams$/);
  tick(4_000);
  await streams.last.refuse(403, '{"error":"forbidden_scope","message":"not this"}');
  assert.deepEqual(told("error").at(-1), { code: "forbidden_scope", status: 403, message: "not this", fatal: true });
  assert.deepEqual(told("disconnected"), [{ code: 1006, reason: "not this", willReconnect: false }]);
});

test("a client may start with HTTP, and goes on as any other", async (t) => {
  const { client, Socket, streams, tick } = fake(t, { startWith: "http" });
  client.connect();
  await streams.last.accept(100);
  assert.deepEqual([client.transport, Socket.all.length], ["http", 0]);
  tick(4_999);
  assert.equal(Socket.all.length, 0);
  tick(1);
  Socket.last.accept(100);
  assert.equal(client.transport, "websocket");
  Socket.last.say(event(101));
  Socket.last.end();
  tick(1_000);
  assert.deepEqual([Socket.all.length, streams.all.length], [2, 1]);
  client.disconnect();
  const other = new LuxcastClient("ws://h:1/api/ws/events", { WebSocket: Socket, startWith: "http" });
  other.connect();
  streams.last.fail();
  await settle();
  tick(1_000);
  assert.equal(Socket.all.length, 3);
  other.disconnect();
});

test("each transport alone stays what it is", async (t) => {
  const socketOnly = fake(t, { transport: "websocket", fetch: () => Promise.reject(new Error("nobody there")) });
  socketOnly.client.connect();
  for (let attempt = 0; attempt < 4; attempt += 1) {
    socketOnly.Socket.last.end();
    await settle();
    socketOnly.tick(30_000);
  }
  assert.equal(socketOnly.Socket.all.length, 5);
  assert.ok(socketOnly.asked().every(([, { headers }]) => headers.Accept === undefined));
  end(t, socketOnly);
  const httpOnly = fake(t, { transport: "http" });
  httpOnly.client.connect();
  await httpOnly.streams.last.accept(100);
  assert.equal(httpOnly.client.transport, "http");
  for (let ping = 0; ping < 30; ping += 1) {
    await httpOnly.streams.last.say({ type: "ping" });
    httpOnly.tick(30_000);
  }
  httpOnly.streams.last.fail();
  await settle();
  httpOnly.tick(30_000);
  assert.deepEqual([httpOnly.Socket.all.length, httpOnly.streams.all.length], [0, 2]);
});

test("without a WebSocket, auto is HTTP", async (t) => {
  const { client, streams, tick } = fake(t, { WebSocket: undefined });
  client.connect();
  await streams.last.accept(100);
  assert.equal(client.transport, "http");
  await streams.last.say({ type: "ping" });
  tick(100_000);
  assert.equal(streams.all.length, 1);
});

test("a job of dots has no stream, and says so", async (t) => {
  const fetch = async () => new Response('{"error":"upgrade_required","message":"no"}', { status: 426 });
  const { client, Socket, told, tick } = fake(t, { fetch }, jobUrl("ws://h:1", ".."));
  client.connect();
  for (let attempt = 0; attempt < 2; attempt += 1) {
    Socket.last.end();
    await settle();
    tick(500);
  }
  assert.equal(told("error").at(-1).code, "upgrade_refused");
  assert.match(told("error").at(-1).message, /there is no HTTP stream of a job with this name$/);
  assert.throws(() => new LuxcastClient(jobUrl("ws://h:1", ".."), { transport: "http" }), /it needs a WebSocket/);
  assert.throws(() => new LuxcastClient("ws://h:1/api/v1/ws", { WebSocket: fakeSockets() }), /WebSocket alone/);
});

test("a browser that is online again tries a WebSocket soon", async (t) => {
  const page = new EventTarget();
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.removeEventListener = page.removeEventListener.bind(page);
  t.after(() => ["addEventListener", "removeEventListener"].forEach((name) => delete globalThis[name]));
  const { Socket, streams, tick } = await onHttp(t);
  await streams.last.say(event(101));
  for (let failure = 0; failure < 5; failure += 1) {
    tick(160_000 / 2);
    await streams.last.say({ type: "ping" });
    Socket.last.end();
    await settle();
  }
  const before = Socket.all.length;
  for (let time = 0; time < 10; time += 1) page.dispatchEvent(new Event("online"));
  tick(999);
  assert.equal(Socket.all.length, before);
  tick(1);
  assert.equal(Socket.all.length, before + 1);
});

test("a loop over events does not notice what they come by", async (t) => {
  const { client, Socket, streams, tick } = fake(t, { bufferMax: 3 });
  const next = client[Symbol.asyncIterator]();
  const take = async () => (await next.next()).value;
  const first = take();
  for (let attempt = 0; attempt < 2; attempt += 1) {
    Socket.last.end();
    await settle();
    tick(500);
  }
  await streams.last.accept(100);
  await streams.last.say(event(101), event(102), event(103), event(104), event(105), event(106));
  assert.equal((await first).stream_seq, 101);
  for (const number of [102, 103]) assert.equal((await take()).stream_seq, number);
  assert.deepEqual(await take(), { type: "stream:gap", from: 104, to: 106, missed: 3, reason: "overrun" });
  const last = take();
  tick(10_000);
  Socket.last.accept(106);
  Socket.last.say(event(107));
  assert.equal((await last).stream_seq, 107);
  await next.return();
  assert.deepEqual([client.state, Socket.last.closedWith], ["closed", 1000]);
});

test("`format` of an address that was copied does not change what is asked for", async (t) => {
  const { client, streams } = fake(t, { transport: "http" }, "http://h:1/api/ws/events?format=ndjson&x=1");
  assert.equal(client.url, "ws://h:1/api/ws/events?x=1");
  client.connect();
  assert.equal(streams.last.url.search, "?x=1&since=now");
});

test("wrong transports are clear errors", () => {
  const make = (options) => () => new LuxcastClient("ws://h/api/ws/events", { WebSocket: fakeSockets(), ...options });
  for (const startWith of ["auto", "ws", "", 7]) assert.throws(make({ startWith }), /startWith must be/);
  for (const transport of ["ws", "sse", "", 7]) assert.throws(make({ transport }), /transport must be/);
  for (const webSocketRetryMs of [0, 99, NaN, Infinity, "1000"]) assert.throws(make({ webSocketRetryMs }), /webSocketRetryMs must be/);
  assert.throws(make({ fetch: "fetch" }), /fetch must be/);
});

test("without streams in fetch there is nothing to fall back on, and the daemon is asked why", async (t) => {
  const { ReadableStream } = globalThis;
  globalThis.ReadableStream = undefined;
  t.after(() => (globalThis.ReadableStream = ReadableStream));
  const { client, Socket, told, asked, tick } = fake(t, { fetch: async () => ({ status: 302, headers: new Headers() }) });
  client.connect();
  for (let attempt = 0; attempt < 3; attempt += 1) {
    Socket.last.end();
    await settle();
    tick(4_000);
  }
  assert.equal(Socket.all.length, 4);
  assert.ok(asked().every(([, { headers }]) => headers.Accept === undefined));
  assert.equal(told("error").at(-1).code, "proxy_answered");
});

test("a WebSocket that is cut behind its first message again and again is given up for HTTP", async (t) => {
  const { client, Socket, streams, tick } = fake(t);
  client.connect();
  for (let cut = 0; cut < 3; cut += 1) {
    assert.equal(streams.all.length, 0);
    Socket.last.accept(100);
    tick(1_000);
    Socket.last.end();
    tick(4_000);
  }
  await streams.last.accept(100);
  assert.equal(client.transport, "http");
  await streams.last.say(event(101));
  tick(60_000);
  assert.equal(Socket.all.length, 3);
});

test("WebSockets that bring something in between are not given up", async (t) => {
  const { client, Socket, streams, tick } = fake(t);
  client.connect();
  for (let cut = 0; cut < 6; cut += 1) {
    Socket.last.accept(100);
    if (cut % 2 === 1) Socket.last.say(event(101 + cut));
    tick(1_000);
    Socket.last.end();
    tick(30_000);
  }
  assert.deepEqual([Socket.all.length, streams.all.length], [7, 0]);
});

test("a filter that changed while a stream took over is confirmed when it holds", async (t) => {
  const { client, streams, confirmed, tick } = await onHttp(t);
  client.subscribe(["a"]);
  tick(50);
  client.subscribe(["b"]);
  await streams.last.accept(100);
  assert.deepEqual(confirmed, []);
  assert.equal(streams.last.asked("events"), "a,b");
  await streams.last.accept(100);
  assert.deepEqual(confirmed.map(([, events]) => events), [["a"], ["b"]]);
  assert.deepEqual(streams.all.map(({ isStopped }) => isStopped), [true, true, false]);
});
