//! Which lines of each publisher the stream has: what makes a line count once, through whichever daemon it came.
//!
//! A line that its publisher sent twice may stand in the stream twice. Every daemon has to leave out the same one of
//! the two, also a daemon that began to read later. So what is known of a publisher depends on the chunks of the last
//! `history_millis` alone, by the clock of the stream, and not on anything a daemon remembers from before.

use std::collections::{BTreeSet, HashMap};

use slab::Slab;

use crate::bus::chunk::Source;

/// Publishers of one kind that are known at once, at most; the one that was silent for longest goes first. So what is
/// known depends on what came since then, and all daemons forget the same ones.
const ACCOUNTS_MAX: usize = 65_536;

/// Of these, those of one space, where there are several.
const SPACE_ACCOUNTS_MAX: usize = ACCOUNTS_MAX / 4;

/// Steps down that are remembered of a publisher. One that goes on where it was has none.
const STEPS_MAX: usize = 16;

/// How names of those begin who may publish for some ids alone, see
/// [`Rights::account_of`](crate::access::rights::Rights::account_of), and what ends the space, as it is in a token.
const OF_TOKEN: &str = "of-token:";
const SPACE_END: &str = "%2F";

/// For how long lines are remembered, by the window in which the server takes each id once: the same for all daemons of
/// a stream.
pub fn history_millis(window_millis: u64) -> u64 {
    window_millis.saturating_mul(5)
}

/// Who publishes. No kind takes room from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A connection without a name. It never comes back, but a late copy of its lines may.
    Connection,
    /// A name of those who may publish for all ids.
    Name,
    /// A name of those who may publish for some ids alone. Those who may for the same share a space of names.
    OfToken,
}

const KINDS: usize = 3;

/// Each with the time of its last chunk.
type Silent = BTreeSet<(u64, usize)>;

struct Account {
    token: Box<str>,
    kind: Kind,
    /// When a chunk came, and its last line: times grow, lines fall. The first is the greatest line of the time that
    /// counts.
    steps: Vec<(u64, u64)>,
}

/// What a chunk's lines are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// So many of its first lines have been in the stream before.
    pub repeated: usize,
    /// All lines of the publisher up to this one are in the stream now; 0 for a chunk of another program.
    pub accepted: u64,
}

pub struct Accounts {
    history_millis: u64,
    /// The time of the newest message; it never falls, whatever the clocks of servers say.
    now: u64,
    accounts: Slab<Account>,
    tokens: HashMap<Box<str>, usize, foldhash::fast::RandomState>,
    /// By their kind.
    silent: [Silent; KINDS],
    /// Those of tokens, by their space.
    spaces: HashMap<Box<str>, Silent, foldhash::fast::RandomState>,
}

impl Accounts {
    /// Lines are remembered for `history_millis` of the stream's time: the same for all daemons, and at least twice the
    /// window in which the server takes each id once.
    pub fn new(history_millis: u64) -> Self {
        Self {
            history_millis,
            now: 0,
            accounts: Slab::new(),
            tokens: HashMap::default(),
            silent: Default::default(),
            spaces: HashMap::default(),
        }
    }

    /// Takes the next message of the stream, which came at `time_millis`. Every daemon says the same of a message, if it
    /// has seen those of the `history_millis` before.
    pub fn fold(&mut self, source: Option<&Source<'_>>, time_millis: u64) -> Folded {
        self.now = self.now.max(time_millis);
        self.forget();
        let Some(Source { token, lines }) = source else {
            return Folded::default();
        };
        let key = self.open(token);
        let (start, now) = (self.start(), self.now);
        let account = &mut self.accounts[key];
        let heard_before = account.steps.last().map(|step| step.0);
        let behind = account.steps.partition_point(|step| step.0 <= start);
        account.steps.drain(..behind);
        let before = account.steps.first().map_or(0, |step| step.1);
        let last = lines.last();
        while account.steps.last().is_some_and(|step| step.1 <= last) {
            account.steps.pop();
        }
        if account.steps.len() < STEPS_MAX {
            account.steps.push((now, last));
        }
        let heard = account.steps.last().map_or(now, |step| step.0);
        if heard_before != Some(heard) {
            heard_before.into_iter().for_each(|before| self.unlist((before, key)));
            self.list((heard, key));
        }
        Folded { repeated: lines.count_through(before) as usize, accepted: before.max(last) }
    }

    /// The last line of a publisher that the stream has; 0: it is unknown, or has been silent for too long.
    pub fn accepted(&self, token: &str) -> u64 {
        let Some(&key) = self.tokens.get(token) else { return 0 };
        let steps = self.accounts[key].steps.iter();
        steps.clone().find(|step| step.0 > self.start()).map_or(0, |step| step.1)
    }

    /// What came then, or before, does not count any more. Nothing is that old while the stream's time is young.
    fn start(&self) -> u64 {
        self.now.saturating_sub(self.history_millis)
    }

    fn open(&mut self, token: &str) -> usize {
        if let Some(&key) = self.tokens.get(token) {
            return key;
        }
        let kind = kind_of(token);
        let of_space = self.spaces.get(space_of(token)).filter(|silent| silent.len() == SPACE_ACCOUNTS_MAX);
        let of_kind = Some(&self.silent[kind as usize]).filter(|silent| silent.len() == ACCOUNTS_MAX);
        if let Some(&oldest) = of_space.or(of_kind).and_then(BTreeSet::first) {
            self.remove(oldest);
        }
        let key = self.accounts.insert(Account { token: token.into(), kind, steps: Vec::new() });
        self.tokens.insert(token.into(), key);
        key
    }

    fn forget(&mut self) {
        let start = self.start();
        for kind in 0..KINDS {
            while let Some(&oldest) = self.silent[kind].first()
                && oldest.0 <= start
            {
                self.remove(oldest);
            }
        }
    }

    /// Its last chunk came then.
    fn list(&mut self, heard: (u64, usize)) {
        let Account { token, kind, .. } = &self.accounts[heard.1];
        self.silent[*kind as usize].insert(heard);
        if *kind != Kind::OfToken {
            return;
        }
        match self.spaces.get_mut(space_of(token)) {
            Some(silent) => drop(silent.insert(heard)),
            None => drop(self.spaces.insert(space_of(token).into(), BTreeSet::from([heard]))),
        }
    }

    fn unlist(&mut self, heard: (u64, usize)) {
        let Account { token, kind, .. } = &self.accounts[heard.1];
        self.silent[*kind as usize].remove(&heard);
        if let Some(silent) = self.spaces.get_mut(space_of(token)) {
            silent.remove(&heard);
            if silent.is_empty() {
                self.spaces.remove(space_of(token));
            }
        }
    }

    fn remove(&mut self, oldest: (u64, usize)) {
        self.unlist(oldest);
        let account = self.accounts.remove(oldest.1);
        self.tokens.remove(&account.token);
    }

    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }
}

fn kind_of(token: &str) -> Kind {
    match token {
        _ if token.starts_with('~') => Kind::Connection,
        _ if token.starts_with(OF_TOKEN) => Kind::OfToken,
        _ => Kind::Name,
    }
}

/// Among whose names it is; empty for a kind without spaces.
fn space_of(token: &str) -> &str {
    match kind_of(token) {
        Kind::Connection | Kind::Name => "",
        Kind::OfToken => token.split_once(SPACE_END).map_or(OF_TOKEN, |(space, _)| space),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ACCOUNTS_MAX, Accounts, Folded, Kind, SPACE_ACCOUNTS_MAX, STEPS_MAX, kind_of, space_of};
    use crate::access::patterns::Patterns;
    use crate::access::rights::{Issuer, Rights, Scopes};
    use crate::bus::chunk::{Source, token_of_connection, token_of_name};
    use crate::bus::line_ranges::LineRanges;

    const HISTORY: u64 = 600_000;

    fn fold(accounts: &mut Accounts, token: &str, lines: &str, time: u64) -> (usize, u64) {
        let source = Source { token, lines: LineRanges::parse(lines).unwrap() };
        let Folded { repeated, accepted } = accounts.fold(Some(&source), time);
        assert_eq!(accounts.accepted(token), accepted);
        (repeated, accepted)
    }

    #[test]
    fn lines_count_once() {
        let mut accounts = Accounts::new(HISTORY);
        let mut fold = |token: &str, lines: &str| fold(&mut accounts, token, lines, 1_000_000);
        assert_eq!(fold("a", "1-3"), (0, 3));
        assert_eq!(fold("a", "1-3"), (3, 3));
        assert_eq!(fold("a", "2-3,5,7-8"), (2, 8));
        assert_eq!(fold("b", "5-6"), (0, 6));
        assert_eq!(fold("a", "1-2"), (2, 8));
        assert_eq!(fold("a", "7-9"), (2, 9));
        assert_eq!(accounts.fold(None, 1_000_001), Folded::default());
        assert_eq!((accounts.accepted("c"), accounts.len()), (0, 2));
    }

    #[test]
    fn a_publisher_is_forgotten_by_the_time_of_the_stream() {
        let mut accounts = Accounts::new(HISTORY);
        assert_eq!(fold(&mut accounts, "a", "1-3", 1_000), (0, 3));
        assert_eq!(fold(&mut accounts, "b", "1", HISTORY + 999), (0, 1));
        assert_eq!(accounts.accepted("a"), 3);
        accounts.fold(None, HISTORY + 1_000);
        assert_eq!((accounts.accepted("a"), accounts.len()), (0, 1));
        // A server's clock that goes back changes nothing.
        assert_eq!(fold(&mut accounts, "a", "1-2", 5), (0, 2));
        assert_eq!(fold(&mut accounts, "a", "1-2", HISTORY + 2_000), (2, 2));
    }

    /// A daemon that begins later says the same once it has read for long enough.
    #[test]
    fn what_was_before_has_no_effect() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let step = HISTORY / random.u64(2..40);
            let chunks: Vec<(u64, String)> = (1..120)
                .map(|number| {
                    let first = random.u64(1..20);
                    (number * step + random.u64(..step), format!("{first}-{}", first + random.u64(..5)))
                })
                .collect();
            let start = random.usize(..chunks.len());
            let (mut early, mut late) = (Accounts::new(HISTORY), Accounts::new(HISTORY));
            for (index, (time, lines)) in chunks.iter().enumerate() {
                let said = fold(&mut early, "a", lines, *time);
                if index >= start {
                    let late = fold(&mut late, "a", lines, *time);
                    assert!(*time < chunks[start].0 + HISTORY || said == late, "{said:?} {late:?}");
                }
            }
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut accounts = Accounts::new(HISTORY);
        for number in 0..ACCOUNTS_MAX + 10 {
            fold(&mut accounts, &format!("name-{number}"), "1-9", 1_000_000 + number as u64);
        }
        assert_eq!(
            (accounts.len(), accounts.tokens.len(), accounts.silent.iter().map(BTreeSet::len).sum()),
            (ACCOUNTS_MAX, ACCOUNTS_MAX, ACCOUNTS_MAX)
        );
        assert_eq!((accounts.accepted("name-9"), accounts.accepted("name-10")), (0, 9));
        for line in (1..=1_000_u64).rev() {
            fold(&mut accounts, "falls", &line.to_string(), 2_000_000);
        }
        let key = accounts.tokens["falls"];
        assert_eq!(accounts.accounts[key].steps.len(), STEPS_MAX);
        for number in 0..2 * ACCOUNTS_MAX {
            let token = [format!("~{number}"), format!("of-token:{}%2F{number}", number % 5)];
            token.iter().for_each(|token| {
                fold(&mut accounts, token, "1", 2_000_000);
            });
        }
        // The names have been forgotten by their age, but for the one that falls.
        assert_eq!(accounts.silent.each_ref().map(BTreeSet::len), [ACCOUNTS_MAX, 1, ACCOUNTS_MAX]);
        accounts.fold(None, 2_000_000 + HISTORY);
        assert!(accounts.is_empty() && accounts.tokens.is_empty() && accounts.spaces.is_empty());
        assert!(accounts.silent.iter().all(BTreeSet::is_empty));
    }

    #[test]
    fn kinds_are_those_of_the_rights() {
        let token = |publish: &str, name: &str| {
            let scopes = Scopes { publish: Patterns::new([publish]).unwrap(), ..Scopes::default() };
            token_of_name(
                &Rights { issuer: Issuer::File([7; 32]), scopes, expires_at: None }.account_of(name),
            )
        };
        let [one, same, other] = [("a", "x"), ("a", "y"), ("b", "x")].map(|(ids, name)| token(ids, name));
        assert_eq!((kind_of(&one), space_of(&one)), (Kind::OfToken, space_of(&same)));
        assert_ne!(space_of(&one), space_of(&other));
        assert_eq!(kind_of(&token("*", "x")), Kind::Name);
        assert_eq!(kind_of(&token_of_connection("host", 1)), Kind::Connection);
    }

    #[test]
    fn nobody_pushes_out_names_of_others() {
        let mut accounts = Accounts::new(HISTORY);
        let names = ["engine", "of-token:a%2Fengine", "of-token:old"];
        names.into_iter().for_each(|name| {
            fold(&mut accounts, name, "1-5", 1_000_000);
        });
        for number in 0..=ACCOUNTS_MAX as u64 {
            let tokens = [format!("~host.{number}"), format!("of-token:b%2F{number}")];
            tokens.iter().for_each(|token| {
                fold(&mut accounts, token, "1", 1_000_001 + number / 1_000);
            });
        }
        assert_eq!(names.map(|name| accounts.accepted(name)), [5; 3]);
        let of_space = accounts.spaces["of-token:b"].len();
        assert_eq!((of_space, accounts.silent[0].len()), (SPACE_ACCOUNTS_MAX, ACCOUNTS_MAX));
        assert_eq!((accounts.accepted("~host.0"), accounts.accepted("~host.1")), (0, 1));
    }
}
