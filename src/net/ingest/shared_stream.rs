//! The feed of a daemon that shares its stream with others (`bus`): good lines go out as chunks, and what the stream has
//! comes back with its numbers. Only that becomes events.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::bus::accounts::Accounts;
use crate::bus::chunk::{self, Chunk, Headers, token_of_connection, token_of_name};
use crate::bus::lane::NewLine;
use crate::bus::numbers::PLACES;
use crate::bus::verdict::Standing;
use crate::bus::writer::{Ack, LaneKey, Passed, Writer};
use crate::net::bus::handle::{BusHandle, Command, Received, Report};
use crate::stream::now::Now;
use crate::stream::numbers::BadNumber;
use crate::stream::sequencer::{Sequencer, Taken};
use crate::wire::line::{Control, Line, LineError, LineReader, PADDING};

/// What a line is worth that a publisher has sent.
pub enum Pushed<'a> {
    /// It will come back with a number.
    Event,
    /// Its publisher sent it before.
    Repeated,
    Control(Control<'a>),
}

/// What came of a message of the stream.
#[derive(Default)]
pub struct Outcome {
    /// Lines that no daemon can take: they were put into the stream by other programs.
    pub refused: u64,
    /// Lines that were in the stream before.
    pub repeated: u64,
}

pub struct SharedStream {
    handle: BusHandle,
    writer: Writer,
    accounts: Accounts,
    reader: LineReader,
    nonce: String,
    connections: u64,
    line_bytes_max: usize,
    standing: Standing,
    /// Publishers by their lanes: each connection has its own, but those of one name share one.
    publishers: HashMap<LaneKey, Vec<usize>, RandomState>,
    /// A line as it came, since parsing changes it.
    text: Vec<u8>,
    block: Vec<u8>,
}

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
        let lane = self.writer.open(&token, self.accounts.accepted(&token));
        self.publishers.entry(lane).or_default().push(publisher);
        (lane, self.writer.accepted(lane))
    }

    /// The connection has ended. What it has sent goes into the stream all the same.
    pub fn leave(&mut self, publisher: usize, lane: LaneKey) {
        if let Some(publishers) = self.publishers.get_mut(&lane) {
            publishers.retain(|&other| other != publisher);
            if publishers.is_empty() {
                self.publishers.remove(&lane);
            }
        }
        self.writer.close(lane);
    }

    /// Takes a trimmed line, `block[..length]`, with [`PADDING`] bytes behind it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn push<'a>(
        &'a mut self,
        lane: LaneKey,
        number: u64,
        block: &'a mut [u8],
        length: usize,
    ) -> Result<Pushed<'a>, LineError> {
        self.text.clear();
        self.text.extend_from_slice(&block[..length]);
        let fields = match self.reader.read(block, length, self.text.get(1..).unwrap_or_default())? {
            Line::Control(control) => return Ok(Pushed::Control(control)),
            Line::Event(fields) => fields,
        };
        let flow = fields.flow_id.or(fields.data_flow_id);
        let line = NewLine { number, text: &self.text, job: fields.job_id, flow };
        Ok(if self.writer.push(lane, &line) { Pushed::Event } else { Pushed::Repeated })
    }

    /// A line is no event: it was refused, or is empty.
    pub fn note(&mut self, lane: LaneKey, number: u64) {
        self.writer.note(lane, number);
    }

    pub fn has_room_for(&self, lane: LaneKey) -> bool {
        self.writer.has_room_for(lane)
    }

    /// Lines up to this one are in the stream and visible, or were no events.
    pub fn dealt(&self, lane: LaneKey) -> u64 {
        self.writer.dealt(lane)
    }

    pub fn next_ack(&mut self) -> Option<Ack> {
        self.writer.next_ack()
    }

    pub fn publishers_of(&self, lane: LaneKey) -> &[usize] {
        self.publishers.get(&lane).map_or(&[], Vec::as_slice)
    }

    pub fn next_report(&self) -> Option<Report> {
        self.handle.reports.try_recv().ok()
    }

    pub fn is_busy(&self) -> bool {
        !self.handle.reports.is_empty()
    }

    /// Takes what the bus thread reports, but messages and holes.
    pub fn handle_report(&mut self, now: u64, report: &Report) {
        match *report {
            Report::Complete { asked_at, .. } => self.writer.handle_complete(now, asked_at),
            Report::Stored { key, serial, message, is_duplicate } => {
                self.writer.handle_stored(now, key, serial, message, is_duplicate);
            }
            Report::Failed { key, serial } => self.writer.handle_failed(now, key, serial),
            Report::Standing(standing) => {
                self.standing = standing;
                self.writer.set_away(!matches!(standing, Standing::CatchingUp | Standing::Following));
            }
            Report::Message(_) | Report::Skip { .. } => {}
        }
    }

    /// Gives the lines of a message to the sequencer.
    ///
    /// # Errors
    /// A number is not above all that were given: two daemons would tell different things.
    pub fn take(
        &mut self,
        received: &Received,
        now: Now,
        sequencer: &mut Sequencer,
    ) -> Result<Outcome, BadNumber> {
        let headers = Headers {
            message_id: received.header(chunk::MESSAGE_ID),
            lines: received.header(chunk::LINES),
            from: received.header(chunk::FROM),
        };
        let chunk = Chunk::read(headers, &received.content.payload, self.line_bytes_max);
        let folded = self.accounts.fold(chunk.source.as_ref(), received.time_nanos / 1_000_000);
        let mut outcome = Outcome { refused: chunk.refused, repeated: folded.repeated as u64 };
        if !received.is_folded {
            if let Some(hole) = received.hole {
                sequencer.lose_to(hole.to)?;
            }
            let now = Now { unix_micros: (received.time_nanos / 1_000) as i64, ..now };
            for (place, line) in chunk.lines(folded.repeated) {
                let length = line.len();
                self.block.clear();
                self.block.extend_from_slice(line);
                self.block.resize(length + PADDING, 0);
                sequencer.begin_at(received.first + place as u64)?;
                sequencer.begin_turn(now, length);
                match sequencer.take_line(&mut self.block, length) {
                    Ok(Taken::Event(_)) => {}
                    Ok(Taken::Control(_)) | Err(_) => outcome.refused += 1,
                }
            }
            if chunk.is_cut {
                sequencer.lose_to(received.first + PLACES as u64 - 1)?;
            }
        }
        let source = chunk.source.as_ref().map(|source| (source.token, folded.accepted));
        let stream_seq = received.first + chunk.len().max(1) as u64 - 1;
        let passed = Passed { message: received.message, stream_seq, source };
        self.writer.handle_passed(now.millis, passed);
        self.handle.send(Command::Release(received.bytes));
        Ok(outcome)
    }

    /// Numbers are lost.
    pub fn handle_hole(&mut self, now: u64, last: u64) {
        self.writer.handle_hole(now, last);
    }

    /// Sends the chunks that are due. Returns when there may be others.
    pub fn send(&mut self, now: u64, mut flow_of: impl FnMut(&str) -> Option<Box<str>>) -> Option<u64> {
        while let Some(outgoing) = self.writer.next(now, &mut flow_of) {
            self.handle.send(Command::Publish(outgoing));
        }
        self.writer.due()
    }
}
