//! Watchers of many jobs, some of which are read from the past.

use super::{MEMORY, Shard, take, take_line};
use crate::delivery::filter::Filter;
use crate::delivery::keys::WatcherKey;
use crate::stream::now::Now;
use crate::stream::numbers::SEQ_MIN;
use crate::stream::past::Demand;
use crate::wire::client_action::Since;
use crate::wire::framing::Framing;

#[test]
fn jobs_of_one_watcher_are_read_from_the_past_while_others_wait() {
    let mut shard = Shard::new();
    let key = shard.watchers.add();
    shard.watchers.watch_many(key, Filter::all(false, true), Framing::WebSocket);
    shard.subscribe(key, "a", Since::After(SEQ_MIN + 100));
    shard.subscribe(key, "c", Since::Start);
    shard.subscribe(key, "b", Since::Now);
    shard.serve();
    assert_eq!((shard.demand().waiting, shard.demand().watchers), (Some(0), 1));
    shard.publish([1_004].into_iter(), 0);
    shard.serve();
    assert_eq!(shard.numbers(key), [0; 0]);
    assert_eq!(shard.watchers.position(key), SEQ_MIN, "it has not got all that is behind this");

    // The stream begins with 50. Both jobs come in one order.
    shard.pass(1, 0, 50);
    shard.read([90, 101].into_iter(), 0);
    shard.read_of("c", [102].into_iter(), 0);
    shard.read([103].into_iter(), 0);
    shard.serve();
    assert_eq!(shard.numbers(key), [-50, 101, 102, 103]);
    assert_eq!((shard.demand().reading, shard.watchers.position(key)), (Some(103), SEQ_MIN + 103));

    // Its socket is full in the middle of an event.
    shard.room.insert(key, 200);
    shard.read([104, 105, 106].into_iter(), 0);
    shard.serve();
    let received = shard.received[&key].len();
    assert_eq!(received, 200);
    shard.make_room(key, usize::MAX);
    shard.serve();
    assert_eq!(shard.numbers(key), [104, 105, 106]);

    // One is left, and the other comes to memory, where it has missed nothing. Now the third one goes on.
    assert!(shard.watchers.unsubscribe_job(key, "c"));
    shard.read([1_000, 1_001, 1_002].into_iter(), 0);
    shard.serve();
    assert_eq!(shard.numbers(key), [1_000, 1_001, 1_002, 1_003, 1_004]);
    assert_eq!(shard.demand(), Demand::default());
    shard.publish([1_005].into_iter(), 0);
    shard.serve();
    assert_eq!(shard.numbers(key), [1_005]);
}

/// A watcher of `a` and `b` that stands at 1003, and of which memory has lost some since.
fn overtaken() -> (Shard, WatcherKey) {
    let mut shard = Shard::new();
    let key = shard.watchers.add();
    shard.watchers.watch_many(key, Filter::all(false, true), Framing::WebSocket);
    ["a", "b"].into_iter().for_each(|job| shard.subscribe(key, job, Since::Now));
    shard.serve();
    shard.room.insert(key, 0);
    take(&mut shard.live, MEMORY + 4, "a");
    shard.publish(1_005..=1_100, 4_000);
    shard.serve();
    assert!(shard.memory.whole_from() > MEMORY + 50, "memory has lost some");
    shard.make_room(key, usize::MAX);
    shard.serve();
    assert_eq!(shard.numbers(key), [0; 0]);
    let demand = shard.demand();
    assert_eq!((demand.waiting, demand.watchers), (Some(1_003), 1));
    (shard, key)
}

#[test]
fn jobs_that_memory_has_overtaken_are_read_from_the_past_in_one_order() {
    let (mut shard, key) = overtaken();
    shard.pass(1, 1_003, 1_003);
    shard.read([1_004].into_iter(), 0);
    shard.read_of("b", 1_005..=1_010, 0);
    shard.serve();
    assert_eq!(shard.numbers(key), (1_004..=1_010).collect::<Vec<i64>>());
    assert_eq!(shard.watchers.position(key), MEMORY + 10, "that of both");

    // One comes and waits with the others. The past of another one goes first, and needs another pass.
    shard.subscribe(key, "c", Since::Now);
    assert!(shard.watchers.unsubscribe_job(key, "a"));
    shard.subscribe(key, "a", Since::After(SEQ_MIN + 900));
    shard.read_of("b", 1_011..=1_020, 0);
    shard.serve();
    assert_eq!(shard.numbers(key), [0; 0]);
    assert_eq!((shard.demand().waiting, shard.demand().reading), (Some(900), None));
    shard.pass(2, 900, 900);
    shard.read([950, 1_004].into_iter(), 0);
    shard.read_of("b", 1_005..=1_050, 0);
    shard.serve();
    assert_eq!(shard.numbers(key), [950, 1_004]);
    shard.read_of("b", 1_051..=1_100, 0);
    shard.serve();
    assert_eq!(shard.numbers(key), (1_011..=1_100).collect::<Vec<i64>>());
    assert_eq!(shard.demand(), Demand::default());
    shard.publish([1_101].into_iter(), 0);
    shard.serve();
    assert_eq!(shard.numbers(key), [1_101]);
}

#[test]
fn jobs_in_the_past_wait_for_one_that_the_pass_has_dropped_as_long_as_it_is_watched() {
    let (mut shard, key) = overtaken();
    shard.pass(1, 1_003, 1_003);
    let sequencer = &mut shard.window.as_mut().expect("it was begun").1;
    take_line(sequencer, MEMORY + 4, r#"{"type":"job_completed","job_id":"a"}"#);
    sequencer.sweep(Now { millis: 1 << 41, ..Now::default() });
    shard.read_of("b", 1_005..=1_010, 0);
    shard.serve();
    assert_eq!(shard.numbers(key), [0; 0], "what is lost may be before that");
    assert_eq!((shard.demand().waiting, shard.demand().reading), (Some(1_003), Some(1_003)));
    assert!(shard.watchers.unsubscribe_job(key, "a"));
    shard.serve();
    assert_eq!(shard.numbers(key), (1_005..=1_010).collect::<Vec<i64>>());
}

#[test]
fn a_filter_change_of_many_jobs_counts_from_where_each_is() {
    let mut shard = Shard::new();
    let key = shard.watchers.add();
    shard.watchers.watch_many(key, Filter::all(false, true), Framing::WebSocket);
    shard.subscribe(key, "a", Since::After(SEQ_MIN + 100));
    shard.subscribe(key, "b", Since::Now);
    shard.pass(1, 100, 100);
    shard.read([101].into_iter(), 0);
    shard.serve();
    let none = Filter::all(false, true).only(&["other".to_owned()]).expect("one name");
    shard.watchers.set_filter(key, none);
    shard.read([102].into_iter(), 0);
    shard.serve();
    shard.watchers.set_filter(key, Filter::all(false, true));
    shard.read([103].into_iter(), 0);
    shard.serve();
    assert_eq!(shard.numbers(key), [101, 103]);
    shard.watchers.end(key);
    assert_eq!(shard.demand(), Demand::default());
}

#[test]
fn a_filter_change_of_many_jobs_takes_effect_at_one_place_for_all() {
    let mut shard = Shard::new();
    let key = shard.watchers.add();
    let only = |name: &str| Filter::all(false, true).only(&[name.to_owned()]).expect("one name");
    shard.watchers.watch_many(key, only("t"), Framing::WebSocket);
    ["b", "c"].into_iter().for_each(|job| shard.subscribe(key, job, Since::Now));
    shard.serve();
    // It takes the first of two events in part, and stands behind what it does not want of the other job.
    shard.room.insert(key, 10);
    take_line(&mut shard.live, MEMORY + 4, r#"{"type":"other","job_id":"c"}"#);
    shard.publish(1_005..=1_006, 0);
    shard.serve();
    shard.watchers.set_filter(key, Filter::all(false, true));
    shard.make_room(key, usize::MAX);
    shard.serve();
    assert_eq!(shard.numbers(key), [1_005, 1_006]);
}
