// The choice of the kinds of events to show; drawn only while it is open.

import { folded } from "./entry.js";
import * as words from "./words.js";

/** Kinds on the page at once; the others can be searched for. */
const SHOWN_MAX = 100;
const PAUSE_MS = 250;

export class Kinds {
  #box = document.getElementById("kinds-box");
  #list = document.getElementById("kinds-list");
  #search = document.getElementById("kinds-search");
  #note = document.getElementById("kinds-note");
  #labels = new Map();
  #counts = new Map();
  #hidden = new Set();
  #change;
  #timer = null;

  /** `change` is called with the set of hidden kinds. */
  constructor(change) {
    this.#change = change;
    this.#list.addEventListener("change", ({ target }) => this.#hide(target.name, !target.checked));
    this.#search.addEventListener("input", () => this.#draw());
    this.#box.addEventListener("toggle", () => {
      this.#draw();
      if (this.#box.open) document.getElementById("kinds").scrollIntoView({ block: "nearest" });
    });
    document.getElementById("kinds-all").addEventListener("click", () => this.#set(new Set()));
    document.getElementById("kinds-none").addEventListener("click", () => this.#set(new Set(this.#counts.keys())));
  }

  clear() {
    this.#hidden = new Set();
    this.#counts = new Map();
    this.#draw();
  }

  /** Takes the number of events of each kind; `counts` may change afterwards. */
  setCounts(counts) {
    this.#counts = counts;
    if (!this.#box.open || this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#draw();
    }, PAUSE_MS);
  }

  #hide(kind, isHidden) {
    const hidden = new Set(this.#hidden);
    if (isHidden) hidden.add(kind);
    else hidden.delete(kind);
    this.#set(hidden);
  }

  #set(hidden) {
    this.#hidden = hidden;
    this.#change(hidden);
    this.#draw();
  }

  #draw() {
    if (!this.#box.open) return;
    const wanted = folded(this.#search.value.trim());
    const all = [...new Set([...this.#counts.keys(), ...this.#hidden])];
    const found = wanted === "" ? all : all.filter((kind) => folded(kind).includes(wanted));
    const shown = found.slice(0, SHOWN_MAX);
    for (const [kind, label] of this.#labels) {
      if (shown.includes(kind)) continue;
      label.remove();
      this.#labels.delete(kind);
    }
    for (const kind of shown) this.#fill(this.#label(kind), kind);
    this.#search.hidden = all.length <= SHOWN_MAX / 10;
    this.#note.textContent = found.length > shown.length ? `${words.count(found.length - shown.length)} more: search for them` : "";
  }

  #fill(label, kind) {
    const [box, , number] = label.children;
    box.checked = !this.#hidden.has(kind);
    const text = words.count(this.#counts.get(kind) ?? 0);
    if (number.textContent !== text) number.textContent = text;
  }

  #label(kind) {
    if (this.#labels.has(kind)) return this.#labels.get(kind);
    const label = document.createElement("label");
    label.dataset.kind = kind;
    const box = Object.assign(document.createElement("input"), { type: "checkbox", name: kind });
    const [name, number] = [document.createElement("span"), document.createElement("small")];
    name.textContent = kind;
    label.append(box, name, number);
    this.#list.append(label);
    this.#labels.set(kind, label);
    return label;
  }
}
