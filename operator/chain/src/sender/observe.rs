//! Reads an account from chain and journal. Writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use tradewind_market::{Address, Hash32, keccak256};

use super::journal::{AccountRef, Attempt, Entry, Journal, Record};
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
    read_before: &mut ReadBefore,
) -> Result<View, SenderError> {
    let address = account.account;
    let finalized = node.finalized(config.finality).await?;
    let settled = match finalized {
        // By hash, so that a node on another branch cannot answer.
        Some(finalized) => node.nonce(address, BlockTag::Hash(finalized.id.hash)).await?,
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
    let entries = journal.list(account).await?;
    let listed: BTreeSet<Hash32> = entries
        .iter()
        .flat_map(|entry| &entry.record.attempts)
        .map(|attempt| attempt.tx)
        .collect();
    read_before.retain(|tx, _| listed.contains(tx));
    for entry in entries {
        let nonce = entry.record.nonce;
        let signed = read_signed(&entry, read_before);
        let included = find_inclusion(node, &entry, config).await?;
        let place = place(node, nonce, included, Nonces { latest, settled }, finalized).await?;
        slots.insert(nonce, Slot { entry, signed, place });
    }
    Ok(View {
        latest,
        pending,
        head: head.id.number,
        slots,
    })
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
    let settled = nonces.settled > nonce;
    let used = if nonces.latest > nonce {
        Place::Displaced
    } else {
        Place::Waiting
    };
    let Some(included) = included else {
        return Ok(if settled { Place::Lost } else { used });
    };
    if finalized.is_none_or(|finalized| included.block.number > finalized.id.number) {
        return Ok(Place::Included(included));
    }
    // The receipt is about a block that is final, or about one that lost to it and that the node has not let go of.
    if !settled {
        return Ok(used);
    }
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
            let Receipt {
                tx, block, succeeded, ..
            } = receipt;
            return Ok(Some(Inclusion {
                tx,
                block,
                succeeded,
                failed_steps,
            }));
        }
    }
    Ok(None)
}

fn failed_steps(receipt: &Receipt, contract: Address) -> BTreeMap<usize, Vec<u8>> {
    let logs = receipt.logs.iter().filter(|log| log.contract == contract);
    logs.filter_map(abi::failed_step).collect()
}

/// Signed bytes that were read and found to be the account's, by their hash: reading them again would recover the
/// same key, at some cost.
pub(super) type ReadBefore = BTreeMap<Hash32, Transaction>;

/// What the record's bytes say, if all are this account's for this nonce and do the same.
fn read_signed(entry: &Entry, read_before: &mut ReadBefore) -> Option<Signed> {
    let record = &entry.record;
    let mut newest: Option<Signed> = None;
    for attempt in &record.attempts {
        let Transaction {
            chain_id,
            nonce,
            payload,
            fees,
        } = read_attempt(record, attempt, read_before)?;
        let fits = chain_id == record.account.chain_id
            && nonce == record.nonce
            && newest.as_ref().is_none_or(|earlier| earlier.payload == payload);
        if !fits {
            return None;
        }
        newest = Some(Signed {
            payload,
            newest: attempt.tx,
            newest_fees: fees,
            at_head: attempt.signed_at,
        });
    }
    newest
}

fn read_attempt(record: &Record, attempt: &Attempt, read_before: &mut ReadBefore) -> Option<Transaction> {
    if keccak256(&[&attempt.raw]) != attempt.tx {
        return None;
    }
    if let Some(transaction) = read_before.get(&attempt.tx) {
        return Some(transaction.clone());
    }
    let (transaction, signer) = Transaction::decode(&attempt.raw).ok()?;
    if signer != record.account.account {
        return None;
    }
    read_before.insert(attempt.tx, transaction.clone());
    Some(transaction)
}
