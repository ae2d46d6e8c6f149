// One event, whole: its variables if it is a breakpoint, and the JSON as it came.

import * as words from "./words.js";

export class Detail {
  #panel = document.getElementById("detail");
  #message = null;
  #close;

  constructor(close) {
    this.#close = close;
    document.getElementById("detail-close").addEventListener("click", () => this.hide());
    document.getElementById("detail-copy").addEventListener("click", ({ target }) => copy(target, this.#text()));
    this.#panel.addEventListener("keydown", (event) => event.key === "Escape" && this.hide());
  }

  get isOpen() {
    return !this.#panel.hidden;
  }

  show(message) {
    this.#message = message;
    document.getElementById("detail-title").textContent = words.kind(message);
    document.getElementById("detail-time").textContent = words.exactClock(Date.parse(message.timestamp));
    const variables = variablesOf(message);
    fillVariables(document.getElementById("detail-variables"), variables);
    document.getElementById("detail-raw").textContent = this.#text();
    this.#panel.hidden = false;
  }

  hide() {
    if (!this.isOpen) return;
    this.#panel.hidden = true;
    this.#close();
  }

  #text() {
    return JSON.stringify(this.#message, null, 2);
  }
}

/** What a breakpoint was hit with. */
export function variablesOf(message) {
  const variables = message.type === "breakpoint_hit" ? message.context?.variables : undefined;
  return typeof variables === "object" && variables !== null ? Object.entries(variables) : [];
}

export function fillVariables(list, variables) {
  list.hidden = variables.length === 0;
  const items = variables.flatMap(([name, value]) => {
    const [term, description] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    description.textContent = words.value(value);
    return [term, description];
  });
  list.replaceChildren(...items);
}

/** Puts a text where the viewer can paste it, and says so on the button. */
export async function copy(button, text) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed to copy";
  }
  setTimeout(() => (button.textContent = label), 1_500);
}
