// The text of an event, as it came: read without losing a digit, laid out without changing a token.

/** A number that a double would print in other words, such as 9007199254740993 or 1.0. */
export class ExactNumber {
  constructor(text) {
    this.text = text;
  }
}

/** What JSON text says, with an `ExactNumber` for each number whose text would not come back. Where the browser does not
 *  give the text of a number away, it is a number as ever. */
export function readExact(text) {
  return JSON.parse(text, (name, value, context) => {
    if (typeof value !== "number" || context?.source === undefined || String(value) === context.source) return value;
    return new ExactNumber(context.source);
  });
}

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** JSON text over several lines, each token as it stands. */
export function indented(text) {
  const parts = [];
  let depth = 0;
  let before = "";
  const breakLine = () => parts.push(`\n${"  ".repeat(depth)}`);
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

/** Every string in a value, names too, in the order of the text. */
export function stringsOf(value, found = []) {
  if (typeof value === "string") found.push(value);
  else if (Array.isArray(value)) for (const item of value) stringsOf(item, found);
  else if (typeof value === "object" && value !== null) {
    for (const [name, item] of Object.entries(value)) {
      found.push(name);
      stringsOf(item, found);
    }
  }
  return found;
}

/** Texts of several lines in a value: `{ path, text }` each, up to `max` of them. */
export function longTextsOf(value, max, path = "", found = []) {
  if (found.length >= max) return found;
  if (typeof value === "string") {
    if (/[\n\r]./.test(value)) found.push({ path, text: value });
  } else if (typeof value === "object" && value !== null) {
    for (const [name, item] of Object.entries(value)) longTextsOf(item, max, path === "" ? name : `${path}.${name}`, found);
  }
  return found;
}
