//! `e2e market …`: the product on a lab that is up.

use clap::Subcommand;

use super::{Market, MarketError, Windows};
use crate::lab::{Lab, Progress};

/// What can be done with the market of a lab.
#[derive(Debug, Subcommand)]
pub enum MarketCommand {
    /// Put contracts, images and the chart on a lab that is up; the cluster `consumer` buys, the others sell.
    Raise {
        /// The lab.
        #[arg(long)]
        name: String,
    },
    /// Keep the market's books again from the node's raw logs, and compare.
    Audit {
        /// The lab.
        #[arg(long)]
        name: String,
    },
}

impl MarketCommand {
    /// Does it.
    pub fn run(self) -> Result<(), MarketError> {
        match self {
            Self::Raise { name } => {
                let lab = Lab::attach(&name)?;
                lab.run(async { Market::raise(&lab, Windows::default(), &Progress::shown()).await })?
                    .map(drop)
            }
            Self::Audit { name } => {
                let lab = Lab::attach(&name)?;
                let books = lab.run(async { Market::attach(&lab)?.audit().await })??;
                Progress::shown().say(format!("{} jobs; the books balance", books.jobs.len()));
                Ok(())
            }
        }
    }
}
