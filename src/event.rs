//! Event types: a growing table of (type, inner type) rows, each with one bit of a [`TypeMask`].
//!
//! A filter is one `AND` per event. The table has room for 127 rows. Types beyond it share the last bit and are
//! compared by name, which is slower but just as exact.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use parking_lot::RwLock;

/// A set of rows of the [`TypeTable`].
pub type TypeMask = u128;

/// Every row.
pub const ALL_TYPES: TypeMask = TypeMask::MAX;

/// The bit that all types beyond the table share.
pub const OVERFLOW_BIT: u8 = 127;

/// The bit of `metrics`.
pub const METRICS_BIT: u8 = 15;

/// What an event of this row means for its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Started,
    Paused,
    Resumed,
    Completed,
    Failed,
    Cancelled,
    SlotCall,
    EventEmit,
    Metrics,
    Other,
}

impl Meaning {
    /// The job has ended, until a later event says otherwise.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// One row: which events carry its bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeRow {
    pub kind: Box<str>,
    /// `execution_event`'s inner `event_type`.
    pub inner: Option<Box<str>>,
    pub meaning: Meaning,
    /// Delivered on `/debug`.
    pub is_debug: bool,
}

/// The documented rows: type, inner type, meaning, whether `/debug` delivers them.
const DOCUMENTED: [(&str, Option<&str>, Meaning, bool); 18] = [
    ("execution_event", Some("slot_call"), Meaning::SlotCall, true),
    ("execution_event", Some("event_emit"), Meaning::EventEmit, true),
    ("execution_event", Some("error"), Meaning::Other, true),
    ("execution_event", None, Meaning::Other, true),
    ("routine_started", None, Meaning::Other, true),
    ("routine_completed", None, Meaning::Other, true),
    ("routine_failed", None, Meaning::Other, true),
    ("breakpoint_hit", None, Meaning::Other, true),
    ("breakpoint_resumed", None, Meaning::Other, true),
    ("job_started", None, Meaning::Started, true),
    ("job_paused", None, Meaning::Paused, true),
    ("job_resumed", None, Meaning::Resumed, true),
    ("job_completed", None, Meaning::Completed, true),
    ("job_failed", None, Meaning::Failed, true),
    ("job_cancelled", None, Meaning::Cancelled, true),
    ("metrics", None, Meaning::Metrics, false),
    ("slot_called", None, Meaning::SlotCall, false),
    ("event_emitted", None, Meaning::EventEmit, false),
];

/// The row's name in the other dialect: for a documented row the Overseer's name, and the other way round.
pub fn dialect_name(row: &TypeRow) -> Option<&'static str> {
    match (&*row.kind, row.inner.as_deref()) {
        ("execution_event", Some("slot_call")) => Some("slot_called"),
        ("execution_event", Some("event_emit")) => Some("event_emitted"),
        ("slot_called", None) => Some("slot_call"),
        ("event_emitted", None) => Some("event_emit"),
        _ => None,
    }
}

/// Whether `/debug` delivers a type that the table does not list.
pub fn is_debug_type(kind: &str) -> bool {
    kind.starts_with("job_") || kind == "execution_event"
}

/// All rows seen so far. Only the sequencer adds rows; every thread reads them.
pub struct TypeTable {
    rows: RwLock<Vec<TypeRow>>,
    /// Grows with every row that is added.
    generation: AtomicU64,
}

impl Default for TypeTable {
    fn default() -> Self {
        Self::new()
    }
}

impl TypeTable {
    pub fn new() -> Self {
        let rows = DOCUMENTED.iter().map(|&(kind, inner, meaning, is_debug)| TypeRow {
            kind: kind.into(),
            inner: inner.map(Into::into),
            meaning,
            is_debug,
        });
        Self { rows: RwLock::new(rows.collect()), generation: AtomicU64::new(1) }
    }

    /// Changes when a mask made from the table may have become stale.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The bit of a (type, inner type). A new pair gets its own row while there is room.
    pub fn bit(&self, kind: &str, inner: Option<&str>) -> (u8, Meaning) {
        let mut rows = self.rows.write();
        let found = rows.iter().position(|row| &*row.kind == kind && row.inner.as_deref() == inner);
        if let Some(bit) = found {
            return (bit as u8, rows[bit].meaning);
        }
        if rows.len() == OVERFLOW_BIT as usize {
            return (OVERFLOW_BIT, Meaning::Other);
        }
        rows.push(TypeRow {
            kind: kind.into(),
            inner: inner.map(Into::into),
            meaning: Meaning::Other,
            is_debug: is_debug_type(kind),
        });
        self.generation.fetch_add(1, Ordering::Release);
        ((rows.len() - 1) as u8, Meaning::Other)
    }

    /// The rows from `first` on.
    pub fn rows_from(&self, first: usize) -> Vec<TypeRow> {
        self.rows.read()[first..].to_vec()
    }

    /// Type and inner type of every row.
    pub fn names(&self) -> Vec<(Box<str>, Option<Box<str>>)> {
        self.rows.read().iter().map(|row| (row.kind.clone(), row.inner.clone())).collect()
    }

    /// The rows for which `matches` holds.
    pub fn mask(&self, matches: impl Fn(&TypeRow) -> bool) -> TypeMask {
        let rows = self.rows.read();
        let matching = rows.iter().enumerate().filter(|(_, row)| matches(row));
        matching.fold(0, |mask, (bit, _)| mask | 1 << bit)
    }
}

/// One thread's cache of the table: a known type costs no lock.
pub struct TypeLookup {
    kinds: HashMap<Box<str>, Kind, RandomState>,
    meanings: [Meaning; 128],
}

#[derive(Default)]
struct Kind {
    plain: Option<(u8, Meaning)>,
    inner: Vec<(Box<str>, u8, Meaning)>,
}

impl Default for TypeLookup {
    fn default() -> Self {
        Self::new()
    }
}

impl TypeLookup {
    pub fn new() -> Self {
        Self { kinds: HashMap::default(), meanings: [Meaning::Other; 128] }
    }

    /// The meaning of events with this bit, once [`TypeLookup::bit`] has returned it.
    pub fn meaning(&self, bit: u8) -> Meaning {
        self.meanings[bit as usize]
    }

    pub fn bit(&mut self, table: &TypeTable, kind: &str, inner: Option<&str>) -> (u8, Meaning) {
        let known = self.kinds.get(kind).and_then(|known| match inner {
            None => known.plain,
            Some(inner) => known
                .inner
                .iter()
                .find(|(name, ..)| **name == *inner)
                .map(|&(_, bit, meaning)| (bit, meaning)),
        });
        known.unwrap_or_else(|| self.learn(table, kind, inner))
    }

    #[cold]
    fn learn(&mut self, table: &TypeTable, kind: &str, inner: Option<&str>) -> (u8, Meaning) {
        let (bit, meaning) = table.bit(kind, inner);
        self.meanings[bit as usize] = meaning;
        // Types beyond the table have no bound, so they are not cached.
        if bit != OVERFLOW_BIT {
            let known = self.kinds.entry(kind.into()).or_default();
            match inner {
                None => known.plain = Some((bit, meaning)),
                Some(inner) => known.inner.push((inner.into(), bit, meaning)),
            }
        }
        (bit, meaning)
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL_TYPES, Meaning, OVERFLOW_BIT, TypeTable};

    #[test]
    fn documented_types_have_rows_from_the_start() {
        let table = TypeTable::new();
        let generation = table.generation();
        assert_eq!(table.bit("execution_event", Some("slot_call")).1, Meaning::SlotCall);
        assert_eq!(table.bit("job_failed", None).1, Meaning::Failed);
        assert_eq!(table.generation(), generation);
    }

    #[test]
    fn metrics_have_their_bit() {
        assert_eq!(TypeTable::new().bit("metrics", None), (super::METRICS_BIT, Meaning::Metrics));
    }

    #[test]
    fn types_beyond_the_table_share_the_last_bit() {
        let table = TypeTable::new();
        let mut seen = 0u128;
        for n in 0..200 {
            let (bit, _) = table.bit(&format!("custom_{n}"), None);
            assert!(bit == OVERFLOW_BIT || seen & 1 << bit == 0);
            seen |= 1 << bit;
        }
        assert_eq!(seen | (table.mask(|_| true) | 1 << OVERFLOW_BIT), ALL_TYPES);
        assert_eq!(table.bit("custom_199", None).0, OVERFLOW_BIT);
        assert_eq!(table.bit("custom_3", None), table.bit("custom_3", None));
    }

    #[test]
    fn the_debug_set_is_the_published_one() {
        let table = TypeTable::new();
        let debug = table.mask(|row| row.is_debug);
        for kind in ["breakpoint_hit", "breakpoint_resumed", "routine_started", "job_cancelled"] {
            assert_ne!(debug & 1 << table.bit(kind, None).0, 0, "{kind}");
        }
        for kind in ["metrics", "slot_called"] {
            assert_eq!(debug & 1 << table.bit(kind, None).0, 0, "{kind}");
        }
        let (bit, _) = table.bit("job_requeued", None);
        assert_ne!(table.mask(|row| row.is_debug) & 1 << bit, 0);
    }
}
