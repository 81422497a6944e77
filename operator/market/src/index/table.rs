//! A map that can take back what was done to it since a savepoint.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::ops::RangeBounds;

/// Entries, and for each change the value before it, oldest first.
#[derive(Debug, Clone)]
pub(super) struct Table<K, V> {
    entries: BTreeMap<K, V>,
    undo: VecDeque<(K, Option<V>)>,
    /// How many undo records were forgotten, so that savepoints stay valid.
    forgotten: u64,
}

/// A moment in a table's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Savepoint(u64);

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            undo: VecDeque::new(),
            forgotten: 0,
        }
    }
}

impl<K: Ord + Clone + Debug, V: Clone> Table<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    pub(super) fn range(&self, keys: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> {
        self.entries.range(keys)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter()
    }

    pub(super) fn set(&mut self, key: K, value: V) {
        let before = self.entries.insert(key.clone(), value);
        self.undo.push_back((key, before));
    }
}

/// What all tables have in common, whatever they hold.
pub(super) trait History {
    fn savepoint(&self) -> Savepoint;

    /// Takes back everything since the savepoint.
    fn rollback(&mut self, to: Savepoint);

    /// Makes everything before the savepoint final.
    fn forget(&mut self, before: Savepoint);
}

impl<K: Ord + Clone + Debug, V: Clone> History for Table<K, V> {
    fn savepoint(&self) -> Savepoint {
        Savepoint(self.forgotten.saturating_add(self.undo.len() as u64))
    }

    fn rollback(&mut self, to: Savepoint) {
        while self.savepoint().0 > to.0 {
            match self.undo.pop_back() {
                Some((key, Some(before))) => drop(self.entries.insert(key, before)),
                Some((key, None)) => drop(self.entries.remove(&key)),
                // Nothing older is remembered: it was final.
                None => return,
            }
        }
    }

    fn forget(&mut self, before: Savepoint) {
        while self.forgotten < before.0 && self.undo.pop_front().is_some() {
            self.forgotten = self.forgotten.saturating_add(1);
        }
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for Table<K, V> {
    /// By what is in it, not by how it came there.
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}
