//! The thread: actions of the reader are done, and what comes of them is handed back.

use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, ReplayPolicy, pull as consumer};
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{self, Context, Message};
use async_nats::{Client, Event, HeaderMap, Subject, Subscriber};
use futures_util::StreamExt;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::bus::chunk;
use crate::bus::reader::Reader;
use crate::bus::verdict::{Action, Arrival, Info, Verdict};
use crate::bus::writer::{LaneKey, Outgoing};
use crate::net::bus::begin::{self, BeginAt, Begun};
use crate::net::bus::connect::{self, BusConfig};
use crate::net::bus::handle::{BusHandle, Command, Outlet, Received, Report, ends};
use crate::net::bus::log::{Log, words_of};
use crate::net::bus::pull::{self, Status, header};
use crate::net::bus::stream_info;
use crate::net::clock::Clock;
use crate::net::ingest::handle::IngestWaker;

/// The server has so long to answer a question of the reader, or to make a consumer.
const ANSWER: Duration = Duration::from_secs(2);
/// A consumer that nobody pulls from is removed by the server after so long.
const CONSUMER_LIFE: Duration = Duration::from_secs(60);

/// Between two connections that are made anew because a line is too long for the server.
const ROOM_PAUSE_MILLIS: u64 = 10_000;

/// Between two tries to find out where to begin.
const PAUSE: Duration = Duration::from_millis(500);

/// What the thread is made of.
pub struct BusParts {
    pub config: BusConfig,
    /// The servers show its connection with that name.
    pub name: &'static str,
    pub begin_at: BeginAt,
    /// Of this thread alone: consumers and messages are named by it.
    pub nonce: String,
    pub host: String,
    pub ingest: Arc<IngestWaker>,
    pub clock: Clock,
}

/// The thread's work, once it is run.
pub struct BusThread {
    parts: BusParts,
    outlet: Outlet,
    commands: UnboundedReceiver<Command>,
}

/// The thread, which is still to be run, and the other end.
pub fn new(parts: BusParts) -> (BusHandle, BusThread) {
    let (sender, commands) = unbounded_channel();
    // A bus thread that has ended needs no more commands.
    let (handle, outlet) = ends(parts.ingest.clone(), move |command| drop(sender.send(command)));
    (handle, BusThread { parts, outlet, commands })
}

/// What has come of something that the server was asked for.
enum Outcome {
    Info { question: u64, info: Result<Info, String> },
    Created { attempt: u64, consumer: Result<Box<(Consumer<consumer::Config>, Subscriber, Subject)>, String> },
    Published { key: LaneKey, serial: u64, result: Result<PublishAck, PublishError> },
    Done,
}

/// The consumer in use, and the inbox that its messages come to.
struct Inbox {
    attempt: u64,
    consumer: Consumer<consumer::Config>,
    subscriber: Subscriber,
    subject: Subject,
}

struct Bus {
    config: BusConfig,
    reader: Reader,
    nonce: String,
    from: String,
    outlet: Outlet,
    commands: UnboundedReceiver<Command>,
    clock: Clock,
    client: Client,
    jetstream: Context,
    events: UnboundedReceiver<Event>,
    inbox: Option<Inbox>,
    outcomes: JoinSet<Outcome>,
    log: Log,
    /// When the connection was made anew for a line that is too long for the server.
    room_asked_at: u64,
}

impl BusThread {
    /// Runs until the ingest thread's end has gone.
    ///
    /// # Errors
    /// What is wrong with the settings of the connection.
    pub fn run(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let Some(bus) = self.begin().await? else { return Ok(()) };
            bus.run().await
        })
    }

    /// Connects, and finds out where to begin. None: that is not wanted any more, or never will be.
    async fn begin(self) -> io::Result<Option<Bus>> {
        let Self { parts, outlet, mut commands } = self;
        let BusParts { config, name, begin_at, nonce, host, clock, ingest: _ } = parts;
        let (sender, mut events) = unbounded_channel();
        let on_event = move |event| drop(sender.send(event));
        let client = connect::connect(&config, name, on_event).await?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(ANSWER);
        let begun = loop {
            let work = begin::begin(&client, &jetstream, &config, &begin_at);
            match before_end(work, &mut commands, &mut events, &outlet).await {
                None => return Ok(None),
                Some(Ok(begun)) => break begun,
                Some(Err(begin::Failure::Unfit(why))) => {
                    outlet.report(Report::Unfit(why));
                    return Ok(None);
                }
                Some(Err(begin::Failure::NoAnswer(why))) => outlet.report(Report::Trouble(why)),
            }
            if before_end(sleep(PAUSE), &mut commands, &mut events, &outlet).await.is_none() {
                return Ok(None);
            }
        };
        let Begun { from, beginning } = begun;
        let mut reader = Reader::new(from, beginning.passed_from, beginning.accounts_millis);
        outlet.report(Report::Begun(Box::new(beginning)));
        // Of what has happened so far, only this counts.
        while events.try_recv().is_ok() {}
        if client.connection_state() == State::Connected {
            reader.handle_connected(clock.read().now.millis);
        }
        let (from, inbox, outcomes) = (format!("{host}.{nonce}"), None, JoinSet::new());
        let log = Log::new(&config, begin_at.bounds);
        Ok(Some(Bus {
            config,
            reader,
            nonce,
            from,
            outlet,
            commands,
            clock,
            client,
            jetstream,
            events,
            inbox,
            outcomes,
            log,
            room_asked_at: 0,
        }))
    }
}

/// Does some work, and reports trouble with the connection meanwhile. None: the other end has gone first. Nothing that it
/// says before the beginning is to be obeyed.
async fn before_end<T>(
    work: impl Future<Output = T>,
    commands: &mut UnboundedReceiver<Command>,
    events: &mut UnboundedReceiver<Event>,
    outlet: &Outlet,
) -> Option<T> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            command = commands.recv() => drop(command?),
            Some(event) = events.recv() => if let Some(words) = words_of(&event) {
                outlet.report(Report::Trouble(words));
            },
        }
    }
}

impl Bus {
    fn now(&self) -> u64 {
        self.clock.read().now.millis
    }

    async fn run(mut self) -> io::Result<()> {
        loop {
            while let Some(action) = self.reader.next_action() {
                self.act(action).await;
            }
            let now = self.now();
            let due =
                self.reader.due().map(|due| Instant::now() + Duration::from_millis(due.saturating_sub(now)));
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.handle_event(&event),
                    None => return Ok(()),
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return Ok(()),
                },
                Some(outcome) = self.outcomes.join_next() => self.handle_outcome(outcome.map_err(io::Error::other)?),
                message = next_message(&mut self.inbox) => self.handle_message(message),
                () = sleep_or_never(due) => {
                    let now = self.now();
                    self.reader.handle_due(now);
                }
            }
        }
    }

    fn handle_event(&mut self, event: &Event) {
        let now = self.now();
        match event {
            Event::Connected => {
                self.log.handle_connected(&self.client.server_info());
                self.reader.handle_connected(now);
            }
            Event::Disconnected | Event::Closed => {
                self.log.handle_disconnected();
                self.reader.handle_disconnected();
            }
            other => self.log.handle_event(other),
        }
    }

    /// Makes the connection anew; another server may be better.
    fn reconnect(&mut self) {
        if self.client.connection_state() == State::Connected {
            self.log.handle_wanted_anew();
        }
        let client = self.client.clone();
        self.outcomes.spawn(async move {
            if let Err(error) = client.force_reconnect().await {
                tracing::debug!("bus: cannot reconnect: {error}");
            }
            Outcome::Done
        });
    }

    fn obey(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Publish(outgoing) => self.publish(outgoing),
            Command::Hurry => self.reader.hurry(now),
            Command::Release(bytes) => self.reader.handle_released(now, bytes),
        }
    }

    fn publish(&mut self, outgoing: Outgoing) {
        let Outgoing { key, serial, message_id, lines, payload, .. } = outgoing;
        let mut headers = HeaderMap::new();
        headers.insert(chunk::MESSAGE_ID, &*message_id);
        headers.insert(chunk::LINES, &*lines);
        headers.insert(chunk::FROM, self.from.as_str());
        headers.insert(chunk::EXPECTED_STREAM, self.config.stream.as_str());
        let (jetstream, subject) = (self.jetstream.clone(), self.config.subject.clone());
        self.outcomes.spawn(async move {
            let payload = payload.to_vec().into();
            let result = match jetstream.publish_with_headers(subject, headers, payload).await {
                Ok(answer) => answer.await,
                Err(error) => Err(error),
            };
            Outcome::Published { key, serial, result }
        });
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Ask { question } => {
                let (jetstream, stream) = (self.jetstream.clone(), self.config.stream.clone());
                self.outcomes.spawn(async move {
                    let info = stream_info::ask(&jetstream, &stream).await;
                    Outcome::Info { question, info }
                });
            }
            Action::Create { attempt, from } => self.create(attempt, from),
            Action::Pull { attempt, bytes } => {
                if let Some(inbox) = self.inbox.as_ref().filter(|inbox| inbox.attempt == attempt)
                    && let Err(error) =
                        inbox.consumer.request_batch(pull::request(bytes), inbox.subject.clone()).await
                {
                    // The reader hears nothing, and begins again.
                    tracing::debug!("bus: cannot pull: {error}");
                }
            }
            Action::Remove { attempt, why } => {
                tracing::debug!("bus: gave up consumer {attempt}: {why:?}");
                self.outlet.report(Report::Restarted(why));
                if let Some(inbox) = self.inbox.take_if(|inbox| inbox.attempt == attempt) {
                    let (jetstream, stream) = (self.jetstream.clone(), self.config.stream.clone());
                    self.outcomes.spawn(async move {
                        let name = &inbox.consumer.cached_info().name;
                        // If this fails, the server removes it by itself.
                        let _ = jetstream.delete_consumer_from_stream(name, stream).await;
                        Outcome::Done
                    });
                }
            }
            Action::Reconnect => self.reconnect(),
            Action::Skip { hole, last } => self.outlet.report(Report::Skip { hole, last }),
            Action::Complete { asked_at, last } => self.outlet.report(Report::Complete { asked_at, last }),
            Action::Stand(standing) => self.outlet.report(Report::Standing(standing)),
        }
    }

    fn create(&mut self, attempt: u64, from: u64) {
        let config = consumer::Config {
            name: Some(format!("luxcast-{}-{attempt}", self.nonce)),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from },
            ack_policy: AckPolicy::None,
            replay_policy: ReplayPolicy::Instant,
            inactive_threshold: CONSUMER_LIFE,
            num_replicas: 1,
            memory_storage: true,
            ..consumer::Config::default()
        };
        let (client, jetstream, stream) =
            (self.client.clone(), self.jetstream.clone(), self.config.stream.clone());
        self.outcomes.spawn(async move {
            let subject = Subject::from(client.new_inbox());
            let make = async {
                let subscriber =
                    client.subscribe(subject.clone()).await.map_err(|error| error.to_string())?;
                let made = jetstream.create_consumer_on_stream(config, stream).await;
                Ok(Box::new((made.map_err(|error| error.to_string())?, subscriber, subject)))
            };
            let consumer = timeout(ANSWER, make).await.unwrap_or_else(|_| Err("no answer".to_owned()));
            Outcome::Created { attempt, consumer }
        });
    }

    fn handle_outcome(&mut self, outcome: Outcome) {
        let now = self.now();
        match outcome {
            Outcome::Info { question, info: Ok(info) } => {
                self.log.handle_answer(now, Ok(()));
                let message = info.last;
                self.reader.handle_info(now, question, info);
                let possible = self.reader.newest_possible();
                self.outlet.report(Report::Newest { message, possible });
            }
            Outcome::Info { question, info: Err(why) } => {
                self.log.handle_answer(now, Err(&why));
                self.reader.handle_no_info(now, question);
            }
            Outcome::Created { attempt, consumer: Err(why) } => {
                self.log.handle_consumer(now, Err(&why));
                self.reader.handle_not_created(now, attempt);
            }
            Outcome::Created { attempt, consumer: Ok(made) } => {
                self.log.handle_consumer(now, Ok(()));
                let (consumer, subscriber, subject) = *made;
                let pending = consumer.cached_info().num_pending;
                self.inbox = Some(Inbox { attempt, consumer, subscriber, subject });
                self.reader.handle_created(now, attempt, pending);
            }
            Outcome::Published { key, serial, result: Ok(ack) } => {
                self.log.handle_chunk(now, key, Ok(()));
                let (message, is_duplicate) = (ack.sequence, ack.duplicate);
                self.outlet.report(Report::Stored { key, serial, message, is_duplicate });
            }
            Outcome::Published { key, serial, result: Err(error) } => {
                tracing::debug!("bus: a chunk was not taken: {error}");
                self.log.handle_chunk(now, key, Err(&error));
                self.ask_for_room(now, &error);
                self.outlet.report(Report::Failed { key, serial });
            }
            Outcome::Done => {}
        }
    }

    /// A server that takes more than before does not say so to those who are connected.
    fn ask_for_room(&mut self, now: u64, error: &PublishError) {
        let is_due = now >= self.room_asked_at + ROOM_PAUSE_MILLIS;
        if error.kind() == PublishErrorKind::MaxPayloadExceeded && is_due {
            self.room_asked_at = now;
            self.reconnect();
        }
    }

    /// Something came to the inbox of the consumer, or that has ended.
    fn handle_message(&mut self, message: Option<async_nats::Message>) {
        let now = self.now();
        let Some(attempt) = self.inbox.as_ref().map(|inbox| inbox.attempt) else { return };
        let Some(message) = message else {
            self.inbox = None;
            return self.reader.handle_gone(now, attempt);
        };
        match pull::status_of(&message) {
            Some(Status::Alive) => self.reader.handle_alive(now, attempt),
            Some(Status::Gone) => self.reader.handle_gone(now, attempt),
            Some(Status::PullEnded { left, is_too_large }) => {
                self.reader.handle_pull_ended(now, attempt, left, is_too_large);
            }
            None => self.handle_content(now, attempt, message),
        }
    }

    fn handle_content(&mut self, now: u64, attempt: u64, message: async_nats::Message) {
        let bytes = message.length as u64;
        let content = Message { message, context: self.jetstream.clone() };
        let Ok(info) = content.info() else {
            // Somebody else knows the inbox.
            return tracing::debug!("bus: a message that is none of the stream's");
        };
        let arrival = Arrival {
            attempt,
            delivery: info.consumer_sequence,
            message: info.stream_sequence,
            time_nanos: info.published.unix_timestamp_nanos().max(0) as u64,
            pending: info.pending,
            bytes,
        };
        let verdict = self.reader.handle_message(now, arrival);
        let (is_folded, hole) = match verdict {
            Verdict::Drop => return,
            Verdict::Take(hole) => (false, hole),
            Verdict::Fold => (true, None),
        };
        let Arrival { message, time_nanos, .. } = arrival;
        let first = self.reader.epochs().and_then(|epochs| epochs.number(message, 0).ok());
        let first = first.expect("a message that is taken has numbers");
        let async_nats::Message { headers, payload, .. } = content.message;
        let owned = |name| header(headers.as_ref(), name).map(Into::into);
        let received = Received {
            message,
            first,
            time_nanos,
            bytes,
            is_folded,
            hole,
            message_id: owned(chunk::MESSAGE_ID),
            lines: owned(chunk::LINES),
            from: owned(chunk::FROM),
            payload: Box::new(payload),
        };
        self.outlet.report(Report::Message(Box::new(received)));
    }
}

async fn next_message(inbox: &mut Option<Inbox>) -> Option<async_nats::Message> {
    match inbox {
        Some(inbox) => inbox.subscriber.next().await,
        None => pending().await,
    }
}

async fn sleep_or_never(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}
