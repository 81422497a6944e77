//! Why following stopped.

use tradewind_market::{Hash32, JobId};

use crate::node::NodeError;
use crate::{BlockId, Disposition};

/// A log that carries an event's signature but not its fields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log {log_index} of transaction {tx} is no valid {event}: {reason}")]
pub struct DecodeError {
    /// The event's name.
    pub event: &'static str,
    /// The transaction that caused the log.
    pub tx: Hash32,
    /// The log's place in its block.
    pub log_index: u64,
    /// What does not fit.
    pub reason: String,
}

/// Why following stopped. What was appended to the updates before stays true.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowerError {
    /// The node did not answer, or not usably.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The contract wrote an event that this version does not understand.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A job's events do not continue where they left off, also after asking again. If it stays so, follow again from
    /// the start, through another node if there is one.
    #[error("job {job}: event {expected} is missing, found {found} in block {block}")]
    Gap {
        /// The job.
        job: JobId,
        /// The sequence number that should come next.
        expected: u64,
        /// The one that came.
        found: u64,
        /// Where it came, or the end of the range.
        block: BlockId,
    },
    /// The chain has another block in the place of one that was final.
    #[error("finality is violated: block {known} was final, the chain now has {found}")]
    FinalityViolated {
        /// What was final.
        known: BlockId,
        /// What is there now.
        found: BlockId,
    },
}

impl FollowerError {
    /// What to do about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Node(error) => error.disposition(),
            Self::Gap { .. } => Disposition::Retry,
            Self::Decode(_) | Self::FinalityViolated { .. } => Disposition::Halt,
        }
    }

    /// The variant's name, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Node(error) => error.label(),
            Self::Decode(_) => "Decode",
            Self::Gap { .. } => "Gap",
            Self::FinalityViolated { .. } => "FinalityViolated",
        }
    }
}
