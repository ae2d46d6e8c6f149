// The client on the real daemon behind what lets no WebSocket through: refuses it, swallows it, cuts or holds back streams.
// What it tells is compared with what was published.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { allUrl, debugUrl, jobUrl, textOf } from "../luxcast.js";
import { Daemon, Publisher, until } from "./harness/daemon.js";
import { Front } from "./harness/front.js";
import { assertExact, lines, range, watch } from "./harness/watch.js";

/** Events of real runs, as they are. */
const CORPUS = readFileSync(new URL("../../../tests/fixtures/events.ndjson", import.meta.url), "utf8").trim().split("\n");

const REFUSED = { status: 502, fields: { "Content-Type": "text/html" }, body: "<h1>502 Bad Gateway</h1>" };
const refusedWith = (status, body) => ({ ...REFUSED, status, body });

/** A daemon, and a front that lets no WebSocket through. */
async function behind(t, upgrades = REFUSED, ...flags) {
  const daemon = await Daemon.start(t, ...flags);
  const front = await Front.start(t, daemon);
  front.upgrades = upgrades;
  return { daemon, front, base: `ws://${front.address}`, publisher: await Publisher.start(daemon) };
}

/** Waits until the client has this transport, without the waits between its attempts. */
async function reach({ client }, transport) {
  await until(transport, () => {
    if (client.state === "waiting") client.connect();
    return client.transport === transport;
  });
}

/** The events as the publisher wrote them. */
function written(watched) {
  return watched.events().map((event) => textOf(event).replace(/^\{"stream_seq":\d+,/, "{"));
}

const MIDDLEBOXES = [
  ["is asked for without an upgrade", "strip"],
  ["is answered with a page", refusedWith(200, "<h1>Welcome</h1>")],
  ["is a bad request", refusedWith(400, "")],
  ["is forbidden", refusedWith(403, "<h1>403 Forbidden</h1>")],
  ["is wanted otherwise", refusedWith(426, "Upgrade Required")],
  ["is a bad gateway", REFUSED],
  ["is closed before it opens", "close"],
  ["opens and brings nothing", "swallow"],
];

for (const [what, upgrades] of MIDDLEBOXES) {
  test(`where a WebSocket ${what}, all comes once over HTTP`, async (t) => {
    const { base, publisher } = await behind(t, upgrades);
    const half = CORPUS.length / 2;
    publisher.publishTexts(...CORPUS.slice(0, half));
    await publisher.taken();
    const watched = watch(t, allUrl(base), { since: "start" });
    await until("the first half", () => watched.events().length >= Math.floor(half));
    assert.equal(watched.client.transport, "http");
    publisher.publishTexts(...CORPUS.slice(half));
    await until("the corpus", () => watched.events().length >= CORPUS.length);
    assert.deepEqual(written(watched), CORPUS);
    assert.deepEqual([watched.client.duplicates, watched.gaps().length, watched.told("invalid").length], [0, 0, 0]);
    assert.deepEqual(watched.told("connected"), [{ isFirst: true, transport: "http" }]);
    const code = upgrades === "swallow" ? "held_back" : "not_connected";
    assert.ok(watched.told("error").every((error) => !error.fatal && error.code === code));
  });
}

test("a WebSocket that goes mute behind its first message is left for HTTP", async (t) => {
  const { base, publisher } = await behind(t, "mute", "--heartbeat-seconds", "0.2");
  const watched = watch(t, jobUrl(base, "j"), { heartbeatMs: 200 });
  await watched.connections(1);
  assert.equal(watched.client.transport, "websocket");
  publisher.publish(...lines(1, 100));
  await watched.has(100);
  assert.equal(watched.client.transport, "http");
  assertExact(watched.story, range(1, 100));
});

test("every stream is cut, of either kind, and the corpus comes once", async (t) => {
  const { base, front, publisher } = await behind(t, "pass");
  publisher.publishTexts(...CORPUS);
  await publisher.taken();
  // Compressed, all of it is 300 KB.
  for (const [transport, cutAfter] of [["websocket", 50_000], ["http", 400_000]]) {
    front.cutAfter = cutAfter;
    const watched = watch(t, allUrl(base), { since: "start", transport });
    await until("the corpus", () => {
      if (watched.client.state === "waiting") watched.client.connect();
      return watched.events().length >= CORPUS.length;
    });
    assert.deepEqual(written(watched), CORPUS);
    assert.ok(watched.told("connected").length > 4);
    assert.ok(watched.told("disconnected").every(({ code }) => code === 1006));
    assert.deepEqual([watched.client.duplicates, watched.gaps().length], [0, 0]);
  }
});

test("from one transport to the other and back while events flow: each comes once, through every kind of filter", async (t) => {
  const { base, front, publisher } = await behind(t);
  const filters = [
    [() => {}, () => true],
    [(client) => client.subscribe(["even"]), (n) => n % 2 === 0],
    [(client) => client.unsubscribe(["even"]), (n) => n % 2 === 1],
  ];
  const all = filters.map(([prepare]) => watch(t, jobUrl(base, "j"), { since: "start", webSocketRetryMs: 100 }, prepare));
  let last = 0;
  let isOver = false;
  const feed = (async () => {
    while (!isOver) {
      publisher.publish(...lines(last + 1, last + 100));
      last += 100;
      // Node inflates each message in a thread of its own, and has to keep up.
      await sleep(20);
    }
  })();
  for (let round = 0; round < 4; round += 1) {
    await Promise.all(all.map((watched) => reach(watched, "http")));
    front.upgrades = "pass";
    await Promise.all(all.map((watched) => reach(watched, "websocket")));
    if (round === 3) break;
    front.upgrades = round % 2 === 0 ? "close" : "strip";
    front.cut();
  }
  isOver = true;
  await feed;
  await publisher.taken();
  for (const [place, watched] of all.entries()) {
    await watched.has(last - 1);
    const expected = range(1, last).filter(filters[place][1]);
    await until("the last one", () => watched.events().at(-1).n === expected.at(-1));
    assertExact(watched.story, expected);
    assert.deepEqual([watched.client.duplicates, watched.gaps().length], [0, 0]);
  }
});

test("a WebSocket takes over without a word of a disconnection, and the daemon has one watcher then", async (t) => {
  const { base, daemon, front, publisher } = await behind(t);
  const watched = watch(t, jobUrl(base, "j"), { webSocketRetryMs: 100 });
  await watched.connections(1);
  publisher.publish(...lines(1, 10));
  await watched.has(10);
  front.upgrades = "pass";
  await reach(watched, "websocket");
  publisher.publish(...lines(11, 20));
  await watched.has(20);
  assertExact(watched.story, range(1, 20));
  assert.deepEqual(watched.told("connected"), [{ isFirst: true, transport: "http" }, { isFirst: false, transport: "websocket" }]);
  assert.deepEqual(watched.told("disconnected"), []);
  // It makes these figures once a second at most.
  let watchers;
  do {
    const answer = await fetch(`http://${daemon.address}/console/daemon`);
    watchers = Object.values((await answer.json()).watchers).reduce((sum, number) => sum + number);
  } while (watchers !== 1);
});

test("a drain and a restart with its state are as over a WebSocket", async (t) => {
  const state = join("/tmp", `luxcast-js-http-${process.pid}`);
  t.after(() => rmSync(state, { recursive: true, force: true }));
  const { base, daemon, publisher } = await behind(t, REFUSED, "--state-dir", state);
  const watched = watch(t, jobUrl(base, "j"));
  await watched.connections(1);
  publisher.publish(...lines(1, 5_000));
  await watched.has(1_000);
  await daemon.stop();
  publisher.publish(...lines(5_001, 6_000));
  await daemon.start();
  await publisher.connect();
  await watched.has(6_000);
  assertExact(watched.story, range(1, 6_000));
  const { retry_after_ms: asked } = watched.told("connection:status").find(({ status }) => status === "disconnected");
  assert.ok(watched.told("reconnecting").at(-1).delayMs >= asked);
  assert.equal(watched.told("disconnected")[0].code, 1012);
  assert.equal(watched.client.transport, "http");
});

test("kill -9 is a cut: nothing twice, no hole without a gap, and all of the next run", async (t) => {
  const { base, daemon, publisher } = await behind(t);
  const watched = watch(t, jobUrl(base, "j"));
  await watched.connections(1);
  publisher.publish(...lines(1, 2_000));
  await watched.has(500);
  await daemon.kill();
  publisher.close();
  await daemon.start();
  const second = await Publisher.start(daemon);
  second.publish(...lines(2_001, 3_000));
  await reach(watched, "http");
  await watched.has(3_000);
  assertExact(watched.story, range(1, 3_000), true);
  assert.deepEqual(watched.gaps().map(({ reason }) => reason), ["restart"]);
});

test("a history that is too small shows as one gap, whatever the transport", async (t) => {
  const { base, front, publisher } = await behind(t, REFUSED, "--history-bytes", "65536", "--line-bytes-max", "8192");
  const watched = watch(t, jobUrl(base, "j"), { webSocketRetryMs: 100 });
  await watched.connections(1);
  publisher.publish(...lines(1, 10));
  await watched.has(10);
  front.answer = REFUSED;
  front.cut();
  publisher.publish(...lines(11, 5_000));
  await publisher.taken();
  front.answer = null;
  await reach(watched, "http");
  await watched.has(5_000);
  front.upgrades = "pass";
  await reach(watched, "websocket");
  publisher.publish(...lines(5_001, 5_010));
  await watched.has(5_010);
  assertExact(watched.story, range(1, 5_010), true);
  assert.deepEqual(watched.gaps().map(({ reason }) => reason), ["expired"]);
});

test("a filter may change at any time, and holds from its confirmation on", async (t) => {
  const { base, publisher } = await behind(t);
  const watched = watch(t, jobUrl(base, "j"));
  const { client, told } = watched;
  await watched.connections(1);
  const change = async (action, list) => {
    const before = told("subscription:confirmed").length;
    client[action](list);
    await until(`${action} to be confirmed`, () => told("subscription:confirmed").length > before);
  };
  await change("subscribe", ["odd"]);
  publisher.publish(...lines(1, 10));
  await watched.has(9);
  await change("subscribe", ["even"]);
  publisher.publish(...lines(11, 20));
  await watched.has(20);
  await change("unsubscribe", ["even"]);
  publisher.publish(...lines(21, 30));
  await watched.has(29);
  await change("subscribeAll");
  publisher.publish(...lines(31, 40));
  await watched.has(40);
  const wanted = (n) => n % 2 === 1 || (n > 10 && n <= 20) || n > 30;
  assert.deepEqual(watched.events().map(({ n }) => n), range(1, 40).filter(wanted));
  const actions = told("subscription:confirmed").map(({ action }) => action);
  assert.deepEqual(actions, ["subscribe", "subscribe", "unsubscribe", "subscribe_all"]);
  assert.deepEqual([told("connected").length, told("disconnected").length, client.duplicates], [1, 0, 0]);
});

test("filters change while events flow, and what they always let through comes once", async (t) => {
  const { base, publisher } = await behind(t);
  const watched = watch(t, jobUrl(base, "j"));
  await watched.connections(1);
  let last = 0;
  for (let round = 0; round < 20; round += 1) {
    if (round % 2 === 0) watched.client.subscribe(["odd"]);
    else watched.client.subscribeAll();
    for (let batch = 0; batch < 10; batch += 1) {
      publisher.publish(...lines(last + 1, last + 100));
      last += 100;
      await sleep(2);
    }
  }
  await publisher.taken();
  await until("the last odd one", () => watched.events().some(({ n }) => n === last - 1));
  const odd = watched.story.filter((message) => message.n === undefined || message.n % 2 === 1);
  assertExact(odd, range(1, last).filter((n) => n % 2 === 1));
  assert.deepEqual([watched.client.duplicates, watched.told("disconnected").length], [0, 0]);
});

test("no token, a wrong one and one for something else are told by the first answer over HTTP", async (t) => {
  const directory = mkdtempSync("/tmp/luxcast-js-token-");
  t.after(async () => rmSync(directory, { recursive: true }));
  const file = join(directory, "tokens");
  writeFileSync(file, "s3cret jobs=j*\n", { mode: 0o600 });
  const { base, daemon, front } = await behind(t, REFUSED, "--token-file", file);
  const isOver = ({ client }) => until("the end", () => client.state === "closed");
  for (const transport of ["auto", "http"]) {
    for (const [url, token, status, code] of [
      [jobUrl(base, "j"), undefined, 401, "unauthorized"],
      [jobUrl(base, "j"), "wrong-s3cret", 401, "unauthorized"],
      [allUrl(base), "s3cret", 403, "forbidden_scope"],
      [debugUrl(base, "j"), "s3cret", 403, "forbidden_scope"],
    ]) {
      const refused = watch(t, url, { token, transport });
      await isOver(refused);
      const error = refused.told("error").at(-1);
      assert.deepEqual([error.fatal, error.status, error.code], [true, status, code]);
      assert.ok(!JSON.stringify(refused.notes).includes("s3cret"));
    }
  }
  const allowed = watch(t, jobUrl(base, "j"), { token: "s3cret" });
  let token = "s3cret";
  const renewing = watch(t, jobUrl(base, "j"), { getToken: async () => token });
  await Promise.all([allowed.connections(1), renewing.connections(1)]);
  writeFileSync(file, "another jobs=j*\n", { mode: 0o600 });
  token = "another";
  daemon.signal("SIGHUP");
  await isOver(allowed);
  assert.deepEqual([allowed.told("error").at(-1).code, allowed.told("error").at(-1).status], ["unauthorized", 401]);
  await renewing.connections(2);
  assert.ok(renewing.told("error").every(({ fatal }) => !fatal));
  for (const { url, headers } of front.asked.filter(({ headers }) => headers.upgrade === undefined)) {
    assert.ok(!url.includes("s3cret") && !url.includes("another"), "the token goes in a field");
    assert.ok(headers.authorization === undefined || headers.authorization.startsWith("Bearer "));
  }
});

test("a proxy that answers everything itself ends nothing", async (t) => {
  const { base, front, publisher } = await behind(t);
  const watched = watch(t, jobUrl(base, "j"));
  await watched.connections(1);
  publisher.publish(...lines(1, 10));
  await watched.has(10);
  front.answer = refusedWith(200, "<h1>Log in</h1>");
  front.cut();
  await until("its answer", () => {
    watched.client.connect();
    return watched.told("error").some(({ code, status }) => code === "proxy_answered" && status === 200);
  });
  publisher.publish(...lines(11, 20));
  front.answer = null;
  await reach(watched, "http");
  await watched.has(20);
  assertExact(watched.story, range(1, 20));
});

test("a proxy that holds back streams is told of, and nothing is lost by it", async (t) => {
  const { base, front, publisher } = await behind(t);
  front.isBuffering = true;
  const watched = watch(t, jobUrl(base, "j"), { since: "start" });
  publisher.publish(...lines(1, 1_000));
  await until("the words", () => watched.told("error").some(({ message }) => message.includes("a proxy may hold it back") || message === "no answer for too long"));
  front.isBuffering = false;
  await reach(watched, "http");
  await watched.has(1_000);
  assertExact(watched.story, range(1, 1_000));
});

test("where nobody listens, one attempt costs at most two connections, at the usual distance", async (t) => {
  const opened = [];
  const nobody = createServer((socket) => {
    opened.push(performance.now());
    socket.destroy();
  });
  nobody.listen(0, "127.0.0.1");
  await once(nobody, "listening");
  t.after(() => nobody.close());
  const watched = watch(t, jobUrl(`ws://127.0.0.1:${nobody.address().port}`, "j"));
  await until("five attempts", () => watched.told("reconnecting").length === 5);
  assert.ok(opened.length <= 10, `${opened.length} connections`);
  assert.deepEqual(watched.told("reconnecting").map(({ failures }) => failures), range(1, 5));
});

test("a daemon that is stopped is noticed within its heartbeats, and nothing is lost by that", async (t) => {
  const { base, daemon, publisher } = await behind(t, REFUSED, "--heartbeat-seconds", "0.2", "--silent-heartbeats", "1000");
  t.after(() => daemon.signal("SIGCONT"));
  const watched = watch(t, jobUrl(base, "j"));
  const pings = [];
  watched.client.on("ping", (ping) => pings.push(ping));
  await watched.connections(1);
  publisher.publish(...lines(1, 100));
  await until("pings to learn from", () => pings.length >= 3 && watched.events().length === 100);
  daemon.signal("SIGSTOP");
  publisher.publish(...lines(101, 200));
  await until("the silence to be noticed", () => watched.told("disconnected").length > 0);
  assert.deepEqual(watched.told("disconnected")[0], { code: 1006, reason: "the daemon is silent", willReconnect: true });
  daemon.signal("SIGCONT");
  await watched.has(200);
  assertExact(watched.story, range(1, 200));
});

test("a line of a million bytes comes whole, beside short ones", async (t) => {
  const { base, publisher } = await behind(t);
  const watched = watch(t, jobUrl(base, "j"));
  await watched.connections(1);
  const text = "ä€😀".repeat(105_000);
  publisher.publish(...lines(1, 2), { type: "long", job_id: "j", n: 3, text }, ...lines(4, 5));
  await watched.has(5);
  assert.deepEqual(watched.events().map(({ n }) => n), range(1, 5));
  assert.equal(watched.events()[2].text, text);
});
