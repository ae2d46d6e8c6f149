//! Whether a server that answers for the stream still leads it.

/// Another server leads at the earliest so long after the other copies have last heard of this one: four seconds, less what
/// an answer may take.
const LEASE_NANOS: u64 = 3_000_000_000;

/// `heard_nanos`: how long ago the leader has heard of each of the other copies; 0 if it never has.
///
/// A leader that is cut off from the others answers for ten seconds as if nothing had happened, while they have another one
/// after four. Only if it has just heard of most of them is its answer the newest.
pub fn holds(has_leader: bool, heard_nanos: impl ExactSizeIterator<Item = u64>) -> bool {
    let copies = heard_nanos.len() + 1;
    let in_touch = 1 + heard_nanos.filter(|nanos| (1..LEASE_NANOS).contains(nanos)).count();
    has_leader && 2 * in_touch > copies
}

#[cfg(test)]
mod tests {
    use super::holds;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_leader_needs_to_have_heard_of_most_copies_just_now() {
        let three = |heard: [u64; 2]| holds(true, heard.into_iter());
        assert!(three([SECOND / 2, SECOND]) && three([SECOND, 20 * SECOND]));
        assert!(!three([4 * SECOND, 20 * SECOND]));
        assert!(!three([0, 0]), "it has never heard of them");
        let five = |heard: [u64; 4]| holds(true, heard.into_iter());
        assert!(five([1, 1, 9 * SECOND, 0]) && !five([1, 9 * SECOND, 9 * SECOND, 0]));
    }

    #[test]
    fn one_copy_has_nobody_to_hear_of_and_no_leader_is_no_answer() {
        assert!(holds(true, std::iter::empty()));
        assert!(!holds(false, [1, 1].into_iter()));
    }
}
