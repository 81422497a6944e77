//! What operators, gateways and relays said: a warning that no scenario expects is a failure.

use serde_json::Value;

use crate::lab::{Cluster, Lab};
use crate::market::{Market, NAMESPACE};

use super::ScenarioError;

/// What is expected everywhere of a market in which jobs come to nothing: parts of lines.
const EXPECTED: &[&str] = &[
    // Four clusters on a few processors: a lease that could not be renewed in time ends the process, as it must.
    "the task election failed",
    // A job that is deleted before its key is published: whoever had taken seats gives them back.
    r#""reason":"Key""#,
    // One scenario takes a block back, whose events are perhaps just being asked for.
    "the chain undid a block",
    "eth_getLogs: the node says unknown block",
];
/// What is expected, besides, of the data center whose cable is cut.
const CUT_OFF: (&str, &[&str]) = (
    "provider-c",
    &[
        "the chain could not be followed",
        "nothing was sent to the chain",
        "a gateway does not say who it is",
    ],
);
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
const WORKLOADS: [&str; 3] = ["tradewind-operator", "tradewind-gateway", "tradewind-relay"];

/// Fails where a WARN or ERROR line is not listed; by night more is.
pub(super) async fn unexpected(lab: &Lab, by_night: bool) -> Result<(), ScenarioError> {
    let away = if by_night { AWAY } else { &[] };
    let market = Market::attach(lab)?;
    let mut found = Vec::new();
    for cluster in std::iter::once(market.consumer()?).chain(market.providers()?) {
        for workload in WORKLOADS {
            for line in lines(&cluster, workload).await? {
                let said: Value = serde_json::from_str(&line).unwrap_or_default();
                let loud = matches!(said["level"].as_str(), Some("WARN" | "ERROR"));
                let cut_off = if cluster.name() == CUT_OFF.0 {
                    CUT_OFF.1
                } else {
                    &[]
                };
                if loud
                    && !EXPECTED
                        .iter()
                        .chain(cut_off)
                        .chain(away)
                        .any(|expected| line.contains(expected))
                {
                    found.push(format!("{} {workload}: {line}", cluster.name()));
                }
            }
        }
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(ScenarioError::NotSo(format!(
            "nothing warns:\n{}",
            found.join("\n")
        )))
    }
}

async fn lines(cluster: &Cluster<'_>, workload: &str) -> Result<Vec<String>, ScenarioError> {
    let selector = format!(
        "app.kubernetes.io/component={}",
        workload.trim_start_matches("tradewind-")
    );
    let printed = cluster
        .kubectl(&["logs", "-n", NAMESPACE, "--tail=-1", "-l", &selector])
        .await?;
    Ok(printed.lines().map(str::to_owned).collect())
}
