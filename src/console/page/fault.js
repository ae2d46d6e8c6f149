// What went wrong, in one line: the exception of a traceback, from any language.

/** `ValueError: no`, `java.io.IOException`, `TypeError [ERR_X]: no`. */
const EXCEPTION = /^(?:Uncaught )?(?:[\p{L}_$][\p{L}\p{N}_$]*\.)*[\p{L}_$][\p{L}\p{N}_$]*(?:Error|Exception|Warning|Interrupt|Exit|Failure|Fault|Timeout)(?: \[\w+\])?(?::|$)/u;
const PYTHON_HEADER = /Traceback \(most recent call last\):$/;
const GROUP_HEADER = /^\s*\+ Exception Group Traceback \(most recent call last\):$/;
const RUST_PANIC = /^thread '.*' (?:\(\d+\) )?panicked at .*:$/;

/** The line of a text that says what went wrong. */
export function headline(text) {
  const lines = text.split(/\r\n|[\n\r]/).map((line) => line.trimEnd());
  const full = lines.filter((line) => line !== "");
  if (full.length <= 1) return (full[0] ?? "").trim();
  return (groupException(lines) ?? pythonException(lines) ?? panic(full) ?? full.find((line) => EXCEPTION.test(line)) ?? full[0]).trim();
}

/** The line after the frames of the last traceback. Earlier ones are causes, or were being handled. */
function pythonException(lines) {
  const header = lines.findLastIndex((line) => PYTHON_HEADER.test(line));
  if (header < 0) return undefined;
  const margin = lines[header].search(/\S/);
  const isFrame = (line) => line === "" || line.search(/\S/) > margin;
  return lines.slice(header + 1).find((line) => !isFrame(line));
}

function groupException(lines) {
  const header = lines.findIndex((line) => GROUP_HEADER.test(line));
  if (header < 0) return undefined;
  const inner = lines.slice(header + 1).map((line) => line.replace(/^\s*[|+] ?/, ""));
  return inner.find((line) => /^[^\s-]/.test(line));
}

function panic(lines) {
  const header = lines.findIndex((line) => RUST_PANIC.test(line));
  return header < 0 ? undefined : lines[header + 1];
}

const TEXTS = ["error", "exception", "message", "reason", "traceback", "stack", "stacktrace", "stack_trace", "detail", "details"];
const NAMES = ["error_type", "type", "name", "class", "exception_type"];

/** The same for a value of an event: a text, or an object that has one under a usual name. "" if there is none. */
export function faultOf(carried) {
  if (typeof carried === "string") return headline(carried);
  if (typeof carried !== "object" || carried === null) return "";
  const own = (name) => (Object.hasOwn(carried, name) ? carried[name] : undefined);
  for (const name of TEXTS) {
    const found = faultOf(own(name));
    if (found !== "") return withName(found, NAMES.map(own).find((name) => typeof name === "string" && name !== ""));
  }
  return "";
}

function withName(text, name) {
  return name === undefined || text.includes(name) ? text : `${name}: ${text}`;
}
