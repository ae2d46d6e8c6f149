// A list of any length, with only the visible rows on the page. Arrow keys move the active row; the list itself has
// the focus.

const OVERSCAN = 6;
let lists = 0;

export class Rows {
  activeKey = null;
  #element;
  #spacer = document.createElement("div");
  #rows = new Map();
  #spare = [];
  #count = 0;
  #height = 0;
  /** The scroll position at the last drawing. */
  #leftAt = 0;
  #source;
  #prefix = `list${(lists += 1)}-`;
  #isAsked = false;

  /** `source` gives the number of rows (`count`), makes a row (`make`), fills it for an index (`fill`) and names it
   *  (`key`). It finds a row again (`find`, -1 if it is gone) and handles a choice (`choose`). It may report how many
   *  rows were dropped from the front since the last call (`takeShift`) and whether the end stays visible
   *  (`isFollowing`). It may handle a key before the list does (`handleKey`). */
  constructor(element, source) {
    this.#element = element;
    this.#source = source;
    this.#spacer.className = "spacer";
    this.#spacer.role = "presentation";
    element.append(this.#spacer);
    element.addEventListener("scroll", () => this.draw(), { passive: true });
    element.addEventListener("keydown", (event) => this.#handleKey(event));
    element.addEventListener("click", (event) => this.#handleClick(event));
    new ResizeObserver(() => this.draw()).observe(element);
  }

  /** The last row is visible. */
  get isAtEnd() {
    const { scrollTop, clientHeight } = this.#element;
    return scrollTop + clientHeight >= this.#count * this.#height - this.#height / 2;
  }

  /** Draws in the next frame, once, what there is by then. */
  draw() {
    if (this.#isAsked) return;
    this.#isAsked = true;
    requestAnimationFrame(() => {
      this.#isAsked = false;
      this.#drawNow();
    });
  }

  #readHeight() {
    return parseFloat(getComputedStyle(this.#element).getPropertyValue("--row"));
  }

  #drawNow() {
    this.#count = this.#source.count();
    this.#height = this.#readHeight();
    this.#keepPlace();
    const { scrollTop, clientHeight } = this.#element;
    const first = Math.max(0, Math.floor(scrollTop / this.#height) - OVERSCAN);
    const last = Math.min(this.#count, Math.ceil((scrollTop + clientHeight) / this.#height) + OVERSCAN);
    for (const [index, row] of this.#rows) {
      if (index >= first && index < last) continue;
      row.remove();
      this.#rows.delete(index);
      this.#spare.push(row);
    }
    for (let index = first; index < last; index += 1) this.#place(index);
    const active = this.activeKey === null ? -1 : this.#source.find(this.activeKey);
    if (this.#rows.has(active)) this.#element.setAttribute("aria-activedescendant", this.#rows.get(active).id);
    else this.#element.removeAttribute("aria-activedescendant");
  }

  /** What is visible stays in place, whatever is added after it or dropped before it. */
  #keepPlace() {
    // A reader who has scrolled up is not pulled back before the list notices.
    const hasMovedUp = this.#element.scrollTop < this.#leftAt - 1;
    const shift = (this.#source.takeShift?.() ?? 0) * this.#height;
    if (shift > 0) this.#element.scrollTop = Math.max(0, this.#element.scrollTop - shift);
    const height = `${this.#count * this.#height}px`;
    if (this.#spacer.style.height !== height) this.#spacer.style.height = height;
    if (this.#source.isFollowing?.() && !hasMovedUp) this.#element.scrollTop = this.#count * this.#height;
    this.#leftAt = this.#element.scrollTop;
  }

  #place(index) {
    let row = this.#rows.get(index);
    if (row === undefined) {
      row = this.#spare.pop() ?? this.#source.make();
      row.id = `${this.#prefix}${index}`;
      row.style.transform = `translateY(${index * this.#height}px)`;
      this.#rows.set(index, row);
      this.#spacer.append(row);
    }
    row.dataset.index = index;
    row.classList.toggle("active", this.#source.key(index) === this.activeKey);
    row.setAttribute("aria-setsize", this.#count);
    row.setAttribute("aria-posinset", index + 1);
    try {
      this.#source.fill(row, index);
    } catch (error) {
      // A row that fails does not affect the rows below.
      row.title = `This cannot be shown: ${error?.message}`;
    }
  }

  /** Makes a row the active one and scrolls to it. */
  activate(index) {
    this.#count = this.#source.count();
    this.#height ||= this.#readHeight();
    if (this.#count === 0) return;
    const place = Math.min(Math.max(index, 0), this.#count - 1);
    this.activeKey = this.#source.key(place);
    const { scrollTop, clientHeight } = this.#element;
    const top = place * this.#height;
    if (top < scrollTop) this.#element.scrollTop = top;
    else if (top + this.#height > scrollTop + clientHeight) this.#element.scrollTop = top + this.#height - clientHeight;
    this.draw();
  }

  #handleKey(event) {
    if (event.target !== this.#element || event.ctrlKey || event.metaKey || event.altKey) return;
    const active = this.activeKey === null ? -1 : this.#source.find(this.activeKey);
    if (this.#source.handleKey?.(event.key, active)) return event.preventDefault();
    const page = Math.max(1, Math.floor(this.#element.clientHeight / this.#height) - 1);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    const move = moves[event.key];
    if (move !== undefined) this.activate(active < 0 && Number.isFinite(move) ? this.#firstInSight() : active + move);
    else if ((event.key === "Enter" || event.key === " ") && active >= 0) this.#source.choose(active);
    else return;
    event.preventDefault();
  }

  #firstInSight() {
    return Math.ceil(this.#element.scrollTop / this.#height);
  }

  #handleClick(event) {
    const row = event.target.closest("[data-index]");
    if (row === null) return;
    this.activate(Number(row.dataset.index));
    this.#source.choose(Number(row.dataset.index));
  }
}
