//! Operators that are killed at the worst moments, and a chain that takes a block back.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::ListParams;
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::Mutex;
use tradewind_crds::chain_intent::ChainIntent;
use tradewind_crds::condition::ConditionStatus::True;
use tradewind_crds::job_status::JobCondition;

use crate::lab::Cluster;
use crate::market::{Market, MarketError, NAMESPACE, Role};

use super::ScenarioError;
use super::books;
use super::faults;
use super::job::{Job, JobSpec};
use super::time;

/// The data center whose operator is killed with the consumer's: the first one.
const KILLED: usize = 0;
const OPERATOR: &str = "operator";
const POINT_WITHIN: Duration = Duration::from_mins(4);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A moment in a job's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// A transaction is signed and in the journal.
    Signed,
    /// It is on its way to a block.
    Broadcast,
    /// Seats are taken, and data centers begin.
    Awarded,
    /// The killed data center has committed.
    Committed,
    /// It has revealed.
    Revealed,
}

/// Whoever acts at that moment is killed. The job ends as if nothing had been: nothing is paid twice, and no pod of
/// it is killed or begun again.
pub(super) async fn operator_killed(
    market: &Market<'_>,
    namespace: &str,
    at: Point,
) -> Result<(), ScenarioError> {
    let (consumer, provider) = (market.consumer()?, data_center(market)?);
    let before = journal(&consumer).await?;
    let script = "sleep 3; echo unit $JOB_COMPLETION_INDEX >/out/result".to_owned();
    let spec = JobSpec {
        script,
        completions: 4,
        slices_per_group: 2,
        ..JobSpec::default()
    };
    let mut job = Job::apply(market, namespace, &spec).await?;
    if matches!(at, Point::Awarded | Point::Committed | Point::Revealed) {
        job.until(JobCondition::Running, True, None).await?;
    }
    match at {
        Point::Signed => strike(market, &Sign::Journaled { before }, &[&consumer]).await?,
        Point::Broadcast => strike(market, &Sign::Pending, &[&consumer]).await?,
        Point::Awarded => {
            let awarded = Sign::seat(&job, &["Awarded", "Committed"]);
            strike(market, &awarded, &[&consumer, &provider]).await?;
        }
        Point::Committed => strike(market, &Sign::seat(&job, &["Committed"]), &[&provider]).await?,
        Point::Revealed => {
            let revealed = Sign::seat(&job, &["Revealed", "Stored"]);
            strike(market, &revealed, &[&provider, &consumer]).await?;
        }
    }
    job.complete().await?;
    let books = books::of(market, &job.id()).await?;
    books::add_up(&books)?;
    books::all_seats(&books, "Agreed", None)?;
    faults::begun_once(&provider, &job.id()).await
}

/// The block that opened the job is taken back before it is final: nothing was begun for it, and the job is opened,
/// run and paid once.
pub(super) async fn opening_taken_back(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let mut job = Job::apply(market, namespace, &JobSpec::default()).await?;
    // The status says so as soon as a block has it; by the time of the reorganisation that may be the second newest.
    job.until(JobCondition::Accepted, True, None).await?;
    reach(market, &Sign::Opened { job: job.id() }).await?;
    market.lab().evm().rpc("anvil_reorg", json!([2, []])).await?;
    job.complete().await?;
    let books = books::of(market, &job.id()).await?;
    books::add_up(&books)?;
    books::all_seats(&books, "Agreed", None)
}

fn data_center<'lab>(market: &Market<'lab>) -> Result<Cluster<'lab>, ScenarioError> {
    let cluster = market.providers()?.into_iter().nth(KILLED);
    cluster.ok_or_else(|| ScenarioError::NotSo("the market has data centers".to_owned()))
}

/// By what a moment is known.
#[derive(Debug)]
enum Sign {
    /// The consumer's journal has an entry that was not there before.
    Journaled { before: Vec<String> },
    /// The node has a transaction of the consumer that no block has.
    Pending,
    /// The chain has the job.
    Opened { job: String },
    /// The killed data center's seat in the job's first group is in one of these states.
    Seat {
        job: String,
        states: &'static [&'static str],
    },
}

impl Sign {
    fn seat(job: &Job<'_, '_>, states: &'static [&'static str]) -> Self {
        Self::Seat {
            job: job.id(),
            states,
        }
    }

    async fn is_seen(&self, market: &Market<'_>) -> Result<bool, ScenarioError> {
        match self {
            Self::Journaled { before } => {
                let entries = journal(&market.consumer()?).await?;
                Ok(entries.iter().any(|name| !before.contains(name)))
            }
            Self::Pending => time::waits(market, Role::Consumer.account().address).await,
            Self::Opened { job } => {
                let filter =
                    json!([{"address": market.address(), "topics": [null, job], "fromBlock": "0x0"}]);
                let logs = market.lab().evm().rpc("eth_getLogs", filter).await?;
                Ok(logs.as_array().is_some_and(|logs| !logs.is_empty()))
            }
            Self::Seat { job, states } => Ok(states.contains(&seat_state(market, job).await?.as_str())),
        }
    }
}

/// Waits until the sign is seen; nobody tells of it.
async fn reach(market: &Market<'_>, sign: &Sign) -> Result<(), ScenarioError> {
    let asked = async {
        while !sign.is_seen(market).await? {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    let late = |_| ScenarioError::NotSo(format!("{sign:?} is seen within {} s", POINT_WITHIN.as_secs()));
    tokio::time::timeout(POINT_WITHIN, asked).await.map_err(late)?
}

/// The names of the journal's entries.
async fn journal(cluster: &Cluster<'_>) -> Result<Vec<String>, ScenarioError> {
    let entries: Api<ChainIntent> = Api::namespaced(cluster.client().await?, NAMESPACE);
    let list = entries
        .list(&ListParams::default())
        .await
        .map_err(MarketError::kubernetes("list the journal"))?;
    Ok(list.items.iter().map(ResourceExt::name_any).collect())
}

/// The state of the killed data center's seat in the job's first group.
async fn seat_state(market: &Market<'_>, job: &str) -> Result<String, ScenarioError> {
    let account = Role::Provider(KILLED).account().address.to_lowercase();
    let books = books::of(market, job).await?;
    let state = books::seats(&books)
        .find(|seat| seat.provider == account)
        .map(|seat| seat.state.clone());
    Ok(state.unwrap_or_default())
}

/// Waits for the sign and kills these clusters' operators at once; returns when they are up again.
async fn strike(market: &Market<'_>, sign: &Sign, clusters: &[&Cluster<'_>]) -> Result<(), ScenarioError> {
    // Scenarios run side by side on one market: an operator that another has just killed cannot be killed.
    static STRIKES: Mutex<()> = Mutex::const_new(());
    let _alone = STRIKES.lock().await;
    reach(market, sign).await?;
    let mut killed = Vec::new();
    for cluster in clusters {
        for pod in operators(cluster).await? {
            cluster
                .kill_container(NAMESPACE, &pod.name_any(), OPERATOR)
                .await?;
            killed.push((*cluster, pod));
        }
    }
    for (cluster, pod) in killed {
        let pods: Api<Pod> = Api::namespaced(cluster.client().await?, NAMESPACE);
        let name = pod.name_any();
        let again = await_condition(pods, &name, begun_after(restarts_of(&pod)));
        tokio::time::timeout(POINT_WITHIN, again)
            .await
            .map_err(|_| ScenarioError::NotSo(format!("{name} is up again")))?
            .map_err(|error| ScenarioError::NotSo(format!("{name} can be watched: {error}")))?;
    }
    Ok(())
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
