//! What can keep the bench from its figures.

use std::path::{Path, PathBuf};

use crate::lab::LabError;
use crate::market::MarketError;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The lab failed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The market on it failed.
    #[error(transparent)]
    Market(#[from] MarketError),
    /// An answer lacks what is to be measured.
    #[error("nothing to measure: {0}")]
    Missing(String),
    /// The figures cannot be written.
    #[error("{path}")]
    File {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Asked to end.
    #[error("called off")]
    CalledOff,
}

impl BenchError {
    /// Wraps an error about a file.
    pub(super) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}
