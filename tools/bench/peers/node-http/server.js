// The peer http on Node: server.js PORT FEED. Server-Sent Events by what comes with Node. What came in one block is written
// once to each watcher: a buffer that all watchers of a topic share.
"use strict";

const http = require("node:http");
const net = require("node:net");

const BACKLOG_CONNECTIONS = 4096;
const TAB = 9;
const NEWLINE = 10;
const DATA = Buffer.from("data: ");
const END = Buffer.from("\n\n");

const watchers = new Map();

/** Lines `TOPIC<TAB>PAYLOAD`; Node reads in blocks of 64 KiB. */
function feed(publisher) {
  let rest = Buffer.alloc(0);
  publisher.on("data", (block) => {
    const lines = rest.length === 0 ? block : Buffer.concat([rest, block]);
    const events = new Map();
    let start = 0;
    for (let end; (end = lines.indexOf(NEWLINE, start)) >= 0; start = end + 1) {
      const tab = lines.indexOf(TAB, start);
      const topic = lines.latin1Slice(start, tab);
      if (!events.has(topic)) events.set(topic, []);
      events.get(topic).push(DATA, lines.subarray(tab + 1, end), END);
    }
    rest = lines.subarray(start);
    for (const [topic, parts] of events) publish(topic, parts);
  });
}

function publish(topic, parts) {
  const sockets = watchers.get(topic);
  if (sockets === undefined) return;
  const events = Buffer.concat(parts);
  for (const socket of sockets) socket.write(events);
}

function watch(request, response) {
  const topic = request.url.slice("/w/".length);
  const { socket } = response;
  // The answer ends with its connection: without chunks, all watchers' bytes are the same.
  response.removeHeader("Transfer-Encoding");
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store", Connection: "close" });
  response.flushHeaders();
  if (!watchers.has(topic)) watchers.set(topic, new Set());
  watchers.get(topic).add(socket);
  socket.on("close", () => watchers.get(topic).delete(socket));
  // An error closes the connection, which is all that there is to do.
  socket.on("error", () => {});
}

const [port, path] = process.argv.slice(2);
net.createServer(feed).listen(path, () => {
  const server = http.createServer({ noDelay: true }, watch);
  server.listen({ port: Number(port), host: "127.0.0.1", backlog: BACKLOG_CONNECTIONS });
});
