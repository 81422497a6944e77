//! Why a step ended early, or an intent was not taken.

use crate::Disposition;
use crate::keys::SignerError;
use crate::node::NodeError;
use crate::transport::RpcError;

use super::journal::JournalError;

/// Why a step ended early. What was done before stays done, and the next step starts from what is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SenderError {
    /// The node did not answer, or not usably.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The journal did not answer, or refused.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Nothing was signed.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

impl From<RpcError> for SenderError {
    fn from(error: RpcError) -> Self {
        Self::Node(error.into())
    }
}

impl SenderError {
    /// What to do about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Node(error) => error.disposition(),
            Self::Journal(error) => error.disposition(),
            Self::Signer(error) => error.disposition(),
        }
    }

    /// The innermost variant's name, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Node(error) => error.label(),
            Self::Journal(error) => error.label(),
            Self::Signer(error) => error.label(),
        }
    }
}

/// Why an intent was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// As many intents wait as may.
    #[error("{queued} intents wait already")]
    QueueFull {
        /// How many.
        queued: usize,
    },
}

impl SubmitError {
    /// What to do about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::QueueFull { .. } => Disposition::Retry,
        }
    }

    /// The variant's name, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::QueueFull { .. } => "QueueFull",
        }
    }
}
