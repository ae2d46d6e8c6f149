// One job: its head, its lanes, and its events from the start on.

import { copy } from "./copy.js";
import { Detail, fillVariables, variablesOf } from "./detail.js";
import { Entry } from "./entry.js";
import { EventList } from "./event_list.js";
import { isGoing } from "./jobs.js";
import { Lanes } from "./lanes.js";
import { EVENTS_MAX } from "./log.js";
import { LuxcastClient, isId, jobUrl, readTimestamp, textOf } from "./luxcast.js";
import { base, isAboutToken, listening, token } from "./session.js";
import { Timeline } from "./timeline.js";
import * as words from "./words.js";

/** How long waiting events are handled at a time, before other work has its turn. */
const SLICE_MS = 8;
/** Variables of a breakpoint shown above the lanes; the panel shows more. */
const VARIABLES_MAX = 100;
const VARIABLE_CHARS_MAX = 120;
/** A job cannot have started longer than this before everything else that is known of it. */
const BEFORE_MS_MAX = 30 * 86_400_000;

const unknown = () => null;

export class JobView {
  #jobs;
  #id = null;
  #client = null;
  /** How the events of the last job came. */
  #transport = "websocket";
  #timeline = new Timeline();
  /** Arrivals by event number, null if unknown; asked for up to this number. */
  #arrivals = unknown;
  #arrivalsEnd = -1;
  /** Messages that wait for arrival times; null if none waits. */
  #waiting = null;
  /** The newest event when the connection began: up to it events are past. */
  #newest = 0;
  /** The job was lost when the connection began, unless events after this one exist. */
  #lostAt = null;
  #turns = new MessageChannel();
  #isAsked = false;
  #lanes;
  #events;
  #detail;
  #askToken;
  #trouble = "";
  /** The daemon sends this job's events, if there are any. */
  #isWatched = false;
  /** Who answered instead of the daemon. */
  #because = undefined;
  #gaps = 0;
  #gapText = "";
  /** Events that could not be processed. */
  #spoilt = 0;
  #dropped = 0;
  /** The event of the failure, and the breakpoint whose variables are shown. */
  #failure = null;
  #shownError = null;
  #shownStatus = "";
  #shownStop = null;

  /** `askToken` is called with the daemon's words when it wants a token, or another one. */
  constructor(jobs, askToken) {
    this.#jobs = jobs;
    this.#askToken = askToken;
    this.#detail = new Detail(() => this.#events.focus());
    this.#events = new EventList((entry) => this.#detail.show(entry));
    this.#lanes = new Lanes({
      choose: (routine) => this.#events.setRoutine(routine),
      pick: (entry) => this.#pick(entry),
      skewMs: () => jobs.skewMs,
      status: () => this.#status(),
    });
    this.#turns.port1.onmessage = () => this.#catchUp();
    jobs.addEventListener("change", () => this.#showHead());
    document.getElementById("copy-tail").addEventListener("click", ({ target }) => {
      copy(target, `luxcast tail --job=${this.#id} --since start --url ${base()}`);
    });
    document.getElementById("notice-close").addEventListener("click", () => {
      this.#gapText = "";
      this.#spoilt = 0;
      this.#showNotice();
    });
    document.getElementById("stop-text").addEventListener("click", () => this.#pick(this.#stop()?.event));
    document.getElementById("failure-text").addEventListener("click", () => this.#pick(this.#failure));
  }

  get id() {
    return this.#id;
  }

  /** All messages about the job, in order, for anyone who wants to look behind the page. */
  get told() {
    return this.#events.log.entries.map((entry) => entry.keep());
  }

  recolor() {
    this.#lanes.recolor();
  }

  /** Closes what is open above the events. Returns true if something was. */
  closeDetail() {
    const wasOpen = this.#detail.isOpen;
    this.#detail.hide();
    return wasOpen;
  }

  /** Opens a job, again if it is the same one; null closes it. */
  open(id) {
    this.#client?.disconnect();
    this.#client = null;
    this.#id = id;
    this.#timeline = new Timeline();
    this.#arrivals = unknown;
    this.#arrivalsEnd = -1;
    this.#waiting = null;
    this.#newest = 0;
    this.#lostAt = null;
    this.#trouble = "";
    this.#isWatched = false;
    this.#because = undefined;
    this.#gapText = "";
    this.#gaps = 0;
    this.#spoilt = 0;
    this.#dropped = 0;
    this.#failure = null;
    this.#events.clear();
    this.#detail.hide();
    this.#lanes.show(this.#timeline);
    showTransport(null);
    this.#showHead();
    this.#showNotice();
    if (id !== null) this.#watch(id);
  }

  #watch(id) {
    if (!isId(id)) return this.#say("That is not a valid job id");
    let client;
    try {
      const WebSocket = listening((newest) => this.#client === client && this.#handleStatus({ status: "connected", stream_seq: newest }));
      client = new LuxcastClient(jobUrl(base(), id), { since: "start", token: token(), startWith: this.#transport, WebSocket });
    } catch (error) {
      return this.#say(`This job cannot be watched from a browser: ${error.message}`);
    }
    this.#client = client;
    const hear = (type, handle) => client.on(type, (detail) => this.#client === client && handle(detail));
    hear("event", (event) => this.#take(event));
    hear("stream:gap", (gap) => this.#take(gap));
    hear("connection:status", (status) => this.#handleStatus(status));
    hear("connected", ({ transport }) => {
      this.#transport = transport;
      showTransport(transport);
      this.#isWatched = true;
      this.#because = undefined;
      this.#say("");
    });
    hear("disconnected", ({ reason, willReconnect }) => {
      showTransport(null);
      if (willReconnect) this.#say(`Connection lost${reason ? ` (${reason})` : ""}; reconnecting`);
    });
    hear("reconnecting", ({ delayMs }) => this.#say(this.#retryWords(delayMs)));
    hear("invalid", ({ problem }) => this.#say(`A message could not be used: ${problem}`));
    hear("error", (error) => this.#handleError(error));
    client.connect();
  }

  #handleStatus({ status, stream_seq: newest }) {
    if (status === "reconnecting") this.#say("The daemon waits for the stream that it shares with others");
    if (status !== "connected") return;
    this.#say("");
    this.#newest = newest ?? 0;
    this.#lostAt = null;
  }

  #retryWords(delayMs) {
    const why = this.#because ?? "the daemon does not answer";
    return `${why[0].toUpperCase()}${why.slice(1)}; trying again in ${words.duration(delayMs / 1000)}`;
  }

  #handleError({ fatal, code, message }) {
    if (!fatal) {
      // Another server that answered is named; usually none answered.
      this.#because = code === "not_connected" ? undefined : words.value(message);
      return;
    }
    this.#isWatched = false;
    this.#showHead();
    if (isAboutToken(code) || code === "policy") this.#askToken(message);
    this.#say(`The daemon refuses to show this job: ${words.value(message)}`);
  }

  #take(message) {
    const item = { message, text: textOf(message), arrival: null };
    const isLive = !(message.stream_seq <= this.#newest);
    // By the daemon's clock, as far as it is known.
    if (isLive) item.arrival = Date.now() + this.#jobs.skewMs;
    if (this.#waiting !== null) return this.#wait(item);
    if (!isLive && this.#isTimeless(message)) return this.#ask(item);
    this.#put(item);
  }

  /** Without a readable time of its own, and its arrival is not known yet. */
  #isTimeless(message) {
    const { stream_seq: seq } = message;
    return message.type !== "stream:gap" && seq !== undefined && readTimestamp(message.timestamp) === null && this.#arrivalsEnd < seq;
  }

  /** Asks for the arrivals from this event on. Later events wait, so that all keep their order. */
  async #ask(item) {
    const [client, newest] = [this.#client, this.#newest];
    this.#waiting = [item];
    const arrivals = await client.arrivals(item.message.stream_seq, newest).catch(() => unknown);
    // Another job may be open by now.
    if (client !== this.#client) return;
    this.#arrivals = arrivals;
    this.#arrivalsEnd = newest;
    this.#catchUp();
  }

  #wait(item) {
    this.#waiting.push(item);
    if (this.#waiting.length > EVENTS_MAX) this.#catchUp(Infinity);
  }

  /** Not in animation frames: a hidden page has none, but must still process events. */
  #catchUp(millis = SLICE_MS) {
    if (this.#waiting === null) return;
    const waiting = this.#waiting;
    const end = performance.now() + millis;
    let place = 0;
    for (; place < waiting.length && (place % 64 !== 63 || performance.now() <= end); place += 1) this.#put(waiting[place]);
    this.#waiting = place === waiting.length ? null : waiting.slice(place);
    if (this.#waiting !== null) this.#turns.port2.postMessage(null);
  }

  /** An event that cannot be processed affects no other. */
  #put(item) {
    try {
      this.#add(item);
    } catch {
      this.#spoilt += 1;
      this.#showNotice();
    }
    this.#askForFrame();
  }

  #add({ message, text, arrival }) {
    if (message.type !== "stream:gap" && message.stream_seq === undefined) return this.#hearSnapshot(message);
    const entry = new Entry(message, { text, arrival: arrival ?? this.#arrivals(message.stream_seq) });
    this.#events.add(entry);
    if (entry.isGap) this.#addGap(message);
    else this.#timeline.add(message, entry.at, entry, arrival, entry.isSaid);
    if (this.#lostAt !== null && message.stream_seq > this.#lostAt) this.#lostAt = null;
    if (this.#timeline.error === message) this.#failure = entry;
    const { dropped, entries } = this.#events.log;
    if (dropped === this.#dropped) return;
    this.#dropped = dropped;
    this.#timeline.forget(entries.find(({ seq }) => seq !== null)?.seq);
  }

  /** Not an event: the list of jobs has the same figures, except for one word. */
  #hearSnapshot(message) {
    if (words.member(message, "metrics", "status") === "lost") this.#lostAt = this.#newest;
  }

  #addGap(message) {
    this.#gaps += 1;
    this.#gapText = words.gap(message);
    this.#timeline.addGap(message);
    this.#showNotice();
  }

  #askForFrame() {
    if (this.#isAsked) return;
    this.#isAsked = true;
    requestAnimationFrame(() => {
      this.#isAsked = false;
      this.#lanes.draw();
      this.#showHead();
    });
  }

  #pick(entry) {
    if (entry === undefined || entry === null) return;
    this.#events.reveal(entry);
    this.#detail.show(entry);
  }

  #say(trouble) {
    this.#trouble = trouble;
    this.#showNotice();
  }

  #showNotice() {
    const notice = document.getElementById("notice");
    const more = this.#gaps > 1 && this.#gapText !== "" ? ` (gap ${this.#gaps})` : "";
    const spoilt = this.#spoilt === 0 ? "" : `${words.count(this.#spoilt)} ${this.#spoilt === 1 ? "event" : "events"} could not be shown`;
    const text = [this.#trouble, this.#gapText && this.#gapText + more, spoilt].filter(Boolean).join(". ");
    notice.dataset.tone = this.#trouble === "" ? "gap" : "trouble";
    notice.hidden = text === "";
    document.getElementById("notice-close").hidden = this.#gapText === "" && spoilt === "";
    put("notice-text", text);
  }

  #stop() {
    return this.#timeline.stops.findLast(({ to }) => to === null);
  }

  /** The events are the newest source; the list fills in what they do not say. */
  #status() {
    const { status, isLost } = this.#timeline;
    if (status === "waiting") return this.#jobs.byId.get(this.#id)?.status ?? "waiting";
    return isGoing({ status }) && (isLost || this.#lostAt !== null) ? "lost" : status;
  }

  #showHead() {
    if (this.#id === null) return;
    const timeline = this.#timeline;
    const job = this.#jobs.byId.get(this.#id);
    timeline.suppose(job?.status);
    const status = this.#status();
    timeline.isLost ||= status === "lost";
    if (this.#shownStatus !== status) this.#lanes.draw();
    this.#shownStatus = status;
    put("job-name", this.#id);
    const pill = document.getElementById("job-status");
    pill.hidden = status === "waiting" && !(this.#isWatched && this.#jobs.isLoaded);
    pill.dataset.status = status;
    put("job-status", status === "waiting" ? "not known: not begun yet, or forgotten" : status);
    const isKnown = job !== undefined || timeline.latest !== null;
    put("job-flow", timeline.flow ?? job?.flow_id ?? (isKnown ? "none" : "–"));
    const told = readTimestamp(job?.start_time);
    // The daemon trusts the time of the first event; if that clock was at 1970, other events know better.
    const isSane = told !== null && (timeline.begin === null || told > timeline.begin - BEFORE_MS_MAX);
    const began = isSane ? told : timeline.begin;
    put("job-start", began === null ? "–" : words.moment(began));
    const until = timeline.end ?? (isGoing({ status }) ? Date.now() + this.#jobs.skewMs - timeline.lagMs : timeline.latest);
    const seconds = isSane && !isGoing(job) ? job.duration : (until - began) / 1000;
    put("job-duration", began === null ? "–" : words.duration(Math.max(0, seconds)));
    put("job-events", job === undefined ? "–" : words.count(job.total_events));
    put("job-calls", job === undefined ? "–" : `${words.count(job.total_slot_calls)} / ${words.count(job.total_event_emits)}`);
    put("job-rate", job === undefined ? "–" : words.rate(job.perSecond) || "0/s");
    this.#showError();
    this.#showStop();
  }

  #showError() {
    const { error } = this.#timeline;
    document.getElementById("failure").hidden = error === null;
    if (error === null || error === this.#shownError) return;
    this.#shownError = error;
    const routine = words.member(error, "data", "routine_id");
    const where = typeof routine === "string" && routine !== "" ? ` in ${routine}` : "";
    const what = words.fault(error);
    put("failure-text", `Failed${where}${what === "" ? "" : `: ${what}`}`);
  }

  #showStop() {
    const stop = this.#stop();
    document.getElementById("stop").hidden = stop === undefined;
    if (stop === undefined || this.#shownStop === stop) return;
    this.#shownStop = stop;
    const breakpoint = words.member(stop.event.message, "breakpoint");
    const place = [stop.lane, words.passage(breakpoint)].filter(Boolean).join(" → ");
    put("stop-text", `Waiting at a breakpoint${place === "" ? "" : `: ${place}`}`);
    fillVariables(document.getElementById("stop-variables"), variablesOf(stop.event), VARIABLES_MAX, VARIABLE_CHARS_MAX);
  }
}

/** Only the unusual one needs a word. */
function showTransport(transport) {
  put("job-transport", transport === "http" ? "Over plain HTTP: no WebSocket gets through" : "");
}

function put(id, text) {
  const element = document.getElementById(id);
  if (element.textContent !== text) element.textContent = text;
}
