//! One client's session: turns its messages into changes of what it watches, and into answers.

use crate::access::rights::Permit;
use crate::access::token_bucket::TokenBucket;
use crate::close::CloseReason;
use crate::delivery::filter::{Filter, TooManyNames};
use crate::delivery::sink::Sink;
use crate::delivery::watchers::WatchRequest;
use crate::metrics::{OBEYED, PROTOCOL};
use crate::session::context::{SessionContext, Verdict};
use crate::session::echo;
use crate::session::endpoint::{Endpoint, Opening, View};
use crate::session::limits::{GARBAGE_MAX, IS_ECHO, MULTI_JOB_BURST};
use crate::stream::directory::Directory;
use crate::stream::topic::{Topic, TopicKind};
use crate::wire::client_action::{Action, ActionError, EventNames, Since, parse_action};
use crate::wire::frame;
use crate::wire::framing::Framing;
use crate::wire::http::Refusal;
use crate::wire::message_reader::Message;
use crate::wire::stamp::Stamp;
use crate::wire::watcher_message;

/// Room for the HTTP answer, the greeting and a snapshot.
const OPENING_BYTES: usize = 640;

pub struct Session {
    permit: Permit,
    allowance: TokenBucket,
    view: View,
    framing: Framing,
    /// Messages in a row that could not be obeyed.
    garbage: u8,
}

impl Session {
    /// Begins what `opening` asks for: the greeting, the past, the events. `accept` writes the HTTP answer before them.
    pub fn open<O: Sink>(
        opening: &Opening,
        context: &mut SessionContext<'_, O>,
        accept: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Session, Refusal> {
        if IS_ECHO {
            context.watchers.enqueue_control(context.key, accept);
            let allowance = TokenBucket::new(context.limits.messages_burst, context.tick);
            return Ok(Self::new(opening, allowance, View::Events));
        }
        let is_multi_job = opening.endpoint == Endpoint::MultiJob;
        let is_debug = matches!(opening.endpoint, Endpoint::JobDebug(_));
        let filter = unfiltered(&opening.permit, is_debug, is_multi_job);
        let filter = match &opening.events {
            Some(names) => filter.only(names).map_err(|_| Refusal::bad_parameter("too many event names"))?,
            None => filter,
        };
        let SessionContext { key, watchers, sink, limits, .. } = context;
        let (view, kind, name) = match &opening.endpoint {
            Endpoint::JobMonitor(id) => (View::JobMonitor, TopicKind::Job, id.as_str()),
            Endpoint::JobDebug(id) => (View::JobDebug, TopicKind::Job, id.as_str()),
            Endpoint::FlowMonitor(id) => (View::FlowMonitor, TopicKind::Flow, id.as_str()),
            Endpoint::Events => (View::Events, TopicKind::All, ""),
            Endpoint::MultiJob => {
                watchers.watch_many(*key, filter, opening.framing);
                let newest = sink.published();
                watchers.enqueue_control(*key, |out| {
                    accept(out);
                    watcher_message::multi_connected(out, newest);
                });
                let burst = MULTI_JOB_BURST.max(limits.messages_burst);
                return Ok(Self::new(opening, TokenBucket::new(burst, context.tick), View::MultiJob));
            }
            Endpoint::Text(_) | Endpoint::Page(_) | Endpoint::Data(_) | Endpoint::Options(_) => {
                panic!("plain HTTP is answered without a session")
            }
        };
        if opening.since != Since::Now {
            sink.hold_history();
        }
        let now = watchers.now;
        let has_snapshot = view == View::JobMonitor;
        let unix_micros = context.unix_micros;
        let directory = watchers.directory.clone();
        let started = watchers.watch(
            *key,
            WatchRequest { kind, name, filter, since: opening.since, framing: opening.framing },
            |out| {
                out.reserve(OPENING_BYTES);
                accept(out);
            },
            || sink.published(),
            |topic, newest, is_metrics_wanted, out| {
                watcher_message::connected(out, &now, newest);
                if has_snapshot && is_metrics_wanted {
                    write_snapshot(topic, &directory, (&now, unix_micros), out);
                }
            },
        );
        started.map_err(|_| Refusal::full("the daemon has as many jobs and flows as topics_max allows"))?;
        let allowance = TokenBucket::new(limits.messages_burst, context.tick);
        Ok(Self::new(opening, allowance, view))
    }

    fn new(opening: &Opening, allowance: TokenBucket, view: View) -> Self {
        let Opening { permit, framing, .. } = opening;
        Self { permit: permit.clone(), allowance, view, framing: *framing, garbage: 0 }
    }

    /// What its token allows.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// Which kind of endpoint it watches.
    pub fn view(&self) -> View {
        self.view
    }

    /// It is an HTTP answer: its client is not heard of any more.
    pub fn is_plain(&self) -> bool {
        self.framing.is_http()
    }

    /// Compression was agreed on.
    pub fn is_compressed(&self) -> bool {
        self.framing.is_compressed()
    }

    pub fn is_multi_job(&self) -> bool {
        self.view == View::MultiJob
    }

    /// Obeys one message, or answers why not. The caller answers protocol pings.
    pub fn handle_message<O: Sink>(
        &mut self,
        message: &Message<'_>,
        context: &mut SessionContext<'_, O>,
    ) -> Verdict {
        let limits = context.limits;
        let burst = if self.is_multi_job() {
            MULTI_JOB_BURST.max(limits.messages_burst)
        } else {
            limits.messages_burst
        };
        if let Err(reason) = self.allowance.spend(context.tick, limits.messages_per_second, burst) {
            return Verdict::Close(reason);
        }
        if IS_ECHO {
            return echo::handle_message(message, context);
        }
        let obeyed = match message {
            Message::Text(text) => match parse_action(text, self.is_multi_job()) {
                Ok(action) => self.obey(action, context),
                Err(error) => Err(error),
            },
            Message::Binary(_) => Err(ActionError::binary()),
            Message::Ping(_) => {
                context.count(PROTOCOL);
                return Verdict::Continue;
            }
            Message::Pong(_) => {
                context.count(PROTOCOL);
                self.garbage = 0;
                return Verdict::Continue;
            }
            Message::Close(code) => {
                context.count(PROTOCOL);
                return Verdict::Echo(*code);
            }
        };
        match obeyed {
            Ok(()) => {
                context.count(OBEYED);
                self.garbage = 0;
            }
            Err(error) => {
                context.count(error.place());
                self.garbage += u8::from(error.is_garbage());
                context.watchers.enqueue_control(context.key, |out| {
                    watcher_message::error(out, error.code, &error.message, error.job_id.as_deref());
                });
                if self.garbage >= GARBAGE_MAX {
                    return Verdict::Close(CloseReason::Garbage);
                }
            }
        }
        Verdict::Continue
    }

    /// Sends a heartbeat with the connection's position.
    pub fn beat<O: Sink>(&self, context: &mut SessionContext<'_, O>) {
        context.watchers.flush_one(context.key, context.sink);
        let (at, position) = (context.watchers.now, context.watchers.position(context.key));
        context.watchers.enqueue_control(context.key, |out| {
            watcher_message::ping(out, &at, position);
            if self.is_multi_job() {
                watcher_message::pong(out);
            }
            frame::write_ping(out, b"");
        });
    }

    /// Says whether the stream that this daemon shares with others is away, with the connection's position.
    pub fn tell_standing<O: Sink>(&self, is_away: bool, context: &mut SessionContext<'_, O>) {
        context.watchers.flush_one(context.key, context.sink);
        let (at, position) = (context.watchers.now, context.watchers.position(context.key));
        context
            .watchers
            .enqueue_control(context.key, |out| watcher_message::standing(out, &at, position, is_away));
    }

    /// The daemon drains: sends the connection's position and when to come back. The caller sends the close frame.
    pub fn say_goodbye<O: Sink>(&self, retry_millis: u64, context: &mut SessionContext<'_, O>) {
        context.watchers.flush_one(context.key, context.sink);
        let (at, position) = (context.watchers.now, context.watchers.position(context.key));
        context.watchers.enqueue_control(context.key, |out| {
            watcher_message::disconnected(out, &at, position, "draining", retry_millis)
        });
    }

    fn obey<O: Sink>(
        &mut self,
        action: Action,
        context: &mut SessionContext<'_, O>,
    ) -> Result<(), ActionError> {
        match action {
            Action::Subscribe(names) => {
                self.change_filter(context, "subscribe", Some(&names), Filter::subscribe)
            }
            Action::Unsubscribe(names) => {
                self.change_filter(context, "unsubscribe", names.as_ref(), Filter::unsubscribe)
            }
            Action::SubscribeAll => self.change_filter(context, "subscribe_all", None, |filter, _| {
                filter.subscribe_all();
                Ok(())
            }),
            Action::Ping => {
                context.watchers.enqueue_control(context.key, watcher_message::pong);
                Ok(())
            }
            Action::Pong => Ok(()),
            Action::SubscribeJob { job_id, .. } if !self.permit.may_watch_job(&job_id) => {
                Err(ActionError::forbidden(&job_id))
            }
            Action::SubscribeJob { job_id, since } => subscribe_job(context, &job_id, since),
            Action::UnsubscribeJob { job_id } => {
                match context.watchers.unsubscribe_job(context.key, &job_id) {
                    true => context
                        .watchers
                        .enqueue_control(context.key, |out| watcher_message::unsubscribed(out, &job_id)),
                    false => context
                        .watchers
                        .enqueue_control(context.key, |out| watcher_message::not_subscribed(out, &job_id)),
                }
                Ok(())
            }
        }
    }

    /// Changes the filter between two events. What the old filter lets through is sent before the confirmation, as far
    /// as the socket takes it. The new filter judges all that comes after.
    fn change_filter<O: Sink>(
        &mut self,
        context: &mut SessionContext<'_, O>,
        action: &str,
        names: Option<&EventNames>,
        change: impl FnOnce(&mut Filter, &[String]) -> Result<(), TooManyNames>,
    ) -> Result<(), ActionError> {
        let watcher = &context.watchers.watchers[context.key];
        let mut filter = match &watcher.filter {
            Some(filter) => Filter::clone(filter),
            None => unfiltered(&self.permit, self.view == View::JobDebug, self.is_multi_job()),
        };
        let mut is_change = names.is_some() || action == "subscribe_all";
        if is_change {
            let list = names.map_or(&[][..], |names| &names.names);
            let before = filter.clone();
            change(&mut filter, list).map_err(|_| ActionError::too_many_names())?;
            // A filter that stays the same costs nothing.
            is_change = filter != before;
        }
        if is_change {
            context.watchers.flush_one(context.key, context.sink);
        }
        let echo = names.map_or("[]", |names| names.echo.as_str());
        context.watchers.enqueue_control(context.key, |out| watcher_message::confirmed(out, action, echo));
        if is_change {
            context.watchers.set_filter(context.key, filter);
        }
        Ok(())
    }
}

/// The filter that passes all that the endpoint delivers to this permit.
fn unfiltered(permit: &Permit, is_debug: bool, is_multi_job: bool) -> Filter {
    let all = Filter::all(is_debug, is_multi_job);
    if permit.may_debug() { all } else { all.without_breakpoints() }
}

fn subscribe_job<O: Sink>(
    context: &mut SessionContext<'_, O>,
    job_id: &str,
    since: Since,
) -> Result<(), ActionError> {
    let SessionContext { key, watchers, sink, limits, .. } = context;
    if watchers.is_subscribed(*key, job_id) {
        watchers.enqueue_control(*key, |out| watcher_message::already_subscribed(out, job_id));
        return Ok(());
    }
    if watchers.job_count(*key) >= limits.jobs_max {
        let message = format!("this connection watches {} jobs, the most it may", limits.jobs_max);
        return Err(ActionError::too_many_jobs(message, job_id));
    }
    if since != Since::Now {
        sink.hold_history();
    }
    let subscriber = format!("{}-{key:?}", watchers.shard);
    let subscribed = watchers.subscribe_job(
        *key,
        job_id,
        since,
        || sink.published(),
        |newest, out| watcher_message::subscribed(out, job_id, &subscriber, newest),
    );
    subscribed.map_err(|_| {
        ActionError::too_many_jobs(
            "the daemon has as many jobs and flows as topics_max allows".to_owned(),
            job_id,
        )
    })
}

/// Writes a job's figures for a new watcher; nothing if the daemon does not know the job, or only a part of it.
fn write_snapshot(
    topic: &Topic,
    directory: &Directory,
    (now, unix_micros): (&Stamp, i64),
    out: &mut Vec<u8>,
) {
    let job = {
        let log = topic.log.lock();
        (log.head() > 0 && !directory.knows_part_of(topic, &log)).then_some(log.job)
    };
    if let Some(job) = job {
        watcher_message::metrics(out, now, &topic.name, &job.metrics(unix_micros));
    }
}
