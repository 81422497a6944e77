//! What all depend on is away for a while: the gateway, a relay, the chain's node, API servers. Jobs wait for it, go on
//! when it is back, and end as if nothing had been.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, ResourceExt as _};
use tradewind_chain::BlockTag;
use tradewind_crds::condition::ConditionStatus::{False, True};
use tradewind_crds::job_status::JobCondition;
use tradewind_market::event::SeatStatus;
use tradewind_market::{JobId, SeatIndex};

use crate::lab::Cluster;
use crate::market::{GATEWAY_PORT, Market, MarketError, NAMESPACE, Party, Role, Seeming, View};

use super::ScenarioError;
use super::books;
use super::ends::small;
use super::faults;
use super::hands::{self, FIRST, id};
use super::job::{Job, JobSpec};
use super::logs::{self, Expected};
use super::time::{blocks, height, until};

pub(super) const OPERATOR: &str = "tradewind-operator";
const GATEWAY: &str = "tradewind-gateway";
const RELAY: &str = "tradewind-relay";
/// The EVM node's port.
const RPC_PORT: u16 = 8545;
/// How long things are away: longer than any single request is waited for, shorter than any window.
const AWAY_BLOCKS: u64 = 20;
/// A frozen node makes no blocks to count.
const FROZEN: Duration = Duration::from_secs(15);
const BACK_WITHIN: Duration = Duration::from_mins(3);

/// Nobody reaches the gateway: before the job's content is stored, while data centers fetch and store, and when the
/// results are to be fetched. The job says what it waits for.
pub(super) async fn gateway_away(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let consumer = market.consumer()?;
    consumer.lose(&[GATEWAY_PORT])?;
    let outcome = through_gateways_absence(market, &consumer, namespace).await;
    consumer.find()?;
    let mut job = outcome?;
    ends_well(market, &mut job).await
}

async fn through_gateways_absence<'m, 'lab>(
    market: &'m Market<'lab>,
    consumer: &Cluster<'lab>,
    namespace: &str,
) -> Result<Job<'m, 'lab>, ScenarioError> {
    const UNAVAILABLE: Option<&str> = Some("GatewayUnavailable");
    let mut job = Job::apply(market, namespace, &at_work()).await?;
    job.until(JobCondition::Funded, False, UNAVAILABLE).await?;
    consumer.find()?;
    job.until(JobCondition::Running, True, None).await?;
    faults::running_pod(&faults::victim(market)?, &job.id()).await?;
    consumer.lose(&[GATEWAY_PORT])?;
    blocks(market, AWAY_BLOCKS).await?;
    consumer.find()?;
    all_have_stored(market, id(&job)?).await?;
    consumer.lose(&[GATEWAY_PORT])?;
    job.until(JobCondition::Complete, False, UNAVAILABLE).await?;
    Ok(job)
}

/// Of two replicas of the gateway over one store one is killed while the job's pods run, and the other once all results
/// are stored: the one that is left is all there is to know.
pub(super) async fn gateway_replicas_killed(
    market: &Market<'_>,
    namespace: &str,
) -> Result<(), ScenarioError> {
    let consumer = market.consumer()?;
    scale(&consumer, GATEWAY, 2).await?;
    let outcome = Box::pin(while_replicas_die(market, &consumer, namespace)).await;
    scale(&consumer, GATEWAY, 1).await?;
    ends_well(market, &mut outcome?).await
}

async fn while_replicas_die<'m, 'lab>(
    market: &'m Market<'lab>,
    consumer: &Cluster<'lab>,
    namespace: &str,
) -> Result<Job<'m, 'lab>, ScenarioError> {
    let job = running(market, namespace).await?;
    let pods: Api<Pod> = Api::namespaced(consumer.client().await?, NAMESPACE);
    let selector = ListParams::default().labels("app.kubernetes.io/component=gateway");
    let replicas = pods.list(&selector).await;
    let replicas = replicas.map_err(MarketError::kubernetes("list the gateway's replicas"))?;
    for replica in replicas.items {
        consumer
            .kill_container(NAMESPACE, &replica.name_any(), "gateway")
            .await?;
        all_have_stored(market, id(&job)?).await?;
        // Back, before the other one goes.
        scale(consumer, GATEWAY, 2).await?;
    }
    Ok(job)
}

/// The buyer's cluster reaches no node of the chain for a while.
pub(super) async fn buyer_without_chain(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    without_chain(market, namespace, &market.consumer()?).await
}

/// A data center reaches no node of the chain for a while.
pub(super) async fn provider_without_chain(
    market: &Market<'_>,
    namespace: &str,
) -> Result<(), ScenarioError> {
    without_chain(market, namespace, &faults::victim(market)?).await
}

async fn without_chain(
    market: &Market<'_>,
    namespace: &str,
    cluster: &Cluster<'_>,
) -> Result<(), ScenarioError> {
    let mut job = running(market, namespace).await?;
    cluster.lose(&[RPC_PORT])?;
    let away = blocks(market, AWAY_BLOCKS).await;
    cluster.find()?;
    away?;
    ends_well(market, &mut job).await
}

/// The chain's node takes connections and answers nobody.
pub(super) async fn node_hangs(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let mut job = running(market, namespace).await?;
    market.lab().evm().freeze()?;
    tokio::time::sleep(FROZEN).await;
    market.lab().evm().thaw()?;
    ends_well(market, &mut job).await
}

/// A data center's node lags behind the others, and then lies about its newest block. Its operator does nothing from
/// that, and goes on when the node tells the truth again.
pub(super) async fn node_lags_and_lies(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let victim = faults::victim(market)?;
    let view = View::open(market.lab()).await?;
    market.provider_sees(&victim, view.url()).await?;
    let outcome = async {
        let mut job = running(market, namespace).await?;
        view.seem(Seeming::Behind(height(market).await?));
        blocks(market, AWAY_BLOCKS).await?;
        view.seem(Seeming::Lying);
        blocks(market, AWAY_BLOCKS).await?;
        view.seem(Seeming::True);
        ends_well(market, &mut job).await
    }
    .await;
    market.provider_sees(&victim, &market.lab().evm().url()).await?;
    outcome
}

/// A data center's relay, the only thing that its job pods reach, is away when they begin.
pub(super) async fn relay_away(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let victim = faults::victim(market)?;
    scale(&victim, RELAY, 0).await?;
    let outcome = async {
        let mut job = Job::apply(market, namespace, &at_work()).await?;
        job.until(JobCondition::Running, True, None).await?;
        blocks(market, AWAY_BLOCKS).await?;
        Ok::<_, ScenarioError>(job)
    }
    .await;
    scale(&victim, RELAY, 1).await?;
    ends_well(market, &mut outcome?).await
}

/// etcd and the API server of the buyer's cluster are killed, one after the other.
pub(super) async fn buyers_api_server_killed(
    market: &Market<'_>,
    namespace: &str,
) -> Result<(), ScenarioError> {
    api_server_killed(market, namespace, &market.consumer()?).await
}

/// etcd and the API server of a data center are killed, one after the other.
pub(super) async fn providers_api_server_killed(
    market: &Market<'_>,
    namespace: &str,
) -> Result<(), ScenarioError> {
    api_server_killed(market, namespace, &faults::victim(market)?).await
}

async fn api_server_killed(
    market: &Market<'_>,
    namespace: &str,
    cluster: &Cluster<'_>,
) -> Result<(), ScenarioError> {
    let mut job = running(market, namespace).await?;
    let of_the_client = [
        "failed with error client error",
        "eof in poll",
        "the isolation of job pods cannot be tried at the moment",
    ];
    logs::expect(of_the_client.map(|says| Expected::of_operators(says).in_cluster(cluster)));
    for component in ["etcd", "kube-apiserver"] {
        cluster.kill(component)?;
        let away = blocks(market, AWAY_BLOCKS / 2).await;
        cluster.start(component)?;
        away?;
        until("the API server answers again", || async {
            Ok(cluster.kubectl(&["get", "--raw", "/readyz"]).await.is_ok())
        })
        .await?;
    }
    ends_well(market, &mut job).await
}

/// Sets how many pods a workload has, and waits until it has them.
pub(super) async fn scale(cluster: &Cluster<'_>, workload: &str, pods: i32) -> Result<(), ScenarioError> {
    let replicas = format!("--replicas={pods}");
    let name = format!("deployment/{workload}");
    cluster
        .kubectl(&["scale", "-n", NAMESPACE, &name, &replicas])
        .await?;
    let deployments: Api<Deployment> = Api::namespaced(cluster.client().await?, NAMESPACE);
    let scaled = await_condition(deployments, workload, has_pods(pods));
    tokio::time::timeout(BACK_WITHIN, scaled)
        .await
        .map_err(|_| ScenarioError::NotSo(format!("{workload} has {pods} pods")))?
        .map(drop)
        .map_err(|error| ScenarioError::NotSo(format!("{workload} can be watched: {error}")))
}

fn has_pods(pods: i32) -> impl Condition<Deployment> {
    move |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        status.is_some_and(|status| {
            let (all, ready) = (status.replicas.unwrap_or(0), status.ready_replicas.unwrap_or(0));
            all == pods && ready == pods
        })
    }
}

/// A job whose units take a while.
pub(super) fn at_work() -> JobSpec {
    JobSpec {
        script: "sleep 8; echo unit $JOB_COMPLETION_INDEX >/out/result".to_owned(),
        ..small()
    }
}

/// Applies such a job, and waits until it runs in the data center that things befall.
async fn running<'m, 'lab>(
    market: &'m Market<'lab>,
    namespace: &str,
) -> Result<Job<'m, 'lab>, ScenarioError> {
    let mut job = Job::apply(market, namespace, &at_work()).await?;
    job.until(JobCondition::Running, True, None).await?;
    faults::running_pod(&faults::victim(market)?, &job.id()).await?;
    Ok(job)
}

async fn ends_well(market: &Market<'_>, job: &mut Job<'_, '_>) -> Result<(), ScenarioError> {
    job.complete().await?;
    let books = books::of(market, &job.id()).await?;
    books::add_up(&books)?;
    books::all_seats(&books, "Agreed", None)
}

/// Waits until the last seat of the job's first group has shown its result, or been judged by it.
async fn all_have_stored(market: &Market<'_>, id: JobId) -> Result<(), ScenarioError> {
    let look = &Party::new(market, Role::Deployer).await?;
    until("all results are shown", || async move {
        for seat in (0..3).map(SeatIndex::new) {
            let found = look.reader().seat_of(id, FIRST, seat, BlockTag::Latest).await;
            let state = found.map_err(hands::unread)?.map(|seat| seat.state);
            if !matches!(state, Some(SeatStatus::Stored | SeatStatus::Agreed)) {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await
}
