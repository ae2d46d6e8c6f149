//! Publishers' names and the last line accepted under each (`dedupe`): a repeated line is not taken twice.

use std::collections::{BTreeSet, HashMap};

use slab::Slab;

use crate::stream::snapshot::PublisherPart;
use crate::wire::line::LINE_NUMBER_MAX;

/// The state of one name.
struct Account {
    name: Box<str>,
    /// The last line accepted under it, from any connection.
    accepted: u64,
    /// Connections that use it now.
    users: usize,
    /// When the last of them ended, in milliseconds of the daemon's clock.
    left_at: u64,
}

/// Most unused names that are remembered: 16 MB with the longest names. Names in use do not count.
const LEFT_MAX: usize = 65_536;

#[derive(Default)]
pub struct Dedupe {
    accounts: Slab<Account>,
    names: HashMap<Box<str>, usize>,
    /// `(left_at, account)` of the unused names, the oldest first.
    left: BTreeSet<(u64, usize)>,
}

impl Dedupe {
    /// Takes over the names of an earlier run, all unused. A name whose number no line can have is dropped.
    pub fn restored(parts: impl Iterator<Item = PublisherPart>, now_millis: u64) -> Self {
        let mut dedupe = Self::default();
        for part in parts.filter(|part| part.accepted <= LINE_NUMBER_MAX) {
            let left_at = now_millis.saturating_sub(part.silent_millis);
            let account = Account { name: part.name.clone(), accepted: part.accepted, users: 0, left_at };
            let key = dedupe.accounts.insert(account);
            dedupe.names.insert(part.name, key);
            dedupe.left.insert((left_at, key));
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
            None => {
                let account = Account { name: name.into(), accepted: 0, users: 0, left_at: 0 };
                let key = self.accounts.insert(account);
                self.names.insert(name.into(), key);
                key
            }
        };
        let account = &mut self.accounts[key];
        if account.users == 0 {
            self.left.remove(&(account.left_at, key));
        }
        account.users += 1;
        key
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
            self.left.insert((now_millis, key));
            self.displace();
        }
    }

    /// Forgets the names that have not been used since `millis`.
    pub fn forget_before(&mut self, millis: u64) {
        while let Some(&(left_at, key)) = self.left.first()
            && left_at <= millis
        {
            self.forget(left_at, key);
        }
    }

    /// Forgets the oldest unused names beyond [`LEFT_MAX`].
    fn displace(&mut self) {
        while self.left.len() > LEFT_MAX {
            let &(left_at, key) = self.left.first().expect("it has more than LEFT_MAX entries");
            self.forget(left_at, key);
        }
    }

    fn forget(&mut self, left_at: u64, key: usize) {
        self.left.remove(&(left_at, key));
        let account = self.accounts.remove(key);
        self.names.remove(&account.name);
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
