// The real daemon as a child process, and a publisher for it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const project = fileURLToPath(new URL("../../../..", import.meta.url));
const program =
  process.env.LUXCAST_PROGRAM ?? join(process.env.CARGO_TARGET_DIR ?? join(project, "target"), "release/luxcast");

/** How long a test waits for what must come. It bounds hanging alone. */
export const PATIENCE_MS = 60_000;

export async function until(what, isSo) {
  const end = performance.now() + PATIENCE_MS;
  while (!isSo()) {
    if (performance.now() > end) throw new Error(`waited in vain: ${what}`);
    await sleep(5);
  }
}

/** A daemon with a directory of its own; it never outlives its test. It can be started again at the same place. */
export class Daemon {
  address = null;
  /** Where `--admin` is among the flags. */
  admin = null;
  ingest = null;
  stderr = "";
  #child = null;
  #flags;

  static async start(t, ...flags) {
    if (!existsSync(program)) throw new Error(`${program} is not there: cargo build --release makes it`);
    const daemon = new Daemon();
    daemon.directory = mkdtempSync(join(tmpdir(), "luxcast-js-"));
    daemon.#flags = flags;
    t.after(async () => {
      await daemon.kill();
      rmSync(daemon.directory, { recursive: true });
    });
    await daemon.start();
    return daemon;
  }

  get base() {
    return `ws://${this.address}`;
  }

  async start() {
    const ingest = join(this.directory, "ingest.sock");
    const own = ["--listen", this.address ?? "127.0.0.1:0", "--ingest", ingest, "--metrics-seconds", "0"];
    if (!this.#flags.includes("--admin")) own.push("--admin", "off");
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("LUXCAST_")));
    this.#child = spawn(program, ["serve", ...own, ...this.#flags], { env, stdio: ["ignore", "pipe", "pipe"] });
    this.#child.stderr.on("data", (data) => (this.stderr += data));
    for await (const line of createInterface({ input: this.#child.stdout })) {
      if (line.startsWith("listening ws://")) this.address = line.slice("listening ws://".length);
      if (line.startsWith("admin http://")) this.admin = line.slice("admin http://".length);
      if (!line.startsWith("ingest ")) continue;
      this.ingest = line.slice("ingest ".length);
      return;
    }
    throw new Error(`the daemon did not become ready: ${this.stderr}`);
  }

  signal(name) {
    this.#child.kill(name);
  }

  async kill() {
    await this.#end("SIGKILL");
  }

  /** As an operator ends it. */
  async stop() {
    await this.#end("SIGTERM");
  }

  async #end(signal) {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill(signal);
    await ended;
  }
}

/** Publishes line after line under one name, so that after a cut exactly the lines come again that were not taken. */
export class Publisher {
  /** Every line given to it. */
  lines = [];
  /** So many of them were taken. */
  accepted = 0;
  #daemon;
  #socket = null;

  static async start(daemon) {
    const publisher = new Publisher();
    publisher.#daemon = daemon;
    await publisher.connect();
    return publisher;
  }

  /** Ends with the connection of the daemon that is there now. */
  async connect() {
    const socket = connect(this.#daemon.ingest);
    this.#socket = socket;
    socket.on("error", () => {});
    socket.write('{"op":"hello","publisher":"javascript","ack":true,"dedupe":true}\n');
    const answers = createInterface({ input: socket });
    answers.on("error", () => {});
    const welcome = new Promise((resolve, reject) => {
      socket.on("close", () => reject(new Error("the daemon went away")));
      answers.on("line", (line) => {
        const answer = JSON.parse(line);
        if (answer.op === "welcome") resolve(answer.accepted);
        else if (answer.op === "ack" && this.#socket === socket) this.accepted = answer.line;
        else if (answer.op === "error") throw new Error(line);
      });
    });
    // A daemon that was killed has forgotten the name: what it took is not taken again.
    this.accepted = Math.max(this.accepted, await welcome);
    socket.write(`{"op":"from","line":${this.accepted + 1}}\n`);
    this.#write(this.lines.slice(this.accepted));
  }

  publish(...lines) {
    this.publishTexts(...lines.map((line) => JSON.stringify(line)));
  }

  /** As they stand. */
  publishTexts(...texts) {
    this.lines.push(...texts);
    this.#write(texts);
  }

  #write(texts) {
    if (texts.length > 0) this.#socket.write(`${texts.join("\n")}\n`);
  }

  async taken() {
    await until("all lines to be taken", () => this.accepted === this.lines.length);
  }

  close() {
    this.#socket.destroy();
  }
}
