//! A gateway's promise to keep a round's outputs, as the contract takes it.

use tradewind_market::message::Receipt;

use crate::signed::Signed;

/// A receipt, signed by its gateway: goes into the entry of a reveal.
pub type SignedReceipt = Signed<Receipt>;
