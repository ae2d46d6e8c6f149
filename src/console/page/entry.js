// One event, or gap, as the page keeps it: its text, and what every row needs of it. The rest is read from the text when
// somebody looks.

import { readTimestamp } from "./luxcast.js";
import { readExact, stringsOf } from "./json_text.js";
import * as words from "./words.js";

export class Entry {
  /** `text` is the message as it came; without one the message itself is kept. `at` is when it was, in Unix
   *  milliseconds: what the event says, else its arrival, else null. */
  constructor(message, { text = null, arrival = null } = {}) {
    this.text = text;
    this.isGap = message.type === "stream:gap";
    this.type = message.type;
    this.kind = words.kind(message);
    this.routine = words.routine(message);
    const said = readTimestamp(message.timestamp);
    this.at = said ?? arrival;
    /** `at` is what the event says. */
    this.isSaid = said !== null;
    this.seq = message.stream_seq ?? null;
    if (text === null) this.kept = message;
  }

  get message() {
    return this.kept ?? JSON.parse(this.text);
  }

  /** With numbers that say what the text says. */
  get exact() {
    if (this.text === null) return this.kept;
    try {
      return readExact(this.text);
    } catch {
      // Too deep for that.
      return this.message;
    }
  }

  /** As it came. */
  get source() {
    return this.text ?? JSON.stringify(this.kept);
  }

  /** For whoever asks again and again. */
  keep() {
    this.kept ??= this.message;
    return this.kept;
  }

  /** What its row says. */
  get line() {
    return this.isGap ? words.gap(this.message) : words.summary(this.exact);
  }

  /** Everything that a reader sees of it, but for the text itself, as `folded` makes it. */
  seen() {
    const message = this.message;
    const line = this.isGap ? words.gap(message) : words.summary(message);
    const row = [words.exactClock(this.at), this.isGap ? "gap" : this.kind, this.routine, line];
    return folded([...row, ...stringsOf(message)].join("\n"));
  }
}

/** Letters of any case and blanks of any kind are alike to who searches. */
export function folded(text) {
  const lower = text.toLowerCase().replace(/\s+/g, " ");
  return /[^\0-\x7f]/.test(lower) ? lower.normalize("NFC") : lower;
}
