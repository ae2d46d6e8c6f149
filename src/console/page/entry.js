// An event or a gap as the page keeps it: its text, and what every row needs. The rest is read from the text when it
// is shown.

import { readTimestamp } from "./luxcast.js";
import { readExact, stringsOf } from "./json_text.js";
import * as words from "./words.js";

export class Entry {
  /** `text` is the message as it came; without it the message itself is kept. `at` is its time in Unix
   *  milliseconds: the event's own, else its arrival, else null. */
  constructor(message, { text = null, arrival = null } = {}) {
    this.text = text;
    this.isGap = message.type === "stream:gap";
    this.type = message.type;
    this.kind = words.kind(message);
    this.routine = words.routine(message);
    const said = readTimestamp(message.timestamp);
    this.at = said ?? arrival;
    /** `at` is the event's own time. */
    this.isSaid = said !== null;
    this.seq = message.stream_seq ?? null;
    if (text === null) this.kept = message;
  }

  get message() {
    return this.kept ?? JSON.parse(this.text);
  }

  /** The message with numbers exactly as in the text. */
  get exact() {
    if (this.text === null) return this.kept;
    try {
      return readExact(this.text);
    } catch {
      // Too deeply nested for that.
      return this.message;
    }
  }

  /** The message as it came. */
  get source() {
    return this.text ?? JSON.stringify(this.kept);
  }

  /** Parses the message once, for callers that need it again and again. */
  keep() {
    this.kept ??= this.message;
    return this.kept;
  }

  /** The text of its row. */
  get line() {
    return this.isGap ? words.gap(this.message) : words.summary(this.exact);
  }

  /** Everything about it that a reader sees, except the text itself, as `folded` makes it. */
  seen() {
    const message = this.message;
    const line = this.isGap ? words.gap(message) : words.summary(message);
    const row = [words.exactClock(this.at), this.isGap ? "gap" : this.kind, this.routine, line];
    return folded([...row, ...stringsOf(message)].join("\n"));
  }
}

/** For a search, letters of either case are equal, and so is whitespace of any kind. */
export function folded(text) {
  const lower = text.toLowerCase().replace(/\s+/g, " ");
  return /[^\0-\x7f]/.test(lower) ? lower.normalize("NFC") : lower;
}
