//! `/console/arrivals`: when the events in a range of numbers arrived, for events whose own time cannot be read.

use serde::Serialize;

use crate::delivery::cursor::beginning;
use crate::event::ALL_TYPES;
use crate::session::questions::Range;
use crate::stream::topic::Topic;

/// Most entries. Beyond that every second one is dropped, and the rest are half as exact.
const ENTRIES_MAX: usize = 4096;
/// Most handles copied while the log is locked.
const HANDLES_MAX: usize = 256;

/// `[[stream_seq, Unix milliseconds], …]`: an event came at the time of the last entry whose number is not beyond its own.
#[derive(Serialize)]
struct Arrivals {
    arrivals: Vec<(u64, u64)>,
}

/// The arrivals of the events in the topic `all`, up to the number `published`, as JSON.
pub fn write(range: &Range, all: &Topic, published: u64) -> Vec<u8> {
    let mut arrivals: Vec<(u64, u64)> = Vec::new();
    let (mut handles, mut index, mut apart_millis) = (Vec::new(), 0, 1);
    loop {
        handles.clear();
        let copied = {
            let log = all.log.lock();
            if index == 0 {
                index = log.index_after(range.from - 1);
            }
            index = index.max(beginning(&log).index);
            log.copy(index, range.to.min(published), ALL_TYPES, HANDLES_MAX, &mut handles)
        };
        for batch in handles.iter().map(|handle| &handle.batch) {
            let (seq, millis) = (batch.first_seq(), batch.arrived_millis());
            // The clock may have been set back: the times are reported as they were.
            if arrivals.last().is_none_or(|&(_, last)| millis.abs_diff(last) >= apart_millis) {
                arrivals.push((seq, millis));
            }
        }
        while arrivals.len() > ENTRIES_MAX {
            apart_millis *= 2;
            let mut is_odd = false;
            arrivals.retain(|_| {
                is_odd = !is_odd;
                is_odd
            });
        }
        if copied.is_all {
            break;
        }
        index = copied.index;
    }
    let mut body = serde_json::to_vec(&Arrivals { arrivals }).expect("numbers are plain data");
    body.push(b'\n');
    body
}
