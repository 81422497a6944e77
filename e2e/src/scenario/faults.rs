//! What befalls data centers and operators while a job runs.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt as _};
use tradewind_chain::BlockTag;
use tradewind_crds::condition::ConditionStatus::True;
use tradewind_crds::job_status::JobCondition;
use tradewind_market::event::SeatStatus;
use tradewind_market::{JobId, Seconds, UnixSeconds};

use crate::lab::Cluster;
use crate::market::{Market, MarketError, Party, Role};

use super::ScenarioError;
use super::books::{self, require};
use super::hands::{self, FIRST};
use super::job::{Job, JobSpec};
use super::logs::{self, Expected};
use super::time;

/// The data center that things befall: the last one.
pub(super) const VICTIM: usize = 2;
/// The container of a job's program.
const RUN: &str = "run";
/// A start, and less than a unit wants.
const TOO_LITTLE_BYTES: u64 = 4 << 20;
const PODS_WITHIN: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A program that the kernel ends for want of memory, with all of its container, goes on after the units that are
/// done, and the result is what it would have been.
pub(super) async fn starved_slice(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let script = "echo begin $JOB_COMPLETION_INDEX
        [ $JOB_COMPLETION_INDEX = 0 ] || sleep 8
        much=$(head -c 8000000 /dev/zero | tr '\\0' a)
        echo ${#much} >/out/result";
    let spec = JobSpec {
        script: script.to_owned(),
        completions: 2,
        slices_per_group: 1,
        ..JobSpec::default()
    };
    let mut job = Job::apply(market, namespace, &spec).await?;
    job.until(JobCondition::Accepted, True, None).await?;
    let victim = victim(market)?;
    let pod = running_pod(&victim, &job.id()).await?;
    let (pool, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let pods: Api<Pod> = Api::namespaced(victim.client().await?, &pool);
    says(&pods, &name, "begin 1").await?;
    victim.starve(&pool, &name, RUN, TOO_LITTLE_BYTES).await?;
    let killed = await_condition(pods.clone(), &name, was_starved);
    tokio::time::timeout(PODS_WITHIN, killed)
        .await
        .map_err(|_| ScenarioError::NotSo(format!("{name} runs again after it had no memory")))?
        .map_err(|error| ScenarioError::NotSo(format!("{name} can be watched: {error}")))?;
    let said = says(&pods, &name, "begin 1").await?;
    require(said == "begin 1\n", || {
        format!("{name} goes on with the unit that was not finished, and no other (it said {said:?})")
    })?;
    job.complete().await?;
    let books = books::of(market, &job.id()).await?;
    books::add_up(&books)?;
    books::all_seats(&books, "Agreed", None)
}

/// Waits until the job's program, as it runs now, has said that, and gives all that it said.
async fn says(pods: &Api<Pod>, name: &str, line: &str) -> Result<String, ScenarioError> {
    let parameters = LogParams {
        container: Some(RUN.to_owned()),
        ..LogParams::default()
    };
    let asked = async {
        loop {
            let said = pods.logs(name, &parameters).await;
            let said = said.map_err(MarketError::kubernetes(format!("read the log of {name}")))?;
            if said.lines().any(|said| said == line) {
                return Ok(said);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let late = |_| ScenarioError::NotSo(format!("{name} says `{line}`"));
    tokio::time::timeout(PODS_WITHIN, asked).await.map_err(late)?
}

/// The job's program was killed once for want of memory, by the kubelet's own word, and runs again.
fn was_starved(pod: Option<&Pod>) -> bool {
    let statuses = pod
        .and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref())
        .into_iter()
        .flatten();
    let mut run = statuses.filter(|status| status.name == RUN);
    run.any(|status| {
        let ended = status
            .last_state
            .as_ref()
            .and_then(|last| last.terminated.as_ref());
        let runs = status.state.as_ref().is_some_and(|state| state.running.is_some());
        runs && status.restart_count == 1
            && ended.is_some_and(|ended| ended.reason.as_deref() == Some("OOMKilled"))
    })
}

/// A data center whose cable is cut after the award is silent, loses what silence costs, and hurts nobody else.
pub(super) async fn vanished(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let spec = JobSpec {
        script: "sleep 3; echo unit $JOB_COMPLETION_INDEX >/out/result".to_owned(),
        completions: 2,
        slice: 1,
        seconds_per_unit: 6,
        ..JobSpec::default()
    };
    let mut job = Job::apply(market, namespace, &spec).await?;
    job.until(JobCondition::Accepted, True, None).await?;
    let victim = victim(market)?;
    running_pod(&victim, &job.id()).await?;
    let silenced = [
        "the chain could not be followed",
        "nothing was sent to the chain",
        "a gateway does not say who it is",
    ]
    .map(Expected::of_operators);
    let its_pods = Expected::of_relays("no gateway could serve a pod");
    logs::expect(
        silenced
            .into_iter()
            .chain([its_pods])
            .map(|expected| expected.in_cluster(&victim)),
    );
    let silent = Role::Provider(VICTIM);
    victim.disconnect()?;
    let outcome = without(market, &mut job, silent).await;
    victim.connect()?;
    outcome?;
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

/// The job completes without that seat: the time that the others would wait for it passes as soon as they have committed.
async fn without(market: &Market<'_>, job: &mut Job<'_, '_>, silent: Role) -> Result<(), ScenarioError> {
    let deadline = others_have_committed(market, hands::id(job)?, silent).await?;
    time::jump(market, deadline.saturating_add(Seconds::new(1))).await?;
    job.complete().await
}

/// Waits until all but this data center have committed in the job's first group, and gives the time until when that can
/// be done.
pub(super) async fn others_have_committed(
    market: &Market<'_>,
    id: JobId,
    but: Role,
) -> Result<UnixSeconds, ScenarioError> {
    let party = Party::new(market, but).await?;
    let others = (0..market.providers()?.len()).map(Role::Provider);
    for other in others.filter(|role| *role != but) {
        let account = Party::new(market, other).await?.address();
        hands::seat_is(&party, id, account, &[SeatStatus::Committed]).await?;
    }
    let group = party.reader().group_of(id, FIRST, BlockTag::Latest).await;
    Ok(group.map_err(hands::unread)?.deadline)
}

/// Which try at its slice a pod is.
pub(super) fn attempt(pod: &Pod) -> String {
    let attempt = pod.labels().get("tradewind.dev/attempt");
    attempt.cloned().unwrap_or_default()
}

/// The data center that things befall.
pub(super) fn victim<'lab>(market: &Market<'lab>) -> Result<Cluster<'lab>, ScenarioError> {
    let victim = market.providers()?.into_iter().nth(VICTIM);
    victim.ok_or_else(|| ScenarioError::NotSo(format!("the market has more than {VICTIM} data centers")))
}

/// The pods of a job in a data center's cluster.
pub(super) async fn pods(cluster: &Cluster<'_>, job: &str) -> Result<Vec<Pod>, ScenarioError> {
    let selector = ListParams::default().labels(&label_of(job));
    let list = Api::<Pod>::all(cluster.client().await?).list(&selector).await;
    Ok(list
        .map_err(MarketError::kubernetes("list the pods of a job"))?
        .items)
}

/// What the pods of a job are found by.
pub(super) fn label_of(job: &str) -> String {
    let id = job.trim_start_matches("0x");
    format!("tradewind.dev/lease=job-{}", id.get(..32).unwrap_or_default())
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

/// Whether the pod's own program runs.
pub(super) fn runs(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let mut running = statuses.filter_map(|status| status.state.as_ref()?.running.as_ref());
    running.next().is_some()
}

/// How often its own program was begun anew.
pub(super) fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).sum()
}
