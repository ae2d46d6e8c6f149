//! Hands bytes to sockets, and notes how far a watcher has come.

use std::io::{self, ErrorKind, IoSlice};

use crate::delivery::copy_or_sendfile::SendMethod;
use crate::delivery::cursor::Cursor;
use crate::delivery::flush::REPLAY_PORTION;
use crate::delivery::framed::Outgoing;
use crate::delivery::keys::WatcherKey;
use crate::delivery::sink::Sink;
use crate::delivery::watcher::Flags;
use crate::delivery::watchers::Watchers;
use crate::wire::framing::change_returns;

impl Watchers {
    /// Sends the outbox. False: some of it is left.
    pub(super) fn send_outbox(&mut self, key: WatcherKey, sink: &mut impl Sink) -> bool {
        self.detach_if_waiting(key);
        let watcher = &mut self.watchers[key];
        let Some(mut outbox) = watcher.outbox.take() else {
            return true;
        };
        let mut portion = outbox.portion(REPLAY_PORTION.bytes);
        if outbox.changes_returns() {
            self.flat.clear();
            self.flat.extend_from_slice(portion[0]);
            change_returns(&mut self.flat);
            portion[0] = &self.flat;
        }
        let offered = portion.iter().map(|part| part.len()).sum();
        self.effort.add_send(offered);
        let result = match portion {
            [[], bytes, []] => sink.write(key, bytes),
            all => sink.write_vectored(key, &all.map(IoSlice::new)),
        };
        let taken = *result.as_ref().unwrap_or(&0);
        outbox.sent += taken;
        watcher.bytes_out += taken as u64;
        self.counts.sent_bytes += taken as u64;
        if outbox.waiting() == 0 {
            self.outboxes.take_back(outbox);
            return true;
        }
        watcher.outbox = Some(outbox);
        match result {
            // The others have their turn before the next portion of a long answer.
            Ok(taken) if taken == offered => self.enqueue(key),
            Ok(_) => self.block(key),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.block(key),
            Err(error) if error.kind() == ErrorKind::Interrupted => self.enqueue(key),
            Err(_) => self.break_off(key),
        }
        false
    }

    pub(super) fn break_off(&mut self, key: WatcherKey) {
        let watcher = &mut self.watchers[key];
        if !watcher.is(Flags::BROKEN) {
            watcher.set(Flags::BROKEN | Flags::LAGS);
            self.gone.push(key);
        }
    }

    pub(super) fn send(
        &mut self,
        key: WatcherKey,
        method: SendMethod,
        slices: &[IoSlice<'_>],
        bytes: usize,
        sink: &mut impl Sink,
    ) -> io::Result<usize> {
        if bytes == 0 {
            return Ok(0);
        }
        self.effort.add_send(bytes);
        match (method, slices) {
            (SendMethod::Staged, _) => sink.write_staged(key),
            (SendMethod::Flat, _) | (SendMethod::Slices, [_]) => sink.write(key, &slices[0]),
            (SendMethod::Slices, _) => sink.write_vectored(key, slices),
        }
    }

    /// Notes the result of a send to a watcher at `from`, and its new place. True: all was sent.
    pub(super) fn record(
        &mut self,
        key: WatcherKey,
        result: io::Result<usize>,
        outgoing: &Outgoing<'_>,
        from: Cursor,
    ) -> bool {
        let watcher = &mut self.watchers[key];
        let gathered = outgoing.gathered;
        match result {
            Ok(taken) if taken == outgoing.bytes => {
                watcher.go_on_to(Cursor { seq: gathered.next.seq.max(from.seq), ..gathered.next });
                watcher.bytes_out += taken as u64;
                self.counts.sent_bytes += taken as u64;
                self.counts.messages += gathered.messages;
                self.counts.add_saving(outgoing.saving);
                return true;
            }
            Ok(taken) => {
                let stopped = outgoing.stopped_at(from, taken);
                watcher.go_on_to(stopped.cursor);
                watcher.bytes_out += taken as u64;
                self.counts.sent_bytes += taken as u64;
                self.block(key);
                self.counts.messages += stopped.messages;
                self.counts.add_saving(stopped.saving);
                if let Some((batch, rest)) = stopped.rest {
                    self.enqueue_rest(key, batch, rest, stopped.form);
                }
                if !stopped.behind.is_empty() {
                    self.enqueue_bytes(key, |out| out.extend_from_slice(stopped.behind));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                watcher.go_on_to(from);
                self.block(key);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                watcher.go_on_to(from);
                watcher.set(Flags::LAGS);
                self.enqueue(key);
            }
            Err(_) => self.break_off(key),
        }
        false
    }
}
