//! Publishers' names and the last line accepted under each (`dedupe`): a repeated line is not taken twice.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use slab::Slab;

use crate::access::rights::space_of;
use crate::stream::snapshot::PublisherPart;
use crate::wire::line::LINE_NUMBER_MAX;

/// The state of one name.
struct Account {
    name: Box<str>,
    /// Among whose names it is.
    space: usize,
    /// The last line accepted under it, from any connection.
    accepted: u64,
    /// Connections that use it now.
    users: usize,
    /// When the last of them ended, in milliseconds of the daemon's clock.
    left_at: u64,
}

/// `(left_at, account)` of an unused name: the oldest is the least.
type Left = (u64, usize);

/// The names of those who may publish for the same.
struct Space {
    name: Box<str>,
    /// Its accounts, used or not.
    accounts: usize,
    /// Its unused names.
    left: BTreeSet<Left>,
}

/// How many unused names a space has, its oldest, and which it is. The greatest forgets first.
type Rank = (usize, Reverse<Left>, usize);

/// Most unused names that are remembered: 24 MB with the longest names. Names in use do not count.
const LEFT_MAX: usize = 65_536;

#[derive(Default)]
pub struct Dedupe {
    accounts: Slab<Account>,
    names: HashMap<Box<str>, usize>,
    spaces: Slab<Space>,
    space_names: HashMap<Box<str>, usize>,
    /// All unused names.
    left: BTreeSet<Left>,
    /// The spaces that have some of them.
    ranks: BTreeSet<Rank>,
}

impl Dedupe {
    /// Takes over the names of an earlier run, all unused. A name whose number no line can have is dropped.
    pub fn restored(parts: impl Iterator<Item = PublisherPart>, now_millis: u64) -> Self {
        let mut dedupe = Self::default();
        for part in parts.filter(|part| part.accepted <= LINE_NUMBER_MAX) {
            let left_at = now_millis.saturating_sub(part.silent_millis);
            let key = dedupe.add(part.name, part.accepted, left_at);
            dedupe.change_left(key, true);
        }
        dedupe.displace();
        dedupe
    }

    /// The names as the next run needs them.
    pub fn parts(&self, now_millis: u64) -> Vec<PublisherPart> {
        let part = |account: &Account| PublisherPart {
            name: account.name.clone(),
            accepted: account.accepted,
            silent_millis: if account.users > 0 { 0 } else { now_millis.saturating_sub(account.left_at) },
        };
        self.accounts.iter().map(|(_, account)| part(account)).collect()
    }

    /// The account of a name, which one more connection uses.
    pub fn open(&mut self, name: &str) -> usize {
        let key = match self.names.get(name) {
            Some(&key) => key,
            None => self.add(name.into(), 0, 0),
        };
        if self.accounts[key].users == 0 {
            self.change_left(key, false);
        }
        self.accounts[key].users += 1;
        key
    }

    fn add(&mut self, name: Box<str>, accepted: u64, left_at: u64) -> usize {
        let space_name = space_of(&name);
        let space = match self.space_names.get(space_name) {
            Some(&space) => space,
            None => {
                let left = BTreeSet::new();
                let space = self.spaces.insert(Space { name: space_name.into(), accounts: 0, left });
                self.space_names.insert(space_name.into(), space);
                space
            }
        };
        self.spaces[space].accounts += 1;
        let key = self.accounts.insert(Account { name: name.clone(), space, accepted, users: 0, left_at });
        self.names.insert(name, key);
        key
    }

    /// Puts an account among the unused ones, or takes it out.
    fn change_left(&mut self, key: usize, is_left: bool) {
        let Account { space, left_at, .. } = self.accounts[key];
        let entry = (left_at, key);
        let left = &mut self.spaces[space].left;
        let rank = |left: &BTreeSet<Left>| left.first().map(|&oldest| (left.len(), Reverse(oldest), space));
        let before = rank(left);
        for left in [&mut *left, &mut self.left] {
            match is_left {
                true => left.insert(entry),
                false => left.remove(&entry),
            };
        }
        let after = rank(left);
        before.iter().for_each(|rank| {
            self.ranks.remove(rank);
        });
        self.ranks.extend(after);
    }

    pub fn accepted(&self, account: usize) -> u64 {
        self.accounts[account].accepted
    }

    pub fn accept(&mut self, account: usize, line: u64) {
        self.accounts[account].accepted = line;
    }

    /// One connection fewer uses the account.
    pub fn close(&mut self, key: usize, now_millis: u64) {
        let account = &mut self.accounts[key];
        account.users -= 1;
        account.left_at = now_millis;
        if account.users == 0 {
            self.change_left(key, true);
            self.displace();
        }
    }

    /// Forgets the names that have not been used since `millis`.
    pub fn forget_before(&mut self, millis: u64) {
        while let Some(&(left_at, key)) = self.left.first()
            && left_at <= millis
        {
            self.forget(key);
        }
    }

    /// Forgets unused names beyond [`LEFT_MAX`]: the oldest of those of which there are the most, so that nobody is
    /// forgotten for the many names of another token.
    fn displace(&mut self) {
        while self.left.len() > LEFT_MAX {
            let &(_, Reverse((_, key)), _) = self.ranks.last().expect("there are unused names");
            self.forget(key);
        }
    }

    fn forget(&mut self, key: usize) {
        self.change_left(key, false);
        let Account { name, space, .. } = self.accounts.remove(key);
        self.names.remove(&name);
        self.spaces[space].accounts -= 1;
        if self.spaces[space].accounts == 0 {
            let Space { name, .. } = self.spaces.remove(space);
            self.space_names.remove(&name);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Dedupe, LEFT_MAX};
    use crate::stream::snapshot::PublisherPart;

    #[test]
    fn a_name_is_remembered_after_its_publisher_ends_and_later_forgotten() {
        let mut dedupe = Dedupe::default();
        let first = dedupe.open("engine");
        dedupe.accept(first, 7);
        dedupe.close(first, 1_000);
        dedupe.forget_before(999);
        let again = dedupe.open("engine");
        assert_eq!(dedupe.accepted(again), 7);
        dedupe.forget_before(5_000);
        assert_eq!(dedupe.accepted(again), 7, "it is in use");
        dedupe.close(again, 6_000);
        dedupe.forget_before(6_000);
        assert!(dedupe.is_empty());
    }

    #[test]
    fn names_keep_their_age_in_the_next_run() {
        let mut dedupe = Dedupe::default();
        for (name, line) in [("left", 3), ("there", 5)] {
            let account = dedupe.open(name);
            dedupe.accept(account, line);
            if name == "left" {
                dedupe.close(account, 1_000);
            }
        }
        let parts = dedupe.parts(4_000);
        let mut next = Dedupe::restored(parts.into_iter(), 100_000);
        next.forget_before(97_000);
        let accepted = |next: &mut Dedupe, name: &str| {
            let account = next.open(name);
            next.accepted(account)
        };
        assert_eq!([accepted(&mut next, "left"), accepted(&mut next, "there")], [0, 5]);
    }

    #[test]
    fn only_the_newest_of_a_million_names_are_remembered() {
        let mut dedupe = Dedupe::default();
        let there = dedupe.open("there");
        dedupe.accept(there, 9);
        for number in 0..1_000_000_u64 {
            let account = dedupe.open(&format!("name-{number}"));
            dedupe.accept(account, number);
            // Several within one millisecond.
            dedupe.close(account, number / 10);
        }
        assert_eq!((dedupe.accounts.len(), dedupe.names.len()), (LEFT_MAX + 1, LEFT_MAX + 1));
        assert_eq!(dedupe.accepted(there), 9, "it is in use");
        for (number, accepted) in
            [(999_999, 999_999), (1_000_000 - LEFT_MAX as u64, 1_000_000 - LEFT_MAX as u64), (7, 0)]
        {
            let account = dedupe.open(&format!("name-{number}"));
            assert_eq!(dedupe.accepted(account), accepted);
        }
        dedupe.forget_before(u64::MAX);
        assert_eq!(dedupe.accounts.len(), 4, "only names in use are left");
    }

    #[test]
    fn the_names_of_one_token_push_out_none_of_another() {
        let mut dedupe = Dedupe::default();
        let use_at = |dedupe: &mut Dedupe, name: &str, now: u64| {
            let account = dedupe.open(name);
            let accepted = dedupe.accepted(account);
            dedupe.accept(account, 5);
            dedupe.close(account, now);
            accepted
        };
        let others = ["nightly", "of-token:b/nightly", "of-token:c/nightly"];
        others.iter().for_each(|name| assert_eq!(use_at(&mut dedupe, name, 1), 0));
        let name = |number: u64| format!("of-token:a/name-{number}");
        for number in 0..100_000 {
            assert_eq!(use_at(&mut dedupe, &name(number), 2 + number), 0);
        }
        // Also over a restart, which knows nothing but the names.
        let parts = dedupe.parts(100_002);
        let mut next = Dedupe::restored(parts.into_iter(), 100_002);
        for dedupe in [&mut dedupe, &mut next] {
            assert_eq!((dedupe.accounts.len(), dedupe.spaces.len(), dedupe.ranks.len()), (LEFT_MAX, 4, 4));
            others.iter().for_each(|name| assert_eq!(use_at(dedupe, name, 100_003), 5, "{name}"));
            let oldest = 100_000 - LEFT_MAX as u64 + others.len() as u64;
            assert_eq!(use_at(dedupe, &name(oldest), 100_003), 5);
            assert_eq!(use_at(dedupe, &name(oldest - 1), 100_003), 0);
            // Who has as many shares the room with it.
            for number in 0..100_000 {
                use_at(dedupe, &format!("of-token:b/name-{number}"), 100_003 + number);
            }
            let share = |space: &str| dedupe.spaces[dedupe.space_names[space]].left.len();
            assert_eq!(share("of-token:a").abs_diff(share("of-token:b")), 0);
            assert_eq!((share(""), share("of-token:c")), (1, 1));
            dedupe.forget_before(u64::MAX);
            assert!(dedupe.is_empty() && dedupe.names.is_empty() && dedupe.left.is_empty());
            assert!(dedupe.spaces.is_empty() && dedupe.space_names.is_empty() && dedupe.ranks.is_empty());
        }
    }

    #[test]
    fn a_name_whose_numbers_are_used_up_is_not_taken_over() {
        let part = |name: &str, accepted| PublisherPart { name: name.into(), accepted, silent_millis: 0 };
        let mut next = Dedupe::restored([part("worn", u64::MAX), part("good", 7)].into_iter(), 5);
        let accepted = ["worn", "good"].map(|name| {
            let account = next.open(name);
            next.accepted(account)
        });
        assert_eq!(accepted, [0, 7]);
    }
}
