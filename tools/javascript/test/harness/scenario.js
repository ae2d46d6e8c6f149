// What the client must do alike wherever it runs. It has no import, so that it runs there.

/** What the daemon is to be fed with, as it goes over the wire, before the scenario runs. */
export const LINES = [
  '{"type":"job_started","job_id":"j"}',
  '{"type":"exact","job_id":"j","numbers":[9007199254740993,1e400,1.0,-0]}',
  '{"type":"job_failed","job_id":"j","data":{"error":"ä\\u00e4😀"}}',
  '{"type":"exact","job_id":"..","numbers":[1.0]}',
  '{"type":"execution_event","job_id":"..","event":{"event_type":"slot_call","routine_id":"r","data":{"slot_name":"s"}}}',
  '{"type":"constructor","job_id":".","flow_id":"constructor"}',
  '{"type":"__proto__","job_id":"__proto__"}',
];

/** Types of the events by job. */
export const EXPECTED = new Map([
  ["j", ["metrics", "job_started", "exact", "job_failed"]],
  ["..", ["exact", "execution_event"]],
  [".", ["constructor"]],
  ["__proto__", ["metrics", "__proto__"]],
]);
/** Of the job j, behind the number, which is the daemon's. */
export const TEXTS = LINES.slice(0, 3).map((line) => line.slice(1));

/** The events of a job from its beginning, as many as are expected. */
function watch(luxcast, base, options, id) {
  return new Promise((resolve, reject) => {
    const client = new luxcast.LuxcastClient(luxcast.jobUrl(base, id), { ...options, since: "start" });
    const events = [];
    client.on("event", (event) => {
      events.push(event);
      if (events.length < EXPECTED.get(id).length) return;
      client.disconnect();
      resolve(events);
    });
    client.on("error", ({ fatal, code, message }) => fatal && reject(new Error(`${id}: ${code}: ${message}`)));
    client.connect();
  });
}

/** How it ends with a token that the daemon does not know. */
function beRefused(luxcast, base, options) {
  return new Promise((resolve) => {
    const client = new luxcast.LuxcastClient(luxcast.jobUrl(base, "j"), { ...options, token: "wrong" });
    const errors = [];
    client.on("error", ({ fatal, code, message }) => {
      errors.push(code, message);
      if (fatal) resolve({ code, wasSlow: errors.includes("no answer for too long") });
    });
    client.connect();
  });
}

/** All that it was told, as JSON can have it. */
export async function scenario(luxcast, base, options) {
  const told = [];
  const texts = [];
  for (const id of EXPECTED.keys()) {
    // No address can have these in its path, and what else there is for them is no HTTP stream.
    if (options.transport === "http" && /^\.+$/.test(id)) continue;
    const events = await watch(luxcast, base, options, id);
    told.push([id, events.map(({ type }) => type)]);
    const own = (event) => luxcast.textOf(event).replace(/^\{"stream_seq":\d+,/, "");
    if (id === "j") texts.push(...events.slice(1).map(own));
  }
  return { told, texts, refused: await beRefused(luxcast, base, options) };
}
