// Draws the pictures in README.md and src/console/README.md: node tests/browser/pictures.mjs. Not a test; it takes a minute and a half.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { closeBrowser, openPage } from "./harness.js";

const project = fileURLToPath(new URL("../..", import.meta.url));
const program = `${process.env.CARGO_TARGET_DIR ?? `${project}target`}/release/luxcast`;
const pictures = `${project}src/console/pictures`;
const DEMO_MS = 75_000;

const daemon = spawn(program, ["serve", "--demo", "--listen", "127.0.0.1:0", "--admin", "off"], { stdio: ["ignore", "pipe", "ignore"] });
const [first] = await once(createInterface({ input: daemon.stdout }), "line");
const address = first.replace("listening ws:", "http:");
await sleep(DEMO_MS);
const endings = [];
const t = { after: (end) => endings.push(end) };
for (const [name, colorScheme, width, height] of [["light", "light", 1200, 760], ["dark", "dark", 1200, 760], ["phone", "light", 390, 760]]) {
  const page = await openPage(t, `${address}/console/#job=demo-job`, { colorScheme, viewport: { width, height } });
  await page.waitForFunction(() => globalThis.luxcast.told().length > 100);
  if (name !== "phone") await page.locator('#events .row:has(.kind:text-is("routine_completed"))').last().click();
  await sleep(2_500);
  await page.screenshot({ path: `${pictures}/${name}.png` });
}
for (const end of endings) await end();
await closeBrowser();
daemon.kill();
