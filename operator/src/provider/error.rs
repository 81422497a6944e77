//! What can go wrong on the provider's side.

use tradewind_chain::{Disposition, keys::SignerError, read::ReadError};
use tradewind_gateway_api::{client::ClientError, seal::SealError};

/// Why a pass did not come to its end. Nothing is lost: the next one starts from what is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProviderError {
    /// The API server refused, or does not answer.
    #[error("cannot {doing}")]
    Kubernetes {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: kube::Error,
    },
    /// A watch that retries by itself came to an end.
    #[error("the watch of {0} ended")]
    WatchEnded(&'static str),
    /// The chain could not be asked.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nothing was signed.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// A gateway did not do its part.
    #[error(transparent)]
    Gateway(#[from] ClientError),
    /// A key or a sealed text cannot be used.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A document of ours cannot be written as JSON.
    #[error("a document cannot be written")]
    Document(#[source] serde_json::Error),
}

impl ProviderError {
    /// Wraps an error of the API server.
    pub(crate) fn kubernetes(doing: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Kubernetes { doing, source }
    }

    /// What to do about it.
    pub(crate) fn disposition(&self) -> Disposition {
        match self {
            Self::Kubernetes { .. } | Self::Gateway(_) => Disposition::Retry,
            Self::WatchEnded(_) => Disposition::Halt,
            Self::Read(error) => error.disposition(),
            Self::Signer(error) => error.disposition(),
            Self::Seal(_) | Self::Document(_) => Disposition::AwaitChange,
        }
    }

    /// The variant's name, for metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Kubernetes { .. } => "Kubernetes",
            Self::WatchEnded(_) => "WatchEnded",
            Self::Read(_) => "Read",
            Self::Signer(_) => "Signer",
            Self::Gateway(_) => "Gateway",
            Self::Seal(_) => "Seal",
            Self::Document(_) => "Document",
        }
    }
}
