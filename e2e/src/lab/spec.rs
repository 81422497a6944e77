//! The shape of a lab, as asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::LabError;
use super::places::{LabPlaces, MOST_CLUSTERS};

/// A lab: its clusters, and how its EVM node behaves. Every lab also has an image registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSpec {
    /// Tells this lab from others on the machine.
    pub name: String,
    /// Its clusters, in the order of their addresses.
    pub clusters: Vec<ClusterSpec>,
    /// Its EVM node.
    pub evm: EvmSpec,
}

/// One single-node cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// What it is called.
    pub name: String,
    /// How many processors the node seems to have, to the kubelet and inside pods; the machine's own where
    /// `None`. More than the machine has is shown, not had.
    pub cpus: Option<u8>,
    /// Whether NetworkPolicies are enforced from the start.
    pub enforcer: bool,
    /// Runtime handlers beside the usual one, for RuntimeClasses to name.
    #[serde(default)]
    pub runtimes: Vec<RuntimeSpec>,
}

/// A runtime handler that lays files over those of some containers before it runs them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeSpec {
    /// The handler's name.
    pub handler: String,
    /// The containers that it changes, by their name in the pod.
    pub container: String,
    /// Path in the container, and the file of this machine that is laid over it.
    pub files: BTreeMap<PathBuf, PathBuf>,
}

/// How the EVM node makes blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvmSpec {
    /// Seconds between blocks; a block for each transaction at once where `None`.
    pub block_time_s: Option<u32>,
    /// With 1, the finalized block is two behind the newest.
    pub slots_in_an_epoch: u32,
    /// The chain id.
    pub chain_id: u64,
}

impl Default for EvmSpec {
    fn default() -> Self {
        Self {
            block_time_s: Some(1),
            slots_in_an_epoch: 1,
            chain_id: 31_337,
        }
    }
}

impl ClusterSpec {
    /// A cluster as most tests want it.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            cpus: None,
            enforcer: true,
            runtimes: Vec::new(),
        }
    }
}

impl LabSpec {
    /// A lab with these clusters and the usual EVM node.
    pub fn new<N: Into<String>>(name: impl Into<String>, clusters: impl IntoIterator<Item = N>) -> Self {
        Self {
            name: name.into(),
            clusters: clusters.into_iter().map(ClusterSpec::new).collect(),
            evm: EvmSpec::default(),
        }
    }

    /// A lab as the demo has it: a consumer, and as many providers as are left over.
    pub fn market(name: impl Into<String>, clusters: usize) -> Self {
        let names = (0..clusters).map(|index| match index {
            0 => "consumer".to_owned(),
            _ => format!("provider-{}", letters(index - 1)),
        });
        Self::new(name, names)
    }

    /// Checks names and bounds.
    pub(crate) fn check(&self) -> Result<LabPlaces, LabError> {
        let places = LabPlaces::new(&self.name)?;
        if self.clusters.len() > MOST_CLUSTERS {
            return Err(LabError::Shape(format!(
                "at most {MOST_CLUSTERS} clusters fit in one lab"
            )));
        }
        let mut seen = BTreeSet::new();
        for (index, cluster) in self.clusters.iter().enumerate() {
            places.cluster(&cluster.name, index)?;
            if cluster.name == "services" || !seen.insert(&cluster.name) {
                return Err(LabError::Shape(format!(
                    "two parts of it are called `{}`",
                    cluster.name
                )));
            }
            if cluster.cpus == Some(0) {
                return Err(LabError::Shape(format!(
                    "cluster `{}` has no processor",
                    cluster.name
                )));
            }
        }
        Ok(places)
    }

    /// The clusters' names, for messages.
    pub(crate) fn cluster_names(&self) -> String {
        let mut names = String::new();
        for cluster in &self.clusters {
            let separator = if names.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(names, "{separator}{}", cluster.name);
        }
        names
    }
}

/// 0 is `a`, 25 is `z`, 26 is `ba`.
fn letters(index: usize) -> String {
    let letter = |digit: usize| char::from(b"abcdefghijklmnopqrstuvwxyz"[digit % 26]);
    if index < 26 {
        letter(index).to_string()
    } else {
        format!("{}{}", letters(index / 26), letter(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_market_is_a_consumer_and_providers() {
        assert_eq!(
            LabSpec::market("demo", 4).cluster_names(),
            "consumer, provider-a, provider-b, provider-c"
        );
    }

    #[test]
    fn a_shape_that_cannot_be_is_refused_by_name() {
        fn check(spec: &LabSpec, says: &str) {
            let error = spec.check().expect_err("refused").to_string();
            assert!(error.contains(says), "{error:?} should say {says:?}");
        }
        check(&LabSpec::new("Demo", ["a"]), "`Demo` cannot name a lab");
        check(&LabSpec::new("-", ["a"]), "cannot name a lab");
        check(&LabSpec::new("demo", ["a.b"]), "`a.b` cannot name a cluster");
        check(
            &LabSpec::new("demo", ["a", "a"]),
            "two parts of it are called `a`",
        );
        check(
            &LabSpec::new("demo", ["services"]),
            "two parts of it are called `services`",
        );
        check(&LabSpec::market("demo", 21), "at most 20 clusters");
    }
}
