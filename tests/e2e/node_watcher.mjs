// A watcher with the Node library `ws`: writes each text message on a line of its own until the daemon closes, then
// a line `closed CODE`.
import WebSocket from "ws";

const [url, ...messages] = process.argv.slice(2);
const socket = new WebSocket(url);
socket.on("open", () => messages.forEach((message) => socket.send(message)));
socket.on("message", (data) => process.stdout.write(`${data}\n`));
socket.on("close", (code) => process.stdout.write(`closed ${code}\n`));
socket.on("error", (error) => {
  process.stderr.write(`${error}\n`);
  process.exitCode = 1;
});
