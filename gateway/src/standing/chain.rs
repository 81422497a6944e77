//! The market as the chain's newest block has it. What is read here grants storage and listing, and moves no money, so
//! it need not wait for finality.

use async_trait::async_trait;
use tradewind_chain::{
    BlockTag,
    read::{ReadError, Reader},
};
use tradewind_market::{Address, GroupIndex, JobId, SeatIndex};

use super::{JobFacts, Market, StandingError};

/// Reads the market's views.
#[derive(Debug)]
pub struct ChainMarket {
    reader: Reader,
}

impl ChainMarket {
    /// Over a node.
    pub fn new(reader: Reader) -> Self {
        Self { reader }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn failed(error: ReadError) -> StandingError {
    StandingError {
        reason: error.to_string(),
    }
}

#[async_trait]
impl Market for ChainMarket {
    async fn job(&self, job: JobId) -> Result<Option<JobFacts>, StandingError> {
        let found = self.reader.job_of(job, BlockTag::Latest).await.map_err(failed)?;
        Ok(found.map(|job| JobFacts {
            buyer: job.buyer,
            token: job.token,
        }))
    }

    async fn has_funds(&self, account: Address, token: Address) -> Result<bool, StandingError> {
        let balance = self
            .reader
            .balance_of(account, token, BlockTag::Latest)
            .await
            .map_err(failed)?;
        if !balance.is_zero() {
            return Ok(true);
        }
        let bond = self
            .reader
            .bond_of(account, token, BlockTag::Latest)
            .await
            .map_err(failed)?;
        Ok(!bond.total.is_zero())
    }

    async fn seat(
        &self,
        job: JobId,
        group: GroupIndex,
        seat: SeatIndex,
    ) -> Result<Option<Address>, StandingError> {
        let found = self
            .reader
            .seat_of(job, group, seat, BlockTag::Latest)
            .await
            .map_err(failed)?;
        Ok(found.map(|seat| seat.provider))
    }
}
