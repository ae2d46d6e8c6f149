// Opens a page of the real daemon in Chromium. Tests of its content (jobs, events, words, fields, keys) run in jsdom
// too, which has no layout, no drawing and no security policy. In every test, nothing may leave the origin, break the
// content security policy, or fail unseen.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { chromium } from "playwright-core";

import { JsdomPage } from "./jsdom_page.js";

export { Front } from "../../tools/javascript/test/harness/front.js";
export { Daemon, PATIENCE_MS, Publisher, until } from "../../tools/javascript/test/harness/daemon.js";

const EXECUTABLE = "/usr/bin/chromium";
const FLAGS =
  "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync";

/** Uses the page's files from the disk instead of the built-in ones: `LUXCAST_PAGE=disk npm test`. */
const IS_FROM_DISK = process.env.LUXCAST_PAGE === "disk";
/** Files that a test supplies have no origin, and the browser lets such pages reach no loopback address. */
const OPEN_FLAG = "--disable-features=LocalNetworkAccessChecks";

let browser = null;

/** One browser for all tests of a file. */
export async function closeBrowser() {
  await browser?.close();
}

/** What the page may write to the browser's console: a connection or a request failed. */
const EXPECTED = /net::ERR_CONNECTION|Failed to load resource|WebSocket connection to/;
/** And where it asks others, that these do not let it. */
const UNREADABLE = /has been blocked by CORS policy/;

/** `prepare` runs in the page before its own scripts. `others`: origins that it may ask as well. */
export async function openPage(t, address, options = {}, prepare = null, others = []) {
  assert.ok(existsSync(EXECUTABLE), `${EXECUTABLE} is not there`);
  browser ??= await chromium.launch({ executablePath: EXECUTABLE, args: [...FLAGS.split(" "), ...(IS_FROM_DISK ? [OPEN_FLAG] : [])] });
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  const faults = [];
  const origin = new URL(address).origin;
  const check = (url) => {
    const at = new URL(url.replace(/^ws/, "http"));
    if (![origin, ...others].includes(at.origin) && at.protocol !== "data:") faults.push(`asked ${url}`);
  };
  page.on("request", (request) => check(request.url()));
  page.on("websocket", (socket) => check(socket.url()));
  page.on("pageerror", (error) => faults.push(`the page threw ${error.stack}`));
  page.on("console", (message) => {
    const isExpected = EXPECTED.test(message.text()) || (others.length > 0 && UNREADABLE.test(message.text()));
    if (message.type() === "error" && !isExpected) faults.push(message.text());
  });
  if (IS_FROM_DISK) await context.route(/\/console\/([a-z_]+\.(js|css|html))?$/, serveFromDisk);
  await page.addInitScript(() => {
    globalThis.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => globalThis.violations.push(event.violatedDirective));
  });
  t.after(async () => {
    const violations = await page.evaluate(() => globalThis.violations).catch(() => []);
    await context.close();
    assert.deepEqual([...faults, ...violations], []);
  });
  if (prepare !== null) await page.addInitScript(prepare);
  await page.goto(address);
  return page;
}

/** A test for both: `run` gets the test's context and the function that opens the page, as `openPage`. */
export function both(name, run) {
  test(`${name}, in Chromium`, (t) => run(t, openPage));
  test(`${name}, in jsdom`, (t) => run(t, openInJsdom));
}

async function openInJsdom(t, address) {
  const page = new JsdomPage(address, load);
  t.after(() => {
    page.close();
    assert.deepEqual(page.faults, []);
  });
  await page.open();
  return page;
}

async function load(url) {
  if (IS_FROM_DISK) return readFileSync(fileOf(url), "utf8");
  const answer = await fetch(url);
  assert.ok(answer.ok, `${url}: ${answer.status}`);
  return answer.text();
}

const FILES = new URL("../../src/console/page/", import.meta.url);

function fileOf(url) {
  return new URL(new URL(url).pathname.split("/").at(-1) || "index.html", FILES);
}

async function serveFromDisk(route) {
  const file = fileOf(route.request().url());
  const contentType = { js: "text/javascript", css: "text/css", html: "text/html" }[file.pathname.split(".").at(-1)];
  const answer = await route.fetch().catch(() => null);
  if (answer === null) return route.abort();
  const headers = { ...answer.headers() };
  for (const header of ["content-encoding", "content-length"]) delete headers[header];
  await route.fulfill({ status: 200, headers, contentType: `${contentType}; charset=utf-8`, body: readFileSync(file) });
}

export function consoleOf(daemon) {
  return `http://${daemon.address}/console/`;
}

/** The messages about the open job, as the numbers `n` that the test gave its lines, with gaps as "gap". */
export function told(page) {
  return page.evaluate(() => globalThis.luxcast.told().map((message) => (message.type === "stream:gap" ? "gap" : message.n)));
}

export const text = (page, selector) => page.locator(selector).textContent();
