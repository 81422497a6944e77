//! What a kill left behind and what came of it: journals of transactions as they were found, the chain's own word
//! about each of them, and the job's pods. It looks, and touches nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::future::Future;
use std::pin::pin;

use futures::stream::{BoxStream, select_all};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use tradewind_crds::chain_intent::ChainIntent;

use crate::lab::Cluster;
use crate::market::{Market, NAMESPACE};

use super::ScenarioError;
use super::books::require;
use super::faults;
use super::journal::Journal;

/// Something that a watch tells.
enum Change {
    Entry(usize, Box<ChainIntent>),
    Pod(String, Box<Pod>),
}

/// Watches the operators that are to be killed, and the job's pods everywhere.
pub(super) struct Witness<'m, 'lab> {
    market: &'m Market<'lab>,
    operators: Vec<Journal<'m, 'lab>>,
    pods: BTreeMap<PodKey, PodSeen>,
    /// Pods whose own program ran when they were looked at first, by name and UID.
    running: BTreeSet<(PodKey, String)>,
    changes: BoxStream<'static, Result<Change, watcher::Error>>,
}

/// A pod by its cluster and name: the name tells slice and attempt.
type PodKey = (String, String);

/// What was seen of all pods of one name.
#[derive(Clone, Debug, Default)]
struct PodSeen {
    uids: BTreeSet<String>,
    restarts: i32,
    attempt: String,
}

impl<'m, 'lab> Witness<'m, 'lab> {
    /// Begins to watch the journals of these clusters' operators.
    pub(super) async fn begin(
        market: &'m Market<'lab>,
        clusters: &'m [Cluster<'lab>],
    ) -> Result<Self, ScenarioError> {
        let mut operators = Vec::new();
        let mut watches = Vec::new();
        for (index, cluster) in clusters.iter().enumerate() {
            let api: Api<ChainIntent> = Api::namespaced(cluster.client().await?, NAMESPACE);
            let entries = watcher(api, watcher::Config::default())
                .default_backoff()
                .applied_objects();
            watches.push(
                entries
                    .map_ok(move |entry| Change::Entry(index, Box::new(entry)))
                    .boxed(),
            );
            operators.push(Journal::begin(market, cluster).await?);
        }
        Ok(Self {
            market,
            operators,
            pods: BTreeMap::new(),
            running: BTreeSet::new(),
            changes: select_all(watches).boxed(),
        })
    }

    /// Notes what changes until that is done.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                // A watch that breaks begins anew by itself.
                change = self.changes.try_next() => if let Ok(Some(change)) = change {
                    self.note(change);
                },
            }
        }
    }

    fn note(&mut self, change: Change) {
        match change {
            Change::Entry(index, entry) => {
                if let Some(operator) = self.operators.get_mut(index) {
                    operator.note(&entry);
                }
            }
            Change::Pod(cluster, pod) => {
                let seen = self.pods.entry((cluster, pod.name_any())).or_default();
                seen.uids.extend(pod.uid());
                seen.restarts = seen.restarts.max(faults::restarts(&pod));
                seen.attempt = faults::attempt(&pod);
            }
        }
    }

    /// Looks right after a kill, before anyone is up again. What the node has not put into a block is taken out of its
    /// pool where `unsent`: as if the kill had come before the transaction was on its way.
    pub(super) async fn look(&mut self, unsent: bool) -> Result<(), ScenarioError> {
        for operator in &mut self.operators {
            operator.look(unsent).await?;
        }
        Ok(())
    }

    /// Looks which of the job's pods run, and watches them from now on.
    pub(super) async fn look_at_pods(&mut self, job: &str) -> Result<(), ScenarioError> {
        for cluster in self.market.providers()? {
            for pod in faults::pods(&cluster, job).await? {
                if faults::runs(&pod) {
                    let key = (cluster.name().to_owned(), pod.name_any());
                    self.running.insert((key, pod.uid().unwrap_or_default()));
                }
                self.note(Change::Pod(cluster.name().to_owned(), Box::new(pod)));
            }
            let name = cluster.name().to_owned();
            let only = watcher::Config::default().labels(&faults::label_of(job));
            let pods = watcher(Api::<Pod>::all(cluster.client().await?), only)
                .default_backoff()
                .applied_objects()
                .map_ok(move |pod| Change::Pod(name.clone(), Box::new(pod)))
                .boxed();
            let changes = std::mem::replace(&mut self.changes, futures::stream::pending().boxed());
            self.changes = select_all([changes, pods]).boxed();
        }
        Ok(())
    }

    /// Asks the chain, and requires that each intent that was found has exactly one transaction, that the chain has
    /// none that is not journaled, and that no pod of the job was begun or restarted a second time.
    pub(super) async fn check(&mut self) -> Result<(), ScenarioError> {
        for operator in &mut self.operators {
            operator.check().await?;
        }
        for ((cluster, pod), seen) in &self.pods {
            require(
                seen.uids.len() == 1 && seen.restarts == 0 && seen.attempt == "1",
                || {
                    format!(
                        "{cluster}: {pod} was begun once and never restarted (attempt {}, UIDs {:?}, {} restarts)",
                        seen.attempt, seen.uids, seen.restarts
                    )
                },
            )?;
        }
        Ok(())
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut table = String::new();
        for operator in &self.operators {
            operator.tell(&mut table);
        }
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            table,
            "the job's pods, of which {} ran when they were looked at first\n  {:<12} {:<44} {:<38} {:>8}  THEN",
            self.running.len(),
            "CLUSTER",
            "POD",
            "UID",
            "RESTARTS"
        );
        for (key, seen) in &self.pods {
            for uid in &seen.uids {
                let ran = self.running.contains(&(key.clone(), uid.clone()));
                let then = if ran { "running" } else { "" };
                let (cluster, pod) = key;
                let _ = writeln!(
                    table,
                    "  {cluster:<12} {pod:<44} {uid:<38} {:>8}  {then}",
                    seen.restarts
                );
            }
        }
        table
    }
}
