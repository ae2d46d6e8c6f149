/**
 * Types of luxcast.js. The shapes of events are those of the protocol "WebSocket Events"; the daemon forwards what the
 * publisher wrote, and neither it nor the client checks more of that than type, job_id, flow_id and stream_seq. So all
 * that a publisher may leave out is optional, and what it writes may have other types than those it should have.
 */

/** What every event has. `stream_seq` is absent in the snapshot of a job's metrics at the start of a connection. */
export interface EventBase<Type extends string = string> {
  type: Type;
  stream_seq?: number;
  /** Absent or null in an event of a flow alone. */
  job_id?: string | null;
  flow_id?: string | null;
  /** See `readTimestamp`. */
  timestamp?: string | number;
}

export interface DataEvent<Type extends string, Data> extends EventBase<Type> {
  data?: Data;
}

export interface RoutineEvent<Type extends string, Data> extends DataEvent<Type, Data> {
  routine_id?: string;
}

export type JobStarted = DataEvent<"job_started", { entry_routine?: string; params?: Record<string, unknown> }>;
export type JobCompleted = DataEvent<"job_completed", { duration?: number; total_events?: number }>;
export type JobFailed = DataEvent<"job_failed", { error?: string; error_type?: string; routine_id?: string }>;
export type JobPaused = DataEvent<"job_paused", { reason?: string }>;
export type JobResumed = DataEvent<"job_resumed", Record<string, unknown>>;
export type JobCancelled = DataEvent<"job_cancelled", { reason?: string }>;
export type RoutineStarted = RoutineEvent<"routine_started", { slot_name?: string; event_data?: unknown }>;
export type RoutineCompleted = RoutineEvent<"routine_completed", { duration?: number; events_emitted?: number }>;
export type RoutineFailed = RoutineEvent<"routine_failed", { error?: string; error_type?: string; slot_name?: string }>;

export interface BreakpointHit extends EventBase<"breakpoint_hit"> {
  breakpoint?: {
    breakpoint_id?: string;
    type?: string;
    routine_id?: string;
    slot_name?: string | null;
    event_name?: string | null;
  };
  context?: { routine_id?: string; variables?: Record<string, unknown> };
}

export interface BreakpointResumed extends DataEvent<"breakpoint_resumed", { step_mode?: string }> {
  breakpoint_id?: string;
}

export interface ExecutionEvent extends EventBase<"execution_event"> {
  event?: {
    event_id?: string;
    routine_id?: string;
    /** `slot_call`, `event_emit`, `error`, or what the publisher says. */
    event_type?: string;
    timestamp?: string | number;
    data?: Record<string, unknown>;
  };
}

/** The daemon's own ones have all of these; a publisher can send others. */
export interface Metrics extends EventBase<"metrics"> {
  metrics?: {
    start_time?: string | null;
    end_time?: string | null;
    duration?: number | null;
    total_events?: number;
    total_slot_calls?: number;
    total_event_emits?: number;
    /** The job has been silent for so long that the daemon does not believe in it any more. Absent otherwise. */
    status?: "lost";
  };
}

/** For the compiler alone: a string type that no literal is of. */
declare enum Unnamed {
  type = "",
}

/** An event of a type that is not in [DocumentedEvents]. Its `type` is any other string; `string` holds it, but TypeScript
 *  lets you compare it with a name only once that is in DocumentedEvents: else every `switch` would be about this one too. */
export interface OtherEvent extends EventBase<Unnamed> {
  [member: string]: unknown;
}

/** The documented events by their type. Add your own with
 *  `declare module "luxcast" { interface DocumentedEvents { my_type: MyEvent } }`. */
export interface DocumentedEvents {
  job_started: JobStarted;
  job_completed: JobCompleted;
  job_failed: JobFailed;
  job_paused: JobPaused;
  job_resumed: JobResumed;
  job_cancelled: JobCancelled;
  routine_started: RoutineStarted;
  routine_completed: RoutineCompleted;
  routine_failed: RoutineFailed;
  breakpoint_hit: BreakpointHit;
  breakpoint_resumed: BreakpointResumed;
  execution_event: ExecutionEvent;
  metrics: Metrics;
}

/** Any event. `switch (event.type)` tells them apart. */
export type AnyEvent = DocumentedEvents[keyof DocumentedEvents] | OtherEvent;

export interface ConnectionStatus {
  type: "connection:status";
  status: "connected" | "disconnected" | "reconnecting";
  timestamp?: string;
  server_time?: string;
  stream_seq?: number;
  reason?: string;
  retry_after_ms?: number;
}

export interface Ping {
  type: "ping";
  timestamp?: string;
  stream_seq?: number;
}

export interface Pong {
  type: "pong";
}

export interface SubscriptionConfirmed {
  type: "subscription:confirmed";
  action: string;
  events: string[];
}

/** Between `from` and `to`, both included, `missed` events were lost; null if nobody knows how many. */
export interface Gap {
  type: "stream:gap";
  from: number;
  to: number;
  missed: number | null;
  reason: "expired" | "overrun" | "restart";
  job_id?: string;
  stream_seq?: undefined;
  timestamp?: string;
}

export interface ClientError {
  /** A stable word: the daemon's own, or `not_connected`, `no_socket`, `no_token`, `policy`, `upgrade_refused`,
   *  `proxy_answered`. */
  code: string;
  /** For people. It never holds the token. */
  message: string;
  /** The client has given up: `connect()` tries again. */
  fatal: boolean;
  /** Of the HTTP answer that refused the connection, if that could be learned. */
  status?: number;
  /** With a status: how long the daemon asks to wait. */
  retryAfterMs?: number;
}

export interface ClientEvents extends DocumentedEvents {
  /** Each event and snapshot, whatever its type. */
  event: AnyEvent;
  connected: { isFirst: boolean };
  disconnected: { code: number; reason: string; willReconnect: boolean };
  reconnecting: { delayMs: number; failures: number };
  error: ClientError;
  /** A message that cannot be used, with its beginning. */
  invalid: { problem: string; text: string };
  "connection:status": ConnectionStatus;
  ping: Ping;
  pong: Pong;
  "subscription:confirmed": SubscriptionConfirmed;
  "stream:gap": Gap;
}

export declare class LuxcastEvent<Detail = unknown> extends Event {
  constructor(type: string, detail: Detail);
  readonly detail: Detail;
  /** `textOf(detail)`. */
  readonly text: string | null;
}

/** `now`, `start`, -100 for the last 100, or a number: behind that event. */
export type Since = "now" | "start" | number | `${number}`;

export interface ClientOptions {
  /** Where to begin. Default: `since=` of the URL, else `now`. */
  since?: Since;
  /** What the daemon lets us in for. Default: `token=` or `api_key=` of the URL. */
  token?: string | null;
  /** Asked for the token before each attempt, in place of `token`. */
  getToken?: () => string | null | undefined | Promise<string | null | undefined>;
  /** Sent where the WebSocket takes headers, and with plain requests. */
  headers?: Record<string, string>;
  /** Default: the global one. */
  // Any constructor will do whose objects are like those of a browser.
  WebSocket?: new (url: string, ...rest: any[]) => any;
  /** `abort` disconnects. */
  signal?: AbortSignal;
  /** The daemon's `heartbeat_seconds`, until its pings tell. Default: 30,000. */
  heartbeatMs?: number;
  /** Messages that may wait for a slow `for await`. Default: 10,000. */
  bufferMax?: number;
}

export declare class LuxcastClient extends EventTarget implements AsyncIterable<AnyEvent | Gap> {
  /** `url` is an endpoint's, or the live page's: that with `#job=J` is the job's monitor, without it all events. */
  constructor(url: string | URL, options?: ClientOptions);

  /** The address without since, events and token. */
  readonly url: string;
  readonly state: "idle" | "connecting" | "open" | "waiting" | "closed";
  /** The number up to which all events have been told of; null as long as there is none. */
  readonly position: number | null;
  /** Events that came again and were left out. */
  readonly duplicates: number;
  /** For the next connection. */
  set token(token: string | null | undefined);

  connect(): void;
  disconnect(): void;
  subscribe(events: Iterable<string>): void;
  unsubscribe(events: Iterable<string>): void;
  subscribeAll(): void;
  /** When events came to the daemon: from a `stream_seq` in this range to Unix milliseconds; null where not known. */
  arrivals(from: number, to: number): Promise<(stream_seq: number) => number | null>;

  /** Returns what takes the handler away again. */
  on<Type extends keyof ClientEvents>(type: Type, handler: (detail: ClientEvents[Type]) => void): () => void;
  on<Type extends string>(
    type: Type extends keyof ClientEvents ? never : Type,
    handler: (detail: OtherEvent) => void,
  ): () => void;

  addEventListener<Type extends keyof ClientEvents>(
    type: Type,
    listener: ((event: LuxcastEvent<ClientEvents[Type]>) => void) | null,
    options?: boolean | { capture?: boolean; once?: boolean; passive?: boolean; signal?: AbortSignal },
  ): void;
  addEventListener(
    type: string,
    listener: ((event: LuxcastEvent<OtherEvent>) => void) | { handleEvent(event: Event): void } | null,
    options?: boolean | { capture?: boolean; once?: boolean; passive?: boolean; signal?: AbortSignal },
  ): void;
  removeEventListener(
    type: string,
    listener: ((event: LuxcastEvent<any>) => void) | { handleEvent(event: Event): void } | null,
    options?: boolean | { capture?: boolean },
  ): void;

  [Symbol.asyncIterator](): AsyncGenerator<AnyEvent | Gap, void, void>;
}

/** The address of a job's events. `base` is the daemon's: `ws://host:20555`, also with a path before `/api`. */
export declare function jobUrl(base: string | URL, jobId: string): string;
/** The address of those events of a job that debuggers use. */
export declare function debugUrl(base: string | URL, jobId: string): string;
/** The address of a flow's events, with those of all its jobs. */
export declare function flowUrl(base: string | URL, flowId: string): string;
/** The address of every event of the daemon. */
export declare function allUrl(base: string | URL): string;
/** The text of an event or another message as the daemon sent it; null for what did not come from a client. */
export declare function textOf(message: unknown): string | null;
/** True for what can name a job or a flow: 1 to 128 characters out of A-Z a-z 0-9 _ . : - */
export declare function isId(value: unknown): value is string;
/** A publisher's timestamp as Unix milliseconds, rounded down; null if it is no instant. The daemon reads it alike. */
export declare function readTimestamp(value: unknown): number | null;

// What is not exported above is not exported.
export {};
