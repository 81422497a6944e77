//! A cluster's one node: containerd, kubelet and kube-proxy, with their configuration.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::enforcer::cni;
use super::super::error::LabError;
use super::super::overlay;
use super::super::places::{ClusterPlaces, SERVICES_ADDRESS};
use super::super::process::Record;
use super::super::raising::Raising;
use super::super::registry::REGISTRY_PORT;
use super::super::spec::RuntimeSpec;
use super::Node;

/// The name service's customary address. No name service runs there: names fail at once, not after a
/// resolver's patience.
const NAME_SERVICE_ADDRESS: &str = "10.96.0.10";

/// The enforcer's name among the cluster's components.
pub(super) const ENFORCER: &str = "enforcer";
/// From its start to its first rules.
const ENFORCER_READY_WITHIN: Duration = Duration::from_secs(30);
/// Debian's place for CNI plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// Starts the enforcer of NetworkPolicies. Every cluster gets one, so that it can be brought back where it
/// was taken away.
pub(super) fn start_enforcer(raising: &Raising<'_>, node: &Node<'_>) -> Result<Record, LabError> {
    let cluster = node.places;
    let argv = [
        raising.places.own_program().display().to_string(),
        "enforce".to_owned(),
        format!("--kubeconfig={}", cluster.kubeconfig("admin").display()),
        format!("--socket={}", cluster.enforcer_socket().display()),
    ];
    node.start_program(raising, ENFORCER, argv.to_vec())
}

/// Waits until an enforcer that was just started has its first rules in force.
pub(super) fn wait_for_socket(socket: &Path, enforcer: &Record) -> Result<(), LabError> {
    let deadline = Instant::now() + ENFORCER_READY_WITHIN;
    while !socket.exists() {
        if !enforcer.alive() {
            return Err(enforcer.ended("the first rules"));
        }
        if Instant::now() > deadline {
            return Err(LabError::Late {
                waiting_for: format!("the first rules of {}", enforcer.name()),
                seconds: ENFORCER_READY_WITHIN.as_secs(),
                logs: enforcer.launch.log.clone(),
            });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Starts the container runtime, which needs nothing else.
pub(super) fn start_runtime(
    raising: &Raising<'_>,
    node: &Node<'_>,
    runtimes: &[RuntimeSpec],
) -> Result<Record, LabError> {
    let cluster = node.places;
    let mut text = runtime_config(raising, cluster);
    for spec in runtimes {
        let dir = cluster.data().join("runtimes").join(&spec.handler);
        let program = overlay::lay_out(
            &dir,
            &raising.places.own_program(),
            raising.toolchain.runc(),
            spec,
        )?;
        text.push_str(&handler_config(raising, cluster, &spec.handler, &program));
    }
    let config = cluster.data().join("containerd.toml");
    write(&config, &text)?;
    write_registry_hosts(cluster)?;
    lay_out_plugins(raising, cluster)?;
    write(
        &cluster.data().join("cni-conf/10-pods.conflist"),
        &pod_network_config(cluster),
    )?;
    let containerd = raising.toolchain.containerd().display().to_string();
    let runtime = raising
        .toolchain
        .runc()
        .parent()
        .unwrap_or(Path::new("/"))
        .display();
    node.start_program(
        raising,
        "containerd",
        vec![
            "env".to_owned(),
            // The shim looks for the runtime here when it is asked for its features.
            format!(
                "PATH={runtime}:{path}",
                path = std::env::var("PATH").unwrap_or_default()
            ),
            containerd,
            "--config".to_owned(),
            config.display().to_string(),
        ],
    )
}

/// Starts what needs the API server: kubelet and kube-proxy.
pub(super) fn start_agents(raising: &Raising<'_>, node: &Node<'_>) -> Result<[Record; 2], LabError> {
    let cluster = node.places;
    let config = cluster.data().join("kubelet.json");
    write(&config, &kubelet_config(cluster))?;
    // Pods that share the node's resolver must not learn the machine's.
    write(
        &cluster.data().join("resolv.conf"),
        "# the lab has no name service\n",
    )?;
    let name = cluster.node_name();
    let kubelet = node.start(
        raising,
        "kubelet",
        &[
            ("config", &config.display().to_string()),
            ("kubeconfig", &cluster.kubeconfig("kubelet").display().to_string()),
            ("hostname-override", &name),
            ("node-ip", &cluster.node_address().to_string()),
        ],
    )?;
    let proxy = node.start(
        raising,
        "kube-proxy",
        &[
            ("kubeconfig", &cluster.kubeconfig("proxy").display().to_string()),
            ("hostname-override", &name),
            ("proxy-mode", "nftables"),
            ("cluster-cidr", &cluster.pod_network()),
            // These are limits of the whole machine, not of the namespace.
            ("conntrack-max-per-core", "0"),
            ("conntrack-tcp-timeout-established", "0"),
            ("conntrack-tcp-timeout-close-wait", "0"),
        ],
    )?;
    Ok([kubelet, proxy])
}

fn kubelet_config(cluster: &ClusterPlaces) -> String {
    let pki = cluster.pki();
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "x509": {"clientCAFile": pki.join("ca.crt")},
            "webhook": {"enabled": true},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki.join("kubelet.crt"),
        "tlsPrivateKeyFile": pki.join("kubelet.key"),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", cluster.cgroup()),
        "failCgroupV1": false,
        "failSwapOn": false,
        // The nodes of a lab share one machine: none may reserve or evict on the others' account.
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "clusterDNS": [NAME_SERVICE_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": cluster.data().join("resolv.conf"),
        "serializeImagePulls": false,
        // Tests kill the same container again and again; customary pauses of up to minutes would only be waited for.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
    });
    format!("{config:#}")
}

fn runtime_config(raising: &Raising<'_>, cluster: &ClusterPlaces) -> String {
    let data = cluster.data();
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "/run/containerd/containerd.sock"

# Its socket has one place on the machine, for all clusters.
[plugins."io.containerd.nri.v1.nri"]
disable = true

[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"

[plugins."io.containerd.cri.v1.images".registry]
config_path = "{hosts}"

[plugins."io.containerd.cri.v1.runtime"]
# Where the lab itself runs in a container it may not lower a process's score.
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{plugins}"]
conf_dir = "{cni}"

[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"
{usual}"#,
        pause = super::super::images::pause_reference(),
        hosts = data.join("registries").display(),
        cni = data.join("cni-conf").display(),
        plugins = plugins(cluster).display(),
        usual = handler_config(raising, cluster, "runc", raising.toolchain.runc()),
    )
}

/// The part of the runtime's configuration about one handler, whose containers `program` runs.
fn handler_config(raising: &Raising<'_>, cluster: &ClusterPlaces, handler: &str, program: &Path) -> String {
    format!(
        r#"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.{handler}]
runtime_type = "io.containerd.runc.v2"
runtime_path = "{shim}"
{base}

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.{handler}.options]
BinaryName = "{program}"
SystemdCgroup = false
"#,
        shim = raising.toolchain.shim().display(),
        base = base_specification(cluster),
        program = program.display(),
    )
}

/// Names the specification that containers start from, where the cluster has one of its own.
fn base_specification(cluster: &ClusterPlaces) -> String {
    let path = cluster.container_base();
    if path.exists() {
        format!("base_runtime_spec = \"{}\"", path.display())
    } else {
        String::new()
    }
}

/// Pod traffic is routed (`ptp`), not bridged, so that the node's rules see all of it.
fn pod_network_config(cluster: &ClusterPlaces) -> String {
    let config = json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": cluster.pod_network()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
            {"type": cni::NAME, "socket": cluster.enforcer_socket()},
        ],
    });
    format!("{config:#}")
}

fn plugins(cluster: &ClusterPlaces) -> PathBuf {
    cluster.data().join("cni-plugins")
}

/// Debian's plugins and the lab's own in one folder.
fn lay_out_plugins(raising: &Raising<'_>, cluster: &ClusterPlaces) -> Result<(), LabError> {
    let dir = plugins(cluster);
    let doing = || format!("lay out {}", dir.display());
    fs::create_dir_all(&dir).map_err(LabError::io(doing()))?;
    for plugin in ["host-local", "loopback", "portmap", "ptp"] {
        symlink(Path::new(PLUGINS).join(plugin), dir.join(plugin)).map_err(LabError::io(doing()))?;
    }
    symlink(raising.places.own_program(), dir.join(cni::NAME)).map_err(LabError::io(doing()))
}

fn write_registry_hosts(cluster: &ClusterPlaces) -> Result<(), LabError> {
    let registry = format!("{SERVICES_ADDRESS}:{REGISTRY_PORT}");
    write(
        &cluster
            .data()
            .join("registries")
            .join(&registry)
            .join("hosts.toml"),
        &format!(
            "server = \"http://{registry}\"\n\n[host.\"http://{registry}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
        ),
    )
}

fn write(path: &Path, content: &str) -> Result<(), LabError> {
    let doing = || format!("write {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(LabError::io(doing()))?;
    }
    fs::write(path, content).map_err(LabError::io(doing()))
}
