//! Why a scenario did not go as it must.

use crate::lab::LabError;
use crate::market::MarketError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The market, or what was waited for on it.
    #[error("{}", with_causes(.0))]
    Market(#[from] MarketError),
    /// Something is not as it must be.
    #[error("not so: {0}")]
    NotSo(String),
}

fn with_causes(error: &MarketError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
