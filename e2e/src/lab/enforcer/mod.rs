//! The lab's own enforcer of NetworkPolicies, one process for each cluster: it watches policies, pods and
//! namespaces and keeps one nftables table in the node's network namespace. Test equipment: it exists
//! because no enforcer can be assumed where the lab runs, and can be taken away to show what a cluster
//! without one looks like.
//!
//! A pod's rules are in force before its first process runs: the CNI plugin in [`cni`] announces the pod and
//! waits for the answer.

pub mod cni;
mod rules;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Config, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::command::run_with_input;
use super::error::LabError;
use rules::PodView;

/// More pods than a node runs can hardly begin at once.
const WAITING_ANNOUNCEMENTS: usize = 256;

/// Where an enforcer works.
#[derive(Clone, Debug, Args)]
pub struct EnforcerArguments {
    /// The cluster's kubeconfig.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Where the CNI plugin asks.
    #[arg(long)]
    socket: PathBuf,
}

/// A pod that is about to get its first process, as the CNI plugin knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Announcement {
    namespace: String,
    name: String,
    uid: String,
    address: IpAddr,
}

/// An announcement, and who waits for its rules.
struct Waiting {
    pod: Announcement,
    in_force: oneshot::Sender<()>,
}

/// Enforces until it is asked to end, then removes its rules.
pub fn run(arguments: &EnforcerArguments) -> Result<(), LabError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LabError::io("build the enforcer's runtime"))?;
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .map_err(LabError::io("listen for the end"))?;
        let enforced = tokio::select! {
            enforced = enforce(arguments) => enforced,
            _ = terminate.recv() => Ok(()),
        };
        remove_socket(&arguments.socket)?;
        load(rules::REMOVAL)?;
        enforced
    })
}

async fn enforce(arguments: &EnforcerArguments) -> Result<(), LabError> {
    let client = connect(&arguments.kubeconfig).await?;
    let (mut enforcer, mut changes) = Enforcer::watch(client);
    while !enforcer.complete() {
        enforcer.take(changes.next().await);
    }
    enforcer.load_if_changed()?;
    remove_socket(&arguments.socket)?;
    let listener = UnixListener::bind(&arguments.socket)
        .map_err(LabError::io(format!("listen at {}", arguments.socket.display())))?;
    let (announce, mut announcements) = mpsc::channel(WAITING_ANNOUNCEMENTS);
    tokio::spawn(accept(listener, announce));
    let mut waiting = Vec::new();
    loop {
        tokio::select! {
            change = changes.next() => enforcer.take(change),
            Some(announced) = announcements.recv() => waiting.push(enforcer.announce(announced).await),
        }
        // What happened at the same time costs one load.
        while let Some(change) = changes.next().now_or_never() {
            enforcer.take(change);
        }
        while let Ok(announced) = announcements.try_recv() {
            waiting.push(enforcer.announce(announced).await);
        }
        enforcer.load_if_changed()?;
        for in_force in waiting.drain(..) {
            // A plugin that has given up meanwhile needs no answer.
            let _ = in_force.send(());
        }
    }
}

/// What a watch says: whose first list is complete, or that something changed.
enum Change {
    Complete(&'static str),
    Other,
    Failed(&'static str, watcher::Error),
}

struct Enforcer {
    client: Client,
    policies: Store<NetworkPolicy>,
    pods: Store<Pod>,
    namespaces: Store<Namespace>,
    /// Pods by address, from their announcement until their own status names the address.
    announced: HashMap<IpAddr, PodView>,
    complete: Vec<&'static str>,
    loaded: String,
}

impl Enforcer {
    fn watch(client: Client) -> (Self, BoxStream<'static, Change>) {
        let (policies, policy_changes) = watch::<NetworkPolicy>("policies", Api::all(client.clone()));
        let (pods, pod_changes) = watch::<Pod>("pods", Api::all(client.clone()));
        let (namespaces, namespace_changes) = watch::<Namespace>("namespaces", Api::all(client.clone()));
        let changes = futures::stream::select_all([policy_changes, pod_changes, namespace_changes]).boxed();
        let enforcer = Self {
            client,
            policies,
            pods,
            namespaces,
            announced: HashMap::new(),
            complete: Vec::new(),
            loaded: String::new(),
        };
        (enforcer, changes)
    }

    fn complete(&self) -> bool {
        self.complete.len() == 3
    }

    fn take(&mut self, change: Option<Change>) {
        match change {
            Some(Change::Complete(kind)) if !self.complete.contains(&kind) => self.complete.push(kind),
            Some(Change::Failed(kind, error)) => eprintln!("watch of {kind}, tried again: {error}"),
            Some(Change::Complete(_) | Change::Other) | None => {}
        }
    }

    /// Takes a pod into account before its status says anything; its labels come from the API server.
    async fn announce(&mut self, waiting: Waiting) -> oneshot::Sender<()> {
        let pod = &waiting.pod;
        let found = Api::<Pod>::namespaced(self.client.clone(), &pod.namespace)
            .get_opt(&pod.name)
            .await;
        let view = match found {
            Ok(Some(found)) if found.uid().as_deref() == Some(&pod.uid) => PodView::of(&found, pod.address),
            Ok(_) => PodView::unknown(&pod.namespace, &pod.name, pod.address),
            Err(error) => {
                eprintln!(
                    "pod {}/{} not readable, shut off: {error}",
                    pod.namespace, pod.name
                );
                PodView::unknown(&pod.namespace, &pod.name, pod.address)
            }
        };
        self.announced.insert(pod.address, view);
        waiting.in_force
    }

    fn load_if_changed(&mut self) -> Result<(), LabError> {
        let pods: Vec<PodView> = self
            .pods
            .state()
            .iter()
            .filter_map(|pod| PodView::running(pod))
            .collect();
        self.announced
            .retain(|address, _| !pods.iter().any(|pod| pod.address == *address));
        let pods: Vec<PodView> = pods.into_iter().chain(self.announced.values().cloned()).collect();
        let namespaces: HashMap<String, _> = self
            .namespaces
            .state()
            .iter()
            .map(|space| (space.name_any(), space.labels().clone()))
            .collect();
        let rules = rules::ruleset(&self.policies.state(), &pods, &namespaces)?;
        if rules != self.loaded {
            load(&rules)?;
            self.loaded = rules;
        }
        Ok(())
    }
}

fn watch<K>(kind: &'static str, api: Api<K>) -> (Store<K>, BoxStream<'static, Change>)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let changes = watcher(api, watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .map(move |event| match event {
            Ok(watcher::Event::InitDone) => Change::Complete(kind),
            Ok(_) => Change::Other,
            Err(error) => Change::Failed(kind, error),
        })
        .boxed();
    (store, changes)
}

/// Hands each announcement on, and answers it once its rules are in force.
async fn accept(listener: UnixListener, announce: mpsc::Sender<Waiting>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let announce = announce.clone();
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, announce).await {
                        eprintln!("announcement of a pod: {error}");
                    }
                });
            }
            Err(error) => eprintln!("announcement of a pod: {error}"),
        }
    }
}

async fn answer(stream: UnixStream, announce: mpsc::Sender<Waiting>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let pod: Announcement = serde_json::from_str(&line)?;
    let (in_force, answered) = oneshot::channel();
    let gone = || std::io::Error::other("the enforcer is ending");
    announce
        .send(Waiting { pod, in_force })
        .await
        .map_err(|_| gone())?;
    answered.await.map_err(|_| gone())?;
    stream.write_all(b"in force\n").await
}

async fn connect(kubeconfig: &Path) -> Result<Client, LabError> {
    let unusable = |source| LabError::Kubeconfig {
        cluster: kubeconfig.display().to_string(),
        source,
    };
    let kubeconfig = Kubeconfig::read_from(kubeconfig).map_err(unusable)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(unusable)?;
    Client::try_from(config).map_err(LabError::kube("make the enforcer's client"))
}

fn load(rules: &str) -> Result<(), LabError> {
    run_with_input(
        "load the policies' rules",
        Command::new("nft").args(["-f", "-"]),
        rules,
    )
    .map(drop)
}

fn remove_socket(path: &Path) -> Result<(), LabError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LabError::io(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}
