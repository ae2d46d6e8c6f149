// What this tab knows of who is watching: the token, kept for the tab alone, and requests that carry it.

const TOKEN = "luxcast.token";
/** For an answer, after which the daemon counts as away. */
const ANSWER_MS_MAX = 10_000;
/** What the daemon says when it refuses. Any other answer is somebody else's: a proxy's, or that of a sign-in. */
const REFUSALS = new Set([
  "bad_request", "bad_id", "bad_parameter", "unauthorized", "forbidden_origin", "forbidden_scope", "forbidden_host", "not_found",
  "method_not_allowed", "timeout", "too_large", "upgrade_required", "http_version", "too_many_requests", "full", "draining",
]);

/** An answer that is none, in words. `code` is the daemon's own, "" if the daemon did not answer. */
export class Refused extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }

  /** Another token may help. */
  get isAboutToken() {
    return isAboutToken(this.code);
  }
}

export function isAboutToken(code) {
  return code === "unauthorized" || code === "forbidden_scope";
}

/** What the browser keeps, as far as it lets a page: else for as long as the page is open. */
class Store {
  #kind;
  #own = new Map();

  constructor(kind) {
    this.#kind = kind;
  }

  get(name) {
    if (this.#own.has(name)) return this.#own.get(name);
    try {
      return globalThis[this.#kind].getItem(name);
    } catch {
      return null;
    }
  }

  /** Null removes. */
  set(name, text) {
    this.#own.set(name, text);
    try {
      if (text === null) globalThis[this.#kind].removeItem(name);
      else globalThis[this.#kind].setItem(name, text);
    } catch {
      // Blocked, or full: this page has it.
    }
  }
}

/** For this tab. */
const session = new Store("sessionStorage");
/** For this browser. */
export const settings = new Store("localStorage");

/** What was pasted, as the token that was meant: without what stands around it in a header, a document or a chat.
 *  `{ token }`, or `{ problem }` in words. */
export function readToken(text) {
  const bare = text.replace(/\p{Cf}/gu, "").replace(/\s+/g, " ").trim().replace(/^(authorization|x-api-key) ?: ?/i, "").replace(/^bearer( |$)/i, "");
  // No token has these, whoever typed them; the quotation marks of ASCII it may have.
  const token = bare.replace(/^[«»“”„‟‘’‚‛‹›「」]+|[«»“”„‟‘’‚‛‹›「」]+$/g, "").replace(/^bearer /i, "").trim();
  if (token === "") return { problem: "There is no token in it." };
  const [foreign] = /[^!-~]/u.exec(token) ?? [];
  if (foreign === undefined) return { token };
  if (foreign === " ") return { problem: "A token has no blank inside. Was more than the token pasted?" };
  const code = foreign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return { problem: `No token has the character ${foreign} (U+${code}).` };
}

/** Null if there is none, or none that could be one. */
export function token() {
  const kept = session.get(TOKEN);
  return kept === null ? null : (readToken(kept).token ?? null);
}

export function setToken(text) {
  session.set(TOKEN, text || null);
}

/** The JSON at `path`, relative to the page. Throws `Refused`, or what `fetch` throws when nobody answers. The token goes
 *  in a field of its own: `Authorization` may be what a proxy before the daemon asks for, and the browser fills that in. */
export async function ask(path) {
  const headers = token() === null ? {} : { "X-API-Key": token() };
  const signal = AbortSignal.timeout(ANSWER_MS_MAX);
  const answer = await fetch(path, { headers, cache: "no-store", redirect: "manual", signal });
  if (answer.type === "opaqueredirect") throw new Refused("", "A proxy leads elsewhere: load this page anew to sign in there");
  const body = read(await answer.text());
  if (answer.ok && body !== null) return body;
  const { error, message } = body ?? {};
  if (!REFUSALS.has(error)) throw new Refused("", `A proxy answered, not the daemon (HTTP status ${answer.status})`);
  throw new Refused(error, typeof message === "string" ? message : error);
}

/** A proxy may answer in something that is no JSON, or not ours. */
function read(text) {
  try {
    const body = JSON.parse(text);
    return typeof body === "object" && !Array.isArray(body) ? body : null;
  } catch {
    return null;
  }
}

/** The address of the daemon, for the client and for `tail`: below whatever path the page is at. */
export function base() {
  const url = new URL("..", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.hash = "";
  url.search = "";
  // In the page's address they are for a proxy; the browser sends them by itself.
  url.username = "";
  url.password = "";
  return url.href.replace(/\/$/, "");
}

/** A class of sockets that tell of the newest event's number when a job is subscribed to. The client keeps that to itself
 *  where the job is named in a message, though the past ends there. */
export function listening(tell) {
  return class extends WebSocket {
    constructor(...parameters) {
      super(...parameters);
      // Its listeners are called in their order, so the client takes no event before this is told.
      const hear = ({ data }) => {
        const newest = readSubscribed(data);
        if (newest === undefined) return;
        this.removeEventListener("message", hear);
        if (newest !== null) tell(newest);
      };
      this.addEventListener("message", hear);
    }
  };
}

/** Undefined as long as it may come yet, null where it does not come. */
function readSubscribed(data) {
  const { type, stream_seq: newest } = (typeof data === "string" && read(data)) || {};
  if (type === "connected") return undefined;
  return type === "subscribed" && Number.isSafeInteger(newest) ? newest : null;
}
