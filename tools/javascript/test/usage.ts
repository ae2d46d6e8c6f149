// Compiled, never run: what a user writes must have types, and what is wrong must have none.
import { LuxcastClient, LuxcastEvent, allUrl, debugUrl, flowUrl, jobUrl } from "luxcast";
import type { ClientError, Gap, JobFailed } from "luxcast";

const base = new URL("ws://127.0.0.1:20555");
const urls: string[] = [jobUrl(base, "j"), debugUrl(base, "j"), flowUrl("http://h/prefix", "f"), allUrl(base)];
const stop = new AbortController();
const client = new LuxcastClient(urls[0]!, { since: "start", token: "t", signal: stop.signal, bufferMax: 10 });

client.on("connected", ({ isFirst }) => {
  if (isFirst) client.subscribe(["job_started", "job_failed", "breakpoint_hit"]);
});
const off: () => void = client.on("job_failed", (event) => {
  const error: string = event.data.error;
  const failed: JobFailed = event;
  console.log(error, failed.job_id);
});
client.on("breakpoint_hit", (event) => console.log(event.breakpoint.routine_id, event.context.variables["x"]));
client.on("execution_event", ({ event }) => event.event_type === "slot_call");
client.on("metrics", ({ metrics }) => metrics.total_events + 1);
client.on("stream:gap", (gap: Gap) => console.log(gap.missed?.toFixed()));
client.on("error", (error: ClientError) => error.fatal && console.log(error.code));
client.on("my_type", (event) => console.log(event["payload"], event.stream_seq));
client.addEventListener("job_completed", (event: LuxcastEvent<{ job_id: string }>) => console.log(event.detail.job_id));
client.addEventListener("disconnected", ({ detail }) => console.log(detail.willReconnect), { once: true });
client.connect();
client.unsubscribe(new Set(["metrics"]));
client.subscribeAll();
off();
client.token = "another";
client.disconnect();

for await (const event of client) {
  if (event.type === "stream:gap") continue;
  const number: number | undefined = event.stream_seq;
  console.log(number, client.position, client.state === "open");
}

// @ts-expect-error a type is text
client.subscribe([1]);
// @ts-expect-error since is none of these
new LuxcastClient(base, { since: "soon" });
// @ts-expect-error no such member
client.on("job_failed", (event) => event.breakpoint);
// @ts-expect-error it can only be set
const token: string = client.position;
// @ts-expect-error only read
client.position = 1;
