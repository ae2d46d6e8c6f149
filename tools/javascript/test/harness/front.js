// What may stand in front of a daemon: passes on what it is asked, or answers itself as proxies do.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { connect } from "node:net";

/** Its own files, for pages of its origin. */
const FILES = new Map([
  ["/page", () => ["text/html", "<!doctype html><title>page</title>"]],
  ["/luxcast.js", () => script("../../luxcast.js")],
  ["/scenario.js", () => script("scenario.js")],
]);

function script(path) {
  return ["text/javascript", readFileSync(new URL(path, import.meta.url))];
}

export class Front {
  /** While it is set, requests are not passed on but get `{ status, fields, body }`. */
  answer = null;
  /** What becomes of upgrades: they `pass`, are asked for as plain requests (`strip`), get no answer (`close`, `hang`), or
   *  get one and then nothing (`swallow`) or the first message alone (`mute`). Or an answer `{ status, fields, body }`. */
  upgrades = "pass";
  /** Every stream is cut after so many bytes. */
  cutAfter = Infinity;
  /** Answers come as a whole, when they have ended. */
  isBuffering = false;
  /** `name:password` that every request must have, as Basic. */
  basic = null;
  /** What was asked for: path and fields. */
  asked = [];
  #address;
  #server;
  #sockets = new Set();

  static async start(t, daemon) {
    const front = new Front();
    front.#address = daemon.address;
    front.#server = createServer((asked, answer) => front.#handleRequest(asked, answer));
    front.#server.on("upgrade", (asked, socket, head) => front.#handleUpgrade(asked, socket, head));
    front.#server.on("connection", (socket) => {
      front.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => front.#sockets.delete(socket));
    });
    front.#server.listen(0, "127.0.0.1");
    await once(front.#server, "listening");
    t.after(() => {
      front.#server.close();
      front.cut();
    });
    return front;
  }

  get address() {
    return `127.0.0.1:${this.#server.address().port}`;
  }

  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  #verdict({ url, headers }) {
    this.asked.push({ url, headers });
    const isLetIn = this.basic === null || headers.authorization === `Basic ${btoa(this.basic)}`;
    if (!isLetIn) return { status: 401, fields: { "WWW-Authenticate": 'Basic realm="front"' }, body: "<h1>Who are you?</h1>" };
    return this.answer;
  }

  /** The fields as the daemon gets them: what was for the front is not for it. */
  #passedOn(headers) {
    const { authorization, ...rest } = headers;
    return this.basic === null && authorization !== undefined ? headers : rest;
  }

  #handleRequest(asked, answer) {
    const verdict = this.#verdict(asked);
    if (verdict !== null) return answer.writeHead(verdict.status, verdict.fields).end(verdict.body);
    if (FILES.has(asked.url)) {
      const [type, body] = FILES.get(asked.url)();
      return answer.writeHead(200, { "Content-Type": type }).end(body);
    }
    const [host, port] = this.#address.split(":");
    const { method, url: path, headers } = asked;
    const passed = request({ host, port, method, path, headers: this.#passedOn(headers) }, (got) => this.#passOn(got, answer));
    passed.on("error", () => answer.headersSent || answer.writeHead(502, { "Content-Type": "text/html" }).end("<h1>Bad Gateway</h1>"));
    // A watcher that is gone is gone for the daemon too.
    answer.on("close", () => passed.destroy());
    passed.end();
  }

  #passOn(got, answer) {
    const parts = [];
    let left = this.cutAfter;
    const { isBuffering } = this;
    if (!isBuffering) answer.writeHead(got.statusCode, got.headers).flushHeaders();
    got.on("data", (data) => {
      if (isBuffering) return parts.push(data);
      answer.write(data.subarray(0, left));
      left -= data.length;
      if (left <= 0) answer.destroy();
    });
    got.on("error", () => answer.destroy());
    got.on("end", () => (answer.headersSent ? answer : answer.writeHead(got.statusCode, got.headers)).end(Buffer.concat(parts)));
  }

  #handleUpgrade(asked, socket, head) {
    const verdict = this.#verdict(asked) ?? (typeof this.upgrades === "object" ? this.upgrades : null);
    if (this.upgrades === "close") return socket.destroy();
    if (this.upgrades === "hang") return;
    if (verdict !== null) {
      const { status, fields = {}, body = "" } = verdict;
      const lines = Object.entries({ ...fields, "Content-Length": Buffer.byteLength(body), Connection: "close" });
      return socket.end(`HTTP/1.1 ${status} No\r\n${lines.map((line) => line.join(": ")).join("\r\n")}\r\n\r\n${body}`);
    }
    // It stays as it is for this connection.
    const { upgrades } = this;
    const [host, port] = this.#address.split(":");
    const daemon = connect(Number(port), host, () => {
      const isPassed = ([name]) => upgrades !== "strip" || !/^(upgrade|connection|sec-websocket-.*)$/.test(name);
      const kept = Object.entries(this.#passedOn(asked.headers)).filter(isPassed);
      const fields = kept.map(([name, value]) => `${name}: ${value}\r\n`);
      daemon.write(`GET ${asked.url} HTTP/1.1\r\n${fields.join("")}\r\n`);
      daemon.write(head);
      socket.pipe(daemon);
    });
    let left = this.cutAfter;
    let sent = Buffer.alloc(0);
    daemon.on("data", (data) => {
      const from = sent.length;
      sent = ["swallow", "mute"].includes(upgrades) ? Buffer.concat([sent, data]) : sent;
      const end = upgrades === "swallow" ? endOfHead(sent) : upgrades === "mute" ? endOfMessage(sent) : Infinity;
      socket.write(data.subarray(0, Math.max(0, Math.min(left, end - from))));
      left -= data.length;
      if (left <= 0) socket.destroy();
    });
    daemon.on("error", () => socket.destroy());
    daemon.on("close", () => socket.destroy());
    socket.on("close", () => daemon.destroy());
  }
}

function endOfHead(bytes) {
  const at = bytes.indexOf("\r\n\r\n");
  return at === -1 ? bytes.length : at + 4;
}

/** Of the first message behind the head, which is short. */
function endOfMessage(bytes) {
  const at = endOfHead(bytes);
  if (bytes.length < at + 4) return bytes.length;
  const length = bytes[at + 1] < 126 ? 2 + bytes[at + 1] : 4 + bytes.readUInt16BE(at + 2);
  return at + length;
}
