// Each rule of the client, with a fake socket and without waiting.
import assert from "node:assert/strict";
import { test } from "node:test";

import { LuxcastClient, LuxcastEvent, jobUrl, textOf } from "../luxcast.js";
import { event, fakeClient, settle } from "./harness/fake.js";

test("a client that comes back asks for what is behind the last event", (t) => {
  const { client, Socket, numbers, tick } = fakeClient(t);
  client.connect();
  assert.equal(Socket.last.asked("since"), "now");
  Socket.last.accept(100);
  Socket.last.say(event(101), event(103));
  Socket.last.end();
  tick(500);
  assert.equal(Socket.last.asked("since"), "103");
  Socket.last.accept(110);
  Socket.last.say(event(104));
  assert.deepEqual(numbers(), [101, 103, 104]);
  assert.equal(client.position, 104);
});

test("a jump of the numbers is no loss", (t) => {
  const { client, Socket, numbers, told, tick } = fakeClient(t);
  client.connect();
  Socket.last.accept(100);
  Socket.last.say(event(101), event(2 ** 40), event(2 ** 40 + 1), event(2 ** 52));
  assert.deepEqual(numbers(), [101, 2 ** 40, 2 ** 40 + 1, 2 ** 52]);
  assert.deepEqual([told("stream:gap").length, client.duplicates], [0, 0]);
  Socket.last.end();
  tick(500);
  assert.equal(Socket.last.asked("since"), String(2 ** 52));
});

test("without an event, the first message of a live connection is the position", (t) => {
  const { client, Socket, tick } = fakeClient(t);
  client.connect();
  Socket.last.accept(100);
  Socket.last.end();
  tick(500);
  assert.equal(Socket.last.asked("since"), "100");
});

test("where the past was asked for, the newest number and gaps are not positions", (t) => {
  for (const since of ["start", -5]) {
    const { client, Socket, tick, told } = fakeClient(t, { since });
    client.connect();
    Socket.last.accept(100);
    Socket.last.say({ type: "stream:gap", from: 1, to: 50, missed: null, reason: "expired" });
    Socket.last.end();
    tick(500);
    assert.equal(Socket.last.asked("since"), String(since));
    Socket.last.accept(100);
    Socket.last.say(event(60));
    Socket.last.end();
    tick(1000);
    assert.equal(Socket.last.asked("since"), "60");
    assert.equal(told("stream:gap").length, 1);
    t.mock.timers.reset();
    t.mock.restoreAll();
  }
});

test("a kept event from inside a gap is told of", (t) => {
  const { client, Socket, numbers } = fakeClient(t, { since: 10 });
  client.connect();
  Socket.last.accept(100);
  Socket.last.say({ type: "stream:gap", from: 11, to: 50, missed: 39, reason: "overrun" }, event(20), event(51));
  assert.deepEqual(numbers(), [20, 51]);
});

test("pings and the farewell move the position, and never back", (t) => {
  const { client, Socket, tick, told } = fakeClient(t);
  client.connect();
  Socket.last.accept(100);
  Socket.last.say({ type: "ping", stream_seq: 120 }, { type: "ping", stream_seq: 110 }, { type: "ping" });
  assert.equal(client.position, 120);
  assert.deepEqual(Socket.last.sent, [{ type: "pong" }, { type: "pong" }, { type: "pong" }]);
  Socket.last.say({ type: "connection:status", status: "disconnected", stream_seq: 130, retry_after_ms: 4000 });
  Socket.last.end(1012, "daemon is shutting down");
  assert.deepEqual(told("disconnected"), [{ code: 1012, reason: "daemon is shutting down", willReconnect: true }]);
  tick(3999);
  assert.equal(Socket.all.length, 1, "the daemon asked for four seconds");
  tick(1);
  assert.equal(Socket.last.asked("since"), "130");
});

test("an event that comes again is left out and counted", (t) => {
  const { client, Socket, numbers } = fakeClient(t);
  client.connect();
  Socket.last.accept(100);
  Socket.last.say(event(101), event(101), event(99), event(102));
  assert.deepEqual(numbers(), [101, 102]);
  assert.equal(client.duplicates, 2);
});

test("a daemon that counts from lower down is followed, with all that it has kept", (t) => {
  const { client, Socket, numbers, told, tick } = fakeClient(t, { since: 5000 });
  client.connect();
  Socket.last.accept(100);
  Socket.last.end();
  tick(500);
  assert.equal(Socket.last.asked("since"), "start", "none of what it has was told");
  Socket.last.accept(100);
  const gap = { type: "stream:gap", from: 5001, to: 5001, missed: null, reason: "restart" };
  Socket.last.say(gap, event(60), event(99), event(101));
  assert.deepEqual(numbers(), [60, 99, 101]);
  assert.deepEqual(told("stream:gap"), [gap]);
  assert.equal(client.duplicates, 0);
  assert.equal(client.position, 101);
  Socket.last.end();
  tick(1_000);
  assert.equal(Socket.last.asked("since"), "101");
  // And once more, now from what was told.
  Socket.last.accept(50);
  Socket.last.say(event(7), event(51));
  assert.deepEqual(numbers(), [60, 99, 101, 7, 51]);
});

const JOB = "ws://h:1/api/ws/jobs/j/monitor";
const UNKNOWN = { type: "stream:gap", from: 1, to: 50, missed: null, reason: "expired" };

test("a gap from the very beginning is none if the job begins behind it", (t) => {
  const { client, Socket, told, tick } = fakeClient(t, { since: "start" }, JOB);
  client.connect();
  Socket.last.accept(100);
  Socket.last.say(UNKNOWN, { type: "metrics", job_id: "j", metrics: {} }, { type: "ping", stream_seq: 110 });
  Socket.last.end();
  tick(500);
  Socket.last.accept(110);
  Socket.last.say(event(120, "job_started"), event(121));
  assert.deepEqual(told("stream:gap"), []);
});

test("any other gap in front of a job is told before what follows it", (t) => {
  const cases = [
    [UNKNOWN, event(60), JOB],
    [UNKNOWN, event(50, "job_started"), JOB],
    [UNKNOWN, event(20, "job_started"), JOB],
    [{ ...UNKNOWN, missed: 3 }, event(60, "job_started"), JOB],
    [{ ...UNKNOWN, from: 2 }, event(60, "job_started"), JOB],
    [UNKNOWN, event(60, "job_started"), "ws://h:1/api/ws/flows/f/monitor"],
    [UNKNOWN, event(60, "job_started"), "ws://h:1/api/ws/events"],
  ];
  for (const [gap, next, url] of cases) {
    const { client, Socket } = fakeClient(t, { since: "start" }, url);
    const story = [];
    client.on("event", ({ stream_seq }) => story.push(stream_seq));
    client.on("stream:gap", (told) => story.push(told));
    client.connect();
    Socket.last.accept(100);
    Socket.last.say(gap, next);
    assert.deepEqual(story, [gap, next.stream_seq], `${url} ${JSON.stringify(gap)}`);
    client.disconnect();
    t.mock.timers.reset();
    t.mock.restoreAll();
  }
});

test("a gap is told although the filter leaves out the event that shows it", (t) => {
  const { client, Socket, told, numbers } = fakeClient(t, { since: "start" }, `${JOB}?events=a`);
  client.connect();
  Socket.last.accept(100);
  Socket.last.say(UNKNOWN, event(60, "b"));
  assert.deepEqual(told("stream:gap"), [UNKNOWN]);
  assert.deepEqual(numbers(), []);
});

test("waits double from half a second to thirty, and begin anew after a good connection", (t) => {
  const { client, Socket, told, tick } = fakeClient(t);
  client.connect();
  for (let attempt = 0; attempt < 9; attempt += 1) {
    Socket.last.accept(100);
    tick(9_999);
    Socket.last.end();
    tick(30_000);
  }
  const waits = () => told("reconnecting").map((note) => note.delayMs);
  assert.deepEqual(waits(), [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000], "half of each, without chance");
  t.mock.method(Math, "random", () => 0.999999);
  Socket.last.accept(100);
  Socket.last.end();
  assert.equal(Math.round(waits().at(-1)), 30_000);
  tick(30_000);
  Socket.last.accept(100);
  tick(10_000);
  Socket.last.end();
  assert.equal(Math.round(waits().at(-1)), 500);
});

test("what the daemon asks to wait is bounded, and holds for one wait", (t) => {
  const { client, Socket, told, tick } = fakeClient(t);
  client.connect();
  Socket.last.accept(100);
  Socket.last.say({ type: "connection:status", status: "disconnected", stream_seq: 100, retry_after_ms: 1e12 });
  Socket.last.end(1012);
  assert.equal(told("reconnecting")[0].delayMs, 300_000);
  tick(300_000);
  Socket.last.end();
  assert.equal(told("reconnecting")[1].delayMs, 250);
});

test("an attempt that is not answered is given up", async (t) => {
  const { client, Socket, told, tick } = fakeClient(t);
  client.connect();
  tick(10_000);
  assert.equal(Socket.last.closedWith, 1000);
  assert.deepEqual(told("error"), [{ code: "not_connected", message: "no answer for too long", fatal: false }]);
  const first = Socket.last;
  // By HTTP there is nobody either.
  await settle();
  tick(250);
  assert.equal(Socket.all.length, 2);
  first.accept(100);
  first.say(event(101));
  assert.equal(client.state, "connecting", "the one given up is not listened to");
});

test("a failure that is told without a close is one, and at once", (t) => {
  const { client, Socket, told, tick } = fakeClient(t);
  client.connect();
  const fail = (message) => Socket.last.dispatchEvent(Object.assign(new Event("error"), { message }));
  fail("non-101 status code");
  tick(1);
  assert.deepEqual(told("error"), [{ code: "not_connected", message: "non-101 status code", fatal: false }]);
  tick(250);
  assert.equal(Socket.all.length, 2);
  Socket.last.accept(100);
  fail({ toString: 1 });
  tick(1);
  assert.deepEqual(told("disconnected"), [{ code: 1006, reason: "no connection", willReconnect: true }]);
  tick(500);
  // With a close it is one as before, and with the code of that.
  Socket.last.accept(100);
  fail("broken");
  Socket.last.end(1011, "mine");
  tick(1);
  assert.deepEqual(told("disconnected")[1], { code: 1011, reason: "mine", willReconnect: true });
  assert.equal(told("reconnecting").length, 3);
});

test("1008 ends it for good, and connect() begins again behind the last event", (t) => {
  const { client, Socket, notes, tick } = fakeClient(t);
  client.connect();
  Socket.last.accept(100);
  Socket.last.end(1008, "the token has expired");
  assert.deepEqual(notes.slice(1), [
    ["error", { code: "policy", message: "the token has expired", fatal: true }],
    ["disconnected", { code: 1008, reason: "the token has expired", willReconnect: false }],
  ]);
  tick(600_000);
  assert.equal(Socket.all.length, 1);
  assert.equal(client.state, "closed");
  client.token = "fresh";
  client.connect();
  assert.equal(Socket.last.asked("since"), "100");
  assert.equal(Socket.last.asked("token"), "fresh");
});

const refusal = (status, body, headers) => async () => new Response(body, { status, headers });

test("the second failure is followed by HTTP, which tells why, and a refusal for good ends it", async (t) => {
  const fetch = refusal(401, '{"error":"unauthorized","message":"the token s3cret is not known"}');
  const { client, Socket, told, asked, tick } = fakeClient(t, { fetch, token: "s3cret" });
  client.connect();
  Socket.last.end();
  assert.equal(asked().length, 0, "most often the daemon is only not there");
  tick(500);
  Socket.last.end();
  await settle();
  const [address, init] = asked()[0];
  assert.equal(String(address), "http://h:1/api/ws/events?since=now");
  assert.deepEqual(init.headers, { Authorization: "Bearer s3cret", Accept: "text/event-stream" });
  assert.deepEqual(told("error").at(-1), {
    code: "unauthorized",
    status: 401,
    message: "the token *** is not known",
    fatal: true,
  });
  assert.equal(told("disconnected").at(-1).willReconnect, false);
  tick(600_000);
  assert.equal(Socket.all.length, 2);
});

test("a refusal for now is waited out for as long as it says", async (t) => {
  const fetch = refusal(503, '{"error":"draining","message":"soon"}', { "Retry-After": "5" });
  const { client, Socket, told, tick } = fakeClient(t, { fetch });
  client.connect();
  Socket.last.end();
  tick(500);
  Socket.last.end();
  await settle();
  const error = { code: "draining", status: 503, message: "soon", fatal: false, retryAfterMs: 5000 };
  assert.deepEqual(told("error").at(-1), error);
  assert.equal(told("reconnecting").at(-1).delayMs, 5000);
});

/** What a client is told that is refused like this twice. */
async function refused(t, fetch, options = {}) {
  const fake = fakeClient(t, { fetch, ...options });
  fake.client.connect();
  for (let attempt = 0; attempt < 2; attempt += 1) {
    fake.Socket.last.end();
    await settle();
    fake.tick(attempt === 0 ? 500 : 0);
  }
  return fake;
}

function end(t, { client }) {
  client.disconnect();
  t.mock.timers.reset();
  t.mock.restoreAll();
}

test("each refusal of the daemon is for good or for now", async (t) => {
  const forGood = [
    [400, "bad_request"], [400, "bad_id"], [400, "bad_parameter"], [401, "unauthorized"], [403, "forbidden_origin"],
    [403, "forbidden_scope"], [421, "forbidden_host"], [404, "not_found"], [405, "method_not_allowed"],
    [414, "too_large"], [431, "too_large"], [505, "http_version"],
  ];
  const forNow = [[408, "timeout"], [429, "too_many_requests"], [503, "full"], [503, "draining"], [426, "upgrade_required"]];
  for (const [status, word] of [...forGood, ...forNow]) {
    const fake = await refused(t, refusal(status, JSON.stringify({ error: word, message: "words" })));
    const isForGood = forGood.some(([, known]) => known === word);
    const { code, fatal, status: told } = fake.told("error").at(-1);
    assert.deepEqual([code, fatal, told], [word === "upgrade_required" ? "upgrade_refused" : word, isForGood, status]);
    assert.equal(fake.client.state, isForGood ? "closed" : "waiting");
    end(t, fake);
  }
});

test("what no daemon says is a proxy's, whatever its status, and is waited out", async (t) => {
  const bodies = [
    "<html><h1>Not Found</h1>",
    "",
    "null",
    "7",
    '"unauthorized"',
    '["unauthorized"]',
    '{"error":"Unauthorized","message":"words"}',
    '{"error":"unauthorized"}',
    '{"error":"unauthorized","message":{"toString":1}}',
    '{"error":["unauthorized"],"message":"words"}',
    '{"error":"constructor","message":"words"}',
    '{"error":"__proto__","message":"words"}',
    '{"message":"Unauthorized"}',
  ];
  const statuses = [400, 401, 403, 404, 405, 407, 414, 421, 426, 431, 500, 502, 503, 504, 505, 511, 521];
  const answers = [
    ...bodies.map((body) => [401, body]),
    ...statuses.map((status) => [status, bodies[0]]),
    [200, '{"error":"unauthorized","message":"words"}'],
    [204, null],
    [302, null],
  ];
  for (const [status, body] of answers) {
    const fake = await refused(t, refusal(status, body));
    const message = `a proxy answered with HTTP ${status}, not the daemon`;
    assert.deepEqual(fake.told("error").at(-1), { code: "proxy_answered", status, message, fatal: false }, body ?? "");
    assert.equal(fake.client.state, "waiting");
    end(t, fake);
  }
  const redirect = await refused(t, async () => ({ status: 0, type: "opaqueredirect", headers: new Headers() }));
  const message = "a proxy answered with a redirect, not the daemon";
  assert.deepEqual(redirect.told("error").at(-1), { code: "proxy_answered", message, fatal: false });
});

test("a proxy may say how long it takes", async (t) => {
  const { told } = await refused(t, refusal(503, "<html>", { "Retry-After": "7" }));
  assert.equal(told("error").at(-1).retryAfterMs, 7_000);
  assert.equal(told("reconnecting").at(-1).delayMs, 7_000);
});

test("a likeness of a browser whose signals are not those of its fetch asks all the same", async (t) => {
  t.mock.method(globalThis, "Request", function () {
    throw new TypeError("Expected signal to be an instance of AbortSignal");
  });
  const { told, asked } = await refused(t, refusal(401, '{"error":"unauthorized","message":"words"}'));
  assert.equal(asked()[0][1].signal, undefined);
  assert.equal(told("error").at(-1).code, "unauthorized");
});

const EXPIRED = "the token has expired";

test("getToken is asked before each attempt, and goes on where a token was declined", async (t) => {
  let token = "expired";
  const fetch = async (_, { headers }) => {
    assert.deepEqual(headers, { Authorization: "Bearer declined", Accept: "text/event-stream" });
    token = Promise.resolve("new");
    return new Response('{"error":"unauthorized","message":"words"}', { status: 401 });
  };
  const { client, Socket, told, tick, numbers } = fakeClient(t, { fetch, getToken: () => token, token: "unused" });
  client.connect();
  assert.equal(client.state, "connecting");
  await settle();
  assert.equal(Socket.last.asked("token"), "expired");
  Socket.last.accept(100);
  Socket.last.say(event(101));
  Socket.last.end(1008, EXPIRED);
  assert.deepEqual(told("disconnected"), [{ code: 1008, reason: "the token has ***", willReconnect: true }]);
  token = "declined";
  for (let attempt = 0; attempt < 2; attempt += 1) {
    tick(1_000);
    await settle();
    assert.equal(Socket.last.asked("token"), "declined");
    Socket.last.end();
    await settle();
  }
  assert.deepEqual(told("error").at(-1), { code: "unauthorized", status: 401, message: "words", fatal: false });
  tick(1_000);
  await settle();
  assert.equal(Socket.last.asked("token"), "new");
  assert.equal(Socket.last.asked("since"), "101");
  token = null;
  Socket.last.accept(102);
  Socket.last.say(event(102));
  Socket.last.end();
  tick(5_000);
  await settle();
  assert.equal(Socket.last.asked("token"), null);
  assert.deepEqual(numbers(), [101, 102]);
});

test("a token that getToken gives again and again is declined for good", async (t) => {
  const fetch = refusal(401, '{"error":"unauthorized","message":"words"}');
  const { client, Socket, told, tick } = fakeClient(t, { fetch, getToken: () => "wrong" });
  client.connect();
  for (let attempt = 0; attempt < 20 && client.state !== "closed"; attempt += 1) {
    await settle();
    Socket.last.end();
    await settle();
    tick(30_000);
  }
  const declined = told("error").filter(({ code }) => code === "unauthorized");
  assert.deepEqual(declined.map(({ fatal }) => fatal), [false, false, false, false, true]);
});

test("without getToken, or for anything but the token, 1008 is final", async (t) => {
  for (const [options, reason] of [[{}, EXPIRED], [{ getToken: () => "s3cret" }, "too many messages"]]) {
    const fake = fakeClient(t, options);
    fake.client.connect();
    await settle();
    fake.Socket.last.accept(100);
    fake.Socket.last.end(1008, reason);
    assert.equal(fake.client.state, "closed", reason);
    assert.deepEqual(fake.told("error"), [{ code: "policy", message: reason, fatal: true }]);
    end(t, fake);
  }
});

test("a getToken that fails is asked again, and says nothing secret", async (t) => {
  const tokens = [
    () => Promise.reject(new RangeError("s3cret")),
    () => {
      throw "s3cret";
    },
    () => "s3 cret",
    () => ({ toString: 1 }),
    () => "good",
  ];
  const { client, Socket, told, notes, tick } = fakeClient(t, { getToken: () => tokens.shift()() });
  client.connect();
  for (let attempt = 0; attempt < 5; attempt += 1) {
    await settle();
    tick(5_000);
  }
  const character = "the token has a character that no token may have";
  const messages = ["getToken failed: RangeError", "getToken failed: string", character, character];
  assert.deepEqual(told("error").map(({ message }) => message), messages);
  assert.ok(told("error").every(({ code, fatal }) => code === "no_token" && !fatal));
  assert.ok(!JSON.stringify(notes).includes("cret\""));
  assert.equal(Socket.all.length, 1);
  assert.equal(Socket.last.asked("token"), "good");
});

test("disconnect() while getToken is thinking is the end of it", async (t) => {
  let give;
  const { client, Socket, tick } = fakeClient(t, { getToken: () => new Promise((resolve) => (give = resolve)) });
  client.connect();
  client.connect();
  client.disconnect();
  give("late");
  await settle();
  tick(600_000);
  assert.equal(Socket.all.length, 0);
  assert.equal(client.state, "closed");
});

test("a page of another origin says that this may be the reason, for the browser does not say more", async (t) => {
  const { client, Socket, told, tick } = fakeClient(t);
  globalThis.location = { origin: "http://elsewhere", href: "http://elsewhere/" };
  t.after(() => delete globalThis.location);
  client.connect();
  for (let attempt = 0; attempt < 3; attempt += 1) {
    Socket.last.end();
    await settle();
    tick(2_000);
  }
  assert.equal(client.state, "connecting");
  assert.equal(told("error")[0].message, "no connection; if the daemon is there, its allowed_origins must name http://elsewhere");
});

test("disconnect() while the daemon is asked why is the end of it", async (t) => {
  const { client, Socket, told, tick } = fakeClient(t, { fetch: refusal(503, "") });
  client.connect();
  Socket.last.end();
  tick(500);
  Socket.last.end();
  client.disconnect();
  await settle();
  tick(600_000);
  assert.equal(Socket.all.length, 2);
  assert.equal(told("reconnecting").length, 1);
});

test("a silent daemon is asked after three heartbeats and left after one more", (t) => {
  const { client, Socket, told, tick } = fakeClient(t);
  client.connect();
  Socket.last.accept(100);
  tick(89_999);
  assert.deepEqual(Socket.last.sent, []);
  tick(1);
  assert.deepEqual(Socket.last.sent, [{ type: "ping" }]);
  Socket.last.say({ type: "pong" });
  tick(119_999);
  assert.deepEqual(told("disconnected"), []);
  const silent = Socket.last;
  tick(1);
  assert.deepEqual(told("disconnected"), [{ code: 1006, reason: "the daemon is silent", willReconnect: true }]);
  assert.equal(silent.closedWith, 1000);
  silent.say(event(101));
  tick(500);
  Socket.last.accept(110);
  Socket.last.say(event(101));
  assert.equal(client.duplicates, 0, "what the silent one says now does not count");
  assert.equal(client.position, 101);
});

test("the interval of pings is learned, and one odd distance shortens no patience", (t) => {
  const { client, Socket, told, tick } = fakeClient(t);
  const ping = (seconds) => Socket.last.say({ type: "ping", timestamp: new Date(seconds * 1000).toISOString() });
  const isLost = () => told("disconnected").length > 0;
  client.connect();
  Socket.last.accept(100);
  ping(0);
  ping(10);
  tick(30_000);
  assert.equal(isLost(), false);
  // The clock of the daemon is set, forward and back, and one ping has none that can be read.
  for (const seconds of [20, 21, 31, 5, 15]) ping(seconds);
  Socket.last.say({ type: "ping", timestamp: "soon" });
  tick(30_000);
  assert.equal(isLost(), false);
  tick(10_000);
  assert.equal(isLost(), true);
});

function browser(t) {
  const [page, document] = [new EventTarget(), Object.assign(new EventTarget(), { visibilityState: "visible" })];
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.removeEventListener = page.removeEventListener.bind(page);
  globalThis.document = document;
  t.after(() => ["addEventListener", "removeEventListener", "document"].forEach((name) => delete globalThis[name]));
  return { page, document };
}

test("a browser that is online again connects at once, but never spins", async (t) => {
  const { page, document } = browser(t);
  const { client, Socket, tick } = fakeClient(t);
  client.connect();
  for (let attempt = 0; attempt < 6; attempt += 1) {
    Socket.last.end();
    await settle();
    tick(40_000);
  }
  Socket.last.end();
  await settle();
  const before = Socket.all.length;
  tick(2_000);
  assert.equal(Socket.all.length, before, "it waits long by now");
  document.visibilityState = "hidden";
  document.dispatchEvent(new Event("visibilitychange"));
  tick(0);
  assert.equal(Socket.all.length, before, "nobody looks");
  document.visibilityState = "visible";
  document.dispatchEvent(new Event("visibilitychange"));
  tick(0);
  assert.equal(Socket.all.length, before + 1);
  for (let millis = 0; millis < 3_000; millis += 10) {
    if (Socket.last.readyState === 0) Socket.last.end();
    await settle();
    page.dispatchEvent(new Event("online"));
    tick(10);
  }
  assert.ok(Socket.all.length <= before + 4, `${Socket.all.length - before} attempts in three seconds`);
});

test("a wait that the daemon asked for is not cut short", (t) => {
  const { page } = browser(t);
  const { client, Socket, tick } = fakeClient(t);
  client.connect();
  Socket.last.accept(100);
  Socket.last.say({ type: "connection:status", status: "disconnected", stream_seq: 100, retry_after_ms: 5000 });
  Socket.last.end(1012);
  tick(2_000);
  page.dispatchEvent(new Event("online"));
  tick(2_999);
  assert.equal(Socket.all.length, 1);
  tick(1);
  assert.equal(Socket.all.length, 2);
});

test("whoever comes back to the page soon learns that the connection is dead", (t) => {
  const { document } = browser(t);
  const { client, Socket, told, tick } = fakeClient(t);
  client.connect();
  Socket.last.accept(100);
  tick(30_000);
  document.dispatchEvent(new Event("visibilitychange"));
  assert.deepEqual(Socket.last.sent, [{ type: "ping" }]);
  tick(30_000);
  assert.equal(told("disconnected").length, 1);
  client.disconnect();
  tick(600_000);
  document.dispatchEvent(new Event("visibilitychange"));
  tick(600_000);
  assert.equal(Socket.all.length, 1, "after the end nothing is listened to");
});

test("a filter goes into the address where that can say it", (t) => {
  const { client, Socket, tick } = fakeClient(t);
  client.subscribe(["a", "b"]);
  client.unsubscribe(["b"]);
  client.subscribe(new Set(["slot_call"]));
  client.connect();
  assert.equal(Socket.last.asked("events"), "a,slot_call");
  Socket.last.accept(100);
  assert.deepEqual(Socket.last.sent, []);
  client.subscribe(["c"]);
  assert.deepEqual(Socket.last.sent, [{ action: "subscribe", events: ["c"] }]);
  Socket.last.end();
  tick(500);
  assert.equal(Socket.last.asked("events"), "a,slot_call,c");
});

test("a filter that an address cannot say is sent at the start of each connection", (t) => {
  const long = Array.from({ length: 128 }, (_, place) => `${place}`.padStart(64, "n"));
  const cases = [
    [(client) => client.unsubscribe(["a"]), [{ action: "unsubscribe", events: ["a"] }]],
    [(client) => client.subscribe([]), [{ action: "subscribe", events: [] }]],
    [(client) => client.subscribe(["a,b"]), [{ action: "subscribe", events: ["a,b"] }]],
    [(client) => client.subscribe(long), [{ action: "subscribe", events: long }]],
    [(client) => (client.subscribe(["a"]), client.subscribeAll()), []],
  ];
  for (const [change, messages] of cases) {
    const { client, Socket, tick } = fakeClient(t);
    change(client);
    client.connect();
    for (let connection = 0; connection < 2; connection += 1) {
      assert.equal(Socket.last.asked("events"), null);
      Socket.last.accept(100);
      assert.deepEqual(Socket.last.sent, messages);
      Socket.last.end();
      tick(1_000);
    }
    client.disconnect();
    t.mock.timers.reset();
    t.mock.restoreAll();
  }
});

test("a filter that changes while a connection is made holds on it", (t) => {
  const { client, Socket } = fakeClient(t);
  client.subscribe(["a"]);
  client.connect();
  client.unsubscribe(["a"]);
  client.subscribe(["b"]);
  Socket.last.accept(100);
  assert.deepEqual(Socket.last.sent, [{ action: "subscribe_all" }, { action: "subscribe", events: ["b"] }]);
});

test("events that a filter leaves out are not told of, but move the position", (t) => {
  const { client, Socket, events } = fakeClient(t);
  client.subscribe(["a", "slot_call"]);
  client.connect();
  Socket.last.accept(100);
  const call = { event: { event_type: "slot_call" } };
  Socket.last.say(event(101, "b"), event(102, "a"), event(103, "execution_event", call), event(104, "execution_event"));
  assert.deepEqual(events.map(({ stream_seq }) => stream_seq), [102, 103]);
  assert.equal(client.position, 104);
  client.subscribeAll();
  client.unsubscribe(["b"]);
  Socket.last.say(event(105, "b"), event(106, "c"));
  assert.deepEqual(events.map(({ stream_seq }) => stream_seq), [102, 103, 106]);
});

test("what no daemon accepts is refused here, and changes nothing", (t) => {
  const { client, Socket } = fakeClient(t);
  const many = Array.from({ length: 129 }, (_, place) => `n${place}`);
  for (const wrong of ["job_failed", undefined, null, 7, [7], ["ä".repeat(33)], many]) {
    assert.throws(() => client.subscribe(wrong), /events must be a list|at most 128/);
    assert.throws(() => client.unsubscribe(wrong), /events must be a list|at most 128/);
  }
  client.connect();
  Socket.last.accept(100);
  assert.deepEqual(Socket.last.sent, []);
});

test("messages that cannot be used are told of, and what follows them is not lost", (t) => {
  const { client, Socket, told, numbers } = fakeClient(t);
  client.connect();
  Socket.last.accept(100);
  const cases = [
    ["{", "not JSON"],
    ["", "not JSON"],
    [new ArrayBuffer(3), "not text"],
    ["[]", "not an object"],
    ["null", "not an object"],
    ["7", "not an object"],
    ["{}", "no type"],
    ['{"type":7}', "no type"],
    ['{"type":""}', "no type"],
    ['{"type":"x","stream_seq":"101"}', "stream_seq is not valid"],
    ['{"type":"x","stream_seq":1.5}', "stream_seq is not valid"],
    ['{"type":"x","stream_seq":9007199254740993}', "stream_seq is not valid"],
    ['{"type":"x","stream_seq":101,"job_id":7}', "job_id is not valid"],
    ['{"type":"ping","stream_seq":null}', "stream_seq is not valid"],
    ['{"type":"connection:status"}', "status is not valid"],
    ['{"type":"connection:status","status":"disconnected","retry_after_ms":-1}', "retry_after_ms is not valid"],
    ['{"type":"stream:gap","from":1}', "to is not valid"],
    ['{"type":"error","code":1,"message":""}', "code is not valid"],
    ['{"type":"subscription:confirmed","action":"subscribe","events":[1]}', "events is not valid"],
  ];
  for (const [data] of cases) Socket.last.sayRaw(data);
  assert.deepEqual(told("invalid").map(({ problem }) => problem), cases.map(([, problem]) => problem));
  Socket.last.sayRaw(`{"type":"${"x".repeat(1_000)}`);
  assert.equal(told("invalid").at(-1).text.length, 200);
  Socket.last.sayRaw('{"__proto__":{"polluted":1},"type":"x","stream_seq":101,"job_id":null}');
  assert.equal({}.polluted, undefined);
  assert.deepEqual(numbers(), [101]);
});

test("a message has its own text, which no loop over its members sees", (t) => {
  const { client, Socket, events } = fakeClient(t);
  const heard = [];
  client.addEventListener("x", (told) => heard.push(told.text));
  client.on("ping", (ping) => heard.push(textOf(ping)));
  client.connect();
  Socket.last.accept(100);
  const texts = [
    '{"stream_seq":101,"type":"x","job_id":"j","n":[9007199254740993,1e400,1.0,-0,0.10], "a" : "\\u00e4\\/"}',
    '{"stream_seq":102,"type":"x","job_id":"j","toString":1,"__proto__":2,"constructor":3,"text":4}',
  ];
  for (const text of texts) Socket.last.sayRaw(text);
  Socket.last.sayRaw('{"type":"ping","timestamp":"t"}');
  assert.deepEqual(events.map(textOf), texts);
  assert.deepEqual(heard, [...texts, '{"type":"ping","timestamp":"t"}']);
  assert.equal(JSON.stringify(events[0]), JSON.stringify(JSON.parse(texts[0])));
  assert.deepEqual(Reflect.ownKeys(events[0]).filter((key) => Object.propertyIsEnumerable.call(events[0], key)).length, 5);
  for (const foreign of [null, undefined, 7, "text", {}, [], JSON.parse(texts[1])]) assert.equal(textOf(foreign), null);
});

test("foreign values are told of as they are, and one event that cannot be used costs itself", (t) => {
  const { client, Socket, events, told } = fakeClient(t, {}, JOB);
  client.connect();
  Socket.last.accept(100);
  const strange = { toString: 1, valueOf: 1, then: 1, event: "execution", constructor: 1, hasOwnProperty: 1 };
  const types = ["constructor", "toString", "__proto__", "hasOwnProperty", "then", "x"];
  types.forEach((type, place) => Socket.last.say({ ...event(101 + place, type), ...strange, timestamp: strange, data: strange }));
  Socket.last.say(event(107, "execution_event", { event: null }), event(108, "execution_event", { event: { event_type: strange } }));
  Socket.last.say({ ...event(109), job_id: { toString: 1 } });
  Socket.last.say({ type: "metrics", job_id: "j", metrics: strange }, event(110));
  assert.deepEqual(events.map(({ type }) => type), [...types, "execution_event", "execution_event", "metrics", "x"]);
  assert.equal(told("invalid").length, 1);
  client.subscribe(["constructor"]);
  Socket.last.say(event(111, "constructor"), event(112, "toString"));
  assert.equal(events.at(-1).stream_seq, 111);
});

test("a job of dots is asked for in a message, and told of as others are", (t) => {
  const { client, Socket, events, numbers, told, tick } = fakeClient(t, { since: -3 }, jobUrl("ws://h:1", ".."));
  client.subscribe(["slot_call", "x"]);
  client.connect();
  assert.equal(Socket.last.url.href, "ws://h:1/api/v1/websocket?job_id=..&events=slot_call,x");
  Socket.last.accept();
  assert.deepEqual(Socket.last.sent, [{ type: "subscribe", job_id: "..", since: "-3" }]);
  Socket.last.say({ type: "connected", message: "", stream_seq: 100 }, { type: "ping", stream_seq: 100 });
  assert.equal(client.position, null, "it is not subscribed yet");
  Socket.last.say({ type: "subscribed", job_id: "..", subscriber_id: "0-1", stream_seq: 100 });
  const inner = { event_type: "slot_call", event_id: "e", routine_id: "r", data: { slot_name: "s" } };
  const data = { slot_name: "s", routine_id: "r", event_id: "e" };
  Socket.last.say({ ...event(90, "slot_called"), job_id: "..", event: inner, data }, { ...event(95), job_id: "..", data: {} });
  Socket.last.say({ ...event(96, "slot_called"), job_id: "..", data: {} });
  assert.deepEqual(events, [{ ...event(90, "execution_event"), job_id: "..", event: inner }, { ...event(95), job_id: "..", data: {} }]);
  Socket.last.say({ type: "ping", stream_seq: 100 });
  Socket.last.end();
  tick(500);
  Socket.last.accept();
  assert.deepEqual(Socket.last.sent, [{ type: "subscribe", job_id: "..", since: "100" }]);
  Socket.last.say({ type: "subscribed", job_id: "..", subscriber_id: "0-1", stream_seq: 200 }, { ...event(101), job_id: ".." });
  assert.deepEqual(numbers(), [90, 95, 101]);
  Socket.last.end();
  tick(1_000);
  Socket.last.accept();
  Socket.last.say({ type: "error", code: "forbidden", message: "not this one", job_id: ".." });
  assert.deepEqual(told("error").at(-1), { code: "forbidden", message: "not this one", fatal: true });
  assert.equal(client.state, "closed");
});

test("each message is told of under its type, to both kinds of listeners", (t) => {
  const { client, Socket, events } = fakeClient(t);
  const heard = [];
  client.addEventListener("job_failed", (told) => heard.push(told));
  const off = client.on("job_failed", (failed) => heard.push(failed));
  for (const type of ["connection:status", "ping", "pong", "subscription:confirmed"]) client.on(type, () => heard.push(type));
  client.connect();
  Socket.last.accept(100);
  const failed = event(101, "job_failed", { data: { error: "bad" } });
  Socket.last.say(failed, { type: "ping" }, { type: "pong" });
  Socket.last.say({ type: "subscription:confirmed", action: "subscribe_all", events: [] });
  const [status, told, detail, ...rest] = heard;
  assert.equal(status, "connection:status");
  assert.ok(told instanceof LuxcastEvent && told.target === client);
  assert.deepEqual([told.detail, detail], [failed, failed]);
  assert.deepEqual(rest, ["ping", "pong", "subscription:confirmed"]);
  off();
  Socket.last.say(event(102, "job_failed"));
  assert.equal(heard.length, 7, "one of the two is left");
  Socket.last.say({ type: "metrics", job_id: "j", metrics: {} });
  assert.deepEqual(events.map(({ type }) => type), ["job_failed", "job_failed", "metrics"]);
});

test("a publisher's event cannot pass for one of the client's own", (t) => {
  const { client, Socket, notes, events } = fakeClient(t);
  client.connect();
  Socket.last.accept(100);
  const before = notes.length;
  const types = ["connected", "disconnected", "reconnecting", "error", "invalid", "event"];
  Socket.last.say(...types.map((type, place) => event(101 + place, type, { fatal: true })));
  assert.equal(notes.length, before);
  assert.deepEqual(events.map(({ type }) => type), types);
});

test("an error of the daemon is told of and ends nothing", (t) => {
  const { client, Socket, told } = fakeClient(t);
  client.connect();
  Socket.last.accept(100);
  Socket.last.say({ type: "error", code: "bad_events", message: "no list" });
  assert.deepEqual(told("error"), [{ type: "error", code: "bad_events", message: "no list", fatal: false }]);
  assert.equal(client.state, "open");
});

test("the published remedy for a stale connection, disconnect and connect, loses nothing", (t) => {
  const { client, Socket, numbers } = fakeClient(t);
  client.on("x", ({ stream_seq }) => {
    if (stream_seq !== 101) return;
    client.disconnect();
    client.connect();
  });
  client.connect();
  Socket.last.accept(100);
  const first = Socket.last;
  first.say(event(101), event(102));
  assert.equal(Socket.last.asked("since"), "101");
  Socket.last.accept(102);
  Socket.last.say(event(102));
  assert.deepEqual(numbers(), [101, 102]);
  assert.equal(first.closedWith, 1000);
});

test("a listener that connects anew on each failure does not make it spin", async (t) => {
  const { client, Socket, tick } = fakeClient(t);
  client.on("error", () => client.connect());
  client.on("reconnecting", () => client.connect());
  client.connect();
  for (let millis = 0; millis < 3_000; millis += 10) {
    if (Socket.last.readyState === 0) Socket.last.end();
    await settle();
    tick(10);
  }
  assert.ok(Socket.all.length <= 6, `${Socket.all.length}`);
});

test("connect() twice is one connection", (t) => {
  const { client, Socket } = fakeClient(t);
  client.connect();
  client.connect();
  Socket.last.accept(100);
  client.connect();
  assert.equal(Socket.all.length, 1);
});

test("a signal ends it, wherever it is", (t) => {
  for (const reach of [() => {}, (socket) => socket.accept(100), (socket) => socket.end()]) {
    const stop = new AbortController();
    const { client, Socket, told, tick } = fakeClient(t, { signal: stop.signal });
    client.connect();
    reach(Socket.last);
    stop.abort();
    assert.equal(client.state, "closed");
    assert.equal(told("disconnected").at(-1).willReconnect, false);
    tick(600_000);
    assert.equal(Socket.all.length, 1);
    assert.throws(() => client.connect(), { name: "AbortError" });
    t.mock.timers.reset();
    t.mock.restoreAll();
  }
});

test("a WebSocket that cannot be made is fatal", (t) => {
  const secret = "s3cret";
  class Socket {
    constructor(url) {
      throw new SyntaxError(`cannot open ${url}`);
    }
  }
  const { client, told } = fakeClient(t, { WebSocket: Socket, token: secret });
  client.connect();
  assert.deepEqual(told("error"), [
    { code: "no_socket", message: "the WebSocket cannot be made: SyntaxError", fatal: true },
  ]);
  assert.equal(client.state, "closed");
});

test("where one is needed and there is none, the error says what to do", () => {
  assert.equal(globalThis.WebSocket, undefined, "Node 20 has none");
  for (const [url, options] of [["ws://h/api/ws/events", { transport: "websocket" }], [jobUrl("ws://h", ".."), {}]]) {
    assert.throws(() => new LuxcastClient(url, options), /option WebSocket/);
  }
});
