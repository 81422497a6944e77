//! What can go wrong in the demo, the falsehood of one of its claims above all.

use std::path::{Path, PathBuf};

use crate::lab::LabError;
use crate::market::MarketError;

/// Why the demo ended early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The market on it.
    #[error(transparent)]
    Market(#[from] MarketError),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The job cannot end as it should any more.
    #[error("the job is {0}")]
    Job(String),
    /// What the demo says is not so.
    #[error("a claim is false: {0}")]
    Claim(String),
    /// A picture cannot be read.
    #[error("the picture cannot be put together: {0}")]
    Picture(String),
    /// Somebody pressed Ctrl-C.
    #[error("called off")]
    CalledOff,
}

impl DemoError {
    /// Wraps an error about a file.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}
