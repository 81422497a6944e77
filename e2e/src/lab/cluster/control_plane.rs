//! A cluster's control plane: etcd, API server, controller manager and scheduler, with the flags that make
//! them one small real cluster.

use std::fs;
use std::time::Duration;

use serde_json::json;

use super::super::error::LabError;
use super::super::places::ClusterPlaces;
use super::super::process::Record;
use super::super::raising::Raising;
use super::Node;

/// From start to ready; a machine that is busy with everything else at once needs the most of it.
const READY_WITHIN: Duration = Duration::from_mins(2);
pub(super) const SERVICE_NETWORK: &str = "10.96.0.0/16";
pub(super) const API_PORT: u16 = 6443;

/// The kubeconfigs, each with the certificate of the same name.
const USERS: &[&str] = &["admin", "controller-manager", "scheduler", "kubelet", "proxy"];

/// Writes a kubeconfig for each of the cluster's users.
pub(super) fn write_kubeconfigs(cluster: &ClusterPlaces) -> Result<(), LabError> {
    let pki = cluster.pki();
    for user in USERS {
        let path = cluster.kubeconfig(user);
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster.name, "cluster": {
                "server": format!("https://{}:{API_PORT}", cluster.node_address()),
                "certificate-authority": pki.join("ca.crt"),
            }}],
            "users": [{"name": user, "user": {
                "client-certificate": pki.join(format!("{user}.crt")),
                "client-key": pki.join(format!("{user}.key")),
            }}],
            "contexts": [{"name": cluster.name, "context": {"cluster": cluster.name, "user": user}}],
            "current-context": cluster.name,
        });
        fs::write(&path, format!("{kubeconfig:#}"))
            .map_err(LabError::io(format!("write {}", path.display())))?;
    }
    Ok(())
}

/// Starts etcd and the API server, and waits until the API answers.
pub(super) async fn start_api(raising: &Raising<'_>, node: &Node<'_>) -> Result<(), LabError> {
    let cluster = node.places;
    let pki = cluster.pki();
    let pki = |file: &str| pki.join(file).display().to_string();
    let etcd_data = cluster.data().join("etcd").display().to_string();
    let etcd = node.start(
        raising,
        "etcd",
        &[
            ("data-dir", &etcd_data),
            ("listen-client-urls", "http://127.0.0.1:2379"),
            ("advertise-client-urls", "http://127.0.0.1:2379"),
            ("listen-peer-urls", "http://127.0.0.1:2380"),
            // A lab does not survive a power cut anyway; a killed etcd loses nothing by it.
            ("unsafe-no-fsync", "true"),
            ("log-level", "warn"),
        ],
    )?;
    let address = cluster.node_address().to_string();
    let port = API_PORT.to_string();
    let api = node.start(
        raising,
        "kube-apiserver",
        &[
            ("etcd-servers", "http://127.0.0.1:2379"),
            ("secure-port", &port),
            ("advertise-address", &address),
            ("service-cluster-ip-range", SERVICE_NETWORK),
            ("client-ca-file", &pki("ca.crt")),
            ("tls-cert-file", &pki("apiserver.crt")),
            ("tls-private-key-file", &pki("apiserver.key")),
            ("kubelet-client-certificate", &pki("apiserver-kubelet.crt")),
            ("kubelet-client-key", &pki("apiserver-kubelet.key")),
            ("kubelet-certificate-authority", &pki("ca.crt")),
            // By the node's name, logs and exec would need a name service.
            ("kubelet-preferred-address-types", "InternalIP,Hostname"),
            ("service-account-issuer", "https://kubernetes.default.svc"),
            ("service-account-key-file", &pki("service-account.pub")),
            ("service-account-signing-key-file", &pki("service-account.key")),
            ("authorization-mode", "Node,RBAC"),
            ("enable-admission-plugins", "NodeRestriction"),
            ("allow-privileged", "true"),
            ("profiling", "false"),
        ],
    )?;
    let client = super::client(cluster).await?;
    let waiting_for = format!("{}: the API server", cluster.name);
    raising
        .wait(&waiting_for, READY_WITHIN, &[&etcd, &api], || async {
            let request = http::Request::get("/readyz").body(Vec::new());
            match request {
                Ok(request) => client.request_text(request).await.is_ok(),
                Err(_) => false,
            }
        })
        .await
}

/// Starts what works on the API: controllers and scheduler.
pub(super) fn start_controllers(raising: &Raising<'_>, node: &Node<'_>) -> Result<[Record; 2], LabError> {
    let cluster = node.places;
    let pki = cluster.pki();
    let pki = |file: &str| pki.join(file).display().to_string();
    let kubeconfig = |user: &str| cluster.kubeconfig(user).display().to_string();
    let controllers = node.start(
        raising,
        "kube-controller-manager",
        &[
            ("kubeconfig", &kubeconfig("controller-manager")),
            ("root-ca-file", &pki("ca.crt")),
            ("service-account-private-key-file", &pki("service-account.key")),
            ("use-service-account-credentials", "true"),
            ("cluster-cidr", &cluster.pod_network()),
            // The one node has the whole pod network.
            ("allocate-node-cidrs", "false"),
            ("leader-elect", "false"),
            ("profiling", "false"),
        ],
    )?;
    let scheduler = node.start(
        raising,
        "kube-scheduler",
        &[
            ("kubeconfig", &kubeconfig("scheduler")),
            ("leader-elect", "false"),
            ("profiling", "false"),
        ],
    )?;
    Ok([controllers, scheduler])
}
