// The peer ws: server.js PORT FEED. Frames are built once, by the library, and what came in one block is written once to
// each watcher: a buffer that all watchers of a topic share.
"use strict";

const http = require("node:http");
const net = require("node:net");
const { Sender, WebSocketServer } = require("ws");

const TEXT = { fin: true, opcode: 1 };
const BACKLOG_CONNECTIONS = 4096;
const TAB = 9;
const NEWLINE = 10;

const watchers = new Map();

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
      frames.get(topic).push(...Sender.frame(lines.subarray(tab + 1, end), TEXT));
    }
    rest = lines.subarray(start);
    for (const [topic, parts] of frames) publish(topic, parts);
  });
}

function publish(topic, parts) {
  const connections = watchers.get(topic);
  if (connections === undefined) return;
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

const [port, path] = process.argv.slice(2);
net.createServer(feed).listen(path, () => {
  const server = http.createServer();
  new WebSocketServer({ server, perMessageDeflate: false, clientTracking: false }).on("connection", watch);
  server.listen({ port: Number(port), host: "127.0.0.1", backlog: BACKLOG_CONNECTIONS });
});
