// The daemon's page in jsdom, with as much of Playwright's page as tests of the DOM need. jsdom runs no module
// scripts: Node runs them in its window, with separate modules for each page.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import vm from "node:vm";

import { JSDOM, ResourceLoader, VirtualConsole } from "jsdom";

import { PATIENCE_MS } from "../../tools/javascript/test/harness/daemon.js";
import { HIDDEN, complete } from "./jsdom_lacks.js";

const POLL_MS = 10;

export class JsdomPage {
  /** Faults: what the page must not do. */
  faults = [];
  window = null;
  keyboard = new Keyboard(this);
  #address;
  #load;
  #context = null;
  #modules = new Map();
  #stop = new AbortController();

  /** `load` returns the text of a file of the page. */
  constructor(address, load) {
    this.#address = address;
    this.#load = async (url) => this.#check(url) && load(url);
  }

  async open() {
    assert.ok(vm.SourceTextModule, "Node needs --experimental-vm-modules, as npm test has it");
    const dom = new JSDOM(await this.#load(this.#address), {
      url: this.#address,
      resources: new Files(this.#load),
      pretendToBeVisual: true,
      runScripts: "outside-only",
      virtualConsole: this.#console(),
      beforeParse: (window) => this.#complete(window),
    });
    this.#context = dom.getInternalVMContext();
    const { document } = this.window;
    await this.until("the page's files", () => document.readyState === "complete");
    const main = await this.#module(document.querySelector("script[type=module]").src);
    await main.link((name, from) => this.#module(new URL(name, from.identifier).href));
    await main.evaluate();
  }

  #complete(window) {
    this.window = window;
    complete(window, this.#stop.signal);
    window.fetch = (path, init) => this.#fetch(new URL(path, window.document.baseURI), init);
    const check = (url) => this.#check(url);
    window.WebSocket = class extends window.WebSocket {
      constructor(url, ...rest) {
        check(url);
        super(url, ...rest);
      }
    };
  }

  /** In the page's own origin, whatever the scheme. */
  #check(url) {
    const isOwn = new URL(url).host === new URL(this.#address).host;
    if (!isOwn) this.faults.push(`asked ${url}`);
    return isOwn;
  }

  #console() {
    const console = new VirtualConsole();
    console.on("jsdomError", (error) => this.faults.push(error.detail?.stack ?? error.stack));
    console.on("error", (...words) => this.faults.push(words.join(" ")));
    return console;
  }

  #module(url) {
    if (!this.#modules.has(url)) this.#modules.set(url, this.#makeModule(url));
    return this.#modules.get(url);
  }

  async #makeModule(identifier) {
    return new vm.SourceTextModule(await this.#load(identifier), { identifier, context: this.#context });
  }

  /** Node's, which accepts no signal of jsdom. A closed page hears nothing any more. */
  async #fetch(url, { signal, ...init } = {}) {
    this.#check(url);
    const stop = new AbortController();
    signal?.addEventListener("abort", () => stop.abort(signal.reason));
    try {
      const answer = await fetch(url, { ...init, signal: AbortSignal.any([stop.signal, this.#stop.signal]) });
      const { status, headers } = answer;
      return new Response(await answer.arrayBuffer(), { status, headers });
    } finally {
      if (this.#stop.signal.aborted) await new Promise(() => {});
    }
  }

  close() {
    this.#stop.abort();
    this.window?.close();
  }

  async until(what, isSo) {
    const end = performance.now() + PATIENCE_MS;
    for (;;) {
      const found = isSo();
      if (found) return found;
      assert.ok(performance.now() < end, `waited in vain: ${what}`);
      await sleep(POLL_MS);
    }
  }

  /** Runs in the window, with nothing from the test except `parameter`. */
  async evaluate(run, parameter) {
    return structuredClone(await this.window.eval(`(${run})`)(parameter));
  }

  async waitForFunction(run, parameter) {
    const isSo = this.window.eval(`(${run})`);
    await this.until(String(run), () => isSo(parameter));
  }

  async waitForTimeout(millis) {
    await sleep(millis);
  }

  url() {
    return this.window.location.href;
  }

  locator(selector, { has } = {}) {
    return new Locator(this, [{ selector, has }]);
  }
}

/** The page's files that jsdom loads by itself. */
class Files extends ResourceLoader {
  #load;

  constructor(load) {
    super();
    this.#load = load;
  }

  fetch(url) {
    return Object.assign(this.#load(url).then(Buffer.from), { abort() {} });
  }
}

/** Elements as they are when used: CSS, with `:text-is("…")` at its end. Like Playwright's, it waits for what it
 *  acts on. */
class Locator {
  #page;
  #steps;
  #max;

  constructor(page, steps, max = Infinity) {
    this.#page = page;
    this.#steps = steps;
    this.#max = max;
  }

  locator(selector, { has } = {}) {
    return new Locator(this.#page, [...this.#steps, { selector, has }]);
  }

  first() {
    return new Locator(this.#page, this.#steps, 1);
  }

  all(root = this.#page.window.document) {
    return this.#steps.reduce((roots, step) => roots.flatMap((root) => select(root, step)), [root]).slice(0, this.#max);
  }

  /** The only element, once one `isWanted`. */
  async #one(isWanted = () => true) {
    const name = this.#steps.map(({ selector }) => selector).join(" ");
    const elements = await this.#page.until(name, () => {
      const elements = this.all();
      return elements.length > 0 && elements.every(isWanted) && elements;
    });
    assert.equal(elements.length, 1, `there are several: ${name}`);
    return elements[0];
  }

  async waitFor({ state = "visible" } = {}) {
    if (state === "visible") await this.#one(isVisible);
    else if (state === "attached") await this.#one();
    else if (state === "hidden") await this.#page.until("to be hidden", () => !this.all().some(isVisible));
    else await this.#page.until("to be gone", () => this.all().length === 0);
  }

  async click() {
    const element = await this.#one(isInReach);
    element.dispatchEvent(new this.#page.window.MouseEvent("pointerdown", { bubbles: true }));
    element.focus();
    element.click();
  }

  async focus() {
    (await this.#one()).focus();
  }

  async fill(text) {
    const field = await this.#one(isInReach);
    field.focus();
    put(field, text);
  }

  async check() {
    await this.#setChecked(true);
  }

  async uncheck() {
    await this.#setChecked(false);
  }

  async #setChecked(isChecked) {
    const box = await this.#one(isInReach);
    if (box.checked !== isChecked) box.click();
  }

  async selectOption(value) {
    const select = await this.#one(isInReach);
    select.value = value;
    assert.equal(select.value, value);
    select.dispatchEvent(new this.#page.window.Event("change", { bubbles: true }));
  }

  async textContent() {
    return (await this.#one()).textContent;
  }

  async allTextContents() {
    return this.all().map(({ textContent }) => textContent);
  }

  async evaluateAll(run) {
    return structuredClone(this.#page.window.eval(`(${run})`)(this.all()));
  }

  async count() {
    return this.all().length;
  }

  async isVisible() {
    return this.all().some(isVisible);
  }

  async isHidden() {
    return !(await this.isVisible());
  }
}

function select(root, { selector, has }) {
  const [, css, text] = /^(.*?)(?::text-is\("(.*)"\))?$/.exec(selector);
  const isWanted = (element) => (text === undefined || element.textContent.trim() === text) && (has === undefined || has.all(element).length > 0);
  return [...root.querySelectorAll(css)].filter(isWanted);
}

function isVisible(element) {
  return element.closest(HIDDEN) === null;
}

/** Nothing outside an open dialog can be used. */
function isInReach(element) {
  const dialog = element.ownerDocument.querySelector("dialog[open]");
  return isVisible(element) && (dialog?.contains(element) ?? true);
}

function put(field, text) {
  field.value = text;
  field.dispatchEvent(new field.ownerDocument.defaultView.Event("input", { bubbles: true }));
}

class Keyboard {
  #page;

  constructor(page) {
    this.#page = page;
  }

  async type(text) {
    for (const key of text) await this.press(key);
  }

  async press(key) {
    const { document, KeyboardEvent } = this.#page.window;
    const target = document.activeElement;
    const press = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true });
    if (target.dispatchEvent(press)) this.#act(document, target, key);
  }

  /** What a browser does with a key that the page does not handle. */
  #act(document, target, key) {
    if (key === "Escape") document.querySelector("dialog[open]")?.close();
    else if (key === "Enter" && target.form && target.matches("input")) target.form.requestSubmit();
    else if ((key === "Enter" || key === " ") && target.matches("button, summary")) target.click();
    else if (key.length === 1 && target.matches("input")) put(target, target.value + key);
  }
}
