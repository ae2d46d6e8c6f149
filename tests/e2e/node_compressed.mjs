// A watcher that compresses, with one of the Node libraries `ws` and `undici`: writes a line `agreed EXTENSIONS`, then each
// text message on a line of its own. Sends each line of its standard input as a message and closes when that ends.
// Arguments: the library, the URL.
import { createInterface } from "node:readline";

import { WebSocket as Undici } from "undici";
import Ws from "ws";

const [library, url] = process.argv.slice(2);
// undici sends nothing compressed.
const socket = library === "ws" ? new Ws(url, { perMessageDeflate: { threshold: 0 } }) : new Undici(url);
const tell = (message) => process.stdout.write(`${message}\n`);
socket.addEventListener("open", async () => {
  // What the library makes of the answer.
  tell(`agreed ${library === "ws" ? answer : socket.extensions}`);
  for await (const line of createInterface({ input: process.stdin })) socket.send(line);
  socket.close(1000);
});
let answer = "";
if (library === "ws") socket.on("upgrade", (response) => (answer = response.headers["sec-websocket-extensions"]));
socket.addEventListener("message", ({ data }) => tell(data));
socket.addEventListener("close", ({ code }) => (process.exitCode = code === 1000 ? 0 : 1));
socket.addEventListener("error", ({ message }) => process.stderr.write(`${message}\n`));
