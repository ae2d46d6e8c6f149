// The live page: the part after `#` in the address says what is open; the modules beside this one do the rest.

import { DaemonCard } from "./daemon_card.js";
import { JobList } from "./job_list.js";
import { JobView } from "./job_view.js";
import { Jobs } from "./jobs.js";
import { Refused, readToken, setToken, settings, token } from "./session.js";

const THEME = "luxcast.theme";
const THEMES = ["auto", "light", "dark"];

const jobs = new Jobs();
const list = new JobList(jobs, (id) => (location.hash = `job=${encodeURIComponent(id)}`));
const view = new JobView(jobs, askToken);
const card = new DaemonCard();
const kindsBox = document.getElementById("kinds-box");

const dialog = document.getElementById("token-dialog");
const status = document.getElementById("status");

/** A viewer who closed the question is not asked again until something else is opened. */
let isDeclined = false;

/** `words` say what is wrong with the token. Without one, the title of the dialog says all. */
function askToken(words) {
  if (isDeclined) return;
  jobs.halt();
  showTokenWords(token() === null ? "" : `${words[0].toUpperCase()}${words.slice(1)}.`);
}

function showTokenWords(words) {
  const element = document.getElementById("token-words");
  element.textContent = words;
  element.hidden = words === "";
  if (!dialog.open) dialog.showModal();
}

dialog.addEventListener("close", () => {
  const field = document.getElementById("token");
  isDeclined = dialog.returnValue === "";
  if (dialog.returnValue === "use") setToken(readToken(field.value).token);
  field.value = "";
  dialog.returnValue = "";
  judge();
  showForget();
  jobs.resume();
  if (!isDeclined && view.id !== null) view.open(view.id);
});
document.getElementById("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (judge()) dialog.close("use");
  else document.getElementById("token").focus();
});
document.getElementById("token").addEventListener("input", judge);

/** Says what is wrong with the token while it can be corrected. Returns true if nothing is. */
function judge() {
  const { value } = document.getElementById("token");
  const { problem } = value === "" ? {} : readToken(value);
  document.getElementById("token-problem").textContent = problem ?? "";
  document.getElementById("token").setAttribute("aria-invalid", problem !== undefined);
  return problem === undefined;
}
document.getElementById("token-button").addEventListener("click", () => {
  isDeclined = false;
  jobs.halt();
  showTokenWords("The page shows what the token allows.");
});
document.getElementById("token-forget").addEventListener("click", () => {
  setToken(null);
  dialog.close("forget");
});

function showForget() {
  document.getElementById("token-forget").hidden = token() === null;
}

jobs.addEventListener("trouble", ({ error }) => {
  if (error?.isAboutToken) askToken(error.message);
  status.dataset.tone = error === null ? "good" : "trouble";
  status.textContent = error === null ? "live" : error instanceof Refused ? error.message : "the daemon does not answer";
});
jobs.addEventListener("change", () => {
  status.dataset.tone = "good";
  if (status.textContent !== "live") status.textContent = "live";
});

function follow(isFirst) {
  const wanted = /^#job=(.+)$/.exec(location.hash)?.[1];
  const id = wanted === undefined ? null : decoded(wanted);
  document.body.dataset.view = id === null ? "jobs" : "job";
  document.title = id === null ? "luxcast" : `${id} – luxcast`;
  isDeclined = false;
  list.select(id);
  view.open(id);
  // At first the focus is where the browser put it.
  if (isFirst) return;
  if (id === null) list.focus();
  else document.getElementById("job-name").focus({ preventScroll: true });
}

/** An address typed by hand may have an invalid escape. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  settings.set(THEME, theme);
  const button = document.getElementById("theme");
  button.textContent = { auto: "◐", light: "☀", dark: "☾" }[theme];
  button.setAttribute("aria-label", `Theme: ${theme}`);
  view.recolor();
}

document.getElementById("theme").addEventListener("click", () => {
  const next = THEMES.indexOf(document.documentElement.dataset.theme) + 1;
  setTheme(THEMES[next % THEMES.length]);
});

/** What Escape closes, one at a time, the topmost first. Each returns true if it was open. */
const layers = [
  () => {
    const wasOpen = kindsBox.open;
    kindsBox.open = false;
    if (wasOpen && kindsBox.contains(document.activeElement)) kindsBox.querySelector("summary").focus();
    return wasOpen;
  },
  () => card.close(),
  () => view.closeDetail(),
];

document.addEventListener("keydown", (event) => {
  const isSearch = event.target.type === "search";
  // In a search field with text, Escape clears the text.
  if (event.key !== "Escape" || event.defaultPrevented || dialog.open || (isSearch && event.target.value !== "")) return;
  if (layers.some((close) => close())) event.preventDefault();
  // An empty one is left for what it searches.
  else if (isSearch) document.getElementById(event.target.id === "find" ? "events" : "jobs").focus({ preventScroll: true });
});

/** A press elsewhere closes what lies over the page. It hits nothing itself, so the focus stays. */
document.addEventListener("pointerdown", ({ target }) => {
  // Kind, text and routine can be chosen together.
  if (target.closest("#kinds-box, #find, #lane-names") === null) kindsBox.open = false;
  if (!card.contains(target)) card.close({ isFocused: false });
});
dialog.addEventListener("pointerdown", (event) => {
  const { left, right, top, bottom } = dialog.getBoundingClientRect();
  const isInside = event.clientX >= left && event.clientX <= right && event.clientY >= top && event.clientY <= bottom;
  if (event.target === dialog && !isInside) dialog.close();
});

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
  const acts = new Map(Object.entries({
    "/": () => document.getElementById(view.id === null ? "search" : "find").focus(),
    p: () => view.id !== null && document.getElementById("pause").click(),
    j: () => list.focus(),
  }));
  if (!acts.has(event.key)) return;
  event.preventDefault();
  acts.get(event.key)();
});

/** For tests and curious users: the messages about the open job. */
globalThis.luxcast = { told: () => view.told };

const saved = settings.get(THEME);
setTheme(THEMES.includes(saved) ? saved : "auto");
showForget();
addEventListener("hashchange", () => follow(false));
follow(true);
jobs.start();
