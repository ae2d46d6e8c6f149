// The jobs whose events come in, in a table.

/** Jobs shown at most. */
const JOBS_MAX = 200;
const RETRY_MILLIS = 2000;

const status = document.getElementById("status");
const table = document.getElementById("jobs");
/** By id, the one with the newest event last. */
const jobs = new Map();
let position = "-1000";
let isDrawn = true;

function connect() {
  const address = new URL("../api/ws/events", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  address.searchParams.set("since", position);
  const socket = new WebSocket(address);
  socket.onopen = () => { status.textContent = "Live"; };
  socket.onmessage = (message) => take(JSON.parse(message.data));
  socket.onclose = () => {
    status.textContent = "Not connected; trying again";
    setTimeout(connect, RETRY_MILLIS);
  };
}

function take(event) {
  if (event.stream_seq !== undefined) position = String(event.stream_seq);
  if (event.job_id == null) return;
  const job = jobs.get(event.job_id) ?? { flow: "", count: 0 };
  jobs.delete(event.job_id);
  jobs.set(event.job_id, job);
  job.flow = event.flow_id ?? job.flow;
  job.type = event.type;
  job.count += 1;
  if (jobs.size > JOBS_MAX) jobs.delete(jobs.keys().next().value);
  if (isDrawn) {
    isDrawn = false;
    requestAnimationFrame(draw);
  }
}

function draw() {
  isDrawn = true;
  const rows = [...jobs].reverse().map(([id, job]) => {
    const row = document.createElement("tr");
    for (const text of [id, job.flow, job.type, job.count]) row.insertCell().textContent = text;
    return row;
  });
  table.replaceChildren(...rows);
}

connect();
