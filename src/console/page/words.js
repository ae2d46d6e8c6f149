// Times, numbers and events in words.

const COUNT = new Intl.NumberFormat("en-US");
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
/** Of a value that an event carries, so much is shown in a line. */
const VALUE_CHARS_MAX = 120;

export function count(number) {
  return COUNT.format(number);
}

/** The reader's own time of day, to the second. */
export function clock(millis) {
  return Number.isFinite(millis) ? CLOCK.format(millis) : "";
}

/** To the millisecond. */
export function exactClock(millis) {
  if (!Number.isFinite(millis)) return "";
  return `${CLOCK.format(millis)}.${String(Math.floor(millis % 1000)).padStart(3, "0")}`;
}

/** The time of day, with the date where that is not today's. */
export function moment(millis, now = Date.now()) {
  if (!Number.isFinite(millis)) return "";
  const isToday = new Date(millis).toDateString() === new Date(now).toDateString();
  return isToday ? clock(millis) : `${DAY.format(millis)} ${clock(millis)}`;
}

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "";
  // Engines measure, and may come to a little less than nothing.
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

/** A value of an event, in one line. */
export function value(any) {
  const text = typeof any === "string" ? any : JSON.stringify(any);
  if (text === undefined) return "";
  return text.length > VALUE_CHARS_MAX ? `${text.slice(0, VALUE_CHARS_MAX)}…` : text;
}

/** What an event is called: the kind of an `execution_event` tells more than its type. */
export function kind(event) {
  const inner = event.type === "execution_event" ? event.event?.event_type : undefined;
  return typeof inner === "string" ? inner : event.type;
}

/** The routine that an event is about, or "". */
export function routine(event) {
  const name = event.routine_id ?? event.event?.routine_id ?? event.breakpoint?.routine_id ?? event.context?.routine_id;
  return typeof name === "string" ? name : "";
}

/** What matters of an event, in one line. None of its members can be relied on. */
export function summary(event) {
  const data = event.data ?? {};
  switch (event.type) {
    case "job_started":
      return joined([data.entry_routine && `begins with ${data.entry_routine}`, data.params && value(data.params)]);
    case "job_completed":
      return joined([Number.isFinite(data.duration) && `in ${duration(data.duration)}`, data.total_events && `${count(data.total_events)} events`]);
    case "job_failed":
    case "routine_failed":
      return value(data.error ?? "");
    case "job_paused":
    case "job_cancelled":
      return value(data.reason ?? "");
    case "routine_started":
      return joined([data.slot_name && `${data.slot_name}`, data.event_data !== undefined && value(data.event_data)]);
    case "routine_completed":
      return joined([Number.isFinite(data.duration) && `in ${duration(data.duration)}`, data.events_emitted > 0 && `${data.events_emitted} emitted`]);
    case "breakpoint_hit":
      return joined([event.breakpoint?.slot_name ?? event.breakpoint?.event_name, value(event.context?.variables ?? "")]);
    case "breakpoint_resumed":
      return joined([data.step_mode && `${data.step_mode}`]);
    case "execution_event":
      return executionSummary(event.event?.data ?? {});
    case "metrics":
      return joined([Number.isFinite(event.metrics?.total_events) && `${count(event.metrics.total_events)} events`]);
    default:
      return value(event.data ?? "");
  }
}

function executionSummary(data) {
  const carried = data.data ?? data.arguments ?? data.error;
  return joined([data.slot_name ?? data.event_name, carried !== undefined && value(carried)]);
}

function joined(parts) {
  return parts.filter(Boolean).join(" · ");
}

/** A `stream:gap` in plain words. */
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
      return `${what} may be missing: the daemon was started anew`;
    default:
      return `${what} ${are} missing (${reason})`;
  }
}
