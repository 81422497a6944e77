//! Providers' messages for a job's buyer to relay to the chain: exactly what the contract takes.

use serde::{Deserialize, Serialize};
use tradewind_market::{
    Address, Hash32, JobId, UnixSeconds,
    eip712::{Domain, StructHash},
    message::{Abstain, Commit, HexBytes, Reveal, RevealEntry, SeatRef},
    plan::consumer::{Letter, Saying},
    terms::MAX_ENTRIES_PER_CALL,
};

use crate::signed::Signed;

/// A message of one of the three kinds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SignedMessage {
    /// Commitments.
    Commit(Signed<Commit>),
    /// Abstentions.
    Abstain(Signed<Abstain>),
    /// Openings.
    Reveal(Signed<Reveal>),
}

impl Letter for SignedMessage {
    fn provider(&self) -> Address {
        self.provider()
    }

    fn deadline(&self) -> UnixSeconds {
        self.deadline()
    }

    fn sayings(&self) -> Vec<(SeatRef, Saying)> {
        match self {
            Self::Commit(message) => message
                .statement
                .entries
                .iter()
                .map(|entry| (entry.seat, Saying::Speaks))
                .collect(),
            Self::Abstain(message) => message
                .statement
                .entries
                .iter()
                .map(|entry| (entry.seat, Saying::Speaks))
                .collect(),
            Self::Reveal(message) => {
                let opens = |entry: &RevealEntry| Saying::Reveals {
                    with_receipt: !entry.receipt.0.is_empty(),
                };
                message
                    .statement
                    .entries
                    .iter()
                    .map(|entry| (entry.seat, opens(entry)))
                    .collect()
            }
        }
    }
}

impl SignedMessage {
    /// Whose seats it is about, and who signed if it is genuine.
    pub fn provider(&self) -> Address {
        match self {
            Self::Commit(message) => message.statement.provider,
            Self::Abstain(message) => message.statement.provider,
            Self::Reveal(message) => message.statement.provider,
        }
    }

    /// The job.
    pub fn job(&self) -> JobId {
        match self {
            Self::Commit(message) => message.statement.job_id,
            Self::Abstain(message) => message.statement.job_id,
            Self::Reveal(message) => message.statement.job_id,
        }
    }

    /// The contract refuses it after this.
    pub fn deadline(&self) -> UnixSeconds {
        match self {
            Self::Commit(message) => message.statement.deadline,
            Self::Abstain(message) => message.statement.deadline,
            Self::Reveal(message) => message.statement.deadline,
        }
    }

    /// The signature.
    pub fn signature(&self) -> &HexBytes {
        match self {
            Self::Commit(message) => &message.signature,
            Self::Abstain(message) => &message.signature,
            Self::Reveal(message) => &message.signature,
        }
    }

    /// What the signature must be over.
    pub fn digest(&self, domain: &Domain) -> Hash32 {
        match self {
            Self::Commit(message) => message.digest(domain),
            Self::Abstain(message) => message.digest(domain),
            Self::Reveal(message) => message.digest(domain),
        }
    }

    /// Tells messages apart, whatever domain they are for.
    pub fn struct_hash(&self) -> Hash32 {
        match self {
            Self::Commit(message) => message.statement.struct_hash(),
            Self::Abstain(message) => message.statement.struct_hash(),
            Self::Reveal(message) => message.statement.struct_hash(),
        }
    }

    /// Whether the contract would take as many entries in one call.
    pub fn has_valid_count(&self) -> bool {
        let entries = match self {
            Self::Commit(message) => message.statement.entries.len(),
            Self::Abstain(message) => message.statement.entries.len(),
            Self::Reveal(message) => message.statement.entries.len(),
        };
        (1..=MAX_ENTRIES_PER_CALL).contains(&entries)
    }
}
