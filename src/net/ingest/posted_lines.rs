//! Requests over HTTP as publishers: each comes in, has its receipt and goes.

use std::sync::Arc;

use crate::net::ingest::Ingest;
use crate::net::ingest::posted::Posted;
use crate::net::ingest::publisher::{Publisher, Source};
use crate::net::shard::handle::Command;
use crate::wire::http::Refusal;
use crate::wire::receipt::Receipt;

impl Ingest {
    /// Takes in the requests that have something to read.
    pub(super) fn accept_posted(&mut self) {
        let pending = self.parts.waker.posted.pending.clone();
        while let Ok(posted) = pending.try_recv() {
            let key = posted.publisher(|| self.welcome_posted(&posted));
            key.into_iter().for_each(|key| self.make_ready(key));
        }
    }

    fn welcome_posted(&mut self, posted: &Arc<Posted>) -> usize {
        let key = self.publishers.insert(Publisher::new(Source::Posted(posted.clone())));
        self.publishers[key].lane = self.shared.as_mut().map(|shared| shared.enter(key));
        self.requests += 1;
        self.counters().requests.add(1);
        key
    }

    /// Answers a request that is over, once all its lines were dealt with.
    pub(super) fn give_receipt(&mut self, key: usize) {
        let publisher = &self.publishers[key];
        if !publisher.has_ended || publisher.awaits_ack() {
            return;
        }
        let receipt = self.receipt(key);
        self.dismiss(key, Ok(receipt));
    }

    fn receipt(&mut self, key: usize) -> Receipt {
        let publisher = &mut self.publishers[key];
        let accepted_line = match (publisher.account, &self.shared, publisher.lane) {
            (Some(account), ..) => Some(self.parts.dedupe.accepted(account)),
            (None, Some(shared), Some(lane)) if publisher.is_named => Some(shared.accepted(lane)),
            _ => None,
        };
        publisher.receipt(self.parts.sequencer.seq(), accepted_line)
    }

    fn dismiss(&mut self, key: usize, answer: Result<Receipt, Refusal>) {
        if let Source::Posted(posted) = &self.publishers[key].source {
            posted.forget();
            let (shard, key) = (&self.parts.shards[posted.from.shard], posted.from.key);
            shard.send(Command::Published { key, answer });
            self.requests -= 1;
        }
        self.remove(key);
    }

    /// The daemon ends: requests that are not over are refused.
    pub(super) fn end_requests(&mut self) {
        let is_request = |(_, publisher): &(usize, &Publisher)| matches!(publisher.source, Source::Posted(_));
        let keys: Vec<usize> = self.publishers.iter().filter(is_request).map(|(key, _)| key).collect();
        for key in keys {
            // Of lines that wait for the shared stream nobody knows what becomes of them.
            let refusal = match self.publishers[key].awaits_ack() {
                true => Refusal::draining(),
                false => Refusal::draining_within(self.receipt(key)),
            };
            self.dismiss(key, Err(refusal));
        }
    }
}
