//! Kills operators with SIGKILL the moment that something is seen on the chain or in a journal.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::ListParams;
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, ResourceExt};
use tokio::sync::{Mutex, MutexGuard};
use tradewind_crds::chain_intent::ChainIntent;

use crate::lab::Cluster;
use crate::market::{Market, MarketError, NAMESPACE, Role};

use super::ScenarioError;
use super::books;
use super::logs;
use super::time;

const OPERATOR: &str = "operator";
const WITHIN: Duration = Duration::from_mins(4);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// By what a moment is known.
#[derive(Debug)]
pub(super) enum Sign {
    /// The consumer's journal has a transaction that opens a job, and had it not before.
    Journaled {
        /// What it had.
        before: Vec<ChainIntent>,
    },
    /// The node has a transaction of the consumer that no block has.
    Pending,
    /// A provider's seat in the job's first group is in one of these states.
    Seat {
        /// Whose.
        provider: Role,
        /// The job.
        job: String,
        /// The protocol's words for them.
        states: &'static [&'static str],
    },
}

impl Sign {
    async fn is_seen(&self, market: &Market<'_>) -> Result<bool, ScenarioError> {
        match self {
            Self::Journaled { before } => {
                let entries = journal(&market.consumer()?).await?;
                Ok(opening(&entries, before).is_some())
            }
            Self::Pending => time::waits(market, Role::Consumer.account().address).await,
            Self::Seat {
                provider,
                job,
                states,
            } => {
                let account = provider.account().address.to_lowercase();
                let books = books::of(market, job).await?;
                let seat = books::seats(&books).find(|seat| seat.provider == account);
                Ok(seat.is_some_and(|seat| states.contains(&seat.state.as_str())))
            }
        }
    }

    /// Waits until it is seen; nobody tells of it.
    async fn reach(&self, market: &Market<'_>) -> Result<(), ScenarioError> {
        let asked = async {
            while !self.is_seen(market).await? {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(())
        };
        let late = |_| ScenarioError::NotSo(format!("{self:?} is seen within {} s", WITHIN.as_secs()));
        tokio::time::timeout(WITHIN, asked).await.map_err(late)?
    }
}

/// Operators that were killed and are not up again. No other scenario kills any meanwhile.
#[derive(Debug)]
pub(super) struct Struck<'m, 'lab> {
    killed: Vec<(&'m Cluster<'lab>, Pod)>,
    _alone: MutexGuard<'static, ()>,
}

/// Waits for the sign, and kills these clusters' operators at once.
pub(super) async fn strike<'m, 'lab>(
    market: &Market<'lab>,
    sign: &Sign,
    clusters: &'m [Cluster<'lab>],
) -> Result<Struck<'m, 'lab>, ScenarioError> {
    // Scenarios run side by side on one market: an operator that another has just killed cannot be killed.
    static STRIKES: Mutex<()> = Mutex::const_new(());
    let alone = STRIKES.lock().await;
    let mut targets = Vec::new();
    let mut killed = Vec::new();
    for cluster in clusters {
        for pod in operators(cluster).await? {
            targets.push(cluster.aim(NAMESPACE, &pod.name_any(), OPERATOR).await?);
            killed.push((cluster, pod));
        }
    }
    sign.reach(market).await?;
    for target in targets {
        target.kill()?;
    }
    Ok(Struck {
        killed,
        _alone: alone,
    })
}

impl Struck<'_, '_> {
    /// Returns when all of them are up again.
    pub(super) async fn recovered(self) -> Result<(), ScenarioError> {
        for (cluster, pod) in self.killed {
            let pods: Api<Pod> = Api::namespaced(cluster.client().await?, NAMESPACE);
            let name = pod.name_any();
            let again = await_condition(pods, &name, begun_after(restarts_of(&pod)));
            tokio::time::timeout(WITHIN, again)
                .await
                .map_err(|_| ScenarioError::NotSo(format!("{name} is up again")))?
                .map_err(|error| ScenarioError::NotSo(format!("{name} can be watched: {error}")))?;
            logs::keep_killed(cluster, &pod).await?;
        }
        Ok(())
    }
}

/// A cluster's journal of transactions.
pub(super) async fn journal(cluster: &Cluster<'_>) -> Result<Vec<ChainIntent>, ScenarioError> {
    let entries: Api<ChainIntent> = Api::namespaced(cluster.client().await?, NAMESPACE);
    let list = entries
        .list(&ListParams::default())
        .await
        .map_err(MarketError::kubernetes("list the journal"))?;
    Ok(list.items)
}

/// The entry that opens a job and is new: the job's id, and the hash of what was signed first.
pub(super) fn opening(entries: &[ChainIntent], before: &[ChainIntent]) -> Option<(String, String)> {
    let known = |entry: &&ChainIntent| before.iter().any(|old| old.spec.nonce == entry.spec.nonce);
    entries.iter().filter(|entry| !known(entry)).find_map(|entry| {
        let mut labels = entry.spec.intents.iter().map(|intent| intent.label.as_str());
        let job = labels.find_map(|label| label.strip_prefix("open "))?;
        let signed = entry.spec.signed.first()?;
        Some((job.to_owned(), signed.transaction.to_string()))
    })
}

async fn operators(cluster: &Cluster<'_>) -> Result<Vec<Pod>, ScenarioError> {
    let pods: Api<Pod> = Api::namespaced(cluster.client().await?, NAMESPACE);
    let selector = ListParams::default().labels("app.kubernetes.io/component=operator");
    let list = pods.list(&selector).await;
    Ok(list
        .map_err(MarketError::kubernetes("list the operator's pods"))?
        .items)
}

/// The operator's container runs, and is not the one that had been restarted so many times.
fn begun_after(restarts: i32) -> impl Condition<Pod> {
    move |pod: Option<&Pod>| {
        let status = pod.and_then(operator_status);
        status.is_some_and(|status| {
            let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
            running && status.restart_count > restarts
        })
    }
}

fn restarts_of(pod: &Pod) -> i32 {
    operator_status(pod).map_or(0, |status| status.restart_count)
}

fn operator_status(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == OPERATOR)
}
