//! What somebody wants done on chain, and how far it is.

use std::fmt;

use serde::{Deserialize, Serialize};
use tradewind_market::{BlockNumber, Hash32, keccak256};

use crate::{AccountNonce, BlockId, Call};

/// Names an intent by its content, so that asking twice for the same thing is asking once. In JSON `0x` and hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IntentId(Hash32);

impl IntentId {
    /// From a hash that the caller derived from what it wants.
    pub const fn new(hash: Hash32) -> Self {
        Self(hash)
    }

    /// For calls that mean the same whenever they are made.
    pub fn of_call(call: &Call) -> Self {
        Self(keccak256(&[
            b"tradewind/intent/1",
            call.to.as_bytes(),
            &call.data,
        ]))
    }

    /// The hash.
    pub const fn hash(self) -> Hash32 {
        self.0
    }
}

impl fmt::Display for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IntentId({})", self.0)
    }
}

/// Something to be done on chain, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Its name.
    pub id: IntentId,
    /// What it is, for people: kind and object. The journal keeps its first 256 characters.
    pub label: String,
    /// What to call.
    pub call: Call,
    /// Whether it may share a transaction with others, each failing alone. Not for calls that batch by themselves, or
    /// that are not to the market.
    pub shareable: bool,
    /// More gas than this is refused.
    pub gas_max: Option<u64>,
}

/// How far an intent is. Derived from journal and chain at every step, never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntentState {
    /// Waits in memory; nothing is signed.
    Intended,
    /// Signed and journaled; in no block yet.
    Submitted {
        /// The transaction with the highest fees so far.
        tx: Hash32,
        /// Its place.
        nonce: AccountNonce,
    },
    /// In a block that may still be undone.
    Included {
        /// The transaction.
        tx: Hash32,
        /// The block.
        block: BlockId,
    },
    /// In a final block, and not reverted. Whether the effect is there is for the followed events to say.
    Final {
        /// The transaction.
        tx: Hash32,
        /// The block.
        block: BlockId,
    },
    /// In a final block, and reverted: nothing happened but gas.
    Reverted {
        /// The transaction.
        tx: Hash32,
        /// The block.
        block: BlockId,
        /// The contract's reason as far as it is known, ABI-encoded.
        reason: Vec<u8>,
    },
    /// Not sent: it would not have worked.
    Refused(Refusal),
}

/// Why an intent was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It would revert on the newest block.
    #[error("the call would revert")]
    Reverts {
        /// The contract's reason, ABI-encoded.
        data: Vec<u8>,
    },
    /// It would need more gas than it may.
    #[error("the call would need {gas} gas, more than {gas_max}")]
    GasAboveMax {
        /// What it would need.
        gas: u64,
        /// What it may use.
        gas_max: u64,
    },
}

impl Refusal {
    /// The variant's name, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Reverts { .. } => "Reverts",
            Self::GasAboveMax { .. } => "GasAboveMax",
        }
    }
}

impl IntentState {
    /// The variant's name, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Intended => "Intended",
            Self::Submitted { .. } => "Submitted",
            Self::Included { .. } => "Included",
            Self::Final { .. } => "Final",
            Self::Reverted { .. } => "Reverted",
            Self::Refused(_) => "Refused",
        }
    }

    /// Whether a request for the intent starts it anew. `seen` is the last block of the events that the request is
    /// based on: if they include the final transaction and the effect is still wanted, the effect did not come.
    pub(super) fn may_be_asked_again(&self, seen: BlockNumber) -> bool {
        match self {
            Self::Intended | Self::Submitted { .. } | Self::Included { .. } => false,
            Self::Final { block, .. } => seen >= block.number,
            Self::Reverted { .. } | Self::Refused(_) => true,
        }
    }

    /// Whether nothing more will happen unless it is asked for again.
    pub fn is_at_an_end(&self) -> bool {
        match self {
            Self::Intended | Self::Submitted { .. } | Self::Included { .. } => false,
            Self::Final { .. } | Self::Reverted { .. } | Self::Refused(_) => true,
        }
    }
}
