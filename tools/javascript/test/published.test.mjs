// Clients as the published protocol describes them, which know nothing of positions: they must work as they are.
import assert from "node:assert/strict";
import { test } from "node:test";

import WebSocket from "ws";

import { Daemon, Publisher, until } from "./harness/daemon.js";

/** Handlers by name, filters that the client applies once more, and a pong as a message for each ping. */
class HandlerClient {
  pongs = 0;
  #url;
  #handlers = new Map();
  #wanted = new Set();
  #socket;

  constructor(url) {
    this.#url = url;
  }

  connect() {
    this.#socket = new WebSocket(this.#url);
    this.#socket.onopen = () => this.#tell("connected");
    this.#socket.onclose = () => this.#tell("disconnected");
    this.#socket.onerror = (error) => this.#tell("error", error);
    this.#socket.onmessage = ({ data }) => this.#handle(JSON.parse(data));
  }

  disconnect() {
    this.#socket.close();
  }

  on(name, handler) {
    this.#handlers.set(name, [...(this.#handlers.get(name) ?? []), handler]);
  }

  subscribe(names) {
    for (const name of names) this.#wanted.add(name);
    this.#send({ action: "subscribe", events: names });
  }

  unsubscribe(names) {
    for (const name of names) this.#wanted.delete(name);
    this.#send({ action: "unsubscribe", events: names });
  }

  #send(message) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #handle(message) {
    if (message.type === "ping") {
      this.pongs += 1;
      this.#send({ type: "pong" });
    } else if (this.#wanted.size === 0 || this.#wanted.has(message.type)) {
      this.#tell(message.type, message);
    }
  }

  #tell(name, detail) {
    for (const handler of this.#handlers.get(name) ?? []) handler(detail);
  }
}

/** Tries again after the same time, a number of times, and begins where it comes in. */
class RetryingClient {
  attempts = 0;
  opened = 0;
  seen = [];
  #url;
  #retryMs;
  #attemptsMax;
  #socket;
  #isOver = false;

  constructor(url, retryMs, attemptsMax) {
    this.#url = url;
    this.#retryMs = retryMs;
    this.#attemptsMax = attemptsMax;
  }

  connect() {
    this.#socket = new WebSocket(this.#url);
    this.#socket.onopen = () => {
      this.opened += 1;
      this.attempts = 0;
    };
    this.#socket.onerror = () => {};
    this.#socket.onmessage = ({ data }) => this.seen.push(JSON.parse(data));
    this.#socket.onclose = () => {
      if (this.#isOver || this.attempts === this.#attemptsMax) return;
      this.attempts += 1;
      setTimeout(() => this.connect(), this.#retryMs);
    };
  }

  end() {
    this.#isOver = true;
    this.#socket.close();
  }
}

const failed = (n) => ({ type: "job_failed", job_id: "job_123", n, data: { error: `ValueError: ${n}`, error_type: "ValueError" } });
const hit = (n) => ({ type: "breakpoint_hit", job_id: "job_123", n, breakpoint: { routine_id: "process_data" } });
const started = (n) => ({ type: "routine_started", job_id: "job_123", n, routine_id: "process_data" });

test("the published usage: subscribe when connected, handlers by type, a pong for each ping", async (t) => {
  const daemon = await Daemon.start(t, "--heartbeat-seconds", "0.2", "--silent-heartbeats", "5");
  const publisher = await Publisher.start(daemon);
  const client = new HandlerClient(`${daemon.base}/api/ws/jobs/job_123/monitor`);
  t.after(() => client.disconnect());
  const told = [];
  const confirmed = [];
  client.on("connected", () => client.subscribe(["job_failed", "breakpoint_hit", "subscription:confirmed"]));
  client.on("subscription:confirmed", ({ events }) => confirmed.push(events));
  client.on("job_failed", (event) => told.push(event.data.error));
  client.on("breakpoint_hit", (event) => told.push(event.breakpoint.routine_id));
  client.on("disconnected", () => told.push("disconnected"));
  client.connect();
  await until("the subscription", () => confirmed.length === 1);
  publisher.publish(started(1), hit(2), failed(3));
  await until("the events", () => told.length === 2);
  client.unsubscribe(["breakpoint_hit"]);
  await until("the second filter", () => confirmed.length === 2);
  publisher.publish(hit(4), started(5), failed(6));
  await until("another event", () => told.length === 3);
  await until("more pings than a silent client would live for", () => client.pongs > 10);
  assert.deepEqual(told, ["process_data", "ValueError: 3", "ValueError: 6"]);
  // The published remedy for a connection that may be stale.
  client.disconnect();
  client.connect();
  await until("the subscription again", () => confirmed.length === 3);
  publisher.publish(failed(7));
  await until("the next event", () => told.at(-1) === "ValueError: 7");
});

test("two watchers of one job each get all of it", async (t) => {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  const url = `${daemon.base}/api/ws/jobs/job_123/monitor`;
  const clients = [new RetryingClient(url, 100, 5), new RetryingClient(url, 100, 5)];
  t.after(() => clients.forEach((client) => client.end()));
  clients.forEach((client) => client.connect());
  await until("both connections", () => clients.every(({ opened }) => opened === 1));
  const lines = Array.from({ length: 2_000 }, (_, n) => started(n));
  publisher.publish(...lines);
  const numbers = ({ seen }) => seen.filter(({ n }) => n !== undefined).map(({ n }) => n);
  await until("the last event", () => clients.every((client) => numbers(client).at(-1) === 1_999));
  for (const client of clients) assert.deepEqual(numbers(client), lines.map(({ n }) => n));
});

test("the published reconnecting finds its way back to a daemon that was killed", async (t) => {
  const daemon = await Daemon.start(t);
  const client = new RetryingClient(`${daemon.base}/api/ws/flows/my_flow/monitor`, 100, 600);
  t.after(() => client.end());
  client.connect();
  await until("the connection", () => client.opened === 1);
  await daemon.kill();
  await until("attempts in vain", () => client.attempts > 2);
  await daemon.start();
  await until("the connection again", () => client.opened === 2);
  const publisher = await Publisher.start(daemon);
  publisher.publish({ ...started(1), flow_id: "my_flow" }, { ...failed(2), flow_id: "my_flow" });
  await until("what comes now", () => client.seen.some(({ n }) => n === 2));
  assert.deepEqual(client.seen.filter(({ n }) => n !== undefined).map(({ type }) => type), ["routine_started", "job_failed"]);
});
