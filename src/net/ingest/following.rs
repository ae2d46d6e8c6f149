//! The turn of a daemon that shares its stream (`bus`): what comes of it is published, and lines of publishers go there.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use mio::Events;

use crate::net::ingest::Ingest;
use crate::net::ingest::publisher::{Greeting, Request};
use crate::net::ingest::shared_stream::{BusLine, Pushed, SharedStream};
use crate::net::shard::handle::Command as ShardCommand;

impl Ingest {
    /// Publishes what the stream has brought, and lets publishers be read that waited for it.
    pub(super) fn follow(&mut self) {
        let Self { shared: Some(shared), parts, .. } = self else { return };
        if shared.take_reports(self.moment.now, &mut parts.sequencer, &parts.counters.bus) {
            self.publish();
        }
        let Self { shared: Some(shared), publishers, ready, parts, .. } = self else { return };
        if let Some(is_away) = shared.take_news(self.moment.now.millis) {
            parts.shards.iter().for_each(|shard| shard.send(ShardCommand::Announce { is_away }));
        }
        while let Some(key) = shared.unpark(|key| publishers[key].lane.expect("it is a publisher of the bus"))
        {
            ready.push_back(key);
        }
        while let Some(key) = self.shared.as_mut().and_then(SharedStream::next_known) {
            self.publishers[key].greeted_since = self.publishers[key].greets_since.take();
            self.make_ready(key);
        }
    }

    /// Whether there is room for lines of a publisher. If not, it is not read until there is.
    pub(super) fn has_room_or_parks(&mut self, key: usize) -> bool {
        match (&mut self.shared, self.publishers[key].lane) {
            (Some(shared), Some(lane)) => shared.has_room_or_parks(key, lane),
            _ => true,
        }
    }

    /// Takes a line for the stream. False: it has to wait, with all behind it.
    pub(super) fn push_line(&mut self, key: usize, block: &mut [u8], length: usize) -> bool {
        let publisher = &mut self.publishers[key];
        let line = publisher.line;
        let (Some(shared), Some(lane)) = (&mut self.shared, publisher.lane) else { return true };
        let line = BusLine { number: line, length, covered: publisher.source.covered() };
        let error = match shared.push(lane, line, block, &mut self.parts.sequencer) {
            Ok(Pushed::Event) => {
                publisher.greeting = Greeting::Begun;
                publisher.accepted += 1;
                self.parts.counters.bus.lines_out.add(1);
                return true;
            }
            Ok(Pushed::Repeated) => {
                publisher.greeting = Greeting::Begun;
                self.note_repeated(key);
                return true;
            }
            Ok(Pushed::Control(control)) => {
                let request = Request::of(control);
                let is_greeting = publisher.greeting == Greeting::New
                    && matches!(request, Request::Hello { name: Some(_), is_once: true, .. });
                if is_greeting && !shared.knows_or_waits(key, self.moment.now.millis, publisher.greeted_since)
                {
                    publisher.greets_since = Some(self.moment.now.millis);
                    publisher.line -= 1;
                    block[..length].copy_from_slice(&shared.text);
                    return false;
                }
                publisher.greeted_since = None;
                self.obey(key, request).err()
            }
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            let Some(shared) = &mut self.shared else { return true };
            let text = std::mem::take(&mut shared.text);
            self.refuse_line(key, error, &text);
            if let Some(shared) = &mut self.shared {
                shared.text = text;
            }
        }
        true
    }

    /// All lines that a publisher has sent so far are dealt with, but for those that were pushed.
    pub(super) fn note_dealt(&mut self, key: usize) {
        let publisher = &mut self.publishers[key];
        publisher.greeted_since = None;
        if let (Some(shared), Some(lane)) = (&mut self.shared, publisher.lane) {
            shared.note(lane, publisher.line);
        }
    }

    /// Sends chunks, and tells publishers what is in the stream.
    pub(super) fn send_chunks(&mut self) {
        let Self { shared: Some(shared), parts, .. } = self else { return };
        shared.send(self.moment.now.millis, &mut parts.sequencer, &parts.counters.bus);
        let mut told = Vec::new();
        while let Some((publishers, stream_seq)) = shared.next_ack() {
            told.extend(publishers.iter().map(|&key| (key, stream_seq)));
        }
        for (key, stream_seq) in told {
            let Some(shared) = &self.shared else { return };
            let publisher = &mut self.publishers[key];
            let dealt = publisher.lane.map_or(0, |lane| shared.dealt(lane));
            publisher.acknowledge_to(dealt, stream_seq);
            self.answer(key);
            if self.publishers.get(key).is_some_and(|publisher| publisher.has_ended) {
                self.make_ready(key);
            }
        }
    }

    /// Waits until the lines that were taken are in the stream, but not for long.
    pub(super) fn finish_chunks(&mut self, events: &mut Events) -> io::Result<()> {
        let until = Instant::now() + self.end_limit;
        loop {
            let Some(shared) = &self.shared else { return Ok(()) };
            if shared.is_idle() {
                break;
            }
            let now = self.parts.clock.read();
            let left = until.saturating_duration_since(now.instant);
            if left.is_zero() {
                tracing::warn!(
                    "{} bytes of publishers' lines were not in the stream in time; they have no ack",
                    shared.bytes()
                );
                break;
            }
            let due = shared.due().map(|due| due.saturating_sub(now.now.millis));
            let wait = due.map_or(left, |due| left.min(Duration::from_millis(due)));
            let wait = if shared.is_busy() { Duration::ZERO } else { wait };
            match self.parts.poll.poll(events, Some(wait)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            self.begin_turn();
            self.follow();
            self.send_chunks();
        }
        if let Some(shared) = &self.shared {
            // Whoever replaces or restores the stream needs it.
            tracing::info!("bus: the newest number given here is {}", shared.newest_given());
        }
        Ok(())
    }
}
