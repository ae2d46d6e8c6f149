//! The feed of a daemon that shares its stream with others (`bus`): good lines go out as chunks, and what the stream has
//! comes back with its numbers. Only that becomes events.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::access::patterns::Patterns;
use crate::bus::chunk::{Bounds, token_of_connection, token_of_name};
use crate::bus::lane::NewLine;
use crate::bus::verdict::{Hole, Standing};
use crate::bus::writer::{LaneKey, Writer};
use crate::metrics::BusCounters;
use crate::net::bus::handle::{Beginning, BusHandle, Command, Received, Report};
use crate::net::ingest::follower::{Followed, Follower};
use crate::stream::directory::Directory;
use crate::stream::now::Now;
use crate::stream::sequencer::Sequencer;
use crate::wire::line::{Control, Line, LineError, LineReader};

/// Bytes of messages that are taken in one turn, so that watchers and publishers wait for no more than that.
const TURN_BYTES: u64 = 1 << 20;

/// The log is told no more often of publishers that wait for the server to forget an id, or of lines that are left out.
const TOLD_MILLIS: u64 = 60_000;

/// Watchers are told of an outage only if it lasts.
const AWAY_MILLIS: u64 = 3_000;

/// What a line is worth that a publisher has sent.
pub enum Pushed<'a> {
    /// It will come back with a number.
    Event,
    /// Its publisher sent it before.
    Repeated,
    /// With the line as it came.
    Control(Control<'a>),
}

/// A line to push, beside its bytes.
pub struct BusLine<'a> {
    pub number: u64,
    pub length: usize,
    /// The ids that it may have; None: all.
    pub covered: Option<&'a Patterns>,
}

/// What the shared stream has to begin with.
pub struct SharedParts {
    pub handle: BusHandle,
    pub beginning: Box<Beginning>,
    pub directory: Arc<Directory>,
    pub nonce: String,
}

pub struct SharedStream {
    handle: BusHandle,
    writer: Writer,
    follower: Follower,
    reader: LineReader,
    directory: Arc<Directory>,
    nonce: String,
    connections: u64,
    standing: Standing,
    /// Since when it is away.
    away_since: Option<u64>,
    /// Watchers know that it is.
    is_away_told: bool,
    /// All that the stream had at that time has been taken.
    complete_at: Option<u64>,
    /// The number of the last line of the last message. A line that is no event, or came before, uses one up as well.
    last_number: u64,
    /// Publishers by their lanes: each connection has its own, but those of one name share one.
    publishers: HashMap<LaneKey, Vec<usize>, RandomState>,
    /// Publishers that are not read until there is room for their lines.
    parked: Vec<usize>,
    /// Publishers that wait for their welcome, each since when.
    greeting: Vec<(usize, u64)>,
    window_millis: u64,
    /// When the log was told that a publisher waits for the server to forget an id; of lines that are lost, or none.
    locked_out_told_at: Option<u64>,
    out_of_bounds_told_at: Option<u64>,
    refused_told_at: Option<u64>,
    /// The log was told that there is no room for the jobs or flows of others' events.
    is_crowding_told: bool,
    /// A line as it came, since parsing changes it.
    pub text: Vec<u8>,
}

impl SharedStream {
    pub fn new(parts: SharedParts) -> Self {
        let SharedParts { handle, beginning, directory, nonce } = parts;
        let Bounds { line_bytes_max, depth_max } = beginning.bounds;
        Self {
            handle,
            writer: Writer::new(beginning.window_millis, beginning.chunk_bytes_max),
            follower: Follower::new(beginning.accounts_millis, line_bytes_max),
            reader: LineReader::new(depth_max),
            directory,
            nonce,
            connections: 0,
            standing: Standing::Away,
            away_since: None,
            is_away_told: false,
            complete_at: None,
            last_number: 0,
            publishers: HashMap::default(),
            parked: Vec::new(),
            greeting: Vec::new(),
            window_millis: beginning.window_millis,
            locked_out_told_at: None,
            out_of_bounds_told_at: None,
            refused_told_at: None,
            is_crowding_told: false,
            text: Vec::new(),
        }
    }

    pub fn standing(&self) -> Standing {
        self.standing
    }
}

/// Publishers and their lines.
impl SharedStream {
    /// The lane of a new connection, which has no name yet.
    pub fn enter(&mut self, publisher: usize) -> LaneKey {
        self.connections += 1;
        let token = token_of_connection(&self.nonce, self.connections);
        let lane = self.writer.open(&token, 0);
        self.publishers.entry(lane).or_default().push(publisher);
        lane
    }

    /// The connection has said whose lines it sends. Returns the lane of that name and the last line of it in the stream.
    pub fn name(&mut self, publisher: usize, lane: LaneKey, name: &str) -> (LaneKey, u64) {
        self.leave(publisher, lane);
        let token = token_of_name(name);
        let lane = self.writer.open(&token, self.follower.accepted(&token));
        self.publishers.entry(lane).or_default().push(publisher);
        (lane, self.writer.accepted(lane))
    }

    /// The connection has ended, or uses another lane. What it has sent goes into the stream all the same.
    pub fn leave(&mut self, publisher: usize, lane: LaneKey) {
        if let Some(publishers) = self.publishers.get_mut(&lane) {
            publishers.retain(|&other| other != publisher);
            if publishers.is_empty() {
                self.publishers.remove(&lane);
            }
        }
        self.writer.close(lane);
        self.parked.retain(|&other| other != publisher);
        self.greeting.retain(|&(other, _)| other != publisher);
    }

    /// The next line of the lane has this number.
    pub fn number_from(&mut self, lane: LaneKey, line: u64) {
        self.writer.number_from(lane, line);
    }

    /// Takes a trimmed line, `block[..line.length]`, with [`PADDING`](crate::wire::line::PADDING) bytes behind it. The block may be edited, and
    /// [`SharedStream::text`] has the line as it came.
    ///
    /// # Errors
    /// What is wrong with it, or there is no room for its job or flow, as far as this daemon knows.
    pub fn push<'a>(
        &'a mut self,
        lane: LaneKey,
        line: BusLine<'_>,
        block: &'a mut [u8],
        sequencer: &mut Sequencer,
    ) -> Result<Pushed<'a>, LineError> {
        let BusLine { number, length, covered } = line;
        self.text.clear();
        self.text.extend_from_slice(&block[..length]);
        let fields = match self.reader.read(block, length, self.text.get(1..).unwrap_or_default())? {
            Line::Control(control) => return Ok(Pushed::Control(control)),
            Line::Event(fields) => fields,
        };
        let ids = [fields.job_id, fields.flow_id, fields.data_flow_id];
        if covered.is_some_and(|patterns| !patterns.cover_all(ids)) {
            return Err(LineError::Forbidden);
        }
        let flow = fields.flow_id.or(fields.data_flow_id);
        sequencer.check_room(fields.job_id, flow)?;
        let line = NewLine { number, text: &self.text, job: fields.job_id, flow };
        Ok(if self.writer.push(lane, &line) { Pushed::Event } else { Pushed::Repeated })
    }

    /// All lines up to this one were dealt with: pushed, refused, obeyed or skipped.
    pub fn note(&mut self, lane: LaneKey, number: u64) {
        self.writer.note(lane, number);
    }

    /// Whether a line with this number was pushed before, or is in the stream.
    pub fn is_repeated(&self, lane: LaneKey, number: u64) -> bool {
        number <= self.writer.taken(lane)
    }

    /// Whether a publisher of the lane may be read. If not, it is parked until it may.
    pub fn has_room_or_parks(&mut self, publisher: usize, lane: LaneKey) -> bool {
        let has_room = self.writer.has_room_for(lane);
        if !has_room {
            self.parked.push(publisher);
        }
        has_room
    }

    /// A parked publisher that may be read again. `lane_of` is asked for the lane of each.
    pub fn unpark(&mut self, lane_of: impl Fn(usize) -> LaneKey) -> Option<usize> {
        let place = self.parked.iter().position(|&key| self.writer.has_room_for(lane_of(key)))?;
        Some(self.parked.remove(place))
    }

    /// Whether all that the stream has now is known, so that a publisher can be told what it has of its lines. If not, the
    /// publisher waits for its welcome.
    pub fn knows_or_waits(&mut self, publisher: usize, now: u64, since: Option<u64>) -> bool {
        if since.is_some_and(|since| self.complete_at >= Some(since)) {
            return true;
        }
        self.greeting.push((publisher, now));
        self.handle.send(Command::Hurry);
        false
    }

    /// A publisher that can have its welcome now.
    pub fn next_known(&mut self) -> Option<usize> {
        let place = self.greeting.iter().position(|&(_, since)| self.complete_at >= Some(since))?;
        Some(self.greeting.remove(place).0)
    }

    /// All lines up to this one are in the stream and visible here, or were no events.
    pub fn dealt(&self, lane: LaneKey) -> u64 {
        self.writer.dealt(lane)
    }

    /// The last line of the lane's name that is in the stream.
    pub fn accepted(&self, lane: LaneKey) -> u64 {
        self.writer.accepted(lane)
    }

    /// The publishers of a lane of which more can be told than before, and a number that all those lines are at or below.
    pub fn next_ack(&mut self) -> Option<(&[usize], u64)> {
        loop {
            let ack = self.writer.next_ack()?;
            if self.publishers.contains_key(&ack.key) {
                return Some((&self.publishers[&ack.key], ack.stream_seq));
            }
        }
    }

    /// All that was taken is in the stream.
    pub fn is_idle(&self) -> bool {
        self.writer.is_idle()
    }

    /// Bytes of lines that are not in the stream yet.
    pub fn bytes(&self) -> usize {
        self.writer.bytes()
    }
}

/// The stream.
impl SharedStream {
    /// Whether there is something to take.
    pub fn is_busy(&self) -> bool {
        !self.handle.reports.is_empty()
    }

    /// When [`SharedStream::send`] or [`SharedStream::take_news`] may have something to do.
    pub fn due(&self) -> Option<u64> {
        let news = self.away_since.filter(|_| !self.is_away_told).map(|since| since + AWAY_MILLIS);
        [self.writer.due(), news].into_iter().flatten().min()
    }

    /// Takes what the bus thread has reported, or a part of it. True: the sequencer has something to publish.
    pub fn take_reports(&mut self, now: Now, sequencer: &mut Sequencer, counters: &BusCounters) -> bool {
        let (mut bytes, mut is_any) = (0, false);
        while bytes < TURN_BYTES
            && let Ok(report) = self.handle.reports.try_recv()
        {
            match report {
                Report::Message(received) => {
                    bytes += received.bytes;
                    is_any |= !received.is_folded;
                    self.take(&received, now, sequencer, counters);
                }
                Report::Skip { hole, last } => {
                    is_any = true;
                    self.follower.skip(hole, sequencer);
                    note_hole(hole, counters);
                    self.writer.handle_hole(now.millis, last);
                }
                other => self.handle_report(now.millis, other, counters),
            }
        }
        is_any
    }

    fn handle_report(&mut self, now: u64, report: Report, counters: &BusCounters) {
        match report {
            Report::Complete { asked_at, .. } => {
                self.complete_at = Some(asked_at);
                self.writer.handle_complete(now, asked_at);
            }
            Report::Stored { key, serial, message, is_duplicate } => {
                self.writer.handle_stored(now, key, serial, message, is_duplicate);
            }
            Report::Failed { key, serial } => self.writer.handle_failed(now, key, serial),
            Report::Newest { message, possible, given } => {
                counters.newest_message.set(message);
                self.directory.set_newest_possible(possible);
                given.into_iter().for_each(|given| self.directory.note_newest_given(given));
            }
            Report::Standing(standing) => {
                self.standing = standing;
                self.away_since = match standing {
                    Standing::Following => None,
                    Standing::CatchingUp => self.away_since,
                    Standing::Away | Standing::Stopped(_) => self.away_since.or(Some(now)),
                };
                self.writer.set_away(!self.is_connected());
                if let Standing::Stopped(why) = standing {
                    let newest = self.newest_given();
                    tracing::error!(
                        "bus: the feed has stopped: {why}; the newest number given here is {newest}"
                    );
                }
                counters.connected.set(u64::from(self.is_connected()));
            }
            Report::Restarted(_) => counters.reader_restarts.add(1),
            Report::Trouble(words) => tracing::warn!("bus: {words}"),
            Report::Unfit(why) => tracing::error!("bus: {why}"),
            Report::Begun(_) | Report::Message(_) | Report::Skip { .. } => {}
        }
    }

    /// What watchers are to be told now, if anything: whether the stream is away.
    pub fn take_news(&mut self, now: u64) -> Option<bool> {
        let is_away = match self.away_since {
            None => false,
            Some(since) => self.is_away_told || now >= since + AWAY_MILLIS,
        };
        (std::mem::replace(&mut self.is_away_told, is_away) != is_away).then_some(is_away)
    }

    /// Whatever follows elsewhere needs greater numbers than this one.
    pub fn newest_given(&self) -> u64 {
        self.directory.published().max(self.last_number)
    }

    fn is_connected(&self) -> bool {
        matches!(self.standing, Standing::CatchingUp | Standing::Following)
    }

    /// Gives the lines of a message to the sequencer.
    fn take(&mut self, received: &Received, now: Now, sequencer: &mut Sequencer, counters: &BusCounters) {
        let followed = self.follower.take(received, now, sequencer);
        self.tell_refused(received, &followed, now.millis);
        let Followed { refused, out_of_bounds, repeated, displaced, passed } = followed;
        if !received.is_folded {
            self.last_number = passed.stream_seq;
            if let Some(hole) = received.hole {
                note_hole(hole, counters);
            }
            counters.displaced_lines.add(displaced);
            counters.holes.add(out_of_bounds);
            if displaced > 0 && !std::mem::replace(&mut self.is_crowding_told, true) {
                tracing::warn!(
                    "bus: watchers keep as many jobs or flows known as may be (jobs_max, topics_max): events of further ones reach only those who watch all events; this is said once"
                );
            }
            counters.refused_lines.add(refused);
            counters.duplicate_lines.add(repeated);
            counters.messages.add(1);
            counters.bytes.add(received.bytes);
        }
        counters.last_message.set(received.message);
        counters.last_message_millis.set(received.time_nanos / 1_000_000);
        self.writer.handle_passed(now.millis, passed);
        self.handle.send(Command::Release(received.bytes));
    }

    /// Sends the chunks that are due.
    pub fn send(&mut self, now: u64, sequencer: &mut Sequencer, counters: &BusCounters) {
        while let Some(outgoing) = self.writer.next(now, |job| sequencer.flow_of(job)) {
            counters.messages_out.add(1);
            counters.bytes_out.add(outgoing.payload.len() as u64);
            self.handle.send(Command::Publish(outgoing));
        }
        self.tell_locked_out(now);
        counters.waiting_bytes.set(self.writer.bytes() as u64);
        counters.retries.set(self.writer.retries);
    }
}

impl SharedStream {
    /// Daemons put nothing into the stream that one of them would leave out.
    fn tell_refused(&mut self, received: &Received, followed: &Followed<'_>, now: u64) {
        let Followed { refused, out_of_bounds: lost, .. } = *followed;
        let message = received.message;
        if lost > 0 && is_due(&mut self.out_of_bounds_told_at, now) {
            tracing::warn!(
                "bus: message {message} of the stream has {lost} lines that are longer or deeper than the stream allows, or \
                 too many: they are lost, and watchers get a gap"
            );
        }
        // Of bad headers there was word already.
        let others = refused.saturating_sub(lost + u64::from(received.headers.is_none()));
        if others > 0 && is_due(&mut self.refused_told_at, now) {
            tracing::warn!(
                "bus: message {message} of the stream has {others} lines that are no events: they are left out"
            );
        }
    }

    fn tell_locked_out(&mut self, now: u64) {
        let Some(id) = self.writer.take_locked_out() else { return };
        if !is_due(&mut self.locked_out_told_at, now) {
            return;
        }
        let window = Duration::from_millis(self.window_millis);
        tracing::warn!(
            "bus: a publisher waits for up to {window:?} (duplicate_window): the server has had {id} before, and what it had is lost or forgotten"
        );
    }
}

/// Whether it is time to tell the log of something again.
fn is_due(told_at: &mut Option<u64>, now: u64) -> bool {
    let is_due = told_at.is_none_or(|at| now >= at + TOLD_MILLIS);
    if is_due {
        *told_at = Some(now);
    }
    is_due
}

fn note_hole(hole: Hole, counters: &BusCounters) {
    tracing::warn!("bus: the stream does not have the events {} to {}: {}", hole.from, hole.to, hole.why);
    counters.holes.add(1);
}
