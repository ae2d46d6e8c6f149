// The picture of a job: a lane for the job and for each routine, over time. Drawn on a canvas as large as its visible
// part; the names beside it serve keyboards and screen readers.

import { LaneNames } from "./lane_names.js";
import { TimeWindow } from "./time_window.js";
import * as words from "./words.js";

const ROW = 14;
const PADDING = 9;
const AXIS = 24;
/** A run shorter than this many pixels is drawn this wide, so that it is visible. */
const SEEN = 2;
const ZOOM = 1.4;
/** Smallest distance in pixels between two marks of the axis. */
const MARK_GAP = 90;
const DAY_MS = 864e5;
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 216e5, 432e5, 864e5];
const STATES = ["running", "completed", "failed", "cancelled", "paused", "stopped", "lost", "unsure"];
/** How near a pointer must be, in pixels. */
const NEAR = 3;
const CALM_MS = 500;
/** Not every browser can have a larger canvas. */
const PIXELS_MAX = 8_192;

export class Lanes {
  #canvas = document.getElementById("picture");
  #box = document.getElementById("lane-body");
  #attempts = document.getElementById("attempt");
  #names = new LaneNames((name) => this.#handleName(name));
  #tip = document.getElementById("tip");
  #context = this.#canvas.getContext("2d");
  #timeline = null;
  #skewMs = () => 0;
  #status;
  #time = null;
  #isAsked = false;
  #width = 0;
  /** The visible part of the lanes: its height, and its distance from the top. */
  #height = 0;
  #top = 0;
  /** Pixels of the canvas for one pixel of the page. */
  #ratio = 1;
  /** Where each lane is: `{ lane, top, bottom }`, the job first. Rebuilt when a lane or a row is added. */
  #places = [];
  /** The attempts for which the choice was built. */
  #attemptWords = "";
  #colors = null;
  #drag = null;
  #chosen = "";
  #choose;
  #pick;
  #calm = matchMedia("(prefers-reduced-motion: reduce)");

  /** `choose` is called with the name of a routine ("" for all), `pick` with an event. `status` is the job's, in
   *  a word. */
  constructor({ choose, pick, skewMs, status }) {
    this.#choose = choose;
    this.#pick = pick;
    this.#skewMs = skewMs;
    this.#status = status;
    const canvas = this.#canvas;
    const resizes = new ResizeObserver(() => this.draw());
    for (const element of [canvas.parentElement, this.#box]) resizes.observe(element);
    this.#box.addEventListener("scroll", () => this.draw(), { passive: true });
    canvas.addEventListener("wheel", (event) => this.#handleWheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.#handleDown(event));
    canvas.addEventListener("pointermove", (event) => this.#handleMove(event));
    canvas.addEventListener("pointerup", (event) => this.#handleUp(event));
    canvas.addEventListener("pointercancel", () => (this.#drag = null));
    canvas.addEventListener("pointerleave", () => (this.#tip.hidden = true));
    canvas.addEventListener("keydown", (event) => this.#handleKey(event));
    this.#attempts.addEventListener("change", ({ target }) => this.#showAttempt(target.value));
    for (const button of document.querySelectorAll("#lane-tools button")) {
      button.addEventListener("click", () => this.#act(button.dataset.act));
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolor());
    document.addEventListener("visibilitychange", () => this.draw());
  }

  show(timeline) {
    this.#timeline = timeline;
    this.#time = new TimeWindow(timeline, this.#skewMs);
    this.#chosen = "";
    this.#attemptWords = "";
    this.#places = [];
    this.#names.clear();
    this.#box.scrollTop = 0;
    this.draw();
  }

  /** The theme has changed. */
  recolor() {
    this.#colors = null;
    this.draw();
  }

  /** Draws in the next frame, once. */
  draw() {
    if (this.#isAsked) return;
    this.#isAsked = true;
    requestAnimationFrame(() => {
      this.#isAsked = false;
      if (this.#timeline !== null && !document.hidden && this.#canvas.offsetParent !== null) this.#drawNow();
    });
  }

  #showAttempt(value) {
    this.#time.show(value === "all" ? null : value === "" ? "" : Number(value));
    this.draw();
  }

  #drawNow() {
    this.#showAttempts();
    this.#layout();
    this.#resize();
    this.#nameLanes();
    document.getElementById("live").setAttribute("aria-pressed", this.#time.isAtEdge);
    // A browser that allows no canvas shows the names.
    if (this.#context !== null) this.#drawPicture();
  }

  #drawPicture() {
    const view = this.#time.view;
    const context = this.#context;
    context.setTransform(this.#ratio, 0, 0, this.#ratio, 0, 0);
    this.#colors ??= readColors();
    const height = this.#height - AXIS;
    context.clearRect(0, 0, this.#width, this.#height);
    if (!this.#time.isEmpty) this.#drawAxis(view);
    context.save();
    context.beginPath();
    context.rect(0, 0, this.#width, height);
    context.clip();
    this.#drawGaps(view, height);
    this.#drawAttempts(view, height);
    context.translate(0, -this.#top);
    for (const place of this.#inSight()) {
      if (place.lane === null) this.#drawJob(view, place);
      else this.#drawLane(view, place);
    }
    this.#drawStops(view);
    context.restore();
    if (this.#time.isRunning && view.edge <= view.to) this.#drawEdge(view, height);
    if (this.#time.isLive) this.#again();
  }

  /** The live edge moves by itself. */
  #again() {
    if (this.#calm.matches) setTimeout(() => this.draw(), CALM_MS);
    else this.draw();
  }

  /** The canvas is as large as its visible part, however many lanes there are. */
  #resize() {
    const canvas = this.#canvas;
    const whole = (this.#places.at(-1)?.bottom ?? 0) + AXIS;
    const box = canvas.parentElement;
    const wholeText = `${whole}px`;
    if (box.style.height !== wholeText) box.style.height = wholeText;
    this.#width = box.clientWidth;
    this.#height = Math.max(AXIS, Math.min(whole, this.#box.clientHeight || whole));
    this.#top = Math.max(0, Math.min(this.#box.scrollTop, whole - this.#height));
    this.#ratio = Math.min(devicePixelRatio, PIXELS_MAX / Math.max(this.#width, this.#height));
    const [wide, high] = [this.#width, this.#height].map((length) => Math.round(length * this.#ratio));
    if (canvas.width !== wide || canvas.height !== high) {
      canvas.width = wide;
      canvas.height = high;
      canvas.style.width = `${this.#width}px`;
      canvas.style.height = `${this.#height}px`;
    }
  }

  #layout() {
    const { lanes } = this.#timeline;
    const isSame = this.#places.length === lanes.size + 1 && this.#places.every(({ lane, rows }) => rows === (lane?.rows ?? 1));
    if (isSame) return;
    let top = 0;
    this.#places = [null, ...lanes.values()].map((lane) => {
      const bottom = top + laneHeight(lane);
      const place = { lane, top, bottom, rows: lane?.rows ?? 1 };
      top = bottom;
      return place;
    });
    this.#names.lay(this.#places.map(({ lane, top, bottom }) => ({ name: lane?.name ?? null, height: bottom - top })));
  }

  /** The first place that ends below `y`. */
  #placeAt(y) {
    let [low, high] = [0, this.#places.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#places[middle].bottom <= y) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #inSight() {
    const first = this.#placeAt(this.#top);
    return this.#places.slice(first, this.#placeAt(this.#top + this.#height) + 1);
  }

  /** Describes in words what the visible lanes show. */
  #nameLanes() {
    const first = this.#placeAt(this.#top);
    const last = Math.min(this.#placeAt(this.#top + this.#height) + 1, this.#places.length);
    const attempt = this.#timeline.attempts.length > 1 ? (this.#time.shown?.number ?? null) : null;
    for (let index = first; index < last; index += 1) {
      const { lane } = this.#places[index];
      const tally = lane?.tally(attempt);
      const text = lane === null ? this.#statusWords() : laneWords(tally);
      this.#names.update(index, { text, hasFailed: lane !== null && tally.failures > 0, isChosen: lane !== null && this.#chosen === lane.name });
    }
    put(document.getElementById("lanes-note"), this.#timeline.isCut ? `the first ${words.count(this.#timeline.lanes.size)}` : "");
  }

  #statusWords() {
    const status = this.#time.isNewest ? this.#status() : this.#time.shown.status;
    return status === "waiting" ? "" : status;
  }

  /** The choice of an attempt, if there are several. */
  #showAttempts() {
    const { attempts } = this.#timeline;
    const text = attempts.map(({ number, status }) => `${number} ${status}`).join();
    if (this.#attemptWords === text) return;
    this.#attemptWords = text;
    this.#attempts.hidden = attempts.length < 2;
    const last = attempts.at(-1).number;
    const options = attempts.slice(0, -1).map(({ number, status }) => [`Attempt ${number}: ${status === "running" ? "end unknown" : status}`, number]);
    const all = [[`Attempt ${last}, the newest`, ""], ...options.reverse(), ["All attempts", "all"]];
    this.#attempts.replaceChildren(...all.map(([text, value]) => new Option(text, value)));
    this.#attempts.value = this.#time.attempt === null ? "all" : String(this.#time.attempt);
  }

  #x(time, { from, to }) {
    return ((time - from) / (to - from)) * this.#width;
  }

  #drawAxis(view) {
    const context = this.#context;
    const { from, to } = view;
    const height = this.#height;
    const least = ((to - from) * MARK_GAP) / this.#width;
    const step = STEPS.find((step) => step >= least) ?? Math.ceil(least / DAY_MS) * DAY_MS;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "center";
    // In the reader's time zone, so that marks fall on whole hours.
    const offset = new Date(from).getTimezoneOffset() * 60_000;
    for (let time = Math.ceil((from - offset) / step) * step + offset; time < to; time += step) {
      const x = Math.round(this.#x(time, view)) + 0.5;
      context.fillStyle = this.#colors.line;
      context.fillRect(x, 0, 1, height - AXIS + 4);
      const half = 32;
      if (x < half || x > this.#width - half) continue;
      context.fillStyle = this.#colors.faint;
      const label = step < 1000 ? words.exactClock : step < DAY_MS ? words.clock : words.date;
      context.fillText(label(time), x, height - AXIS / 2 + 2);
    }
  }

  #drawGaps(view, height) {
    const context = this.#context;
    context.fillStyle = this.#colors.unsure;
    for (const { from, to } of this.#timeline.gaps) {
      const x = this.#x(from, view);
      const wide = Math.max(SEEN, this.#x(to ?? view.edge, view) - x);
      context.globalAlpha = 0.25;
      context.fillRect(x, 0, wide, height);
      context.globalAlpha = 1;
    }
  }

  /** Where one attempt ends and the next starts. */
  #drawAttempts(view, height) {
    const context = this.#context;
    context.fillStyle = this.#colors.faint;
    for (const { range } of this.#timeline.attempts.slice(1)) {
      if (range !== null) context.fillRect(Math.round(this.#x(range.from, view)) - 1, 0, 1, height);
    }
  }

  #drawJob(view, { top }) {
    for (const span of this.#timeline.states) {
      if (span.from > view.to || (span.to ?? view.edge) < view.from) continue;
      const isEnd = span.from === span.to && span.state !== "running" && span.state !== "paused";
      const x = this.#x(span.from, view);
      const end = Math.min(this.#x(span.to ?? view.edge, view), this.#width + SEEN);
      const begin = Math.max(x, -SEEN);
      if (isEnd) this.#bar(x - 2, top + PADDING - 3, 4, ROW + 4, span.state);
      else this.#bar(begin, top + PADDING, Math.max(SEEN, end - begin), ROW - 2, span.state);
    }
    if (!this.#timeline.isLost || !this.#time.isNewest) return;
    this.#bar(this.#x(view.edge, view) - 2, top + PADDING - 3, 4, ROW + 4, "lost");
  }

  #drawLane(view, { lane, top }) {
    const context = this.#context;
    if (this.#chosen === lane.name) {
      context.fillStyle = this.#colors.line;
      context.globalAlpha = 0.35;
      context.fillRect(0, top, this.#width, laneHeight(lane));
      context.globalAlpha = 1;
    }
    // Where many runs share a pixel, one bar shows the worst of them.
    const reached = Array.from({ length: lane.rows }, () => ({ x: -Infinity, state: "" }));
    for (let place = lane.firstIn(view.from); place < lane.spans.length; place += 1) {
      const span = lane.spans[place];
      if (span.from > view.to) break;
      const x = Math.max(-SEEN, this.#x(span.from, view));
      const end = Math.max(x + SEEN, Math.min(this.#x(span.to ?? view.edge, view), this.#width + SEEN));
      const before = reached[span.row];
      if (end <= before.x && (span.state !== "failed" || before.state === "failed")) continue;
      this.#bar(x, top + PADDING + span.row * ROW, end - x, ROW - 2, span.state);
      before.x = end;
      before.state = span.state;
    }
  }

  #bar(x, y, width, height, state) {
    const context = this.#context;
    context.fillStyle = this.#colors[state] ?? this.#colors.unsure;
    if (width < 6) return context.fillRect(x, y, width, height);
    context.beginPath();
    context.roundRect(x, y, width, height, 2);
    context.fill();
    // A failure is marked by more than its colour.
    if (state !== "failed" || width < 14) return;
    context.fillStyle = this.#colors.paper;
    context.textAlign = "left";
    context.font = "bold 11px system-ui, sans-serif";
    context.fillText("✕", Math.max(x, 0) + 3, y + height / 2 + 0.5);
  }

  /** Where and how long the job waited at breakpoints. */
  #drawStops(view) {
    const context = this.#context;
    context.fillStyle = this.#colors.stopped;
    const places = new Map(this.#inSight().map((place) => [place.lane?.name ?? "", place]));
    for (const stop of this.#timeline.stops) {
      const place = places.get(this.#timeline.lanes.has(stop.lane) ? stop.lane : "");
      if (place === undefined) continue;
      const [x, end] = [this.#x(stop.from, view), this.#x(stop.to ?? view.edge, view)];
      const middle = place.top + PADDING / 2 + 1;
      if (end < 0 || x > this.#width) continue;
      context.fillRect(x, middle - 1, Math.max(0, end - x), 2);
      context.beginPath();
      context.moveTo(x, middle - 4);
      context.lineTo(x + 4, middle);
      context.lineTo(x, middle + 4);
      context.lineTo(x - 4, middle);
      context.fill();
    }
  }

  #drawEdge(view, height) {
    this.#context.fillStyle = this.#colors.running;
    this.#context.fillRect(Math.round(this.#x(view.edge, view)), 0, 1, height);
  }

  #act(act) {
    const view = this.#time.view;
    const middle = (view.from + view.to) / 2;
    const acts = {
      in: () => this.#time.zoom(1 / ZOOM, middle),
      out: () => this.#time.zoom(ZOOM, middle),
      left: () => this.#time.pan(-view.millis / 5),
      right: () => this.#time.pan(view.millis / 5),
      whole: () => this.#time.showWhole(),
      live: () => this.#time.follow(),
    };
    acts[act]();
    this.draw();
  }

  #handleWheel(event) {
    const view = this.#time.view;
    const perPixel = (view.to - view.from) / this.#width;
    if (event.ctrlKey || event.metaKey) this.#time.zoom(Math.exp(event.deltaY * 0.005), view.from + event.offsetX * perPixel);
    else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.#time.pan((event.deltaX || event.deltaY) * perPixel);
    // Up and down scroll the page.
    else return;
    event.preventDefault();
    this.draw();
  }

  #handleDown(event) {
    if (event.button !== 0) return;
    this.#drag = { x: event.clientX, hasMoved: false };
    this.#canvas.setPointerCapture(event.pointerId);
  }

  #handleMove(event) {
    if (this.#drag === null) return this.#hover(event);
    const distance = event.clientX - this.#drag.x;
    if (!this.#drag.hasMoved && Math.abs(distance) < NEAR) return;
    const view = this.#time.view;
    this.#drag = { x: event.clientX, hasMoved: true };
    this.#tip.hidden = true;
    this.#time.pan((-distance * (view.to - view.from)) / this.#width);
    this.draw();
  }

  #handleUp(event) {
    const drag = this.#drag;
    this.#drag = null;
    if (drag === null || drag.hasMoved) return;
    const found = this.#at(event);
    if (found !== null) this.#pick(found.event);
  }

  #handleKey(event) {
    const acts = { ArrowLeft: "left", ArrowRight: "right", "+": "in", "=": "in", "-": "out", 0: "whole", Home: "whole", End: "live" };
    if (!Object.hasOwn(acts, event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#act(acts[event.key]);
  }

  #handleName(name) {
    this.#chosen = name === this.#chosen ? "" : name;
    this.#choose(this.#chosen);
    this.draw();
  }

  /** Finds what is under the pointer. */
  #at({ offsetX, offsetY: y }) {
    const offsetY = y + this.#top;
    const view = this.#time.view;
    const perPixel = (view.to - view.from) / this.#width;
    const time = view.from + offsetX * perPixel;
    const near = NEAR * perPixel;
    const isHere = ({ from, to }) => from - near <= time && (to ?? view.edge) + near >= time;
    const place = this.#places[this.#placeAt(offsetY)];
    if (place === undefined || y > this.#height - AXIS) return null;
    if (place.lane === null) return this.#timeline.states.findLast(isHere) ?? null;
    const stop = this.#timeline.stops.findLast((stop) => stop.lane === place.lane.name && isHere(stop));
    if (stop !== undefined && offsetY < place.top + PADDING) return stop;
    const row = Math.min(place.lane.rows - 1, Math.max(0, Math.floor((offsetY - place.top - PADDING) / ROW)));
    const { spans } = place.lane;
    for (let index = place.lane.firstIn(time - near); index < spans.length && spans[index].from <= time + near; index += 1) {
      if (spans[index].row === row && isHere(spans[index])) return spans[index];
    }
    return stop ?? null;
  }

  #hover(event) {
    const found = this.#at(event);
    this.#canvas.style.cursor = found === null ? "grab" : "pointer";
    this.#tip.hidden = found === null;
    if (found === null) return;
    const state = { unsure: "end unknown", stopped: "at a breakpoint" }[found.state] ?? found.state;
    const seconds = ((found.to ?? this.#time.edge) - found.from) / 1000;
    const about = found.event.line;
    this.#tip.textContent = `${state} · ${words.exactClock(found.from)} · ${words.duration(seconds)}${about ? `\n${about}` : ""}`;
    const box = this.#canvas.parentElement.getBoundingClientRect();
    const left = Math.min(event.clientX - box.left + 12, box.width - this.#tip.offsetWidth - 4);
    this.#tip.style.transform = `translate(${Math.max(4, left)}px, ${event.offsetY + 16}px)`;
  }
}

function laneHeight(lane) {
  return (lane?.rows ?? 1) * ROW + 2 * PADDING - 2;
}

function laneWords(lane) {
  const failed = lane.failures > 0 ? `, ${words.count(lane.failures)} failed` : "";
  const time = lane.millis > 0 ? ` · ${words.duration(lane.millis / 1000)}` : "";
  return `${words.count(lane.runs)} ${lane.runs === 1 ? "run" : "runs"}${failed}${time}`;
}

/** The colours of the style sheet, in a form that a canvas accepts. */
function readColors() {
  const probe = document.getElementById("probe");
  const read = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  return Object.fromEntries([...STATES, "line", "faint", "paper"].map((name) => [name, read(name)]));
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
