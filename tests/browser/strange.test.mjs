// The live page when publishers, people, browsers and proxies do unusual things.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { Daemon, Publisher, both, closeBrowser, consoleOf, openPage, text, told } from "./harness.js";

after(closeBrowser);

const BEGIN = Date.now() - 20_000;
const at = (millis, event) => ({ job_id: "job-1", timestamp: new Date(BEGIN + millis).toISOString(), ...event });
const hasTold = (page, n) => page.waitForFunction((n) => globalThis.luxcast.told().some((event) => event.n === n), n);
const rowOf = (page, kind) => page.locator("#events .row", { has: page.locator(`.kind:text-is("${kind}")`) });
const jobOf = (page, name) => page.locator("#jobs .row", { has: page.locator(`.name:text-is("${name}")`) });

/** A daemon that has received these lines, texts among them unchanged, and its page. */
async function watch(t, lines, { job = "job-1", flags = [], hash = `#job=${job}`, page: options = {}, open = openPage } = {}) {
  const daemon = await Daemon.start(t, ...flags);
  const publisher = await Publisher.start(daemon);
  publisher.publish(...lines);
  await publisher.taken();
  const page = await open(t, `${consoleOf(daemon)}${hash}`, options);
  return { daemon, publisher, page };
}

/** Writes lines unchanged. */
async function write(daemon, ...lines) {
  const socket = connect(daemon.ingest);
  await new Promise((resolve) => socket.end(`${lines.join("\n")}\n`, resolve));
}

/** A daemon with one token, `good`. */
async function guarded(t) {
  const directory = mkdtempSync(join(tmpdir(), "luxcast-page-"));
  t.after(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, "tokens"), "good all\n", { mode: 0o600 });
  const daemon = await Daemon.start(t, "--token-file", join(directory, "tokens"));
  const publisher = await Publisher.start(daemon);
  publisher.publish(at(0, { type: "job_started", n: 1 }));
  await publisher.taken();
  return daemon;
}

test("a time without a zone is the same instant in rows and head, wherever the browser is", async (t) => {
  const naive = "2026-11-23T10:00:00";
  const { page } = await watch(t, [at(0, { type: "job_started", timestamp: naive }), at(0, { type: "note", timestamp: "20261123T100001Z", n: 2 })], { page: { timezoneId: "Asia/Tokyo" } });
  await hasTold(page, 2);
  await rowOf(page, "note").waitFor();
  assert.equal(await rowOf(page, "job_started").locator(".time").textContent(), "19:00:00.000");
  assert.equal(await rowOf(page, "note").locator(".time").textContent(), "19:00:01.000");
  await page.waitForFunction(() => document.getElementById("job-start").textContent.endsWith("19:00:00"));
});

test("an event without a readable time has its arrival, past and live", async (t) => {
  const lines = [{ type: "job_started", job_id: "job-1" }, ...["a", "b"].flatMap((routine_id) => [{ type: "routine_started", job_id: "job-1", routine_id, timestamp: "step 3" }, { type: "routine_completed", job_id: "job-1", routine_id, n: routine_id }])];
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  publisher.publish(...lines);
  await publisher.taken();
  const page = await openPage(t, consoleOf(daemon));
  const arrived = BEGIN - (BEGIN % 1000);
  await page.route(/\/console\/arrivals/, (route) => {
    const from = Number(new URL(route.request().url()).searchParams.get("from"));
    // From the last entry at or before an event: two have the time of the second.
    route.fulfill({ json: { arrivals: [0, 1, 3].map((place) => [from + place, arrived + place * 1000]) } });
  });
  await page.evaluate(() => (location.hash = "#job=job-1"));
  await hasTold(page, "b");
  await page.waitForFunction(() => document.querySelectorAll("#events .row").length === 5);
  const clock = (seconds) => new Date(arrived + seconds * 1000).toTimeString().slice(0, 8) + ".000";
  assert.deepEqual(await page.locator("#events .row .time").allTextContents(), [0, 1, 1, 3, 3].map(clock));
  publisher.publish({ type: "live", job_id: "job-1", timestamp: { toString: 1 } });
  await page.waitForFunction(() => /^\d\d:\d\d:\d\d\.\d{3}$/.test(document.querySelector("#events .row:last-child .time")?.textContent) && document.querySelectorAll("#events .row").length === 6);
});

for (const job_id of ["..", "."]) {
  test(`the past of the job ${job_id} has its arrivals too`, async (t) => {
    const daemon = await Daemon.start(t);
    const publisher = await Publisher.start(daemon);
    publisher.publish({ type: "job_started", job_id }, { type: "note", job_id, n: 1 });
    await publisher.taken();
    const page = await openPage(t, consoleOf(daemon));
    const asked = [];
    await page.route(/\/console\/arrivals/, async (route) => {
      const answer = await route.fetch();
      const { arrivals } = await answer.json();
      asked.push([answer.status(), new URL(route.request().url()).search]);
      await route.fulfill({ json: { arrivals: arrivals.map(([seq]) => [seq, BEGIN]) } });
    });
    await page.evaluate((id) => (location.hash = `#job=${id}`), job_id);
    await hasTold(page, 1);
    await page.waitForFunction(() => document.querySelectorAll("#events .row").length === 2);
    const arrived = new Date(BEGIN).toTimeString().slice(0, 8);
    for (const time of await page.locator("#events .row .time").allTextContents()) assert.ok(time.startsWith(arrived), `${time}, not ${arrived}`);
    assert.equal(asked.length, 1);
    assert.equal(asked[0][0], 200, asked[0][1]);
    publisher.publish({ type: "live", job_id, n: 2 });
    await hasTold(page, 2);
    await rowOf(page, "live").waitFor();
    assert.ok(!(await rowOf(page, "live").locator(".time").textContent()).startsWith(arrived));
    assert.equal(asked.length, 1, "live events take their arrival from the page's own clock");
  });
}

both("foreign values affect nothing but themselves", async (t, open) => {
  const odd = { toString: 1, valueOf: null };
  const members = ["timestamp", "routine_id", "data", "event", "breakpoint", "context", "metrics", "error"];
  const types = ["job_started", "job_paused", "routine_started", "routine_completed", "routine_failed", "breakpoint_hit", "breakpoint_resumed", "execution_event", "metrics", "constructor", "toString", "__proto__", "job_failed"];
  const inner = { slot_name: odd, event_name: odd, duration: odd, error: odd, reason: odd, entry_routine: odd, params: odd, total_events: odd, events_emitted: odd, step_mode: odd, event_type: odd, data: odd, variables: odd, routine_id: odd };
  const lines = types.flatMap((type) => [odd, 7, "text", [odd], null, inner].map((value) => ({ ...Object.fromEntries(members.map((name) => [name, value])), type, job_id: "job-1" })));
  const { page, publisher } = await watch(t, [...lines.map((line, n) => ({ ...line, n })), at(0, { type: "last", n: lines.length })], { open });
  await hasTold(page, lines.length);
  assert.deepEqual(await told(page), [...lines.keys(), lines.length]);
  await page.locator("#find").fill("constructor");
  await rowOf(page, "constructor").first().waitFor();
  assert.ok(await page.locator("#notice").isHidden(), "every event could be shown");
  await page.locator("#find").fill("");
  publisher.publish(at(1, { type: "job_started" }), at(2, { type: "constructor", routine_id: "constructor", n: 999 }));
  await hasTold(page, 999);
  await page.locator("#job-status[data-status=running]").waitFor();
});

both("jobs with the names of directories and of JavaScript's own can be opened, and the page lives on", async (t, open) => {
  const names = ["..", ".", "constructor", "__proto__", "job-1"];
  const { page } = await watch(t, names.map((job_id) => at(0, { type: "job_started", job_id, n: 1 })), { hash: "", open });
  for (const name of names) {
    await jobOf(page, name).click();
    await page.waitForFunction((name) => document.getElementById("job-name").textContent === name, name);
    await hasTold(page, 1);
  }
});

both("a traceback is shown by its exception, and all of it can be read", async (t, open) => {
  const traceback = 'Traceback (most recent call last):\n  File "etl.py", line 3, in run\n    load()\nKeyError: 7\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File "etl.py", line 9, in run\n    raise ValueError("no such row")\nValueError: no such row\n';
  const { page } = await watch(t, [at(0, { type: "job_started" }), at(9, { type: "job_failed", data: { error: traceback, routine_id: "sink" } })], { open });
  await page.locator("#failure").waitFor();
  assert.equal(await text(page, "#failure-text"), "Failed in sink: ValueError: no such row");
  await rowOf(page, "job_failed").waitFor();
  assert.equal(await rowOf(page, "job_failed").locator(".summary").textContent(), "ValueError: no such row");
  await page.locator("#failure-text").focus();
  await page.keyboard.press("Enter");
  await page.locator("#detail").waitFor();
  assert.deepEqual(await page.locator("#detail-texts > *").allTextContents(), ["data.error", traceback]);
});

test("with all storage blocked the page works, and knows the token until it is reloaded", async (t) => {
  const daemon = await guarded(t);
  const page = await openPage(t, consoleOf(daemon), {}, () => {
    for (const name of ["localStorage", "sessionStorage"]) {
      Object.defineProperty(globalThis, name, { get() { throw new DOMException("denied", "SecurityError"); } });
    }
  });
  await page.locator("#token").fill("good");
  await page.keyboard.press("Enter");
  await jobOf(page, "job-1").click();
  await hasTold(page, 1);
  await page.locator("#theme").click();
  await page.locator('html[data-theme="light"]').waitFor();
  await page.reload();
  await page.locator("#token-dialog").waitFor();
});

both("a token is checked as it is typed, and extracted from what surrounds it", async (t, openPage) => {
  const daemon = await guarded(t);
  const page = await openPage(t, consoleOf(daemon));
  for (const bad of ["go od", "gööd", "Bearer ", "good\u2026"]) {
    await page.locator("#token").fill(bad);
    await page.keyboard.press("Enter");
    assert.notEqual(await text(page, "#token-problem"), "", bad);
    assert.ok(await page.locator("#token-dialog").isVisible(), bad);
  }
  for (const pasted of ["Bearer good", " \u201cgood\u201d\u200b", "Authorization: bearer good"]) {
    await page.locator("#token").fill(pasted);
    await page.keyboard.press("Enter");
    await jobOf(page, "job-1").waitFor();
    await page.locator("#token-button").click();
    await page.locator("#token-forget").click();
    await page.locator("#token-dialog").waitFor();
  }
});

test("a token that a tab kept with its surroundings is extracted", async (t) => {
  const page = await openPage(t, consoleOf(await guarded(t)));
  await page.evaluate(() => sessionStorage.setItem("luxcast.token", "Bearer \u201cgood\u201d"));
  await page.reload();
  await jobOf(page, "job-1").waitFor();
});

/** A proxy before a daemon: `judge` answers a request itself, or lets it through. */
async function proxy(t, daemon, judge) {
  const [host, port] = daemon.address.split(":");
  const server = createServer((incoming, outgoing) => {
    if (judge(incoming, outgoing)) return;
    const onward = request({ host, port, path: incoming.url, method: incoming.method, headers: incoming.headers }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    });
    onward.on("error", () => outgoing.destroy());
    incoming.pipe(onward);
  });
  server.on("upgrade", (incoming, socket) => {
    const outgoing = { writeHead: (status, fields = {}) => socket.write(`HTTP/1.1 ${status} No\r\nContent-Length: 0\r\n${Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`), end: () => socket.end() };
    if (judge(incoming, outgoing)) return;
    const onward = connect(port, host);
    onward.write(`GET ${incoming.url} HTTP/1.1\r\n${Object.entries(incoming.headers).map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`);
    onward.pipe(socket).pipe(onward);
    for (const end of [onward, socket]) end.on("error", () => [onward, socket].forEach((end) => end.destroy()));
    socket.on("close", () => onward.destroy());
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}/console/`;
}

test("a proxy's answers are named as such, ask for no token, and are forgotten once they are over", async (t) => {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  publisher.publish(at(0, { type: "job_started", n: 1 }));
  let status = 0;
  const address = await proxy(t, daemon, (incoming, outgoing) => {
    if (status === 0 || !/jobs/.test(incoming.url)) return false;
    outgoing.writeHead(status, { "Content-Type": "text/html", ...(status === 302 && { Location: "/sign-in" }) });
    outgoing.end("<html>no");
    return true;
  });
  const page = await openPage(t, `${address}#job=job-1`);
  await hasTold(page, 1);
  for (const answer of [401, 302]) {
    status = answer;
    const words = answer === 302 ? "A proxy redirects" : `A proxy answered, not the daemon (HTTP status ${answer})`;
    await page.waitForFunction((words) => document.getElementById("status").textContent.startsWith(words), words);
    assert.ok(await page.locator("#token-dialog").isHidden());
  }
  status = 0;
  await page.waitForFunction(() => document.getElementById("status").textContent === "live");
});

test("the page's token works beside the password of a proxy", async (t) => {
  const daemon = await guarded(t);
  const wanted = `Basic ${Buffer.from("someone:secret").toString("base64")}`;
  const address = await proxy(t, daemon, (incoming, outgoing) => {
    if (incoming.headers.authorization === wanted) return false;
    outgoing.writeHead(401, { "WWW-Authenticate": 'Basic realm="x"' });
    outgoing.end();
    return true;
  });
  const page = await openPage(t, address, { httpCredentials: { username: "someone", password: "secret" } });
  await page.locator("#token").fill("good");
  await page.keyboard.press("Enter");
  await jobOf(page, "job-1").click();
  await hasTold(page, 1);
});

for (const [width, height] of [[390, 760], [760, 390]]) {
  test(`sixty variables leave room for the events, ${width} by ${height}`, async (t) => {
    const variables = Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`variable_${n}`, { n, text: "so much and more" }]));
    const hit = at(9, { type: "breakpoint_hit", breakpoint: { breakpoint_id: "b", routine_id: "routine_with_a_name", slot_name: "input" }, context: { variables } });
    const { page } = await watch(t, [at(0, { type: "job_started" }), hit], { page: { viewport: { width, height } } });
    await page.locator("#stop").waitFor();
    await rowOf(page, "breakpoint_hit").waitFor();
    assert.ok((await page.locator("#events").boundingBox()).height >= 120);
    assert.ok(await rowOf(page, "breakpoint_hit").locator(".routine").isVisible());
    assert.equal(await page.locator("#stop-variables dt").count(), 60);
    const canScroll = await page.locator("#stop-variables").evaluate((list) => {
      list.scrollTop = 1e6;
      return list.scrollTop > 0;
    });
    assert.ok(canScroll);
    await page.locator("#stop-text").click();
    await page.locator("#detail-title").waitFor();
    assert.ok((await page.locator("#detail-title").boundingBox()).width > 80);
    await page.locator("#detail-variables dd").last().scrollIntoViewIfNeeded();
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nothing is beside the page");
  });
}

test("the panel and the clipboard have the text as it came", async (t) => {
  const daemon = await Daemon.start(t);
  const line = '{ "type":"note" ,"job_id":"job-1", "n":1,"data":{"id":9007199254740993,"much":1e400,"one":1.0,"minus":-0,"text":"\\u0041\\/","empty":{},"list":[ ]}}';
  await write(daemon, line);
  const page = await openPage(t, `${consoleOf(daemon)}#job=job-1`, { permissions: ["clipboard-read", "clipboard-write"] });
  await hasTold(page, 1);
  const summary = await rowOf(page, "note").locator(".summary").textContent();
  for (const token of ["9007199254740993", "1e400", "1.0", "-0"]) assert.ok(summary.includes(token), summary);
  await rowOf(page, "note").click();
  const panel = await text(page, "#detail-raw");
  assert.ok(panel.includes('"id": 9007199254740993,\n    "much": 1e400,\n    "one": 1.0,\n    "minus": -0,\n    "text": "\\u0041\\/",\n    "empty": {},\n    "list": []\n'), panel);
  await page.locator("#detail-copy").click();
  await page.locator('#detail-copy:text-is("Copied")').waitFor();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  assert.ok(copied.endsWith(line.slice(line.indexOf('"type"'))), copied);
});

test("on plain HTTP a copy is made without a clipboard", async (t) => {
  // An id that begins like an option is not one.
  const { page } = await watch(t, [at(0, { type: "note", job_id: "-1", n: 1 })], { job: "-1", page: { permissions: ["clipboard-read"] } });
  await page.evaluate(() => Object.defineProperty(navigator.clipboard, "writeText", { value: undefined }));
  await hasTold(page, 1);
  for (const [button, words] of [["#copy-tail", "luxcast tail --job=-1 --since start"], ["#detail-copy", '"type":"note"']]) {
    if (button === "#detail-copy") await rowOf(page, "note").click();
    await page.locator(button).click();
    await page.locator(`${button}:text-is("Copied")`).waitFor();
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert.ok(copied.includes(words), copied);
  }
});

test("a page without frames takes everything, and keeps no more than its limit", async (t) => {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  publisher.publish(at(0, { type: "job_started", n: 0 }));
  const page = await openPage(t, `${consoleOf(daemon)}#job=job-1`, {}, () => {
    globalThis.frames_ = [];
    globalThis.requestAnimationFrame = (draw) => globalThis.frames_.push(draw);
    Object.defineProperty(document, "hidden", { get: () => true });
    Object.defineProperty(document, "visibilityState", { get: () => "hidden" });
  });
  await page.waitForFunction(() => globalThis.luxcast.told().length === 1, null, { polling: 50 });
  for (let n = 0; n < 20_000; n += 1_000) publisher.publish(...Array.from({ length: 1_000 }, (_, place) => at(n, { type: "note", n: n + place + 1 })));
  await page.waitForFunction(() => globalThis.luxcast.told().at(-1).n === 20_000, null, { polling: 200 });
  assert.ok((await page.evaluate(() => globalThis.frames_.length)) < 20, "and asks for no frame for each");
});

test("attempts are separate, a late end belongs to its run, and one wrong clock sets no scale", async (t) => {
  const hour = -3_600_000;
  const lines = [
    at(hour, { type: "job_started" }),
    at(hour + 1_000, { type: "routine_started", routine_id: "load" }),
    at(hour + 2_000, { type: "job_failed", data: { error: "no" } }),
    at(hour + 3_000, { type: "routine_completed", routine_id: "load", n: 4 }),
    at(0, { type: "job_started" }),
    at(1_000, { type: "routine_started", routine_id: "load" }),
    at(2_000, { type: "note", timestamp: "1970-01-01T00:00:00Z" }),
    at(3_000, { type: "routine_completed", routine_id: "load", n: 8 }),
    at(4_000, { type: "job_completed" }),
  ];
  const { page } = await watch(t, lines);
  await page.locator("#attempt").waitFor();
  const lane = () => text(page, '#lane-names button[data-name="load"] small');
  const press = async (share) => {
    const box = await page.locator("#picture").boundingBox();
    const name = await page.locator('#lane-names button[data-name="load"]').boundingBox();
    await page.mouse.click(box.x + box.width * share, name.y + name.height / 2);
    return JSON.parse(await text(page, "#detail-raw")).n;
  };
  assert.equal(await lane(), "1 run · 2.0 s");
  assert.equal(await press(0.5), 8);
  await page.locator("#attempt").selectOption("1");
  await page.waitForFunction(() => document.querySelector("#lane-names button small")?.textContent === "failed");
  assert.equal(await lane(), "1 run · 2.0 s");
  assert.equal(await press(0.6), 4);
  await page.locator("#attempt").selectOption("all");
  await page.waitForFunction(() => document.querySelector('#lane-names button[data-name="load"] small')?.textContent === "2 runs · 4.0 s");
});

test("events without a time of their own set no scale for a publisher whose clock is hours behind", async (t) => {
  const [hour, minute] = [3_600_000, 60_000];
  const run = [at(-6 * hour, { type: "job_started" }), at(-6 * hour, { type: "routine_started", routine_id: "load" }), ...Array.from({ length: 30 }, (_, n) => at(-6 * hour + n * 2_000, { type: "note" })), at(-6 * hour + minute, { type: "routine_completed", routine_id: "load", n: 33 })];
  const { page } = await watch(t, [...run, at(-11.5 * hour, { type: "note" }), { type: "note", job_id: "job-1" }, { type: "job_failed", job_id: "job-1", n: 36 }]);
  await hasTold(page, 36);
  await page.locator("#job-status[data-status=failed]").waitFor();
  const name = await page.locator('#lane-names button[data-name="load"]').boundingBox();
  const box = await page.locator("#picture").boundingBox();
  for (const share of [0.1, 0.5, 0.9]) {
    await page.mouse.click(box.x + box.width * share, name.y + name.height / 2);
    await page.locator("#detail").waitFor({ timeout: 10_000 });
    assert.equal(JSON.parse(await text(page, "#detail-raw")).n, 33);
    await page.locator("#detail-close").click();
  }
});

both("a job whose start has the time of a clock at 1970 did not take half a century", async (t, open) => {
  const { page } = await watch(t, [at(0, { type: "job_started", timestamp: "1970-01-01T00:00:00Z" }), at(1_000, { type: "note" }), at(3_000, { type: "job_completed", n: 3 })], { open });
  await hasTold(page, 3);
  await page.waitForFunction(() => document.getElementById("job-duration").textContent === "2.0 s");
  assert.ok(!(await text(page, "#job-start")).includes("1970"));
});

both("a lost job is shown as lost, until another event comes", async (t, open) => {
  const lost = at(9_000, { type: "metrics", metrics: { total_events: 2, status: "lost" } });
  const { page, publisher } = await watch(t, [at(0, { type: "job_started" }), at(1_000, { type: "routine_started", routine_id: "a" }), lost], { open });
  await page.locator("#job-status[data-status=lost]").waitFor();
  assert.equal(await text(page, "#job-status"), "lost");
  await page.waitForFunction(() => document.querySelector("#lane-names button small")?.textContent === "lost");
  publisher.publish(at(9_500, { type: "routine_completed", routine_id: "a" }));
  await page.locator("#job-status[data-status=running]").waitFor();
  await page.waitForFunction(() => document.querySelector('#lane-names button[data-name="a"] small')?.textContent === "1 run · 8.5 s");
});

test("a job that was lost before anybody looked is shown as lost by the snapshot", async (t) => {
  const { page, publisher } = await watch(t, [at(0, { type: "job_started" }), at(1_000, { type: "note", n: 1 })], { hash: "" });
  await page.routeWebSocket(/\/monitor/, (socket) => {
    const server = socket.connectToServer();
    server.onMessage((text) => {
      const message = JSON.parse(text);
      if (message.type !== "metrics") return socket.send(text);
      socket.send(JSON.stringify({ ...message, metrics: { ...message.metrics, status: "lost" } }));
    });
  });
  await jobOf(page, "job-1").click();
  await hasTold(page, 1);
  await page.locator("#job-status[data-status=lost]").waitFor();
  await page.waitForFunction(() => document.querySelector("#lane-names button small")?.textContent === "lost");
  publisher.publish(at(2_000, { type: "note", n: 2 }));
  await hasTold(page, 2);
  await page.locator("#job-status[data-status=running]").waitFor();
});

both("a job whose publisher died is lost in head, lanes and list, and runs when it comes back", async (t, open) => {
  const { page, publisher } = await watch(t, [at(0, { type: "job_started" }), at(1_000, { type: "routine_started", routine_id: "a", n: 1 })], { flags: ["--job-idle-seconds", "1"], open });
  await page.locator("#job-status[data-status=lost]").waitFor();
  await page.waitForFunction(() => document.querySelector("#lane-names button small")?.textContent === "lost");
  await page.locator('#jobs .row[data-status="lost"]').waitFor();
  const feed = setInterval(() => publisher.publish(at(2_000, { type: "note", n: 2 })), 100);
  t.after(() => clearInterval(feed));
  await page.locator("#job-status[data-status=running]").waitFor();
  await page.locator('#jobs .row[data-status="running"]').waitFor();
});

test("the list of jobs shows lost ones, with a mark and a word of their own", async (t) => {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  publisher.publish(...["one", "two"].map((job_id) => at(0, { type: "job_started", job_id })));
  await publisher.taken();
  const page = await openPage(t, consoleOf(daemon));
  await page.route(/\/console\/jobs/, async (route) => {
    const answer = await (await route.fetch()).json();
    for (const job of answer.jobs) if (job.job_id === "one") job.status = "lost";
    answer.jobs = answer.jobs.filter(({ status }) => !route.request().url().includes("status=") || route.request().url().includes(status));
    await route.fulfill({ json: answer });
  });
  await jobOf(page, "one").locator('.status:text-is("lost")').waitFor({ state: "attached" });
  assert.notEqual(await jobOf(page, "one").locator(".mark").evaluate((mark) => getComputedStyle(mark, "::before").content), "none");
  await page.locator("#state").selectOption("lost");
  await jobOf(page, "two").waitFor({ state: "detached" });
  await jobOf(page, "one").click();
  await page.locator("#job-name").waitFor();
});

test("Escape and a press elsewhere close what is on top, one at a time", async (t) => {
  const { page } = await watch(t, [at(0, { type: "note", n: 1 })]);
  await hasTold(page, 1);
  const isOpen = () => page.evaluate(() => [document.getElementById("kinds-box").open, !document.getElementById("daemon").hidden, !document.getElementById("detail").hidden]);
  await rowOf(page, "note").click();
  await page.locator("#daemon-button").click();
  await page.locator("#kinds-box summary").focus();
  await page.keyboard.press("Enter");
  assert.deepEqual(await isOpen(), [true, true, true]);
  for (const rest of [[false, true, true], [false, false, true], [false, false, false]]) {
    await page.keyboard.press("Escape");
    assert.deepEqual(await isOpen(), rest);
  }
  await page.locator("#daemon-button").click();
  await page.locator("#head").click({ position: { x: 5, y: 5 } });
  assert.deepEqual(await isOpen(), [false, false, false]);
  await page.locator("#kinds-box summary").click();
  await page.locator("#head").click({ position: { x: 5, y: 5 } });
  assert.deepEqual(await isOpen(), [false, false, false]);
  await page.locator("#token-button").click();
  await page.mouse.click(5, 5);
  await page.locator("#token-dialog").waitFor({ state: "hidden" });
});

test("right-to-left text stays within its cell", async (t) => {
  const { page } = await watch(t, [at(0, { type: "routine_started", routine_id: "\u05d0\u05d1\u05d2 \u202e(1)", data: { slot_name: "\u0623\u0628 12" }, n: 1 })]);
  await hasTold(page, 1);
  await rowOf(page, "routine_started").waitFor();
  const cells = await page.locator("#events .row > span").evaluateAll((cells) => cells.map((cell) => getComputedStyle(cell).unicodeBidi));
  assert.deepEqual(cells, ["isolate", "isolate", "isolate", "isolate"]);
  assert.equal(await page.locator("#lane-names b").last().evaluate((name) => getComputedStyle(name).unicodeBidi), "isolate");
});

/** Cells and fields whose text does not fit, except names. */
const cutOff = (page) =>
  page.evaluate(() => {
    const isCut = (cell) => getComputedStyle(cell).position !== "absolute" && cell.scrollWidth > cell.clientWidth;
    const cells = [...document.querySelectorAll("#list .row > span:not(.name)")].filter(isCut).map((cell) => cell.textContent);
    const search = document.getElementById("search");
    const context = document.createElement("canvas").getContext("2d");
    context.font = getComputedStyle(search).font;
    const { paddingLeft, paddingRight } = getComputedStyle(search);
    const room = search.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
    return context.measureText(search.placeholder).width > room ? [...cells, search.placeholder] : cells;
  });

test("a phone's page is no wider than the phone, and its buttons can be reached, with a token and without", async (t) => {
  const open = await Daemon.start(t);
  const publisher = await Publisher.start(open);
  publisher.publish(at(0, { type: "job_started", n: 1 }));
  await publisher.taken();
  const closed = await guarded(t);
  for (const [daemon, words] of [[open, "live"], [closed, "a token is needed here"]]) {
    for (const hash of ["", "#job=job-1"]) {
      const page = await openPage(t, `${consoleOf(daemon)}${hash}`, { viewport: { width: 320, height: 640 } });
      if (daemon === closed) {
        await page.locator("#token-dialog").waitFor();
        await page.keyboard.press("Escape");
      }
      await page.locator(`#status:text-is("${words}")`).waitFor();
      for (const width of [320, 360, 390, 430]) {
        await page.setViewportSize({ width, height: 640 });
        const wide = await page.evaluate(() => [document.documentElement, document.body, document.getElementById("bar")].map(({ scrollWidth }) => scrollWidth));
        assert.deepEqual(wide, [width, width, width], `${words} ${hash}`);
        for (const id of ["#daemon-button", "#token-button", "#theme"]) {
          const { x, width: own } = await page.locator(id).boundingBox();
          assert.ok(x >= 0 && x + own <= width, `${id} at ${width}: ${words} ${hash}`);
        }
        assert.ok(await page.evaluate(() => document.getElementById("status").scrollWidth <= document.getElementById("status").clientWidth), words);
      }
    }
  }
});

test("nothing in the list of jobs is cut off, beside an open job, on a phone and in full", async (t) => {
  const lasted = (job_id, seconds) => [at(-1000 * seconds, { type: "job_started", job_id }), at(0, { type: "job_completed", job_id, n: job_id })];
  const lines = [["a", 3_599], ["b", 86_340], ["c", 8_722_800]].flatMap(([id, seconds]) => lasted(id, seconds));
  const { page } = await watch(t, lines, { job: "a" });
  await hasTold(page, "a");
  for (const [hash, width] of [["#job=a", 1_280], ["#job=a", 970], ["", 320], ["", 700], ["", 1_280]]) {
    await page.evaluate((hash) => (location.hash = hash), hash);
    await page.setViewportSize({ width, height: 700 });
    await jobOf(page, "c").locator(".duration:text-is('100 d 23 h')").waitFor();
    assert.deepEqual(await cutOff(page), [], `${hash} ${width}`);
  }
});

test("head and lane agree on a job without a start, and its lane has a bar", async (t) => {
  const { page, publisher } = await watch(t, [at(0, { type: "note", n: 1 }), at(10_000, { type: "note", n: 2 })]);
  const isSaid = (status) =>
    page.waitForFunction((status) => [document.getElementById("job-status"), document.querySelector("#lane-names small")].every((place) => place?.textContent === status), status);
  /** Presses the middle of the job's lane. */
  const press = async () => {
    const box = await page.locator("#picture").boundingBox();
    await page.mouse.click(box.x + box.width / 2, box.y + 14);
    await page.locator("#detail").waitFor();
    const { n } = JSON.parse(await text(page, "#detail-raw"));
    await page.locator("#detail-close").click();
    return n;
  };
  await isSaid("running");
  assert.equal(await press(), 1);
  publisher.publish(at(11_000, { type: "job_paused", n: 3 }));
  await isSaid("paused");
  publisher.publish(at(12_000, { type: "job_started", n: 4 }));
  await isSaid("running");
  publisher.publish(at(60_000, { type: "job_completed", n: 5 }));
  await isSaid("completed");
});

test("a job that the daemon knows to be paused is shown so in head and lane, even without an event that says so", async (t) => {
  const { page } = await watch(t, [at(0, { type: "note", n: 1 })], { hash: "" });
  await page.route(/\/console\/jobs/, async (route) => {
    const answer = await (await route.fetch()).json();
    for (const job of answer.jobs) job.status = "paused";
    await route.fulfill({ json: answer });
  });
  await jobOf(page, "job-1").click();
  await hasTold(page, 1);
  await page.waitForFunction(() => [document.getElementById("job-status"), document.querySelector("#lane-names small")].every((place) => place?.textContent === "paused"));
});
