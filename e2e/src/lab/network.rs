//! The lab's wires: a namespace for the services with a bridge in it, and one namespace for each cluster on
//! that bridge. Nothing is added to the machine's own namespace and there is no way out of the lab, so
//! every lab uses the same addresses, and no packet of any lab can reach anything else.

use std::process::Command;

use super::command::{run, run_with_input};
use super::error::LabError;
use super::places::{ClusterPlaces, LAB_PREFIX, LabPlaces, SERVICES_ADDRESS};

/// Makes the services namespace and its bridge.
pub(crate) fn make_services(lab: &LabPlaces) -> Result<(), LabError> {
    let namespace = lab.services_namespace();
    ip(
        "make the services namespace",
        None,
        &format!("netns add {namespace}"),
    )?;
    ip(
        "make the lab's bridge",
        Some(&namespace),
        &format!(
            "link set lo up\n\
             link add lab type bridge\n\
             address add {SERVICES_ADDRESS}/{LAB_PREFIX} dev lab\n\
             link set lab up"
        ),
    )?;
    forward(&namespace)
}

/// Makes a cluster's namespace and plugs it into the bridge.
pub(crate) fn make_cluster(cluster: &ClusterPlaces) -> Result<(), LabError> {
    let services = cluster.lab.services_namespace();
    let namespace = cluster.network_namespace();
    let doing = format!("connect {}", cluster.name);
    ip(&doing, None, &format!("netns add {namespace}"))?;
    ip(
        &doing,
        Some(&services),
        &format!(
            "link add {cable} type veth peer name eth0 netns {namespace}\n\
             link set {cable} master lab up",
            cable = cluster.cable(),
        ),
    )?;
    ip(
        &doing,
        Some(&namespace),
        &format!(
            "link set lo up\n\
             address add {address}/{LAB_PREFIX} dev eth0\n\
             link set eth0 up\n\
             route add default via {SERVICES_ADDRESS}",
            address = cluster.node_address(),
        ),
    )?;
    forward(&namespace)?;
    // Pods leave the node under its address, as they do from most real clusters.
    run_with_input(
        &doing,
        inside(&namespace, "nft").args(["-f", "-"]),
        &format!(
            "table ip tradewind-lab {{\n\
               chain leave {{\n\
                 type nat hook postrouting priority srcnat; policy accept;\n\
                 ip saddr {pods} oifname eth0 masquerade\n\
               }}\n\
             }}\n",
            pods = cluster.pod_network(),
        ),
    )?;
    Ok(())
}

/// Pulls a cluster's cable, or plugs it in again.
pub(crate) fn plug(cluster: &ClusterPlaces, connected: bool) -> Result<(), LabError> {
    let state = if connected { "up" } else { "down" };
    ip(
        &format!("set the cable of {} {state}", cluster.name),
        Some(&cluster.lab.services_namespace()),
        &format!("link set {} {state}", cluster.cable()),
    )
}

/// Loses every packet that comes to one of these TCP ports, on its way into the cluster, out of it, or between its
/// pods; none is lost where there are no ports.
pub(crate) fn lose(cluster: &ClusterPlaces, ports: &[u16]) -> Result<(), LabError> {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let rule = match ports.as_slice() {
        [] => String::new(),
        // Before the node ports are turned into pods' addresses.
        ports => format!(
            "table ip tradewind-outage {{\n\
               chain lose {{\n\
                 type filter hook prerouting priority raw; policy accept;\n\
                 tcp dport {{ {} }} drop\n\
               }}\n\
             }}\n",
            ports.join(", "),
        ),
    };
    run_with_input(
        &format!("lose packets of {}", cluster.name),
        inside(&cluster.network_namespace(), "nft").args(["-f", "-"]),
        // Made first, so that taking it away is right whether it was there or not.
        &format!("table ip tradewind-outage {{}}\ndelete table ip tradewind-outage\n{rule}"),
    )
    .map(drop)
}

/// Removes all network namespaces of the lab, and with them every interface and rule in them.
pub(crate) fn remove(lab: &LabPlaces) -> Result<(), LabError> {
    for name in namespaces(lab) {
        ip(
            &format!("remove the network namespace {name}"),
            None,
            &format!("netns delete {name}"),
        )?;
    }
    Ok(())
}

/// The lab's network namespaces that exist.
pub(crate) fn namespaces(lab: &LabPlaces) -> Vec<String> {
    let prefix = lab.namespace_prefix();
    std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

/// A command that runs in a network namespace, everything else as outside.
pub(crate) fn inside(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{namespace}"))
        .arg("--")
        .arg(program);
    command
}

/// A command that runs outside of every lab, whichever thread starts it: what is built once needs the internet. The
/// process's first thread enters no lab.
pub(crate) fn outside(program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/proc/{}/ns/net", std::process::id()))
        .arg("--")
        .arg(program);
    command
}

/// Lets packets pass through a namespace, and lets it say at once, however often, that there is no way.
fn forward(namespace: &str) -> Result<(), LabError> {
    // Read by the kernel for the namespace of whoever writes.
    let settings = ["net.ipv4.ip_forward=1", "net.ipv4.icmp_ratelimit=0"];
    run(
        "let packets be forwarded",
        inside(namespace, "sysctl").arg("-qw").args(settings),
    )
    .map(drop)
}

fn ip(doing: &str, namespace: Option<&str>, batch: &str) -> Result<(), LabError> {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    run_with_input(doing, command.args(["-batch", "-"]), &format!("{batch}\n")).map(drop)
}
