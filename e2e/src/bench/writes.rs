//! Writes that API servers counted themselves, by resource and verb. Pure but for the one question.

use std::collections::BTreeMap;

use serde::Serialize;

use super::BenchError;
use crate::lab::Cluster;
use crate::market::MarketError;

const METRIC: &str = "apiserver_request_total{";
const VERBS: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];

/// What a write was to: a resource, with its subresource, and a verb.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Write {
    pub(super) resource: String,
    pub(super) verb: String,
}

/// Writes since the server's start, or between two looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Writes(BTreeMap<Write, u64>);

/// Which part of the account a write belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Account {
    /// Made for a job: what the aim bounds.
    Job,
    /// The journal of transactions, which jobs share.
    Journal,
    /// The user's own `kubectl apply`.
    Apply,
    /// The job's pods, whoever writes them.
    Pods,
    /// Events.
    Events,
    /// Leases of elections and heartbeats.
    Leases,
    /// What Kubernetes does for itself.
    Others,
}

impl Account {
    /// By what the write is to. Nothing but Tradewind writes ConfigMaps and Secrets in the lab's clusters at work.
    fn of(write: &Write) -> Self {
        let resource = write
            .resource
            .split_once('/')
            .map_or(write.resource.as_str(), |(resource, _)| resource);
        match resource {
            "computejobs" if write.verb == "POST" => Self::Apply,
            "computejobs" | "spendinglimits" | "computeleases" | "provideroffers" | "configmaps"
            | "secrets" => Self::Job,
            "chainintents" => Self::Journal,
            "pods" => Self::Pods,
            "events" => Self::Events,
            "leases" => Self::Leases,
            _ => Self::Others,
        }
    }
}

impl Writes {
    /// Asks a cluster's API server.
    pub(super) async fn of(cluster: &Cluster<'_>) -> Result<Self, BenchError> {
        let doing = || format!("{}: read the API server's metrics", cluster.name());
        let request = http::Request::get("/metrics")
            .body(Vec::new())
            .map_err(|error| BenchError::Missing(error.to_string()))?;
        let text = cluster
            .client()
            .await?
            .request_text(request)
            .await
            .map_err(MarketError::kubernetes(doing()))?;
        Ok(Self::read(&text))
    }

    fn read(text: &str) -> Self {
        let mut writes = BTreeMap::new();
        for line in text.lines() {
            if let Some((write, count)) = read_line(line) {
                *writes.entry(write).or_insert(0) += count;
            }
        }
        Self(writes)
    }

    /// What came to it since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let new = self.0.iter().map(|(write, count)| {
            let old = before.0.get(write).copied().unwrap_or_default();
            (write.clone(), count.saturating_sub(old))
        });
        Self(new.filter(|(_, count)| *count > 0).collect())
    }

    /// Both together.
    pub(super) fn and(mut self, other: &Self) -> Self {
        for (write, count) in &other.0 {
            *self.0.entry(write.clone()).or_insert(0) += count;
        }
        self
    }

    /// The writes of one part of the account.
    pub(super) fn within(&self, account: Account) -> impl Iterator<Item = (&Write, u64)> {
        self.0
            .iter()
            .filter(move |(write, _)| Account::of(write) == account)
            .map(|(write, count)| (write, *count))
    }

    /// Their number.
    pub(super) fn count(&self, account: Account) -> u64 {
        self.within(account).map(|(_, count)| count).sum()
    }
}

fn read_line(line: &str) -> Option<(Write, u64)> {
    let (labels, count) = line.strip_prefix(METRIC)?.rsplit_once("} ")?;
    let of = |name: &str| {
        labels
            .split(',')
            .find_map(|label| label.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
    };
    let (verb, resource) = (of("verb")?, of("resource")?);
    if !VERBS.contains(&verb) {
        return None;
    }
    let resource = match of("subresource").unwrap_or_default() {
        "" => resource.to_owned(),
        subresource => format!("{resource}/{subresource}"),
    };
    let write = Write {
        resource,
        verb: verb.to_owned(),
    };
    // Counters are printed as floating point once they are large.
    let count: f64 = count.trim().parse().ok()?;
    format!("{count:.0}").parse().ok().map(|count| (write, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(verb: &str, resource: &str, subresource: &str, code: u32, count: &str) -> String {
        format!(
            "apiserver_request_total{{code=\"{code}\",component=\"apiserver\",dry_run=\"\",group=\"g\",\
             resource=\"{resource}\",scope=\"resource\",subresource=\"{subresource}\",verb=\"{verb}\",\
             version=\"v1\"}} {count}\n"
        )
    }

    #[test]
    fn writes_are_what_came_between_two_looks_and_reads_are_none() {
        let before = Writes::read(&[line("APPLY", "computejobs", "status", 200, "3")].concat());
        let after = Writes::read(
            &[
                line("APPLY", "computejobs", "status", 200, "5"),
                line("APPLY", "computejobs", "status", 409, "1"),
                line("PATCH", "computejobs", "", 200, "1"),
                line("POST", "computejobs", "", 201, "1"),
                line("WATCH", "computejobs", "", 200, "9"),
                line("POST", "events", "", 201, "1.2e+06"),
                "apiserver_request_duration_seconds_count 7\n".to_owned(),
            ]
            .concat(),
        );
        let new = after.since(&before);
        assert_eq!(
            new.count(Account::Job),
            4,
            "two statuses, one refused, one finalizer"
        );
        assert_eq!(new.count(Account::Apply), 1, "the user's own");
        assert_eq!(new.count(Account::Events), 1_200_000);
        assert_eq!(new.count(Account::Journal), 0);
        assert_eq!(new.clone().and(&new).count(Account::Job), 8);
    }
}
