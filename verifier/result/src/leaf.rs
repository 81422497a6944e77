//! The leaves that seats commit to (PROTOCOL.md, I-9, I-11, I-15).

use serde::{Deserialize, Serialize};

use crate::manifest::ContentDigest;
use crate::merkle::{self, Node, Root, keccak};
use crate::outcome::Outcome;

/// Which of the two trees: equality is judged on A; B shows that whoever saw A has the result itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    /// The tree that is revealed.
    A,
    /// The tree that only late seats ever open.
    B,
}

/// One unit's result, as plaintext facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitResult {
    /// The unit's index within its job.
    pub unit: u32,
    /// How its program ended.
    pub outcome: Outcome,
    /// Digest of the manifest of what it wrote.
    pub digest: ContentDigest,
}

/// The unit's salt: the same for every seat, unknown to who cannot read the template.
pub fn unit_salt(job_salt: &[u8; 32], unit: u32) -> [u8; 32] {
    keccak(&[
        &keccak(&[b"tradewind/unit-salt/1"]),
        job_salt,
        &unit.to_be_bytes(),
    ])
}

/// The unit's leaf in one of the trees.
pub fn leaf(tree: Tree, job: &[u8; 32], job_salt: &[u8; 32], result: &UnitResult) -> Node {
    let letter: &[u8] = match tree {
        Tree::A => b"A",
        Tree::B => b"B",
    };
    Node::of(&[
        &[0x00],
        letter,
        job,
        &result.unit.to_be_bytes(),
        &unit_salt(job_salt, result.unit),
        &result.outcome.code().to_be_bytes(),
        result.digest.as_bytes(),
    ])
}

/// Why results have no root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// No units.
    #[error("no units, so no root")]
    Empty,
    /// Units do not strictly ascend: out of order, or one twice.
    #[error("unit {unit} is out of order or there twice")]
    Order {
        /// The later of the two.
        unit: u32,
    },
}

/// The result root over a round's units, which must ascend.
pub fn result_root(
    tree: Tree,
    job: &[u8; 32],
    job_salt: &[u8; 32],
    results: &[UnitResult],
) -> Result<Root, RootError> {
    require_ascending(results.iter().map(|result| result.unit))?;
    merkle::root(results.iter().map(|result| leaf(tree, job, job_salt, result))).ok_or(RootError::Empty)
}

pub(crate) fn require_ascending(units: impl Iterator<Item = u32>) -> Result<(), RootError> {
    let mut before = None;
    for unit in units {
        if before.is_some_and(|before| before >= unit) {
            return Err(RootError::Order { unit });
        }
        before = Some(unit);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn results(count: u32) -> Vec<UnitResult> {
        (0..count)
            .map(|unit| UnitResult {
                unit,
                outcome: Outcome::Exit(0),
                digest: ContentDigest::of(&unit.to_be_bytes()),
            })
            .collect()
    }

    #[test]
    fn units_are_in_order_or_there_is_no_root() {
        let (job, salt) = ([1; 32], [2; 32]);
        let mut swapped = results(3);
        swapped.swap(0, 1);
        assert_eq!(
            result_root(Tree::A, &job, &salt, &swapped),
            Err(RootError::Order { unit: 0 })
        );
        assert_eq!(result_root(Tree::A, &job, &salt, &[]), Err(RootError::Empty));
    }

    proptest! {
        #[test]
        fn the_root_changes_with_everything_it_stands_for(
            count in 1_u32..20, at in any::<prop::sample::Index>(), byte in 0_usize..32
        ) {
            let (job, salt) = ([1; 32], [2; 32]);
            let results = results(count);
            let root = result_root(Tree::A, &job, &salt, &results).unwrap();
            prop_assert_ne!(root, result_root(Tree::B, &job, &salt, &results).unwrap());
            let mut other = [1; 32];
            other[byte] ^= 0x80;
            prop_assert_ne!(root, result_root(Tree::A, &other, &salt, &results).unwrap());
            prop_assert_ne!(root, result_root(Tree::A, &job, &other, &results).unwrap());
            let at = at.index(results.len());
            let mut changed = results.clone();
            changed[at].outcome = Outcome::Signal(9);
            prop_assert_ne!(root, result_root(Tree::A, &job, &salt, &changed).unwrap());
            let mut changed = results;
            changed[at].digest = ContentDigest::of(b"other");
            prop_assert_ne!(root, result_root(Tree::A, &job, &salt, &changed).unwrap());
        }
    }
}
