// Streams over plain HTTP as a browser reads them: EventSource comes back by itself, and fetch reads lines.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { Daemon, Publisher, closeBrowser, openPage, until } from "./harness.js";

after(closeBrowser);

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, place) => from + place);
const lines = (from, to) => range(from, to).map((n) => ({ type: "step", job_id: "job-1", n }));
const PATH = "/api/v1/ws/jobs/job-1/monitor?since=start";

/** Reads the stream of the test into `told`: numbers, gaps, and ids that are not the event's own. */
function tell(path) {
  globalThis.told = [];
  globalThis.source = new EventSource(path);
  globalThis.source.onmessage = ({ data, lastEventId }) => {
    const message = JSON.parse(data);
    if (message.type === "stream:gap") globalThis.told.push("gap");
    if (message.type === "step") globalThis.told.push(lastEventId === String(message.stream_seq) ? message.n : "wrong id");
  };
}

async function startWithState(t) {
  const state = mkdtempSync(join(tmpdir(), "luxcast-streams-"));
  t.after(() => rmSync(state, { recursive: true }));
  return Daemon.start(t, "--state-dir", state, "--drain-seconds", "1");
}

const hasTold = (page, n) => page.waitForFunction((n) => globalThis.told.at(-1) === n, n);

test("an EventSource comes back over a restart and a kill, and loses and doubles nothing", async (t) => {
  const daemon = await startWithState(t);
  const publisher = await Publisher.start(daemon);
  publisher.publish(...lines(1, 3_000));
  const page = await openPage(t, `http://${daemon.address}/healthz`);
  await page.evaluate(tell, PATH);
  await hasTold(page, 3_000);
  await daemon.stop();
  publisher.publish(...lines(3_001, 4_000));
  await daemon.start();
  await publisher.connect();
  await hasTold(page, 4_000);
  assert.deepEqual(await page.evaluate(() => globalThis.told), range(1, 4_000));
  // What the daemon had not saved is lost, and said to be.
  publisher.publish(...lines(4_001, 4_100));
  await hasTold(page, 4_100);
  await publisher.taken();
  await daemon.kill();
  publisher.close();
  await daemon.start();
  const second = await Publisher.start(daemon);
  second.publish(...lines(4_101, 4_200));
  await hasTold(page, 4_200);
  assert.deepEqual(await page.evaluate(() => globalThis.told), [...range(1, 4_100), "gap", ...range(4_101, 4_200)]);
});

/** nginx with the recipe, before this daemon. Returns its port. */
async function startNginx(t, daemon) {
  const directory = mkdtempSync(join(tmpdir(), "luxcast-nginx-"));
  const [certificate, key, config] = ["certificate.pem", "key.pem", "nginx.conf"].map((name) => join(directory, name));
  const request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost", "-keyout", key, "-out", certificate];
  assert.equal(spawnSync("openssl", request).status, 0);
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  const changes = [
    ["listen 443 ssl http2;", `listen 127.0.0.1:${port} ssl http2;`],
    ["server 127.0.0.1:20555;", `server ${daemon.address};`],
    ["/etc/nginx/luxcast/fullchain.pem", certificate],
    ["/etc/nginx/luxcast/privkey.pem", key],
    ["/var/log/nginx/luxcast.log", join(directory, "access.log")],
  ];
  let recipe = readFileSync(new URL("../../tools/packaging/nginx/luxcast.conf", import.meta.url), "utf8");
  for (const [written, here] of changes) {
    assert.equal(recipe.split(written).length, 2, written);
    recipe = recipe.replace(written, here);
  }
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${directory}/${kind};`).join("\n");
  const pid = join(directory, "nginx.pid");
  writeFileSync(config, `daemon off;\npid ${pid};\nerror_log ${directory}/error.log;\nevents {}\nhttp {\n${temporary}\n${recipe}}\n`);
  const nginx = spawn("nginx", ["-e", "stderr", "-c", config], { stdio: ["ignore", "ignore", "inherit"] });
  t.after(async () => {
    nginx.kill();
    await once(nginx, "exit");
    rmSync(directory, { recursive: true });
  });
  await until("nginx listens", () => existsSync(pid));
  return port;
}

test("through nginx with HTTP/2 an EventSource comes back over restarts, and there may be more than six", async (t) => {
  const daemon = await startWithState(t);
  const port = await startNginx(t, daemon);
  const publisher = await Publisher.start(daemon);
  publisher.publish(...lines(1, 3_000));
  const page = await openPage(t, `https://localhost:${port}/luxcast/healthz`, { ignoreHTTPSErrors: true });
  assert.equal(await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol), "h2");
  const counts = await page.evaluate(async (path) => {
    const sources = Array.from({ length: 9 }, () => new EventSource(path));
    const count = (source) => new Promise((resolve) => {
      let events = 0;
      source.onmessage = () => ++events > 3_000 && resolve(events);
    });
    const counts = await Promise.all(sources.map(count));
    sources.forEach((source) => source.close());
    return counts;
  }, PATH);
  assert.deepEqual(counts, Array(9).fill(3_001));
  await page.evaluate(tell, PATH);
  await hasTold(page, 3_000);
  let last = 3_000;
  for (let round = 0; round < 2; round++) {
    await daemon.stop();
    publisher.publish(...lines(last + 1, last + 500));
    // It asks while nobody is there.
    await page.waitForFunction(() => globalThis.source.readyState === EventSource.CONNECTING);
    await page.waitForTimeout(1_500);
    await daemon.start();
    await publisher.connect();
    last += 500;
    await hasTold(page, last);
  }
  assert.deepEqual(await page.evaluate(() => globalThis.told), range(1, last));
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
