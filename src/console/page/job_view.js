// One job: its head, its lanes, its events, from its beginning on and as they come.

import { Detail, copy, fillVariables, variablesOf } from "./detail.js";
import { EventList } from "./event_list.js";
import { isGoing } from "./jobs.js";
import { Lanes } from "./lanes.js";
import { LuxcastClient, jobUrl } from "./luxcast.js";
import { base, token } from "./session.js";
import { Timeline } from "./timeline.js";
import * as words from "./words.js";

/** For putting events into the picture, in a frame; the others wait for the next. */
const FRAME_MS = 8;
/** So many that wait are worth a word. */
const BEHIND_MIN = 500;
const ID = /^[A-Za-z0-9_.:-]{1,128}$/;

export class JobView {
  #jobs;
  #id = null;
  #client = null;
  #timeline = new Timeline();
  #waiting = [];
  #isAsked = false;
  #lanes;
  #events;
  #detail;
  #askToken;
  #trouble = "";
  #gaps = 0;
  #gapText = "";
  /** The breakpoint whose variables are on the page. */
  #shownStop = null;

  /** `askToken` is called with the daemon's words when it wants a token, or another. */
  constructor(jobs, askToken) {
    this.#jobs = jobs;
    this.#askToken = askToken;
    this.#detail = new Detail(() => this.#events.focus());
    this.#events = new EventList((message) => this.#detail.show(message));
    this.#lanes = new Lanes({
      choose: (routine) => this.#events.setRoutine(routine),
      pick: (event) => this.#pick(event),
      skewMs: () => jobs.skewMs,
    });
    jobs.addEventListener("change", () => this.#tellHead());
    document.getElementById("copy-tail").addEventListener("click", ({ target }) => {
      copy(target, `luxcast tail --job ${this.#id} --since start --url ${base()}`);
    });
    document.getElementById("notice-close").addEventListener("click", () => {
      this.#gapText = "";
      this.#tellNotice();
    });
    document.getElementById("stop").addEventListener("click", () => this.#pick(this.#stop()?.event));
  }

  get id() {
    return this.#id;
  }

  /** Everything that was told of the job, in order: for whoever wants to look behind the page. */
  get told() {
    return this.#events.log.entries.map(({ message }) => message);
  }

  recolor() {
    this.#lanes.recolor();
  }

  /** Opens a job, anew if it is the same; null closes it. */
  open(id) {
    this.#client?.disconnect();
    this.#client = null;
    this.#id = id;
    this.#timeline = new Timeline();
    this.#waiting = [];
    this.#trouble = "";
    this.#gapText = "";
    this.#gaps = 0;
    this.#events.clear();
    this.#detail.hide();
    this.#lanes.show(this.#timeline);
    this.#tellHead();
    this.#tellNotice();
    if (id !== null) this.#watch(id);
  }

  #watch(id) {
    if (!ID.test(id)) return this.#say("That is no name of a job");
    const client = new LuxcastClient(jobUrl(base(), id), { since: "start", token: token() });
    this.#client = client;
    const hear = (type, handle) => client.on(type, (detail) => this.#client === client && handle(detail));
    hear("event", (event) => this.#take(event));
    hear("stream:gap", (gap) => this.#take(gap));
    hear("connected", () => this.#say(""));
    hear("disconnected", ({ reason, willReconnect }) => willReconnect && this.#say(`The connection is lost${reason ? ` (${reason})` : ""}; coming back`));
    hear("reconnecting", ({ delayMs }) => this.#say(`The daemon does not answer; trying again in ${words.duration(delayMs / 1000)}`));
    hear("invalid", ({ problem }) => this.#say(`A message could not be used: ${problem}`));
    hear("error", (error) => this.#handleError(error));
    client.connect();
  }

  #handleError({ fatal, code, message, status }) {
    if (!fatal) return;
    if (status === 401 || status === 403 || code === "policy") this.#askToken(message);
    this.#say(`The daemon refuses to show this job: ${message}`);
  }

  #take(message) {
    this.#waiting.push(message);
    this.#ask();
  }

  #ask() {
    if (this.#isAsked) return;
    this.#isAsked = true;
    // A page that nobody sees has no frames, and still takes what comes.
    if (document.hidden) setTimeout(() => this.#put(), 250);
    else requestAnimationFrame(() => this.#put());
  }

  #put() {
    this.#isAsked = false;
    const end = performance.now() + FRAME_MS;
    let place = 0;
    for (; place < this.#waiting.length; place += 1) {
      if (place % 64 === 63 && performance.now() > end) break;
      this.#add(this.#waiting[place]);
    }
    this.#waiting.splice(0, place);
    this.#events.setToCome(this.#waiting.length < BEHIND_MIN ? 0 : this.#waiting.length);
    if (this.#waiting.length > 0) this.#ask();
    this.#lanes.draw();
    this.#tellHead();
  }

  #add(message) {
    if (message.type === "stream:gap") {
      this.#gaps += 1;
      this.#gapText = words.gap(message);
      this.#timeline.addGap(message);
      this.#tellNotice();
    } else if (message.stream_seq === undefined) {
      // A snapshot, which is no event: the list of jobs has the same figures.
      return;
    } else {
      this.#timeline.add(message);
    }
    this.#events.add(message);
  }

  #pick(event) {
    if (event === undefined) return;
    this.#events.reveal(event);
    this.#detail.show(event);
  }

  #say(trouble) {
    this.#trouble = trouble;
    this.#tellNotice();
  }

  #tellNotice() {
    const notice = document.getElementById("notice");
    const more = this.#gaps > 1 && this.#gapText !== "" ? ` (gap ${this.#gaps})` : "";
    const text = [this.#trouble, this.#gapText && this.#gapText + more].filter(Boolean).join(". ");
    notice.dataset.tone = this.#trouble === "" ? "gap" : "trouble";
    notice.hidden = text === "";
    document.getElementById("notice-close").hidden = this.#gapText === "";
    put("notice-text", text);
  }

  #stop() {
    return this.#timeline.stops.findLast(({ to }) => to === null);
  }

  #tellHead() {
    if (this.#id === null) return;
    const timeline = this.#timeline;
    const job = this.#jobs.byId.get(this.#id);
    // The events are as new as can be; what they do not tell, the list does.
    const status = timeline.status === "waiting" ? (job?.status ?? "waiting") : timeline.status;
    put("job-name", this.#id);
    put("job-status", status === "waiting" ? "waiting for its first event" : status);
    document.getElementById("job-status").dataset.status = status;
    put("job-flow", timeline.flow ?? job?.flow_id ?? "none");
    const began = Date.parse(job?.start_time ?? "") || timeline.begin;
    put("job-start", began === null ? "–" : words.moment(began));
    const until = timeline.end ?? (isGoing({ status }) ? Date.now() + this.#jobs.skewMs : timeline.latest);
    const seconds = job !== undefined && !isGoing(job) ? job.duration : (until - began) / 1000;
    put("job-duration", began === null ? "–" : words.duration(Math.max(0, seconds)));
    put("job-events", job === undefined ? "–" : words.count(job.total_events));
    put("job-calls", job === undefined ? "–" : `${words.count(job.total_slot_calls)} / ${words.count(job.total_event_emits)}`);
    put("job-rate", job === undefined ? "–" : words.rate(job.perSecond) || "0/s");
    this.#tellError();
    this.#tellStop();
  }

  #tellError() {
    const { error } = this.#timeline;
    const box = document.getElementById("failure");
    box.hidden = error === null;
    if (error === null) return;
    const where = typeof error.data?.routine_id === "string" ? ` in ${error.data.routine_id}` : "";
    put("failure-text", `Failed${where}: ${words.summary(error)}`);
  }

  #tellStop() {
    const stop = this.#stop();
    document.getElementById("stop").hidden = stop === undefined;
    if (stop === undefined) return;
    const { breakpoint } = stop.event;
    const place = [breakpoint?.routine_id, breakpoint?.slot_name ?? breakpoint?.event_name].filter(Boolean).join(" → ");
    const text = `Waits at a breakpoint: ${place}`;
    if (document.getElementById("stop-text").textContent === text && this.#shownStop === stop) return;
    this.#shownStop = stop;
    put("stop-text", text);
    fillVariables(document.getElementById("stop-variables"), variablesOf(stop.event));
  }
}

function put(id, text) {
  const element = document.getElementById(id);
  if (element.textContent !== text) element.textContent = text;
}
