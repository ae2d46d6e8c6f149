// A client of a luxcast daemon for browsers, Node, Bun and Deno. It follows the events of a job, of a flow or all
// events, reconnects by itself when the connection ends, and continues after the last event. Where no WebSocket gets
// through, the same messages come as an HTTP answer.

/** The wait before the first new attempt; it doubles with each failure. */
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 30_000;
/** The longest wait that the daemon can ask for. */
const REQUESTED_MS_MAX = 300_000;
/** After a connection of this length, the waits start over. */
const GOOD_CONNECTION_MS = 10_000;
/** Limit for the daemon to accept the connection. */
const OPEN_MS_MAX = 10_000;
/** Limit for the first message on it. The daemon sends one at once; what does not arrive was swallowed on the way. */
const FIRST_MESSAGE_MS_MAX = 5_000;
/** Limit for the answer to the request that asks why no connection is made. */
const ANSWER_MS_MAX = 5_000;
/** Shortest time between two attempts, however often the browser says that now is the time. */
const HURRY_MS_MIN = 1_000;
/** Failed attempts in a row before plain HTTP is tried too: usually the daemon is just not there. */
const FAILURES_BEFORE_HTTP = 2;
/** Some proxies let the first message of a WebSocket pass and then cut it or swallow the rest. After this many cuts,
 *  or one that fell silent, HTTP is tried. */
const BARREN_MAX = 3;
/** The first wait before a WebSocket is tried beside an HTTP stream; it doubles up to the option's value. */
const SOCKET_RETRY_FIRST_MS = 10_000;
const SOCKET_RETRY_MS = 300_000;
const SOCKET_RETRY_MS_MIN = 100;
/** Changes of the filter that come within this time share one new HTTP stream. */
const FILTER_MS = 50;
/** How often in a row the daemon may decline one token of `getToken` before that is final. The token may just
 *  have been about to expire. */
const DECLINED_MAX = 5;

/** The daemon's default interval between pings, used until its pings show another one. */
const HEARTBEAT_MS = 30_000;
/** A distance between two pings outside these bounds comes from clocks and pauses, not from the interval. */
const HEARTBEAT_MS_MIN = 50;
const HEARTBEAT_MS_MAX = 600_000;
/** Silent intervals before the daemon is asked for a sign of life; one more ends the connection. */
const SILENT_HEARTBEATS_MAX = 3;

/** What the daemon accepts on one connection. */
const NAMES_MAX = 128;
const NAME_BYTES_MAX = 64;
/** Half of what the daemon accepts as a request target; longer lists are sent as a message. */
const NAMES_IN_URL_CHARS_MAX = 2_048;
/** Messages that may wait for a slow `for await`. */
const BUFFER_MAX = 10_000;
/** How much of an invalid message is shown. */
const SHOWN_CHARS_MAX = 200;
/** Longest line of an HTTP stream: above any `line_bytes_max` in use. */
const LINE_CHARS_MAX = 2 ** 26;

/** Server-Sent Events, because proxies that hold back other answers know to pass these on as they come. */
const EVENT_STREAM = "text/event-stream";

const ID = /^[A-Za-z0-9_.:-]{1,128}$/;
const TYPE_NAME = /^[A-Za-z0-9_.:-]{1,64}$/;
const TOKEN = /^[!-~]+$/;

/** How the daemon's reason begins when it ends a connection because of its token. */
const TOKEN_REASON = /^the token /;
/** The daemon's error words in refusals, and whether they are final. Any other word comes from another server. */
const REFUSALS = new Map([
  ["bad_request", true],
  ["bad_id", true],
  ["bad_parameter", true],
  ["unauthorized", true],
  ["forbidden_origin", true],
  ["forbidden_scope", true],
  ["forbidden_host", true],
  ["not_found", true],
  ["method_not_allowed", true],
  ["too_large", true],
  ["http_version", true],
  ["timeout", false],
  ["upgrade_required", false],
  ["too_many_requests", false],
  ["full", false],
  ["draining", false],
]);

const MULTI_JOB_PATH = /\/api\/v1\/(websocket|ws)$/;
const ENDPOINT_PATH = /\/api\/(?:v1\/)?(?:websocket|ws)(?:\/|$)/;
/** The live page, with what is before it in the path. */
const PAGE_PATH = /^(.*)\/console(?:\/.*)?$/;
const JOB_PATH = /\/jobs\/[^/]+\/(monitor|debug)$/;
/** Ids that every address parser takes for directories, also as %2e. */
const DOTS_IN_PATH = /\/(?:jobs|flows)\/(?:\.|%2e){1,2}\/(?:monitor|debug)(?:[?#]|$)/i;

/** The key under which a message has its own text, hidden from loops over its members. */
const TEXT = Symbol("text");

/** Names of the client's own events. A publisher's event of such a type is dispatched only as `event`. */
const OWN_NAMES = new Set(["connected", "disconnected", "reconnecting", "error", "invalid", "event"]);

/** An event with the message, or the client's own report, as `detail`. */
export class LuxcastEvent extends Event {
  constructor(type, detail) {
    super(type);
    this.detail = detail;
  }

  /** See [textOf]. */
  get text() {
    return textOf(this.detail);
  }
}

/** The text of an event as the daemon sent it: `stream_seq`, then exactly what the publisher wrote. Numbers such
 *  as 9007199254740993, 1e400 and 1.0 are unchanged in it. Null for anything that did not come from a client. */
export function textOf(message) {
  return message?.[TEXT] ?? null;
}

/** True for a valid id of a job or a flow. */
export function isId(value) {
  return typeof value === "string" && ID.test(value);
}

/** 2025-01-15T10:30:00.5+01:00; a date alone, or with hour and minute, is enough. */
const EXTENDED = /^(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?(?:[Zz]|([+-])(\d\d)(?::?(\d\d))?)?)?$/;
/** 20250115T103000.5+0100 */
const BASIC = /^(\d{4})(\d\d)(\d\d)[Tt ](\d\d)(\d\d)(?:(\d\d)(?:[.,](\d+))?)?(?:[Zz]|([+-])(\d\d)(?::?(\d\d))?)?$/;

/** Numbers below these bounds are seconds, milliseconds, microseconds, nanoseconds; `shift` converts them to
 *  milliseconds. */
const UNITS = [
  { below: 1e11, shift: 3 },
  { below: 1e14, shift: 0 },
  { below: 1e17, shift: -3 },
  { below: 1e20, shift: -6 },
];

/** A publisher's timestamp as Unix milliseconds, rounded down; null if it is not an instant. The daemon reads it the
 *  same way. Texts are those of RFC 3339 and ISO 8601, UTC if without a zone. Numbers are Unix seconds, milliseconds,
 *  microseconds or nanoseconds, distinguished by their size. */
export function readTimestamp(value) {
  if (typeof value === "number") return readUnixNumber(value);
  const parts = isText(value) ? (EXTENDED.exec(value) ?? BASIC.exec(value)) : null;
  return parts === null ? null : readParts(parts);
}

/** Shifts the decimal point in the text, so that a fraction such as .123 stays exact. */
function readUnixNumber(number) {
  const unit = UNITS.find(({ below }) => Math.abs(number) < below);
  if (unit === undefined) return null;
  const [digits, exponent = "0"] = String(number).split("e");
  // The addition turns -0 into 0.
  return Math.floor(Number(`${digits}e${Number(exponent) + unit.shift}`)) + 0;
}

function readParts([, ...parts]) {
  const [year, month, day, hour, minute, second] = parts.slice(0, 6).map((part) => Number(part ?? 0));
  const [fraction = "", sign, zoneHour = 0, zoneMinute = 0] = parts.slice(6);
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  // A day that the month does not have has moved to another month.
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) return null;
  if (hour > 23 || minute > 59 || second > 60 || zoneHour > 23 || zoneMinute > 59) return null;
  // A leap second counts as the second before it.
  const seconds = (hour * 60 + minute) * 60 + Math.min(second, 59);
  const milliseconds = Number(fraction.slice(0, 3).padEnd(3, "0"));
  const ahead = (zoneHour * 60 + Number(zoneMinute)) * (sign === "-" ? -1 : 1);
  return date.getTime() + seconds * 1000 + milliseconds - ahead * 60_000;
}

/** The address of a job's events. `base` is the daemon's: `ws://host:20555`, also with a path before `/api`. */
export function jobUrl(base, jobId) {
  if (!isDots(jobId)) return endpoint(base, `ws/jobs/${checkedId(jobId)}/monitor`);
  // No address can have these in its path. The multi-job endpoint gets them in a message.
  const url = new URL(endpoint(base, "websocket"));
  url.search = [url.search.slice(1), `job_id=${jobId}`].filter(Boolean).join("&");
  return url.href;
}

/** The address of the events of a job that debuggers use. */
export function debugUrl(base, jobId) {
  return endpoint(base, `ws/jobs/${checkedId(jobId)}/debug`);
}

/** The address of a flow's events, including those of all its jobs. */
export function flowUrl(base, flowId) {
  return endpoint(base, `ws/flows/${checkedId(flowId)}/monitor`);
}

/** The address of every event of the daemon. */
export function allUrl(base) {
  return endpoint(base, "ws/events");
}

function endpoint(base, path) {
  const url = parseUrl(base);
  url.pathname = `${url.pathname.replace(/\/+$/, "")}/api/v1/${path}`;
  return url.href;
}

/** In a path these two would be taken for directories. */
function isDots(id) {
  return id === "." || id === "..";
}

function checkedId(id) {
  if (isDots(id)) throw new TypeError(`only jobUrl can have the id ${id}`);
  if (isId(id)) return id;
  throw new TypeError("an id is 1 to 128 characters from A-Z a-z 0-9 _ . : -");
}

/** The endpoint that an address means: itself, or what the live page at this address shows, as for `luxcast
 *  tail`. */
function endpointOf(text) {
  const url = parseUrl(text);
  const page = PAGE_PATH.exec(url.pathname);
  const { hash } = new URL(text, globalThis.location?.href);
  const isOfJob = hash.startsWith("#job=");
  if (ENDPOINT_PATH.test(url.pathname) || (page === null && !isOfJob)) return url;
  if (page !== null) url.pathname = page[1];
  if (hash !== "" && !isOfJob) throw new TypeError("an address of the live page must end in #job= and a job, or have no #");
  return new URL(isOfJob ? jobUrl(url, decoded(hash.slice("#job=".length), "job")) : allUrl(url));
}

/** Its errors never repeat the text: it may hold a token. */
function parseUrl(text) {
  if (isText(text) && DOTS_IN_PATH.test(text)) throw new TypeError("an address cannot have . or .. as an id: see jobUrl");
  let url;
  try {
    url = new URL(text, globalThis.location?.href);
  } catch {
    throw new TypeError("this is not a URL");
  }
  if (/^https?:$/.test(url.protocol)) url.protocol = url.protocol.replace("http", "ws");
  if (!/^wss?:$/.test(url.protocol)) throw new TypeError("the URL must begin with ws:, wss:, http: or https:");
  if (url.username || url.password) throw new TypeError("the URL must not contain a user or password: use the option token");
  url.hash = "";
  return url;
}

/** Removes from `url` the parameters that change from one connection to the next. */
function takeParameters(url) {
  const taken = Object.create(null);
  const kept = [];
  for (const parameter of url.search.slice(1).split("&").filter(Boolean)) {
    const [name, ...value] = parameter.split("=");
    if (!["since", "events", "token", "api_key", "format"].includes(name)) {
      kept.push(parameter);
    } else if (name in taken) {
      throw new TypeError(`${name} is given twice in the URL`);
    } else {
      taken[name] = decoded(value.join("="), name);
    }
  }
  url.search = kept.join("&");
  return taken;
}

function decoded(value, name) {
  try {
    return decodeURIComponent(value);
  } catch {
    throw new TypeError(`${name} in the URL is not well-formed`);
  }
}

/** `now`, `start`, -100 for the last 100, or a number: after that event. */
function checkedSince(since) {
  const text = typeof since === "number" ? `${since}` : isText(since) ? since : "";
  const isNumber = /^-?\d+$/.test(text) && Number.isSafeInteger(Number(text)) && text !== "-0";
  if (text === "now" || text === "start" || isNumber) return text;
  throw new TypeError("since must be now, start, a stream_seq, or -100 for the last 100");
}

function checkedToken(token) {
  if (token === undefined || token === null || (typeof token === "string" && TOKEN.test(token))) return token ?? null;
  throw new TypeError("the token has a character that no token may have");
}

function checkedTransport(transport, name, ...others) {
  if (["websocket", "http", ...others].includes(transport)) return transport;
  throw new TypeError(`${name} must be ${[...others, "websocket"].join(", ")} or http`);
}

function checkedFunction(value, name) {
  if (value === undefined || typeof value === "function") return value ?? null;
  throw new TypeError(`${name} must be a function`);
}

function checkedHeaders(headers = {}) {
  const isPlain = typeof headers === "object" && headers !== null && Object.values(headers).every(isText);
  if (isPlain) return { ...headers };
  throw new TypeError("headers must be an object of strings");
}

function checkedNumber(number, name, least) {
  if (Number.isFinite(number) && number >= least) return number;
  throw new TypeError(`${name} must be a number of at least ${least}`);
}

function checkedNames(names) {
  const list = typeof names?.[Symbol.iterator] === "function" && !isText(names) ? [...names] : null;
  const isName = (name) => typeof name === "string" && new TextEncoder().encode(name).length <= NAME_BYTES_MAX;
  if (list?.every(isName)) return list;
  throw new TypeError(`events must be a list of names of up to ${NAME_BYTES_MAX} bytes`);
}

/** Which events are wanted, by the daemon's own rules, so that both agree over any number of connections. */
class Filter {
  #isOnly = false;
  #names = new Set();

  /** The first call turns "all" and "all but these" into "only these"; later ones add. */
  subscribe(names) {
    this.#set(true, this.#isOnly ? [...this.#names, ...names] : names);
  }

  /** From "all": all but these; from "only": without these. */
  unsubscribe(names) {
    const rest = () => [...this.#names].filter((name) => !names.includes(name));
    this.#set(this.#isOnly, this.#isOnly ? rest() : [...this.#names, ...names]);
  }

  subscribeAll() {
    this.#set(false, []);
  }

  #set(isOnly, list) {
    const names = new Set(list);
    if (names.size > NAMES_MAX) throw new RangeError(`at most ${NAMES_MAX} names can be set`);
    this.#isOnly = isOnly;
    this.#names = names;
  }

  wants(message) {
    const inner = message.type === "execution_event" ? message.event?.event_type : undefined;
    return (this.#names.has(message.type) || this.#names.has(inner)) === this.#isOnly;
  }

  /** The filter as `events=`; empty if that cannot express it. */
  query() {
    const names = [...this.#names];
    const query = names.join(",");
    const canSay = this.#isOnly && names.every((name) => TYPE_NAME.test(name));
    return canSay && query.length <= NAMES_IN_URL_CHARS_MAX ? query : "";
  }

  /** The filter of a stream that was asked for with this `events=`. */
  static ofQuery(query) {
    const filter = new Filter();
    if (query !== "") filter.subscribe(query.split(","));
    return filter;
  }

  /** What to send on an unfiltered connection to set this filter. */
  messages() {
    if (!this.#isOnly && this.#names.size === 0) return [];
    return [{ action: this.#isOnly ? "subscribe" : "unsubscribe", events: [...this.#names] }];
  }
}

const isText = (value) => typeof value === "string";
const isCount = (value) => Number.isSafeInteger(value) && value >= 0;
const orAbsent = (isGood) => (value) => value === undefined || isGood(value);
const orNull = (isGood) => (value) => value === null || isGood(value);

/** The types of those members of the daemon's messages that the client or its user relies on. */
const SHAPES = {
  "connection:status": { status: isText, stream_seq: orAbsent(isCount), retry_after_ms: orAbsent(isCount) },
  ping: { stream_seq: orAbsent(isCount), timestamp: orAbsent(isText) },
  pong: {},
  "subscription:confirmed": { action: isText, events: (value) => Array.isArray(value) && value.every(isText) },
  "stream:gap": { from: isCount, to: isCount, missed: orNull(isCount), reason: isText },
  error: { code: isText, message: isText },
};
const EVENT_SHAPE = {
  stream_seq: orAbsent(isCount),
  job_id: orAbsent(orNull(isText)),
  flow_id: orAbsent(orNull(isText)),
};

/** A protocol `error` can also be an event's type; such an event has a number. */
function isControl(message) {
  return Object.hasOwn(SHAPES, message.type) && !(message.type === "error" && message.stream_seq !== undefined);
}

/** Restores the usual form of a message that came in the dialect of the multi-job endpoint. */
function fromDialect(message) {
  const { type, event } = message;
  const inner = event?.event_type;
  const isCall = (type === "slot_called" && inner === "slot_call") || (type === "event_emitted" && inner === "event_emit");
  if (isCall) message.type = "execution_event";
  // In these, `data` repeats other parts of the event.
  if (isCall || (type === "execution_event" && inner === "error") || (type === "breakpoint_hit" && message.breakpoint)) {
    delete message.data;
  }
}

/** Returns the message, or what is wrong with it. */
function readMessage(data) {
  if (!isText(data)) return { problem: "not text" };
  let message;
  try {
    message = JSON.parse(data);
  } catch {
    return { problem: "not JSON" };
  }
  if (typeof message !== "object" || message === null || Array.isArray(message)) return { problem: "not an object" };
  if (!isText(message.type) || message.type === "") return { problem: "no type" };
  const shape = isControl(message) ? SHAPES[message.type] : EVENT_SHAPE;
  const wrong = Object.keys(shape).find((name) => !shape[name](message[name]));
  if (wrong !== undefined) return { problem: `${wrong} is not valid` };
  Object.defineProperty(message, TEXT, { value: data });
  return { message };
}

/** Whether sockets of this class take headers, as those of Node, Bun, Deno and of the package `ws` do; those of
 *  browsers and their imitations do not. A class that takes headers reads the option. No connection is made: this
 *  is not an address. */
function takesHeaders(Socket) {
  let isRead = false;
  const options = {
    get headers() {
      isRead = true;
      return {};
    },
  };
  try {
    new Socket("ws://", options).close();
  } catch {
    // The expected error.
  }
  return isRead;
}

/** Whether this function, or else the global `fetch`, may give answers that can be read as they come. */
function hasStreams(own) {
  return typeof (own ?? globalThis.fetch) === "function" && typeof ReadableStream === "function";
}

/** Looks up the time of the last entry at or before a number; null before the first. */
function lookup(arrivals) {
  return (number) => {
    let [low, high] = [0, arrivals.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (arrivals[middle][0] <= number) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? null : arrivals[low - 1][1];
  };
}

/** Options of a request that no cache answers and that follows no redirect. `signal` ends it. */
function requestOf(headers, signal) {
  return { headers, redirect: "manual", cache: "no-store", ...(isSignal(signal) && { signal }) };
}

async function refusedOf(answer) {
  const isBody = answer.status === 200 || answer.status >= 400;
  return { status: answer.status, retryAfter: answer.headers.get("Retry-After"), text: isBody ? await answer.text() : "" };
}

/** Reads the daemon's messages from an HTTP answer. It has those members of a WebSocket that the client uses. An
 *  EventSource takes no headers, and does not say why it was refused.
 *  `handlers` are `open()`, `data(text)`, `refused({ status, retryAfter, text })` and `close(reason)`. */
class HttpStream {
  readyState = 0;
  #handlers;
  #stop = new AbortController();
  #reader = null;
  /** The beginning of a line whose end has not arrived. */
  #rest = "";

  constructor(fetch, url, headers, handlers) {
    this.#handlers = handlers;
    this.#run(fetch, url, headers);
  }

  /** The daemon reads no messages from such a client. */
  send() {}

  /** No handler is called after this. */
  close() {
    this.readyState = 3;
    this.#stop.abort();
    this.#reader?.cancel().catch(() => {});
  }

  async #run(fetch, url, headers) {
    const { answer, refused } = await this.#ask(fetch, url, headers);
    if (this.readyState === 3) return answer?.body?.cancel().catch(() => {});
    if (refused !== undefined) return this.#end("refused", refused);
    if (answer === undefined) return this.#end("close", "");
    this.readyState = 1;
    this.#reader = answer.body.getReader();
    this.#handlers.open();
    const decoder = new TextDecoder("utf-8", { fatal: true });
    while (this.readyState === 1) {
      const { text, end } = await this.#next(decoder);
      if (this.readyState !== 1) return;
      if (end !== undefined) return this.#end("close", end);
      this.#take(text);
    }
  }

  #end(name, detail) {
    this.close();
    this.#handlers[name](detail);
  }

  /** `answer` if it is a stream, otherwise `refused`; neither if there is no answer. */
  async #ask(fetch, url, headers) {
    try {
      const answer = await fetch(url, requestOf({ ...headers, Accept: EVENT_STREAM }, this.#stop.signal));
      const isStream = answer.status === 200 && (answer.headers.get("Content-Type") ?? "").startsWith(EVENT_STREAM);
      return isStream && answer.body ? { answer } : { refused: await refusedOf(answer) };
    } catch {
      return {};
    }
  }

  /** The next piece of text, or `end` with the reason why there is none. */
  async #next(decoder) {
    try {
      const { done, value } = await this.#reader.read();
      return done ? { end: "the stream has ended" } : { text: decoder.decode(value, { stream: true }) };
    } catch {
      return { end: "the stream was cut" };
    }
  }

  /** Each message is one line; the other lines only repeat parts of it. */
  #take(text) {
    let from = 0;
    for (let at = text.indexOf("\n"); at !== -1 && this.readyState === 1; at = text.indexOf("\n", from)) {
      const line = this.#rest + text.slice(from, at);
      this.#rest = "";
      from = at + 1;
      if (line.startsWith("data:")) this.#handlers.data(line.slice(line[5] === " " ? 6 : 5));
    }
    this.#rest += text.slice(from);
    if (this.#rest.length > LINE_CHARS_MAX && this.readyState === 1) this.#end("close", "a line of the stream has no end");
  }
}

/** A connection, or the attempt at one. */
class Link {
  socket = null;
  /** Messages received. The first one shows that they get through. */
  heard = 0;
  openedAt = 0;
  /** The filter was sent. Later changes must be sent too. */
  isGreeted = false;
  /** An attempt by HTTP directly after one by WebSocket. */
  isSecond = false;
  /** Why the attempt failed, in the words of the WebSocket. */
  trouble = "";
  /** The daemon's reason for ending it. */
  farewell = null;
  /** It took over from another link, which had dispatched everything up to `overlap`; null if that was nothing. */
  isSuccessor = false;
  overlap = null;
  /** The filter of that link, if it had another one. It too applies to events up to `beforeEnd`. */
  before = null;
  beforeEnd = 0;
  #limit = null;
  #broken = null;

  /** `askedFor` is `events=` of its URL, `position` where it begins. */
  constructor(transport, askedFor, position) {
    this.transport = transport;
    this.askedFor = askedFor;
    this.position = position;
  }

  /** Calls `handle` unless the next limit is set, or the link closed, before. */
  limit(millis, handle) {
    clearTimeout(this.#limit);
    this.#limit = millis === null ? null : setTimeout(handle, millis);
  }

  /** `close` usually follows, before any timer. */
  breakSoon(handle) {
    this.#broken ??= setTimeout(handle, 0);
  }

  send(message) {
    if (this.isGreeted && this.socket.readyState === 1) this.socket.send(JSON.stringify(message));
  }

  /** Without waiting for the close handshake: nobody may answer it. */
  close() {
    clearTimeout(this.#limit);
    clearTimeout(this.#broken);
    this.socket.close(1000);
  }
}

/** Follows one endpoint of a daemon over any number of connections. */
export class LuxcastClient extends EventTarget {
  /** Repeated events that were dropped. A daemon that works correctly sends none. */
  duplicates = 0;

  #url;
  /** `auto`, `websocket` or `http`. */
  #transport;
  #WebSocket;
  /** Null for the global one. */
  #fetch;
  #webSocketRetryMs;
  #signal;
  #heartbeatMsFirst;
  #bufferMax;
  #headers;
  /** Whether the sockets take headers; null until that is needed. */
  #canHaveHeaders = null;
  #token;
  #getToken;
  /** The token that the daemon declined last, and how often in a row. */
  #declined = { token: null, times: 0 };
  /** The job that must be named in a message. */
  #namedJob = null;
  /** A gap before everything known of a job; it may turn out to be none. */
  #heldGap = null;
  /** Where to begin while there is no position. */
  #since;
  /** All events up to here have been dispatched. */
  #position = null;
  #filter = new Filter();

  /** Only if a job must be named: whether the daemon has accepted that. Until then its positions are not ours. */
  #isSubscribed = true;
  #state = "idle";
  /** A new one for each `connect()`, by which work for an older one notices that it is outdated. */
  #run = null;
  /** The connection, or the attempt at it. */
  #link = null;
  /** A link beside it, which takes over once it is connected. */
  #successor = null;
  #hasBeenOpen = false;
  #attemptedAt = 0;
  /** The last connection was an HTTP stream, or WebSockets are barren. */
  #isHttpBetter = false;
  /** WebSockets in a row that brought their first message and nothing else; see BARREN_MAX. */
  #barren = 0;
  /** When a WebSocket is to be tried beside an HTTP stream, and the wait before that. */
  #socketRetryAt = 0;
  #socketRetryMs = 0;
  /** Confirmations of filters that the client sends itself on HTTP. */
  #unconfirmed = [];
  /** Attempts in a row without a connection. */
  #failures = 0;
  /** How often the next wait has doubled. */
  #doublings = 0;
  /** How long the daemon asked us to wait. */
  #requestedMs = null;

  #waitTimer = null;
  #goodTimer = null;
  #filterTimer = null;
  #socketTimer = null;
  #beatTimer = null;
  #heartbeatMs;
  #silentBeats = 0;
  #pingedAt = NaN;
  #pingDistance = 0;

  constructor(url, options = {}) {
    super();
    const address = endpointOf(url);
    if (MULTI_JOB_PATH.test(address.pathname)) {
      this.#namedJob = address.searchParams.get("job_id");
      if (!isId(this.#namedJob)) {
        throw new TypeError("the multi-job endpoint has another protocol, over WebSocket alone: watch a job, a flow or all");
      }
    }
    const parameters = takeParameters(address);
    this.#url = address;
    this.#token = checkedToken(options.token ?? parameters.token ?? parameters.api_key);
    this.#getToken = checkedFunction(options.getToken, "getToken");
    this.#headers = checkedHeaders(options.headers);
    this.#since = checkedSince(options.since ?? parameters.since ?? "now");
    if (/^\d/.test(this.#since)) this.#position = Number(this.#since);
    if (parameters.events) this.#filter.subscribe(checkedNames(parameters.events.split(",")));
    this.#transport = checkedTransport(options.transport ?? "auto", "transport", "auto");
    this.#isHttpBetter = checkedTransport(options.startWith ?? "websocket", "startWith") === "http";
    this.#fetch = checkedFunction(options.fetch, "fetch");
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    this.#checkTransport(options.WebSocket);
    const retryMs = options.webSocketRetryMs ?? SOCKET_RETRY_MS;
    this.#webSocketRetryMs = checkedNumber(retryMs, "webSocketRetryMs", SOCKET_RETRY_MS_MIN);
    this.#signal = options.signal;
    this.#heartbeatMsFirst = checkedNumber(options.heartbeatMs ?? HEARTBEAT_MS, "heartbeatMs", HEARTBEAT_MS_MIN);
    this.#bufferMax = checkedNumber(options.bufferMax ?? BUFFER_MAX, "bufferMax", 1);
  }

  #checkTransport(WebSocket) {
    if (this.#transport === "http") {
      if (this.#namedJob !== null) throw new TypeError("there is no HTTP stream of a job with this name: it needs a WebSocket");
      if (!this.#canHttp) throw new TypeError("there is no fetch with streams here");
    } else if (!this.#canSocket && (WebSocket !== undefined || !this.#canHttp)) {
      throw new TypeError("there is no WebSocket here: pass one as the option WebSocket, such as the one of the package ws");
    }
  }

  /** The address without what changes between connections, and without the token. */
  get url() {
    return this.#url.href;
  }

  /** `idle`, `connecting`, `open`, `waiting` or `closed`. */
  get state() {
    return this.#state;
  }

  /** How the messages come: `websocket` or `http`; null while there is no connection. */
  get transport() {
    return this.#state === "open" && this.#link !== null ? this.#link.transport : null;
  }

  /** All events up to this number have been dispatched; null while there is none. */
  get position() {
    return this.#position;
  }

  /** Takes effect with the next connection. */
  set token(token) {
    this.#token = checkedToken(token);
  }

  /** Connects, and reconnects whenever the connection ends. Called during a wait, it ends the wait. */
  connect() {
    this.#signal?.throwIfAborted();
    if (this.#state === "waiting") this.#hurry();
    if (this.#run !== null) return;
    this.#run = {};
    this.#failures = 0;
    this.#doublings = 0;
    this.#requestedMs = null;
    this.#trySocketSoon();
    this.#signal?.addEventListener("abort", this.#handleAbort);
    globalThis.addEventListener?.("online", this.#handleReturn);
    globalThis.document?.addEventListener("visibilitychange", this.#handleReturn);
    this.#open();
  }

  /** Disconnects. `connect()` continues at the same position. */
  disconnect() {
    if (this.#run === null) return;
    this.#end();
    this.#emit("disconnected", { code: 1000, reason: "", willReconnect: false });
  }

  subscribe(events) {
    const names = checkedNames(events);
    this.#filter.subscribe(names);
    this.#sendFilter({ action: "subscribe", events: names });
  }

  unsubscribe(events) {
    const names = checkedNames(events);
    this.#filter.unsubscribe(names);
    this.#sendFilter({ action: "unsubscribe", events: names });
  }

  subscribeAll() {
    this.#filter.subscribeAll();
    this.#sendFilter({ action: "subscribe_all" });
  }

  /** Calls `handler` with the `detail` of each such event. Returns a function that removes the handler. */
  on(type, handler) {
    const listener = (event) => handler(event.detail);
    this.addEventListener(type, listener);
    return () => this.removeEventListener(type, listener);
  }

  /** Arrival times at the daemon: a promise of a function from a `stream_seq` in this range to Unix milliseconds,
   *  or null if unknown. */
  async arrivals(from, to) {
    const target = this.#plainTarget();
    target.pathname = target.pathname.replace(/\/api\/(?:v1\/)?(?:ws|websocket)(?:\/[^/]*){0,3}$/, "/console/arrivals");
    target.search = [this.#url.search.slice(1), `from=${from}&to=${to}`].filter(Boolean).join("&");
    try {
      const { status, text } = await this.#ask(target);
      const { arrivals } = readBody(text);
      const isEntry = (entry) => Array.isArray(entry) && isCount(entry[0]) && Number.isFinite(entry[1]);
      return lookup(status === 200 && Array.isArray(arrivals) && arrivals.every(isEntry) ? arrivals : []);
    } catch {
      return lookup([]);
    }
  }

  /** The events and gaps until `disconnect()`; throws a fatal error. Connects if nobody has. */
  async *[Symbol.asyncIterator]() {
    const inbox = new Inbox(this.#bufferMax);
    const undo = [
      this.on("event", (message) => inbox.put(message)),
      this.on("stream:gap", (message) => inbox.put(message)),
      this.on("error", (error) => error.fatal && inbox.end(new Error(`${error.code}: ${error.message}`))),
      this.on("disconnected", ({ willReconnect }) => willReconnect || inbox.end(null)),
    ];
    const isOurs = this.#run === null;
    try {
      if (isOurs) this.connect();
      for (let message = await inbox.take(); message !== null; message = await inbox.take()) yield message;
    } finally {
      for (const off of undo) off();
      if (isOurs) this.disconnect();
    }
  }

  #emit(type, detail) {
    this.dispatchEvent(new LuxcastEvent(type, detail));
  }

  #send(message) {
    if (this.#state === "open") this.#link.send(message);
  }

  /** The address for a new connection; it holds the token only if no header can. */
  #target(askedFor, hasHeader) {
    const target = new URL(this.#url);
    const parameters = [target.search.slice(1)];
    if (this.#namedJob === null) parameters.push(`since=${this.#position ?? this.#since}`);
    if (askedFor) parameters.push(`events=${askedFor}`);
    if (this.#token !== null && !hasHeader) parameters.push(`token=${encodeURIComponent(this.#token)}`);
    target.search = parameters.filter(Boolean).join("&");
    return target;
  }

  #plainTarget(askedFor = "") {
    const target = this.#target(askedFor, true);
    target.protocol = target.protocol.replace("ws", "http");
    return target;
  }

  /** If a proxy before the daemon needs the field Authorization, the token has another field. In a page the
   *  browser itself may send that field. */
  #allHeaders(isInPage) {
    if (this.#token === null) return this.#headers;
    const isTaken = isInPage || Object.keys(this.#headers).some((name) => name.toLowerCase() === "authorization");
    const own = isTaken ? { "X-API-Key": this.#token } : { Authorization: `Bearer ${this.#token}` };
    return { ...this.#headers, ...own };
  }

  #plainHeaders() {
    return this.#allHeaders(globalThis.location !== undefined);
  }

  #makeSocket(askedFor) {
    const Socket = this.#WebSocket;
    const headers = this.#allHeaders(false);
    if (Object.keys(headers).length === 0) return new Socket(this.#target(askedFor, true).href);
    this.#canHaveHeaders ??= takesHeaders(Socket);
    if (this.#canHaveHeaders) return new Socket(this.#target(askedFor, true).href, { headers });
    return new Socket(this.#target(askedFor, false).href);
  }

  #open() {
    this.#state = "connecting";
    this.#waitTimer = null;
    this.#attemptedAt = Date.now();
    if (this.#getToken === null) this.#attempt(this.#choose());
    else this.#renewToken();
  }

  /** This may take any time: a person may have to enter the token. */
  async #renewToken() {
    const run = this.#run;
    let trouble = "";
    let token = null;
    try {
      token = await this.#getToken();
    } catch (error) {
      // The error's message may hold a secret.
      trouble = `getToken failed: ${error instanceof Error ? error.name : typeof error}`;
    }
    if (run !== this.#run) return;
    try {
      this.#token = checkedToken(token);
    } catch (error) {
      trouble = error.message;
    }
    if (trouble === "") return this.#attempt(this.#choose());
    this.#failures += 1;
    this.#state = "waiting";
    this.#emit("error", { code: "no_token", message: trouble, fatal: false });
    if (run === this.#run) this.#wait(null);
  }

  get #canSocket() {
    return typeof this.#WebSocket === "function" && this.#transport !== "http";
  }

  /** The multi-job endpoint has no HTTP stream. */
  get #canHttp() {
    return this.#namedJob === null && hasStreams(this.#fetch) && this.#transport !== "websocket";
  }

  #choose() {
    return this.#canSocket && !(this.#isHttpBetter && this.#canHttp) ? "websocket" : "http";
  }

  #attempt(transport, isSecond = false) {
    try {
      this.#link = this.#connect(transport);
    } catch (error) {
      return this.#fail({ code: "no_socket", message: `the WebSocket cannot be made: ${error?.name}` }, 1006);
    }
    this.#link.isSecond = isSecond;
  }

  /** Opens a link. Its handlers run only while it is the connection or the successor. Throws if the WebSocket cannot
   *  be made. */
  #connect(transport) {
    const link = new Link(transport, this.#filter.query(), this.#position);
    const whileOurs = (handle) => (detail) => (link === this.#link || link === this.#successor) && handle(detail);
    if (transport === "websocket") this.#listen(link, whileOurs);
    else link.socket = this.#stream(link, whileOurs);
    link.limit(OPEN_MS_MAX, () => this.#handleClose(link, 1006, "no answer for too long", true));
    return link;
  }

  #listen(link, whileOurs) {
    const socket = this.#makeSocket(link.askedFor);
    const listen = (type, handle) => socket.addEventListener(type, whileOurs(handle));
    listen("open", () => this.#handleOpen(link));
    listen("message", (event) => this.#handleData(link, event.data));
    listen("error", (event) => this.#handleTrouble(link, event.message));
    listen("close", (event) => this.#handleClose(link, event.code, isText(event.reason) ? event.reason : ""));
    link.socket = socket;
  }

  #stream(link, whileOurs) {
    return new HttpStream(this.#fetch ?? fetch, this.#plainTarget(link.askedFor), this.#plainHeaders(), {
      open: whileOurs(() => this.#handleOpen(link)),
      data: whileOurs((text) => this.#handleData(link, text)),
      refused: whileOurs((answer) => this.#handleRefused(link, answer)),
      close: whileOurs((reason) => this.#handleClose(link, link.farewell === null ? 1006 : 1012, link.farewell ?? reason)),
    });
  }

  /** `close` follows; but the WebSocket of Node 22 does not send it after a refusal. */
  #handleTrouble(link, message) {
    link.trouble = isText(message) && message !== "" ? this.#withoutToken(message) : this.#noConnection();
    link.breakSoon(() => this.#handleClose(link, 1006, link.trouble));
  }

  #handleOpen(link) {
    const name = link.transport === "websocket" ? "WebSocket" : "HTTP stream";
    const words = `the ${name} opened, but nothing comes through it: a proxy may hold it back`;
    link.limit(FIRST_MESSAGE_MS_MAX, () => this.#handleClose(link, 1006, words, true));
    link.isGreeted = true;
    if (link.transport === "websocket") this.#greet(link);
  }

  #greet(link) {
    const isAsWanted = link.askedFor !== "" && link.askedFor === this.#filter.query();
    const messages = isAsWanted ? [] : this.#filter.messages();
    if (!isAsWanted && link.askedFor !== "") messages.unshift({ action: "subscribe_all" });
    for (const message of messages) link.send(message);
    if (messages.length > 0) this.#unconfirmed = [];
    if (this.#namedJob === null) return;
    this.#isSubscribed = false;
    link.send({ type: "subscribe", job_id: this.#namedJob, since: `${this.#position ?? this.#since}` });
  }

  #handleData(link, data) {
    if (link === this.#successor) return this.#handleSuccessor(link, data);
    this.#silentBeats = 0;
    link.heard += 1;
    if (link.heard === 1) {
      this.#begin(link);
      const isFirst = !this.#hasBeenOpen;
      this.#hasBeenOpen = true;
      this.#emit("connected", { isFirst, transport: link.transport });
      // A listener may have disconnected, here and below.
      if (link === this.#link) this.#matchFilter();
      if (link !== this.#link) return;
    } else if (link.heard === 2 && link.transport === "websocket") {
      this.#barren = 0;
    }
    this.#handleText(data);
  }

  /** This link is the connection from now on. */
  #begin(link) {
    link.limit(null);
    link.openedAt = Date.now();
    this.#state = "open";
    this.#failures = 0;
    this.#requestedMs = null;
    this.#declined.times = 0;
    this.#isHttpBetter = link.transport === "http";
    clearTimeout(this.#goodTimer);
    this.#goodTimer = setTimeout(() => (this.#doublings = 0), GOOD_CONNECTION_MS);
    this.#silentBeats = 0;
    this.#pingedAt = NaN;
    this.#pingDistance = 0;
    this.#expectBeats(link.isSuccessor ? this.#heartbeatMs : this.#heartbeatMsFirst);
    this.#waitForSocket();
  }

  #handleText(data) {
    const { message, problem } = readMessage(data);
    if (message === undefined) {
      this.#emit("invalid", { problem, text: isText(data) ? data.slice(0, SHOWN_CHARS_MAX) : "" });
    } else if (this.#namedJob !== null && this.#isOfMultiJob(message)) {
      this.#handleMultiJob(message);
    } else if (isControl(message)) {
      this.#handleControl(message);
    } else {
      this.#handleEvent(message);
    }
  }

  #isOfMultiJob({ type, code, job_id }) {
    return type === "connected" || type === "subscribed" || (type === "error" && isText(code) && isText(job_id));
  }

  /** Handles what an ordinary endpoint says of one job: where it begins, or that it may not be watched. */
  #handleMultiJob({ type, code, message, stream_seq: newest }) {
    if (type === "subscribed") {
      this.#isSubscribed = true;
      this.#handleStatus({ status: "connected", stream_seq: newest });
    } else if (type === "error") {
      this.#fail({ code, message: isText(message) ? message : "" }, 1000);
    }
  }

  #handleControl(message) {
    switch (message.type) {
      case "connection:status":
        this.#handleStatus(message);
        break;
      case "ping":
        // The connection's own position: all its events up to there were sent before.
        if (this.#isSubscribed) this.#standAt(message.stream_seq);
        this.#learnHeartbeat(Date.parse(message.timestamp));
        this.#send({ type: "pong" });
        break;
      case "error":
        return this.#emit("error", { ...message, fatal: false });
      case "stream:gap":
        return this.#handleGap(message);
    }
    this.#emit(message.type, message);
  }

  /** A gap is not a position: kept events from inside it may still follow. */
  #handleGap(message) {
    const { overlap } = this.#link;
    let gap = message;
    if (overlap !== null && message.from <= overlap) {
      // The link before this one reported everything up to there.
      if (message.to <= overlap) return;
      gap = { ...message, from: overlap + 1, missed: null };
    }
    // Before everything known of a job. If that begins with the start of the job, nothing was missed.
    if (this.#isOfJob() && gap.from === 1 && gap.missed === null) this.#heldGap = gap;
    else this.#emit("stream:gap", gap);
  }

  #handleStatus({ status, stream_seq: newest, retry_after_ms: requestedMs, reason }) {
    if (status === "connected" && newest !== undefined) {
      // If the past was asked for, the newest event is still to come.
      if (this.#position === null && this.#since === "now") this.#position = newest;
      // The daemon's numbers are lower than before: everything it has kept comes now, and none of it has been
      // dispatched.
      if (this.#link.position !== null && this.#link.position > newest) {
        this.#position = null;
        this.#since = "start";
      }
    } else if (status === "disconnected") {
      if (this.#isSubscribed) this.#standAt(newest);
      this.#requestedMs = requestedMs ?? null;
      this.#link.farewell = isText(reason) ? reason : "";
    }
  }

  #isOfJob() {
    return this.#namedJob !== null || JOB_PATH.test(this.#url.pathname);
  }

  #handleEvent(message) {
    const link = this.#link;
    const number = message.stream_seq;
    if (this.#namedJob !== null) fromDialect(message);
    if (number !== undefined) {
      if (this.#position !== null && number <= this.#position) {
        if (!(link.overlap !== null && number <= link.overlap)) this.duplicates += 1;
        return;
      }
      // Before the listeners: one of them may reconnect.
      this.#position = number;
      this.#releaseGap(message);
    } else if (link.isSuccessor) {
      // The snapshot of a job whose events have been coming all along.
      return;
    }
    // Events sent before the filter changed, or before the daemon has read it.
    if (!this.#filter.wants(message)) return;
    if (link.before !== null && number <= link.beforeEnd && !link.before.wants(message)) return;
    if (!OWN_NAMES.has(message.type)) this.#emit(message.type, message);
    this.#emit("event", message);
  }

  #releaseGap({ type, stream_seq: number }) {
    const gap = this.#heldGap;
    this.#heldGap = null;
    if (gap !== null && !(type === "job_started" && gap.to < number)) this.#emit("stream:gap", gap);
  }

  #standAt(number) {
    if (number !== undefined && !(number <= this.#position && this.#position !== null)) this.#position = number;
  }

  /** Measures by the daemon's own times, which do not bunch up when one side is suspended. The greater of two
   *  distances counts, so that an adjusted clock does not make us impatient. */
  #learnHeartbeat(pingedAt) {
    const distance = pingedAt - this.#pingedAt;
    this.#pingedAt = pingedAt;
    if (!(distance >= HEARTBEAT_MS_MIN && distance <= HEARTBEAT_MS_MAX)) return;
    this.#expectBeats(Math.max(distance, this.#pingDistance));
    this.#pingDistance = distance;
  }

  #expectBeats(heartbeatMs) {
    if (heartbeatMs === this.#heartbeatMs && this.#beatTimer !== null) return;
    this.#heartbeatMs = heartbeatMs;
    clearInterval(this.#beatTimer);
    this.#beatTimer = setInterval(() => this.#handleBeat(), heartbeatMs);
  }

  /** Counts beats instead of reading a clock: after a sleep of the machine this is one beat, not an hour of
   *  silence. */
  #handleBeat() {
    // Imitations of timers call a cleared one again.
    if (this.#link === null) return;
    this.#silentBeats += 1;
    if (this.#silentBeats > SILENT_HEARTBEATS_MAX) this.#handleClose(this.#link, 1006, "the daemon is silent", true);
    else if (this.#silentBeats === SILENT_HEARTBEATS_MAX) this.#send({ type: "ping" });
  }

  /** Changes the filter of the connection too. On HTTP another stream must take over for that. */
  #sendFilter(message) {
    for (const link of [this.#link, this.#successor]) link?.send(message);
    if (this.transport !== "http") return;
    this.#unconfirmed.push({ type: "subscription:confirmed", events: [], ...message });
    this.#filterTimer ??= setTimeout(() => this.#matchFilter(), FILTER_MS);
  }

  /** Opens a stream with the new filter. If its address would be the same, filtering here is enough. */
  #matchFilter() {
    clearTimeout(this.#filterTimer);
    this.#filterTimer = null;
    const wanted = this.#filter.query();
    const isAsWanted = this.transport !== "http" || this.#link.askedFor === wanted;
    const other = this.#successor?.transport === "http" ? this.#successor.askedFor : null;
    if (!isAsWanted && other === wanted) return;
    if (!isAsWanted || other !== null) this.#dropSuccessor();
    if (isAsWanted) this.#confirm();
    else this.#successor = this.#connect("http");
  }

  #confirm() {
    const confirmed = this.#unconfirmed;
    this.#unconfirmed = [];
    for (const message of confirmed) this.#emit(message.type, message);
  }

  /** Sets the time at which a WebSocket is tried beside the HTTP stream. */
  #waitForSocket() {
    clearTimeout(this.#socketTimer);
    if (this.transport !== "http" || !this.#canSocket || this.#barren >= BARREN_MAX) return;
    const restMs = Math.max(this.#socketRetryAt - Date.now(), 0);
    this.#socketTimer = setTimeout(() => this.#trySocket(), Math.min(restMs, this.#webSocketRetryMs));
  }

  #trySocket() {
    // Without a position it could not continue where the stream is.
    const isTime = this.#position !== null && this.#successor === null && this.#filterTimer === null;
    if (!isTime) {
      this.#socketRetryAt = Date.now() + HURRY_MS_MIN;
      return this.#waitForSocket();
    }
    try {
      this.#successor = this.#connect("websocket");
    } catch {
      this.#putOffSocket();
    }
  }

  #putOffSocket() {
    this.#socketRetryMs = Math.min(this.#socketRetryMs * 2, this.#webSocketRetryMs);
    this.#socketRetryAt = Date.now() + jittered(this.#socketRetryMs);
    this.#waitForSocket();
  }

  /** The first message decides whether a successor takes over. */
  #handleSuccessor(link, data) {
    const { message } = readMessage(data);
    const isConnected = message?.type === "connection:status" && message.status === "connected";
    // Lower numbers come from another daemon. The present connection is better.
    const isBehind = link.position !== null && !(link.position <= message?.stream_seq);
    if (!isConnected || isBehind) return this.#handleClose(link, 1006, "another server answered");
    const old = this.#link;
    this.#successor = null;
    this.#link = link;
    link.heard = 1;
    link.isSuccessor = true;
    link.overlap = this.#position;
    old.close();
    this.#begin(link);
    if (link.transport === "http") {
      link.before = Filter.ofQuery(old.askedFor);
      link.beforeEnd = message.stream_seq ?? 0;
      // It may have changed again.
      return this.#matchFilter();
    }
    this.#emit("connected", { isFirst: false, transport: link.transport });
    if (link === this.#link) this.#matchFilter();
    if (link === this.#link) this.#handleControl(message);
  }

  #dropSuccessor() {
    if (this.#successor !== null) this.#forget(this.#successor);
  }

  /** Handles the end of a link or of an attempt. `isHung`: it did not fail, but nothing came through it. */
  #handleClose(link, code, words, isHung = false) {
    const isConnection = link === this.#link;
    this.#forget(link);
    const reason = this.#withoutToken(words) || link.trouble;
    if (!isConnection) return this.#handleSuccessorLost(link, reason);
    const isFinal = code === 1008 && !(TOKEN_REASON.test(words) && this.#mayRenew());
    if (isFinal) return this.#fail({ code: "policy", message: reason || "the daemon ended it" }, code);
    if (link.heard > 0) this.#handleLoss(link, code, reason, isHung);
    else this.#handleFailure(link, code, reason, isHung);
  }

  #forget(link) {
    if (link === this.#link) this.#link = null;
    else this.#successor = null;
    link.close();
  }

  #handleSuccessorLost(link, reason) {
    if (link.transport === "websocket") return this.#putOffSocket();
    // The stream has the old filter.
    this.#handleClose(this.#link, 1006, reason || "no stream with the new filter");
  }

  #handleLoss(link, code, reason, isHung) {
    const run = this.#run;
    const isBarren = link.transport === "websocket" && link.heard === 1 && code === 1006;
    const wasShort = Date.now() - link.openedAt < FIRST_MESSAGE_MS_MAX;
    if (isBarren && (isHung || wasShort)) this.#barren = isHung ? BARREN_MAX : this.#barren + 1;
    this.#isHttpBetter = link.transport === "http" || this.#barren >= BARREN_MAX;
    this.#clear();
    this.#state = "waiting";
    this.#emit("disconnected", { code, reason, willReconnect: true });
    if (run === this.#run) this.#wait(this.#requestedMs);
  }

  async #handleFailure(link, closeCode, reason, isHung) {
    const run = this.#run;
    this.#clear();
    if (!link.isSecond) this.#failures += 1;
    this.#isHttpBetter = false;
    const mayTryHttp = link.transport === "websocket" && this.#canHttp && (isHung || this.#failures >= FAILURES_BEFORE_HTTP);
    if (!mayTryHttp) this.#state = "waiting";
    // That there is no connection was reported before.
    const isNew = !link.isSecond || reason !== "";
    const code = isHung && link.isGreeted ? "held_back" : "not_connected";
    if (isNew) this.#emit("error", { code, message: reason || this.#noConnection(), fatal: false });
    if (run !== this.#run) return;
    if (mayTryHttp) return this.#tryHttp();
    const mayAsk = link.transport === "websocket" && this.#failures >= FAILURES_BEFORE_HTTP;
    const refusal = mayAsk ? await this.#askWhy() : null;
    if (run === this.#run) this.#handleRefusal(refusal, closeCode);
  }

  /** Tries HTTP in the same attempt. The answer also says why the daemon refused the WebSocket. */
  #tryHttp() {
    this.#trySocketSoon();
    this.#attempt("http", true);
  }

  #trySocketSoon() {
    this.#socketRetryMs = Math.min(SOCKET_RETRY_FIRST_MS, this.#webSocketRetryMs);
    this.#socketRetryAt = Date.now() + jittered(this.#socketRetryMs);
  }

  /** Handles an answer that is not a stream. */
  #handleRefused(link, answer) {
    const isConnection = link === this.#link;
    const refusal = this.#refusal(answer);
    this.#forget(link);
    if (!isConnection) {
      this.#requestedMs = refusal.retryAfterMs ?? null;
      return this.#handleSuccessorLost(link, refusal.message);
    }
    this.#clear();
    if (!link.isSecond) this.#failures += 1;
    // The connection before this one may still take the only place of this address. Another WebSocket that hangs would
    // take it again.
    this.#isHttpBetter = refusal.code === "too_many_requests";
    this.#state = "waiting";
    this.#handleRefusal(refusal, 1006);
  }

  /** Ends a failed attempt. `refusal` says why it failed; null if that is unknown. */
  #handleRefusal(refusal, code) {
    const run = this.#run;
    if (refusal?.fatal && !(refusal.code === "unauthorized" && this.#mayRenew())) return this.#fail(refusal, code);
    if (refusal !== null) this.#emit("error", { ...refusal, fatal: false });
    if (run === this.#run) this.#wait(this.#requestedMs ?? refusal?.retryAfterMs ?? null);
  }

  /** Whether another token than the declined one may exist. */
  #mayRenew() {
    if (this.#getToken === null) return false;
    const { token, times } = this.#declined;
    this.#declined = { token: this.#token, times: token === this.#token ? times + 1 : 1 };
    return this.#declined.times < DECLINED_MAX;
  }

  #wait(requestedMs) {
    this.#requestedMs = requestedMs;
    const delayMs = requestedMs === null ? this.#nextBackoff() : Math.min(requestedMs, REQUESTED_MS_MAX) + BACKOFF_FIRST_MS * Math.random();
    this.#waitTimer = setTimeout(() => this.#handleWaited(), delayMs);
    this.#emit("reconnecting", { delayMs, failures: this.#failures });
  }

  #handleWaited() {
    this.#requestedMs = null;
    this.#open();
  }

  #nextBackoff() {
    const whole = Math.min(BACKOFF_FIRST_MS * 2 ** this.#doublings, BACKOFF_MAX_MS);
    this.#doublings += 1;
    return jittered(whole);
  }

  /** The browser is online again, or the page is visible again. */
  #handleReturn = ({ type }) => {
    if (globalThis.document?.visibilityState === "hidden") return;
    this.#hurry();
    // Perhaps in another network.
    if (type === "online") this.#hurrySocket();
    // A connection may have died unnoticed meanwhile. Unless a message comes, the next beat ends it. On HTTP nothing
    // can be asked; there the daemon's own ping gets one more beat.
    const patience = this.transport === "http" ? SILENT_HEARTBEATS_MAX - 1 : SILENT_HEARTBEATS_MAX;
    if (this.#state === "open" && this.#silentBeats > 0 && this.#silentBeats < patience) {
      this.#silentBeats = patience;
      this.#send({ type: "ping" });
    }
  };

  /** Ends a wait, except one that the daemon asked for. */
  #hurry() {
    if (this.#waitTimer === null || this.#requestedMs !== null) return;
    clearTimeout(this.#waitTimer);
    const restMs = HURRY_MS_MIN - (Date.now() - this.#attemptedAt);
    this.#waitTimer = setTimeout(() => this.#handleWaited(), Math.max(0, Math.min(restMs, HURRY_MS_MIN)));
  }

  #hurrySocket() {
    this.#barren = 0;
    if (this.transport !== "http" || this.#successor !== null) return;
    const at = Math.min(this.#socketRetryAt, Date.now() + HURRY_MS_MIN);
    this.#trySocketSoon();
    this.#socketRetryAt = at;
    this.#waitForSocket();
  }

  /** A WebSocket does not say why it was refused. A plain request to the same address is refused the same way.
   *  Returns null if there is no answer that can be read. */
  async #askWhy() {
    if (typeof (this.#fetch ?? globalThis.fetch) !== "function") return null;
    try {
      return this.#refusal(await this.#ask(this.#plainTarget(this.#filter.query())));
    } catch {
      return null;
    }
  }

  /** The page's origin, if the daemon has another one; null too outside of browsers. */
  #foreignOrigin() {
    const origin = globalThis.location?.origin;
    return origin === undefined || origin === this.#plainTarget().origin ? null : origin;
  }

  /** A browser does not say whether the daemon was there and refused a page of another origin. */
  #noConnection() {
    const origin = this.#state === "open" ? null : this.#foreignOrigin();
    return origin === null ? "no connection" : `no connection; if the daemon is there, its allowed_origins must name ${origin}`;
  }

  async #ask(target) {
    const ask = this.#fetch ?? fetch;
    const stop = new AbortController();
    const read = async () => refusedOf(await ask(target, requestOf(this.#plainHeaders(), stop.signal)));
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("no answer for too long")), ANSWER_MS_MAX);
    });
    try {
      return await Promise.race([read(), late]);
    } finally {
      clearTimeout(timer);
      stop.abort();
    }
  }

  #refusal({ status, retryAfter, text }) {
    const { error: word, message: words } = readBody(text);
    const isOfDaemon = status >= 400 && REFUSALS.has(word) && isText(words);
    const fatal = isOfDaemon && REFUSALS.get(word);
    const isTold = !fatal && /^\d{1,6}$/.test(retryAfter ?? "");
    const wait = isTold ? { retryAfterMs: Number(retryAfter) * 1000 } : {};
    if (!isOfDaemon) {
      // A redirect that is not followed has no status in browsers.
      const how = status === 0 ? "with a redirect" : `with HTTP ${status}`;
      const message = `a proxy answered ${how}, not the daemon`;
      return { code: "proxy_answered", ...(status !== 0 && { status }), message, fatal, ...wait };
    }
    if (word === "upgrade_required") {
      const message = `the daemon would accept, but no WebSocket gets through: a proxy, or an origin that is not allowed${this.#whyNotHttp()}`;
      return { code: "upgrade_refused", status, message, fatal };
    }
    return { code: word, status, message: this.#withoutToken(words), fatal, ...wait };
  }

  #whyNotHttp() {
    if (this.#namedJob !== null) return "; there is no HTTP stream of a job with this name";
    return this.#canHttp ? "; this daemon has no HTTP streams" : "";
  }

  #fail(error, code) {
    this.#end();
    this.#emit("error", { ...error, fatal: true });
    this.#emit("disconnected", { code, reason: error.message, willReconnect: false });
  }

  #handleAbort = () => this.disconnect();

  /** Nothing happens after this. */
  #end() {
    this.#run = null;
    this.#clear();
    if (this.#link !== null) this.#forget(this.#link);
    this.#unconfirmed = [];
    this.#state = "closed";
    this.#signal?.removeEventListener("abort", this.#handleAbort);
    globalThis.removeEventListener?.("online", this.#handleReturn);
    globalThis.document?.removeEventListener("visibilitychange", this.#handleReturn);
  }

  /** Without a connection there is nothing to wait for beside it. */
  #clear() {
    for (const timer of [this.#waitTimer, this.#goodTimer, this.#filterTimer, this.#socketTimer]) clearTimeout(timer);
    clearInterval(this.#beatTimer);
    this.#waitTimer = null;
    this.#filterTimer = null;
    this.#beatTimer = null;
    this.#dropSuccessor();
  }

  #withoutToken(text) {
    if (this.#token === null) return text;
    return text.replaceAll(this.#token, "***").replaceAll(encodeURIComponent(this.#token), "***");
  }
}

/** Between half and all of a wait, so that clients do not all return together. */
function jittered(millis) {
  return millis * (0.5 + Math.random() / 2);
}

/** In imitations of browsers, signals and `fetch` may come from different libraries, and `fetch` accepts only its
 *  own. */
function isSignal(signal) {
  try {
    return new Request("http://localhost/", { signal }) !== null;
  } catch {
    return false;
  }
}

function readBody(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

/** Connects listeners, which cannot wait, with a loop that may be slow. Messages without room are reported as a
 *  gap. */
class Inbox {
  #max;
  #messages = [];
  /** The gap after the messages, while there is no room after it. */
  #gap = null;
  #isEnded = false;
  #failure = null;
  #wake = null;

  constructor(max) {
    this.#max = max;
  }

  put(message) {
    if (this.#gap === null && this.#messages.length < this.#max) this.#messages.push(message);
    else this.#leaveOut(message);
    this.#wake?.();
  }

  #leaveOut(message) {
    // The snapshot of a job's metrics is not an event: later ones say the same.
    if (message.type !== "stream:gap" && message.stream_seq === undefined) return;
    if (this.#gap === null) {
      this.#gap = { type: "stream:gap", from: null, to: null, missed: 0, reason: "overrun" };
      this.#messages.push(this.#gap);
    }
    const isGap = message.type === "stream:gap";
    const first = isGap ? message.from : message.stream_seq;
    const last = isGap ? message.to : message.stream_seq;
    const missed = isGap ? message.missed : 1;
    this.#gap.from ??= first;
    this.#gap.to = last;
    this.#gap.missed = this.#gap.missed === null || missed === null ? null : this.#gap.missed + missed;
  }

  end(failure) {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#failure = failure;
    this.#wake?.();
  }

  /** The next message; null at the end. */
  async take() {
    while (this.#messages.length === 0 && !this.#isEnded) {
      await new Promise((resolve) => (this.#wake = resolve));
    }
    if (this.#messages.length === 0 && this.#failure !== null) throw this.#failure;
    const message = this.#messages.shift() ?? null;
    if (message === this.#gap) this.#gap = null;
    return message;
  }
}
