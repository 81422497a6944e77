//! Blocks, receipts and logs as a node tells of them, in our types.

use std::fmt;

use serde::{Deserialize, Serialize};
use tradewind_market::index::BlockRef;
use tradewind_market::{Address, BlockNumber, Hash32, UnixSeconds};

use crate::Wei;

/// A block, named so that a reorganisation cannot confuse it with another of the same height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockId {
    /// Its height.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: Hash32,
}

impl From<BlockId> for BlockRef {
    fn from(BlockId { number, hash }: BlockId) -> Self {
        Self { number, hash }
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.number, self.hash)
    }
}

/// What is used of a block's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The block.
    pub id: BlockId,
    /// The hash of the block before it.
    pub parent: Hash32,
    /// When it says it was made.
    pub timestamp: UnixSeconds,
    /// How much gas its transactions may use together.
    pub gas_limit: u64,
}

/// Which state a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockTag {
    /// The newest block that the node knows.
    Latest,
    /// With the transactions that wait in the node's pool.
    Pending,
    /// The newest block that cannot be undone, as the chain's consensus says.
    Finalized,
    /// A height.
    Number(BlockNumber),
    /// A particular block.
    Hash(Hash32),
}

/// When a block counts as final: the only state on which money is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Finality {
    /// As the chain's consensus says, by the `finalized` tag.
    #[default]
    Tag,
    /// For chains whose nodes have no such tag: this many blocks below the newest.
    Depth(u64),
}

/// A log entry as the node tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawLog {
    /// The contract that wrote it.
    pub contract: Address,
    /// The event's signature hash and its indexed fields.
    pub topics: Vec<Hash32>,
    /// The other fields, ABI-encoded.
    pub data: Vec<u8>,
    /// The block it is in.
    pub block: BlockId,
    /// The transaction that caused it.
    pub tx: Hash32,
    /// Its place among the block's logs.
    pub log_index: u64,
}

/// What became of an included transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The transaction.
    pub tx: Hash32,
    /// The block it is in, on the branch that the node was on when it answered.
    pub block: BlockId,
    /// Whether it ran to its end; otherwise it was undone, and only its gas was paid.
    pub succeeded: bool,
    /// The gas it used.
    pub gas_used: u64,
    /// What it paid for each unit of gas.
    pub gas_price: Wei,
    /// What it logged.
    pub logs: Vec<RawLog>,
    /// The contract that it made, if it made one.
    pub created: Option<Address>,
}

/// What a transaction asks a contract to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Call {
    /// The contract.
    pub to: Address,
    /// The function and its arguments, ABI-encoded.
    #[serde(with = "crate::hex_bytes")]
    pub data: Vec<u8>,
}
