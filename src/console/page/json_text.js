// The text of an event as it came: parsed without losing a digit, laid out without changing a token.

/** A number that a double would print differently, such as 9007199254740993 or 1.0. */
export class ExactNumber {
  constructor(text) {
    this.text = text;
  }
}

/** A number that JavaScript prints differently occurs only in a text that matches: too many digits for a double, a
 *  fraction that ends in 0, an exponent, -0, or many leading zeros. A string may match too, which costs a little time. */
const UNUSUAL = /\d[\d.]{15}|\.\d*0[\s,\]}]|\d[eE][-+]?\d+[\s,\]}]|-0[\s,\]}]|0\.0{5}/;
/** An event's text begins with its number, which is an ordinary one. */
const NUMBER = /^\{"stream_seq":\d+/;

/** Parses JSON, with an `ExactNumber` for each number whose text would change. If the browser does not provide
 *  the text of numbers, they are ordinary numbers. */
export function readExact(text) {
  if (!UNUSUAL.test(text.replace(NUMBER, ""))) return JSON.parse(text);
  return JSON.parse(text, (name, value, context) => {
    if (typeof value !== "number" || context?.source === undefined || String(value) === context.source) return value;
    return new ExactNumber(context.source);
  });
}

/** Deeper levels are not indented further. */
const INDENTS_MAX = 40;
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** JSON text over several lines, each token unchanged. */
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

/** Levels that are searched; by default a daemon accepts 64. */
const DEPTH_MAX = 500;

/** Every string in a value, names included, in the order of the text. */
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

/** Texts of several lines in a value: `{ path, text }` each, at most `max`. */
export function longTextsOf(value, max, path = "", found = [], depth = 0) {
  if (found.length >= max || depth > DEPTH_MAX) return found;
  if (typeof value === "string") {
    if (/[\n\r]./.test(value)) found.push({ path, text: value });
  } else if (typeof value === "object" && value !== null) {
    for (const [name, item] of Object.entries(value)) longTextsOf(item, max, path === "" ? name : `${path}.${name}`, found, depth + 1);
  }
  return found;
}
