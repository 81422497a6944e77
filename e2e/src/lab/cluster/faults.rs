//! What can be made to go wrong in a cluster on purpose: components that die, containers that are killed,
//! a cable that is pulled, policies that nobody enforces.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::super::cgroups::{Cgroups, child_groups, members_below};
use super::super::error::LabError;
use super::super::network;
use super::Cluster;
use super::node::ENFORCER;

impl Cluster<'_> {
    /// Kills a component with SIGKILL: `etcd`, `kube-apiserver`, `kube-controller-manager`,
    /// `kube-scheduler`, `containerd`, `kubelet`, `kube-proxy`.
    pub fn kill(&self, component: &str) -> Result<(), LabError> {
        self.lab
            .roster
            .end(&self.places.component(component), Signal::KILL)
    }

    /// Asks a component to end with SIGTERM, and waits until it has.
    pub fn stop(&self, component: &str) -> Result<(), LabError> {
        self.lab
            .roster
            .end(&self.places.component(component), Signal::TERM)
    }

    /// Starts a component that was killed or stopped.
    pub fn start(&self, component: &str) -> Result<(), LabError> {
        self.lab
            .roster
            .start_again(&self.places.component(component))
            .map(drop)
    }

    /// Pulls the cluster's cable: nobody reaches it, it reaches nobody, and inside it everything goes on.
    pub fn disconnect(&self) -> Result<(), LabError> {
        network::plug(&self.places, false)
    }

    /// Plugs the cable in again.
    pub fn connect(&self) -> Result<(), LabError> {
        network::plug(&self.places, true)
    }

    /// Has every packet to these TCP ports lost, from the cluster's pods and to its node ports, until [`Self::find`].
    pub fn lose(&self, ports: &[u16]) -> Result<(), LabError> {
        network::lose(&self.places, ports)
    }

    /// Ends what [`Self::lose`] began.
    pub fn find(&self) -> Result<(), LabError> {
        network::lose(&self.places, &[])
    }

    /// Takes the enforcer of NetworkPolicies away, or brings it back; returns once that is in force.
    pub fn enforce_policies(&self, enforced: bool) -> Result<(), LabError> {
        if !enforced {
            return self.stop(ENFORCER);
        }
        let record = self.lab.roster.start_again(&self.places.component(ENFORCER))?;
        super::node::wait_for_socket(&self.places.enforcer_socket(), &record)
    }

    /// Kills a container's first process with SIGKILL. The kubelet restarts the container if its pod says so.
    pub async fn kill_container(&self, namespace: &str, pod: &str, container: &str) -> Result<(), LabError> {
        self.aim(namespace, pod, container).await?.kill()
    }

    /// Finds a container's first process, so that it can be killed later without a look first.
    pub async fn aim(&self, namespace: &str, pod: &str, container: &str) -> Result<Target, LabError> {
        let what = format!("{}: container {container} of {namespace}/{pod}", self.name());
        let group = self.group_of(namespace, pod, container).await?;
        let doing = || format!("aim at {what}");
        let pid = first_process(&group)
            .and_then(Pid::from_raw)
            .ok_or_else(|| LabError::io(doing())(std::io::Error::other("it has no process any more")))?;
        let process =
            pidfd_open(pid, PidfdFlags::empty()).map_err(|error| LabError::io(doing())(error.into()))?;
        Ok(Target { process, what })
    }

    /// Has the kernel end a container for want of memory as soon as it wants more than `bytes` beyond what it has: all
    /// of it at once, as version 2 hierarchies do. What the kubelet starts in its place has the pod's own limit again.
    pub async fn starve(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        bytes: u64,
    ) -> Result<(), LabError> {
        let group = self.group_of(namespace, pod, container).await?;
        // With its first process ends the whole container.
        let first = first_process(&group).unwrap_or_default();
        let score = PathBuf::from(format!("/proc/{first}/oom_score_adj"));
        std::fs::write(&score, "1000").map_err(LabError::io(format!("write {}", score.display())))?;
        Cgroups::observe()?.limit_memory(&group, bytes)
    }

    /// The tracked cgroup of a container that runs.
    async fn group_of(&self, namespace: &str, pod: &str, container: &str) -> Result<PathBuf, LabError> {
        let doing = format!("{}: find container {container} of {namespace}/{pod}", self.name());
        let found: Pod = Api::namespaced(self.client().await?, namespace)
            .get(pod)
            .await
            .map_err(LabError::kube(doing))?;
        let status = found.status.unwrap_or_default();
        let statuses: Vec<_> = status
            .container_statuses
            .into_iter()
            .chain(status.init_container_statuses)
            .flatten()
            .collect();
        let known = || {
            statuses
                .iter()
                .map(|status| status.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let id = statuses
            .iter()
            .find(|status| status.name == container)
            .and_then(|status| status.container_id.as_deref())
            .and_then(|id| id.strip_prefix("containerd://"));
        let tree = Cgroups::observe()?.tracking(&self.places.cgroup());
        id.and_then(|id| find_group(&tree, id))
            .ok_or_else(|| LabError::Unknown {
                what: "running container",
                name: container.to_owned(),
                known: known(),
            })
    }
}

/// A container's first process, as it was when it was aimed at: whatever has its number later is not meant.
#[derive(Debug)]
pub struct Target {
    process: OwnedFd,
    what: String,
}

impl Target {
    /// Kills it with SIGKILL.
    pub fn kill(&self) -> Result<(), LabError> {
        pidfd_send_signal(&self.process, Signal::KILL).map_err(|error| LabError::Io {
            doing: format!("kill {}", self.what),
            source: error.into(),
        })
    }
}

/// The cgroup of a container: the runtime names it after the container's id.
fn find_group(dir: &Path, id: &str) -> Option<PathBuf> {
    child_groups(dir).into_iter().find_map(|child| {
        let named = child
            .file_name()
            .is_some_and(|name| name.to_string_lossy().contains(id));
        if named {
            Some(child)
        } else {
            find_group(&child, id)
        }
    })
}

fn first_process(group: &Path) -> Option<i32> {
    members_below(group)
        .into_iter()
        .min_by_key(|pid| innermost_number(*pid))
}

/// A process's number in its own PID namespace; a container's first process is 1 there.
fn innermost_number(pid: i32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers
        .and_then(|numbers| numbers.split_whitespace().last()?.parse().ok())
        .unwrap_or(u32::MAX)
}
