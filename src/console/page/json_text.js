// The text of an event, as it came: read without losing a digit, laid out without changing a token.

/** A number that a double would print in other words, such as 9007199254740993 or 1.0. */
export class ExactNumber {
  constructor(text) {
    this.text = text;
  }
}

/** Only where this stands, a number may have other words than JavaScript's: more digits than a double is sure of, a 0 at
 *  the end of a fraction, an exponent, -0, or many zeros in front. Strings may have it too, which costs a little time. */
const UNUSUAL = /\d[\d.]{15}|\.\d*0[\s,\]}]|\d[eE][-+]?\d+[\s,\]}]|-0[\s,\]}]|0\.0{5}/;
/** An event's text begins with its number, which is as usual. */
const NUMBER = /^\{"stream_seq":\d+/;

/** What JSON text says, with an `ExactNumber` for each number whose text would not come back. Where the browser does not
 *  give the text of a number away, it is a number as ever. */
export function readExact(text) {
  if (!UNUSUAL.test(text.replace(NUMBER, ""))) return JSON.parse(text);
  return JSON.parse(text, (name, value, context) => {
    if (typeof value !== "number" || context?.source === undefined || String(value) === context.source) return value;
    return new ExactNumber(context.source);
  });
}

/** Deeper levels are not set further in. */
const INDENTS_MAX = 40;
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** JSON text over several lines, each token as it stands. */
export function indented(text) {
  const parts = [];
  let depth = 0;
  let before = "";
  const breakLine = () => parts.push(`\n${"  ".repeat(Math.min(depth, INDENTS_MAX))}`);
  for (const [token] of text.matchAll(TOKEN)) {
    if (token === "}" || token === "]") {
      depth -= 1;
      if (before !== "{" && before !== "[") breakLine();
    } else if (before === "{" || before === "[" || before === ",") {
      breakLine();
    }
    parts.push(token === ":" ? ": " : token);
    if (token === "{" || token === "[") depth += 1;
    before = token;
  }
  return parts.join("");
}

/** Levels that are looked through; a daemon lets 64 through unless it is told otherwise. */
const DEPTH_MAX = 500;

/** Every string in a value, names too, in the order of the text. */
export function stringsOf(value, found = [], depth = 0) {
  if (typeof value === "string") found.push(value);
  if (typeof value !== "object" || value === null || depth > DEPTH_MAX) return found;
  const isList = Array.isArray(value);
  for (const [name, item] of Object.entries(value)) {
    if (!isList) found.push(name);
    stringsOf(item, found, depth + 1);
  }
  return found;
}

/** Texts of several lines in a value: `{ path, text }` each, up to `max` of them. */
export function longTextsOf(value, max, path = "", found = [], depth = 0) {
  if (found.length >= max || depth > DEPTH_MAX) return found;
  if (typeof value === "string") {
    if (/[\n\r]./.test(value)) found.push({ path, text: value });
  } else if (typeof value === "object" && value !== null) {
    for (const [name, item] of Object.entries(value)) longTextsOf(item, max, path === "" ? name : `${path}.${name}`, found, depth + 1);
  }
  return found;
}
