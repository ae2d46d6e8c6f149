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
    const passed = request({ host, port, path: asked.url, headers: this.#passedOn(asked.headers) }, (got) => {
      answer.writeHead(got.statusCode, got.headers);
      got.pipe(answer);
    });
    passed.on("error", () => answer.writeHead(502, { "Content-Type": "text/html" }).end("<h1>Bad Gateway</h1>"));
    passed.end();
  }

  #handleUpgrade(asked, socket, head) {
    const verdict = this.#verdict(asked);
    if (verdict !== null) {
      const { status, fields = {}, body = "" } = verdict;
      const lines = Object.entries({ ...fields, "Content-Length": Buffer.byteLength(body), Connection: "close" });
      return socket.end(`HTTP/1.1 ${status} No\r\n${lines.map((line) => line.join(": ")).join("\r\n")}\r\n\r\n${body}`);
    }
    const [host, port] = this.#address.split(":");
    const daemon = connect(Number(port), host, () => {
      const fields = Object.entries(this.#passedOn(asked.headers)).map(([name, value]) => `${name}: ${value}\r\n`);
      daemon.write(`GET ${asked.url} HTTP/1.1\r\n${fields.join("")}\r\n`);
      daemon.write(head);
      daemon.pipe(socket).pipe(daemon);
    });
    daemon.on("error", () => socket.destroy());
    daemon.on("close", () => socket.destroy());
    socket.on("close", () => daemon.destroy());
  }
}
