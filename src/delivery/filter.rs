//! What one watcher wants: a filter by names, and the selector, a bit mask made from it.

use std::sync::Arc;

use crate::event::{ALL_TYPES, OVERFLOW_BIT, TypeMask, TypeRow, TypeTable, dialect_name, is_debug_type};
use crate::stream::batch::Batch;

/// Names in force on one connection, at most: with 64 bytes each, 8 KiB.
pub const NAMES_MAX: usize = 128;

/// More than [`NAMES_MAX`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyNames;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    AllBut,
    Only,
}

/// The names that a client asked for, out of what its endpoint delivers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    mode: Mode,
    /// Sorted.
    names: Vec<Box<str>>,
    /// The endpoint is `/debug`.
    is_debug: bool,
    /// The connection speaks the Overseer dialect: a name matches in either.
    is_overseer: bool,
    /// The token has no `debug` right: types that begin with `breakpoint_` are hidden.
    hides_breakpoints: bool,
}

impl Filter {
    /// Everything that the endpoint delivers.
    pub fn all(is_debug: bool, is_overseer: bool) -> Self {
        Self { is_debug, is_overseer, ..Self::default() }
    }

    /// The same for a connection that may not see breakpoints.
    pub fn without_breakpoints(self) -> Self {
        Self { hides_breakpoints: true, ..self }
    }

    /// Only these names, as `events=` asks for.
    pub fn only(mut self, names: &[String]) -> Result<Self, TooManyNames> {
        self.subscribe(names)?;
        Ok(self)
    }

    /// The first call turns "all", or "all but these", into "only these"; later calls add names.
    pub fn subscribe(&mut self, names: &[String]) -> Result<(), TooManyNames> {
        if self.mode == Mode::Only {
            return self.add(names);
        }
        let mut only = Self { mode: Mode::Only, names: Vec::new(), ..*self };
        only.add(names)?;
        *self = only;
        Ok(())
    }

    /// From "all": all but these; from "only": without these.
    pub fn unsubscribe(&mut self, names: &[String]) -> Result<(), TooManyNames> {
        match self.mode {
            Mode::AllBut => self.add(names),
            Mode::Only => {
                self.remove(names);
                Ok(())
            }
        }
    }

    pub fn subscribe_all(&mut self) {
        self.mode = Mode::AllBut;
        self.names = Vec::new();
    }

    /// Whether nothing is filtered out.
    pub fn is_all(&self) -> bool {
        self.mode == Mode::AllBut && self.names.is_empty() && !self.is_debug && !self.hides_breakpoints
    }

    /// For operators: `all` or `debug`, then `-a,b` (all but these) or `+a,b` (only these).
    pub fn describe(&self) -> String {
        let base = match (self.is_debug, self.hides_breakpoints) {
            (true, _) => "debug",
            (false, true) => "all -breakpoint_*",
            (false, false) => "all",
        };
        match (self.mode, self.names.is_empty()) {
            (Mode::AllBut, true) => base.to_owned(),
            (Mode::AllBut, false) => format!("{base} -{}", self.names.join(",")),
            (Mode::Only, _) => format!("{base} +{}", self.names.join(",")),
        }
    }

    fn add(&mut self, names: &[String]) -> Result<(), TooManyNames> {
        let mut more = self.names.clone();
        for name in names {
            if let Err(place) = more.binary_search_by(|known| (**known).cmp(name)) {
                more.insert(place, name.as_str().into());
            }
        }
        if more.len() > NAMES_MAX {
            return Err(TooManyNames);
        }
        self.names = more;
        Ok(())
    }

    fn remove(&mut self, names: &[String]) {
        self.names.retain(|known| !names.iter().any(|name| **known == **name));
    }

    fn lists(&self, name: &str) -> bool {
        self.names.binary_search_by(|known| (**known).cmp(name)).is_ok()
    }

    fn wants(&self, kind: &str, inner: Option<&str>, dialect: Option<&str>) -> bool {
        let is_listed = self.lists(kind)
            || inner.is_some_and(|inner| self.lists(inner))
            || (self.is_overseer && dialect.is_some_and(|name| self.lists(name)));
        is_listed == (self.mode == Mode::Only)
    }

    fn wants_row(&self, row: &TypeRow) -> bool {
        (row.is_debug || !self.is_debug)
            && self.may_see(&row.kind, row.inner.as_deref())
            && self.wants(&row.kind, row.inner.as_deref(), dialect_name(row))
    }

    fn may_see(&self, kind: &str, inner: Option<&str>) -> bool {
        !self.hides_breakpoints || !(is_breakpoint(kind) || inner.is_some_and(is_breakpoint))
    }

    /// Whether an event whose type has no row of its own is wanted.
    fn wants_overflow(&self, kind: &str, inner: Option<&str>) -> bool {
        (!self.is_debug || is_debug_type(kind)) && self.may_see(kind, inner) && self.wants(kind, inner, None)
    }
}

/// Events of these types contain variables of the watched program.
fn is_breakpoint(kind: &str) -> bool {
    kind.starts_with("breakpoint_")
}

/// A filter as one `AND` per event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    pub mask: TypeMask,
    /// Needed only for events with the shared last bit. None: all events are wanted.
    filter: Option<Arc<Filter>>,
}

impl Selector {
    pub const ALL: Selector = Selector { mask: ALL_TYPES, filter: None };

    /// The selector for `filter` and the types that the table has now.
    pub fn new(filter: &Arc<Filter>, types: &TypeTable) -> Self {
        if filter.is_all() {
            return Self::ALL;
        }
        let mask = match filter.mode {
            // Bits of types still to come are set as well. So the mask changes only for a new type that is not
            // wanted, and other new types move no watcher to another cohort.
            Mode::AllBut => !types.mask(|row| !filter.wants_row(row)),
            Mode::Only => types.mask(|row| filter.wants_row(row)),
        };
        Self { mask: mask | 1 << OVERFLOW_BIT, filter: Some(filter.clone()) }
    }

    /// Judges `rows` that were added to the table, from the row `first` on.
    pub fn learn(&mut self, first: usize, rows: &[TypeRow]) {
        let Some(filter) = &self.filter else { return };
        for (bit, row) in (first..).zip(rows) {
            let of_row = 1 << bit;
            self.mask = if filter.wants_row(row) { self.mask | of_row } else { self.mask & !of_row };
        }
    }

    pub fn is_all(&self) -> bool {
        self.filter.is_none()
    }

    /// Whether event `index` of `batch` is wanted.
    #[inline]
    pub fn wants(&self, batch: &Batch, index: u32) -> bool {
        let bit = batch.bit(index);
        self.mask >> bit & 1 == 1 && (bit != OVERFLOW_BIT || self.wants_by_name(batch, index))
    }

    /// Judges an event by its name: its type has no row of its own.
    #[cold]
    fn wants_by_name(&self, batch: &Batch, index: u32) -> bool {
        let (kind, inner) = batch.overflow_name(index);
        self.filter.as_ref().is_none_or(|filter| filter.wants_overflow(kind, inner))
    }

    /// Whether all events of a bit are wanted, as far as the bit alone shows.
    pub fn wants_all_of(&self, bit: u8) -> bool {
        self.mask >> bit & 1 == 1 && (bit != OVERFLOW_BIT || self.filter.is_none())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Filter, Selector, TooManyNames};
    use crate::event::TypeTable;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn wants(filter: &Filter, kind: &str, inner: Option<&str>) -> bool {
        let types = TypeTable::new();
        let (bit, _) = types.bit(kind, inner);
        Selector::new(&Arc::new(filter.clone()), &types).mask >> bit & 1 == 1
    }

    #[test]
    fn the_first_subscribe_turns_all_into_only_these() {
        let mut filter = Filter::all(false, false);
        filter.subscribe(&names(&["job_failed"])).unwrap();
        assert!(wants(&filter, "job_failed", None) && !wants(&filter, "job_started", None));
        filter.subscribe(&names(&["job_started"])).unwrap();
        assert!(wants(&filter, "job_failed", None) && wants(&filter, "job_started", None));
        filter.unsubscribe(&names(&["job_failed", "job_started"])).unwrap();
        assert!(!wants(&filter, "job_failed", None), "only nothing");
        filter.subscribe_all();
        assert!(wants(&filter, "job_failed", None));
    }

    #[test]
    fn unsubscribe_from_all_leaves_the_rest() {
        let mut filter = Filter::all(false, false);
        filter.unsubscribe(&names(&["metrics"])).unwrap();
        assert!(!wants(&filter, "metrics", None) && wants(&filter, "a_type_of_tomorrow", None));
        filter.subscribe(&names(&["metrics"])).unwrap();
        assert!(wants(&filter, "metrics", None) && !wants(&filter, "job_failed", None), "only these now");
    }

    #[test]
    fn an_inner_type_is_a_name_and_a_name_matches_in_either_dialect() {
        let plain = Filter::all(false, false).only(&names(&["slot_call", "slot_called"])).unwrap();
        assert!(wants(&plain, "execution_event", Some("slot_call")));
        assert!(!wants(&plain, "execution_event", Some("event_emit")));
        let plain = Filter::all(false, false).only(&names(&["slot_called"])).unwrap();
        assert!(!wants(&plain, "execution_event", Some("slot_call")));
        let overseer = Filter::all(false, true).only(&names(&["slot_called"])).unwrap();
        assert!(wants(&overseer, "execution_event", Some("slot_call")));
        let overseer = Filter::all(false, true).only(&names(&["slot_call", "event_emit"])).unwrap();
        assert!(wants(&overseer, "slot_called", None) && wants(&overseer, "event_emitted", None));
        let plain = Filter::all(false, false).only(&names(&["slot_call"])).unwrap();
        assert!(!wants(&plain, "slot_called", None));
    }

    #[test]
    fn debug_is_a_set_of_types_that_names_cannot_widen() {
        let debug = Filter::all(true, false);
        assert!(!debug.is_all());
        assert!(wants(&debug, "job_started", None) && !wants(&debug, "metrics", None));
        let listed = debug.only(&names(&["metrics", "job_failed"])).unwrap();
        assert!(wants(&listed, "job_failed", None) && !wants(&listed, "metrics", None));
    }

    #[test]
    fn breakpoints_stay_hidden_whatever_the_client_asks_for() {
        let hidden = [
            ("breakpoint_hit", None),
            ("breakpoint_of_tomorrow", None),
            ("execution_event", Some("breakpoint_hit")),
        ];
        let mut filter = Filter::all(false, true).without_breakpoints();
        assert!(!filter.is_all());
        let everything = |filter: &Filter| {
            hidden.iter().all(|(kind, inner)| !wants(filter, kind, *inner)) && wants(filter, "x", None)
        };
        assert!(everything(&filter));
        filter.unsubscribe(&names(&["metrics"])).unwrap();
        assert!(everything(&filter) && !wants(&filter, "metrics", None));
        filter.subscribe(&names(&["breakpoint_hit", "breakpoint_of_tomorrow", "x"])).unwrap();
        assert!(everything(&filter));
        filter.subscribe(&names(&["execution_event"])).unwrap();
        assert!(everything(&filter) && wants(&filter, "execution_event", Some("slot_call")));
        filter.subscribe_all();
        assert!(everything(&filter) && wants(&filter, "breakpoints", None));
        let listed =
            Filter::all(false, false).without_breakpoints().only(&names(&["breakpoint_hit"])).unwrap();
        assert!(!wants(&listed, "breakpoint_hit", None));
        assert!(!filter.wants_overflow("breakpoint_x", None) && filter.wants_overflow("x", None));
        assert!(!filter.wants_overflow("execution_event", Some("breakpoint_x")));
    }

    #[test]
    fn a_new_type_that_is_wanted_changes_no_selector() {
        let types = TypeTable::new();
        let filter = Arc::new(Filter::all(false, false).without_breakpoints());
        let before = Selector::new(&filter, &types);
        types.bit("a_type_of_tomorrow", None);
        assert_eq!(Selector::new(&filter, &types), before);
        let (bit, _) = types.bit("breakpoint_of_tomorrow", None);
        let after = Selector::new(&filter, &types);
        assert!(after != before && after.mask >> bit & 1 == 0);
        let mut learnt = before;
        learnt.learn(18, &types.rows_from(18));
        assert_eq!(learnt, after);
    }

    #[test]
    fn a_mask_that_learns_equals_one_made_anew() {
        let types = TypeTable::new();
        let only = Filter::all(false, true).only(&names(&["new_1", "new_3", "metrics"])).unwrap();
        let mut but = Filter::all(true, false);
        but.unsubscribe(&names(&["job_2", "new_1"])).unwrap();
        for filter in [only, but].map(Arc::new) {
            let mut learnt = Selector::new(&filter, &types);
            let mut known = types.rows_from(0).len();
            for name in ["new_1", "job_2", "new_3", "job_4"] {
                types.bit(name, None);
                let rows = types.rows_from(known);
                learnt.learn(known, &rows);
                known += rows.len();
                assert_eq!(learnt, Selector::new(&filter, &types), "{name}");
            }
        }
    }

    #[test]
    fn too_many_names_change_nothing() {
        let mut filter = Filter::all(false, false);
        let many: Vec<String> = (0..129).map(|n| format!("t{n}")).collect();
        assert_eq!(filter.subscribe(&many), Err(TooManyNames));
        assert!(filter.is_all());
        filter.subscribe(&many[..128]).unwrap();
        assert_eq!(filter.subscribe(&names(&["one_more"])), Err(TooManyNames));
        filter.subscribe(&many[..128]).unwrap();
    }
}
