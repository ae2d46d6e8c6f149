// Compiled, never run: what a user writes must have types, and what is wrong must have none.
import { LuxcastClient, LuxcastEvent, allUrl, debugUrl, flowUrl, isId, jobUrl, readTimestamp, textOf } from "luxcast";
import type { AnyEvent, ClientError, EventBase, Gap, JobFailed } from "luxcast";

declare module "luxcast" {
  interface DocumentedEvents {
    of_mine: EventBase<"of_mine"> & { mine: number };
  }
}

const base = new URL("ws://127.0.0.1:20555");
const urls: string[] = [jobUrl(base, "j"), debugUrl(base, "j"), flowUrl("http://h/prefix", "f"), allUrl(base)];
const stop = new AbortController();
const client = new LuxcastClient(urls[0]!, { since: "start", token: "t", signal: stop.signal, bufferMax: 10 });
new LuxcastClient(base, { getToken: () => "t", headers: { Authorization: "Basic eDp5" } });
new LuxcastClient(base, { getToken: async () => null, token: null });
new LuxcastClient(base, { transport: "auto", startWith: client.transport ?? "websocket", fetch, webSocketRetryMs: 60_000 });

client.on("connected", ({ transport }) => transport === "http" && console.log(client.transport === transport));
client.on("connected", ({ isFirst }) => {
  if (isFirst) client.subscribe(["job_started", "job_failed", "breakpoint_hit"]);
});
const off: () => void = client.on("job_failed", (event) => {
  const error: string | undefined = event.data?.error;
  const failed: JobFailed = event;
  console.log(error, failed.job_id);
});
client.on("breakpoint_hit", (event) => console.log(event.breakpoint?.routine_id, event.context?.variables?.["x"]));
client.on("execution_event", ({ event }) => event?.event_type === "slot_call");
client.on("metrics", ({ metrics }) => metrics?.status === "lost" || (metrics?.total_events ?? 0) + 1);
client.on("stream:gap", (gap: Gap) => console.log(gap.missed?.toFixed()));
client.on("error", (error: ClientError) => error.fatal && console.log(error.code));
client.on("my_type", (event) => console.log(event["payload"], event.stream_seq));
client.addEventListener("job_completed", (event: LuxcastEvent<{ job_id?: string | null }>) => console.log(event.detail.job_id, event.text?.length));
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
  const instant: number | null = readTimestamp(event.timestamp);
  console.log(number, instant, client.position, client.state === "open", textOf(event)?.length, isId(event.job_id));
}

// A switch tells the documented types apart, and leaves all others to the rest.
function describe(event: AnyEvent | Gap): string {
  switch (event.type) {
    case "job_failed": {
      const failed: JobFailed = event;
      return failed.data?.error ?? "?";
    }
    case "breakpoint_hit":
      return String(event.breakpoint?.routine_id);
    case "execution_event":
      return event.event?.event_type ?? "?";
    case "metrics":
      return event.metrics?.status ?? String(event.metrics?.total_slot_calls?.toFixed());
    case "stream:gap":
      return event.reason;
    case "job_started":
    case "job_completed":
    case "job_paused":
    case "job_resumed":
    case "job_cancelled":
    case "routine_started":
    case "routine_completed":
    case "routine_failed":
    case "breakpoint_resumed":
      return event.type;
    case "of_mine":
      return event.mine.toFixed();
    default: {
      const type: string = event.type;
      const payload: unknown = event["payload"];
      return `${type} ${payload}`;
    }
  }
}
client.on("event", (event) => describe(event));
const failure = (event: AnyEvent) => (event.type === "job_failed" ? event.data?.error_type : undefined);
client.on("event", failure);
const arrived: number | null = (await client.arrivals(1, 2))(1);

// What the daemon does not promise may not be there.
// @ts-expect-error data
client.on("job_failed", (event) => event.data.error);
// @ts-expect-error an error that is no text
client.on("job_failed", (event) => event.data?.error.length);
// @ts-expect-error the name of the job
client.on("routine_failed", (event) => event.job_id.length);
// @ts-expect-error a breakpoint
client.on("breakpoint_hit", (event) => event.breakpoint.routine_id);
// @ts-expect-error the inner event
client.on("execution_event", ({ event }) => event.event_type);
// @ts-expect-error numbers
client.on("metrics", ({ metrics }) => metrics.total_events + 1);
// @ts-expect-error a text that is none for an event which was made elsewhere
textOf({}).length;
// @ts-expect-error an instant
readTimestamp("soon") + 1;
// @ts-expect-error an arrival
arrived + 1;
// @ts-expect-error a token is text
new LuxcastClient(base, { getToken: () => 7 });

// @ts-expect-error no such transport
new LuxcastClient(base, { transport: "sse" });
// @ts-expect-error it is one of the two
new LuxcastClient(base, { startWith: "auto" });
// @ts-expect-error a client has the one or the other
client.transport === "auto";
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
