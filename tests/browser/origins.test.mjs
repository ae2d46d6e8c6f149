// Pages of other origins in a real browser: what one that may connect reads, and one that may not.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { Daemon, Publisher, closeBrowser, openPage } from "./harness.js";

after(closeBrowser);

/** An empty page of an origin of its own; resolves to that origin. */
async function site(t) {
  const server = createServer((_, answer) => answer.setHeader("content-type", "text/html").end("<!doctype html><title>site</title>"));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}`;
}

/** A page of `origin`, the requests of which the daemon gets. */
async function pageOf(t, origin, daemon) {
  const page = await openPage(t, `${origin}/`, {}, null, [`http://${daemon.address}`]);
  await page.evaluate((address) => {
    globalThis.ask = async (path, { exposed, ...options } = {}) => {
      const answer = await fetch(`http://${address}${path}`, options).catch((error) => error.name);
      if (typeof answer === "string") return answer;
      const head = exposed === undefined ? [] : [answer.headers.get(exposed)];
      return [answer.status, ...head, await answer.text()];
    };
  }, daemon.address);
  return page;
}

const ask = (page, path, options) => page.evaluate(([path, options]) => globalThis.ask(path, options), [path, options]);
const wordOf = ([status, ...rest]) => [status, ...rest.slice(0, -1), JSON.parse(rest.at(-1)).error];

test("a page that may connect reads lists, streams, the client and each refusal, and another page reads nothing", async (t) => {
  const [friend, stranger] = [await site(t), await site(t)];
  const directory = mkdtempSync(join(tmpdir(), "luxcast-origins-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const tokens = join(directory, "tokens");
  writeFileSync(tokens, "some jobs=job-1 publish=job-1\n");
  const daemon = await Daemon.start(t, "--token-file", tokens, "--allowed-origins", friend, "--connections-per-address-max", "20");
  const publisher = await Publisher.start(daemon);
  publisher.publish(...[1, 2, 3].map((n) => ({ type: "step", job_id: "job-1", n })));
  await publisher.taken();

  const page = await pageOf(t, friend, daemon);
  const token = { headers: { "X-API-Key": "some" } };
  // With this header a browser asks first.
  const [status, list] = await ask(page, "/console/jobs", token);
  assert.equal(status, 200);
  assert.deepEqual(JSON.parse(list).jobs.map((job) => job.job_id), ["job-1"]);
  const bearer = { headers: { Authorization: "Bearer some" }, exposed: "www-authenticate" };
  for (const [path, options, expected] of [
    ["/console/jobs", { exposed: "www-authenticate" }, [401, 'Bearer realm="luxcast"', "unauthorized"]],
    ["/console/daemon", bearer, [403, 'Bearer realm="luxcast", error="insufficient_scope"', "forbidden_scope"]],
    ["/console/jobs?limit=x", token, [400, "bad_parameter"]],
    ["/nowhere", {}, [404, "not_found"]],
    ["/healthz", { method: "POST", exposed: "allow" }, [405, "GET, HEAD, OPTIONS", "method_not_allowed"]],
    ["/api/v1/ws/events?token=some", {}, [403, "forbidden_scope"]],
    ["/api/v1/ws/jobs/job-1/monitor", token, [426, "upgrade_required"]],
    [`/healthz?${"x".repeat(5_000)}`, {}, [414, "too_large"]],
  ]) {
    assert.deepEqual(wordOf(await ask(page, path, options)), expected, path);
  }
  assert.deepEqual(await ask(page, "/healthz"), [200, "ok\n"]);
  assert.deepEqual(await ask(page, "/console/jobs", { ...token, method: "HEAD" }), [200, ""]);
  const event = (n) => ({
    method: "POST",
    headers: { "X-API-Key": "some", "Content-Type": "application/json", "Luxcast-Publisher": "page" },
    body: JSON.stringify({ type: "step", job_id: "job-1", n }),
  });
  const [published, receipt] = await ask(page, "/api/v1/events", event(4));
  assert.deepEqual([published, JSON.parse(receipt).accepted], [200, 1]);
  const told = await page.evaluate(async (address) => {
    const { LuxcastClient, jobUrl } = await import(`http://${address}/console/luxcast.js`);
    const source = new EventSource(`http://${address}/api/v1/ws/jobs/job-1/monitor?since=start&token=some`);
    const steps = [];
    await new Promise((resolve) => {
      source.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        if (message.type === "step") steps.push(message.n);
        if (steps.length === 4) resolve();
      };
    });
    source.close();
    return [typeof LuxcastClient, typeof jobUrl, ...steps];
  }, daemon.address);
  assert.deepEqual(told, ["function", "function", 1, 2, 3, 4]);
  const other = await pageOf(t, stranger, daemon);
  for (const path of ["/console/jobs", "/console/jobs?token=some", "/healthz", "/nowhere", "/console/luxcast.js", "/api/v1/ws/events?token=some"]) {
    for (const options of [{}, token, { method: "HEAD" }, { method: "POST" }, { credentials: "include" }]) {
      assert.equal(await ask(other, path, options), "TypeError", `${path} ${JSON.stringify(options)}`);
    }
  }
  // As for a picture: no origin goes along, and nothing comes back.
  for (const path of ["/console/jobs?token=some", "/api/v1/ws/jobs/job-1/monitor?token=some&format=ndjson"]) {
    assert.equal(await ask(other, path, { mode: "no-cors" }), "TypeError", path);
  }
  const form = { ...event(5), headers: { "X-API-Key": "some" } };
  for (const options of [event(5), form, { ...form, headers: {}, mode: "no-cors" }]) {
    const answer = await ask(other, "/api/v1/events?token=some", options);
    assert.ok(answer === "TypeError" || answer[0] === 0, `${answer}`);
  }
  const [, then] = await ask(page, "/console/jobs", token);
  assert.equal(JSON.parse(then).jobs[0].total_events, 4);
  const failed = await other.evaluate(async (address) => {
    const source = new EventSource(`http://${address}/api/v1/ws/jobs/job-1/monitor?token=some`);
    const kind = await new Promise((resolve) => (source.onopen = source.onmessage = source.onerror = (event) => resolve(event.type)));
    const load = await import(`http://${address}/console/luxcast.js`).catch((error) => error.name);
    return [kind, source.readyState, load];
  }, daemon.address);
  assert.deepEqual(failed, ["error", 2, "TypeError"]);
  // The daemon has room for no more connections of this address.
  let answer;
  do {
    await page.evaluate((address) => {
      const socket = new WebSocket(`ws://${address}/api/v1/ws/jobs/job-1/monitor?token=some`);
      (globalThis.sockets ??= []).push(socket);
      return new Promise((resolve) => (socket.onopen = socket.onerror = () => resolve()));
    }, daemon.address);
    answer = await ask(page, "/console/jobs?token=some", { exposed: "retry-after" });
  } while (answer[0] === 200);
  assert.deepEqual(wordOf(answer), [429, "1", "too_many_requests"]);
});
