// What every browser has and the page needs, but jsdom lacks. The page must work with everything else as it is in
// jsdom.
import { MessageChannel } from "node:worker_threads";

/** jsdom has no layout: all boxes have one size here, with room for the rows of a small test. */
const WIDTH = 800;
const HEIGHT = 600;
/** What is hidden, listed by hand: jsdom does not know which rule of a style sheet overrides another. */
export const HIDDEN = '[hidden], dialog:not([open]), details:not([open]) > :not(summary), [data-view="jobs"] #view';

/** `closing` is aborted when the page is closed. */
export function complete(window, closing) {
  const { Element, Event, EventTarget, HTMLCanvasElement, HTMLDialogElement, HTMLElement } = window;

  // Between turns of the loop, not in frames.
  window.MessageChannel = class extends MessageChannel {
    constructor() {
      super();
      closing.addEventListener("abort", () => this.port1.close());
    }
  };

  // No box changes its size here, and the viewer has no preferences.
  window.ResizeObserver = class {
    observe() {}
  };
  window.matchMedia = () => Object.assign(new EventTarget(), { matches: false });

  // Without a picture, as when the viewer allows no canvas.
  HTMLCanvasElement.prototype.getContext = () => null;

  Object.defineProperties(Element.prototype, {
    clientWidth: { get: () => WIDTH },
    clientHeight: { get: () => HEIGHT },
    scrollTop: scrollTop(window),
    scrollIntoView: { value() {} },
  });
  Object.defineProperty(HTMLElement.prototype, "offsetParent", {
    get() {
      return this.closest(HIDDEN) === null ? this.parentElement : null;
    },
  });

  Object.assign(HTMLDialogElement.prototype, {
    returnValue: "",
    showModal() {
      this.open = true;
      this.querySelector("input").focus();
    },
    close(value = this.returnValue) {
      this.open = false;
      this.returnValue = value;
      window.setTimeout(() => this.dispatchEvent(new Event("close")));
    },
  });
}

/** No list is scrolled beyond its end, given by the height of its first child. */
function scrollTop(window) {
  const tops = new WeakMap();
  return {
    get() {
      return tops.get(this) ?? 0;
    },
    set(wanted) {
      const high = parseFloat(this.firstElementChild?.style.height) || 0;
      const top = Math.max(0, Math.min(wanted, high - HEIGHT));
      if (top === this.scrollTop) return;
      tops.set(this, top);
      window.requestAnimationFrame(() => this.dispatchEvent(new window.Event("scroll")));
    },
  };
}
