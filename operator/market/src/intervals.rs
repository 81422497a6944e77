//! Sets of indices kept as runs, so that a status names ten thousand units in one short text: `0-31,40`.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::quantity::{GroupIndex, SliceIndex, UnitIndex};

/// A set of indices of one kind. Equal sets are equal values, however they were built.
#[derive(Clone, PartialEq, Eq)]
pub struct IndexSet<I> {
    /// First to last index, both included, of runs that neither overlap nor touch.
    runs: BTreeMap<u32, u32>,
    kind: PhantomData<I>,
}

/// A set of work units.
pub type UnitSet = IndexSet<UnitIndex>;
/// A set of slices.
pub type SliceSet = IndexSet<SliceIndex>;
/// A set of groups.
pub type GroupSet = IndexSet<GroupIndex>;

impl<I> Default for IndexSet<I> {
    fn default() -> Self {
        Self {
            runs: BTreeMap::new(),
            kind: PhantomData,
        }
    }
}

impl<I: Copy + From<u32> + Into<u32>> IndexSet<I> {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The run from `first` to `last`, both included; empty if `last` comes first.
    pub fn run(first: I, last: I) -> Self {
        let mut set = Self::new();
        set.insert_run(first, last);
        set
    }

    /// Adds one index.
    pub fn insert(&mut self, index: I) {
        self.insert_run(index, index);
    }

    /// Adds `first` to `last`, both included; nothing if `last` comes first.
    pub fn insert_run(&mut self, first: I, last: I) {
        let (mut first, mut last) = (first.into(), last.into());
        if first > last {
            return;
        }
        // Runs that overlap the new one or touch it become part of it.
        let reach = last.saturating_add(1);
        while let Some((&start, &end)) = self.runs.range(..=reach).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            self.runs.remove(&start);
            first = first.min(start);
            last = last.max(end);
        }
        self.runs.insert(first, last);
    }

    /// Whether the index is in the set.
    pub fn contains(&self, index: I) -> bool {
        let index = index.into();
        self.runs
            .range(..=index)
            .next_back()
            .is_some_and(|(_, end)| *end >= index)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many indices are in it.
    pub fn count(&self) -> u64 {
        self.runs()
            .map(|(first, last)| {
                u64::from(last.into())
                    .saturating_sub(u64::from(first.into()))
                    .saturating_add(1)
            })
            .fold(0, u64::saturating_add)
    }

    /// The runs in ascending order, first and last index included.
    pub fn runs(&self) -> impl Iterator<Item = (I, I)> + '_ {
        self.runs
            .iter()
            .map(|(first, last)| (I::from(*first), I::from(*last)))
    }

    /// All indices in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = I> + '_ {
        self.runs
            .iter()
            .flat_map(|(first, last)| *first..=*last)
            .map(I::from)
    }

    /// The lowest index.
    pub fn first(&self) -> Option<I> {
        self.runs.keys().next().copied().map(I::from)
    }

    /// The highest index.
    pub fn last(&self) -> Option<I> {
        self.runs.values().next_back().copied().map(I::from)
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (first, last) in other.runs() {
            all.insert_run(first, last);
        }
        all
    }

    /// What is in this and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut left = Self::new();
        for (first, last) in self.runs() {
            let (mut next, last) = (first.into(), last.into());
            let mut open = true;
            let from = other
                .runs
                .range(..=next)
                .next_back()
                .map_or(next, |(start, _)| *start);
            for (&start, &end) in other
                .runs
                .range(from..=last)
                .filter(|(_, end)| **end >= first.into())
            {
                if start > next {
                    left.insert_run(I::from(next), I::from(start.saturating_sub(1)));
                }
                match end.checked_add(1) {
                    Some(after) => next = after,
                    None => open = false,
                }
            }
            if open {
                left.insert_run(I::from(next), I::from(last));
            }
        }
        left
    }
}

impl<I: Copy + From<u32> + Into<u32>> FromIterator<I> for IndexSet<I> {
    fn from_iter<T: IntoIterator<Item = I>>(indices: T) -> Self {
        let mut set = Self::new();
        for index in indices {
            set.insert(index);
        }
        set
    }
}

impl<I> fmt::Display for IndexSet<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (first, last) in &self.runs {
            f.write_str(separator)?;
            if first == last {
                write!(f, "{first}")?;
            } else {
                write!(f, "{first}-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

impl<I> fmt::Debug for IndexSet<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

/// Why a text is not a set of indices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected indices and runs such as 0-31,40; \"{part}\" is neither")]
pub struct ParseIndexSetError {
    /// The part that could not be read.
    pub part: String,
}

impl<I: Copy + From<u32> + Into<u32>> FromStr for IndexSet<I> {
    type Err = ParseIndexSetError;

    fn from_str(text: &str) -> Result<Self, ParseIndexSetError> {
        let mut set = Self::new();
        if text.is_empty() {
            return Ok(set);
        }
        for part in text.split(',') {
            let refuse = || ParseIndexSetError {
                part: part.to_owned(),
            };
            let index = |digits: &str| {
                if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(refuse());
                }
                digits.parse::<u32>().map_err(|_| refuse())
            };
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (index(first)?, index(last)?);
            if first > last {
                return Err(refuse());
            }
            set.insert_run(I::from(first), I::from(last));
        }
        Ok(set)
    }
}

impl<I> Serialize for IndexSet<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, I: Copy + From<u32> + Into<u32>> Deserialize<'de> for IndexSet<I> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    fn set(text: &str) -> UnitSet {
        text.parse().unwrap()
    }

    #[test]
    fn text_is_compact_and_canonical() {
        assert_eq!(set("40,0-31").to_string(), "0-31,40");
        assert_eq!(set("3,1,2,4-9,0").to_string(), "0-9");
        assert_eq!(set("").to_string(), "");
        assert_eq!(set("4294967295").to_string(), "4294967295");
        for bad in ["a", "1-", "-1", "3-1", "1,,2", "4294967296", " 1", "+1"] {
            assert!(bad.parse::<UnitSet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_ends_of_the_range_are_in_reach() {
        let all = set("0-4294967295");
        assert_eq!(all.count(), 1 << 32);
        assert_eq!(all.difference(&set("0,4294967295")).to_string(), "1-4294967294");
        assert!(all.difference(&all).is_empty());
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(a in btree_set(0u32..40, 0..30), b in btree_set(0u32..40, 0..30)) {
            let build = |from: &std::collections::BTreeSet<u32>| from.iter().copied().map(UnitIndex::new).collect::<UnitSet>();
            let list = |set: &UnitSet| set.iter().map(UnitIndex::get).collect::<Vec<_>>();
            let (left, right) = (build(&a), build(&b));
            prop_assert_eq!(list(&left), a.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(left.count(), a.len() as u64);
            prop_assert_eq!(list(&left.union(&right)), a.union(&b).copied().collect::<Vec<_>>());
            prop_assert_eq!(list(&left.difference(&right)), a.difference(&b).copied().collect::<Vec<_>>());
            prop_assert_eq!(left.to_string().parse::<UnitSet>().unwrap(), left.clone());
            for index in 0..40 {
                prop_assert_eq!(left.contains(UnitIndex::new(index)), a.contains(&index));
            }
        }
    }
}
