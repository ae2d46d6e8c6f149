// What this tab knows of who is watching: the token, kept for the tab alone, and requests that carry it.

const TOKEN = "luxcast.token";
/** For an answer, after which the daemon counts as away. */
const ANSWER_MS_MAX = 10_000;

/** A request that the daemon refused, in its own words. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }

  /** Another token may help. */
  get isAboutToken() {
    return this.status === 401 || this.status === 403;
  }
}

export function token() {
  return sessionStorage.getItem(TOKEN);
}

export function setToken(text) {
  if (text) sessionStorage.setItem(TOKEN, text);
  else sessionStorage.removeItem(TOKEN);
}

/** The JSON at `path`, relative to the page. Throws `Refused`, or what `fetch` throws when nobody answers. */
export async function ask(path) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  const answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS_MAX) });
  const text = await answer.text();
  if (answer.ok) return JSON.parse(text);
  const { error, message } = refusal(text);
  throw new Refused(answer.status, error, message ?? `HTTP status ${answer.status}`);
}

/** A proxy may answer in something that is no JSON. */
function refusal(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

/** The address of the daemon, for the client and for `tail`: below whatever path the page is at. */
export function base() {
  const url = new URL("..", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.hash = "";
  url.search = "";
  return url.href.replace(/\/$/, "");
}
