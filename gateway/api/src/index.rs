//! Where the outputs of one seat lie: by unit, for the buyer to fetch and check against the revealed root.

use tradewind_market::document::ResultIndex;

use crate::signed::Signed;

/// Units in one index.
pub const UNITS_MAX: usize = 100_000;

/// An index, signed by its provider. The buyer believes nothing of it: it opens the outputs, recomputes the leaves and
/// compares the root with the revealed one.
pub type SignedIndex = Signed<ResultIndex>;
