// The scenario in a process of its own, with the WebSocket that is there: `alone.mjs BASE TOKEN [MODULE]`, where a module
// may give another one as its WebSocket or its default.
import * as luxcast from "../../luxcast.js";
import { scenario } from "./scenario.js";

const words = globalThis.Deno?.args ?? globalThis.process.argv.slice(2);
const [base, token, name] = words;
const other = name === undefined ? null : await import(name);
const WebSocket = other?.WebSocket ?? other?.default ?? globalThis.WebSocket;
console.log(JSON.stringify(await scenario(luxcast, base, { token, WebSocket })));
globalThis.process?.exit?.();
