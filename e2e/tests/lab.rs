//! The ground itself, on a lab that is up: real pods, real pulls, policies that deny, parts that fail when
//! they are told to. Run by `e2e lab with --clusters 3 -- cargo test -p tradewind-e2e --test lab`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails where it stands, its helpers too"
)]

use std::pin::Pin;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tradewind_e2e::lab::{Cluster, ImageReference, ImageSource, Lab, LabError, Phase};

/// From creation to the end of a small pod on a busy machine.
const POD_WITHIN: Duration = Duration::from_secs(90);

/// A namespace of its own, removed at the end.
struct Ground {
    client: Client,
    namespace: String,
}

impl Ground {
    async fn new(cluster: &Cluster<'_>, prefix: &str) -> Self {
        let client = cluster.client().await.unwrap();
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"generateName": format!("{prefix}-")}})).unwrap();
        let created = Api::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
        // The account that pods run under follows the namespace by a moment.
        let accounts = Api::namespaced(client.clone(), &created.name_any());
        let exists = |account: Option<&k8s_openapi::api::core::v1::ServiceAccount>| account.is_some();
        within(await_condition(accounts, "default", exists))
            .await
            .unwrap();
        Self {
            namespace: created.name_any(),
            client,
        }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A pod that runs a shell script in the test image.
    async fn run(&self, name: &str, image: &ImageReference, script: &str) {
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "restartPolicy": "OnFailure",
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "main", "image": image.pinned(), "command": ["/bin/sh", "-c", script],
                    // A prober from outside the pod's own rules: the kubelet.
                    "ports": [{"containerPort": 8080}],
                }],
            },
        });
        self.pods()
            .create(&PostParams::default(), &from(pod))
            .await
            .unwrap();
    }

    async fn address(&self, name: &str) -> String {
        let pod = within(await_condition(self.pods(), name, is_running()))
            .await
            .unwrap()
            .unwrap();
        pod.status.unwrap().pod_ip.unwrap()
    }

    /// The termination message of a pod that has done its work.
    async fn end(&self, name: &str) -> (Pod, String) {
        let pod = within(await_condition(self.pods(), name, has_ended()))
            .await
            .unwrap()
            .unwrap();
        let status = pod.status.clone().unwrap().container_statuses.unwrap().remove(0);
        (
            pod,
            status
                .state
                .unwrap()
                .terminated
                .unwrap()
                .message
                .unwrap_or_default(),
        )
    }

    async fn remove(self) {
        let namespaces: Api<Namespace> = Api::all(self.client);
        namespaces
            .delete(&self.namespace, &DeleteParams::background())
            .await
            .unwrap();
    }
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Boxed: the futures of watches are large.
fn within<'a, T>(
    future: impl Future<Output = T> + Send + 'a,
) -> Pin<Box<dyn Future<Output = T> + Send + 'a>> {
    Box::pin(async {
        tokio::time::timeout(POD_WITHIN, future)
            .await
            .expect("it happens in time")
    })
}

fn is_running() -> impl Condition<Pod> {
    |pod: Option<&Pod>| {
        let status = pod.and_then(|pod| pod.status.as_ref());
        let running = status.and_then(|status| {
            status
                .container_statuses
                .as_ref()?
                .first()?
                .state
                .as_ref()?
                .running
                .as_ref()
        });
        running.is_some()
    }
}

fn has_ended() -> impl Condition<Pod> {
    |pod: Option<&Pod>| {
        let phase = pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }
}

const SERVE: &str =
    "mkdir -p /tmp/www && echo served > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www";

/// Tries each address in turn and says which answered; its very first packets count too.
fn probe(targets: &[(&str, &str)]) -> String {
    let tries: Vec<String> = targets
        .iter()
        .map(|(name, address)| {
            let (host, port) = address.rsplit_once(':').unwrap();
            format!("(nc -w 3 {host} {port} </dev/null >/dev/null 2>&1 && echo {name}=open || echo {name}=shut) >/tmp/{name} &")
        })
        .collect();
    let names: Vec<String> = targets.iter().map(|(name, _)| format!("/tmp/{name}")).collect();
    format!(
        "{}\nwait; cat {} | tr '\\n' ' ' > /dev/termination-log",
        tries.join("\n"),
        names.join(" ")
    )
}

#[test]
fn a_pod_pulled_by_digest_runs_to_its_end_and_says_so() {
    let lab = Lab::from_environment().unwrap();
    let image = lab.push(&ImageSource::busybox()).unwrap();
    lab.run(async {
        let cluster = lab.cluster("consumer").unwrap();
        let ground = Ground::new(&cluster, "digest").await;
        ground
            .run(
                "speaker",
                &image,
                "printf '%s' \"it ran on $(hostname)\" > /dev/termination-log",
            )
            .await;
        let (pod, message) = ground.end("speaker").await;
        assert_eq!(message, "it ran on speaker");
        let status = pod.status.unwrap();
        assert_eq!(status.phase.as_deref(), Some("Succeeded"));
        let container = status.container_statuses.unwrap().remove(0);
        assert!(
            container.image_id.ends_with(&image.digest),
            "{} is not {}",
            container.image_id,
            image.digest
        );
        ground.remove().await;
    })
    .unwrap();
}

#[test]
fn an_image_that_is_not_in_the_registry_is_not_found_anywhere_else() {
    let lab = Lab::from_environment().unwrap();
    lab.run(async {
        let cluster = lab.cluster("consumer").unwrap();
        let ground = Ground::new(&cluster, "absent").await;
        let absent = ImageReference {
            repository: format!("{}/nobody", lab.registry()),
            digest: format!("sha256:{}", "0".repeat(64)),
        };
        ground.run("absent", &absent, "true").await;
        let refused = |pod: Option<&Pod>| {
            let status = pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref()?.first());
            let reason = status.and_then(|status| status.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
            matches!(reason, Some("ErrImagePull" | "ImagePullBackOff"))
        };
        within(await_condition(ground.pods(), "absent", refused))
            .await
            .unwrap();
        ground.remove().await;
    })
    .unwrap();
}

#[test]
fn pods_reach_the_services_and_other_clusters_node_ports() {
    let lab = Lab::from_environment().unwrap();
    let image = lab.push(&ImageSource::busybox()).unwrap();
    lab.run(async {
        let (provider, consumer) = (lab.cluster("provider-a").unwrap(), lab.cluster("consumer").unwrap());
        let there = Ground::new(&provider, "server").await;
        there.run("server", &image, SERVE).await;
        let service = json!({
            "metadata": {"name": "server"},
            "spec": {"type": "NodePort", "selector": {"app": "server"}, "ports": [{"port": 8080}]},
        });
        let services: Api<Service> = Api::namespaced(there.client.clone(), &there.namespace);
        let service = services.create(&PostParams::default(), &from(service)).await.unwrap();
        let port = service.spec.unwrap().ports.unwrap()[0].node_port.unwrap();
        there.address("server").await;

        let here = Ground::new(&consumer, "client").await;
        let script = format!(
            "until printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {node} {port} | grep served > /tmp/page; do :; done\n\
             nc -w 2 {registry} </dev/null && echo registry >> /tmp/page\n\
             until nc -w 2 {evm} </dev/null; do :; done; echo evm >> /tmp/page\n\
             tr '\\n' ' ' < /tmp/page > /dev/termination-log",
            node = provider.node_address(),
            registry = lab.registry().replace(':', " "),
            evm = lab.evm().url().trim_start_matches("http://").replace(':', " "),
        );
        here.run("client", &image, &script).await;
        assert_eq!(here.end("client").await.1, "served registry evm ");
        let reached = tokio::net::TcpStream::connect((provider.node_address(), u16::try_from(port).unwrap())).await;
        assert!(reached.is_ok(), "the driver reaches the node port too: {reached:?}");
        there.remove().await;
        here.remove().await;
    })
    .unwrap();
}

#[test]
fn policies_deny_all_but_the_relay_while_the_enforcer_is_there_and_nothing_without_it() {
    let lab = Lab::from_environment().unwrap();
    let image = lab.push(&ImageSource::busybox()).unwrap();
    lab.run(async {
        let cluster = lab.cluster("provider-a").unwrap();
        let ground = Ground::new(&cluster, "policy").await;
        ground.run("relay", &image, SERVE).await;
        ground.run("stranger", &image, SERVE).await;
        let relay = format!("{}:8080", ground.address("relay").await);
        let stranger = format!("{}:8080", ground.address("stranger").await);
        let policy = json!({
            "metadata": {"name": "relay-only"},
            "spec": {
                "podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["relay", "stranger"]}]},
                "policyTypes": ["Ingress", "Egress"],
                "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "relay"}}}], "ports": [{"port": 8080}]}],
            },
        });
        let policies: Api<NetworkPolicy> = Api::namespaced(ground.client.clone(), &ground.namespace);
        policies.create(&PostParams::default(), &from(policy)).await.unwrap();
        let registry = lab.registry();
        let node = format!("{}:6443", cluster.node_address());
        let targets = [
            ("relay", relay.as_str()),
            ("stranger", &stranger),
            ("service", "10.96.0.1:443"),
            ("node", &node),
            ("registry", &registry),
        ];
        let denied = "relay=open stranger=shut service=shut node=shut registry=shut ";
        let open = "relay=open stranger=open service=open node=open registry=open ";
        ground.run("enforced", &image, &probe(&targets)).await;
        assert_eq!(ground.end("enforced").await.1, denied);
        cluster.enforce_policies(false).unwrap();
        ground.run("unenforced", &image, &probe(&targets)).await;
        let without = ground.end("unenforced").await.1;
        cluster.enforce_policies(true).unwrap();
        assert_eq!(without, open);
        ground.run("again", &image, &probe(&targets)).await;
        assert_eq!(ground.end("again").await.1, denied);
        ground.remove().await;
    })
    .unwrap();
}

#[test]
fn a_killed_container_is_started_again() {
    let lab = Lab::from_environment().unwrap();
    let image = lab.push(&ImageSource::busybox()).unwrap();
    lab.run(async {
        let cluster = lab.cluster("consumer").unwrap();
        let ground = Ground::new(&cluster, "killed").await;
        ground.run("victim", &image, "exec sleep 3600").await;
        ground.address("victim").await;
        cluster
            .kill_container(&ground.namespace, "victim", "main")
            .await
            .unwrap();
        let restarted = |pod: Option<&Pod>| {
            let status = pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref()?.first());
            status.is_some_and(|status| {
                let last = status
                    .last_state
                    .as_ref()
                    .and_then(|state| state.terminated.as_ref());
                status.restart_count == 1 && last.is_some_and(|last| last.exit_code == 137)
            })
        };
        within(await_condition(ground.pods(), "victim", restarted))
            .await
            .unwrap();
        let absent = cluster
            .kill_container(&ground.namespace, "victim", "sidecar")
            .await
            .unwrap_err();
        assert!(matches!(absent, LabError::Unknown { name, .. } if name == "sidecar"));
        ground.remove().await;
    })
    .unwrap();
}

#[test]
fn a_killed_component_comes_back_and_an_unplugged_cluster_is_out_of_reach() {
    let lab = Lab::from_environment().unwrap();
    lab.run(async {
        // The tests run side by side: this cluster is used by no other.
        let cluster = lab.cluster("provider-b").unwrap();
        let client = cluster.client().await.unwrap();
        let version = || tokio::time::timeout(Duration::from_secs(2), client.apiserver_version());
        assert!(version().await.unwrap().is_ok());
        cluster.disconnect().unwrap();
        let unplugged = version().await;
        cluster.connect().unwrap();
        assert!(
            unplugged.is_err() || unplugged.unwrap().is_err(),
            "an unplugged cluster does not answer"
        );
        within(async { while !version().await.is_ok_and(|answer| answer.is_ok()) {} }).await;

        cluster.kill("kube-scheduler").unwrap();
        cluster.start("kube-scheduler").unwrap();
        let unknown = cluster.kill("kube-nonsense").unwrap_err().to_string();
        assert!(
            unknown.contains("kube-apiserver"),
            "the error lists what there is: {unknown}"
        );
    })
    .unwrap();
}

#[test]
fn the_evm_node_keeps_its_chain_over_a_stop_and_hangs_when_frozen() {
    let lab = Lab::from_environment().unwrap();
    lab.run(async {
        let evm = lab.evm();
        let height = || async {
            let answer = evm.rpc("eth_blockNumber", json!([])).await?;
            Ok::<_, LabError>(
                u64::from_str_radix(answer.as_str().unwrap().trim_start_matches("0x"), 16).unwrap(),
            )
        };
        let account = evm.accounts()[0].address;
        let funds = evm
            .rpc("eth_getBalance", json!([account, "latest"]))
            .await
            .unwrap();
        assert_ne!(funds, json!("0x0"));
        evm.rpc("anvil_mine", json!(["0x5"])).await.unwrap();
        let before = height().await.unwrap();
        evm.stop().unwrap();
        assert!(height().await.is_err(), "a stopped node does not answer");
        evm.start().await.unwrap();
        assert!(
            height().await.unwrap() >= before,
            "the chain went on where it was"
        );

        evm.freeze().unwrap();
        let frozen = tokio::time::timeout(Duration::from_secs(1), height()).await;
        evm.thaw().unwrap();
        assert!(frozen.is_err(), "a frozen node accepts and says nothing");
        assert!(height().await.unwrap() >= before);
    })
    .unwrap();
}

#[test]
fn kubectl_and_helm_work_inside() {
    let lab = Lab::from_environment().unwrap();
    let chart = tempfile::tempdir().unwrap();
    std::fs::create_dir(chart.path().join("templates")).unwrap();
    std::fs::write(
        chart.path().join("Chart.yaml"),
        "{apiVersion: v2, name: note, version: 0.1.0}",
    )
    .unwrap();
    std::fs::write(
        chart.path().join("templates/note.yaml"),
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: note}, data: {text: '{{ .Values.text }}'}}",
    )
    .unwrap();
    lab.run(async {
        let cluster = lab.cluster("provider-a").unwrap();
        for text in ["first", "second"] {
            cluster
                .helm_install("note", "notes", chart.path(), &json!({"text": text}))
                .await
                .unwrap();
            let read = [
                "get",
                "configmap",
                "note",
                "--namespace",
                "notes",
                "--output",
                "jsonpath={.data.text}",
            ];
            assert_eq!(cluster.kubectl(&read).await.unwrap(), text);
        }
        cluster.helm_uninstall("note", "notes").await.unwrap();
        let gone = cluster
            .kubectl(&["get", "configmap", "note", "--namespace", "notes"])
            .await
            .unwrap_err();
        assert!(gone.to_string().contains("not found"), "{gone}");
    })
    .unwrap();
}

#[test]
fn attaching_does_not_change_what_runs() {
    let lab = Lab::from_environment().unwrap();
    assert_eq!(lab.phase().unwrap(), Phase::Up);
    let names: Vec<String> = lab
        .clusters()
        .unwrap()
        .iter()
        .map(|cluster| cluster.name().to_owned())
        .collect();
    assert_eq!(names[..2], ["consumer", "provider-a"]);
    let unknown = lab.cluster("provider-z").unwrap_err().to_string();
    assert!(unknown.contains("it has: consumer, provider-a"), "{unknown}");
}
