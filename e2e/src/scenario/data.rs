//! Where a job's files come from and go to: a volume, the web, an earlier job of the namespace; and what is refused.

use std::fs;
use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tradewind_crds::condition::ConditionStatus::False;
use tradewind_crds::job_status::JobCondition;

use crate::market::{Market, MarketError};

use super::ScenarioError;
use super::books::{self, require};
use super::job::{Job, JobSpec};

const PAGE: &[u8] = b"from the web";
/// What `b3sum` prints of the page.
const PAGE_DIGEST: &str = "blake3:75641146594f7a9727b1e925d7e1ae74687ea7651a68d798706eca153616f6d2";
const FOREIGN: &str = "blake3:0000000000000000000000000000000000000000000000000000000000000000";

/// A job takes files from a volume and from the web and puts its results on the volume; the next one uses what the
/// first stored, and delivers into a ConfigMap. What is not the namespace's own is refused by name.
pub(super) async fn files_come_and_go(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let host = market.lab().registry();
    let host = host.split(':').next().unwrap_or_default();
    let listener = TcpListener::bind((host, 0))
        .await
        .map_err(|error| not_served(&error))?;
    let address = listener.local_addr().map_err(|error| not_served(&error))?;
    tokio::select! {
        gone = come_and_go(market, namespace, address) => gone,
        served = serve(listener) => served.map_err(|error| not_served(&error)),
    }
}

async fn come_and_go(market: &Market<'_>, namespace: &str, web: SocketAddr) -> Result<(), ScenarioError> {
    let page = json!({"name": "page", "url": format!("http://{web}/page.txt"), "digest": PAGE_DIGEST});
    let first = JobSpec {
        completions: 2,
        slice: 1,
        script: "cat /in/stuff/part /in/page/page.txt >/out/result; exit $JOB_COMPLETION_INDEX".to_owned(),
        inputs: vec![
            json!({"name": "stuff", "persistentVolumeClaim": {"claimName": "files", "subPath": "stuff"}}),
            page,
        ],
        outputs: json!({"persistentVolumeClaim": {"claimName": "files", "subPath": "results/first"}}),
        ..JobSpec::default()
    };
    let mut job = Job::apply(market, namespace, &first).await?;
    let found = job
        .until(JobCondition::Accepted, False, Some("SourceNotAllowed"))
        .await?;
    require(
        found
            .message
            .contains("kubectl create rolebinding tradewind-mover"),
        || format!("`{}` says how to let movers in", found.message),
    )?;
    let folder = market.make_claim(namespace, "files").await?;
    let stuff = folder.join("stuff");
    fs::create_dir_all(&stuff)
        .and_then(|()| fs::write(stuff.join("part"), "from a volume, "))
        .map_err(|error| not_served(&error))?;
    // Movers live under what a careful owner asks of all pods.
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    market
        .consumer()?
        .kubectl(&["label", "namespace", namespace, restricted])
        .await?;
    market.allow_movers(namespace).await?;

    job.complete().await?;
    for unit in ["0", "1"] {
        let result = folder.join("results/first").join(unit).join("result");
        let text = fs::read_to_string(&result).map_err(|error| not_served(&error))?;
        require(text == "from a volume, from the web", || {
            format!("unit {unit} wrote `{text}`")
        })?;
    }
    books::add_up(&books::of(market, &job.id()).await?)?;
    no_movers_stay(market, namespace).await?;
    let blob = job.stored_input(0)?;

    let gateway = market.gateway()?;
    let private = json!({"name": "page", "url": format!("{gateway}/openapi.json"), "digest": PAGE_DIGEST});
    let foreign = json!({"name": "stuff", "blob": FOREIGN});
    for (name, input, says) in [
        ("private", private, "not public"),
        ("foreign", foreign, "no job of this namespace"),
    ] {
        let spec = JobSpec {
            name,
            inputs: vec![input],
            ..JobSpec::default()
        };
        let mut job = Job::apply(market, namespace, &spec).await?;
        let found = job
            .until(JobCondition::Accepted, False, Some("SourceNotAllowed"))
            .await?;
        require(found.message.contains(says), || {
            format!("`{}` says `{says}`", found.message)
        })?;
        job.delete().await?;
    }

    let second = JobSpec {
        name: "second",
        completions: 2,
        slice: 1,
        script: "cat /in/stuff/part >/out/result".to_owned(),
        inputs: vec![json!({"name": "stuff", "blob": blob})],
        outputs: json!({"configMap": {"name": "results"}}),
        ..JobSpec::default()
    };
    Job::apply(market, namespace, &second).await?.complete().await?;
    let results: ConfigMap = Api::namespaced(market.consumer()?.client().await?, namespace)
        .get("results")
        .await
        .map_err(MarketError::kubernetes("get the results"))?;
    let results = results.binary_data.unwrap_or_default();
    let text = results
        .get("1.result")
        .map(|bytes| bytes.0.clone())
        .unwrap_or_default();
    require(text == b"from a volume, ", || {
        "the second job read what the first stored".to_owned()
    })
}

/// Movers, and the Secrets that go with them, are gone when the job is over.
async fn no_movers_stay(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let pods: Api<Pod> = Api::namespaced(market.consumer()?.client().await?, namespace);
    let movers = ListParams::default().labels("tradewind.dev/part=mover");
    let gone = async {
        loop {
            let left = pods
                .list(&movers)
                .await
                .map_err(MarketError::kubernetes("list the movers"))?;
            if left.items.is_empty() {
                return Ok::<(), ScenarioError>(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    };
    let late = |_| ScenarioError::NotSo("the movers go within a minute".to_owned());
    tokio::time::timeout(std::time::Duration::from_mins(1), gone)
        .await
        .map_err(late)?
}

/// Answers everyone with the page.
async fn serve(listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut request = [0; 4096];
        let _asked = stream.read(&mut request).await?;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            PAGE.len()
        );
        stream.write_all(&[head.as_bytes(), PAGE].concat()).await?;
    }
}

fn not_served(error: &std::io::Error) -> ScenarioError {
    ScenarioError::NotSo(format!("files can be served and read: {error}"))
}
