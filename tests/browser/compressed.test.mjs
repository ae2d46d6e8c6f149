// Chromium offers compression by itself: what a script reads is what was published, and the live page is compressed, too.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";

import { Daemon, Publisher, closeBrowser, consoleOf, openPage } from "./harness.js";

after(closeBrowser);

const COUNT = 10_000;
const CORPUS = readFileSync(new URL("../fixtures/events.ndjson", import.meta.url), "utf8").trimEnd().split("\n");
const LINES = Array.from({ length: COUNT }, (_, place) => CORPUS[place % CORPUS.length]);

/** Opens a WebSocket that keeps the texts of all events in `told`. */
function watch(path) {
  globalThis.told = [];
  const socket = new WebSocket(`ws://${location.host}${path}`);
  socket.onmessage = ({ data }) => data.startsWith('{"stream_seq":') && globalThis.told.push(data);
  globalThis.socket = socket;
  return new Promise((resolve, reject) => {
    socket.onopen = () => resolve(socket.extensions);
    socket.onclose = ({ code }) => reject(new Error(`closed ${code}`));
  });
}

/** The rows of the WebSockets. */
async function watchers(daemon) {
  const rows = await (await fetch(`http://${daemon.admin}/connections`)).json();
  return rows.filter((row) => row.transport === "websocket");
}

/** All events that it was told, once there are so many. */
async function told(page, count) {
  await page.waitForFunction((count) => globalThis.told.length >= count, count);
  return page.evaluate(() => globalThis.told);
}

const published = (text) => text.replace(/^\{"stream_seq":\d+,/, "{");

test("a WebSocket of a script reads compressed what was published, and comes back", async (t) => {
  const daemon = await Daemon.start(t, "--admin", "127.0.0.1:0");
  const publisher = await Publisher.start(daemon);
  const page = await openPage(t, `http://${daemon.address}/healthz`);
  const path = "/api/v1/ws/events";
  assert.equal(await page.evaluate(watch, path), "permessage-deflate; client_no_context_takeover");
  assert.deepEqual((await watchers(daemon)).map((row) => row.is_compressed), [true]);
  for (let place = 0; place < COUNT; place += 500) publisher.publishTexts(...LINES.slice(place, place + 500));
  const live = await told(page, COUNT);
  assert.ok(live.map(published).every((text, place) => text === LINES[place]) && live.length === COUNT);
  await page.evaluate(() => globalThis.socket.close());
  const [, since] = /^\{"stream_seq":(\d+)/.exec(live[COUNT / 2]);
  await page.evaluate(watch, `${path}?since=${since}`);
  publisher.publishTexts(...LINES.slice(0, 500));
  const again = await told(page, COUNT / 2 - 1 + 500);
  assert.deepEqual(again.slice(0, COUNT / 2 - 1), live.slice(COUNT / 2 + 1));
  assert.deepEqual(again.slice(COUNT / 2 - 1).map(published), LINES.slice(0, 500));
});

test("the live page is compressed", async (t) => {
  const daemon = await Daemon.start(t, "--admin", "127.0.0.1:0");
  const publisher = await Publisher.start(daemon);
  const { job_id: job } = JSON.parse(CORPUS[0]);
  const ofJob = CORPUS.filter((line) => JSON.parse(line).job_id === job);
  publisher.publishTexts(...ofJob);
  const page = await openPage(t, `${consoleOf(daemon)}#job=${job}`);
  await page.waitForFunction((count) => globalThis.luxcast.told().length >= count, ofJob.length);
  assert.deepEqual((await watchers(daemon)).map((row) => [row.endpoint, row.is_compressed]), [["job_monitor", true]]);
});
