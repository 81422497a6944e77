//! An operator's journal of transactions beside the chain's own word about each of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use tradewind_crds::chain_intent::ChainIntent;

use crate::lab::{Cluster, quantity};
use crate::market::Market;

use super::ScenarioError;
use super::books::require;
use super::strike;
use super::time;

/// Enough of a hash to tell it from others.
const SHOWN: usize = 18;

/// An operator's journal as it was found, all that was ever seen of it, and what the chain has of its account.
pub(super) struct Journal<'m, 'lab> {
    market: &'m Market<'lab>,
    cluster: &'m Cluster<'lab>,
    account: &'static str,
    /// The chain is asked for blocks after this one.
    since: u64,
    /// Its journal as it was found after the kill: what each nonce was signed for, and the chain's word then.
    found: BTreeMap<u64, (Entry, Word)>,
    /// Every entry that was ever seen.
    seen: BTreeMap<u64, Entry>,
    /// What the chain has of the account since the watch began, by nonce.
    mined: BTreeMap<u64, Mined>,
}

/// What stands in a journal about one nonce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    /// Hashes of the signed transactions, oldest first.
    signed: Vec<String>,
    /// Ids of what it is for, with words for people.
    intents: Vec<(String, String)>,
}

/// What a node says of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Unknown,
    Pending,
    InBlock(u64),
}

/// A transaction of an operator in a block.
#[derive(Clone, Debug)]
struct Mined {
    hash: String,
    block: u64,
    succeeded: bool,
}

impl<'m, 'lab> Journal<'m, 'lab> {
    /// Of the operator of that cluster; the chain is asked for what comes from now on.
    pub(super) async fn begin(
        market: &'m Market<'lab>,
        cluster: &'m Cluster<'lab>,
    ) -> Result<Self, ScenarioError> {
        Ok(Self {
            market,
            cluster,
            account: market.role_of(cluster)?.account().address,
            since: time::height(market).await?,
            found: BTreeMap::new(),
            seen: BTreeMap::new(),
            mined: BTreeMap::new(),
        })
    }

    /// Notes an entry as it is now.
    pub(super) fn note(&mut self, object: &ChainIntent) {
        self.seen.insert(object.spec.nonce, Entry::of(object));
    }

    /// Notes the journal and the chain's word about it as they are found. What the node has not put into a block is
    /// taken out of its pool where `unsent`.
    pub(super) async fn look(&mut self, unsent: bool) -> Result<(), ScenarioError> {
        for object in strike::journal(self.cluster).await? {
            let entry = Entry::of(&object);
            if unsent {
                entry.withdraw(self.market).await?;
            }
            let word = entry.word(self.market).await?;
            if let Word::InBlock(block) = word {
                self.since = self.since.min(block.saturating_sub(1));
            }
            self.note(&object);
            self.found.insert(object.spec.nonce, (entry, word));
        }
        Ok(())
    }

    /// Asks the chain, and requires that each intent that was found has exactly one transaction, and that the chain
    /// has none that is not in the journal.
    pub(super) async fn check(&mut self) -> Result<(), ScenarioError> {
        for object in strike::journal(self.cluster).await? {
            self.note(&object);
        }
        self.mined = mined(self.market, self.account, self.since).await?;
        let name = self.cluster.name();
        require(!self.found.is_empty(), || format!("{name}: a journal was found"))?;
        for (nonce, (entry, _)) in &self.found {
            for (id, label) in &entry.intents {
                let carriers = self.carriers(id);
                require(carriers.len() == 1, || {
                    format!(
                        "{name}: the intent {label} ({id}), found at nonce {nonce}, has one transaction ({carriers:?})"
                    )
                })?;
            }
        }
        // What is final is taken out of the journal, but for the newest.
        let first = self.found.keys().next().copied().unwrap_or_default();
        for (nonce, mined) in self.mined.range(first..) {
            let entry = self.seen.get(nonce);
            require(
                entry.is_some_and(|entry| entry.signed.contains(&mined.hash)),
                || {
                    format!(
                        "{name}: transaction {} at nonce {nonce} is in the journal",
                        mined.hash
                    )
                },
            )?;
        }
        Ok(())
    }

    /// The transactions on the chain that were signed for an intent, whenever.
    fn carriers(&self, id: &str) -> Vec<&str> {
        let carry = self.seen.iter().filter(|(_, entry)| entry.is_for(id));
        carry
            .filter_map(|(nonce, entry)| {
                let mined = self.mined.get(nonce)?;
                let ours = mined.succeeded && entry.signed.contains(&mined.hash);
                ours.then_some(mined.hash.as_str())
            })
            .collect()
    }

    /// For people.
    pub(super) fn tell(&self, table: &mut String) {
        let _ = writeln!(
            table,
            "the journal of {}, account {}, as the kill left it\n  {:>5}  {:<18}  {:<13}  {:<18}  {:<12}  WHAT FOR",
            self.cluster.name(),
            self.account,
            "NONCE",
            "SIGNED",
            "CHAIN THEN",
            "INTENT",
            "TRANSACTIONS"
        );
        for (nonce, (entry, word)) in &self.found {
            let signed = entry.signed.iter().map(|hash| short(hash)).collect::<Vec<_>>();
            let word = match word {
                Word::Unknown => "not known".to_owned(),
                Word::Pending => "in no block".to_owned(),
                Word::InBlock(block) => format!("block {block}"),
            };
            for (id, label) in &entry.intents {
                let _ = writeln!(
                    table,
                    "  {nonce:>5}  {:<18}  {word:<13}  {:<18}  {:<12}  {label}",
                    signed.join(" "),
                    short(id),
                    self.carriers(id).len(),
                );
            }
        }
        let _ = writeln!(
            table,
            "and all that the chain has of this account since\n  {:>5}  {:<18}  {:<13}  FOR",
            "NONCE", "TRANSACTION", "BLOCK"
        );
        for (nonce, mined) in &self.mined {
            let what = self.seen.get(nonce).map(Entry::words).unwrap_or_default();
            let outcome = if mined.succeeded { "" } else { " (reverted)" };
            let _ = writeln!(
                table,
                "  {nonce:>5}  {:<18}  {:<13}  {what}{outcome}",
                short(&mined.hash),
                mined.block
            );
        }
    }
}

impl Entry {
    fn of(object: &ChainIntent) -> Self {
        let signed = object.spec.signed.iter();
        let intents = object.spec.intents.iter();
        Self {
            signed: signed.map(|signed| signed.transaction.to_string()).collect(),
            intents: intents
                .map(|intent| (intent.id.to_string(), intent.label.clone()))
                .collect(),
        }
    }

    fn is_for(&self, id: &str) -> bool {
        self.intents.iter().any(|(other, _)| other == id)
    }

    fn words(&self) -> String {
        let labels: Vec<&str> = self.intents.iter().map(|(_, label)| label.as_str()).collect();
        labels.join(", ")
    }

    /// The chain's word: of the signed transactions, the one that is farthest.
    async fn word(&self, market: &Market<'_>) -> Result<Word, ScenarioError> {
        let mut word = Word::Unknown;
        for hash in &self.signed {
            let found = market
                .lab()
                .evm()
                .rpc("eth_getTransactionByHash", json!([hash]))
                .await?;
            match (&found, quantity(&found["blockNumber"])) {
                (Value::Null, _) => {}
                (_, Some(block)) => return Ok(Word::InBlock(block)),
                (_, None) => word = Word::Pending,
            }
        }
        Ok(word)
    }

    /// Takes what no block has out of the node's pool.
    async fn withdraw(&self, market: &Market<'_>) -> Result<(), ScenarioError> {
        for hash in &self.signed {
            market
                .lab()
                .evm()
                .rpc("anvil_dropTransaction", json!([hash]))
                .await?;
        }
        Ok(())
    }
}

/// All transactions of an account in blocks after that one, by nonce.
async fn mined(
    market: &Market<'_>,
    account: &str,
    since: u64,
) -> Result<BTreeMap<u64, Mined>, ScenarioError> {
    let evm = market.lab().evm();
    let mut mined = BTreeMap::new();
    for number in since + 1..=time::height(market).await? {
        let block = evm
            .rpc("eth_getBlockByNumber", json!([format!("{number:#x}"), true]))
            .await?;
        for transaction in block["transactions"].as_array().into_iter().flatten() {
            let from = transaction["from"].as_str().unwrap_or_default();
            let (Some(nonce), Some(hash)) = (quantity(&transaction["nonce"]), transaction["hash"].as_str())
            else {
                continue;
            };
            if from.eq_ignore_ascii_case(account) {
                let receipt = evm.rpc("eth_getTransactionReceipt", json!([hash])).await?;
                let succeeded = quantity(&receipt["status"]) == Some(1);
                mined.insert(
                    nonce,
                    Mined {
                        hash: hash.to_owned(),
                        block: number,
                        succeeded,
                    },
                );
            }
        }
    }
    Ok(mined)
}

fn short(hash: &str) -> &str {
    hash.get(..SHOWN).unwrap_or(hash)
}
