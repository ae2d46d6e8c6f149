//! Splits a publisher's bytes into lines. Each becomes an event, is obeyed as a control line, or is refused.

use std::io::{ErrorKind, Read};
use std::mem;
use std::time::Duration;

use crate::net::ingest::Ingest;
use crate::net::ingest::half_lines::PATIENCE_MILLIS;
use crate::net::ingest::publisher::{Greeting, Publisher, Request, SHORT_REST_MAX, Source, is_too_long};
use crate::net::ingest::share::{Reading, Share};
use crate::net::shard::handle::Command;
use crate::stream::sequencer::Taken;
use crate::wire::line::{LINE_NUMBER_MAX, LineError, PADDING, trim, write_welcome};
use crate::wire::line_fault;
use crate::wire::members::is_control_line;

impl Ingest {
    /// Gives free places for long half lines to publishers that wait. Where they wait, publishers that have stopped within
    /// a line lose theirs.
    pub(super) fn give_places(&mut self) {
        if !self.half_lines.has_parked() {
            return;
        }
        self.give_up_stalled();
        while let Some(key) = self.half_lines.unpark() {
            self.publishers[key].has_place = true;
            self.ready.push_back(key);
        }
    }

    fn give_up_stalled(&mut self) {
        let patience = Duration::from_millis(PATIENCE_MILLIS);
        let long_ago = self.moment.now.millis.saturating_sub(PATIENCE_MILLIS);
        // A publisher that is ready may have sent more, which is read first.
        let has_stopped = |&key: &usize| {
            let publisher = &self.publishers[key];
            !publisher.is_ready && publisher.greets_since.is_none() && publisher.heard_at < long_ago
        };
        // Whoever waits for a place has stopped all the same, if it can be seen: its time does not begin with its turn.
        let has_stopped_in_wait = |key: &usize| match &self.publishers[*key] {
            // Behind its `hello` there may be whole lines in its buffer.
            Publisher { greeted_since: Some(_), .. } => false,
            Publisher { source: Source::Posted(posted), .. } => {
                posted.has_stopped_within_line(self.moment.instant, patience)
            }
            Publisher { source: Source::Socket(_), .. } => false,
        };
        let (mut holders, mut parked) = (Vec::new(), Vec::new());
        for places in self.half_lines.each().into_iter().filter(|places| !places.has_room()) {
            holders.extend(places.holders().iter().copied().filter(has_stopped));
            parked.extend(places.parked().filter(has_stopped_in_wait));
        }
        if holders.is_empty() && parked.is_empty() {
            return;
        }
        for &key in holders.iter().chain(&parked) {
            self.give_up(key);
        }
        for &key in &parked {
            // The rest of its line is passed over, and needs no place.
            self.half_lines.of_mut(&self.publishers[key].source).forget_parked(key);
            self.ready.push_back(key);
        }
        self.answering.extend(holders.into_iter().chain(parked));
        self.publish();
    }

    /// How many bytes may be read from a publisher at once, so that a half line at their end can be held.
    pub(super) fn read_bytes_max(&self, key: usize) -> usize {
        let publisher = &self.publishers[key];
        let places = self.half_lines.of(&publisher.source);
        let may = match places.has_parked() {
            // While others wait, little of the next line is read, so that the place is free when this line ends.
            true if publisher.has_place => SHORT_REST_MAX,
            false if publisher.has_place || places.has_room() => self.gate.read_bytes(),
            _ => SHORT_REST_MAX.saturating_sub(publisher.held),
        };
        may.min(Share::of(self.gate.read_bytes()).bytes(publisher.share))
    }

    /// Reads once from a publisher, `bytes_max` at most. Returns what was read.
    pub(super) fn read(&mut self, key: usize, bytes_max: usize) -> Reading {
        let mut block = mem::take(&mut self.block);
        let publisher = &mut self.publishers[key];
        let held = publisher.held;
        // A long line stays in its publisher's own buffer: otherwise each read would copy it.
        let mut own = mem::take(&mut publisher.buffer);
        let capacity = own.capacity();
        let is_long = held >= SHORT_REST_MAX;
        let buffer = if is_long {
            if own.len() < held + SHORT_REST_MAX + PADDING {
                // The buffer doubles, so that growth costs no quadratic work, up to the limit of a line.
                let room = (2 * held).min(held.max(self.parts.line_bytes_max));
                own.resize(room + SHORT_REST_MAX + PADDING, 0);
            }
            &mut own
        } else {
            block[..held].copy_from_slice(&own[..held]);
            &mut block
        };
        let end = (buffer.len() - PADDING).min(held + bytes_max);
        let result = match &mut publisher.source {
            Source::Socket(socket) => socket.read(&mut buffer[held..end]),
            Source::Posted(posted) => {
                let (shard, key) = (&self.parts.shards[posted.from.shard], posted.from.key);
                posted.read(&mut buffer[held..end], || shard.send(Command::Room { key }))
            }
        };
        let count = *result.as_ref().unwrap_or(&0);
        self.counters().received_bytes.add(count as u64);
        let searched = if self.publishers[key].greeted_since.is_some() { 0 } else { held };
        let is_any = searched < held + count;
        let added = self.parts.sequencer.topic_index.added;
        let (used, lines) =
            if is_any { self.take_lines(key, buffer, searched, held + count) } else { (0, 0) };
        let left = held + count - used;
        if !is_long {
            own.clear();
            own.extend_from_slice(&block[used..used + left]);
        } else if left >= SHORT_REST_MAX {
            own.copy_within(used..used + left, 0);
        } else {
            own = own[used..used + left].to_vec();
        }
        self.half_lines.note_capacity(capacity, own.capacity());
        self.block = block;
        let publisher = &mut self.publishers[key];
        publisher.buffer = own;
        publisher.held = left;
        let new_topics = (self.parts.sequencer.topic_index.added - added) as usize;
        let reading = Reading { bytes: count, lines, new_topics };
        if count > 0 {
            publisher.heard_at = self.moment.now.millis;
            publisher.share = Share::of(self.gate.read_bytes()).after(publisher.share, reading);
        }
        self.check_length(key);
        self.update_place(key);
        match result {
            Ok(0) => self.leave(key),
            Ok(_) => self.make_ready(key),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => self.make_ready(key),
            Err(error) => {
                tracing::debug!("a publisher's socket failed: {error}");
                self.leave(key);
            }
        }
        reading
    }

    /// Takes or frees a place, so that a publisher has one exactly while its half line is long.
    fn update_place(&mut self, key: usize) {
        let publisher = &mut self.publishers[key];
        let places = self.half_lines.of_mut(&publisher.source);
        let has_short_rest = publisher.held < SHORT_REST_MAX;
        if publisher.has_place && has_short_rest {
            publisher.has_place = false;
            places.free_place(key);
        } else if !publisher.has_place && publisher.held > SHORT_REST_MAX {
            publisher.has_place = true;
            places.take_place(key);
        }
    }

    /// Refuses a line that is too long already, before its end has come.
    fn check_length(&mut self, key: usize) {
        let publisher = &self.publishers[key];
        if publisher.greets_since.is_none()
            && is_too_long(&publisher.buffer[..publisher.held], self.parts.line_bytes_max)
        {
            self.give_up(key);
        }
    }

    /// Refuses, as too long, a line whose end has not come. The rest of it will be skipped.
    fn give_up(&mut self, key: usize) {
        let publisher = &mut self.publishers[key];
        publisher.skips = true;
        let buffer = mem::take(&mut publisher.buffer);
        publisher.held = 0;
        publisher.greeting = Greeting::Begun;
        let line = publisher.count_line();
        self.half_lines.note_capacity(buffer.capacity(), 0);
        self.update_place(key);
        match self.is_repeated(key, line) {
            true => self.note_repeated(key),
            false => self.refuse(key, line, LineError::TooLong, &[]),
        }
        self.note_dealt(key);
    }

    /// Takes the complete lines of `buffer[..end]`; `buffer[..searched]` has no newline. Returns where the incomplete line
    /// begins, and how many were taken.
    fn take_lines(&mut self, key: usize, buffer: &mut [u8], searched: usize, end: usize) -> (usize, usize) {
        if self.shared.is_none() {
            self.parts.sequencer.begin_turn(self.moment.now, end);
        }
        self.answering.push(key);
        let (mut start, mut lines) = (0, 0);
        let mut from = searched;
        while let Some(found) = memchr::memchr(b'\n', &buffer[from..end]) {
            let newline = from + found;
            if mem::take(&mut self.publishers[key].skips) {
                // This is the end of a line that was refused before it was complete.
            } else if !self.take_line(key, &mut buffer[start..newline + PADDING]) {
                return (start, lines);
            }
            lines += 1;
            start = newline + 1;
            from = start;
        }
        self.note_dealt(key);
        (if self.publishers[key].skips { end } else { start }, lines)
    }

    /// Counts a line that was accepted before.
    pub(super) fn note_repeated(&mut self, key: usize) {
        self.publishers[key].accepted += 1;
        self.counters().repeated_lines.add(1);
    }

    /// Whether a line with this number was accepted before under the publisher's name.
    fn is_repeated(&self, key: usize, line: u64) -> bool {
        if let (Some(shared), Some(lane)) = (&self.shared, self.publishers[key].lane) {
            return shared.is_repeated(lane, line);
        }
        let account = self.publishers[key].account;
        account.is_some_and(|account| line <= self.parts.dedupe.accepted(account))
    }

    /// Takes one line. `block` is the line and the padding behind it. False: it has to wait, with all behind it.
    fn take_line(&mut self, key: usize, block: &mut [u8]) -> bool {
        let publisher = &mut self.publishers[key];
        let (line, account) = (publisher.count_line(), publisher.account);
        let raw = block.len() - PADDING;
        let is_too_long = is_too_long(&block[..raw], self.parts.line_bytes_max);
        let object = trim(&block[..raw]);
        if object.is_empty() && !is_too_long {
            if publisher.greeting == Greeting::Named {
                publisher.greeting = Greeting::Begun;
            }
            return true;
        }
        // A control line is obeyed whatever its number: another connection may be ahead under the same name.
        let is_control = |object: &[u8]| !is_too_long && is_control_line(object);
        if self.is_repeated(key, line) && !is_control(&block[object.clone()]) {
            self.publishers[key].greeting = Greeting::Begun;
            self.note_repeated(key);
            return true;
        }
        if line > LINE_NUMBER_MAX && !is_control(&block[object.clone()]) {
            self.publishers[key].greeting = Greeting::Begun;
            self.refuse(key, line, LineError::BadLineNumber, &[]);
            return true;
        }
        if is_too_long {
            self.publishers[key].greeting = Greeting::Begun;
            self.refuse(key, line, LineError::TooLong, &[]);
            return true;
        }
        let length = object.len();
        if self.shared.is_some() {
            return self.push_line(key, &mut block[object.start..], length);
        }
        let covered = self.publishers[key].source.covered();
        let error = match self.parts.sequencer.take_line_for(&mut block[object.start..], length, covered) {
            Ok(Taken::Event(_)) => {
                self.publishers[key].greeting = Greeting::Begun;
                self.publishers[key].accepted += 1;
                if let Some(account) = account {
                    self.parts.dedupe.accept(account, line);
                }
                return true;
            }
            Ok(Taken::Control(control)) => {
                let request = Request::of(control);
                self.obey(key, request).err()
            }
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            let text = mem::take(&mut self.parts.sequencer.refused);
            self.refuse_line(key, error, &text);
            self.parts.sequencer.refused = text;
        }
        true
    }

    /// Refuses a line that was read to its end, or a control line.
    pub(super) fn refuse_line(&mut self, key: usize, error: LineError, text: &[u8]) {
        let publisher = &mut self.publishers[key];
        let line = publisher.line;
        if error == LineError::BadOp && publisher.is_named {
            // A control line has no number, obeyed or not.
            publisher.line -= 1;
        } else {
            publisher.greeting = Greeting::Begun;
        }
        self.refuse(key, line, error, text);
    }

    /// Counts a refused line, answers it, and logs it unless its kind was logged a moment ago. `text` is the line as it
    /// came, or empty.
    fn refuse(&mut self, key: usize, line: u64, error: LineError, text: &[u8]) {
        self.counters().line_errors[error as usize].add(1);
        if !self.publishers[key].refuse(line, error) {
            self.counters().answers_dropped.add(1);
        }
        let Some(unlogged) = self.refused_line_log.note(error, self.moment.now.millis) else {
            return;
        };
        let publisher = &self.publishers[key];
        let (pid, address) = publisher.describe();
        let address = address.map(tracing::field::display);
        let covered = publisher.source.covered();
        let covers = |id: &str| covered.is_none_or(|patterns| patterns.cover(id));
        let rules = line_fault::Rules { depth_max: self.parts.depth_max, covers: &covers };
        let at = line_fault::describe(text, error, &rules);
        let colon = if at.is_empty() { "" } else { ": " };
        let (code, message) = (error.code(), error.message());
        // As `luxcast publish` counts the lines of its file, which a person looks up.
        let (place, after) = match publisher.hello_line {
            0 => (line, ""),
            hello => (line - hello, " after hello"),
        };
        tracing::warn!(
            code,
            publisher = publisher.name.as_deref(),
            pid,
            address,
            unlogged,
            "line {place}{after} of a publisher refused: {message}{colon}{at}"
        );
    }

    pub(super) fn obey(&mut self, key: usize, request: Request) -> Result<(), LineError> {
        let seq = self.parts.sequencer.seq();
        let publisher = &mut self.publishers[key];
        match request {
            Request::Hello { name, acks, is_once } => {
                if publisher.greeting != Greeting::New {
                    return Err(LineError::BadOp);
                }
                publisher.greeting = Greeting::Begun;
                publisher.wants_acks = acks;
                publisher.number_from(publisher.line);
                publisher.hello_line = if is_once { 0 } else { publisher.line };
                publisher.name = name;
                let mut accepted = None;
                if let Some(name) = publisher.name.as_deref().filter(|_| is_once) {
                    let name = &*publisher.source.account_of(name);
                    let last = match (&mut self.shared, publisher.lane) {
                        (Some(shared), Some(lane)) => {
                            let (lane, last) = shared.name(key, lane, name);
                            publisher.lane = Some(lane);
                            last
                        }
                        _ => {
                            let account = self.parts.dedupe.open(name);
                            publisher.account = Some(account);
                            self.parts.dedupe.accepted(account)
                        }
                    };
                    accepted = Some(last);
                    publisher.greeting = Greeting::Named;
                    publisher.is_named = true;
                    publisher.number_from(last);
                }
                publisher.answer(|out| write_welcome(out, seq, accepted));
            }
            Request::From { line } => {
                if publisher.greeting != Greeting::Named {
                    return Err(LineError::BadOp);
                }
                publisher.number_from(line - 1);
                if let (Some(shared), Some(lane)) = (&mut self.shared, publisher.lane) {
                    shared.number_from(lane, line);
                }
            }
        }
        let is_line = self.publishers[key].has_sent_order();
        self.counters().control_lines.add(u64::from(is_line));
        self.answer_later(key);
        Ok(())
    }

    /// Ends a publisher. An unfinished line is refused. A publisher that has shut only its writing side stays until it
    /// has read its answers or closes the socket.
    fn leave(&mut self, key: usize) {
        let publisher = &mut self.publishers[key];
        let rest = mem::take(&mut publisher.held);
        let is_cut = !trim(&publisher.buffer[..rest]).is_empty();
        self.update_place(key);
        if is_cut {
            let line = self.publishers[key].count_line();
            self.refuse(key, line, LineError::Truncated, &[]);
        }
        let publisher = &mut self.publishers[key];
        if let Source::Posted(_) = publisher.source {
            publisher.has_ended = true;
            return self.answer_later(key);
        }
        let reads = publisher.flush().is_ok();
        if reads
            && (publisher.has_answers()
                || (publisher.lane.is_some() && publisher.awaits_ack() && !publisher.is_gone()))
        {
            publisher.has_ended = true;
            return;
        }
        self.remove(key);
    }

    fn answer_later(&mut self, key: usize) {
        if !self.answering.contains(&key) {
            self.answering.push(key);
        }
    }

    pub(super) fn remove(&mut self, key: usize) {
        let publisher = self.publishers.remove(key);
        self.half_lines.note_capacity(publisher.buffer.capacity(), 0);
        if publisher.is_ready {
            self.ready.retain(|&ready| ready != key);
            self.half_lines.of_mut(&publisher.source).forget_parked(key);
        }
        self.answering.retain(|&answering| answering != key);
        if let (Some(shared), Some(lane)) = (&mut self.shared, publisher.lane) {
            shared.leave(key, lane);
        }
        if let Some(account) = publisher.account {
            self.parts.dedupe.close(account, self.moment.now.millis);
        }
    }
}
