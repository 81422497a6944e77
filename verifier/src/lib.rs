//! Whether results agree.
//!
//! Owns the comparison of two directories, byte for byte, and the quorum over what seats revealed, as
//! PROTOCOL.md section 9 judges it. It never fetches, pays or signs anything; digests and trees are
//! `tradewind-result`'s.

pub mod compare;
pub mod quorum;

pub use compare::{Comparison, Difference, compare};
pub use quorum::{Revelation, Verdict, exact_quorum};
