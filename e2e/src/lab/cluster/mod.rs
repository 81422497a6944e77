//! One single-node cluster: how it is raised, and the handle through which tests use it.

mod control_plane;
mod faults;
mod node;
mod tools;

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node as NodeObject, Service, ServiceAccount};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Config, Resource, ResourceExt as _};
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::cgroups::Cgroups;
use super::cpus::Cpus;
use super::error::LabError;
use super::network;
use super::pki;
use super::places::ClusterPlaces;
use super::process::{Identity, Launch, Place, Record};
use super::raising::Raising;
use super::spec::ClusterSpec;
use super::toolchain::source_root;

pub use faults::Target;

/// From the API server's readiness to the node's; image pulls of the node's own pods are not in it.
const NODE_READY_WITHIN: Duration = Duration::from_secs(90);

/// A node while its parts are started.
struct Node<'a> {
    places: &'a ClusterPlaces,
    holder: Identity,
    cgroup_members: PathBuf,
}

impl Node<'_> {
    /// Starts one of the programs that are in the kubernetes binary.
    fn start(
        &self,
        raising: &Raising<'_>,
        component: &str,
        flags: &[(&str, &str)],
    ) -> Result<Record, LabError> {
        let mut argv = vec![
            raising.toolchain.kubernetes().display().to_string(),
            component.to_owned(),
        ];
        argv.extend(flags.iter().map(|(flag, value)| format!("--{flag}={value}")));
        self.start_program(raising, component, argv)
    }

    fn start_program(
        &self,
        raising: &Raising<'_>,
        component: &str,
        argv: Vec<String>,
    ) -> Result<Record, LabError> {
        let name = self.places.component(component);
        raising.roster.start(Launch {
            log: raising.places.log(&name),
            name,
            argv,
            place: Place::Node { holder: self.holder },
            cgroup_members: self.cgroup_members.clone(),
        })
    }
}

/// Raises a cluster, up to its node's readiness.
pub(super) async fn raise(
    raising: &Raising<'_>,
    cluster: &ClusterPlaces,
    spec: &ClusterSpec,
) -> Result<(), LabError> {
    let said = |what: &str| raising.progress.say(format!("{}: {what}", cluster.name));
    for dir in [cluster.run(), cluster.data()] {
        fs::create_dir_all(&dir).map_err(LabError::io(format!("make {}", dir.display())))?;
    }
    pki::make(cluster)?;
    control_plane::write_kubeconfigs(cluster)?;
    network::make_cluster(cluster)?;
    let cpuset = match spec.cpus {
        Some(count) => {
            let cpus = Cpus::lay_out(count, cluster.cpus())?;
            cpus.write_container_base(raising.toolchain, &cluster.container_base())?;
            cpus.cpuset()?
        }
        None => None,
    };
    raising.cgroups.make(&cluster.cgroup(), cpuset.as_deref())?;
    let leaf = Cgroups::leaf(&cluster.cgroup());
    raising.cgroups.make(&leaf, None)?;
    let cgroup_members = raising.cgroups.members(&leaf);

    let holder = hold(raising, cluster, cgroup_members.clone()).await?;
    let node = Node {
        places: cluster,
        holder,
        cgroup_members,
    };
    let runtime = node::start_runtime(raising, &node, &spec.runtimes)?;
    control_plane::start_api(raising, &node).await?;
    said("API server ready");
    let [controllers, scheduler] = control_plane::start_controllers(raising, &node)?;
    let [kubelet, proxy] = node::start_agents(raising, &node)?;
    let enforcer = node::start_enforcer(raising, &node)?;
    let waiting_for = format!("{}: the enforcer's first rules", cluster.name);
    let socket = cluster.enforcer_socket();
    raising
        .wait(&waiting_for, NODE_READY_WITHIN, &[&enforcer], || async {
            socket.exists()
        })
        .await?;
    if !spec.enforcer {
        raising.roster.end(enforcer.name(), Signal::TERM)?;
    }
    let client = client(cluster).await?;
    reserve_name_service_address(cluster, &client).await?;
    let needed = [&runtime, &controllers, &scheduler, &kubelet, &proxy];
    let nodes = Api::<NodeObject>::all(client.clone());
    wait_for(raising, cluster, "the node's readiness", nodes, &needed, is_ready).await?;
    // Without it the first pod would be refused.
    let accounts = Api::<ServiceAccount>::namespaced(client, "default");
    let usual = |account: &ServiceAccount| account.name_any() == "default";
    wait_for(
        raising,
        cluster,
        "the default service account",
        accounts,
        &needed,
        usual,
    )
    .await?;
    said("node ready");
    Ok(())
}

/// Starts the process that holds the node's namespaces open, and waits until they are furnished.
async fn hold(
    raising: &Raising<'_>,
    cluster: &ClusterPlaces,
    cgroup_members: PathBuf,
) -> Result<Identity, LabError> {
    let name = cluster.component("node");
    let script = source_root().join("deploy/local/node.sh");
    let mut argv: Vec<String> = ["unshare", "--mount", "--uts", "--propagation", "private", "--"]
        .map(str::to_owned)
        .to_vec();
    argv.extend([script, cluster.data(), cluster.run()].map(|path| path.display().to_string()));
    argv.push(cluster.node_name());
    argv.push(raising.toolchain.pause().display().to_string());
    let record = raising.roster.start(Launch {
        log: raising.places.log(&name),
        name,
        argv,
        place: Place::Network(cluster.network_namespace()),
        cgroup_members,
    })?;
    // The script has done its work once the process has become the program it was to become.
    let program = raising.toolchain.pause();
    let exe = PathBuf::from(format!("/proc/{}/exe", record.identity.pid));
    let waiting_for = format!("{}: the node's namespaces", cluster.name);
    raising
        .wait(&waiting_for, Duration::from_secs(10), &[&record], || async {
            fs::read_link(&exe).is_ok_and(|running| running == program)
        })
        .await?;
    Ok(record.identity)
}

/// A service without anyone behind it: what looks up a name is refused at once.
async fn reserve_name_service_address(cluster: &ClusterPlaces, client: &Client) -> Result<(), LabError> {
    let doing = format!("{}: make the service kube-dns", cluster.name);
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "kube-dns"},
        "spec": {
            "clusterIP": "10.96.0.10",
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}],
        },
    }))
    .map_err(|error| LabError::Shape(format!("{doing}: {error}")))?;
    Api::<Service>::namespaced(client.clone(), "kube-system")
        .create(&kube::api::PostParams::default(), &service)
        .await
        .map_err(LabError::kube(doing))?;
    Ok(())
}

/// Waits until an object is as wanted, for as long as what brings it about runs.
async fn wait_for<K>(
    raising: &Raising<'_>,
    cluster: &ClusterPlaces,
    what: &str,
    objects: Api<K>,
    needed: &[&Record],
    wanted: impl Fn(&K) -> bool,
) -> Result<(), LabError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let waiting_for = format!("{}: {what}", cluster.name);
    let seen = async {
        let mut changes = watcher(objects, watcher::Config::default())
            .default_backoff()
            .applied_objects()
            .boxed();
        while let Some(change) = changes.next().await {
            if change.is_ok_and(|object| wanted(&object)) {
                return;
            }
        }
    };
    let ended = raising.wait(&waiting_for, NODE_READY_WITHIN, needed, || {
        std::future::ready(false)
    });
    tokio::select! {
        () = seen => Ok(()),
        ended = ended => ended,
    }
}

fn is_ready(node: &NodeObject) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A client with all rights; usable inside the lab's services namespace only.
async fn client(cluster: &ClusterPlaces) -> Result<Client, LabError> {
    let unusable = |source| LabError::Kubeconfig {
        cluster: cluster.name.clone(),
        source,
    };
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig("admin")).map_err(unusable)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(unusable)?;
    Client::try_from(config).map_err(LabError::kube(format!("{}: make a client", cluster.name)))
}

/// A cluster of a lab that is up.
#[derive(Clone, Debug)]
pub struct Cluster<'lab> {
    pub(super) lab: &'lab super::Lab,
    pub(super) places: ClusterPlaces,
}

impl Cluster<'_> {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.places.name
    }

    /// A kubeconfig with all rights; its address is reachable inside the lab only.
    pub fn kubeconfig(&self) -> PathBuf {
        self.places.kubeconfig("admin")
    }

    /// A client with all rights; use it inside [`Lab::run`](super::Lab::run).
    pub async fn client(&self) -> Result<Client, LabError> {
        client(&self.places).await
    }

    /// The node's name.
    pub fn node_name(&self) -> String {
        self.places.node_name()
    }

    /// The address at which the API server and all node ports are.
    pub fn node_address(&self) -> Ipv4Addr {
        self.places.node_address()
    }

    /// The addresses of its pods, as a CIDR.
    pub fn pod_network(&self) -> String {
        self.places.pod_network()
    }
}
