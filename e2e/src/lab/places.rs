//! Where everything of a lab is: names and paths, all derived from the lab's name, so that what a dead
//! driver left can be found without asking it. Touches nothing.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::error::LabError;

/// Sockets, process records and what else must not outlive a reboot.
const RUN: &str = "/run/tradewind";
/// Data and logs.
const DATA: &str = "/var/lib/tradewind";
/// The services namespace's address: registry, EVM node, and whoever drives the lab.
pub(crate) const SERVICES_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// The network that nodes and services share; no address of it exists outside the lab's namespaces.
pub(crate) const LAB_PREFIX: u8 = 24;
/// Most clusters in one lab: their pod networks are 10.100.0.0/24 to 10.119.0.0/24.
pub(crate) const MOST_CLUSTERS: usize = 20;

/// Whether `name` may name a lab or a cluster; it becomes part of paths, namespaces and host names.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), LabError> {
    let good = name.len() <= 20
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if good {
        Ok(())
    } else {
        Err(LabError::Name {
            what,
            name: name.to_owned(),
        })
    }
}

/// The places of one lab.
#[derive(Clone, Debug)]
pub(crate) struct LabPlaces {
    name: String,
}

impl LabPlaces {
    pub(crate) fn new(name: &str) -> Result<Self, LabError> {
        check_name("lab", name)?;
        Ok(Self {
            name: name.to_owned(),
        })
    }

    /// Names of all labs that left a trace on this machine.
    pub(crate) fn all() -> Vec<Self> {
        let mut names: Vec<String> = [RUN, DATA]
            .iter()
            .filter_map(|dir| std::fs::read_dir(dir).ok())
            .flatten()
            .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names.dedup();
        names.iter().filter_map(|name| Self::new(name).ok()).collect()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn run(&self) -> PathBuf {
        Path::new(RUN).join(&self.name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        Path::new(DATA).join(&self.name)
    }

    /// Outside `run`, which is removed while the lock is held.
    pub(crate) fn lock(&self) -> PathBuf {
        Path::new(RUN).join(format!("{}.lock", self.name))
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.run().join("state.json")
    }

    /// The copy of the `e2e` program that this lab's enforcers and CNI plugins are: a new build of it must
    /// not change a lab that is up.
    pub(crate) fn own_program(&self) -> PathBuf {
        self.data().join("bin/e2e")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.data().join("log")
    }

    pub(crate) fn log(&self, component: &str) -> PathBuf {
        self.logs().join(format!("{}.log", component.replace('/', ".")))
    }

    /// What the names of all network namespaces of this lab begin with. The dot cannot stand in a lab's
    /// name, so no other lab's namespaces begin so.
    pub(crate) fn namespace_prefix(&self) -> String {
        format!("tradewind.{}.", self.name)
    }

    pub(crate) fn services_namespace(&self) -> String {
        format!("{}services", self.namespace_prefix())
    }

    /// The lab's cgroup below each hierarchy's root.
    pub(crate) fn cgroup(&self) -> String {
        format!("tradewind/{}", self.name)
    }

    pub(crate) fn cluster(&self, name: &str, index: usize) -> Result<ClusterPlaces, LabError> {
        check_name("cluster", name)?;
        let index = u8::try_from(index)
            .ok()
            .filter(|index| usize::from(*index) < MOST_CLUSTERS)
            .ok_or_else(|| LabError::Shape(format!("more than {MOST_CLUSTERS} clusters")))?;
        Ok(ClusterPlaces {
            lab: self.clone(),
            name: name.to_owned(),
            index,
        })
    }
}

/// The places of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterPlaces {
    pub(crate) lab: LabPlaces,
    pub(crate) name: String,
    index: u8,
}

impl ClusterPlaces {
    pub(crate) fn run(&self) -> PathBuf {
        self.lab.run().join(&self.name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.lab.data().join(&self.name)
    }

    /// What the node shows of its processors; there only where it differs from the machine.
    pub(crate) fn cpus(&self) -> PathBuf {
        self.data().join("cpus")
    }

    /// What the runtime starts containers from; there only where that differs from its default.
    pub(crate) fn container_base(&self) -> PathBuf {
        self.data().join("container.json")
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.data().join("pki")
    }

    /// The kubeconfig of one of the cluster's users, `admin` among them.
    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.data().join(format!("{user}.kubeconfig"))
    }

    pub(crate) fn network_namespace(&self) -> String {
        format!("{}{}", self.lab.namespace_prefix(), self.name)
    }

    /// The node's name, host name too.
    pub(crate) fn node_name(&self) -> String {
        format!("{}-node", self.name)
    }

    pub(crate) fn node_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 88, 0, 10 + self.index)
    }

    pub(crate) fn pod_network(&self) -> String {
        format!("10.{}.0.0/24", 100 + self.index)
    }

    /// The cluster's end of its cable, as seen in the services namespace.
    pub(crate) fn cable(&self) -> String {
        format!("cable{}", self.index)
    }

    pub(crate) fn cgroup(&self) -> String {
        format!("{}/{}", self.lab.cgroup(), self.name)
    }

    /// A component's name in the lab's records.
    pub(crate) fn component(&self, component: &str) -> String {
        format!("{}/{component}", self.name)
    }

    /// Where the enforcer is asked, by the CNI plugin, to wait until a new pod's rules are in force.
    pub(crate) fn enforcer_socket(&self) -> PathBuf {
        self.run().join("enforcer.sock")
    }
}
