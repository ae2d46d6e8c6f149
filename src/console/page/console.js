// The jobs that the viewer may see, in a table, asked for again and again.

const SHOWN_MAX = 200;
const PAUSE_MILLIS = 2000;
/** Kept for this tab alone. */
const TOKEN = "luxcast.token";

const status = document.getElementById("status");
const form = document.getElementById("ask");
const table = document.getElementById("jobs");
let timer;

async function refresh() {
  clearTimeout(timer);
  try {
    const token = sessionStorage.getItem(TOKEN);
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch(`./jobs?limit=${SHOWN_MAX}`, { headers, cache: "no-store" });
    const body = await answer.json();
    form.hidden = answer.status !== 401 && answer.status !== 403;
    if (answer.ok) draw(body);
    else status.textContent = body.message;
    if (!form.hidden) return;
  } catch {
    status.textContent = "The daemon does not answer; trying again";
  }
  timer = setTimeout(refresh, PAUSE_MILLIS);
}

function draw({ jobs, next, timestamp }) {
  const of = next === null ? "All jobs" : `The latest ${jobs.length} jobs`;
  status.textContent = `${of}, ${new Date(timestamp).toLocaleTimeString()}`;
  const rows = jobs.map((job) => {
    const row = document.createElement("tr");
    const seconds = job.duration === null ? "" : job.duration.toFixed(1);
    for (const text of [job.job_id, job.flow_id ?? "", job.status, seconds, job.total_events]) {
      row.insertCell().textContent = text;
    }
    return row;
  });
  table.replaceChildren(...rows);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const token = document.getElementById("token");
  sessionStorage.setItem(TOKEN, token.value);
  token.value = "";
  refresh();
});

refresh();
