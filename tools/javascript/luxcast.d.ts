/**
 * Types of luxcast.js. The shapes of events are those of the protocol "WebSocket Events". The daemon forwards what
 * the publisher wrote; it and the client check only type, job_id, flow_id and stream_seq. So every other member is
 * optional here, and may have another type than it should.
 */

/** What every event has. `stream_seq` is absent in the snapshot of a job's metrics at the start of a connection. */
export interface EventBase<Type extends string = string> {
  type: Type;
  stream_seq?: number;
  /** Absent or null in an event that belongs only to a flow. */
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
    /** `slot_call`, `event_emit`, `error`, or another word of the publisher. */
    event_type?: string;
    timestamp?: string | number;
    data?: Record<string, unknown>;
  };
}

/** Those that the daemon makes have all of these; publishers may send others. */
export interface Metrics extends EventBase<"metrics"> {
  metrics?: {
    start_time?: string | null;
    end_time?: string | null;
    duration?: number | null;
    total_events?: number;
    total_slot_calls?: number;
    total_event_emits?: number;
    /** The job has been silent for so long that the daemon counts it as lost. Absent otherwise. */
    status?: "lost";
  };
}

/** For the compiler only: a string type without literals. */
declare enum Unnamed {
  type = "",
}

/** An event of a type that is not in [DocumentedEvents]. Its `type` is any other string and is assignable to
 *  `string`. TypeScript lets you compare it with a name only after that is in DocumentedEvents: otherwise every
 *  `switch` would include this type. */
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

/** Any event. `switch (event.type)` narrows it. */
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

/** From `from` to `to`, both included, `missed` events were lost; null if the number is unknown. */
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
  /** A stable word: the daemon's own, or `not_connected`, `held_back`, `no_socket`, `no_token`, `policy`,
   *  `upgrade_refused`, `proxy_answered`. */
  code: string;
  /** For people. It never holds the token. */
  message: string;
  /** The client has given up; `connect()` tries again. */
  fatal: boolean;
  /** The status of the HTTP answer that refused the connection, if known. */
  status?: number;
  /** With a status: how long the daemon asks the client to wait. */
  retryAfterMs?: number;
}

export interface ClientEvents extends DocumentedEvents {
  /** Each event and snapshot, whatever its type. */
  event: AnyEvent;
  /** A new connection; without `disconnected` before it, a WebSocket has taken over from an HTTP stream. */
  connected: { isFirst: boolean; transport: Transport };
  /** `code` is that of a WebSocket, for an HTTP stream too: 1012 if the daemon said that it ends, else 1006. */
  disconnected: { code: number; reason: string; willReconnect: boolean };
  reconnecting: { delayMs: number; failures: number };
  error: ClientError;
  /** An invalid message, with the beginning of its text. */
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

/** `now`, `start`, -100 for the last 100, or a number: after that event. */
export type Since = "now" | "start" | number | `${number}`;

/** How the messages come: over a WebSocket, or as Server-Sent Events over plain HTTP. */
export type Transport = "websocket" | "http";

export interface ClientOptions {
  /** Where to begin. Default: `since=` of the URL, else `now`. */
  since?: Since;
  /** The token for the daemon. Default: `token=` or `api_key=` of the URL. */
  token?: string | null;
  /** Called for the token before each attempt, in place of `token`. */
  getToken?: () => string | null | undefined | Promise<string | null | undefined>;
  /** Sent if the WebSocket takes headers, and with plain requests. */
  headers?: Record<string, string>;
  /** `auto`, the default: WebSocket, and HTTP while no WebSocket gets through. */
  transport?: "auto" | Transport;
  /** What `auto` tries first. Default: `websocket`. Give `http` where another client has just found that no WebSocket
   *  gets through. */
  startWith?: Transport;
  /** Longest time until a WebSocket is tried again beside an HTTP stream. The first time is after 10 s at most.
   *  Default: 300,000. */
  webSocketRetryMs?: number;
  /** Default: the global one; without any, `auto` is `http`. */
  // Any constructor works whose objects are like those of a browser.
  WebSocket?: new (url: string, ...rest: any[]) => any;
  /** Default: the global one. */
  fetch?: typeof fetch;
  /** `abort` disconnects. */
  signal?: AbortSignal;
  /** The daemon's `heartbeat_seconds`, until its pings show it. Default: 30,000. */
  heartbeatMs?: number;
  /** Messages that may wait for a slow `for await`. Default: 10,000. */
  bufferMax?: number;
}

export declare class LuxcastClient extends EventTarget implements AsyncIterable<AnyEvent | Gap> {
  /** `url` is an endpoint or the live page: with `#job=J` it stands for the job's monitor, otherwise for all
   *  events. */
  constructor(url: string | URL, options?: ClientOptions);

  /** The address without since, events and token. */
  readonly url: string;
  readonly state: "idle" | "connecting" | "open" | "waiting" | "closed";
  /** How the messages come; null while there is no connection. */
  readonly transport: Transport | null;
  /** All events up to this number have been dispatched; null while there is none. */
  readonly position: number | null;
  /** Repeated events that were dropped. */
  readonly duplicates: number;
  /** Takes effect with the next connection. */
  set token(token: string | null | undefined);

  connect(): void;
  disconnect(): void;
  subscribe(events: Iterable<string>): void;
  unsubscribe(events: Iterable<string>): void;
  subscribeAll(): void;
  /** Arrival times at the daemon: from a `stream_seq` in this range to Unix milliseconds; null if unknown. */
  arrivals(from: number, to: number): Promise<(stream_seq: number) => number | null>;

  /** Returns a function that removes the handler. */
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
/** The address of the events of a job that debuggers use. */
export declare function debugUrl(base: string | URL, jobId: string): string;
/** The address of a flow's events, including those of all its jobs. */
export declare function flowUrl(base: string | URL, flowId: string): string;
/** The address of every event of the daemon. */
export declare function allUrl(base: string | URL): string;
/** The text of an event or another message as the daemon sent it; null for anything that did not come from a
 *  client. */
export declare function textOf(message: unknown): string | null;
/** True for a valid id of a job or a flow: 1 to 128 characters from A-Z a-z 0-9 _ . : - */
export declare function isId(value: unknown): value is string;
/** A publisher's timestamp as Unix milliseconds, rounded down; null if it is not an instant. The daemon reads it
 *  the same way. */
export declare function readTimestamp(value: unknown): number | null;

// Nothing else is exported.
export {};
