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
use async_nats::{Event, HeaderMap, Subject, Subscriber};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::bus::chunk;
use crate::bus::reader::Reader;
use crate::bus::verdict::{Action, Info, Restart};
use crate::bus::writer::{LaneKey, Outgoing};
use crate::net::bus::alone::{self, Alone};
use crate::net::bus::begin::{self, BeginAt, Begun};
use crate::net::bus::client::{ANSWER, Link, last_panic, note_bus_thread};
use crate::net::bus::connect::BusConfig;
use crate::net::bus::handle::{BusHandle, Command, Outlet, Report, ends};
use crate::net::bus::log::{Log, words_of};
use crate::net::bus::pull;
use crate::net::bus::stream_info;
use crate::net::clock::Clock;
use crate::net::ingest::handle::IngestWaker;

/// A consumer that nobody pulls from is removed by the server after so long.
const CONSUMER_LIFE: Duration = Duration::from_secs(20);

/// Between two connections that are made anew because a line is too long for the server.
const ROOM_PAUSE_MILLIS: u64 = 10_000;

/// At the end, the server has so long to remove the consumer.
const LEAVE: Duration = Duration::from_millis(500);

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
    ReadAlone { attempt: u64, from: u64, result: Result<Option<Alone>, String> },
    Published { key: LaneKey, serial: u64, result: Result<PublishAck, PublishError> },
    Done,
}

/// The consumer in use, and the inbox that its messages come to.
pub(super) struct Inbox {
    pub attempt: u64,
    consumer: Consumer<consumer::Config>,
    subscriber: Subscriber,
    subject: Subject,
}

pub(super) struct Bus {
    config: BusConfig,
    name: &'static str,
    pub reader: Reader,
    nonce: String,
    from: String,
    pub outlet: Outlet,
    commands: UnboundedReceiver<Command>,
    clock: Clock,
    pub link: Link,
    /// The client has died; when another one is made.
    revives_at: Option<Instant>,
    pub inbox: Option<Inbox>,
    /// Consumers whose connection has ended, by name.
    leftovers: Vec<String>,
    /// The last message with headers that no client can read.
    pub last_odd: Option<u64>,
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
        note_bus_thread();
        runtime.block_on(async {
            let Some(bus) = self.begin().await? else { return Ok(()) };
            bus.run().await
        })
    }

    /// Connects, and finds out where to begin. None: that is not wanted any more, or never will be.
    async fn begin(self) -> io::Result<Option<Bus>> {
        let Self { parts, outlet, mut commands } = self;
        let BusParts { config, name, begin_at, nonce, host, clock, ingest: _ } = parts;
        let mut link = match Link::open(&config, name).await {
            Ok(link) => link,
            Err(error) => {
                outlet.report(Report::Unfit(error.to_string()));
                return Ok(None);
            }
        };
        let begun = loop {
            let work = begin::begin(&link.client, &link.jetstream, &config, &begin_at);
            match before_end(work, &mut commands, &mut link.events, &outlet).await {
                None => return Ok(None),
                Some(Ok(begun)) => break begun,
                Some(Err(begin::Failure::Unfit(why))) => {
                    outlet.report(Report::Unfit(why));
                    return Ok(None);
                }
                Some(Err(begin::Failure::NoAnswer(why))) => {
                    // Without a connection, the words about that are better.
                    if link.client.connection_state() == State::Connected {
                        outlet.report(Report::Trouble(why));
                    }
                }
            }
            if before_end(sleep(PAUSE), &mut commands, &mut link.events, &outlet).await.is_none() {
                return Ok(None);
            }
        };
        let Begun { from, beginning } = begun;
        let mut reader = Reader::new(from, beginning.passed_from, beginning.accounts_millis);
        let log = Log::new(&config, beginning.bounds);
        outlet.report(Report::Begun(Box::new(beginning)));
        // Of what has happened so far, only this counts.
        while link.events.try_recv().is_ok() {}
        if link.client.connection_state() == State::Connected {
            reader.handle_connected(clock.read().now.millis);
        }
        let from = format!("{host}.{nonce}");
        Ok(Some(Bus {
            config,
            name,
            reader,
            nonce,
            from,
            outlet,
            commands,
            clock,
            link,
            revives_at: None,
            inbox: None,
            leftovers: Vec::new(),
            last_odd: None,
            outcomes: JoinSet::new(),
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
    pub fn now(&self) -> u64 {
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
                event = self.link.events.recv(), if self.revives_at.is_none() => match event {
                    Some(event) => self.handle_event(&event),
                    None => self.handle_death(),
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                Some(outcome) = self.outcomes.join_next() => self.handle_outcome(outcome.map_err(io::Error::other)?),
                message = next_message(&mut self.inbox) => self.handle_message(message),
                () = sleep_or_never(due) => {
                    let now = self.now();
                    self.reader.handle_due(now);
                }
                () = sleep_or_never(self.revives_at) => self.revive().await,
            }
        }
        self.leave().await;
        Ok(())
    }

    /// Leaves no consumer behind, if the server is there.
    async fn leave(mut self) {
        if let Some(inbox) = self.inbox.take() {
            let name = &inbox.consumer.cached_info().name;
            let removal = self.link.jetstream.delete_consumer_from_stream(name, &self.config.stream);
            // If this fails, the server removes it by itself.
            let _ = timeout(LEAVE, removal).await;
        }
    }

    /// The client's task has ended.
    fn handle_death(&mut self) {
        tracing::warn!("bus: the client has died of something that came from the server: {}", last_panic());
        self.lose_connection();
        self.revives_at = Some(Instant::now() + PAUSE);
    }

    async fn revive(&mut self) {
        match Link::open(&self.config, self.name).await {
            Ok(link) => (self.link, self.revives_at) = (link, None),
            Err(error) => {
                tracing::error!("bus: cannot connect again: {error}");
                self.revives_at = Some(Instant::now() + PAUSE);
            }
        }
    }

    /// Takes what came before the connection ended: what ended it is the next message, if it was one.
    fn lose_connection(&mut self) {
        while let Some(inbox) = &mut self.inbox
            && let Some(Some(message)) = inbox.subscriber.next().now_or_never()
        {
            self.handle_message(Some(message));
        }
        // A new connection would ask for the rest of it.
        if let Some(inbox) = self.inbox.take() {
            self.leftovers.push(inbox.consumer.cached_info().name.clone());
        }
        self.reader.handle_disconnected();
    }

    fn handle_event(&mut self, event: &Event) {
        let now = self.now();
        match event {
            Event::Connected => {
                self.log.handle_connected(&self.link.client.server_info());
                std::mem::take(&mut self.leftovers).into_iter().for_each(|name| self.remove(name));
                self.reader.handle_connected(now);
            }
            Event::Disconnected | Event::Closed => {
                self.log.handle_disconnected();
                self.lose_connection();
            }
            other => self.log.handle_event(other),
        }
    }

    /// Makes the connection anew; another server may be better.
    fn reconnect(&mut self) {
        if self.link.client.connection_state() == State::Connected {
            self.log.handle_wanted_anew();
        }
        let client = self.link.client.clone();
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
        let (jetstream, subject) = (self.link.jetstream.clone(), self.config.subject.clone());
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
                let (jetstream, stream) = (self.link.jetstream.clone(), self.config.stream.clone());
                self.outcomes.spawn(async move {
                    let info = stream_info::ask(&jetstream, &stream).await;
                    Outcome::Info { question, info }
                });
            }
            Action::Create { attempt, from } => self.create(attempt, from),
            Action::ReadAlone { attempt, from } => {
                let (jetstream, stream) = (self.link.jetstream.clone(), self.config.stream.clone());
                self.outcomes.spawn(async move {
                    let result = alone::read(&jetstream, &stream, alone::From::Message(from)).await;
                    Outcome::ReadAlone { attempt, from, result }
                });
            }
            Action::Pull { attempt, bytes } => {
                if let Some(inbox) = self.inbox.as_ref().filter(|inbox| inbox.attempt == attempt)
                    && let Err(error) =
                        inbox.consumer.request_batch(pull::request(bytes), inbox.subject.clone()).await
                {
                    // The reader hears nothing, and begins again.
                    tracing::debug!("bus: cannot pull: {error}");
                }
            }
            Action::Remove { attempt, why } => self.give_up(attempt, why),
            Action::Reconnect => self.reconnect(),
            Action::Skip { hole, last } => self.outlet.report(Report::Skip { hole, last }),
            Action::Complete { asked_at, last } => self.outlet.report(Report::Complete { asked_at, last }),
            Action::Stand(standing) => self.outlet.report(Report::Standing(standing)),
        }
    }

    fn give_up(&mut self, attempt: u64, why: Restart) {
        tracing::debug!("bus: gave up consumer {attempt}: {why:?}");
        self.outlet.report(Report::Restarted(why));
        if let Some(inbox) = self.inbox.take_if(|inbox| inbox.attempt == attempt) {
            self.remove(inbox.consumer.cached_info().name.clone());
        }
    }

    /// Removes a consumer. If this fails, the server removes it by itself.
    fn remove(&mut self, name: String) {
        let (jetstream, stream) = (self.link.jetstream.clone(), self.config.stream.clone());
        self.outcomes.spawn(async move {
            let _ = jetstream.delete_consumer_from_stream(&name, stream).await;
            Outcome::Done
        });
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
            (self.link.client.clone(), self.link.jetstream.clone(), self.config.stream.clone());
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
                self.reader.handle_info(now, question, info.clone());
                let (possible, given) = (self.reader.newest_possible(), self.reader.newest_given(&info));
                self.outlet.report(Report::Newest { message, possible, given });
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
                self.reader.handle_created(now, attempt, pending);
                if self.reader.has_consumer(attempt) {
                    self.inbox = Some(Inbox { attempt, consumer, subscriber, subject });
                } else {
                    self.remove(consumer.cached_info().name.clone());
                }
            }
            Outcome::ReadAlone { attempt, result: Ok(Some(found)), .. } => self.handle_alone(attempt, found),
            Outcome::ReadAlone { attempt, result: Ok(None), .. } => {
                self.reader.handle_none_alone(now, attempt);
            }
            Outcome::ReadAlone { attempt, from, result: Err(why) } => {
                tracing::warn!(
                    "bus: the connection ends before message {from}, which cannot be read alone either: {why}"
                );
                self.reader.handle_not_alone(now, attempt);
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
