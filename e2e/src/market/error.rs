//! What can go wrong in raising and asking a market.

use std::path::{Path, PathBuf};

use tradewind_chain::contracts::DeployError;

use crate::lab::LabError;

/// Why a market is not there, or does not answer.
#[derive(Debug, thiserror::Error)]
pub enum MarketError {
    /// The lab under it failed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A contract is not on the chain.
    #[error("cannot set up the chain")]
    Contracts(#[from] DeployError),
    /// The chain does not answer.
    #[error("the lab's chain cannot be used: {0}")]
    Chain(String),
    /// The API server refused.
    #[error("{doing}")]
    Kubernetes {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: kube::Error,
    },
    /// The auditor found a rule broken, or could not work.
    #[error("the audit failed: {0}")]
    Audit(String),
    /// A file cannot be read or written.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// What was waited for did not come.
    #[error("{what} did not come about within {seconds} s; last seen: {seen}")]
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
        /// What there was instead.
        seen: String,
    },
}

impl MarketError {
    /// Wraps an error about a file.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    /// Wraps an error of the API server.
    pub(crate) fn kubernetes(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Kubernetes { doing, source }
    }
}
