//! luxcast streams the live events of workflow jobs to any number of watchers, over WebSocket and plain HTTP. They come in by a
//! local socket or over HTTP.
//!
//! # The one idea
//!
//! **A watcher is a cursor into a topic's log.** A topic is a job, a flow, or everything. Its log is a ring of
//! handles to frames that were serialised once. That one structure is the send queue (write from the cursor to the
//! head), the history (put the cursor back), the seam between replay and live (there is none), the test for a slow
//! client (its cursor is older than the ring: `stream:gap`), and the bound on memory (no queue per client, nothing
//! allocated per message or delivery).
//!
//! # Threads
//!
//! ```text
//! publishers ══ Unix socket ══▶ ingest ── Arc<Batch>, bounded channels ──▶ shard 0..N-1 ══ sockets ══▶ watchers
//!                               (one: numbers, + one wake if it sleeps     (each: a mio event loop,
//!                                encodes, appends                           its connections, a timer wheel;
//!                                to logs, evicts) ◀── interest bits ──      shard 0 accepts)
//!                                                     per topic
//! report (lists and figures that shards want) ── questions ──▶ shards, ingest    main: signals, drain, join
//! ```
//!
//! # Layers
//!
//! Each may use what stands to its left, never to its right; `tests/tidy.rs` checks that.
//!
//! [`event`] [`close`] [`config`] [`console`] [`metrics`] [`tick`] ← [`wire`] ← [`access`] ← [`stream`] ← [`bus`] ←
//! [`delivery`] ← [`session`] ← [`net`] ← [`server`] ← [`sim`] ← [`cli`]
//!
//! - [`metrics`]: what each thread counts for itself, once a turn (a pass of its loop), and how it is shown; a table
//!   has a row for each figure.
//! - [`console`]: the files of the live page, which [`wire::page`] knows how to send.
//! - [`wire`]: bytes to values and back: request heads, frames, client actions, lines of the feed.
//! - [`access`]: who may come in, and watch what: tokens, addresses, origins, rates. It knows no topics.
//! - [`stream`]: who gets what: batches, topics and their logs, the history, the sequencer.
//! - [`bus`]: one stream for many daemons: chunks of lines, their numbers, who writes them and who reads them.
//! - [`delivery`]: one shard's watchers: cursors, filters, cohorts, the flush.
//! - [`session`]: one client's conversation: what it asks for, what it is told, within which limits.
//! - [`net`]: sockets, threads, clocks. [`net::listen`] lets connections in, [`net::shard`] serves them,
//!   [`net::ingest`] takes the feed, [`net::report`] makes metrics and lists, [`net::host`] is the machine around the
//!   daemon.
//! - [`server`]: binds, spawns, drains, joins. What it leaves to the next run is made by [`stream::snapshot`] and
//!   written to files by [`net::host::state_dir`]. [`sim`] and [`cli`]: the program around it; signals arrive in
//!   [`cli::serve`], and `cli/reload.rs` reloads.
//!
//! From [`wire`] to [`session`] all is pure state: no socket, no clock.
//!
//! # The life of an event
//!
//! 1. [`net::ingest`] reads a block from a publisher and cuts it into lines. What a shard has read of a POST comes to it
//!    in the same way ([`net::ingest::posted`]).
//! 2. [`stream::sequencer`] writes each line's frame (header, `{"stream_seq":N,`, the publisher's bytes) into the
//!    turn's [`stream::batch`], then has [`wire::line`] parse the line in place to find its type, job and flow.
//!    `stream/routing.rs` finds its topics: everything, its job, and the flow that the job belongs to. A refused line
//!    takes its frame back, and [`wire::publisher_answer`] has the text for its publisher.
//! 3. It appends a handle per run of adjacent events to each [`stream::topic`]'s log, stores the number as
//!    published, offers the batch to the shards that watch one of its topics ([`stream::link`]), wakes those that
//!    sleep, and evicts the oldest batches for room. [`stream::history`] says when; under `overrun = wait`
//!    [`stream::gate`] says for whom the feed waits instead, and [`delivery::progress`] who still reads.
//! 4. [`net::shard`] wakes; [`delivery::watchers`] marks the [`delivery::cohort`]s (watchers of one topic that want the
//!    same) for which the batch has something.
//! 5. [`delivery::flush`] gathers once for all members of a cohort that stand at one place ([`delivery::cursor`]) and
//!    writes the same bytes to each socket: small ones from one buffer, large ones so or by `sendfile` from a memory
//!    file, whichever costs less here ([`delivery::copy_or_sendfile`], [`net::shard::sockets`]). A socket that is full
//!    is left to its own cursor and served again when it has room. Who is sent chunks of HTTP or compressed events is in
//!    a cohort of its own: `delivery/framed.rs` makes these once, with the log as the dictionary (`delivery/compressor.rs`).
//!
//! What memory has lost, a shared stream may have: [`net::past`] reads it again into a [`stream::past`], once for all who
//! ask, and [`delivery::past`] serves them until they have come to where memory begins.
//!
//! Beside events, [`net::ingest::dedupe`] takes the lines of a named publisher once, [`stream::jobs`] keeps what is
//! known of each job, and [`stream::metrics_schedule`] says when the daemon adds `metrics` events.
//!
//! # The life of a connection
//!
//! 1. [`net::listen::acceptor`] says when to look at the listeners, and pauses when descriptors have run out.
//!    [`access::admission`] counts the connection in or turns it away, in all and by address
//!    ([`access::address_limits`]). A shard takes it over ([`net::shard::clients`]).
//! 2. [`net::shard::reading`] reads, [`net::shard::requests`] collects the request head, [`wire::http`] parses it.
//! 3. [`session::request`] judges it: all checks, in their order. [`session::endpoint`] knows the paths,
//!    [`access::keyring`] the tokens, [`session::stream_query`] reads `events=` and `since=`.
//! 4. A stream opens as a [`session::conversation`]; [`delivery::start`] says where it begins. Lists and figures are made
//!    by [`net::report`]. A refusal is a row of [`wire::refusal`].
//!    One that publishes ([`session::publishing`]) hands its body to ingest and waits for the word ([`net::shard::bodies`]).
//! 5. [`wire::permessage_deflate`] has agreed on compression. The client's frames go through [`wire::message_reader`] and [`wire::client_action`] to the conversation. What the
//!    daemon itself says to a watcher (pings, gaps, confirmations) is written by [`wire::watcher_message`].
//! 6. [`net::shard::timers`] does what is due, and ends connections: [`session::heartbeat`] says who is silent,
//!    [`delivery::slow_consumers`] who takes nothing, [`access::rights`] whose token has expired. At the end of the
//!    daemon, [`session::drain`] says when goodbye is said.
//!
//! # Why nothing is lost or doubled
//!
//! - The sequencer appends, *then* stores the number, *then* reads which shards are interested. A shard sets its
//!   interest, *then* loads the number, *then* stands in the log behind it. Whichever came first, one sees the other.
//! - A shard's tail is loaded after the arrivals are marked, so no watcher counts as caught up too early.
//! - A full channel becomes "scan all you watch" ([`stream::link`]): nothing is told twice, nothing is forgotten.
//! - What the history drops is counted by topic and type; a cursor that comes back later says so with a gap. Of a topic
//!   that is dropped altogether its last number is remembered by name ([`stream::dropped`]). Where a watcher begins,
//!   and what it gets first, is decided in one place ([`delivery::start`]).
//! - What names a topic is a key with a generation ([`stream::topic_key`]): one that has outlived its topic names
//!   nothing, and a job's is no flow's.
//! - Numbers whose events were lost elsewhere are a hole ([`stream::holes`]). Before the tail passes one, every watcher
//!   stands alone, and is told of it at its place ([`delivery::pass_holes`]).
//! - A snapshot is whole from its newest event back to some number; what is older is counted the same way.
//!
//! `tests/simulation` interleaves the real sequencer and the real flush at each of these steps.
//!
//! # Why it is fast
//!
//! A message costs what the kernel takes to put it into a socket, and little else: of the CPU time of a loaded shard,
//! nearly all is the kernel's. What is left to save is the number of calls, so everything aims at many events a call.
//!
//! - An event is parsed, numbered and framed once. Whoever watches gets the same bytes from the same buffer.
//! - Watchers at one place of one log with one filter are served as one: gathering, filtering, compressing and copying
//!   are paid once for all of them. A filter is one AND for each run of events; those who want none of it are not touched.
//! - While a shard is busy, ingest goes on, and the tail is loaded anew every few sends. The busier it is, the more
//!   each send carries: batches grow with the load by themselves, and at low load nothing waits.
//! - Nothing is queued, allocated, locked or timed for a message; clocks are read once a turn, and twice for a large
//!   portion to learn which way of sending is cheaper.
//! - An idle connection is a few words in two slabs and an entry in the wheel: no task, no buffer.
//!
//! `luxcast-bench` (`tools/bench`) measures this beside a floor and other servers; its page has the figures.
//!
//! # Lexicon
//!
//! - **event**: one line of the feed, numbered. **frame**: its bytes on the wire. **batch**: frames of consecutive
//!   numbers in one buffer; between batches numbers may jump. **hole**: numbers whose events never came here. **run**: adjacent events of one topic in a batch. **handle**: a run in a topic's log.
//! - **topic**: a job, a flow, everything. **life** of a topic: from its first event until it is dropped.
//!   **history**: all that is kept. **gap**: what could not be delivered.
//! - **watcher**: a connection's place in the stream. **cursor**: that place. **cohort**: watchers that want the
//!   same of one topic. **tail**: the newest number that is delivered. **to lag**: to be at a position of its own
//!   behind the tail.
//! - **publisher**: what feeds the daemon. **shard**: a thread with its connections. **turn**: one pass of a thread's
//!   loop: it takes what has come, handles it, and sleeps if there is no more.
#![deny(unsafe_code)]

pub mod access;
pub mod bus;
pub mod cli;
pub mod close;
pub mod config;
pub mod console;
pub mod delivery;
pub mod event;
pub mod metrics;
pub mod net;
pub mod server;
pub mod session;
pub mod sim;
pub mod stream;
pub mod tick;
pub mod wire;
