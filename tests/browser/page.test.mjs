// The live page on the real daemon.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { Daemon, Front, Publisher, both, closeBrowser, consoleOf, openPage, text, told, until } from "./harness.js";

after(closeBrowser);

const BEGIN = Date.now() - 20_000;
const stamp = (millis) => new Date(BEGIN + millis).toISOString();

/** A job's line, at a time after its start, with the test's own number. */
function line(n, millis, event) {
  return { job_id: "job-1", flow_id: "etl_flow", n, timestamp: stamp(millis), ...event };
}

const started = (n, millis) => line(n, millis, { type: "job_started", data: { entry_routine: "source" } });
const began = (n, millis, routine_id) => line(n, millis, { type: "routine_started", routine_id, data: { slot_name: "input" } });
const ended = (n, millis, routine_id) => line(n, millis, { type: "routine_completed", routine_id, data: { duration: 1 } });
const failed = (n, millis, routine_id) =>
  line(n, millis, { type: "routine_failed", routine_id, data: { error: "ValueError: Invalid data", error_type: "ValueError" } });

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, place) => from + place);
const rowOf = (page, name) => page.locator("#jobs .row", { has: page.locator(`.name:text-is("${name}")`) });
const open = (page, name) => rowOf(page, name).click();
const hasTold = (page, last) => page.waitForFunction((last) => globalThis.luxcast.told().some(({ n }) => n >= last), last);
/** Waits until the list of events says this. */
const note = (page, words) => page.waitForFunction((words) => document.getElementById("events-note").textContent.startsWith(words), words);

both("a job appears, runs, fails; its lanes show what its events say", async (t, openPage) => {
  const daemon = await Daemon.start(t);
  const page = await openPage(t, consoleOf(daemon));
  await page.waitForFunction(() => document.getElementById("jobs-note").textContent === "No job has sent an event yet");
  const publisher = await Publisher.start(daemon);
  publisher.publish(started(1, 0), began(2, 1_000, "validator"), ended(3, 4_000, "validator"), began(4, 5_000, "sink"));
  await rowOf(page, "job-1").locator('.status:text-is("running")').waitFor({ state: "attached" });
  await rowOf(page, "etl_flow").waitFor();
  await open(page, "job-1");
  await hasTold(page, 4);
  await page.locator("#job-status[data-status=running]").waitFor();
  publisher.publish(failed(5, 8_000, "sink"), line(6, 10_000, { type: "job_failed", data: { error: "ValueError: Invalid data", routine_id: "sink" } }));
  await page.locator("#job-status[data-status=failed]").waitFor();
  assert.equal(await text(page, "#failure-text"), "Failed in sink: ValueError: Invalid data");
  assert.equal(await text(page, "#job-flow"), "etl_flow");
  await page.locator('#lane-names small:text-is("1 run, 1 failed · 3.0 s")').waitFor();
  const lanes = await page.locator("#lane-names button").evaluateAll((buttons) => buttons.map((button) => [...button.children].map((child) => child.textContent)));
  assert.deepEqual(lanes, [["Job", "failed"], ["validator", "1 run · 3.0 s"], ["sink", "1 run, 1 failed · 3.0 s"]]);
  assert.deepEqual(await told(page), range(1, 6));
  await rowOf(page, "job-1").locator('.status:text-is("failed")').waitFor({ state: "attached" });
});

test("a press on a lane selects what ran then", async (t) => {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  publisher.publish(started(1, 0), began(2, 1_000, "validator"), ended(3, 4_000, "validator"), began(4, 5_000, "sink"), failed(5, 8_000, "sink"), line(6, 10_000, { type: "job_failed" }));
  await publisher.taken();
  const page = await openPage(t, `${consoleOf(daemon)}#job=job-1`);
  await page.locator('#lane-names button[data-name="sink"] small:text-is("1 run, 1 failed · 3.0 s")').waitFor();
  // The whole job of ten seconds is visible, with a fiftieth of it at both ends: a press at a time selects what ran
  // then.
  const box = await page.locator("#picture").boundingBox();
  const names = await page.locator("#lane-names li").evaluateAll((items) => items.map((item) => item.getBoundingClientRect().y + item.offsetHeight / 2));
  const press = async (lane, millis) => {
    await page.mouse.click(box.x + (box.width * (millis + 200)) / 10_400, names[lane]);
    return JSON.parse(await text(page, "#detail-raw")).n;
  };
  assert.equal(await press(1, 1_500), 3);
  assert.equal(await press(2, 7_800), 5);
  assert.equal(await press(1, 3_900), 3);
});

both("events are chosen by kind, text and routine, and stay as they are while paused", async (t, openPage) => {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  publisher.publish(started(1, 0), began(2, 100, "a"), ended(3, 200, "a"), began(4, 300, "b"), failed(5, 400, "b"));
  await publisher.taken();
  const page = await openPage(t, `${consoleOf(daemon)}#job=job-1`);
  await note(page, "5 events");
  await page.locator("#kinds-box summary").click();
  await page.locator('#kinds input[name="routine_started"]').uncheck();
  await note(page, "3 of 5 events");
  await page.locator("#find").fill("valueerror");
  await note(page, "1 of 5 events");
  await page.waitForFunction(() => document.querySelectorAll("#events .row").length === 1);
  assert.deepEqual((await page.locator("#events .row > span").allTextContents()).slice(1), ["routine_failed", "b", "ValueError: Invalid data"]);
  await page.locator("#find").fill("");
  await page.locator('#lane-names button[data-name="a"]').click();
  await note(page, "1 of 5 events");
  await page.locator('#lane-names button[data-name="a"]').click();
  await page.locator('#kinds input[name="routine_started"]').check();
  await page.locator("#pause").click();
  publisher.publish(...range(6, 105).map((n) => began(n, 500 + n, "c")));
  await note(page, "5 of 105 events · paused, 100 more since");
  // The rows follow the note in the next frame.
  await page.waitForFunction(() => document.querySelectorAll("#events .row").length === 5);
  await page.locator("#pause").click();
  await note(page, "105 events");
  assert.deepEqual(await told(page), range(1, 105));
});

both("a breakpoint shows where the job waits, with its variables", async (t, openPage) => {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  const breakpoint = { breakpoint_id: "bp", type: "routine", routine_id: "process_data", slot_name: "input" };
  const variables = { data: "example", count: 42 };
  publisher.publish(started(1, 0), line(2, 100, { type: "breakpoint_hit", breakpoint, context: { routine_id: "process_data", variables } }));
  const page = await openPage(t, `${consoleOf(daemon)}#job=job-1`);
  await page.locator("#stop").waitFor();
  assert.equal(await text(page, "#stop-text"), "Waiting at a breakpoint: process_data → input");
  assert.deepEqual(await page.locator("#stop-variables > *").allTextContents(), ["data", "example", "count", "42"]);
  await page.locator("#stop-text").click();
  assert.deepEqual(await page.locator("#detail-variables > *").allTextContents(), ["data", "example", "count", "42"]);
  publisher.publish(line(3, 200, { type: "breakpoint_resumed", breakpoint_id: "bp", data: { step_mode: "over" } }));
  await page.locator("#stop").waitFor({ state: "hidden" });
});

both("cut off and restarted with its state: no gap and no duplicate", async (t, openPage) => {
  const state = mkdtempSync(join(tmpdir(), "luxcast-page-"));
  t.after(() => rmSync(state, { recursive: true }));
  const daemon = await Daemon.start(t, "--state-dir", state, "--drain-seconds", "1");
  const publisher = await Publisher.start(daemon);
  publisher.publish(started(1, 0), ...range(2, 3_000).map((n) => began(n, n, "a")));
  const page = await openPage(t, `${consoleOf(daemon)}#job=job-1`);
  await hasTold(page, 3_000);
  await daemon.stop();
  await page.locator('#notice[data-tone="trouble"]').waitFor();
  publisher.publish(...range(3_001, 4_000).map((n) => began(n, n, "a")));
  await daemon.start();
  await publisher.connect();
  await hasTold(page, 4_000);
  await page.locator("#notice").waitFor({ state: "hidden" });
  assert.deepEqual(await told(page), range(1, 4_000));
});

both("a daemon that was killed is shown as a gap, in plain words", async (t, openPage) => {
  const daemon = await Daemon.start(t);
  const first = await Publisher.start(daemon);
  first.publish(started(1, 0), ...range(2, 500).map((n) => began(n, n, "a")));
  const page = await openPage(t, `${consoleOf(daemon)}#job=job-1`);
  await hasTold(page, 500);
  await daemon.kill();
  first.close();
  await page.locator('#notice[data-tone="trouble"]').waitFor();
  await page.waitForFunction(() => document.getElementById("status").textContent === "the daemon does not answer");
  await daemon.start();
  const second = await Publisher.start(daemon);
  second.publish(...range(501, 600).map((n) => began(n, n, "a")));
  await hasTold(page, 600);
  await page.locator('#notice[data-tone="gap"]').waitFor();
  assert.equal(await text(page, "#notice-text"), "Some events may be missing: the daemon was restarted");
  assert.deepEqual(await told(page), [...range(1, 500), "gap", ...range(501, 600)]);
});

/** A daemon with one token, for the job `job-1`, and a second job. */
async function guarded(t) {
  const directory = mkdtempSync(join(tmpdir(), "luxcast-page-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, "tokens");
  writeFileSync(file, "s3cret-one jobs=job-*\n", { mode: 0o600 });
  const daemon = await Daemon.start(t, "--token-file", file);
  const publisher = await Publisher.start(daemon);
  publisher.publish(started(1, 0), { ...started(2, 0), job_id: "hidden" });
  await publisher.taken();
  return daemon;
}

async function enter(page, token) {
  await page.locator("#token").fill(token);
  await page.keyboard.press("Enter");
}

both("a token is asked for, and never in the address", async (t, openPage) => {
  const daemon = await guarded(t);
  const page = await openPage(t, consoleOf(daemon));
  await page.locator("#token-dialog").waitFor();
  assert.equal(await text(page, "#token-title"), "Enter a token");
  assert.ok(await page.locator("#token-words").isHidden(), "the title says it");
  await page.keyboard.type("wrong");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("token-words").textContent === "The token is unknown.");
  await page.waitForFunction(() => document.getElementById("token-dialog").open && document.getElementById("token").value === "");
  await enter(page, "s3cret-one");
  await open(page, "job-1");
  await hasTold(page, 1);
  assert.equal(await rowOf(page, "hidden").count(), 0);
  assert.ok(!page.url().includes("s3cret"));
  await page.locator("#daemon-button").click();
  await page.waitForFunction(() => document.getElementById("daemon-note").textContent.includes("scope admin"));
  assert.ok(!daemon.stderr.includes("s3cret"));
});

both("a job that is not known is called so once the daemon has answered, not while a token is asked for", async (t, openPage) => {
  const daemon = await guarded(t);
  const page = await openPage(t, `${consoleOf(daemon)}#job=job-none`);
  await page.locator("#token-dialog").waitFor();
  assert.equal(await page.evaluate(() => document.getElementById("job-status").hidden), true);
  await enter(page, "s3cret-one");
  await page.locator('#job-status:text-is("not known: not begun yet, or forgotten")').waitFor();
});

both("Escape clears a search, then leaves it", async (t, openPage) => {
  const daemon = await Daemon.start(t);
  const page = await openPage(t, consoleOf(daemon));
  await page.keyboard.press("/");
  await page.waitForFunction(() => document.activeElement.id === "search");
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => document.activeElement.id === "jobs");
});

both("a viewer who declines to give another token for a job is not asked again and again", async (t, openPage) => {
  const daemon = await guarded(t);
  const page = await openPage(t, consoleOf(daemon));
  await enter(page, "s3cret-one");
  await rowOf(page, "job-1").waitFor();
  await page.evaluate(() => (location.hash = "#job=hidden"));
  const dialog = page.locator("#token-dialog");
  await dialog.waitFor();
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => document.getElementById("notice-text").textContent.startsWith("The daemon refuses to show this job"));
  await page.waitForTimeout(1_500);
  assert.ok(await dialog.isHidden());
  await open(page, "job-1");
  await hasTold(page, 1);
});

test("a token is kept for the tab, and for no other tab", async (t) => {
  const daemon = await guarded(t);
  const page = await openPage(t, `${consoleOf(daemon)}#job=job-1`);
  await enter(page, "s3cret-one");
  await hasTold(page, 1);
  await page.reload();
  await hasTold(page, 1);
  const another = await page.context().newPage();
  await another.goto(consoleOf(daemon));
  await another.locator("#token-dialog").waitFor();
});

/** Passes on requests below a path of its own, as a proxy before several services does. */
async function proxy(t, daemon, prefix) {
  const [host, port] = daemon.address.split(":");
  const server = createServer((incoming, outgoing) => {
    const headers = { ...incoming.headers, host: incoming.headers.host };
    const onward = request({ host, port, path: incoming.url.slice(prefix.length), method: incoming.method, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    });
    onward.on("error", () => outgoing.destroy());
    incoming.pipe(onward);
  });
  server.on("upgrade", (incoming, socket) => {
    const fields = Object.entries(incoming.headers).map(([name, value]) => `${name}: ${value}\r\n`);
    const onward = connect(port, host);
    onward.write(`GET ${incoming.url.slice(prefix.length)} HTTP/1.1\r\n${fields.join("")}\r\n`);
    onward.pipe(socket).pipe(onward);
    for (const end of [onward, socket]) end.on("error", () => [onward, socket].forEach((end) => end.destroy()));
  });
  server.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}${prefix}/console/`;
}

both("it works below the path of a proxy", async (t, openPage) => {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  publisher.publish(started(1, 0), began(2, 100, "a"));
  const page = await openPage(t, await proxy(t, daemon, "/tools/live"));
  await open(page, "job-1");
  await hasTold(page, 2);
});

test("behind a proxy that lets no WebSocket through, a job comes over HTTP, and the page says so until one does", async (t) => {
  const state = mkdtempSync(join(tmpdir(), "luxcast-http-"));
  t.after(() => rmSync(state, { recursive: true }));
  const daemon = await Daemon.start(t, "--state-dir", state, "--drain-seconds", "1");
  const front = await Front.start(t, daemon);
  front.upgrades = { status: 403, fields: { "Content-Type": "text/html" }, body: "<h1>Forbidden</h1>" };
  const publisher = await Publisher.start(daemon);
  publisher.publish(started(1, 0), began(2, 1_000, "validator"));
  const page = await openPage(t, `${consoleOf(front)}#job=job-1`);
  await hasTold(page, 2);
  assert.equal(await text(page, "#job-transport"), "Over plain HTTP: no WebSocket gets through");
  await page.locator("#notice").waitFor({ state: "hidden" });
  publisher.publish(ended(3, 4_000, "validator"));
  await hasTold(page, 3);
  await daemon.stop();
  publisher.publish(began(4, 5_000, "sink"));
  await page.locator('#job-transport:text-is("")').waitFor({ state: "attached" });
  await daemon.start();
  await publisher.connect();
  await hasTold(page, 4);
  if (process.env.LUXCAST_PICTURES !== undefined) await page.screenshot({ path: `${process.env.LUXCAST_PICTURES}/over_http.png` });
  front.upgrades = "pass";
  // As if the machine were in another network.
  await page.evaluate(() => globalThis.dispatchEvent(new Event("online")));
  await page.locator('#job-transport:text-is("")').waitFor({ state: "attached" });
  publisher.publish(ended(5, 6_000, "sink"));
  await hasTold(page, 5);
  assert.deepEqual(await told(page), range(1, 5));
});

test("behind a proxy that swallows what a WebSocket brings, a job comes over HTTP", async (t) => {
  const daemon = await Daemon.start(t);
  const front = await Front.start(t, daemon);
  front.upgrades = "swallow";
  const publisher = await Publisher.start(daemon);
  publisher.publish(started(1, 0), began(2, 1_000, "validator"));
  const page = await openPage(t, `${consoleOf(front)}#job=job-1`);
  await hasTold(page, 2);
  assert.deepEqual(await told(page), range(1, 2));
  assert.equal(await text(page, "#job-transport"), "Over plain HTTP: no WebSocket gets through");
  // The next job comes without that wait.
  const upgrades = () => front.asked.filter(({ url, headers }) => headers.upgrade !== undefined && url.includes("/job-2/")).length;
  publisher.publish({ ...started(3, 0), job_id: "job-2" });
  await open(page, "job-2");
  await hasTold(page, 3);
  assert.equal(upgrades(), 0);
});

both("everything can be done with the keyboard", async (t, openPage) => {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  publisher.publish(started(1, 0), began(2, 100, "a"), ended(3, 200, "a"));
  publisher.publish({ ...started(1, 0), job_id: "other", flow_id: "another_flow" });
  const page = await openPage(t, consoleOf(daemon));
  await rowOf(page, "job-1").waitFor();
  await page.keyboard.press("j");
  const press = async (...keys) => {
    for (const key of keys) await page.keyboard.press(key);
  };
  const isActive = (name) => page.locator(`#jobs .row.active .name:text-is("${name}")`).waitFor();
  await press("ArrowDown", "ArrowDown");
  await isActive("other");
  await press("ArrowLeft");
  await isActive("another_flow");
  await press("ArrowLeft");
  await rowOf(page, "other").waitFor({ state: "detached" });
  await press("ArrowRight", "End", "Enter");
  await hasTold(page, 3);
  assert.equal(await page.evaluate(() => document.activeElement.id), "job-name");
  await note(page, "3 events");
  await page.locator("#events").focus();
  await press("End", "Enter");
  await page.locator("#detail").waitFor();
  assert.equal(JSON.parse(await text(page, "#detail-raw")).n, 3);
  await page.locator("#detail-raw").focus();
  await press("Escape");
  assert.equal(await page.evaluate(() => document.activeElement.id), "events");
  await press("/");
  assert.equal(await page.evaluate(() => document.activeElement.id), "find");
  await page.locator("#picture").focus();
  await press("Home", "+", "+", "ArrowLeft");
  await page.locator('#live[aria-pressed="false"]').waitFor();
  await press("End");
  await page.locator('#live[aria-pressed="true"]').waitFor();
});

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

for (const [colorScheme, width] of [["light", 1280], ["dark", 1280], ["light", 390], ["dark", 390]]) {
  test(`axe finds nothing, ${colorScheme} and ${width} pixels wide`, async (t) => {
    const daemon = await Daemon.start(t);
    const publisher = await Publisher.start(daemon);
    const breakpoint = { breakpoint_id: "bp", routine_id: "a", slot_name: "input" };
    publisher.publish(started(1, 0), began(2, 100, "a"), failed(3, 200, "a"));
    publisher.publish(line(4, 300, { type: "breakpoint_hit", breakpoint, context: { variables: { x: 1 } } }));
    for (const [index, type] of ["job_paused", "job_completed", "job_failed", "job_cancelled"].entries()) {
      publisher.publish({ ...line(5, 400, { type }), job_id: `other-${index}` });
    }
    const page = await openPage(t, consoleOf(daemon), { colorScheme, viewport: { width, height: 800 } });
    await rowOf(page, "job-1").waitFor();
    const examine = async (what) => {
      await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
      const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" | ")}`);
      assert.deepEqual(found, [], what);
    };
    await examine("the list");
    await open(page, "job-1");
    await page.locator("#stop").waitFor();
    await examine("a job");
    await page.locator("#stop-text").click();
    await page.locator("#kinds-box summary").click();
    await examine("an event");
    await page.locator("#daemon-button").click();
    await page.waitForFunction(() => document.querySelector('[data-figure="version"]')?.textContent !== "");
    await examine("the daemon");
    await page.locator("#daemon-close").click();
    await page.locator("#token-button").click();
    await examine("the question for a token");
  });
}

test("50,000 events of one job: few rows on the page, and no long task", async (t) => {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  const lines = [started(1, 0)];
  for (let n = 2; lines.length < 50_000; n += 2) {
    const routine = `routine_${n % 7}`;
    lines.push(began(n, n / 3, routine), ended(n + 1, n / 3 + 1, routine));
  }
  for (let place = 0; place < lines.length; place += 1_000) publisher.publish(...lines.slice(place, place + 1_000));
  await publisher.taken();
  const page = await openPage(t, consoleOf(daemon));
  await rowOf(page, "job-1").waitFor();
  await page.evaluate(() => {
    globalThis.tasks = [];
    new PerformanceObserver((list) => globalThis.tasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: "longtask" });
  });
  await open(page, "job-1");
  await hasTold(page, lines.at(-1).n);
  await note(page, `${lines.length.toLocaleString("en-US")} events`);
  assert.deepEqual(await told(page), lines.map(({ n }) => n));
  // Uses it: through the list, across the picture, while more comes.
  const frames = await page.evaluate(async () => {
    const [list, picture] = ["events", "picture"].map((id) => document.getElementById(id));
    const times = [];
    let before = performance.now();
    for (let frame = 0; frame < 120; frame += 1) {
      list.scrollTop = (list.scrollHeight * frame) / 120;
      picture.dispatchEvent(new KeyboardEvent("keydown", { key: frame % 2 === 0 ? "+" : "-", bubbles: true }));
      await new Promise(requestAnimationFrame);
      const now = performance.now();
      times.push(now - before);
      before = now;
    }
    return times.sort((one, other) => one - other);
  });
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable");
  await session.send("HeapProfiler.collectGarbage");
  const { metrics } = await session.send("Performance.getMetrics");
  const heap = metrics.find(({ name }) => name === "JSHeapUsedSize").value / 1_048_576;
  const tasks = await page.evaluate(() => globalThis.tasks);
  const longest = Math.max(0, ...tasks);
  t.diagnostic(`${tasks.length} tasks over 50 ms, longest ${longest.toFixed(0)} ms; frames: median ${frames[60].toFixed(1)} ms, 95 % ${frames[114].toFixed(1)} ms; ${heap.toFixed(0)} MiB`);
  assert.ok((await page.locator("#events .row").count()) < 100, "only what is visible is on the page");
  assert.ok(longest < 1_000, `a task took ${longest} ms`);
  assert.ok(frames[60] < 250, `half of the frames took more than ${frames[60]} ms`);
  assert.ok(heap < 300, `${heap} MiB`);
});

both("the daemon's card shows its figures and the watchers furthest behind", async (t, openPage) => {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  const stalled = connect(Number(daemon.address.split(":")[1]), "127.0.0.1");
  t.after(() => stalled.destroy());
  stalled.write(`GET /api/v1/ws/events HTTP/1.1\r\nHost: ${daemon.address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`);
  await new Promise((resolve) => stalled.once("data", resolve));
  // It stops reading; what is sent fills the buffers of both ends.
  stalled.pause();
  const fill = "x".repeat(4_000);
  for (let n = 0; n < 5_000; n += 100) publisher.publish(...range(n + 1, n + 100).map((n) => line(n, n, { type: "custom", data: { fill } })));
  await publisher.taken();
  const page = await openPage(t, consoleOf(daemon));
  await page.locator("#daemon-button").click();
  await page.waitForFunction(() => document.querySelectorAll("#slowest tbody tr").length === 1);
  const figure = (name) => text(page, `[data-figure="${name}"]`);
  assert.match(await figure("taken"), /, 5,000 so far$/);
  assert.equal(await figure("watchers"), "1 (1 events)");
  assert.equal(await figure("lagging"), "1");
  const [address, topics, events] = await page.locator("#slowest tbody td").allTextContents();
  assert.ok(address.startsWith("127.0.0.1:") && topics === "all" && Number(events.replaceAll(",", "")) > 0, `${address} ${topics} ${events}`);
  await page.locator("#daemon-close").click();
  await page.locator("#daemon").waitFor({ state: "hidden" });
});

both("thousands of jobs: few rows on the page, found by search", async (t, openPage) => {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  publisher.publish(...range(1, 5_000).map((n) => ({ ...started(n, n), job_id: `job-${n}`, flow_id: `flow_${n % 40}` })));
  await publisher.taken();
  const page = await openPage(t, consoleOf(daemon));
  await page.waitForFunction(() => document.getElementById("jobs-note").textContent === "5,000 jobs");
  assert.ok((await page.locator("#jobs .row").count()) < 100);
  await page.locator("#search").fill("job-4321");
  await rowOf(page, "job-4321").waitFor();
  assert.equal(await text(page, "#jobs-note"), "1 of 5,000 jobs");
  await page.locator("#search").fill("");
  publisher.publish({ ...line(1, 30_000, { type: "job_completed", data: {} }), job_id: "job-7", flow_id: "flow_7" });
  await page.locator("#state").selectOption("completed");
  await rowOf(page, "job-7").waitFor();
});
