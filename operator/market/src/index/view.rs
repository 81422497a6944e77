//! Two indices of one market: of the newest block and of the final one.

use std::collections::VecDeque;

use super::{Anomaly, BlockRef, IndexError, MarketIndex};
use crate::event::MarketEvent;
use crate::quantity::BlockNumber;

/// What the chain says now, and what it will never take back. Decisions that give something away (keys,
/// results, pods) are made on the final index; status and calls that anyone may repeat, on the newest.
#[derive(Debug, Clone, Default)]
pub struct ChainView {
    newest: MarketIndex,
    finalized: MarketIndex,
    pending: VecDeque<(BlockRef, Vec<MarketEvent>)>,
}

impl ChainView {
    /// Before the market's first event.
    pub fn new() -> Self {
        Self::default()
    }

    /// Folds a block's events into the newest index.
    pub fn apply(&mut self, block: BlockRef, events: Vec<MarketEvent>) -> Result<Vec<Anomaly>, IndexError> {
        let anomalies = self.newest.apply(block, &events)?;
        self.pending.push_back((block, events));
        Ok(anomalies)
    }

    /// Takes the newest block back.
    pub fn unwind(&mut self, block: BlockRef) -> Result<(), IndexError> {
        self.newest.unwind(block)?;
        self.pending.pop_back();
        Ok(())
    }

    /// Makes all blocks up to this one final.
    pub fn finalize(&mut self, number: BlockNumber) -> Result<(), IndexError> {
        self.newest.finalize(number);
        while let Some((block, _)) = self.pending.front()
            && block.number <= number
        {
            if let Some((block, events)) = self.pending.pop_front() {
                self.finalized.apply(block, &events)?;
                self.finalized.finalize(block.number);
            }
        }
        Ok(())
    }

    /// What the newest block says.
    pub fn newest(&self) -> &MarketIndex {
        &self.newest
    }

    /// What is final.
    pub fn finalized(&self) -> &MarketIndex {
        &self.finalized
    }
}
