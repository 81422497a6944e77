//! Mover pods: they run in a job's own namespace and move what is too large for an object of the API, between volumes
//! and gateways. What the program inside does, and why it may hold what it holds, stands in `operator/pod`'s `mover`.
//!
//! A pod is named by job, errand and attempt, so that creating it twice creates it once, and its Secret goes with it. How
//! an errand stands is read off the pods alone; nothing is remembered. The right to make them is given namespace by
//! namespace ([`super::rights`]).

use std::{fmt, path::PathBuf};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ContainerStatus, Pod, Secret},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use serde_json::{Value, json};
use tradewind_crds::ComputeJob;
use tradewind_gateway_api::mover::{
    CLAIM_PATH, MOVE_VERB, MoverCause, MoverReport, MoverTask, PASSAGE_PATH, ROOTS_KEY, TASK_KEY, TASK_PATH,
};
use tradewind_market::{Seconds, UnixSeconds};

use super::{
    rights::{Right, Rights},
    sources::RunAs,
};
use crate::args::Args;

/// Which part of the product the pod is.
const PART_LABEL: (&str, &str) = ("tradewind.dev/part", "mover");
/// Holds the job's UID: what a job's movers are found by.
const JOB_LABEL: &str = "tradewind.dev/job-uid";
/// Holds [`Errand`].
const ERRAND_LABEL: &str = "tradewind.dev/errand";
/// Holds the attempt, from 1.
const ATTEMPT_LABEL: &str = "tradewind.dev/attempt";

/// How long a mover may take, waiting for its volume included: some hundred gigabytes on a slow line.
pub(crate) const MOVER_SECONDS_MAX: u64 = 6 * 3600;
/// Between failing attempts; doubled each time.
const RETRY_SECONDS: u64 = 10;
const RETRY_SECONDS_MAX: u64 = 600;
/// A pod that has not started by then may never have been given its task.
const TASK_SECONDS: u64 = 10;

/// Why nothing can be said of a job's movers, or nothing done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MoverError {
    /// The operator has no right to.
    #[error("the operator may not run mover pods in this namespace: {command}")]
    Forbidden {
        /// What gives it the right.
        command: String,
    },
    /// The API server did not take it, or did not answer.
    #[error("mover pods could not be {what}: {source}")]
    Api {
        /// What was to be done with them.
        what: &'static str,
        /// Why.
        source: kube::Error,
    },
    /// The pod or its task cannot be written.
    #[error("a mover's task cannot be written")]
    Document(#[from] serde_json::Error),
    /// The certificates that a mover is to trust cannot be read.
    #[error("the certificates in {} cannot be read", path.display())]
    Roots {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// One thing that a job's mover does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// The input of this place in the job's list.
    In(usize),
    /// The results of this batch of groups.
    Out(u32),
}

impl fmt::Display for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In(place) => write!(f, "in-{place}"),
            Self::Out(batch) => write!(f, "out-{batch}"),
        }
    }
}

/// The claim that a mover mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Its name.
    pub(crate) claim: String,
    /// Whether it is only read.
    pub(crate) read_only: bool,
    /// As whom.
    pub(crate) run_as: RunAs,
}

/// How an errand stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Standing {
    /// It is done.
    Done(MoverReport),
    /// A pod is at it, or waits to be, for what is said.
    UnderWay(String),
    /// A pod waits, perhaps for its task.
    Untold(Box<Pod>),
    /// A pod is to be made, as this attempt.
    Due(u32),
    /// It failed, and is tried again later.
    Failed(Option<MoverCause>, String),
}

/// How the errand stands at `now`, by the newest of its pods.
pub(crate) fn standing(pods: &[Pod], errand: Errand, now: UnixSeconds) -> Standing {
    let errand = errand.to_string();
    let of = |pod: &&Pod| pod.labels().get(ERRAND_LABEL) == Some(&errand);
    let Some(pod) = pods.iter().filter(of).max_by_key(|pod| attempt(pod)) else {
        return Standing::Due(1);
    };
    let status = pod.status.clone().unwrap_or_default();
    let container = status.container_statuses.iter().flatten().next();
    let terminated = container.and_then(|container| container.state.as_ref()?.terminated.as_ref());
    let report = terminated
        .and_then(|terminated| terminated.message.as_deref())
        .and_then(|text| MoverReport::from_text(text).ok());
    match (status.phase.as_deref(), report) {
        (Some("Succeeded"), Some(report @ (MoverReport::Exported { .. } | MoverReport::Imported { .. }))) => {
            Standing::Done(report)
        }
        (Some("Succeeded" | "Failed"), report) => {
            let attempt = attempt(pod);
            let ended = terminated.and_then(|terminated| terminated.finished_at.as_ref());
            let ended = ended.or(pod.metadata.creation_timestamp.as_ref());
            let ended = ended.map_or(0, |time| seconds(time.0.as_second()));
            if now >= UnixSeconds::new(ended).saturating_add(retry_after(attempt)) {
                return Standing::Due(attempt.saturating_add(1));
            }
            let (cause, what) = match report {
                Some(MoverReport::Failed { cause, detail }) => {
                    (Some(cause), format!("{detail}: {}", cause.remedy()))
                }
                Some(MoverReport::Exported { .. } | MoverReport::Imported { .. }) | None => (None, died(pod)),
            };
            Standing::Failed(
                cause,
                format!("{} (attempt {attempt}) failed: {what}", pod.name_any()),
            )
        }
        _ => waiting(pod, container, now),
    }
}

/// A pod that has not ended.
fn waiting(pod: &Pod, container: Option<&ContainerStatus>, now: UnixSeconds) -> Standing {
    let state = container.and_then(|container| container.state.as_ref());
    if state.is_some_and(|state| state.running.is_some()) {
        return Standing::UnderWay(format!("{} is at work", pod.name_any()));
    }
    let waits = state.and_then(|state| state.waiting.as_ref());
    let reason = waits.and_then(|waits| waits.reason.as_deref());
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let unscheduled = conditions
        .filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .find_map(|condition| condition.message.as_deref());
    let created = pod.metadata.creation_timestamp.as_ref();
    let created = UnixSeconds::new(created.map_or(0, |time| seconds(time.0.as_second())));
    if let Some(why) = unscheduled {
        return Standing::UnderWay(format!("{} waits for a node: {why}", pod.name_any()));
    }
    match reason {
        Some("ContainerCreating") | None if now > created.saturating_add(Seconds::new(TASK_SECONDS)) => {
            Standing::Untold(Box::new(pod.clone()))
        }
        Some("ContainerCreating") | None => Standing::UnderWay(format!("{} starts", pod.name_any())),
        Some(other) => {
            let message = waits
                .and_then(|waits| waits.message.as_deref())
                .unwrap_or_default();
            Standing::UnderWay(format!("{} waits: {other} {message}", pod.name_any()))
        }
    }
}

/// What is known of a pod that ended without a word.
fn died(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let reason = status.and_then(|status| status.reason.as_deref());
    let message = status.and_then(|status| status.message.as_deref());
    match (reason, message) {
        (None, None) => "it ended without saying why".to_owned(),
        (reason, message) => format!("{} {}", reason.unwrap_or_default(), message.unwrap_or_default()),
    }
}

fn seconds(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or(0)
}

fn retry_after(attempt: u32) -> Seconds {
    let doublings = attempt.saturating_sub(1).min(16);
    Seconds::new((RETRY_SECONDS << doublings).min(RETRY_SECONDS_MAX))
}

fn attempt(pod: &Pod) -> u32 {
    pod.labels()
        .get(ATTEMPT_LABEL)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// The movers of one job.
#[derive(Clone, Copy)]
pub(crate) struct Movers<'a> {
    /// The API server.
    pub(crate) client: &'a Client,
    /// The operator's settings.
    pub(crate) args: &'a Args,
    /// The job's namespace.
    pub(crate) namespace: &'a str,
    /// The job.
    pub(crate) object: &'a ComputeJob,
}

impl Movers<'_> {
    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// All pods of the job's errands.
    pub(crate) async fn observe(&self) -> Result<Vec<Pod>, MoverError> {
        let uid = self.object.uid().unwrap_or_default();
        let wanted = ListParams::default().labels(&format!("{JOB_LABEL}={uid}"));
        let is_ours = |pod: &Pod| {
            let owners = pod.owner_references();
            owners.iter().any(|owner| owner.uid == uid)
        };
        match self.pods().list(&wanted).await {
            Ok(found) => Ok(found.items.into_iter().filter(is_ours).collect()),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Err(MoverError::Forbidden {
                command: Rights::new(self.args).command(Right::Move, self.namespace),
            }),
            Err(source) => Err(MoverError::Api {
                what: "listed",
                source,
            }),
        }
    }

    /// Makes the pod of an attempt, gives it its task, and removes the pods of attempts before.
    pub(crate) async fn start(
        &self,
        pods: &[Pod],
        errand: Errand,
        attempt: u32,
        mount: Option<&Mount>,
        passage_bytes_max: u64,
        task: &MoverTask,
    ) -> Result<(), MoverError> {
        let pod = pod(self.args, self.object, errand, attempt, mount, passage_bytes_max)?;
        match self.pods().create(&PostParams::default(), &pod).await {
            Ok(created) => self.tell(&created, task).await?,
            // Another replica's: it is seen with the next look.
            Err(kube::Error::Api(status)) if status.is_already_exists() => return Ok(()),
            Err(source) => {
                return Err(MoverError::Api { what: "made", source });
            }
        }
        let label = errand.to_string();
        let of = |pod: &&Pod| pod.labels().get(ERRAND_LABEL) == Some(&label);
        self.remove(pods.iter().filter(of)).await
    }

    /// Gives a pod its task, or finds that it has it.
    pub(crate) async fn tell(&self, pod: &Pod, task: &MoverTask) -> Result<(), MoverError> {
        let mut data = vec![(TASK_KEY.to_owned(), ByteString(serde_json::to_vec(task)?))];
        if let Some(path) = &self.args.ca_file {
            let roots = tokio::fs::read(path).await.map_err(|source| MoverError::Roots {
                path: path.clone(),
                source,
            })?;
            data.push((ROOTS_KEY.to_owned(), ByteString(roots)));
        }
        let owner = OwnerReference {
            api_version: Pod::api_version(&()).into_owned(),
            kind: Pod::kind(&()).into_owned(),
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            ..OwnerReference::default()
        };
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(pod.name_any()),
                labels: Some([(PART_LABEL.0.to_owned(), PART_LABEL.1.to_owned())].into()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            immutable: Some(true),
            data: Some(data.into_iter().collect()),
            ..Secret::default()
        };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), self.namespace);
        match secrets.create(&PostParams::default(), &secret).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(source) => Err(MoverError::Api {
                what: "given their task",
                source,
            }),
        }
    }

    /// Removes pods, and with them their Secrets.
    pub(crate) async fn remove<'p>(&self, pods: impl Iterator<Item = &'p Pod>) -> Result<(), MoverError> {
        for pod in pods {
            match self
                .pods()
                .delete(&pod.name_any(), &DeleteParams::default())
                .await
            {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(source) => {
                    return Err(MoverError::Api {
                        what: "removed",
                        source,
                    });
                }
            }
        }
        Ok(())
    }
}

/// The pod, under pod security `restricted`, with nothing but its task, the claim and room for sealed bytes.
fn pod(
    args: &Args,
    object: &ComputeJob,
    errand: Errand,
    attempt: u32,
    mount: Option<&Mount>,
    passage_bytes_max: u64,
) -> Result<Pod, MoverError> {
    let uid = object.uid().unwrap_or_default();
    let job = object.name_any();
    let name = format!("{job}-{}-{errand}-{attempt}", uid.get(..8).unwrap_or(&uid));
    let run_as = mount.map_or_else(RunAs::default, |mount| mount.run_as);
    let mut security = json!({
        "runAsNonRoot": true,
        "runAsUser": run_as.user,
        "runAsGroup": run_as.group,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if mount.is_some_and(|mount| !mount.read_only) {
        security["fsGroup"] = json!(run_as.group);
        security["fsGroupChangePolicy"] = json!("OnRootMismatch");
    }
    let (volumes, mounts) = volumes(&name, mount, passage_bytes_max);
    let env = match &args.ca_file {
        Some(_) => json!([{"name": "SSL_CERT_FILE", "value": format!("{TASK_PATH}/{ROOTS_KEY}")}]),
        None => json!([]),
    };
    let pod = json!({
        "metadata": {
            "name": name,
            "labels": {
                "app.kubernetes.io/managed-by": "tradewind",
                PART_LABEL.0: PART_LABEL.1,
                JOB_LABEL: uid,
                ERRAND_LABEL: errand.to_string(),
                ATTEMPT_LABEL: attempt.to_string(),
            },
            "ownerReferences": [{
                "apiVersion": ComputeJob::api_version(&()),
                "kind": ComputeJob::kind(&()),
                "name": job,
                "uid": uid,
            }],
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 5,
            "activeDeadlineSeconds": MOVER_SECONDS_MAX,
            "securityContext": security,
            "volumes": volumes,
            "containers": [{
                "name": "mover",
                "image": args.pod_image,
                "args": [MOVE_VERB],
                "env": env,
                "resources": {
                    "requests": {"cpu": "50m", "memory": "64Mi"},
                    "limits": {"cpu": "2", "memory": "512Mi"},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "privileged": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": mounts,
            }],
        },
    });
    Ok(serde_json::from_value(pod)?)
}

/// The pod's volumes, and where its container sees them.
fn volumes(secret: &str, mount: Option<&Mount>, passage_bytes_max: u64) -> (Vec<Value>, Vec<Value>) {
    let mut volumes = vec![
        // The pod has one container: who can read there is the mover.
        json!({"name": "task", "secret": {"secretName": secret, "defaultMode": 0o444}}),
        json!({"name": "passage", "emptyDir": {"sizeLimit": passage_bytes_max.to_string()}}),
    ];
    let mut mounts = vec![
        json!({"name": "task", "mountPath": TASK_PATH, "readOnly": true}),
        json!({"name": "passage", "mountPath": PASSAGE_PATH}),
    ];
    if let Some(Mount { claim, read_only, .. }) = mount {
        volumes.push(json!({
            "name": "claim",
            "persistentVolumeClaim": {"claimName": claim, "readOnly": read_only},
        }));
        mounts.push(json!({"name": "claim", "mountPath": CLAIM_PATH, "readOnly": read_only}));
    }
    (volumes, mounts)
}

#[cfg(test)]
#[path = "movers_tests.rs"]
mod tests;
