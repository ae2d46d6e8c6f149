// Pages in the real browser, one for all tests of a file.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";

import { chromium } from "playwright-core";

const EXECUTABLE = "/usr/bin/chromium";
const FLAGS =
  "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync";

let browser = null;

export async function closeBrowser() {
  await browser?.close();
}

/** A page, in which nothing may fail unseen. */
export async function openPage(t, address, options = {}) {
  assert.ok(existsSync(EXECUTABLE), `${EXECUTABLE} is not there`);
  browser ??= await chromium.launch({ executablePath: EXECUTABLE, args: FLAGS.split(" ") });
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(`the page threw ${error.stack}`));
  t.after(async () => {
    await context.close();
    assert.deepEqual(faults, []);
  });
  await page.goto(address);
  return page;
}
