// One scenario wherever the client runs: what it is told, to the last character, which way its token goes, and that a
// wrong one is told at once.
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import WebSocket from "ws";

import * as luxcast from "../luxcast.js";
import { closeBrowser, openPage } from "./harness/browser.js";
import { Daemon, PATIENCE_MS, Publisher } from "./harness/daemon.js";
import { Front } from "./harness/front.js";
import { EXPECTED, LINES, TEXTS, scenario } from "./harness/scenario.js";

const folder = fileURLToPath(new URL("..", import.meta.url));
const alone = join(folder, "test/harness/alone.mjs");
const TOKEN = "s3cret";

after(closeBrowser);

/** A daemon that knows the token and has the lines, behind a front that notes which way the token goes. */
async function prepare(t, ...flags) {
  const directory = mkdtempSync(join(tmpdir(), "luxcast-js-tokens-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, "tokens");
  writeFileSync(file, `${TOKEN} all debug\n`, { mode: 0o600 });
  const daemon = await Daemon.start(t, "--token-file", file, ...flags);
  const publisher = await Publisher.start(daemon);
  publisher.publishTexts(...LINES);
  await publisher.taken();
  publisher.close();
  return { directory, daemon, front: await Front.start(t, daemon) };
}

async function run(command, words, env = {}) {
  const options = { env: { ...process.env, ...env }, timeout: PATIENCE_MS, maxBuffer: 1e7 };
  const { stdout } = await promisify(execFile)(command, words, options);
  return stdout;
}

function check(said, front, isHeader) {
  const { told, texts, refused } = JSON.parse(said);
  for (const [id, types] of told) assert.deepEqual(types, EXPECTED.get(id), `of the job ${id}`);
  assert.deepEqual(texts, TEXTS);
  assert.deepEqual(refused, { code: "unauthorized", wasSlow: false });
  const upgrades = front.asked.filter(({ headers }) => headers.upgrade !== undefined);
  assert.ok(upgrades.length >= 4);
  for (const { url, headers } of upgrades) {
    assert.equal(/[?&]token=/.test(url), !isHeader, url);
    assert.equal(/^Bearer /.test(headers.authorization), isHeader);
  }
}

/** The same over HTTP. `field` is where the token goes. */
function checkHttp(said, front, field) {
  const { told, texts, refused } = JSON.parse(said);
  assert.equal(told.length, 2, "jobs of dots are for WebSockets");
  for (const [id, types] of told) assert.deepEqual(types, EXPECTED.get(id), `of the job ${id}`);
  assert.deepEqual(texts, TEXTS);
  assert.deepEqual(refused, { code: "unauthorized", wasSlow: false });
  const streams = front.asked.filter(({ url }) => url.includes("/monitor"));
  assert.equal(streams.length, 3);
  for (const { url, headers } of streams) {
    assert.deepEqual([headers.upgrade, headers.accept], [undefined, "text/event-stream"]);
    assert.ok(headers[field] !== undefined && !/[?&]token=/.test(url));
  }
}

const hasOwn = Number(process.versions.node.split(".")[0]) >= 22;
/** Program, words before the address of the daemon and the token, and words behind them. */
const PROGRAMS = [
  ["Node with the package ws", process.execPath, [alone], ["ws"]],
  ["Node with its own WebSocket", process.execPath, [...(hasOwn ? [] : ["--experimental-websocket"]), alone], []],
  ["Node with the WebSocket of Node 22", process.execPath, [alone], ["undici"]],
  ["Bun", join(folder, "node_modules/.bin/bun"), [alone], []],
  ["Deno", join(folder, "node_modules/.bin/deno"), ["run", "--allow-net", "--no-lock", "--quiet", alone], []],
  ["Node over HTTP", process.execPath, [alone], ["http"]],
  ["Bun over HTTP", join(folder, "node_modules/.bin/bun"), [alone], ["http"]],
  ["Deno over HTTP", join(folder, "node_modules/.bin/deno"), ["run", "--allow-net", "--no-lock", "--quiet", alone], ["http"]],
];

for (const [name, program, before, behind] of PROGRAMS) {
  test(name, async (t) => {
    // A part that is missing is an error: what npm installs for other machines, or without its install scripts.
    const { status, error, stderr } = spawnSync(program, ["--version"], { encoding: "utf8" });
    assert.equal(status, 0, `${program} does not start, npm ci installs it: ${error?.message ?? stderr}`);
    const { front, directory } = await prepare(t);
    const env = { DENO_DIR: directory, DENO_NO_UPDATE_CHECK: "1" };
    const said = await run(program, [...before, `ws://${front.address}`, TOKEN, ...behind], env);
    if (behind[0] === "http") checkHttp(said, front, "authorization");
    else check(said, front, true);
  });
}

for (const [environment, transport] of [["jsdom", "websocket"], ["happy-dom", "websocket"], ["jsdom", "http"], ["happy-dom", "http"]]) {
  test(`vitest with ${environment}, over ${transport}`, async (t) => {
    const { front, directory } = await prepare(t);
    const vitest = join(folder, "node_modules/vitest/vitest.mjs");
    const command = [vitest, "run", "--root", join(folder, "test/harness/vitest"), "--disable-console-intercept"];
    const said = await run(process.execPath, command, {
      LUXCAST_TEST_BASE: `ws://${front.address}`,
      LUXCAST_TEST_TOKEN: TOKEN,
      LUXCAST_TEST_ENVIRONMENT: environment,
      LUXCAST_TEST_TRANSPORT: transport,
      LUXCAST_TEST_CACHE: directory,
    });
    const words = /^said (.*)$/m.exec(said)[1];
    if (transport === "http") checkHttp(words, front, "x-api-key");
    else check(words, front, false);
  });
}

/** The scenario in a page of the front. */
function inPage(page, options, base = "/") {
  const act = async ([base, options]) => {
    const [client, { scenario: run }] = await Promise.all([import("/luxcast.js"), import("/scenario.js")]);
    return JSON.stringify(await run(client, base, options));
  };
  return page.evaluate(act, [base, options]);
}

test("a browser", async (t) => {
  const { front } = await prepare(t);
  const page = await openPage(t, `http://${front.address}/page`);
  check(await inPage(page, { token: TOKEN }), front, false);
});

test("a browser over HTTP", async (t) => {
  const { front } = await prepare(t);
  const page = await openPage(t, `http://${front.address}/page`);
  checkHttp(await inPage(page, { token: TOKEN, transport: "http" }), front, "x-api-key");
});

test("a page of another origin over HTTP, which the daemon lets in", async (t) => {
  const elsewhere = await Front.start(t, { address: "none" });
  const { daemon } = await prepare(t, "--allowed-origins", `http://${elsewhere.address}`);
  const page = await openPage(t, `http://${elsewhere.address}/page`);
  const said = await inPage(page, { token: TOKEN, transport: "http" }, daemon.base);
  const { told, texts, refused } = JSON.parse(said);
  for (const [id, types] of told) assert.deepEqual(types, EXPECTED.get(id), `of the job ${id}`);
  assert.deepEqual(texts, TEXTS);
  assert.deepEqual(refused, { code: "unauthorized", wasSlow: false });
});

test("a browser, with Basic authentication in front of the daemon and its tokens", async (t) => {
  const { front } = await prepare(t);
  front.basic = "name:password";
  const [username, password] = front.basic.split(":");
  const page = await openPage(t, `http://${front.address}/page`, { httpCredentials: { username, password } });
  front.asked.length = 0;
  const said = await inPage(page, { token: TOKEN });
  const own = front.asked.filter(({ headers }) => headers.upgrade === undefined && headers["x-api-key"] !== undefined);
  assert.ok(own.length > 0, "the plain request has its token beside the name and password");
  for (const { headers } of front.asked) assert.ok(!/^Bearer /.test(headers.authorization));
  check(said, front, false);
});

test("Node, with Basic authentication in front of the daemon and its tokens", async (t) => {
  const { front } = await prepare(t);
  front.basic = "name:password";
  const headers = { authorization: `Basic ${btoa(front.basic)}` };
  const { told, refused } = await scenario(luxcast, `ws://${front.address}`, { token: TOKEN, WebSocket, headers });
  for (const [id, types] of told) assert.deepEqual(types, EXPECTED.get(id));
  assert.deepEqual(refused, { code: "unauthorized", wasSlow: false });
  for (const { url, headers } of front.asked) {
    assert.ok(!url.includes("token="));
    assert.notEqual(headers["x-api-key"], undefined);
  }
});
