//! The journal of transactions: written before anything is broadcast, read before anything is decided.
//!
//! A record is named by chain, account and nonce, so that creating it claims the nonce: whoever comes second is
//! refused. It carries the intents and an append-only list of signed bytes. Nothing in it says what became of the
//! transaction: that is read from the chain, so a journal that was restored from a backup can be wrong about nothing.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tradewind_market::{Address, BlockNumber, Hash32};

use super::intent::IntentId;
use crate::{AccountNonce, Disposition};

/// How many attempts a record holds at most.
pub const ATTEMPTS_MAX: usize = 16;
/// How many bytes a record's attempts hold together at most: written as hex they must fit a Kubernetes object.
pub const SIGNED_BYTES_MAX: usize = 512 * 1024;
/// How long a label is at most, in characters.
pub const LABEL_CHARS_MAX: usize = 256;

/// One account on one chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountRef {
    /// The chain.
    pub chain_id: u64,
    /// The account.
    pub account: Address,
}

/// An intent as a record names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentRef {
    /// Its name.
    pub id: IntentId,
    /// What it is, for people; at most [`LABEL_CHARS_MAX`] long.
    pub label: String,
}

/// Signed bytes for a nonce. Attempts at one nonce differ in their fees only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// The transaction's hash.
    pub tx: Hash32,
    /// The signed transaction, as it is broadcast.
    #[serde(with = "crate::hex_bytes")]
    pub raw: Vec<u8>,
    /// The newest block when it was signed; a replacement waits from there.
    pub signed_at: BlockNumber,
}

/// What is known of one nonce before anything is sent for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Whose nonce.
    pub account: AccountRef,
    /// The nonce.
    pub nonce: AccountNonce,
    /// What the transaction is for, in the order of its steps. None: it only fills a hole.
    pub intents: Vec<IntentRef>,
    /// Signed bytes, oldest first, at least one.
    pub attempts: Vec<Attempt>,
}

impl Record {
    /// Whether another attempt like the newest fits.
    pub(super) fn has_room(&self) -> bool {
        let bytes: usize = self.attempts.iter().map(|attempt| attempt.raw.len()).sum();
        let next = self.attempts.last().map_or(0, |attempt| attempt.raw.len());
        self.attempts.len() < ATTEMPTS_MAX && bytes + next <= SIGNED_BYTES_MAX
    }

    /// The record's name, the same for everyone who would claim this nonce; fit for a Kubernetes object.
    pub fn name(&self) -> String {
        let AccountRef { chain_id, account } = self.account;
        format!("{chain_id}-{account}-{}", self.nonce)
    }
}

/// A record's version; a change is refused unless it names the current one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub String);

/// A record and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The record.
    pub record: Record,
    /// Its version.
    pub revision: Revision,
}

/// Why the journal did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Another record has this nonce: it is somebody else's.
    #[error("nonce {nonce} is claimed already")]
    Claimed {
        /// The nonce.
        nonce: AccountNonce,
    },
    /// The record changed or went away since it was read.
    #[error("the record of nonce {nonce} has changed")]
    Conflict {
        /// The nonce.
        nonce: AccountNonce,
    },
    /// The store did not answer, or refused. Whether it wrote is not known.
    #[error("the journal cannot {operation}: {reason}")]
    Store {
        /// What was tried.
        operation: &'static str,
        /// The store's reason.
        reason: String,
    },
}

impl JournalError {
    /// What to do about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Claimed { .. } | Self::Conflict { .. } | Self::Store { .. } => Disposition::Retry,
        }
    }

    /// The variant's name, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Claimed { .. } => "Claimed",
            Self::Conflict { .. } => "Conflict",
            Self::Store { .. } => "Store",
        }
    }
}

/// Where records are kept. Every operation may take effect and still fail; asking again is harmless.
#[async_trait]
pub trait Journal: Send + Sync + fmt::Debug {
    /// All records of the account. A record whose claim returned before this was called is among them, so caches will
    /// not do.
    async fn list(&self, account: AccountRef) -> Result<Vec<Entry>, JournalError>;

    /// Creates the record, or says [`JournalError::Claimed`] where its nonce has one, whatever is in it.
    async fn claim(&self, record: &Record) -> Result<Revision, JournalError>;

    /// Appends signed bytes to the record read as `entry`, or says [`JournalError::Conflict`].
    async fn append(&self, entry: &Entry, attempt: &Attempt) -> Result<Revision, JournalError>;

    /// Removes the record read as `entry`, or says [`JournalError::Conflict`] where it has changed. One that is gone
    /// already is removed.
    async fn remove(&self, entry: &Entry) -> Result<(), JournalError>;
}
