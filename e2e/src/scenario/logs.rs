//! What operators, gateways and relays said: a warning that no scenario expects is a failure. Scenarios say what they
//! expect when they cause it: of whom, and about what.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use crate::lab::Cluster;
use crate::market::{Market, MarketError, NAMESPACE};

use super::ScenarioError;

/// What is expected everywhere of a night in which everything is away for a while: each goes on by itself.
const AWAY: &[&str] = &[
    "the chain could not be followed",
    "nothing was sent to the chain",
    "a gateway does not say who it is",
    "the chain's node does not answer",
    "a signer's standing is unknown",
    "a lease's pass failed; trying again",
    "a slice's report cannot be had at the moment",
    "results could not be had from a provider",
    "no gateway could serve a pod",
    "a pass failed; trying again",
    "a watch failed; trying again",
    "the offers cannot be watched",
    "the offer could not be carried out; trying again",
    "the records of cancelled jobs could not be read",
];
const OPERATOR: &str = "operator";
const RELAY: &str = "relay";
const WORKLOADS: [&str; 3] = [OPERATOR, "gateway", RELAY];

/// A line that is expected of one kind of workload.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    workload: &'static str,
    /// A part of the line.
    says: &'static str,
    /// The cluster, where it is one in particular.
    cluster: Option<String>,
    /// Another part of the line, where it is about something in particular.
    about: Option<String>,
}

/// What scenarios have expected so far.
static EXPECTED: Mutex<Vec<Expected>> = Mutex::new(Vec::new());
/// What containers said that were killed, as `cluster workload: line`: a node keeps only the last of them.
static KILLED: Mutex<Vec<(String, &str, String)>> = Mutex::new(Vec::new());

impl Expected {
    /// Of any operator.
    pub(super) fn of_operators(says: &'static str) -> Self {
        Self::of(OPERATOR, says)
    }

    /// Of any relay.
    pub(super) fn of_relays(says: &'static str) -> Self {
        Self::of(RELAY, says)
    }

    fn of(workload: &'static str, says: &'static str) -> Self {
        Self {
            workload,
            says,
            cluster: None,
            about: None,
        }
    }

    /// Only in that cluster.
    pub(super) fn in_cluster(self, cluster: &Cluster<'_>) -> Self {
        Self {
            cluster: Some(cluster.name().to_owned()),
            ..self
        }
    }

    /// Only about that.
    pub(super) fn about(self, what: impl Into<String>) -> Self {
        Self {
            about: Some(what.into()),
            ..self
        }
    }

    fn covers(&self, cluster: &str, workload: &str, line: &str) -> bool {
        self.workload == workload
            && line.contains(self.says)
            && self.cluster.as_ref().is_none_or(|expected| expected == cluster)
            && self.about.as_ref().is_none_or(|about| line.contains(about))
    }
}

/// From now on these are expected.
pub(super) fn expect(expected: impl IntoIterator<Item = Expected>) {
    EXPECTED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .extend(expected);
}

/// Keeps what the last killed container of an operator's pod said, before another one takes its place.
pub(super) async fn keep_killed(cluster: &Cluster<'_>, pod: &Pod) -> Result<(), ScenarioError> {
    let pods: Api<Pod> = Api::namespaced(cluster.client().await?, NAMESPACE);
    let said = lines(&pods, pod, true).await?;
    let said = said
        .into_iter()
        .map(|line| (cluster.name().to_owned(), OPERATOR, line));
    KILLED.lock().unwrap_or_else(PoisonError::into_inner).extend(said);
    Ok(())
}

/// Fails where a WARN or ERROR line was not expected; by night more is.
pub(super) async fn unexpected(market: &Market<'_>, by_night: bool) -> Result<(), ScenarioError> {
    let mut said = KILLED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for cluster in market.lab().clusters()? {
        let pods: Api<Pod> = Api::namespaced(cluster.client().await?, NAMESPACE);
        for workload in WORKLOADS {
            let selector = ListParams::default().labels(&format!("app.kubernetes.io/component={workload}"));
            let list = pods.list(&selector).await;
            for pod in list.map_err(MarketError::kubernetes("list the market's pods"))? {
                for previous in [true, false] {
                    let more = lines(&pods, &pod, previous).await?;
                    said.extend(
                        more.into_iter()
                            .map(|line| (cluster.name().to_owned(), workload, line)),
                    );
                }
            }
        }
    }
    let mut expected = EXPECTED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // Four clusters on a few processors: a lease that could not be renewed in time ends the process, as it must.
    expected.push(Expected::of_operators("the task election failed"));
    let away = if by_night { AWAY } else { &[] };
    let surprising = |(cluster, workload, line): &&(String, &str, String)| {
        is_loud(line)
            && !expected.iter().any(|one| one.covers(cluster, workload, line))
            && !away.iter().any(|expected| line.contains(expected))
    };
    let found: BTreeSet<String> = said
        .iter()
        .filter(surprising)
        .map(|(cluster, workload, line)| format!("{cluster} {workload}: {line}"))
        .collect();
    if found.is_empty() {
        return Ok(());
    }
    let found: Vec<String> = found.into_iter().collect();
    Err(ScenarioError::NotSo(format!(
        "nothing warns:\n{}",
        found.join("\n")
    )))
}

fn is_loud(line: &str) -> bool {
    let said: Value = serde_json::from_str(line).unwrap_or_default();
    matches!(said["level"].as_str(), Some("WARN" | "ERROR"))
}

/// What a pod's container said, or the one before it if the node still has that.
async fn lines(pods: &Api<Pod>, pod: &Pod, previous: bool) -> Result<Vec<String>, ScenarioError> {
    let name = pod.name_any();
    let parameters = LogParams {
        previous,
        ..LogParams::default()
    };
    match pods.logs(&name, &parameters).await {
        Ok(printed) => Ok(printed.lines().map(str::to_owned).collect()),
        // There is none, or it is gone.
        Err(kube::Error::Api(status)) if previous && (status.code == 400 || status.code == 404) => {
            Ok(Vec::new())
        }
        Err(error) => Err(MarketError::kubernetes(format!("read the log of {name}"))(error).into()),
    }
}
