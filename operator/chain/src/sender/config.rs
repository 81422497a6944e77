//! How the sender behaves on one chain.

use std::time::Duration;

use tradewind_market::Address;

use super::fees::FeePolicy;
use crate::{AccountNonce, Finality};

/// How the sender behaves on one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderConfig {
    /// Bounds on fees.
    pub fees: FeePolicy,
    /// When a transaction is done with.
    pub finality: Finality,
    /// How many transactions may wait for inclusion at once. Nodes keep 16 to 64 of one account.
    pub in_flight_max: usize,
    /// How many intents may wait in memory.
    pub queue_max: usize,
    /// A transaction that is in no block after this many is replaced by one with higher fees.
    pub replace_after_blocks: u64,
    /// A transaction that is in no block is broadcast again after this long: pools forget.
    pub rebroadcast_after: Duration,
    /// No transaction may use more gas. EIP-7825 allows 16,777,216.
    pub gas_max: u64,
    /// How intents share transactions; `None` gives each its own.
    pub sharing: Option<Sharing>,
    /// Signs nothing, sends nothing, writes nothing; only tells what is.
    pub observe_only: bool,
    /// Nonces below this one may have been used without a record: a person looked at them after the journal was lost
    /// or restored from a backup. Without it such a nonce stops the sender.
    pub adopt_nonces_below: Option<AccountNonce>,
}

/// How intents share transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    /// The contract whose `batch` runs several calls, each failing alone.
    pub contract: Address,
    /// How many calls share one transaction at most.
    pub steps_max: usize,
}

impl SenderConfig {
    /// For a market on a chain with Ethereum's rhythm; every field can be set.
    pub fn new(market: Address) -> Self {
        Self {
            fees: FeePolicy::default(),
            finality: Finality::Tag,
            in_flight_max: 16,
            queue_max: 10_000,
            replace_after_blocks: 5,
            rebroadcast_after: Duration::from_secs(12),
            gas_max: 16_000_000,
            sharing: Some(Sharing {
                contract: market,
                steps_max: 32,
            }),
            observe_only: false,
            adopt_nonces_below: None,
        }
    }
}
