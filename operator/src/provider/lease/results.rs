//! What slice pods left behind: their phases, and the reports that they stored.
//!
//! Only `collect`'s message is read: the program beside it can write what it likes into its own.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use tradewind_gateway_api::{
    client::{Download, GatewayClient},
    seal::{OpeningKey, open_bytes},
    slice::{REPORT_BYTES_MAX, ReportRef, SliceReport, TerminationMessage},
};
use tradewind_market::{JobId, SliceIndex, UnixSeconds, geometry::UnitRange, message::AbstainReason};

use super::pod::{ATTEMPT_LABEL, SERIES_LABEL, SLICE_LABEL};

/// What sealing adds, with room to spare.
const SEALED_REPORT_BYTES_MAX: u64 = REPORT_BYTES_MAX + (1 << 20);

/// A slice pod as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlicePodState {
    pub(crate) name: String,
    pub(crate) slice: SliceIndex,
    pub(crate) attempt: u32,
    /// The namespace that it is in.
    pub(crate) namespace: String,
    /// Series of the offer whose slot it takes.
    pub(crate) series: u32,
    pub(crate) created: UnixSeconds,
    /// When its last container ended; the time of its creation where that is not told.
    pub(crate) finished: UnixSeconds,
    /// Whether it is being deleted already.
    pub(crate) leaving: bool,
    pub(crate) end: PodEnd,
}

/// How a slice pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PodEnd {
    /// Not yet on a node, or its images are being pulled.
    Waiting,
    /// At work.
    Running,
    /// `collect` said how it ended.
    Said(TerminationMessage),
    /// The job's image cannot be had.
    NoImage(String),
    /// Ended without a word of `collect`.
    Lost {
        /// Whether the kubelet ended it at its deadline.
        deadline: bool,
    },
}

/// Reads a pod; `None` if its labels are not a slice pod's.
pub(crate) fn read(pod: &Pod) -> Option<SlicePodState> {
    let label = |key: &str| pod.metadata.labels.as_ref()?.get(key)?.parse::<u32>().ok();
    let seconds = |time: Timestamp| UnixSeconds::new(u64::try_from(time.as_second()).unwrap_or_default());
    let created = pod
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Some(SlicePodState {
        name: pod.metadata.name.clone()?,
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        series: label(SERIES_LABEL)?,
        finished: seconds(finished(pod).unwrap_or(created)),
        leaving: pod.metadata.deletion_timestamp.is_some(),
        slice: SliceIndex::new(label(SLICE_LABEL)?),
        attempt: label(ATTEMPT_LABEL)?,
        created: seconds(created),
        end: end(pod),
    })
}

fn finished(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let containers = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten();
    containers
        .filter_map(|status| {
            Some(
                status
                    .state
                    .as_ref()?
                    .terminated
                    .as_ref()?
                    .finished_at
                    .as_ref()?
                    .0,
            )
        })
        .max()
}

fn end(pod: &Pod) -> PodEnd {
    let Some(status) = &pod.status else {
        return PodEnd::Waiting;
    };
    let collect = find(status.init_container_statuses.as_deref(), "collect");
    let ended = |container: &ContainerStatus| {
        let seen = [container.state.as_ref(), container.last_state.as_ref()];
        seen.into_iter()
            .flatten()
            .find_map(|state| state.terminated.as_ref()?.message.clone())
    };
    if let Some(message) = collect
        .and_then(ended)
        .and_then(|text| TerminationMessage::from_text(&text).ok())
    {
        return PodEnd::Said(message);
    }
    match status.phase.as_deref() {
        Some("Succeeded") => PodEnd::Lost { deadline: false },
        Some("Failed") => PodEnd::Lost {
            deadline: status.reason.as_deref() == Some("DeadlineExceeded"),
        },
        Some("Running") => PodEnd::Running,
        _ => {
            let run = find(status.container_statuses.as_deref(), "run");
            let waiting = run.and_then(|run| run.state.as_ref()?.waiting.as_ref());
            match waiting.and_then(|waiting| Some((waiting.reason.as_deref()?, waiting.message.clone()))) {
                Some((
                    "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "CreateContainerConfigError",
                    message,
                )) => PodEnd::NoImage(message.unwrap_or_default()),
                _ => PodEnd::Waiting,
            }
        }
    }
}

fn find<'a>(statuses: Option<&'a [ContainerStatus]>, name: &str) -> Option<&'a ContainerStatus> {
    statuses
        .unwrap_or_default()
        .iter()
        .find(|status| status.name == name)
}

/// Why a report cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// No gateway gives it at the moment.
    #[error(transparent)]
    Gateway(#[from] tradewind_gateway_api::client::ClientError),
    /// It is not what the pod said that it is.
    #[error("the report is not the slice's: {0}")]
    NotTheSlices(String),
}

/// Fetches and opens a slice's report, and checks that it is about the slice's units, all of them, in order.
pub(crate) async fn fetch_report(
    gateways: &GatewayClient,
    key: &OpeningKey,
    job: JobId,
    units: UnitRange,
    at: ReportRef,
) -> Result<SliceReport, ReportError> {
    let not = |error: &dyn std::fmt::Display| ReportError::NotTheSlices(error.to_string());
    let sealed = gateways
        .get_bytes(Download {
            digest: at.blob,
            bytes_max: SEALED_REPORT_BYTES_MAX,
        })
        .await?;
    let plaintext = open_bytes(key, &sealed, REPORT_BYTES_MAX).map_err(|error| not(&error))?;
    if tradewind_result::ContentDigest::of(&plaintext) != at.digest {
        return Err(not(&"its digest is another"));
    }
    let report: SliceReport = serde_json::from_slice(&plaintext).map_err(|error| not(&error))?;
    let wanted = units.iter();
    let found = report.units.iter().map(|unit| unit.unit);
    if report.job != job || !wanted.eq(found) {
        return Err(not(&"it is about other units"));
    }
    Ok(report)
}

/// The reason that a message gives, as the protocol numbers it.
pub(crate) fn abstain_reason(message: &TerminationMessage) -> Option<AbstainReason> {
    AbstainReason::from_number(message.abstain.as_ref()?.cause.reason_code())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SAID: &str =
        r#"{"firstUnit":0,"units":0,"failed":0,"abstain":{"cause":"TimeLimit","unit":3,"detail":"60 s"}}"#;

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {SLICE_LABEL: "7", ATTEMPT_LABEL: "2", SERIES_LABEL: "9"}},
            "status": status,
        }))
        .unwrap()
    }

    fn container(name: &str, state: &Value) -> Value {
        json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
    }

    fn check(status: &Value, want: &PodEnd) {
        assert_eq!(&read(&pod(status)).unwrap().end, want, "{status}");
    }

    #[test]
    fn only_collect_is_believed() {
        let ended = json!({"terminated": {"exitCode": 0, "message": SAID}});
        let said = TerminationMessage::from_text(SAID).unwrap();
        check(
            &json!({"phase": "Succeeded", "initContainerStatuses": [container("collect", &ended)]}),
            &PodEnd::Said(said),
        );
        check(
            &json!({"phase": "Succeeded", "containerStatuses": [container("run", &ended)]}),
            &PodEnd::Lost { deadline: false },
        );
    }

    #[test]
    fn a_pod_that_ends_without_a_word_is_lost() {
        check(
            &json!({"phase": "Failed", "reason": "DeadlineExceeded"}),
            &PodEnd::Lost { deadline: true },
        );
        check(
            &json!({"phase": "Failed", "reason": "Evicted"}),
            &PodEnd::Lost { deadline: false },
        );
        check(&json!({"phase": "Running"}), &PodEnd::Running);
        check(&json!({"phase": "Pending"}), &PodEnd::Waiting);
    }

    #[test]
    fn an_image_that_cannot_be_had_is_told_from_waiting() {
        let waiting = |reason: &str| json!({"waiting": {"reason": reason, "message": "why"}});
        let status = |reason: &str| json!({"phase": "Pending", "containerStatuses": [container("run", &waiting(reason))]});
        check(&status("ImagePullBackOff"), &PodEnd::NoImage("why".to_owned()));
        check(&status("PodInitializing"), &PodEnd::Waiting);
    }

    #[test]
    fn a_pod_without_our_labels_is_none_of_ours() {
        assert_eq!(read(&Pod::default()), None);
    }
}
