//! What to do next for an account, from its journal and the chain. Pure: no node, no clock, no key.
//!
//! Nonces are done in order; what is not known is waited for; a nonce used by somebody else stops everything.

use std::collections::BTreeMap;

use tradewind_market::{BlockNumber, Hash32};

use super::config::SenderConfig;
use super::fees::Fees;
use super::journal::Entry;
use super::transaction::Payload;
use crate::{AccountNonce, BlockId, UnixMillis, Wei};

/// An account as journal and chain show it at one moment.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// First nonce free at the newest block.
    pub(super) latest: AccountNonce,
    /// First nonce free when the node's pool is counted in.
    pub(super) pending: AccountNonce,
    /// The newest block.
    pub(super) head: BlockNumber,
    /// The journal, each record with what became of it.
    pub(super) slots: BTreeMap<AccountNonce, Slot>,
}

/// A journal record and what became of it.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) entry: Entry,
    /// What the signed bytes say; `None` where they cannot be read or are not this account's.
    pub(super) signed: Option<Signed>,
    pub(super) place: Place,
}

/// What a record's signed bytes do, and the fees of the newest.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    pub(super) payload: Payload,
    pub(super) newest: Hash32,
    pub(super) newest_fees: Fees,
    /// The newest block when it was signed.
    pub(super) at_head: BlockNumber,
}

/// Where a journaled transaction is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In no block, its nonce free.
    Waiting,
    /// In a block that may be undone.
    Included(Inclusion),
    /// In a final block.
    Final(Inclusion),
    /// Its nonce is used at the newest block, by a transaction that the node shows no receipt for: it may lag.
    Displaced,
    /// Its nonce is used at the finalized block, by a transaction that is none of the record's.
    Lost,
}

/// How a transaction is in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inclusion {
    pub(super) tx: Hash32,
    pub(super) block: BlockId,
    pub(super) succeeded: bool,
    /// Steps of a shared transaction that failed alone, with the start of their reasons.
    pub(super) failed_steps: BTreeMap<usize, Vec<u8>>,
}

/// Something that a person must look at, or soon will have to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Alert {
    /// A nonce was used without a record: another program has the key, or the journal was lost or is older than the
    /// chain. Nothing is sent until `adopt_nonces_below` is set above it.
    #[error("nonce {nonce} was used by a transaction that the journal does not know; nothing is sent")]
    ForeignNonce {
        /// The first such nonce.
        nonce: AccountNonce,
    },
    /// A record's bytes cannot be read, or are not signed by the account for this nonce.
    #[error("the journal's record of nonce {nonce} cannot be used")]
    CorruptRecord {
        /// Its nonce.
        nonce: AccountNonce,
    },
    /// A nonce below the journal's oldest record is free: a transaction from before the journal was undone.
    #[error("nonce {nonce}, older than the journal, is free again; later transactions wait for it")]
    EarlierNonceFree {
        /// The nonce.
        nonce: AccountNonce,
    },
    /// The account cannot pay for the gas of what waits.
    #[error("the account has {balance}, {needed} may be needed for gas")]
    GasFundsLow {
        /// What all that waits may cost at most.
        needed: Wei,
        /// What there is.
        balance: Wei,
    },
    /// A transaction waits, and there will be no higher bid: it would pass the fee cap, or there were too many.
    #[error("the transaction with nonce {nonce} waits, and its fees are not raised any further")]
    CannotOutbid {
        /// Its nonce.
        nonce: AccountNonce,
    },
    /// The chain asks for more than the cap, so nothing new is signed.
    #[error("the base fee is {base_fee} per gas, above the cap of {cap}")]
    FeesAboveCap {
        /// The next block's base fee.
        base_fee: Wei,
        /// The cap.
        cap: Wei,
    },
}

impl Alert {
    /// The variant's name, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::ForeignNonce { .. } => "ForeignNonce",
            Self::CorruptRecord { .. } => "CorruptRecord",
            Self::EarlierNonceFree { .. } => "EarlierNonceFree",
            Self::GasFundsLow { .. } => "GasFundsLow",
            Self::CannotOutbid { .. } => "CannotOutbid",
            Self::FeesAboveCap { .. } => "FeesAboveCap",
        }
    }
}

/// Why intents wait though nothing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitReason {
    /// As many transactions wait for inclusion as may.
    InFlightFull,
    /// The journal is empty and the node's pool holds transactions of the account.
    AccountBusy,
    /// Another sender claimed a nonce first; the next step sees it.
    Contended,
}

impl WaitReason {
    /// The variant's name, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::InFlightFull => "InFlightFull",
            Self::AccountBusy => "AccountBusy",
            Self::Contended => "Contended",
        }
    }
}

/// One thing to do. Each is harmless to repeat, and each is done before the next is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Forget a record whose transaction is final; a newer record stays.
    Remove(AccountNonce),
    /// Hand the newest signed bytes to the node again.
    Broadcast(AccountNonce),
    /// Sign the same payload with higher fees.
    Replace(AccountNonce),
    /// Claim a nonce that no record has, below one that has, by a transfer of nothing to oneself.
    FillHole(AccountNonce),
    /// Claim new nonces for intents that wait.
    Claim {
        first: AccountNonce,
        transactions_max: usize,
    },
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) alerts: Vec<Alert>,
    pub(super) waiting: Option<WaitReason>,
    pub(super) actions: Vec<Action>,
}

/// When each transaction was last handed to the node by this process.
pub(super) type Broadcasts = BTreeMap<Hash32, UnixMillis>;

pub(super) fn plan(
    view: &View,
    broadcasts: &Broadcasts,
    queued: usize,
    config: &SenderConfig,
    now: UnixMillis,
) -> Plan {
    if let Some(nonce) = foreign_nonce(view, config) {
        return Plan {
            alerts: vec![Alert::ForeignNonce { nonce }],
            ..Plan::default()
        };
    }
    let mut plan = Plan::default();
    let corrupt = view.slots.iter().filter(|(_, slot)| slot.signed.is_none());
    plan.alerts
        .extend(corrupt.map(|(nonce, _)| Alert::CorruptRecord { nonce: *nonce }));
    let newest = view.slots.last_key_value().map(|(nonce, _)| *nonce);
    let oldest = view.slots.first_key_value().map(|(nonce, _)| *nonce);
    if let Some(oldest) = oldest
        && view.latest < oldest
        && view.pending < oldest
    {
        plan.alerts.push(Alert::EarlierNonceFree { nonce: view.latest });
    }
    plan.actions.extend(settled(view, newest).map(Action::Remove));
    plan.actions.extend(holes(view).map(Action::FillHole));
    for (nonce, slot) in &view.slots {
        if let (Place::Waiting, Some(signed)) = (&slot.place, &slot.signed) {
            plan.actions
                .extend(for_waiting(*nonce, signed, view.head, broadcasts, config, now));
        }
    }
    if queued > 0 {
        match claimable(view, newest, config) {
            Ok(claim) => plan.actions.push(claim),
            Err(reason) => plan.waiting = Some(reason),
        }
    }
    plan
}

/// The first nonce that was used without a record, above those that a person adopted.
fn foreign_nonce(view: &View, config: &SenderConfig) -> Option<AccountNonce> {
    let adopted = config.adopt_nonces_below.unwrap_or_default();
    let lost = view
        .slots
        .iter()
        .find(|(nonce, slot)| slot.place == Place::Lost && **nonce >= adopted);
    let unknown = view
        .slots
        .last_key_value()
        .map(|(newest, _)| newest.next().max(adopted))
        .filter(|next| *next < view.latest);
    lost.map(|(nonce, _)| *nonce).or(unknown)
}

/// Records that say nothing any more: final, and not the newest, which remains as the high-water mark.
fn settled(view: &View, newest: Option<AccountNonce>) -> impl Iterator<Item = AccountNonce> {
    let done = |slot: &Slot| matches!(slot.place, Place::Final(_) | Place::Lost);
    let slots = view.slots.iter().take_while(move |(_, slot)| done(slot));
    slots
        .map(|(nonce, _)| *nonce)
        .filter(move |nonce| Some(*nonce) != newest)
}

/// Free nonces between records: those above wait for them.
fn holes(view: &View) -> impl Iterator<Item = AccountNonce> {
    let oldest = view.slots.first_key_value().map(|(nonce, _)| nonce.get());
    let newest = view.slots.last_key_value().map(|(nonce, _)| nonce.get());
    let from = oldest.unwrap_or_default().max(view.latest.get());
    let nonces = (from..newest.unwrap_or_default()).map(AccountNonce::new);
    nonces.filter(|nonce| !view.slots.contains_key(nonce))
}

fn for_waiting(
    nonce: AccountNonce,
    signed: &Signed,
    head: BlockNumber,
    broadcasts: &Broadcasts,
    config: &SenderConfig,
    now: UnixMillis,
) -> Option<Action> {
    let overdue = signed.at_head.get().saturating_add(config.replace_after_blocks) <= head.get();
    let broadcast = broadcasts.get(&signed.newest);
    match broadcast {
        // What this process never sent is sent before it is outbid.
        None => Some(Action::Broadcast(nonce)),
        Some(_) if overdue => Some(Action::Replace(nonce)),
        Some(last) => now
            .has_waited(*last, config.rebroadcast_after)
            .then_some(Action::Broadcast(nonce)),
    }
}

fn claimable(view: &View, newest: Option<AccountNonce>, config: &SenderConfig) -> Result<Action, WaitReason> {
    let first = match newest {
        // Nonces above the newest record are used only if a person adopted them.
        Some(newest) => newest.next().max(view.latest),
        None if view.pending == view.latest => view.latest,
        None => return Err(WaitReason::AccountBusy),
    };
    let in_flight = view.slots.values().filter(|slot| is_in_flight(slot)).count();
    match config.in_flight_max.saturating_sub(in_flight) {
        0 => Err(WaitReason::InFlightFull),
        transactions_max => Ok(Action::Claim {
            first,
            transactions_max,
        }),
    }
}

/// Whether a transaction waits for inclusion.
pub(super) fn is_in_flight(slot: &Slot) -> bool {
    match slot.place {
        Place::Waiting | Place::Displaced => true,
        Place::Included(_) | Place::Final(_) | Place::Lost => false,
    }
}

#[cfg(test)]
mod tests;
