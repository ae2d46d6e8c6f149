// One whole event: the variables of a breakpoint, texts of several lines, and the JSON as it came.

import { copy } from "./copy.js";
import { indented, longTextsOf } from "./json_text.js";
import * as words from "./words.js";

/** Limits of the panel; the JSON shows the rest. */
const VARIABLES_MAX = 500;
const VARIABLE_CHARS_MAX = 2_000;
const TEXTS_MAX = 20;

export class Detail {
  #panel = document.getElementById("detail");
  #entry = null;
  #close;

  constructor(close) {
    this.#close = close;
    document.getElementById("detail-close").addEventListener("click", () => this.hide());
    document.getElementById("detail-copy").addEventListener("click", ({ target }) => copy(target, this.#entry.source));
  }

  get isOpen() {
    return !this.#panel.hidden;
  }

  show(entry) {
    this.#entry = entry;
    document.getElementById("detail-title").textContent = entry.kind;
    document.getElementById("detail-time").textContent = words.exactMoment(entry.at);
    fillVariables(document.getElementById("detail-variables"), variablesOf(entry), VARIABLES_MAX, VARIABLE_CHARS_MAX);
    this.#fillTexts(longTextsOf(entry.message, TEXTS_MAX));
    document.getElementById("detail-raw").textContent = indented(entry.source);
    this.#panel.hidden = false;
    document.getElementById("detail-body").scrollTop = 0;
  }

  #fillTexts(texts) {
    const parts = texts.flatMap(({ path, text }) => {
      const [title, body] = [document.createElement("h4"), document.createElement("pre")];
      title.textContent = path;
      body.textContent = text;
      return [title, body];
    });
    const box = document.getElementById("detail-texts");
    box.hidden = parts.length === 0;
    box.replaceChildren(...parts);
  }

  hide() {
    if (!this.isOpen) return;
    this.#panel.hidden = true;
    this.#close();
  }
}

/** The variables of a breakpoint. */
export function variablesOf(entry) {
  const variables = entry.type === "breakpoint_hit" ? words.member(entry.exact, "context", "variables") : undefined;
  return typeof variables === "object" && variables !== null ? Object.entries(variables) : [];
}

/** Shows the first `max` of them, and how many more there are. */
export function fillVariables(list, variables, max, charsMax) {
  list.hidden = variables.length === 0;
  const items = variables.slice(0, max).flatMap(([name, value]) => item(words.value(name), words.value(value, charsMax)));
  if (variables.length > max) items.push(...item("…", `and ${words.count(variables.length - max)} more`));
  list.replaceChildren(...items);
}

function item(name, value) {
  const [term, description] = [document.createElement("dt"), document.createElement("dd")];
  term.textContent = name;
  description.textContent = value;
  return [term, description];
}
