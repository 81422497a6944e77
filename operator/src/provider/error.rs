//! What can go wrong on the provider's side.

use tradewind_chain::{Disposition, keys::SignerError, read::ReadError};
use tradewind_gateway_api::{client::ClientError, grant::GrantTokenError, seal::SealError};

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
    /// A storage grant cannot be written.
    #[error(transparent)]
    Grant(#[from] GrantTokenError),
    /// Metrics could not be registered.
    #[error("the provider's metrics could not be registered")]
    Metrics(#[from] prometheus::Error),
    /// Job pods have no DNS, so they could not find the relay by a name.
    #[error("the relay's URL {0:?} has no IP address as its host: give --relay-url as http://ADDRESS:PORT")]
    RelayNotByAddress(String),
    /// It is not known what job pods must not reach.
    #[error("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not name the API server by its address")]
    ApiServerUnknown,
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
            Self::WatchEnded(_) | Self::Metrics(_) | Self::RelayNotByAddress(_) | Self::ApiServerUnknown => {
                Disposition::Halt
            }
            Self::Read(error) => error.disposition(),
            Self::Signer(error) => error.disposition(),
            Self::Seal(_) | Self::Document(_) | Self::Grant(_) => Disposition::AwaitChange,
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
            Self::Grant(_) => "Grant",
            Self::Metrics(_) => "Metrics",
            Self::RelayNotByAddress(_) => "RelayNotByAddress",
            Self::ApiServerUnknown => "ApiServerUnknown",
        }
    }
}
