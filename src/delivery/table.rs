//! Tables whose keys find nothing once their entry is gone.
//!
//! A slot is reused, a generation is not: a [`Key`] that has outlived its entry finds nothing. Keys of two tables are
//! two types, by their tags. A [`Slot`] is half of a key, for places that are cleared together with the entry and so
//! never outlive it.

use std::fmt::{self, Debug, Formatter};
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::ops::{Index, IndexMut};

use slab::Slab;

/// Generations wrap around at 2^31: no key is held while so many entries are added. So a key fits in 63 bits.
const GENERATION_MAX: u32 = u32::MAX >> 1;

/// The place of an entry in its table while it is there. `T` is the tag of the table.
pub struct Slot<T> {
    /// The index plus one, so that `Option<Slot>` takes no more room than a slot.
    at: NonZeroU32,
    of: PhantomData<fn() -> T>,
}

/// Finds an entry for as long as it lives, and nothing afterwards.
pub struct Key<T> {
    pub slot: Slot<T>,
    generation: u32,
}

/// An entry of a table. It stores its own generation.
pub trait Entry {
    /// Makes the keys of this table a type of their own.
    type Tag;

    fn generation(&self) -> u32;
}

pub struct Table<T> {
    entries: Slab<T>,
    generation: u32,
}

impl<T> Slot<T> {
    /// # Panics
    ///
    /// If `index` is four billion or more.
    pub fn new(index: usize) -> Self {
        let at = u32::try_from(index).ok().and_then(|index| NonZeroU32::MIN.checked_add(index));
        Self { at: at.expect("there are fewer than four billion slots"), of: PhantomData }
    }

    /// For tables beside this one that have the same slots.
    pub fn index(self) -> usize {
        self.at.get() as usize - 1
    }
}

impl<T> Key<T> {
    /// The key as one word, below 2^63.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | self.slot.index() as u64
    }

    /// The key from which [`Key::to_bits`] made `bits`.
    pub fn from_bits(bits: u64) -> Self {
        Self { slot: Slot::new(bits as u32 as usize), generation: (bits >> 32) as u32 }
    }

    /// For tables beside this one that have the same slots.
    pub fn index(self) -> usize {
        self.slot.index()
    }
}

impl<T: Entry> Table<T> {
    pub fn new() -> Self {
        Self { entries: Slab::new(), generation: 0 }
    }

    /// Adds the entry that `make` makes from its generation.
    pub fn insert(&mut self, make: impl FnOnce(u32) -> T) -> Key<T::Tag> {
        let generation = self.generation;
        self.generation = (generation + 1) & GENERATION_MAX;
        let entry = make(generation);
        debug_assert_eq!(entry.generation(), generation);
        Key { slot: Slot::new(self.entries.insert(entry)), generation }
    }

    /// # Panics
    ///
    /// If the key has outlived its entry.
    pub fn remove(&mut self, key: Key<T::Tag>) -> T {
        let entry = self.entries.remove(key.index());
        assert_eq!(entry.generation(), key.generation, "{key:?} has outlived its entry");
        entry
    }

    /// None: the key has outlived its entry.
    pub fn get(&self, key: Key<T::Tag>) -> Option<&T> {
        self.entries.get(key.index()).filter(|entry| entry.generation() == key.generation)
    }

    /// None: the key has outlived its entry.
    pub fn get_mut(&mut self, key: Key<T::Tag>) -> Option<&mut T> {
        self.entries.get_mut(key.index()).filter(|entry| entry.generation() == key.generation)
    }

    pub fn contains(&self, key: Key<T::Tag>) -> bool {
        self.get(key).is_some()
    }

    /// The key of the entry in a slot that is not empty.
    pub fn key(&self, slot: Slot<T::Tag>) -> Key<T::Tag> {
        Key { slot, generation: self[slot].generation() }
    }

    /// The key of the entry in a slot, if there is one.
    pub fn key_at(&self, slot: Slot<T::Tag>) -> Option<Key<T::Tag>> {
        self.entries.get(slot.index()).map(|entry| Key { slot, generation: entry.generation() })
    }

    pub fn iter(&self) -> impl Iterator<Item = (Key<T::Tag>, &T)> {
        let key = |at, entry: &T| Key { slot: Slot::new(at), generation: entry.generation() };
        self.entries.iter().map(move |(at, entry)| (key(at, entry), entry))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key<T::Tag>, &mut T)> {
        let key = |at, entry: &T| Key { slot: Slot::new(at), generation: entry.generation() };
        self.entries.iter_mut().map(move |(at, entry)| (key(at, entry), entry))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<T: Entry> Default for Table<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Entry> Index<Slot<T::Tag>> for Table<T> {
    type Output = T;

    fn index(&self, slot: Slot<T::Tag>) -> &T {
        &self.entries[slot.index()]
    }
}

impl<T: Entry> IndexMut<Slot<T::Tag>> for Table<T> {
    fn index_mut(&mut self, slot: Slot<T::Tag>) -> &mut T {
        &mut self.entries[slot.index()]
    }
}

// A key that may have outlived its entry is looked up with `get`. Indexing assumes that it has not. Only debug
// assertions check that, with which the tests run: checks in the release build make a heartbeat 1 % slower.

impl<T: Entry> Index<Key<T::Tag>> for Table<T> {
    type Output = T;

    fn index(&self, key: Key<T::Tag>) -> &T {
        let entry = &self.entries[key.index()];
        debug_assert_eq!(entry.generation(), key.generation, "{key:?} has outlived its entry");
        entry
    }
}

impl<T: Entry> IndexMut<Key<T::Tag>> for Table<T> {
    fn index_mut(&mut self, key: Key<T::Tag>) -> &mut T {
        let entry = &mut self.entries[key.index()];
        debug_assert_eq!(entry.generation(), key.generation, "{key:?} has outlived its entry");
        entry
    }
}

// If these were derived, they would demand the same of `T`.

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slot<T> {}

impl<T> PartialEq for Slot<T> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<T> Debug for Slot<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.index())
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.to_bits() == other.to_bits()
    }
}

impl<T> Eq for Key<T> {}

impl<T> Hash for Key<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to_bits().hash(state);
    }
}

impl<T> Debug for Key<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot.index(), self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, GENERATION_MAX, Key, Table};

    #[derive(Debug, PartialEq)]
    struct Named(&'static str, u32);

    enum NamedTag {}

    impl Entry for Named {
        type Tag = NamedTag;

        fn generation(&self) -> u32 {
            self.1
        }
    }

    #[test]
    fn a_key_that_has_outlived_its_entry_finds_nothing() {
        let mut table = Table::new();
        let first = table.insert(|generation| Named("first", generation));
        assert_eq!(table.remove(first).0, "first");
        let second = table.insert(|generation| Named("second", generation));
        assert_eq!((first.slot, table[second].0), (second.slot, "second"));
        assert_eq!((table.get(first), table.contains(first)), (None, false));
        assert_eq!(table.get_mut(first), None);
        assert_eq!((table.key(second.slot), table.key_at(second.slot)), (second, Some(second)));
        assert_eq!(table.iter().map(|(key, _)| key).collect::<Vec<_>>(), [second]);
        assert_eq!(Key::<NamedTag>::from_bits(second.to_bits()), second);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "0.0 has outlived its entry")]
    fn indexing_with_a_key_that_has_outlived_its_entry_panics() {
        let mut table = Table::new();
        let first = table.insert(|generation| Named("first", generation));
        table.remove(first);
        table.insert(|generation| Named("second", generation));
        let _ = &table[first];
    }

    #[test]
    fn a_key_as_a_word_leaves_the_highest_bit_free() {
        let mut table = Table::new();
        table.generation = GENERATION_MAX;
        let last = table.insert(|generation| Named("last", generation));
        assert!(last.to_bits() < 1 << 63);
        let next = table.insert(|generation| Named("next", generation));
        assert_eq!(next.to_bits(), 1);
    }
}
