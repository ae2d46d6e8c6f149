// The live page with large amounts of data: the cost of a frame is bounded by what is visible.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { Daemon, Publisher, closeBrowser, consoleOf, openPage, text } from "./harness.js";

after(closeBrowser);

const BEGIN = Date.now() - 20_000;
const at = (millis, event) => ({ job_id: "job-1", timestamp: new Date(BEGIN + millis).toISOString(), ...event });
const range = (length) => Array.from({ length }, (_, n) => n);

async function watch(t, lines, options = {}) {
  const daemon = await Daemon.start(t);
  const publisher = await Publisher.start(daemon);
  publisher.publish(...lines);
  await publisher.taken();
  const page = await openPage(t, `${consoleOf(daemon)}#job=job-1`, options);
  const words = `${lines.length.toLocaleString("en-US")} events`;
  await page.waitForFunction((words) => document.getElementById("events-note").textContent.startsWith(words), words);
  return { publisher, page };
}

/** The longest of some frames, in milliseconds, and their median. */
function frames(page, number) {
  return page.evaluate(async (number) => {
    const times = [];
    let before = performance.now();
    for (let frame = 0; frame < number; frame += 1) {
      await new Promise(requestAnimationFrame);
      times.push(performance.now() - before);
      before = performance.now();
    }
    return times.sort((one, other) => one - other)[number >> 1];
  }, number);
}

/** Whether a colour appears anywhere in the picture at this height, in pixels of the page. */
const isDrawn = (page, y) =>
  page.evaluate((y) => {
    const canvas = document.getElementById("picture");
    const ratio = canvas.width / canvas.clientWidth;
    const { data } = canvas.getContext("2d").getImageData(0, Math.round(y * ratio), canvas.width, 1);
    for (let place = 0; place < data.length; place += 4) if (data[place + 3] === 255 && data[place + 1] > data[place] + 30) return true;
    return false;
  }, y);

test("1,200 routines at two pixels a pixel: all can be reached, and the picture is drawn", async (t) => {
  const routines = range(1_200).map((n) => `routine_${n}`);
  const lines = [at(0, { type: "job_started" }), ...routines.flatMap((routine_id) => [at(1_000, { type: "routine_started", routine_id }), at(9_000, { type: "routine_completed", routine_id })]), at(10_000, { type: "job_completed" })];
  const { page } = await watch(t, lines, { deviceScaleFactor: 2 });
  await page.waitForFunction(() => document.querySelectorAll("#lane-names button").length === 1_201);
  const size = await page.evaluate(() => [document.getElementById("picture").width, document.getElementById("picture").height]);
  assert.ok(size.every((pixels) => pixels <= 8_192), String(size));
  assert.ok(await isDrawn(page, 45));
  await page.locator("#lane-names button").first().focus();
  await page.keyboard.press("End");
  assert.equal(await page.evaluate(() => document.activeElement.dataset.name), "routine_1199");
  await page.waitForFunction(() => document.activeElement.lastChild?.textContent === "1 run · 8.0 s");
  const box = await page.locator("#picture").boundingBox();
  const name = await page.locator("#lane-names button").last().boundingBox();
  assert.ok(await isDrawn(page, name.y + name.height / 2 - box.y));
  await page.mouse.click(box.x + box.width / 2, name.y + name.height / 2);
  assert.equal(JSON.parse(await text(page, "#detail-raw")).routine_id, "routine_1199");
});

test("1,000 lanes and 5,000 kinds while events come: frames stay frames", async (t) => {
  const { page, publisher } = await watch(t, [at(0, { type: "job_started" }), ...range(5_000).map((n) => at(n, { type: `kind_${n}`, routine_id: "a" })), ...range(1_000).map((n) => at(n, { type: "routine_started", routine_id: `routine_${n}` }))]);
  await page.locator("#kinds-box summary").click();
  await page.locator("#kinds-list label").first().waitFor();
  assert.ok((await page.locator("#kinds-list label").count()) <= 200);
  let n = 0;
  const feed = setInterval(() => publisher.publish(...range(25).map(() => at(20_000 + (n += 1), { type: n % 2 === 0 ? "routine_completed" : "routine_started", routine_id: `routine_${n % 1_000}` }))), 50);
  t.after(() => clearInterval(feed));
  const median = await frames(page, 60);
  clearInterval(feed);
  t.diagnostic(`median ${median.toFixed(1)} ms a frame`);
  // A busy machine is slow; one that draws what nobody sees is far slower.
  assert.ok(median < 100, `${median} ms`);
  await page.locator("#kinds-search").fill("kind_4711");
  await page.locator("#kinds-list input").uncheck();
  await page.locator("#kinds-search").fill("kind_4712");
  await page.locator("#kinds-none").click();
  await page.waitForFunction(() => /^[0-9,]+ of /.test(document.getElementById("events-note").textContent));
});

for (const isPaused of [false, true]) {
  test(`a reader in the middle keeps the place when the earliest events are dropped, ${isPaused ? "paused" : "live"}`, async (t) => {
    const { page } = await watch(t, [at(0, { type: "job_started" }), at(1, { type: "note" })]);
    // A second list in place of the first: 200,000 events over the wire take long.
    await page.evaluate(async (isPaused) => {
      const [{ EventList }, { Entry }] = await Promise.all([import("./event_list.js"), import("./entry.js")]);
      const element = document.getElementById("events");
      element.replaceWith(element.cloneNode(false));
      const list = new EventList(() => {});
      globalThis.list = list;
      globalThis.feed = (from, to) => {
        for (let n = from; n < to; n += 1) list.add(new Entry({ type: n % 3 === 0 ? "odd" : "note", n, stream_seq: n }, { text: `{"stream_seq":${n},"type":"${n % 3 === 0 ? "odd" : "note"}","n":${n}}` }));
      };
      globalThis.feed(0, 200_000);
      if (isPaused) document.getElementById("pause").click();
      const frame = () => new Promise(requestAnimationFrame);
      // It looks through them a slice a frame.
      while (!list.log.isExamined) await frame();
      for (let n = 0; n < 5; n += 1) await frame();
      document.getElementById("events").scrollTop = 24 * 100_000 + 7;
      for (let n = 0; n < 5; n += 1) await frame();
    }, isPaused);
    const top = () =>
      page.evaluate(() => {
        const box = document.getElementById("events").getBoundingClientRect();
        const rows = [...document.querySelectorAll("#events .row")].map((row) => [row.getBoundingClientRect().top - box.top, row.querySelector(".summary").textContent]);
        return rows.filter(([top]) => top > -24).sort(([one], [other]) => one - other)[0];
      });
    const before = await top();
    assert.equal(before[1], "n: 100000");
    await page.evaluate(async () => {
      globalThis.feed(200_000, 225_000);
      while (!globalThis.list.log.isExamined) await new Promise(requestAnimationFrame);
      for (let n = 0; n < 5; n += 1) await new Promise(requestAnimationFrame);
    });
    assert.equal(await page.evaluate(() => globalThis.list.log.dropped), 40_000);
    assert.deepEqual(await top(), before);
  });
}
