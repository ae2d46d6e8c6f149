//! Watchers of many jobs, some of which are read from the past.

use super::Shard;
use crate::delivery::filter::Filter;
use crate::stream::numbers::SEQ_MIN;
use crate::stream::past::Demand;
use crate::wire::client_action::Since;

#[test]
fn jobs_of_one_watcher_are_read_from_the_past_while_others_go_on() {
    let mut shard = Shard::new();
    let key = shard.watchers.add();
    shard.watchers.watch_many(key, Filter::all(false, true));
    shard.subscribe(key, "a", Since::After(SEQ_MIN + 100));
    shard.subscribe(key, "c", Since::Start);
    shard.subscribe(key, "b", Since::Now);
    shard.serve();
    assert_eq!((shard.demand().waiting, shard.demand().watchers), (Some(0), 1));
    shard.publish([1_004].into_iter(), 0);
    shard.serve();
    assert_eq!(shard.numbers(key), [1_004], "it need not wait");
    assert_eq!(shard.watchers.position(key), SEQ_MIN, "but it has not got all up to there");

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

    // One is left, and the other comes to memory, where it has missed nothing.
    assert!(shard.watchers.unsubscribe_job(key, "c"));
    shard.read([1_000, 1_001, 1_002].into_iter(), 0);
    shard.serve();
    assert_eq!(shard.numbers(key), [1_000, 1_001, 1_002, 1_003]);
    assert_eq!(shard.demand(), Demand::default());
    shard.publish([1_005].into_iter(), 0);
    shard.serve();
    assert_eq!(shard.numbers(key), [1_005]);
}

#[test]
fn a_filter_change_of_many_jobs_counts_from_where_each_is() {
    let mut shard = Shard::new();
    let key = shard.watchers.add();
    shard.watchers.watch_many(key, Filter::all(false, true));
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
