// A client on the real daemon that notes all it is told, and whether that is all.
import assert from "node:assert/strict";

import WebSocket from "ws";

import { LuxcastClient } from "../../luxcast.js";
import { until } from "./daemon.js";

/** A client, with all that it tells in order. */
export function watch(t, url, options = {}, prepare = () => {}) {
  const client = new LuxcastClient(url, { WebSocket, ...options });
  const story = [];
  const notes = [];
  client.on("event", (event) => story.push(event));
  client.on("stream:gap", (gap) => story.push(gap));
  const kinds = ["connected", "disconnected", "reconnecting", "error", "invalid", "connection:status", "subscription:confirmed"];
  for (const kind of kinds) client.on(kind, (detail) => notes.push([kind, detail]));
  prepare(client);
  client.connect();
  t.after(() => client.disconnect());
  const told = (kind) => notes.filter((note) => note[0] === kind).map((note) => note[1]);
  return {
    client,
    story,
    notes,
    told,
    gaps: () => story.filter((message) => message.type === "stream:gap"),
    events: () => story.filter((message) => message.stream_seq !== undefined && message.type !== "stream:gap"),
    connections: (count) => until(`connection ${count}`, () => told("connected").length >= count && client.state === "open"),
    has: (n) => until(`event ${n}`, () => story.some((event) => event.n >= n)),
  };
}

export function lines(from, to, rest = {}) {
  const kind = (n) => (n % 2 === 0 ? "even" : "odd");
  return Array.from({ length: to - from + 1 }, (_, place) => ({ type: kind(from + place), job_id: "j", n: from + place, ...rest }));
}

/** All that is `expected`, each once, in order; what is missing is missing at a gap. A snapshot, which has no number,
 *  is nobody's event. */
export function assertExact(story, expected, mayMiss = false) {
  const at = new Map(expected.map((n, place) => [n, place]));
  let place = -1;
  let isAfterGap = false;
  for (const message of story) {
    if (message.type === "stream:gap") {
      isAfterGap = true;
      continue;
    }
    if (message.type === "metrics" && message.stream_seq === undefined) continue;
    const found = at.get(message.n);
    assert.notEqual(found, undefined, `${message.n} was not to come`);
    assert.ok(found > place, `${message.n} came again or late`);
    assert.ok(found === place + 1 || (isAfterGap && mayMiss), `nobody said that something is missing before ${message.n}`);
    place = found;
    isAfterGap = false;
  }
  assert.equal(place, expected.length - 1, "the last one came");
}

export const range = (from, to) => Array.from({ length: to - from + 1 }, (_, place) => from + place);
