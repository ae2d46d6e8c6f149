// A WebSocket whose other end is the test, and a client on it that notes all it is told.
import { LuxcastClient } from "../../luxcast.js";

class FakeEvent extends Event {
  constructor(type, members) {
    super(type);
    Object.assign(this, members);
  }
}

/** A class of sockets of its own for each test. */
export function fakeSockets() {
  return class FakeSocket extends EventTarget {
    static all = [];
    readyState = 0;
    sent = [];
    closedWith = null;

    constructor(url, ...rest) {
      super();
      this.url = new URL(url);
      this.rest = rest;
      FakeSocket.all.push(this);
    }

    static get last() {
      return FakeSocket.all.at(-1);
    }

    /** A parameter of the address. */
    asked(name) {
      return this.url.searchParams.get(name);
    }

    send(text) {
      this.sent.push(JSON.parse(text));
    }

    close(code) {
      this.readyState = 2;
      this.closedWith = code;
    }

    accept(newest) {
      this.readyState = 1;
      this.dispatchEvent(new Event("open"));
      if (newest !== undefined) this.say({ type: "connection:status", status: "connected", stream_seq: newest });
    }

    say(...messages) {
      for (const message of messages) this.sayRaw(JSON.stringify(message));
    }

    sayRaw(data) {
      this.dispatchEvent(new FakeEvent("message", { data }));
    }

    end(code = 1006, reason = "") {
      this.readyState = 3;
      if (code === 1006) this.dispatchEvent(new FakeEvent("error", { message: reason }));
      this.dispatchEvent(new FakeEvent("close", { code, reason: code === 1006 ? "" : reason }));
    }
  };
}

/** A `fetch` whose answers are the test's. */
export class FakeStreams {
  all = [];

  /** A function, for a mock of the global one. */
  fetch = (url, init) => {
    const stream = new FakeStream(url, init);
    this.all.push(stream);
    return stream.answered;
  };

  get last() {
    return this.all.at(-1);
  }
}

class FakeStream {
  isCancelled = false;
  #resolve;
  #reject;
  #controller;

  constructor(url, init) {
    this.url = new URL(url);
    this.init = init;
    this.answered = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    init.signal.addEventListener("abort", () => this.fail());
  }

  get isStopped() {
    return this.init.signal.aborted;
  }

  asked(name) {
    return this.url.searchParams.get(name);
  }

  fail() {
    this.#reject(new TypeError("fetch failed"));
    this.cut();
  }

  async refuse(status, body, headers) {
    this.#resolve(new Response(body, { status, headers }));
    await settle();
  }

  /** Without `newest`, nothing comes through. */
  async accept(newest, type = "text/event-stream") {
    const start = (controller) => (this.#controller = controller);
    const body = new ReadableStream({ start, cancel: () => (this.isCancelled = true) });
    this.#resolve(new Response(body, { headers: { "Content-Type": type } }));
    await settle();
    if (newest !== undefined) await this.say({ type: "connection:status", status: "connected", stream_seq: newest });
  }

  async say(...messages) {
    await this.sayText(messages.map((message) => `data: ${JSON.stringify(message)}\n\n`).join(""));
  }

  /** The bytes of the text, in pieces of this length. */
  async sayText(text, length = Infinity) {
    const bytes = new TextEncoder().encode(text);
    for (let from = 0; from < bytes.length; from += length) {
      this.#controller.enqueue(bytes.slice(from, Math.min(from + length, bytes.length)));
      await settle();
    }
  }

  async sayBytes(bytes) {
    this.#controller.enqueue(bytes);
    await settle();
  }

  async end() {
    this.#controller.close();
    await settle();
  }

  async cut() {
    try {
      this.#controller?.error(new TypeError("terminated"));
    } catch {
      // It has ended.
    }
    await settle();
  }
}

const TOLD = ["connected", "disconnected", "reconnecting", "error", "invalid", "stream:gap"];

/** Timers are the test's, randomness is none, and nobody answers why a connection was refused, unless `fetch` does. */
export function fakeClient(t, options = {}, url = "ws://h:1/api/ws/events") {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
  t.mock.method(Math, "random", () => 0);
  const { fetch = () => Promise.reject(new Error("nobody there")), ...rest } = options;
  const asking = t.mock.method(globalThis, "fetch", fetch).mock;
  const Socket = fakeSockets();
  const client = new LuxcastClient(url, { WebSocket: Socket, ...rest });
  const events = [];
  const notes = [];
  client.on("event", (event) => events.push(event));
  for (const type of TOLD) client.on(type, (detail) => notes.push([type, detail]));
  t.after(() => client.disconnect());
  return {
    client,
    Socket,
    events,
    notes,
    asked: () => asking.calls.map((call) => call.arguments),
    numbers: () => events.map((event) => event.stream_seq),
    told: (type) => notes.filter((note) => note[0] === type).map((note) => note[1]),
    tick: (ms) => t.mock.timers.tick(ms),
  };
}

/** Lets promises that wait for nothing else go on. */
export async function settle() {
  for (let turn = 0; turn < 50; turn += 1) await Promise.resolve();
}

export function event(stream_seq, type = "x", rest = {}) {
  return { stream_seq, type, job_id: "j", ...rest };
}
