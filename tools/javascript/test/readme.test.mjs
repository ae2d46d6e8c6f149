// The examples in README.md, as they are there, with the address of a daemon of the test's own.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { Daemon, Publisher, until } from "./harness/daemon.js";

const folder = new URL("../", import.meta.url);

const examples = readFileSync(new URL("README.md", folder), "utf8").matchAll(/```javascript\n(.*?)```/gs);

for (const [place, [, example]] of [...examples].entries()) {
  test(`example ${place + 1} of the README shows events`, async (t) => {
    const daemon = await Daemon.start(t);
    assert.ok(example.includes("ws://127.0.0.1:20555"));
    // Beside the package, which finds itself there under its own name.
    const file = fileURLToPath(new URL(`test/.example-${process.pid}-${place}.mjs`, folder));
    writeFileSync(file, example.replace("ws://127.0.0.1:20555", daemon.base));
    t.after(() => rmSync(file));
    const publisher = await Publisher.start(daemon);
    publisher.publish({ type: "job_failed", job_id: "demo-job", data: { error: "ValueError: Invalid input" } });
    const child = spawn(process.execPath, [file], { stdio: ["ignore", "pipe", "inherit"] });
    t.after(() => child.kill());
    let output = "";
    child.stdout.on("data", (data) => (output += data));
    await until("the event in the output of the example", () => output.includes("job_failed demo-job\n"));
  });
}
