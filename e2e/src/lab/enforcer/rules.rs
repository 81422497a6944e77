//! NetworkPolicies as nftables rules. Pure: policies, pods and namespaces in, the text of one table out.
//!
//! A packet is judged twice, as Kubernetes says: by the egress policies of the pod that sends it and by the
//! ingress policies of the pod that it is for. A pod that no policy of a direction selects is open in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use kube::core::{Selector, SelectorExt as _};

use super::super::error::LabError;

type Labels = BTreeMap<String, String>;

/// What takes the table away, also where there is none.
pub(super) const REMOVAL: &str = "add table inet tradewind-policy\ndelete table inet tradewind-policy\n";

/// What the rules need to know of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodView {
    namespace: String,
    name: String,
    pub(super) address: IpAddr,
    /// `None` where the pod could not be read: it is shut off rather than let through.
    labels: Option<Labels>,
    /// Its containers' ports, by name.
    ports: BTreeMap<String, i32>,
}

impl PodView {
    /// A pod at that address.
    pub(super) fn of(pod: &Pod, address: IpAddr) -> Self {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        Self {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            address,
            labels: Some(pod.labels().clone()),
            ports: ports
                .filter_map(|port| Some((port.name.clone()?, port.container_port)))
                .collect(),
        }
    }

    /// A pod with an address and a network of its own that has not ended.
    pub(super) fn running(pod: &Pod) -> Option<Self> {
        let status = pod.status.as_ref()?;
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let on_host = pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.host_network == Some(true));
        if ended || on_host {
            return None;
        }
        Some(Self::of(pod, status.pod_ip.as_ref()?.parse().ok()?))
    }

    /// A pod of which nothing is known but that it is there.
    pub(super) fn unknown(namespace: &str, name: &str, address: IpAddr) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            address,
            labels: None,
            ports: BTreeMap::new(),
        }
    }
}

/// Which way a packet goes, seen from the pod whose policies are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Egress,
    Ingress,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }

    /// What the header calls the pod's own address.
    fn own(self) -> &'static str {
        match self {
            Self::Egress => "saddr",
            Self::Ingress => "daddr",
        }
    }

    /// What it calls the other side's.
    fn other(self) -> &'static str {
        match self {
            Self::Egress => "daddr",
            Self::Ingress => "saddr",
        }
    }
}

struct World<'a> {
    policies: &'a [Arc<NetworkPolicy>],
    pods: &'a [PodView],
    namespaces: &'a HashMap<String, Labels>,
}

/// The whole table; loading it replaces the one before at once.
pub(super) fn ruleset(
    policies: &[Arc<NetworkPolicy>],
    pods: &[PodView],
    namespaces: &HashMap<String, Labels>,
) -> Result<String, LabError> {
    // A stable order lets equal rules be seen to be equal.
    let mut pods = pods.to_vec();
    pods.sort_by_key(|pod| pod.address);
    let mut policies = policies.to_vec();
    policies.sort_by_key(|policy| (policy.namespace(), policy.name_any()));
    let world = World {
        policies: &policies,
        pods: &pods,
        namespaces,
    };

    let mut chains = String::new();
    let mut jumps = String::new();
    for direction in [Direction::Egress, Direction::Ingress] {
        let mut verdicts = Vec::new();
        for pod in &pods {
            if let Some(rules) = world.rules_of(pod, direction)? {
                let chain = format!("{}-{}", direction.name(), pod.address);
                verdicts.push(format!("{} : jump {chain}", pod.address));
                append(
                    &mut chains,
                    &format!("  chain {chain} {{ # {}/{}", pod.namespace, pod.name),
                );
                for rule in rules {
                    append(&mut chains, &format!("    {rule} return"));
                }
                append(&mut chains, "    drop\n  }");
            }
        }
        if !verdicts.is_empty() {
            append(
                &mut jumps,
                &format!("    ip {} vmap {{ {} }}", direction.own(), verdicts.join(", ")),
            );
        }
    }
    Ok(format!(
        "{REMOVAL}table inet tradewind-policy {{\n{chains}  chain judge {{\n{jumps}  }}\n\
         {forward}{input}}}\n",
        forward = base_chain("forward"),
        input = base_chain("input"),
    ))
}

/// Where the kernel asks: for what passes through the node, and for what pods send to the node itself, the
/// API server among it. Addresses of services were translated before.
fn base_chain(hook: &str) -> String {
    format!(
        "  chain {hook} {{\n    type filter hook {hook} priority filter; policy accept;\n    \
         ct state established,related accept\n    jump judge\n  }}\n"
    )
}

impl World<'_> {
    /// What a pod may do in a direction, as matches; `None` where no policy selects it.
    fn rules_of(&self, pod: &PodView, direction: Direction) -> Result<Option<Vec<String>>, LabError> {
        let Some(labels) = &pod.labels else {
            return Ok(Some(Vec::new()));
        };
        let mut selected = false;
        let mut rules = BTreeSet::new();
        for policy in self.policies {
            let Some(spec) = &policy.spec else { continue };
            let here = policy.namespace().as_deref() == Some(&pod.namespace);
            if !here || !applies(spec, direction) || !matches(spec.pod_selector.as_ref(), labels)? {
                continue;
            }
            selected = true;
            for (peers, ports) in openings(spec, direction) {
                let ports = port_matches(ports, pod, direction);
                for peer in self.peer_matches(peers, &pod.namespace, direction)? {
                    rules.extend(ports.iter().map(|port| format!("{peer}{port}")));
                }
            }
        }
        Ok(selected.then(|| rules.into_iter().collect()))
    }

    /// The other sides that are let through; an empty match is everyone.
    fn peer_matches(
        &self,
        peers: Option<&Vec<NetworkPolicyPeer>>,
        namespace: &str,
        direction: Direction,
    ) -> Result<Vec<String>, LabError> {
        let peers = match peers {
            Some(peers) if !peers.is_empty() => peers,
            _ => return Ok(vec![String::new()]),
        };
        let other = direction.other();
        let mut matches = Vec::new();
        let mut addresses = BTreeSet::new();
        for peer in peers {
            if let Some(IPBlock { cidr, except }) = &peer.ip_block {
                let mut text = format!("ip {other} {cidr} ");
                for hole in except.iter().flatten() {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "ip {other} != {hole} ");
                }
                matches.push(text);
            } else {
                addresses.extend(self.selected_pods(peer, namespace)?);
            }
        }
        if !addresses.is_empty() {
            let list = addresses
                .iter()
                .map(IpAddr::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            matches.push(format!("ip {other} {{ {list} }} "));
        }
        Ok(matches)
    }

    fn selected_pods(&self, peer: &NetworkPolicyPeer, namespace: &str) -> Result<Vec<IpAddr>, LabError> {
        let mut addresses = Vec::new();
        for pod in self.pods {
            let Some(labels) = &pod.labels else { continue };
            let right_namespace = match &peer.namespace_selector {
                None => pod.namespace == namespace,
                Some(selector) => match self.namespaces.get(&pod.namespace) {
                    Some(labels) => matches(Some(selector), labels)?,
                    None => false,
                },
            };
            if right_namespace && matches(peer.pod_selector.as_ref(), labels)? {
                addresses.push(pod.address);
            }
        }
        Ok(addresses)
    }
}

/// Whether a policy speaks about a direction; where it does not say, by what it holds.
fn applies(spec: &NetworkPolicySpec, direction: Direction) -> bool {
    match (&spec.policy_types, direction) {
        (Some(types), Direction::Egress) => types.iter().any(|kind| kind == "Egress"),
        (Some(types), Direction::Ingress) => types.iter().any(|kind| kind == "Ingress"),
        (None, Direction::Egress) => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
        (None, Direction::Ingress) => true,
    }
}

type Opening<'a> = (
    Option<&'a Vec<NetworkPolicyPeer>>,
    Option<&'a Vec<NetworkPolicyPort>>,
);

fn openings(spec: &NetworkPolicySpec, direction: Direction) -> Vec<Opening<'_>> {
    match direction {
        Direction::Egress => spec
            .egress
            .iter()
            .flatten()
            .map(|rule| (rule.to.as_ref(), rule.ports.as_ref()))
            .collect(),
        Direction::Ingress => spec
            .ingress
            .iter()
            .flatten()
            .map(|rule| (rule.from.as_ref(), rule.ports.as_ref()))
            .collect(),
    }
}

/// The ports that are let through; an empty match is all of them.
fn port_matches(ports: Option<&Vec<NetworkPolicyPort>>, pod: &PodView, direction: Direction) -> Vec<String> {
    let ports = match ports {
        Some(ports) if !ports.is_empty() => ports,
        _ => return vec![String::new()],
    };
    let mut matches = Vec::new();
    for port in ports {
        let protocol = port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
        match (&port.port, port.end_port) {
            (None, _) => matches.push(format!("meta l4proto {protocol} ")),
            (Some(IntOrString::Int(first)), Some(last)) => {
                matches.push(format!("{protocol} dport {first}-{last} "));
            }
            (Some(IntOrString::Int(only)), None) => matches.push(format!("{protocol} dport {only} ")),
            (Some(IntOrString::String(name)), _) => match (direction, pod.ports.get(name)) {
                (Direction::Ingress, Some(number)) => matches.push(format!("{protocol} dport {number} ")),
                (Direction::Ingress, None) => {}
                // It would mean another number at each peer; nothing that the lab carries writes that.
                (Direction::Egress, _) => eprintln!("egress to the named port {name} is not let through"),
            },
        }
    }
    matches
}

/// No selector and an empty one select everything.
fn matches(selector: Option<&LabelSelector>, labels: &Labels) -> Result<bool, LabError> {
    let Some(selector) = selector else { return Ok(true) };
    let selector = Selector::try_from(selector.clone())
        .map_err(|error| LabError::Shape(format!("a policy's selector: {error}")))?;
    Ok(selector.matches(labels))
}

fn append(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
