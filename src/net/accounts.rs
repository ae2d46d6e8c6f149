//! Publishers by name: under a name, lines are taken once (`dedupe`).

use std::collections::HashMap;

use slab::Slab;

use crate::stream::snapshot::PublisherPart;

/// What is known of a publisher's name.
struct Account {
    name: Box<str>,
    /// The last line accepted under it, from whichever connection.
    accepted: u64,
    /// Connections that use it now.
    users: usize,
    /// When the last of them left, in milliseconds of the daemon's clock.
    left_at: u64,
}

#[derive(Default)]
pub struct Accounts {
    accounts: Slab<Account>,
    names: HashMap<Box<str>, usize>,
}

impl Accounts {
    /// The names of a run before this one; nobody uses them yet.
    pub fn restored(parts: impl Iterator<Item = PublisherPart>, now_millis: u64) -> Self {
        let mut accounts = Self::default();
        for part in parts {
            let left_at = now_millis.saturating_sub(part.silent_millis);
            let account = Account { name: part.name.clone(), accepted: part.accepted, users: 0, left_at };
            let key = accounts.accounts.insert(account);
            accounts.names.insert(part.name, key);
        }
        accounts
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

    /// The account of a name, for one more connection.
    pub fn open(&mut self, name: Box<str>) -> usize {
        let accounts = &mut self.accounts;
        let account = *self.names.entry(name).or_insert_with_key(|name| {
            accounts.insert(Account { name: name.clone(), accepted: 0, users: 0, left_at: 0 })
        });
        accounts[account].users += 1;
        account
    }

    pub fn accepted(&self, account: usize) -> u64 {
        self.accounts[account].accepted
    }

    pub fn accept(&mut self, account: usize, line: u64) {
        self.accounts[account].accepted = line;
    }

    /// One connection less.
    pub fn close(&mut self, account: usize, now_millis: u64) {
        let account = &mut self.accounts[account];
        account.users -= 1;
        account.left_at = now_millis;
    }

    /// Forgets the names that nobody has used since.
    pub fn forget_before(&mut self, millis: u64) {
        self.accounts.retain(|_, account| {
            let stays = account.users > 0 || account.left_at > millis;
            if !stays {
                self.names.remove(&account.name);
            }
            stays
        });
    }

    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Accounts;

    #[test]
    fn a_name_is_remembered_after_its_publisher_left_and_then_forgotten() {
        let mut accounts = Accounts::default();
        let first = accounts.open("engine".into());
        accounts.accept(first, 7);
        accounts.close(first, 1_000);
        accounts.forget_before(999);
        let again = accounts.open("engine".into());
        assert_eq!(accounts.accepted(again), 7);
        accounts.forget_before(5_000);
        assert_eq!(accounts.accepted(again), 7, "it is in use");
        accounts.close(again, 6_000);
        accounts.forget_before(6_000);
        assert!(accounts.is_empty());
    }

    #[test]
    fn names_go_on_in_the_next_run_as_old_as_they_are() {
        let mut accounts = Accounts::default();
        for (name, line) in [("left", 3), ("there", 5)] {
            let account = accounts.open(name.into());
            accounts.accept(account, line);
            if name == "left" {
                accounts.close(account, 1_000);
            }
        }
        let parts = accounts.parts(4_000);
        let mut next = Accounts::restored(parts.into_iter(), 100_000);
        next.forget_before(97_000);
        let accepted = |next: &mut Accounts, name: &str| {
            let account = next.open(name.into());
            next.accepted(account)
        };
        assert_eq!([accepted(&mut next, "left"), accepted(&mut next, "there")], [0, 5]);
    }
}
