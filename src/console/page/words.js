// Times, numbers and events in words. Events come from strangers: no member is assumed to have the expected type.

import { faultOf, headline } from "./fault.js";
import { ExactNumber } from "./json_text.js";

const COUNT = new Intl.NumberFormat("en-US");
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const FULL_DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
/** How much of an event's value is shown in a line. */
const VALUE_CHARS_MAX = 120;
/** How much is shown of the text of a failure. */
const FAULT_CHARS_MAX = 300;

export function count(number) {
  return COUNT.format(number);
}

const padded = (number, digits = 2) => String(number).padStart(digits, "0");

/** The reader's local time of day, to the second. */
export function clock(millis) {
  if (!isMoment(millis)) return "";
  const date = new Date(millis);
  return `${padded(date.getHours())}:${padded(date.getMinutes())}:${padded(date.getSeconds())}`;
}

/** The same to the millisecond. */
export function exactClock(millis) {
  return isMoment(millis) ? `${clock(millis)}.${padded(new Date(millis).getMilliseconds(), 3)}` : "";
}

/** The time of day, with the date if it is not today. */
export function moment(millis, now = Date.now()) {
  return isMoment(millis) ? `${day(millis, now)}${clock(millis)}` : "";
}

export function date(millis) {
  return isMoment(millis) ? DAY.format(millis) : "";
}

/** The same to the millisecond. */
export function exactMoment(millis, now = Date.now()) {
  return isMoment(millis) ? `${day(millis, now)}${exactClock(millis)}` : "";
}

/** Null is not a time either. */
function isMoment(millis) {
  return typeof millis === "number" && Math.abs(millis) <= 8.64e15;
}

function day(millis, now) {
  const [date, today] = [new Date(millis), new Date(now)];
  if (date.toDateString() === today.toDateString()) return "";
  return `${(date.getFullYear() === today.getFullYear() ? DAY : FULL_DAY).format(millis)} `;
}

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "";
  // Durations measured by engines may be slightly below zero.
  const whole = Math.max(0, seconds);
  if (whole < 0.9995) return `${Math.round(whole * 1000)} ms`;
  if (whole < 59.95) return `${whole.toFixed(1)} s`;
  const rounded = Math.round(whole);
  const [days, hours, minutes] = [Math.floor(rounded / 86_400), Math.floor(rounded / 3600) % 24, Math.floor(rounded / 60) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return `${minutes} min ${rounded % 60} s`;
}

export function rate(perSecond) {
  if (perSecond >= 9.95) return `${count(Math.round(perSecond))}/s`;
  return perSecond >= 0.05 ? `${perSecond.toFixed(1)}/s` : "";
}

export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  while (number >= 1024 && place < units.length - 1) {
    number /= 1024;
    place += 1;
  }
  return `${place === 0 || number >= 100 ? Math.round(number) : number.toFixed(1)} ${units[place]}`;
}

/** A value of an event in one line; a traceback is shown by its exception. */
export function value(any, max = VALUE_CHARS_MAX) {
  if (any === undefined) return "";
  if (typeof any !== "string") return cut(printed(any, max + 1), max);
  const line = /[\n\r]/.test(any) ? headline(any) : any;
  return cut(line.slice(0, 4 * max).replace(/\s+/g, " "), max);
}

/** Cuts between two characters, never inside one. */
function cut(text, max) {
  if (text.length <= max) return text;
  const isInside = /[\ud800-\udbff]/.test(text[max - 1]);
  return `${text.slice(0, isInside ? max - 1 : max)}…`;
}

/** JSON, generated only as far as it is needed. */
function printed(any, max) {
  if (max <= 0) return "";
  if (any instanceof ExactNumber) return any.text;
  if (typeof any === "string") return JSON.stringify(any.slice(0, max));
  if (typeof any !== "object" || any === null) return String(JSON.stringify(any));
  const [open, close] = Array.isArray(any) ? "[]" : "{}";
  let text = open;
  for (const name in any) {
    if (!Object.hasOwn(any, name)) continue;
    if (text !== open) text += ",";
    if (open === "{") text += `${JSON.stringify(name)}:`;
    text += printed(any[name], max - text.length);
    if (text.length > max) return text;
  }
  return text + close;
}

/** A member of any value; undefined if the value has no such member of its own. */
export function member(any, ...path) {
  let found = any;
  for (const name of path) {
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, name)) return undefined;
    found = found[name];
  }
  return found;
}

/** A number in an event; NaN if it is not a number. */
export function figure(any, ...path) {
  const found = member(any, ...path);
  if (found instanceof ExactNumber) return Number(found.text);
  return typeof found === "number" ? found : NaN;
}

/** A text in an event; "" if it is not a text. */
function textOf(any, ...path) {
  const found = member(any, ...path);
  return typeof found === "string" ? found : "";
}

/** The kind of an event: for an `execution_event` its inner type, which says more. */
export function kind(event) {
  const inner = event.type === "execution_event" ? textOf(event, "event", "event_type") : "";
  return inner || event.type;
}

const ROUTINES = [["routine_id"], ["event", "routine_id"], ["breakpoint", "routine_id"], ["context", "routine_id"]];

/** The routine that an event is about, or "". */
export function routine(event) {
  for (const path of ROUTINES) {
    const name = textOf(event, ...path);
    if (name !== "") return name;
  }
  return "";
}

/** The slot or event where a breakpoint is, or that an `execution_event` passed; "" if that is not a text. */
export function passage(holder) {
  return textOf(holder, "slot_name") || textOf(holder, "event_name");
}

const carried = (any, ...path) => {
  const found = member(any, ...path);
  return found === undefined || found === null ? "" : value(found);
};
const lasting = (event) => Number.isFinite(figure(event, "data", "duration")) && `in ${duration(figure(event, "data", "duration"))}`;
const several = (number, word) => number > 0 && `${count(number)} ${word}`;

/** The parts of a summary, for each type of event. */
const SUMMARIES = new Map([
  ["job_started", (event) => [textOf(event, "data", "entry_routine") && `starts with ${value(textOf(event, "data", "entry_routine"))}`, carried(event, "data", "params")]],
  ["job_completed", (event) => [lasting(event), several(figure(event, "data", "total_events"), "events")]],
  ["job_failed", (event) => [fault(event)]],
  ["routine_failed", (event) => [fault(event)]],
  ["error", (event) => [fault(event)]],
  ["job_paused", (event) => [carried(event, "data", "reason")]],
  ["job_cancelled", (event) => [carried(event, "data", "reason")]],
  ["routine_started", (event) => [carried(event, "data", "slot_name"), carried(event, "data", "event_data")]],
  ["routine_completed", (event) => [lasting(event), several(figure(event, "data", "events_emitted"), "emitted")]],
  ["breakpoint_hit", (event) => [passage(member(event, "breakpoint")), carried(event, "context", "variables")]],
  ["breakpoint_resumed", (event) => [carried(event, "data", "step_mode")]],
  ["execution_event", (event) => executionParts(member(event, "event"))],
  ["metrics", (event) => [several(figure(event, "metrics", "total_events"), "events"), textOf(event, "metrics", "status")]],
]);

/** Members that other columns show, or that are of no use to a reader. */
const ENVELOPE = new Set(["stream_seq", "type", "job_id", "flow_id", "timestamp", "routine_id"]);

/** What matters about an event, in one line. */
export function summary(event) {
  const parts = SUMMARIES.get(event.type)?.(event).filter(Boolean);
  // An event without the usual members may have others.
  return (parts !== undefined && parts.length > 0 ? parts : others(event)).join(" · ");
}

function others(event) {
  const parts = [];
  let length = 0;
  for (const [name, any] of Object.entries(event)) {
    if (ENVELOPE.has(name) || any === null) continue;
    const text = value(any);
    if (text === "" || text === "{}") continue;
    parts.push(name === "data" ? text : `${value(name)}: ${text}`);
    length += text.length;
    if (length > 2 * VALUE_CHARS_MAX) break;
  }
  return parts;
}

/** What went wrong, for an event that reports a failure; "" if it does not say. */
export function fault(event) {
  const { data, error } = { data: member(event, "data"), error: member(event, "error") };
  const found = faultOf(data) || faultOf(error) || carried(event, "data", "error") || carried(event, "error");
  return value(found, FAULT_CHARS_MAX);
}

function executionParts(inner) {
  const data = member(inner, "data");
  const isError = member(inner, "event_type") === "error";
  const [found] = [["data"], ["arguments"], ["error"]].map((path) => carried(data, ...path)).filter(Boolean);
  return [passage(data), isError ? value(faultOf(data) || found, FAULT_CHARS_MAX) : found];
}

/** A `stream:gap` in words. */
export function gap({ missed, reason }) {
  const isOne = missed === 1;
  const what = missed === null || missed === undefined ? "Some events" : `${count(missed)} ${isOne ? "event" : "events"}`;
  const are = isOne ? "is" : "are";
  switch (reason) {
    case "overrun":
      return `${what} ${are} left out: this page could not keep up`;
    case "expired":
      return `${what} ${are} missing: the daemon no longer has ${isOne ? "it" : "them"}`;
    case "restart":
      return `${what} may be missing: the daemon was restarted`;
    default:
      return `${what} ${are} missing (${value(reason)})`;
  }
}
