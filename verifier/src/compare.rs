//! The exact comparator: equal is equal byte for byte.

use std::cmp::Ordering;

use serde::Serialize;
use tradewind_result::{ContentDigest, Entry, Manifest, RelativePath};

/// How one path differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Difference {
    /// Only the first directory has it.
    OnlyFirst {
        /// Which file.
        path: RelativePath,
    },
    /// Only the second directory has it.
    OnlySecond {
        /// Which file.
        path: RelativePath,
    },
    /// Both have it, with other content.
    Content {
        /// Which file.
        path: RelativePath,
        /// Its length in the first, in bytes.
        first_size: u64,
        /// Its length in the second, in bytes.
        second_size: u64,
    },
}

/// What came of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Whether the two are one result.
    pub equal: bool,
    /// Digest of the first.
    pub first: ContentDigest,
    /// Digest of the second.
    pub second: ContentDigest,
    /// Every path that differs, ascending.
    pub differences: Vec<Difference>,
}

/// Compares what two directories hold.
pub fn compare(first: &Manifest, second: &Manifest) -> Comparison {
    let mut differences = Vec::new();
    let (mut left, mut right) = (
        first.entries().iter().peekable(),
        second.entries().iter().peekable(),
    );
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.path.cmp(&b.path),
        };
        let difference = match order {
            Ordering::Less => left.next().map(|entry| Difference::OnlyFirst {
                path: entry.path.clone(),
            }),
            Ordering::Greater => right.next().map(|entry| Difference::OnlySecond {
                path: entry.path.clone(),
            }),
            Ordering::Equal => left
                .next()
                .zip(right.next())
                .and_then(|(a, b)| content_difference(a, b)),
        };
        differences.extend(difference);
    }
    Comparison {
        equal: differences.is_empty(),
        first: first.digest(),
        second: second.digest(),
        differences,
    }
}

fn content_difference(first: &Entry, second: &Entry) -> Option<Difference> {
    let same = first.size == second.size && first.digest == second.digest;
    (!same).then(|| Difference::Content {
        path: first.path.clone(),
        first_size: first.size,
        second_size: second.size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn manifest(files: &BTreeMap<String, u8>) -> Manifest {
        let entry = |(path, content): (&String, &u8)| Entry {
            path: path.clone().try_into().unwrap(),
            size: u64::from(*content),
            digest: ContentDigest::of(&[*content]),
        };
        Manifest::from_entries(files.iter().map(entry).collect()).unwrap()
    }

    proptest! {
        #[test]
        fn differences_are_exactly_where_the_two_differ(
            first in prop::collection::btree_map("[a-d]{1,2}", 0_u8..3, 0..8),
            second in prop::collection::btree_map("[a-d]{1,2}", 0_u8..3, 0..8)
        ) {
            let comparison = compare(&manifest(&first), &manifest(&second));
            let differing = first.keys().chain(second.keys()).filter(|path| first.get(*path) != second.get(*path));
            let differing: std::collections::BTreeSet<_> = differing.collect();
            prop_assert_eq!(comparison.differences.len(), differing.len());
            prop_assert_eq!(comparison.equal, differing.is_empty());
            prop_assert_eq!(comparison.equal, comparison.first == comparison.second);
        }
    }
}
