// What this tab knows of the viewer: the token, kept for this tab only, and requests that carry it.

const TOKEN = "luxcast.token";
/** Limit for an answer; after it the daemon counts as away. */
const ANSWER_MS_MAX = 10_000;
/** The error words of the daemon. Any other answer comes from a proxy, perhaps from a sign-in. */
const REFUSALS = new Set([
  "bad_request", "bad_id", "bad_parameter", "unauthorized", "forbidden_origin", "forbidden_scope", "forbidden_host", "not_found",
  "method_not_allowed", "timeout", "too_large", "upgrade_required", "http_version", "too_many_requests", "full", "draining",
]);

/** A refusal, in words. `code` is the daemon's own, "" if another server answered. */
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

/** Values that the browser keeps, if it lets a page; otherwise they last while the page is open. */
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

  /** Null removes the value. */
  set(name, text) {
    this.#own.set(name, text);
    try {
      if (text === null) globalThis[this.#kind].removeItem(name);
      else globalThis[this.#kind].setItem(name, text);
    } catch {
      // Blocked or full: this page still has the value.
    }
  }
}

/** For this tab. */
const session = new Store("sessionStorage");
/** For this browser. */
export const settings = new Store("localStorage");

/** Extracts the token from a pasted text, without what surrounds it in a header, a document or a chat. Returns `{
 *  token }`, or `{ problem }` in words. */
export function readToken(text) {
  const bare = text.replace(/\p{Cf}/gu, "").replace(/\s+/g, " ").trim().replace(/^(authorization|x-api-key) ?: ?/i, "").replace(/^bearer( |$)/i, "");
  // No token has these typographic quotation marks; ASCII quotation marks may belong to it.
  const token = bare.replace(/^[«»“”„‟‘’‚‛‹›「」]+|[«»“”„‟‘’‚‛‹›「」]+$/g, "").replace(/^bearer /i, "").trim();
  if (token === "") return { problem: "This contains no token." };
  const [foreign] = /[^!-~]/u.exec(token) ?? [];
  if (foreign === undefined) return { token };
  if (foreign === " ") return { problem: "A token has no space inside. Was more than the token pasted?" };
  const code = foreign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return { problem: `A token cannot have the character ${foreign} (U+${code}).` };
}

/** Null if there is none, or none that could be valid. */
export function token() {
  const kept = session.get(TOKEN);
  return kept === null ? null : (readToken(kept).token ?? null);
}

export function setToken(text) {
  session.set(TOKEN, text || null);
}

/** The JSON at `path`, relative to the page. Throws `Refused`, or the error of `fetch` if nobody answers. The
 *  token has a field of its own: a proxy may ask for `Authorization`, which the browser then fills in. */
export async function ask(path) {
  const headers = token() === null ? {} : { "X-API-Key": token() };
  const signal = AbortSignal.timeout(ANSWER_MS_MAX);
  const answer = await fetch(path, { headers, cache: "no-store", redirect: "manual", signal });
  if (answer.type === "opaqueredirect") throw new Refused("", "A proxy redirects: reload this page to sign in there");
  const body = read(await answer.text());
  if (answer.ok && body !== null) return body;
  const { error, message } = body ?? {};
  if (!REFUSALS.has(error)) throw new Refused("", `A proxy answered, not the daemon (HTTP status ${answer.status})`);
  throw new Refused(error, typeof message === "string" ? message : error);
}

/** A proxy may answer with something other than JSON, or with foreign JSON. */
function read(text) {
  try {
    const body = JSON.parse(text);
    return typeof body === "object" && !Array.isArray(body) ? body : null;
  } catch {
    return null;
  }
}

/** The address of the daemon, for the client and for `tail`, below the path of the page. */
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

/** A class of sockets that report the number of the newest event when a job is subscribed to: the past ends
 *  there. The client does not report it when a message names the job. */
export function listening(tell) {
  // Some browsers have it switched off.
  if (typeof WebSocket !== "function") return undefined;
  return class extends WebSocket {
    constructor(...parameters) {
      super(...parameters);
      // Listeners are called in order, so the client takes no event before this one is called.
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

/** Undefined while it may still come, null if it does not come. */
function readSubscribed(data) {
  const { type, stream_seq: newest } = (typeof data === "string" && read(data)) || {};
  if (type === "connected") return undefined;
  return type === "subscribed" && Number.isSafeInteger(newest) ? newest : null;
}
