//! The state of one market contract, rebuilt from its events alone.
//!
//! [`MarketIndex`] folds blocks of events, takes blocks back, and makes them final. A job whose events do not
//! fit (one is missing, or cannot happen) is quarantined by itself: nothing is said of it until the index is
//! built anew, and all others go on. [`ChainView`] keeps two indices, of the newest block and of the final one.
//!
//! It never asks the chain anything, and what it says of balances holds only while nothing is quarantined.

mod accounts;
mod fold;
#[cfg(test)]
mod model;
mod record;
mod settlement;
mod table;
mod view;

use std::collections::VecDeque;

use crate::amount::TokenAmount;
use crate::event::{FillRefusal, MarketEvent};
use crate::ids::{Address, Hash32, JobId, OfferHash};
use crate::quantity::{BlockNumber, GroupIndex, Knowledge};
use table::{History, Savepoint, Table};

pub use fold::Anomaly;
pub use record::{Bond, GroupRecord, Job, JobEntry, JobRecord, SeatRecord, Series};
pub use view::ChainView;

/// A block, by its number and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRef {
    /// Its number.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: Hash32,
}

/// Why a block cannot be taken or taken back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Its number is not above the newest block's.
    #[error("block {} does not follow block {newest}", block.number)]
    OutOfOrder {
        /// The block.
        block: BlockRef,
        /// The newest block's number.
        newest: BlockNumber,
    },
    /// Only the newest block can be taken back, and only if it is not final.
    #[error("block {} is not the newest block that can be taken back", block.number)]
    NotNewest {
        /// The block.
        block: BlockRef,
    },
}

/// Everything that events tell, each table with its own history.
#[derive(Debug, Clone, Default, PartialEq)]
struct Tables {
    balances: Table<(Address, Address), TokenAmount>,
    bonds: Table<(Address, Address), Bond>,
    sinks: Table<Address, TokenAmount>,
    held: Table<Address, TokenAmount>,
    series: Table<(Address, u32), Series>,
    jobs: Table<JobId, JobEntry>,
    groups: Table<(JobId, GroupIndex), GroupRecord>,
    refused_fills: Table<(JobId, OfferHash), FillRefusal>,
    jobs_of_buyers: Table<(Address, JobId), ()>,
    jobs_of_providers: Table<(Address, JobId), ()>,
    quarantined: Table<(), u32>,
}

/// A moment in the history of all tables.
#[derive(Debug, Clone, Copy)]
struct Savepoints([Savepoint; 11]);

impl Tables {
    fn histories(&mut self) -> [&mut dyn History; 11] {
        [
            &mut self.balances,
            &mut self.bonds,
            &mut self.sinks,
            &mut self.held,
            &mut self.series,
            &mut self.jobs,
            &mut self.groups,
            &mut self.refused_fills,
            &mut self.jobs_of_buyers,
            &mut self.jobs_of_providers,
            &mut self.quarantined,
        ]
    }

    fn savepoint(&mut self) -> Savepoints {
        Savepoints(self.histories().map(|table| table.savepoint()))
    }

    fn rollback(&mut self, to: Savepoints) {
        for (table, to) in self.histories().into_iter().zip(to.0) {
            table.rollback(to);
        }
    }

    fn forget(&mut self, before: Savepoints) {
        for (table, before) in self.histories().into_iter().zip(before.0) {
            table.forget(before);
        }
    }
}

/// The state of one market contract at one block.
#[derive(Debug, Clone, Default)]
pub struct MarketIndex {
    tables: Tables,
    /// Blocks that can be taken back, oldest first, each with the moment before it.
    open: VecDeque<(BlockRef, Savepoints)>,
    newest: Option<BlockNumber>,
}

impl PartialEq for MarketIndex {
    /// By what they say, not by how they came to it.
    fn eq(&self, other: &Self) -> bool {
        self.tables == other.tables
    }
}

impl MarketIndex {
    /// The state before the market's first event.
    pub fn new() -> Self {
        Self::default()
    }

    /// Folds a block's events. Returns what did not fit; those jobs are quarantined.
    pub fn apply(&mut self, block: BlockRef, events: &[MarketEvent]) -> Result<Vec<Anomaly>, IndexError> {
        if let Some(newest) = self.newest
            && block.number <= newest
        {
            return Err(IndexError::OutOfOrder { block, newest });
        }
        self.open.push_back((block, self.tables.savepoint()));
        self.newest = Some(block.number);
        Ok(events
            .iter()
            .filter_map(|event| self.tables.fold(block.number, event).err())
            .collect())
    }

    /// Takes the newest block back.
    pub fn unwind(&mut self, block: BlockRef) -> Result<(), IndexError> {
        match self.open.back() {
            Some((newest, savepoint)) if *newest == block => {
                self.tables.rollback(*savepoint);
                self.open.pop_back();
                self.newest = match self.open.back() {
                    Some((below, _)) => Some(below.number),
                    None => block.number.get().checked_sub(1).map(BlockNumber::new),
                };
                Ok(())
            }
            Some(_) | None => Err(IndexError::NotNewest { block }),
        }
    }

    /// Makes all blocks up to this one final: they cannot be taken back, and no history is kept of them.
    pub fn finalize(&mut self, number: BlockNumber) {
        while self.open.front().is_some_and(|(block, _)| block.number <= number) {
            self.open.pop_front();
        }
        let before = self
            .open
            .front()
            .map_or_else(|| self.tables.savepoint(), |(_, savepoint)| *savepoint);
        self.tables.forget(before);
    }

    /// The newest block's number; `None` before the first.
    pub fn newest(&self) -> Option<BlockNumber> {
        self.newest
    }

    /// A job: known, absent, or unknown because its events did not fit.
    pub fn job(&self, id: JobId) -> Knowledge<Job<'_>> {
        match self.tables.jobs.get(&id) {
            Some(JobEntry::Sound(record)) => Knowledge::Known(Job { record, index: self }),
            Some(JobEntry::Quarantined(_)) => Knowledge::Unknown,
            None => Knowledge::Absent,
        }
    }

    /// All jobs in the order of their ids, quarantined ones too.
    pub fn entries(&self) -> impl Iterator<Item = (JobId, &JobEntry)> {
        self.tables.jobs.iter().map(|(id, entry)| (*id, entry))
    }

    /// The jobs that an account opened.
    pub fn jobs_of_buyer(&self, buyer: Address) -> impl Iterator<Item = JobId> + '_ {
        let keys = (buyer, JobId::ZERO)..=(buyer, JobId::from_bytes([0xff; 32]));
        self.tables.jobs_of_buyers.range(keys).map(|((_, job), ())| *job)
    }

    /// The jobs in which an account has or had a seat.
    pub fn jobs_of_provider(&self, provider: Address) -> impl Iterator<Item = JobId> + '_ {
        let keys = (provider, JobId::ZERO)..=(provider, JobId::from_bytes([0xff; 32]));
        self.tables
            .jobs_of_providers
            .range(keys)
            .map(|((_, job), ())| *job)
    }

    /// An account's balance in the market.
    pub fn balance(&self, account: Address, token: Address) -> TokenAmount {
        self.tables
            .balances
            .get(&(account, token))
            .copied()
            .unwrap_or_default()
    }

    /// A provider's bond.
    pub fn bond(&self, provider: Address, token: Address) -> Bond {
        self.tables
            .bonds
            .get(&(provider, token))
            .copied()
            .unwrap_or_default()
    }

    /// What the market keeps of a token for nobody.
    pub fn sink(&self, token: Address) -> TokenAmount {
        self.tables.sinks.get(&token).copied().unwrap_or_default()
    }

    /// What the market owes of a token in all: balances, bonds, escrows and sink.
    pub fn held(&self, token: Address) -> TokenAmount {
        self.tables.held.get(&token).copied().unwrap_or_default()
    }

    /// A provider's series of offers.
    pub fn series(&self, provider: Address, series: u32) -> Series {
        self.tables
            .series
            .get(&(provider, series))
            .copied()
            .unwrap_or_default()
    }

    /// Whether every event so far was folded, so that balances, bonds and sinks are exact.
    pub fn is_exact(&self) -> bool {
        self.tables.quarantined.get(&()).is_none()
    }

    /// Whether what each token's entries say adds up to what is held: deposits + bonds = balances + bonds +
    /// escrows + sink. `None` where a sum does not fit.
    pub fn conserves(&self, token: Address) -> Option<bool> {
        let of_token = |key: &(Address, Address)| key.1 == token;
        let balances = self
            .tables
            .balances
            .iter()
            .filter(|(key, _)| of_token(key))
            .map(|(_, amount)| *amount);
        let bonds = self
            .tables
            .bonds
            .iter()
            .filter(|(key, _)| of_token(key))
            .map(|(_, bond)| bond.total);
        let escrows = self.tables.jobs.iter().filter_map(|(_, entry)| match entry {
            JobEntry::Sound(job) if job.terms.pricing.token == token => Some(job.escrow),
            JobEntry::Sound(_) | JobEntry::Quarantined(_) => None,
        });
        let owed = TokenAmount::checked_sum(balances.chain(bonds).chain(escrows))?;
        Some(owed.checked_add(self.sink(token))? == self.held(token))
    }
}
