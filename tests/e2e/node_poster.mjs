// A publisher and watcher with Node's `fetch`: posts the lines of a file in all forms, checks the answers, and reads them
// back as NDJSON and as Server-Sent Events. Arguments: the daemon's URL, the file.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const LINES = "application/x-ndjson";
const JSON_TYPE = "application/json";
const BATCH = 500;

const [url, file] = process.argv.slice(2);
const lines = readFileSync(file, "utf8").trimEnd().split("\n");

async function post(type, body, fields = {}) {
  const headers = { "Content-Type": type, ...fields };
  const answer = await fetch(`${url}/api/v1/events`, { method: "POST", headers, body, duplex: "half" });
  return [answer.status, await answer.json()];
}

/** Gathers as many events as the file has lines. Returns once it is connected, with a promise of the events. */
async function watch(accept, read) {
  const answer = await fetch(`${url}/api/ws/events`, { headers: { Accept: accept } });
  assert.equal(answer.status, 200);
  const events = [];
  async function gather() {
    let held = "";
    for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
      const whole = (held + text).split("\n");
      held = whole.pop();
      for (const line of whole) {
        const event = /^\{"stream_seq":[0-9]+,(.*)$/.exec(read(line));
        if (event) events.push(`{${event[1]}`);
      }
      if (events.length >= lines.length) return events;
    }
    throw new Error(`the stream ended after ${events.length} events`);
  }
  return { events: gather() };
}

const watchers = [
  await watch(LINES, (line) => line),
  await watch("text/event-stream", (line) => (line.startsWith("data: ") ? line.slice("data: ".length) : "")),
];
const forms = [
  (batch) => [LINES, batch.join("\n")],
  // Without a length: chunked.
  (batch) => [LINES, ReadableStream.from(batch).pipeThrough(new TransformStream({
    transform: (line, controller) => controller.enqueue(new TextEncoder().encode(`${line}\n`)),
  }))],
  (batch) => [JSON_TYPE, `[${batch.join(",")}]`],
];
for (let start = 0; start < lines.length; start += BATCH) {
  const batch = lines.slice(start, start + BATCH);
  const named = { "Luxcast-Publisher": "node-poster", "Luxcast-Line": `${start + 1}` };
  // The second time as after an answer that was lost.
  for (let time = 0; time < 2; time += 1) {
    const [type, body] = forms[(start / BATCH) % forms.length](batch);
    const [status, answer] = await post(type, body, named);
    const { accepted, refused, accepted_line } = answer;
    assert.deepEqual([status, accepted, refused, accepted_line], [200, batch.length, [], start + batch.length]);
  }
}
const [status, answer] = await post(LINES, "nope\n");
assert.deepEqual([status, answer.refused[0].code, answer.refused_total], [422, "bad_json", 1]);
const [otherStatus, other] = await post("text/plain", "{}");
assert.deepEqual([otherStatus, other.error], [415, "unsupported_media_type"]);
for (const watcher of watchers) assert.deepEqual(await watcher.events, lines);
process.stdout.write(`posted ${lines.length}\n`);
process.exit(0);
