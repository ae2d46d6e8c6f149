//! Sends a merge to a watcher of many jobs: as the frames of the Overseer dialect are, or compressed.
//!
//! Whoever watches the same jobs has them merged in another order, so nothing is shared. Where compression was agreed, what
//! is sent at once is compressed as one stream that refers to nothing before it.

use std::io::ErrorKind;
use std::mem;

use crate::delivery::counts::Saving;
use crate::delivery::keys::WatcherKey;
use crate::delivery::merge::{Merge, MergedEnd};
use crate::delivery::outbox::RestForm;
use crate::delivery::sink::Sink;
use crate::delivery::watchers::Watchers;
use crate::stream::batch::Dialect;
use crate::stream::dialect;
use crate::stream::directory::Directory;
use crate::wire::deflater::Deflater;
use crate::wire::framing::Framing;

/// A merge sends no further event once it has so many bytes, as they are without compression.
const MERGE_BYTES_MAX: usize = 256 << 10;

impl Watchers {
    /// Sends the events up to the number `complete_to` in order, as many as fit. They are of the history of `directory`;
    /// None: of memory.
    /// Moves the sources on, and returns the number up to which all was sent; 0: nothing was.
    pub(super) fn send_merged(
        &mut self,
        key: WatcherKey,
        merge: &mut Merge,
        complete_to: u64,
        directory: Option<&Directory>,
        sink: &mut impl Sink,
    ) -> u64 {
        let end = merge.merged.partition_point(|event| event.seq <= complete_to);
        // A gap that was just found is sent first.
        let sent = match end == 0 || !self.send_outbox(key, sink) {
            true => 0,
            false => self.send_first(key, merge, end, directory, sink),
        };
        merge.move_on(sent);
        match merge.merged[..sent].last() {
            _ if sent == end => complete_to,
            Some(last) => last.seq,
            None => 0,
        }
    }

    /// Sends the first `end` events. Returns how many were sent, one cut short included.
    fn send_first(
        &mut self,
        key: WatcherKey,
        merge: &mut Merge,
        end: usize,
        directory: Option<&Directory>,
        sink: &mut impl Sink,
    ) -> usize {
        let mut flat = mem::take(&mut self.flat);
        flat.clear();
        let framing = self.watchers[key].framing();
        self.write_merged(framing, merge, end, directory, &mut flat);
        self.effort.add_send(0);
        let taken = match sink.write(key, &flat) {
            Ok(taken) => taken,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                if error.kind() == ErrorKind::WouldBlock {
                    self.block(key);
                }
                flat.clear();
                0
            }
            Err(_) => {
                self.break_off(key);
                flat.clear();
                0
            }
        };
        let watcher = &mut self.watchers[key];
        watcher.bytes_out += taken as u64;
        self.counts.sent_bytes += taken as u64;
        if taken < flat.len() {
            self.block(key);
        }
        let mut sent = merge.ends.partition_point(|end| end.sent <= taken);
        let border = sent.checked_sub(1).map_or(0, |last| merge.ends[last].sent);
        if taken > border {
            self.enqueue_rest_of(key, merge, sent, &flat[taken..merge.ends[sent].sent], directory);
            sent += 1;
        }
        self.counts.messages += sent as u64;
        if let Some(end) = merge.ends[..sent].last() {
            self.counts.add_saving(end.saving);
        }
        self.flat = flat;
        sent
    }

    /// Appends the first `end` events, or as many as fit.
    fn write_merged(
        &mut self,
        framing: Framing,
        merge: &mut Merge,
        end: usize,
        directory: Option<&Directory>,
        out: &mut Vec<u8>,
    ) {
        let (mut plain, mut saving) = (0, Saving::default());
        if framing == Framing::Deflate {
            self.compressor.begin_anew();
        }
        for event in &merge.merged[..end] {
            if plain >= MERGE_BYTES_MAX {
                break;
            }
            let dialect = self.dialect_of(merge, event.handle, directory);
            let frame = &dialect.bytes[dialect.span(event.event..event.event + 1)];
            let object = dialect.object(event.event);
            let start = out.len();
            match framing {
                Framing::Deflate if Deflater::takes(object) => self.compressor.write(object, out),
                Framing::DeflateAlone if Deflater::takes(object) => self.compressor.write_alone(object, out),
                _ => out.extend_from_slice(frame),
            }
            plain += frame.len();
            if framing.is_compressed() && Deflater::takes(object) {
                saving.before += frame.len();
                saving.after += out.len() - start;
            }
            merge.ends.push(MergedEnd { sent: out.len(), saving });
        }
        if framing.is_compressed() {
            self.effort.add_compressed(plain);
        }
    }

    /// Queues the rest of the event at this place, whose end in the bytes is `rest`.
    fn enqueue_rest_of(
        &mut self,
        key: WatcherKey,
        merge: &Merge,
        place: usize,
        rest: &[u8],
        directory: Option<&Directory>,
    ) {
        let event = &merge.merged[place];
        let dialect = self.dialect_of(merge, event.handle, directory);
        let span = dialect.span(event.event..event.event + 1);
        if self.watchers[key].framing().is_compressed() && Deflater::takes(dialect.object(event.event)) {
            self.enqueue_bytes(key, |out| out.extend_from_slice(rest));
            return;
        }
        let end = span.end as u32;
        let batch = &merge.handles[event.handle as usize].batch;
        self.enqueue_rest(key, batch, end - rest.len() as u32..end, RestForm::Dialect);
    }

    /// The batch of a handle in the other dialect, which is made if it is not there yet.
    fn dialect_of<'a>(&self, merge: &'a Merge, handle: u32, directory: Option<&Directory>) -> &'a Dialect {
        let batch = &merge.handles[handle as usize].batch;
        batch
            .dialect(dialect::of_batch, |bytes| directory.unwrap_or(&self.directory).add_dialect_bytes(bytes))
    }
}
