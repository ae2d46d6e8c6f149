// The names of the lanes, a button each. One of them is in the tab order; arrow keys lead from it to the others.

export class LaneNames {
  #list = document.getElementById("lane-names");
  #choose;

  /** `choose` is called with the name of the pressed routine, "" for the job. */
  constructor(choose) {
    this.#choose = choose;
    this.#list.addEventListener("click", ({ target }) => this.#handlePress(target.closest("button")));
    this.#list.addEventListener("keydown", (event) => this.#handleKey(event));
  }

  clear() {
    this.#list.replaceChildren();
  }

  /** `{ name, height }` of each lane; the job's name is null. Never fewer than before. */
  lay(lanes) {
    for (const [index, { name, height }] of lanes.entries()) {
      const button = this.#list.children[index]?.firstChild ?? this.#add(name);
      if (button.style.height !== `${height}px`) button.style.height = `${height}px`;
    }
  }

  #add(name) {
    const [item, button, title] = ["li", "button", "b"].map((tag) => document.createElement(tag));
    button.type = "button";
    button.tabIndex = this.#list.firstChild === null ? 0 : -1;
    button.dataset.name = name ?? "";
    button.title = name ?? "";
    button.setAttribute("aria-pressed", "false");
    title.textContent = name ?? "Job";
    button.append(title, document.createElement("small"));
    item.append(button);
    this.#list.append(item);
    return button;
  }

  update(index, { text, hasFailed, isChosen }) {
    const button = this.#list.children[index].firstChild;
    if (button.lastChild.textContent !== text) button.lastChild.textContent = text;
    button.classList.toggle("has-failed", hasFailed);
    button.setAttribute("aria-pressed", isChosen);
  }

  #handlePress(button) {
    if (button === null) return;
    this.#focus(button);
    this.#choose(button.dataset.name);
  }

  #handleKey(event) {
    const item = event.target.closest("li");
    const { firstChild, lastChild } = this.#list;
    const moves = { ArrowDown: item?.nextElementSibling, ArrowUp: item?.previousElementSibling, Home: firstChild, End: lastChild };
    if (item === null || !Object.hasOwn(moves, event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#focus(moves[event.key]?.firstChild);
  }

  #focus(button) {
    if (!button) return;
    for (const other of this.#list.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    button.tabIndex = 0;
    button.focus();
  }
}
