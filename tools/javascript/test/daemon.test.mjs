// The client on the real daemon, which is killed, drained, stopped and cut off: what it tells is compared with what was
// published.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import WebSocket from "ws";

import { LuxcastClient, allUrl, debugUrl, flowUrl, jobUrl } from "../luxcast.js";
import { Daemon, Publisher, until } from "./harness/daemon.js";
import { Front } from "./harness/front.js";
import { assertExact, lines, range, watch } from "./harness/watch.js";

/** Sockets that the test can cut. */
function cuttable() {
  const open = [];
  class Cuttable extends WebSocket {
    constructor(...rest) {
      super(...rest);
      open.push(this);
    }
  }
  return { Cuttable, cut: () => open.at(-1).terminate() };
}

test("an address of the live page watches what the page shows", async (t) => {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  const page = `http://${daemon.address}/console/`;
  const job = watch(t, `${page}#job=plain`);
  const all = watch(t, page);
  for (const watcher of [job, all]) await watcher.connections(1);
  publisher.publish({ type: "a", job_id: "other", n: 1 }, { type: "b", job_id: "plain", n: 2 });
  for (const watcher of [job, all]) await watcher.has(2);
  assert.deepEqual(job.events().map((event) => event.n), [2]);
  assert.deepEqual(all.events().map((event) => event.n), [1, 2]);
  for (const watcher of [job, all]) assert.deepEqual(watcher.told("error"), []);
  publisher.close();
});

const RUN = 20_000;

test("kill -9 in the middle: nothing twice, no hole without a gap, and all of the next run", async (t) => {
  const daemon = await Daemon.start(t);
  const watched = watch(t, jobUrl(daemon.base, "j"));
  await watched.connections(1);
  const first = await Publisher.start(daemon);
  for (let n = 1; n <= RUN; n += 100) first.publish(...lines(n, n + 99));
  await watched.has(RUN / 4);
  await daemon.kill();
  first.close();
  await daemon.start();
  const second = await Publisher.start(daemon);
  second.publish(...lines(RUN + 1, RUN + 2_000));
  await second.taken();
  await watched.connections(2);
  second.publish(...lines(RUN + 2_001, RUN + 3_000));
  await watched.has(RUN + 3_000);
  const numbers = watched.events().map(({ n }) => n);
  assert.deepEqual(numbers.filter((n) => n > RUN), range(RUN + 1, RUN + 3_000), "the next run is whole");
  assertExact(watched.story, range(1, RUN + 3_000), true);
  assert.deepEqual(watched.gaps().map(({ reason }) => reason), ["restart"]);
  assert.equal(watched.client.duplicates, 0);
});

test("a drain and a restart with its state: the client waits as it is told, and misses nothing", async (t) => {
  const state = join("/tmp", `luxcast-js-state-${process.pid}`);
  const daemon = await Daemon.start(t, "--state-dir", state);
  t.after(async () => rmSync(state, { recursive: true, force: true }));
  const watched = watch(t, jobUrl(daemon.base, "j"));
  const odd = watch(t, jobUrl(daemon.base, "j"), {}, (client) => client.subscribe(["odd"]));
  await Promise.all([watched.connections(1), odd.connections(1)]);
  const publisher = await Publisher.start(daemon);
  publisher.publish(...lines(1, RUN));
  await watched.has(RUN / 4);
  await daemon.stop();
  publisher.publish(...lines(RUN + 1, RUN + 1_000));
  await daemon.start();
  await publisher.connect();
  await publisher.taken();
  await Promise.all([watched.has(RUN + 1_000), odd.has(RUN + 999)]);
  assertExact(watched.story, range(1, RUN + 1_000));
  assertExact(odd.story, range(1, RUN + 1_000).filter((n) => n % 2 === 1));
  for (const { told } of [watched, odd]) {
    const { retry_after_ms: asked } = told("connection:status").find(({ status }) => status === "disconnected");
    assert.ok(told("reconnecting")[0].delayMs >= asked);
    assert.equal(told("disconnected")[0].code, 1012);
    assert.equal(told("connected").length, 2);
  }
});

test("cut off again and again while events flow: each comes once, through every kind of filter", async (t) => {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  const filters = [
    [() => {}, () => true],
    [(client) => client.subscribe(["even"]), (n) => n % 2 === 0],
    [(client) => client.unsubscribe(["even"]), (n) => n % 2 === 1],
    [(client) => client.subscribe(["odd", "a name,that no address can say"]), (n) => n % 2 === 1],
  ];
  const urls = [allUrl, (base) => jobUrl(base, "j"), (base) => flowUrl(base, "f"), (base) => jobUrl(base, "j")];
  const watchers = filters.map(([prepare], place) => {
    const { Cuttable, cut } = cuttable();
    return { cut, ...watch(t, urls[place](daemon.base), { WebSocket: Cuttable, since: "start" }, prepare) };
  });
  await Promise.all(watchers.map((watched) => watched.connections(1)));
  const cuts = 4;
  const batches = 15;
  const publish = async (round) => {
    for (let batch = 0; batch < batches; batch += 1) {
      const n = (round * batches + batch) * 1_000;
      publisher.publish(...lines(n + 1, n + 1_000, { flow_id: "f" }));
      await sleep(2);
      if (batch === 7) watchers.forEach(({ cut }) => cut());
    }
  };
  for (let round = 0; round < cuts; round += 1) {
    await publish(round);
    // They wait longer each time; whoever asks need not.
    for (const { client } of watchers) client.connect();
    await Promise.all(watchers.map((watched) => watched.connections(round + 2)));
  }
  const last = cuts * batches * 1_000;
  await publisher.taken();
  await Promise.all(watchers.map(({ has }) => has(last - 1)));
  await until("the last one", () => watchers[0].events().at(-1).n === last && watchers[1].events().at(-1).n === last);
  for (const [place, watched] of watchers.entries()) {
    assertExact(watched.story, range(1, last).filter(filters[place][1]));
    assert.equal(watched.gaps().length, 0);
    assert.equal(watched.client.duplicates, 0);
    assert.equal(watched.told("connected").length, cuts + 1);
  }
});

test("a history that is too small shows as a gap, with what is kept behind it", async (t) => {
  const daemon = await Daemon.start(t, "--history-bytes", "65536", "--line-bytes-max", "8192");
  const { Cuttable, cut } = cuttable();
  const publisher = await Publisher.start(daemon);
  const watched = watch(t, jobUrl(daemon.base, "j"), { WebSocket: Cuttable });
  await watched.connections(1);
  publisher.publish(...lines(1, 10));
  await watched.has(10);
  cut();
  publisher.publish(...lines(11, 5_000));
  await publisher.taken();
  await watched.has(5_000);
  assertExact(watched.story, range(1, 5_000), true);
  assert.deepEqual(watched.gaps().map(({ reason }) => reason), ["expired"]);
});

test("a daemon that is stopped is noticed within its heartbeats, and nothing is lost by that", async (t) => {
  const daemon = await Daemon.start(t, "--heartbeat-seconds", "0.2", "--silent-heartbeats", "1000");
  t.after(() => daemon.signal("SIGCONT"));
  const watched = watch(t, jobUrl(daemon.base, "j"));
  const pings = [];
  watched.client.on("ping", (ping) => pings.push(ping));
  await watched.connections(1);
  const publisher = await Publisher.start(daemon);
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

test("a filter may change at any time, and holds from its confirmation on", async (t) => {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  const watched = watch(t, jobUrl(daemon.base, "j"));
  const { client, told } = watched;
  await watched.connections(1);
  const change = async (action, list) => {
    const before = told("subscription:confirmed").length;
    client[action](list);
    await until(`${action} to be confirmed`, () => told("subscription:confirmed").length > before);
  };
  await change("subscribe", ["odd"]);
  publisher.publish(...lines(1, 10));
  await publisher.taken();
  await change("subscribe", ["even"]);
  publisher.publish(...lines(11, 20));
  await publisher.taken();
  await change("unsubscribe", ["even"]);
  publisher.publish(...lines(21, 30));
  await publisher.taken();
  await change("subscribeAll");
  publisher.publish(...lines(31, 40));
  await watched.has(40);
  const wanted = (n) => n % 2 === 1 || (n > 10 && n <= 20) || n > 30;
  assert.deepEqual(watched.events().map(({ n }) => n), range(1, 40).filter(wanted));
  assert.deepEqual(told("subscription:confirmed").map(({ action }) => action), ["subscribe", "subscribe", "unsubscribe", "subscribe_all"]);
});

test("the snapshot, the debug set and inner types come as they do to everybody", async (t) => {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  const call = { type: "execution_event", job_id: "j", event: { event_type: "slot_call" } };
  publisher.publish({ type: "job_started", job_id: "j", n: 1 }, call, { type: "custom", job_id: "j", n: 3 });
  await publisher.taken();
  const monitor = watch(t, jobUrl(daemon.base, "j"), { since: -1 });
  const debug = watch(t, debugUrl(daemon.base, "j"), { since: "start" });
  const inner = watch(t, jobUrl(daemon.base, "j"), { since: "start" }, (client) => client.subscribe(["slot_call"]));
  await until("the events", () => monitor.story.length >= 2 && debug.story.length >= 2 && inner.story.length >= 1);
  assert.deepEqual(monitor.story.map(({ type }) => type), ["metrics", "custom"]);
  assert.equal(monitor.story[0].metrics.total_events, 3);
  assert.deepEqual(debug.story.map(({ type }) => type), ["job_started", "execution_event"]);
  assert.deepEqual(inner.story.map(({ type }) => type), ["execution_event"]);
});

test("no token, a wrong one and one for something else end it with the daemon's own words", async (t) => {
  const directory = mkdtempSync("/tmp/luxcast-js-token-");
  t.after(async () => rmSync(directory, { recursive: true }));
  const file = join(directory, "tokens");
  writeFileSync(file, "s3cret jobs=j*\n", { mode: 0o600 });
  const daemon = await Daemon.start(t, "--token-file", file);
  const isOver = ({ client }) => until("the end", () => client.state === "closed");
  for (const [url, token, status, code] of [
    [jobUrl(daemon.base, "j"), undefined, 401, "unauthorized"],
    [jobUrl(daemon.base, "j"), "wrong-s3cret", 401, "unauthorized"],
    [allUrl(daemon.base), "s3cret", 403, "forbidden_scope"],
    [debugUrl(daemon.base, "j"), "s3cret", 403, "forbidden_scope"],
    [`${jobUrl(daemon.base, "j")}?token=wrong-s3cret`, undefined, 401, "unauthorized"],
    [jobUrl(daemon.base, ".."), "wrong-s3cret", 401, "unauthorized"],
    [jobUrl(daemon.base, ".."), "s3cret", undefined, "forbidden"],
  ]) {
    const refused = watch(t, url, { token });
    await isOver(refused);
    const error = refused.told("error").at(-1);
    assert.deepEqual([error.fatal, error.status, error.code], [true, status, code]);
    assert.ok(!JSON.stringify(refused.notes).includes("s3cret"));
  }
  const allowed = watch(t, jobUrl(daemon.base, "j"), { token: "s3cret" });
  await allowed.connections(1);
  writeFileSync(file, "another jobs=j*\n", { mode: 0o600 });
  daemon.signal("SIGHUP");
  await isOver(allowed);
  assert.deepEqual(allowed.told("error").at(-1), { code: "policy", message: "the token is not valid any more", fatal: true });
  allowed.client.token = "another";
  allowed.client.connect();
  await allowed.connections(2);
  assert.ok(!daemon.stderr.includes("s3cret"));
});

test("a token that is replaced is asked for anew, and nothing is lost by that", async (t) => {
  const directory = mkdtempSync("/tmp/luxcast-js-token-");
  t.after(async () => rmSync(directory, { recursive: true }));
  const file = join(directory, "tokens");
  const replace = (token) => writeFileSync(file, `${token} jobs=j*\n`, { mode: 0o600 });
  replace("first");
  const daemon = await Daemon.start(t, "--token-file", file);
  const publisher = await Publisher.start(daemon);
  let token = "first";
  const watched = watch(t, jobUrl(daemon.base, "j"), { getToken: async () => token });
  await watched.connections(1);
  publisher.publish(...lines(1, 100));
  await watched.has(100);
  replace("second");
  daemon.signal("SIGHUP");
  // Whoever gives the tokens is late.
  await until("the old one to be declined", () => watched.told("error").some(({ code }) => code === "unauthorized"));
  publisher.publish(...lines(101, 200));
  token = "second";
  await watched.connections(2);
  await watched.has(200);
  assertExact(watched.story, range(1, 200));
  assert.equal(watched.told("disconnected")[0].code, 1008);
  assert.ok(watched.told("error").every(({ fatal }) => !fatal));
});

test("a proxy that answers itself, as during a deployment, ends nothing", async (t) => {
  const daemon = await Daemon.start(t);
  const front = await Front.start(t, daemon);
  const publisher = await Publisher.start(daemon);
  const watched = watch(t, jobUrl(`ws://${front.address}`, "j"));
  await watched.connections(1);
  publisher.publish(...lines(1, 10));
  await watched.has(10);
  const html = { fields: { "Content-Type": "text/html" }, body: "<h1>404 Not Found</h1>" };
  const login = { fields: { Location: "https://login.example/" }, body: "" };
  const answers = [{ status: 404, ...html }, { status: 401, ...html }, { status: 403, ...html }, { status: 302, ...login }];
  front.answer = answers[0];
  front.cut();
  for (const [place, answer] of answers.entries()) {
    front.answer = answer;
    const proxies = () => watched.told("error").filter(({ code }) => code === "proxy_answered");
    await until(`answer ${place}`, () => {
      watched.client.connect();
      return proxies().some(({ status }) => status === answer.status);
    });
    assert.ok(proxies().every(({ fatal, message }) => !fatal && message.startsWith("a proxy answered")));
  }
  publisher.publish(...lines(11, 20));
  front.answer = null;
  await watched.has(20);
  assertExact(watched.story, range(1, 20));
});

test("a job of dots is watched across a connection that is cut", async (t) => {
  const daemon = await Daemon.start(t);
  const { Cuttable, cut } = cuttable();
  const publisher = await Publisher.start(daemon);
  publisher.publish(...lines(1, 100, { job_id: ".." }));
  await publisher.taken();
  const watched = watch(t, jobUrl(daemon.base, ".."), { WebSocket: Cuttable, since: "start" });
  const odd = watch(t, jobUrl(daemon.base, ".."), { since: -10 }, (client) => client.subscribe(["odd"]));
  await Promise.all([watched.has(100), odd.has(99)]);
  cut();
  publisher.publish(...lines(101, 200, { job_id: ".." }), ...lines(201, 300, { job_id: "." }));
  await Promise.all([watched.has(200), odd.has(199)]);
  assertExact(watched.story, range(1, 200));
  assertExact(odd.story, range(81, 200).filter((n) => n % 2 === 1));
  assert.equal(watched.client.duplicates, 0);
});

test("a loop over events gets the past of a real daemon", async (t) => {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  publisher.publish(...lines(1, 5));
  await publisher.taken();
  const seen = [];
  for await (const event of new LuxcastClient(jobUrl(daemon.base, "j"), { WebSocket, since: "start" })) {
    if (event.n !== undefined) seen.push(event.n);
    if (event.n === 5) break;
  }
  assert.deepEqual(seen, range(1, 5));
});
