// Streams over plain HTTP as a browser reads them: EventSource comes back by itself, and fetch reads lines.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { Daemon, Publisher, closeBrowser, openPage } from "./harness.js";

after(closeBrowser);

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, place) => from + place);
const lines = (from, to) => range(from, to).map((n) => ({ type: "step", job_id: "job-1", n }));
const PATH = "/api/v1/ws/jobs/job-1/monitor?since=start";

test("an EventSource comes back over a restart and a kill, and loses and doubles nothing", async (t) => {
  const state = mkdtempSync(join(tmpdir(), "luxcast-streams-"));
  t.after(() => rmSync(state, { recursive: true }));
  const daemon = await Daemon.start(t, "--state-dir", state, "--drain-seconds", "1");
  const publisher = await Publisher.start(daemon);
  publisher.publish(...lines(1, 3_000));
  const page = await openPage(t, `http://${daemon.address}/healthz`);
  await page.evaluate((path) => {
    globalThis.told = [];
    globalThis.source = new EventSource(path);
    globalThis.source.onmessage = ({ data, lastEventId }) => {
      const message = JSON.parse(data);
      if (message.type === "stream:gap") globalThis.told.push("gap");
      if (message.type === "step") globalThis.told.push(lastEventId === String(message.stream_seq) ? message.n : "wrong id");
    };
  }, PATH);
  const hasTold = (n) => page.waitForFunction((n) => globalThis.told.at(-1) === n, n);
  await hasTold(3_000);
  await daemon.stop();
  publisher.publish(...lines(3_001, 4_000));
  await daemon.start();
  await publisher.connect();
  await hasTold(4_000);
  assert.deepEqual(await page.evaluate(() => globalThis.told), range(1, 4_000));
  // What the daemon had not saved is lost, and said to be.
  publisher.publish(...lines(4_001, 4_100));
  await hasTold(4_100);
  await publisher.taken();
  await daemon.kill();
  publisher.close();
  await daemon.start();
  const second = await Publisher.start(daemon);
  second.publish(...lines(4_101, 4_200));
  await hasTold(4_200);
  assert.deepEqual(await page.evaluate(() => globalThis.told), [...range(1, 4_100), "gap", ...range(4_101, 4_200)]);
});

test("fetch reads lines of JSON to an end in order", async (t) => {
  const daemon = await Daemon.start(t, "--drain-seconds", "1");
  const publisher = await Publisher.start(daemon);
  publisher.publish(...lines(1, 2_000));
  await publisher.taken();
  const page = await openPage(t, `http://${daemon.address}/healthz`);
  const reading = page.evaluate(async (path) => {
    const answer = await fetch(path, { headers: { accept: "application/x-ndjson" } });
    const told = [];
    let rest = "";
    for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
      const complete = (rest + text).split("\n");
      rest = complete.pop();
      for (const message of complete.map(JSON.parse)) {
        told.push(message.n ?? message.status);
        globalThis.newest = message.n;
      }
    }
    return { told, rest, type: answer.headers.get("content-type") };
  }, PATH);
  await page.waitForFunction(() => globalThis.newest === 2_000);
  await daemon.stop();
  const { told, rest, type } = await reading;
  assert.deepEqual([told.filter((word) => word !== undefined), rest], [["connected", ...range(1, 2_000), "disconnected"], ""]);
  assert.equal(type, "application/x-ndjson");
});
