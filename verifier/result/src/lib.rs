//! What a unit's result is, and how many results become one root.
//!
//! Owns manifests of directories, outcomes, leaves, Merkle trees and storage roots, exactly as
//! `deploy/contracts/PROTOCOL.md` section 2 fixes them. It never compares results to a quorum (the verifier
//! does), never stores or sends anything, and knows no ids but their bytes.
//!
//! Modules in the order that data flows through them: [`manifest`] and [`tree`] (a directory becomes a
//! digest), [`outcome`], [`leaf`], [`merkle`] (results become a root), [`stored`] (bytes as stored become
//! a root that a receipt names).

mod digits;
pub mod leaf;
pub mod manifest;
pub mod merkle;
pub mod outcome;
pub mod stored;
pub mod tree;

pub use digits::DigitsError;
pub use leaf::{UnitResult, leaf, unit_salt};
pub use manifest::{ContentDigest, Entry, Limits, Manifest, ManifestError, RelativePath};
pub use merkle::{Node, Proof, Root};
pub use outcome::Outcome;
pub use stored::{ChunkRoot, StoredUnit, chunk_root, stored_root};
pub use tree::{Hashing, TreeError, read_tree};
