//! What befalls data centers and operators while a job runs.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use tradewind_crds::condition::ConditionStatus::True;
use tradewind_crds::job_status::JobCondition;

use crate::lab::Cluster;
use crate::market::{Market, MarketError, Role};

use super::ScenarioError;
use super::books::{self, require};
use super::job::{Job, JobSpec};

/// The data center that things befall: the last one.
pub(super) const VICTIM: usize = 2;
const PODS_WITHIN: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A program that is killed, as the kernel does when memory runs out, goes on after the units that it has done, and the
/// result is what it would have been.
pub(super) async fn killed_slice(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let script = "sleep 5; echo unit $JOB_COMPLETION_INDEX >/out/result".to_owned();
    let spec = JobSpec {
        script,
        completions: 2,
        slices_per_group: 1,
        ..JobSpec::default()
    };
    let mut job = Job::apply(market, namespace, &spec).await?;
    job.until(JobCondition::Running, True, None).await?;
    let victim = victim(market)?;
    let pod = running_pod(&victim, &job.id()).await?;
    let pool = pod.namespace().unwrap_or_default();
    victim.kill_container(&pool, &pod.name_any(), "run").await?;
    job.complete().await?;
    let books = books::of(market, &job.id()).await?;
    books::add_up(&books)?;
    books::all_seats(&books, "Agreed", None)?;
    let after = pods(&victim, &job.id()).await?;
    let again: i32 = after.iter().map(restarts).sum();
    let another = after.iter().any(|other| other.name_any() != pod.name_any());
    require(again > 0 && !another || after.is_empty(), || {
        "the same pod went on".to_owned()
    })
}

/// A data center whose cable is cut after the award is silent, loses what silence costs, and hurts nobody else.
pub(super) async fn vanished(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let script = "sleep 3; echo unit $JOB_COMPLETION_INDEX >/out/result".to_owned();
    let mut job = Job::apply(
        market,
        namespace,
        &JobSpec {
            script,
            ..JobSpec::default()
        },
    )
    .await?;
    job.until(JobCondition::Running, True, None).await?;
    let victim = victim(market)?;
    victim.disconnect()?;
    let outcome = job.complete().await;
    victim.connect()?;
    outcome?;
    let silent = Role::Provider(VICTIM);
    let books = books::of(market, &job.id()).await?;
    books::add_up(&books)?;
    books::all_seats(&books, "Agreed", Some(silent))?;
    let account = silent.account().address.to_lowercase();
    for seat in books::seats(&books).filter(|seat| seat.provider == account) {
        let lost = books::number(&seat.burned)?;
        require(seat.state == "NoShow" && lost > 0, || {
            format!("the silent seat is {} and lost {lost}", seat.state)
        })?;
    }
    Ok(())
}

/// No slice of the job was begun a second time in that data center, and none was restarted.
pub(super) async fn begun_once(cluster: &Cluster<'_>, job: &str) -> Result<(), ScenarioError> {
    for pod in pods(cluster, job).await? {
        let attempt = pod
            .labels()
            .get("tradewind.dev/attempt")
            .cloned()
            .unwrap_or_default();
        let again = restarts(&pod);
        require(attempt == "1" && again == 0, || {
            format!(
                "{} was begun once (attempt {attempt}, {again} restarts)",
                pod.name_any()
            )
        })?;
    }
    Ok(())
}

/// The data center that things befall.
pub(super) fn victim<'lab>(market: &Market<'lab>) -> Result<Cluster<'lab>, ScenarioError> {
    let victim = market.providers()?.into_iter().nth(VICTIM);
    victim.ok_or_else(|| ScenarioError::NotSo(format!("the market has more than {VICTIM} data centers")))
}

/// The pods of a job in a data center's cluster.
async fn pods(cluster: &Cluster<'_>, job: &str) -> Result<Vec<Pod>, ScenarioError> {
    let lease = format!(
        "job-{}",
        job.trim_start_matches("0x").get(..32).unwrap_or_default()
    );
    let selector = ListParams::default().labels(&format!("tradewind.dev/lease={lease}"));
    let list = Api::<Pod>::all(cluster.client().await?).list(&selector).await;
    Ok(list
        .map_err(MarketError::kubernetes("list the pods of a job"))?
        .items)
}

/// Waits for a pod of the job whose own program runs.
pub(super) async fn running_pod(cluster: &Cluster<'_>, job: &str) -> Result<Pod, ScenarioError> {
    let found = async {
        loop {
            if let Some(pod) = pods(cluster, job).await?.into_iter().find(runs) {
                return Ok(pod);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let late = |_| {
        ScenarioError::NotSo(format!(
            "a pod of job {job} runs within {} s",
            PODS_WITHIN.as_secs()
        ))
    };
    tokio::time::timeout(PODS_WITHIN, found).await.map_err(late)?
}

fn runs(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let mut running = statuses.filter_map(|status| status.state.as_ref()?.running.as_ref());
    running.next().is_some()
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).sum()
}
