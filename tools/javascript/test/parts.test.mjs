// What stands around the connection: addresses, options, the token, the loop over events, the package.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";

import WebSocket, { WebSocketServer } from "ws";

import { LuxcastClient, allUrl, debugUrl, flowUrl, jobUrl } from "../luxcast.js";
import { event, fakeClient, fakeSockets, settle } from "./harness/fake.js";

const here = new URL(".", import.meta.url).pathname;

test("addresses are made of a base and an id", () => {
  assert.equal(jobUrl("ws://h:1", "a:1"), "ws://h:1/api/v1/ws/jobs/a:1/monitor");
  assert.equal(debugUrl("https://h/prefix/", "a"), "wss://h/prefix/api/v1/ws/jobs/a/debug");
  assert.equal(flowUrl(new URL("http://[::1]:9/"), "f"), "ws://[::1]:9/api/v1/ws/flows/f/monitor");
  assert.equal(allUrl("ws://h:1//"), "ws://h:1/api/v1/ws/events");
  for (const id of ["", "a/b", "a b", "ä", "x".repeat(129), undefined, 7, { toString: 1 }, { toString: () => "a" }]) {
    for (const url of [jobUrl, debugUrl, flowUrl]) assert.throws(() => url("ws://h", id), /an id is/);
  }
  for (const id of ["constructor", "__proto__", "...", ":"]) assert.ok(jobUrl("ws://h", id).endsWith(`/jobs/${id}/monitor`));
});

test("a job of dots, which no address can name, is named in a message", () => {
  assert.equal(jobUrl("ws://h:1/p", ".."), "ws://h:1/p/api/v1/websocket?job_id=..");
  assert.equal(jobUrl("ws://h:1/?x=1", "."), "ws://h:1/api/v1/websocket?x=1&job_id=.");
  for (const id of [".", ".."]) {
    for (const url of [debugUrl, flowUrl]) assert.throws(() => url("ws://h", id), /only jobUrl/);
  }
  for (const dots of [".", "..", "%2e", "%2E.", ".%2e", "%2e%2E"]) {
    for (const rest of ["monitor", "debug?since=now", "monitor#x"]) {
      const url = `ws://h/api/ws/jobs/${dots}/${rest}`;
      assert.throws(() => new LuxcastClient(url, { WebSocket: fakeSockets() }), /see jobUrl/, url);
    }
  }
});

test("an address of the live page is that of what the page shows", (t) => {
  const cases = [
    ["http://h:1/console/#job=plain", "ws://h:1/api/v1/ws/jobs/plain/monitor"],
    [new URL("http://h:1/console/#job=plain"), "ws://h:1/api/v1/ws/jobs/plain/monitor"],
    ["https://h/console/#job=a%3A1", "wss://h/api/v1/ws/jobs/a:1/monitor"],
    ["ws://h:1/live/luxcast/console#job=j", "ws://h:1/live/luxcast/api/v1/ws/jobs/j/monitor"],
    ["http://h:1/console/index.html#job=j", "ws://h:1/api/v1/ws/jobs/j/monitor"],
    ["http://h:1/#job=j", "ws://h:1/api/v1/ws/jobs/j/monitor"],
    ["https://h/live#job=j", "wss://h/live/api/v1/ws/jobs/j/monitor"],
    ["http://h:1/console/#job=..", "ws://h:1/api/v1/websocket?job_id=.."],
    ["http://h:1/console/", "ws://h:1/api/v1/ws/events"],
    ["http://h:1/console", "ws://h:1/api/v1/ws/events"],
    ["http://h:1/console/#", "ws://h:1/api/v1/ws/events"],
    ["http://h:1/console/console/", "ws://h:1/console/api/v1/ws/events"],
    ["ws://h:1/console/api/ws/events", "ws://h:1/console/api/ws/events"],
    ["ws://h:1/console/api/ws/jobs/console/monitor", "ws://h:1/console/api/ws/jobs/console/monitor"],
    ["ws://h:1/api/ws/jobs/console/monitor", "ws://h:1/api/ws/jobs/console/monitor"],
    ["ws://h:1/consoles/api/ws/events", "ws://h:1/consoles/api/ws/events"],
  ];
  for (const [url, expected] of cases) {
    assert.equal(new LuxcastClient(url, { WebSocket: fakeSockets() }).url, expected, String(url));
  }
  const { client, Socket } = fakeClient(t, {}, "http://h:1/console/?x=1&token=s%2B3&since=-10#job=j");
  client.connect();
  assert.equal(Socket.last.url.href, "ws://h:1/api/v1/ws/jobs/j/monitor?x=1&since=-10&token=s%2B3");
});

test("in a page, an address may be relative to it", (t) => {
  globalThis.location = { href: "https://h/prefix/console/", origin: "https://h" };
  t.after(() => delete globalThis.location);
  assert.equal(allUrl(".."), "wss://h/prefix/api/v1/ws/events");
});

test("what the address asks for is taken over, and the rest of it stays", (t) => {
  const url = "ws://h:1/api/ws/events?x=1&since=-10&events=a%2Cb&token=s%2B3+c&y#z";
  const { client, Socket } = fakeClient(t, {}, url);
  assert.equal(client.url, "ws://h:1/api/ws/events?x=1&y");
  client.connect();
  assert.equal(Socket.last.url.search, "?x=1&y&since=-10&events=a,b&token=s%2B3%2Bc");
});

test("options come before what the address says", (t) => {
  const { client, Socket } = fakeClient(t, { since: 7, token: "new" }, "ws://h/api/ws/events?since=start&api_key=old");
  assert.equal(client.position, 7);
  client.connect();
  assert.equal(Socket.last.url.search, "?since=7&token=new");
});

test("wrong addresses and options are clear errors that repeat no secret", () => {
  const good = "ws://h/api/ws/events";
  const cases = [
    ["s3cret", {}, /not a URL/],
    ["ftp://h/?token=s3cret", {}, /must begin with/],
    ["ws://u:s3cret@h/api/ws/events", {}, /must not contain a user/],
    [`${good}?token=s3cret&token=s3cret`, {}, /twice/],
    [`${good}?token=s3cret%`, {}, /not well-formed/],
    ["ws://h/api/v1/websocket?token=s3cret", {}, /multi-job/],
    ["ws://h/api/v1/ws", {}, /multi-job/],
    ["http://h/console/#job=", {}, /an id is/],
    ["http://h/console/?token=s3cret#job=a%2Fs3cret", {}, /an id is/],
    ["http://h/console/#job=s3cret%", {}, /not well-formed/],
    ["http://h/console/#flow=s3cret", {}, /#job=/],
    ["http://h/console/#token=s3cret", {}, /#job=/],
    [good, { token: "s3cret\n" }, /no token may have/],
    [good, { token: "" }, /no token may have/],
    [good, { token: 7 }, /no token may have/],
    [good, { since: "soon" }, /since must be/],
    [good, { since: 2 ** 53 }, /since must be/],
    [good, { since: 1.5 }, /since must be/],
    [good, { since: { toString: 1 } }, /since must be/],
    [good, { since: ["1"] }, /since must be/],
    [good, { getToken: "s3cret" }, /getToken must be/],
    [good, { headers: { a: 7 } }, /headers must be/],
    [good, { headers: "s3cret" }, /headers must be/],
    ["ws://h/api/v1/websocket?job_id=a%20b&token=s3cret", {}, /multi-job/],
    [good, { heartbeatMs: 0 }, /heartbeatMs must be/],
    [good, { bufferMax: NaN }, /bufferMax must be/],
    [good, { WebSocket: "ws" }, /option WebSocket/],
  ];
  for (const [url, options, expected] of cases) {
    const make = () => new LuxcastClient(url, { WebSocket: fakeSockets(), ...options });
    assert.throws(make, (error) => {
      assert.match(error.message, expected);
      assert.ok(!inspect(error, { depth: 9, showHidden: true }).includes("s3cret"), error.message);
      return error instanceof TypeError;
    });
  }
});

test("the token shows nowhere", (t) => {
  const { client, Socket, notes, tick } = fakeClient(t, { token: "s3cret/1" });
  client.connect();
  Socket.last.end(1006, "refused ws://h:1/?token=s3cret%2F1 s3cret/1");
  tick(500);
  Socket.last.accept(100);
  Socket.last.end(1008, "not s3cret/1");
  assert.ok(!JSON.stringify(notes).includes("s3cret"));
  assert.equal(notes[0][1].message, "refused ws://h:1/?token=*** ***");
  assert.ok(!inspect(client, { depth: 9, showHidden: true }).includes("s3cret"));
  assert.ok(!client.url.includes("s3cret"));
});

/** A server that notes how each connection was asked for. */
async function server(t) {
  const requests = [];
  const http = createServer();
  const sockets = new WebSocketServer({ server: http });
  sockets.on("connection", (socket, request) => {
    requests.push({ url: request.url, authorization: request.headers.authorization });
    socket.send('{"type":"connection:status","status":"connected","stream_seq":1}');
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  t.after(() => {
    for (const socket of sockets.clients) socket.terminate();
    http.close();
  });
  return { requests, sockets, url: `ws://127.0.0.1:${http.address().port}/api/ws/events` };
}

const connected = (client) => new Promise((resolve) => client.on("connection:status", resolve));

test("the package ws takes the token as a header", async (t) => {
  const { requests, url } = await server(t);
  const client = new LuxcastClient(url, { WebSocket, token: "s3cret" });
  client.connect();
  await connected(client);
  client.disconnect();
  assert.deepEqual(requests, [{ url: "/api/ws/events?since=now", authorization: "Bearer s3cret" }]);
});

test("the WebSocket that Node has built in takes the token as a header", async (t) => {
  const { requests, url } = await server(t);
  const script = join(mkdtempSync(join(tmpdir(), "luxcast-")), "script.mjs");
  t.after(() => rmSync(join(script, ".."), { recursive: true }));
  writeFileSync(
    script,
    `import { LuxcastClient } from ${JSON.stringify(join(here, "../luxcast.js"))};
     const client = new LuxcastClient(${JSON.stringify(url)}, { token: "s3cret" });
     client.on("connection:status", () => client.disconnect());
     client.connect();`,
  );
  const isNative = Number(process.versions.node.split(".")[0]) >= 22;
  const child = spawn(process.execPath, [...(isNative ? [] : ["--experimental-websocket"]), script]);
  assert.deepEqual(await once(child, "exit"), [0, null]);
  assert.deepEqual(requests, [{ url: "/api/ws/events?since=now", authorization: "Bearer s3cret" }]);
});

test("a WebSocket is tried for headers without a connection, and only where there is something to send", async (t) => {
  const tried = [];
  class Socket extends fakeSockets() {
    constructor(url, options) {
      tried.push(url);
      super(url, options);
      options?.headers;
    }
  }
  const { client, tick } = fakeClient(t, { WebSocket: Socket });
  client.connect();
  assert.deepEqual(tried, ["ws://h:1/api/ws/events?since=now"]);
  client.token = "s3cret";
  for (let attempt = 0; attempt < 2; attempt += 1) {
    Socket.last.end();
    await settle();
    tick(1_000);
  }
  assert.deepEqual(tried.slice(1), ["ws://", ...Array(2).fill("ws://h:1/api/ws/events?since=now&token=s3cret")]);
});

test("with an Authorization of the user's own, the token has another field", (t) => {
  class Socket extends fakeSockets() {
    constructor(url, options) {
      const { headers } = options;
      super(url, { headers });
    }
  }
  // Before the constructor of a real one looks at the address, it has read what it is given.
  const { client } = fakeClient(t, { WebSocket: Socket, token: "s3cret", headers: { AUTHORIZATION: "Basic eDp5", "X-A": "1" } });
  client.connect();
  const headers = { AUTHORIZATION: "Basic eDp5", "X-A": "1", "X-API-Key": "s3cret" };
  assert.deepEqual(Socket.last.rest, [{ headers }]);
  assert.equal(Socket.last.url.search, "?since=now");
});

test("a machine that slept is not taken for a daemon that is silent", async (t) => {
  const { url, sockets, requests } = await server(t);
  const client = new LuxcastClient(url, { WebSocket, heartbeatMs: 200 });
  t.after(() => client.disconnect());
  const lost = [];
  client.on("disconnected", (detail) => lost.push(detail));
  client.connect();
  await connected(client);
  const pings = setInterval(() => sockets.clients.forEach((socket) => socket.send('{"type":"ping"}')), 50);
  t.after(() => clearInterval(pings));
  // Both ends stand still for ten heartbeats.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2_000);
  for (let ping = 0; ping < 5; ping += 1) await new Promise((resolve) => client.addEventListener("ping", resolve, { once: true }));
  assert.deepEqual(lost, []);
  assert.equal(requests.length, 1);
});

test("a listener that throws stops neither the others nor the connection", async (t) => {
  const { url, sockets } = await server(t);
  const script = `
    import WebSocket from ${JSON.stringify(join(here, "../node_modules/ws/wrapper.mjs"))};
    import { LuxcastClient } from ${JSON.stringify(join(here, "../luxcast.js"))};
    process.on("uncaughtException", (error) => console.log(error.message));
    const client = new LuxcastClient(${JSON.stringify(url)}, { WebSocket });
    client.on("x", () => { throw new Error("mine"); });
    client.on("x", ({ stream_seq }) => console.log("second", stream_seq));
    client.on("event", ({ stream_seq }) => console.log("third", stream_seq));
    client.on("y", () => client.disconnect());
    client.connect();`;
  sockets.on("connection", (socket) => {
    for (const [number, type] of [[2, "x"], [3, "x"], [4, "y"]]) socket.send(JSON.stringify(event(number, type)));
  });
  const child = spawn(process.execPath, ["--input-type=module", "-e", script]);
  let said = "";
  child.stdout.on("data", (data) => (said += data));
  await once(child, "close");
  const lines = said.trim().split("\n");
  assert.deepEqual(lines.filter((line) => line !== "mine"), ["second 2", "third 2", "second 3", "third 3", "third 4"]);
  assert.equal(lines.filter((line) => line === "mine").length, 2, "and both are reported");
});

test("a loop gets the events and the gaps, and its end ends the connection that it began", async (t) => {
  const { client, Socket } = fakeClient(t);
  const seen = [];
  const loop = (async () => {
    for await (const message of client) {
      seen.push(message.stream_seq ?? message.type);
      if (message.stream_seq === 102) break;
    }
  })();
  Socket.last.accept(100);
  Socket.last.say(event(101), { type: "stream:gap", from: 1, to: 2, missed: 1, reason: "overrun" }, event(102), event(103));
  await loop;
  assert.deepEqual(seen, [101, "stream:gap", 102]);
  assert.equal(client.state, "closed");
});

test("a loop over a client that is connected leaves it so", async (t) => {
  const { client, Socket } = fakeClient(t);
  client.connect();
  Socket.last.accept(100);
  const next = client[Symbol.asyncIterator]();
  const first = next.next();
  Socket.last.say(event(101));
  assert.equal((await first).value.stream_seq, 101);
  await next.return();
  assert.equal(client.state, "open");
});

test("disconnect() ends a loop after what is already there, and a refusal for good is thrown by it", async (t) => {
  const { client, Socket } = fakeClient(t);
  const collect = async () => {
    const numbers = [];
    for await (const message of client) numbers.push(message.stream_seq);
    return numbers;
  };
  const loop = collect();
  Socket.last.accept(100);
  Socket.last.say(event(101), event(102));
  client.disconnect();
  assert.deepEqual(await loop, [101, 102]);
  const refused = collect();
  Socket.last.accept(100);
  Socket.last.end(1008, "the token has expired");
  await assert.rejects(refused, { message: "policy: the token has expired" });
});

test("a loop that is too slow is told what it missed", async (t) => {
  const { client, Socket } = fakeClient(t, { bufferMax: 3 });
  const next = client[Symbol.asyncIterator]();
  const take = async () => (await next.next()).value;
  const first = take();
  Socket.last.accept(100);
  Socket.last.say(event(101));
  assert.equal((await first).stream_seq, 101);
  for (let number = 102; number <= 110; number += 1) Socket.last.say(event(number));
  for (const number of [102, 103, 104]) assert.equal((await take()).stream_seq, number);
  Socket.last.say(event(111));
  assert.deepEqual(await take(), { type: "stream:gap", from: 105, to: 111, missed: 7, reason: "overrun" });
  Socket.last.say(event(112), event(113), event(114), event(115));
  Socket.last.say({ type: "stream:gap", from: 116, to: 120, missed: null, reason: "expired" });
  for (const number of [112, 113, 114]) assert.equal((await take()).stream_seq, number);
  Socket.last.say({ type: "metrics", job_id: "j", metrics: {} });
  assert.deepEqual(await take(), { type: "stream:gap", from: 115, to: 120, missed: null, reason: "overrun" });
  assert.equal(client.position, 115);
  await next.return();
});

test("the package holds the module, its types and what it says of itself, and can be installed", async (t) => {
  const scratch = mkdtempSync(join(tmpdir(), "luxcast-"));
  t.after(() => rmSync(scratch, { recursive: true }));
  const run = (command, ...words) => execFileSync(command, words, { cwd: scratch, encoding: "utf8" });
  const [{ filename, files }] = JSON.parse(run("npm", "pack", "--json", "--silent", join(here, "..")));
  const names = files.map((file) => file.path).sort();
  assert.deepEqual(names, ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "luxcast.d.ts", "luxcast.js", "package.json"]);
  writeFileSync(join(scratch, "package.json"), '{"type":"module"}');
  run("npm", "install", "--offline", "--no-audit", "--no-fund", "--silent", `./${filename}`);
  const said = run("node", "--input-type=module", "-e", 'import * as all from "luxcast"; console.log(Object.keys(all).join())');
  assert.equal(said.trim(), "LuxcastClient,LuxcastEvent,allUrl,debugUrl,flowUrl,isId,jobUrl,readTimestamp,textOf");
});

/** A page that asks nobody but the test. */
function answering(t, answer) {
  const asked = [];
  const fetch = async (url, init) => {
    asked.push([String(url), init.headers]);
    return answer();
  };
  const { client } = fakeClient(t, { fetch, token: "s3cret" }, "wss://h:1/prefix/api/v1/ws/jobs/j/monitor?x=1");
  return { client, asked };
}

test("arrivals are looked up by number", async (t) => {
  const body = { arrivals: [[100, 1_000], [200, 2_000.5], [300, 1_500]] };
  const { client, asked } = answering(t, () => Response.json(body));
  const arrivedAt = await client.arrivals(100, 300);
  assert.deepEqual(asked, [["https://h:1/prefix/console/arrivals?x=1&from=100&to=300", { Authorization: "Bearer s3cret" }]]);
  const cases = [[0, null], [99, null], [100, 1_000], [199, 1_000], [200, 2_000.5], [299, 2_000.5], [300, 1_500], [2 ** 53, 1_500]];
  for (const [number, expected] of cases) assert.equal(arrivedAt(number), expected, `${number}`);
});

test("where arrivals cannot be had, they are unknown", async (t) => {
  const answers = [
    () => new Response('{"error":"not_found","message":""}', { status: 404 }),
    () => new Response("<html>"),
    () => Response.json(null),
    () => Response.json({ arrivals: "all" }),
    () => Response.json({ arrivals: [[1, 1], [2, null]] }),
    () => Response.json({ arrivals: [[1, 1], { 0: 2, 1: 2 }] }),
    () => Response.json({ arrivals: [] }),
    () => Response.json({ arrivals: [[1, 1]] }, { status: 203 }),
    () => new Response(null, { status: 302 }),
    () => Promise.reject(new TypeError("nobody there")),
  ];
  for (const answer of answers) {
    const { client } = answering(t, answer);
    assert.equal((await client.arrivals(1, 2))(2), null, String(answer));
    t.mock.timers.reset();
    t.mock.restoreAll();
  }
  const { client } = answering(t, () => new Promise(() => {}));
  const arrivals = client.arrivals(1, 2);
  await Promise.resolve();
  t.mock.timers.tick(5_000);
  assert.equal((await arrivals)(2), null, "nobody is waited for without end");
});
