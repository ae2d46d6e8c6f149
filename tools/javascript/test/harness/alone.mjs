// The scenario in a process of its own, with the WebSocket that is there: `alone.mjs BASE TOKEN [MODULE]`, where a module
// may give another one as its WebSocket or its default. `http` in its place is over HTTP.
import * as luxcast from "../../luxcast.js";
import { scenario } from "./scenario.js";

const words = globalThis.Deno?.args ?? globalThis.process.argv.slice(2);
const [base, token, name] = words;
const other = name === undefined || name === "http" ? null : await import(name);
const WebSocket = other?.WebSocket ?? other?.default ?? globalThis.WebSocket;
const transport = name === "http" ? "http" : "websocket";
console.log(JSON.stringify(await scenario(luxcast, base, { token, WebSocket, transport })));
globalThis.process?.exit?.();
