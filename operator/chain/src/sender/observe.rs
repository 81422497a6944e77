//! Reads an account from chain and journal. Writes nothing.

use std::collections::BTreeMap;

use tradewind_market::{Address, BlockNumber};

use super::journal::{AccountRef, Entry, Journal};
use super::plan::{Inclusion, Place, Signed, Slot, View};
use super::transaction::Transaction;
use super::{SenderConfig, SenderError};
use crate::abi;
use crate::node::NodeError;
use crate::{AccountNonce, BlockTag, Header, Node, Receipt};

/// Reads the chain's nonces first and the journal afterwards: a record is written before its nonce can be used, so
/// every nonce that our own installation has used is in the list.
pub(super) async fn observe(
    node: &Node,
    journal: &dyn Journal,
    account: AccountRef,
    config: &SenderConfig,
) -> Result<View, SenderError> {
    let address = account.account;
    let finalized = node.finalized(config.finality).await?;
    let settled = match finalized {
        Some(finalized) => node.nonce(address, BlockTag::Number(finalized.id.number)).await?,
        None => AccountNonce::default(),
    };
    let latest = node.nonce(address, BlockTag::Latest).await?;
    let pending = node.nonce(address, BlockTag::Pending).await?;
    let Some(head) = node.header(BlockTag::Latest).await? else {
        return Err(NodeError::inconsistent("eth_getBlockByNumber", "no newest block").into());
    };
    if latest < settled {
        return Err(NodeError::inconsistent(
            "eth_getTransactionCount",
            format!("nonce {latest} at the newest block, {settled} at the finalized"),
        )
        .into());
    }
    let mut slots = BTreeMap::new();
    for entry in journal.list(account).await? {
        let nonce = entry.record.nonce;
        let signed = read_signed(&entry);
        let included = find_inclusion(node, &entry, config).await?;
        let place = place(node, nonce, included, Nonces { latest, settled }, finalized).await?;
        slots.insert(nonce, Slot { entry, signed, place });
    }
    Ok(View { latest, pending, head: head.id.number, slots })
}

#[derive(Clone, Copy)]
struct Nonces {
    latest: AccountNonce,
    settled: AccountNonce,
}

async fn place(
    node: &Node,
    nonce: AccountNonce,
    included: Option<Inclusion>,
    nonces: Nonces,
    finalized: Option<Header>,
) -> Result<Place, NodeError> {
    let Some(included) = included else {
        return Ok(if nonces.settled > nonce {
            Place::Lost
        } else if nonces.latest > nonce {
            Place::Displaced
        } else {
            Place::Waiting
        });
    };
    if finalized.is_none_or(|finalized| included.block.number > finalized.id.number) {
        return Ok(Place::Included(included));
    }
    // A receipt may come from a node that is still on a branch that lost.
    let canonical = node.header(BlockTag::Number(included.block.number)).await?;
    match canonical {
        Some(header) if header.id == included.block => Ok(Place::Final(included)),
        Some(_) | None => Ok(Place::Displaced),
    }
}

async fn find_inclusion(
    node: &Node,
    entry: &Entry,
    config: &SenderConfig,
) -> Result<Option<Inclusion>, NodeError> {
    for attempt in entry.record.attempts.iter().rev() {
        if let Some(receipt) = node.receipt(attempt.tx).await? {
            let shared = entry.record.intents.len() > 1;
            let failed_steps = match config.sharing {
                Some(sharing) if shared => failed_steps(&receipt, sharing.contract),
                Some(_) | None => BTreeMap::new(),
            };
            let Receipt { tx, block, succeeded, .. } = receipt;
            return Ok(Some(Inclusion { tx, block, succeeded, failed_steps }));
        }
    }
    Ok(None)
}

fn failed_steps(receipt: &Receipt, contract: Address) -> BTreeMap<usize, Vec<u8>> {
    let logs = receipt.logs.iter().filter(|log| log.contract == contract);
    logs.filter_map(abi::failed_step).collect()
}

/// What the record's bytes say, if all are this account's for this nonce and do the same.
fn read_signed(entry: &Entry) -> Option<Signed> {
    let record = &entry.record;
    let mut newest: Option<Signed> = None;
    for attempt in &record.attempts {
        let (transaction, signer) = Transaction::decode(&attempt.raw).ok()?;
        let Transaction { chain_id, nonce, payload, fees } = transaction;
        let ours = signer == record.account.account
            && chain_id == record.account.chain_id
            && nonce == record.nonce
            && tradewind_market::keccak256(&[&attempt.raw]) == attempt.tx
            && newest.as_ref().is_none_or(|earlier| earlier.payload == payload);
        if !ours {
            return None;
        }
        let signed_at: BlockNumber = attempt.signed_at;
        newest = Some(Signed { payload, newest: attempt.tx, newest_fees: fees, signed_at });
    }
    newest
}
