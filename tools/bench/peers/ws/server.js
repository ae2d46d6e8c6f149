// The peer ws: server.js PORT FEED COMPRESSION. Frames are built once, by the library, and what came in one block is written
// once to each watcher: a buffer that all watchers of a topic share. COMPRESSION: "off"; "once", a message by itself, which
// all can share; "deflate", by the library for each watcher, as programs that set perMessageDeflate have it.
"use strict";

const http = require("node:http");
const net = require("node:net");
const zlib = require("node:zlib");
const { Sender, WebSocketServer } = require("ws");

const TEXT = { fin: true, opcode: 1 };
const COMPRESSED = { fin: true, opcode: 1, rsv1: true };
// The library's own threshold is 1,024 bytes, more than most events have.
const THRESHOLD_BYTES = 64;
// What the library leaves out at the end of each message as well.
const TAIL_BYTES = 4;
const BACKLOG_CONNECTIONS = 4096;
const TAB = 9;
const NEWLINE = 10;

const watchers = new Map();

const [port, path, compression] = process.argv.slice(2);

/** Lines `TOPIC<TAB>PAYLOAD`; Node reads in blocks of 64 KiB. */
function feed(publisher) {
  let rest = Buffer.alloc(0);
  publisher.on("data", (block) => {
    const lines = rest.length === 0 ? block : Buffer.concat([rest, block]);
    const frames = new Map();
    let start = 0;
    for (let end; (end = lines.indexOf(NEWLINE, start)) >= 0; start = end + 1) {
      const tab = lines.indexOf(TAB, start);
      const topic = lines.latin1Slice(start, tab);
      if (!frames.has(topic)) frames.set(topic, []);
      frames.get(topic).push(...message(lines.subarray(tab + 1, end)));
    }
    rest = lines.subarray(start);
    for (const [topic, parts] of frames) publish(topic, parts);
  });
}

/** What is kept of a message until it is published: its frame, or its text for the library. */
function message(text) {
  if (compression === "deflate") return [text];
  if (compression === "off") return Sender.frame(text, TEXT);
  const deflated = zlib.deflateRawSync(text, { finishFlush: zlib.constants.Z_SYNC_FLUSH });
  return Sender.frame(deflated.subarray(0, -TAIL_BYTES), COMPRESSED);
}

function publish(topic, parts) {
  const connections = watchers.get(topic);
  if (connections === undefined) return;
  if (compression === "deflate") {
    for (const connection of connections) {
      for (const text of parts) connection.send(text, { binary: false });
    }
    return;
  }
  const frames = Buffer.concat(parts);
  for (const connection of connections) connection._socket.write(frames);
}

function watch(connection, request) {
  const topic = request.url.slice("/w/".length);
  if (!watchers.has(topic)) watchers.set(topic, new Set());
  watchers.get(topic).add(connection);
  connection.on("close", () => watchers.get(topic).delete(connection));
  // An error closes the connection, which is all that there is to do.
  connection.on("error", () => {});
}

const perMessageDeflate = compression === "off" ? false : { threshold: THRESHOLD_BYTES };
net.createServer(feed).listen(path, () => {
  const server = http.createServer();
  new WebSocketServer({ server, perMessageDeflate, clientTracking: false }).on("connection", watch);
  server.listen({ port: Number(port), host: "127.0.0.1", backlog: BACKLOG_CONNECTIONS });
});
