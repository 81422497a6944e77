//! The one Merkle tree of the protocol (PROTOCOL.md, I-12 to I-14, I-20).
//!
//! Pairs are joined left to right; an odd last node is promoted unchanged; the root binds the leaf count.
//! What a leaf is, is the caller's: [`crate::leaf`] and [`crate::stored`] prefix theirs so that no leaf can
//! be taken for an inner node.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha3::{Digest as _, Keccak256};

use crate::digits::{self, DigitsError};

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// From its bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "0x{}", hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = DigitsError;
            fn from_str(text: &str) -> Result<Self, DigitsError> {
                digits::parse(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                digits::parse(&text).map(Self).map_err(serde::de::Error::custom)
            }
        }
    };
}

hash_type!(
    /// A leaf or an inner node.
    Node
);
hash_type!(
    /// A tree's root: leaf count and top node.
    Root
);

impl Node {
    /// Keccak-256 of the parts, one after another.
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        Self(keccak(parts))
    }

    fn join(left: Self, right: Self) -> Self {
        Self::of(&[&[0x01], &left.0, &right.0])
    }
}

impl Root {
    fn of(leaf_count: u32, top: Node) -> Self {
        Self(keccak(&[&[0x02], &leaf_count.to_be_bytes(), &top.0]))
    }
}

pub(crate) fn keccak(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Keccak256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Sibling hashes from the leaf up; levels at which the node is promoted contribute none.
pub type Proof = Vec<Node>;

/// A tree's root, built leaf by leaf in memory that grows with the logarithm of the count.
#[derive(Debug, Clone, Default)]
pub struct RootBuilder {
    leaf_count: u32,
    /// One complete subtree per set bit of the count, largest first.
    subtrees: Vec<Node>,
}

impl RootBuilder {
    /// Adds the next leaf; `None` if the count does not fit.
    #[must_use = "a leaf that was not added is not in the root"]
    pub fn push(&mut self, leaf: Node) -> Option<()> {
        let count = self.leaf_count.checked_add(1)?;
        let mut node = leaf;
        for _ in 0..self.leaf_count.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                node = Node::join(left, node);
            }
        }
        self.subtrees.push(node);
        self.leaf_count = count;
        Some(())
    }

    /// The root, or `None` of no leaves.
    pub fn finish(&self) -> Option<Root> {
        // A promoted node meets its left neighbour where that has become a single node: from the right,
        // each smaller subtree is the right child of the next larger one.
        let top = self
            .subtrees
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| Node::join(left, right))?;
        Some(Root::of(self.leaf_count, top))
    }
}

/// The root over `leaves`, or `None` of no leaves or more than `u32::MAX`.
pub fn root(leaves: impl IntoIterator<Item = Node>) -> Option<Root> {
    let mut builder = RootBuilder::default();
    for leaf in leaves {
        builder.push(leaf)?;
    }
    builder.finish()
}

/// The proof that the leaf at `index` is under the root over `leaves`; `None` if there is no such leaf.
pub fn prove(leaves: &[Node], index: u32) -> Option<Proof> {
    u32::try_from(leaves.len()).ok()?;
    let mut at = usize::try_from(index).ok().filter(|at| *at < leaves.len())?;
    let mut level = leaves.to_vec();
    let mut proof = Proof::new();
    while level.len() > 1 {
        if let Some(sibling) = level.get(at ^ 1) {
            proof.push(*sibling);
        }
        level = level
            .chunks(2)
            .filter_map(|pair| match pair {
                [left, right] => Some(Node::join(*left, *right)),
                [promoted] => Some(*promoted),
                _ => None,
            })
            .collect();
        at /= 2;
    }
    Some(proof)
}

/// Whether `proof` shows that `leaf` is the leaf at `index` of `leaf_count` under `root`. A proof of
/// another length than index and count ask for is refused.
pub fn verify(root: Root, leaf_count: u32, index: u32, leaf: Node, proof: &[Node]) -> bool {
    if index >= leaf_count {
        return false;
    }
    let (mut at, mut width, mut node) = (index, leaf_count, leaf);
    let mut siblings = proof.iter();
    while width > 1 {
        let promoted = at == width - 1 && width % 2 == 1;
        if !promoted {
            let Some(sibling) = siblings.next() else {
                return false;
            };
            node = if at % 2 == 0 {
                Node::join(node, *sibling)
            } else {
                Node::join(*sibling, node)
            };
        }
        at /= 2;
        width = width.div_ceil(2);
    }
    siblings.next().is_none() && Root::of(leaf_count, node) == root
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaves(count: u32) -> Vec<Node> {
        (0..count)
            .map(|i| Node::of(&[b"leaf", &i.to_be_bytes()]))
            .collect()
    }

    /// The rule as the protocol words it, level by level.
    fn naive_root(leaves: &[Node]) -> Option<Root> {
        let count = u32::try_from(leaves.len()).unwrap();
        let mut level = leaves.to_vec();
        while level.len() > 1 {
            level = level
                .chunks(2)
                .map(|pair| {
                    if pair.len() == 2 {
                        Node::join(pair[0], pair[1])
                    } else {
                        pair[0]
                    }
                })
                .collect();
        }
        level.first().map(|top| Root::of(count, *top))
    }

    #[test]
    fn every_proof_of_every_small_tree_verifies_and_the_builder_agrees() {
        assert_eq!(root([]), None);
        for count in 1..=67 {
            let leaves = leaves(count);
            let root = root(leaves.iter().copied()).unwrap();
            assert_eq!(Some(root), naive_root(&leaves), "{count} leaves");
            for index in 0..count {
                let proof = prove(&leaves, index).unwrap();
                assert!(
                    verify(root, count, index, leaves[index as usize], &proof),
                    "{index} of {count}"
                );
            }
            assert_eq!(prove(&leaves, count), None);
        }
    }

    #[test]
    fn the_root_binds_the_leaf_count() {
        let two = leaves(2);
        let top = Node::join(two[0], two[1]);
        assert_ne!(root(two), root([top]));
    }

    proptest! {
        #[test]
        fn whatever_is_changed_the_proof_fails(
            count in 1_u32..200, index in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(),
            bit in 0_usize..256, at in any::<prop::sample::Index>()
        ) {
            let leaves = leaves(count);
            let root = root(leaves.iter().copied()).unwrap();
            let index = u32::try_from(index.index(count as usize)).unwrap();
            let leaf = leaves[index as usize];
            let proof = prove(&leaves, index).unwrap();
            let flip = |node: Node| {
                let mut bytes = *node.as_bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                Node::from_bytes(bytes)
            };
            prop_assert!(!verify(root, count, index, flip(leaf), &proof));
            prop_assert!(!verify(Root::from_bytes(*flip(Node::from_bytes(*root.as_bytes())).as_bytes()), count, index, leaf, &proof));
            let mut longer = proof.clone();
            longer.push(leaf);
            prop_assert!(!verify(root, count, index, leaf, &longer));
            if !proof.is_empty() {
                let mut changed = proof.clone();
                let at = at.index(proof.len());
                changed[at] = flip(changed[at]);
                prop_assert!(!verify(root, count, index, leaf, &changed));
                prop_assert!(!verify(root, count, index, leaf, &proof[..proof.len() - 1]));
            }
            let other = u32::try_from(other.index(count as usize + 2)).unwrap();
            if other != index {
                prop_assert!(!verify(root, count, other, leaf, &proof));
            }
            prop_assert!(!verify(root, count + 1, index, leaf, &proof));
        }
    }
}
