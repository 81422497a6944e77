//! When things happened, as this process saw them: every cluster and the chain are on one machine, so one clock
//! serves for all. It watches; it makes nothing happen.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::watch;
use tradewind_crds::ChainIntent;

use super::BenchError;
use crate::lab::Evm;
use crate::market::MarketError;

/// Between two questions which block is final.
const FINAL_EVERY: Duration = Duration::from_millis(20);
const LEASE_LABEL: &str = "tradewind.dev/lease";
const SLICE_PODS: &str = "tradewind.dev/part=slice";
const JOB_LABEL: &str = "batch.kubernetes.io/job-name";

/// First sightings: a key, when it was seen first, and what it was then.
#[derive(Clone, Debug)]
pub(super) struct FirstSeen(watch::Sender<BTreeMap<String, (Instant, String)>>);

impl FirstSeen {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }

    fn record(&self, key: String, what: String) {
        let now = Instant::now();
        self.0.send_if_modified(|seen| {
            let is_new = !seen.contains_key(&key);
            if is_new {
                seen.insert(key, (now, what));
            }
            is_new
        });
    }

    /// Waits until the key is seen.
    pub(super) async fn of(&self, key: &str, within: Duration) -> Result<(Instant, String), BenchError> {
        let mut reader = self.0.subscribe();
        let late = || MarketError::Late {
            what: key.to_owned(),
            seconds: within.as_secs(),
            seen: "nothing".to_owned(),
        };
        let seen = tokio::time::timeout(within, reader.wait_for(|seen| seen.contains_key(key))).await;
        let found = seen
            .map_err(|_| late())?
            .ok()
            .and_then(|seen| seen.get(key).cloned());
        Ok(found.ok_or_else(late)?)
    }
}

/// The transactions of an operator's journal, by the label of each intent; what they are is their hash.
pub(super) async fn follow_journal(api: Api<ChainIntent>, seen: &FirstSeen) {
    follow(api, watcher::Config::default(), |entry: &ChainIntent| {
        let Some(signed) = entry.spec.signed.first() else {
            return;
        };
        for intent in &entry.spec.intents {
            seen.record(intent.label.clone(), signed.transaction.as_str().to_owned());
        }
    })
    .await;
}

/// Slice pods of a data center, by the name of their lease.
pub(super) async fn follow_slices(api: Api<Pod>, seen: &FirstSeen) {
    follow_pods(
        api,
        watcher::Config::default().labels(SLICE_PODS),
        LEASE_LABEL,
        seen,
    )
    .await;
}

/// Pods of plain Jobs, by the Job's name.
pub(super) async fn follow_jobs(api: Api<Pod>, seen: &FirstSeen) {
    follow_pods(api, watcher::Config::default().labels(JOB_LABEL), JOB_LABEL, seen).await;
}

async fn follow_pods(api: Api<Pod>, config: watcher::Config, label: &str, seen: &FirstSeen) {
    follow(api, config, |pod: &Pod| {
        if let Some(key) = pod.labels().get(label) {
            seen.record(key.clone(), pod.name_any());
        }
    })
    .await;
}

/// For ever.
async fn follow<K>(api: Api<K>, config: watcher::Config, look: impl Fn(&K))
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut changes = watcher(api, config).default_backoff().applied_objects().boxed();
    loop {
        // A watch that breaks begins anew by itself.
        if let Ok(Some(object)) = changes.try_next().await {
            look(&object);
        }
    }
}

/// When each block became final.
#[derive(Debug, Default)]
pub(super) struct Finality(std::sync::Mutex<BTreeMap<u64, Instant>>);

impl Finality {
    /// Asks for ever.
    pub(super) async fn follow(&self, evm: Evm<'_>) {
        loop {
            if let Ok(block) = evm.rpc("eth_getBlockByNumber", json!(["finalized", false])).await
                && let Some(number) = block["number"].as_str().and_then(number)
            {
                let mut seen = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                seen.entry(number).or_insert_with(Instant::now);
            }
            tokio::time::sleep(FINAL_EVERY).await;
        }
    }

    /// When the block, or a later one, was first said to be final.
    pub(super) fn of(&self, block: u64) -> Option<Instant> {
        let seen = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.range(block..).map(|(_, at)| *at).next()
    }
}

/// The block that a transaction is in.
pub(super) async fn block_of(evm: &Evm<'_>, transaction: &str) -> Result<u64, BenchError> {
    let receipt = evm.rpc("eth_getTransactionReceipt", json!([transaction])).await?;
    let block = receipt["blockNumber"].as_str().and_then(number);
    block.ok_or_else(|| BenchError::Missing(format!("transaction {transaction} is in no block")))
}

/// How many transactions an account has sent.
pub(super) async fn sent(evm: &Evm<'_>, account: &str) -> Result<u64, BenchError> {
    let count = evm
        .rpc("eth_getTransactionCount", json!([account, "latest"]))
        .await?;
    let count = count.as_str().and_then(number);
    count.ok_or_else(|| BenchError::Missing(format!("{account} has no nonce")))
}

fn number(hex: &str) -> Option<u64> {
    u64::from_str_radix(hex.strip_prefix("0x")?, 16).ok()
}
