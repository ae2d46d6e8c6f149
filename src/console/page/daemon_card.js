// The daemon's own figures, refreshed while they are shown.

import { readTimestamp } from "./luxcast.js";
import { ask } from "./session.js";
import * as words from "./words.js";

const PAUSE_MS = 2_000;

export class DaemonCard {
  #card = document.getElementById("daemon");
  #button = document.getElementById("daemon-button");
  #before = null;
  #timer = null;

  constructor() {
    this.#button.addEventListener("click", () => this.#turn(this.#card.hidden));
    document.getElementById("daemon-close").addEventListener("click", () => this.#turn(false));
  }

  /** Returns whether it was open. `isFocused`: the focus returns to the button that opens it. */
  close({ isFocused = true } = {}) {
    if (this.#card.hidden) return false;
    this.#turn(false, isFocused);
    return true;
  }

  /** The card, or the button that opens and closes it. */
  contains(element) {
    return this.#card.contains(element) || this.#button.contains(element);
  }

  #turn(isOpen, isFocused = true) {
    this.#card.hidden = !isOpen;
    this.#button.setAttribute("aria-expanded", isOpen);
    clearTimeout(this.#timer);
    this.#before = null;
    if (isOpen) this.#refresh();
    else if (isFocused) this.#button.focus();
  }

  async #refresh() {
    const note = document.getElementById("daemon-note");
    try {
      const figures = await ask("./daemon");
      note.textContent = "";
      this.#draw(figures);
      this.#before = figures;
    } catch (error) {
      note.textContent = error.isAboutToken
        ? "The daemon shows its figures only to tokens with the scope admin."
        : `No figures: ${error.message}`;
    }
    clearTimeout(this.#timer);
    if (!this.#card.hidden) this.#timer = setTimeout(() => this.#refresh(), PAUSE_MS);
  }

  #draw(now) {
    const sum = (counts) => Object.values(counts).reduce((one, other) => one + other, 0);
    const watchers = Object.entries(now.watchers).filter(([, number]) => number > 0);
    const figures = {
      version: now.version,
      uptime: words.duration(now.uptime_seconds),
      watchers: `${words.count(sum(now.watchers))}${watchers.length > 0 ? ` (${watchers.map(([name, number]) => `${words.count(number)} ${name.replaceAll("_", " ")}`).join(", ")})` : ""}`,
      lagging: words.count(now.lagging),
      publishers: words.count(now.publishers),
      taken: `${this.#rate(now, "events_total")}, ${words.count(now.events_total)} so far`,
      delivered: `${this.#rate(now, "deliveries_total")}, ${words.count(now.deliveries_total)} so far`,
      history: `${words.bytes(now.history.bytes)} of ${words.bytes(now.history.bytes_max)}, ${words.count(now.history.events)} events`,
      gaps: words.count(sum(now.gaps_total)),
      refusals: `${words.count(sum(now.refusals_total))} requests, ${words.count(now.refused_lines_total)} lines`,
    };
    for (const [name, text] of Object.entries(figures)) document.querySelector(`[data-figure="${name}"]`).textContent = text;
    this.#drawSlowest(now.slowest);
  }

  #rate(now, name) {
    const seconds = this.#before === null ? 0 : (readTimestamp(now.timestamp) - readTimestamp(this.#before.timestamp)) / 1000;
    // The daemon computes its figures at most once a second, and may have been restarted.
    const number = seconds > 0 ? (now[name] - this.#before[name]) / seconds : -1;
    return number < 0 ? "–" : words.rate(number) || "0/s";
  }

  #drawSlowest(watchers) {
    const slowest = watchers.filter(({ lag_events: lag }) => lag > 0);
    const table = document.getElementById("slowest");
    table.hidden = slowest.length === 0;
    const rows = slowest.map((watcher) => {
      const row = document.createElement("tr");
      const behind = watcher.lag_bytes === null ? "–" : words.bytes(watcher.lag_bytes);
      for (const text of [watcher.address, [watcher.topics].flat().join(", "), words.count(watcher.lag_events), behind]) {
        row.insertCell().textContent = text;
      }
      return row;
    });
    table.tBodies[0].replaceChildren(...rows);
  }
}
