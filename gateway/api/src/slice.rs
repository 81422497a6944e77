//! What the operator and the program inside its slice pods agree on: paths, names, and the three documents
//! that pass between them.
//!
//! Owns the shape of a slice pod's volumes, [`SliceConfig`] and [`LeaseGrant`] (operator to pod),
//! [`SliceReport`] and [`TerminationMessage`] (pod to operator). It never builds a pod and never runs
//! anything.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tradewind_market::{JobId, UnitIndex, Units};
use tradewind_result::{ChunkRoot, ContentDigest, Limits, Outcome, StoredUnit, UnitResult};
use zeroize::Zeroizing;

use crate::seal::Recipient;
use crate::template::Template;

/// Everything of ours that is mounted lies below it; images and templates may not use it.
pub const MOUNT_ROOT: &str = "/tradewind";
/// Where `fetch` and `collect` see the whole volume. `run` never mounts it.
pub const VOLUME_PATH: &str = "/tradewind/volume";
/// Where `fetch` and `collect` see the Secret with the [`LeaseGrant`]. `run` never mounts it.
pub const GRANT_PATH: &str = "/tradewind/grant";
/// The Secret's key, and so the file's name below [`GRANT_PATH`].
pub const GRANT_KEY: &str = "lease.json";
/// The Secret's key whose value the proxy variables of `run` hold, where a job may reach hosts: the relay's URL with a
/// host grant in it. `run` has this one alone, and what it lets it do is what the job was granted.
pub const PROXY_KEY: &str = "proxy";
/// Where `run` sees the program, read-only.
pub const BIN_PATH: &str = "/tradewind/bin";
/// What `run` executes, with the one argument `step`.
pub const STEP_PROGRAM: &str = "/tradewind/bin/tradewind-pod";
/// Where `run` sees the socket's directory, read-only: a socket there can be connected to, not replaced.
pub const CONTROL_PATH: &str = "/tradewind/control";
/// The socket's name below [`CONTROL_PATH`].
pub const CONTROL_SOCKET: &str = "collect.sock";
/// `HOME` of a unit.
pub const HOME_PATH: &str = "/tradewind/home";
/// `TMPDIR` of a unit.
pub const SCRATCH_PATH: &str = "/tmp";
/// Where inputs are, one directory each, read-only.
pub const INPUTS_PATH: &str = "/in";

/// Environment variable of `fetch` and `collect` that holds the [`SliceConfig`] as JSON.
pub const SLICE_VARIABLE: &str = "TRADEWIND_SLICE";

/// Subpath of [`BIN_PATH`] in the volume.
pub const BIN_SUBPATH: &str = "bin";
/// Subpath of [`CONTROL_PATH`] in the volume.
pub const CONTROL_SUBPATH: &str = "control";
/// Subpath of [`INPUTS_PATH`] in the volume.
pub const INPUTS_SUBPATH: &str = "in";
/// Subpath of the template's output path in the volume.
pub const OUTPUT_SUBPATH: &str = "out";
/// Subpath of [`HOME_PATH`] in the volume.
pub const HOME_SUBPATH: &str = "home";
/// Subpath of [`SCRATCH_PATH`] in the volume.
pub const SCRATCH_SUBPATH: &str = "tmp";

/// Subpath of the template's writable path of this index in the volume.
pub fn writable_subpath(index: usize) -> String {
    format!("writable-{index}")
}

/// How large the slice's volume may grow, for its `sizeLimit`: inputs sealed and opened, scratch, the output
/// being written, and sealed and unsealed outputs that are not yet stored.
pub fn volume_bytes(template: &Template) -> u64 {
    const PROGRAM_AND_JOURNAL_BYTES: u64 = 256 << 20;
    let inputs = template
        .inputs
        .iter()
        .fold(0_u64, |sum, input| sum.saturating_add(input.stored_bytes));
    let outputs = 1 + 2 * (PENDING_UNITS_MAX as u64 + 1);
    PROGRAM_AND_JOURNAL_BYTES
        .saturating_add(inputs.saturating_mul(2))
        .saturating_add(template.limits.scratch_bytes)
        .saturating_add(template.limits.output_bytes.saturating_mul(outputs))
}

/// Largest termination message, in bytes: the kubelet keeps no more.
pub const TERMINATION_BYTES_MAX: usize = 4096;
/// Largest slice report as plaintext: 64 Ki units of about 400 bytes.
pub const REPORT_BYTES_MAX: u64 = 32 << 20;
/// Bytes of a failed unit's stderr that are kept, from its end.
pub const STDERR_TAIL_BYTES: usize = 4096;
/// Units that are taken but not yet stored before the next has to wait. Bounds the disk that a slice needs.
pub const PENDING_UNITS_MAX: usize = 2;
/// Most files and bytes of one input.
pub const INPUT_LIMITS: Limits = Limits {
    files: 100_000,
    bytes: 1 << 40,
};
/// How often one unit is started before its slice abstains: a container that died may have been unlucky
/// once.
pub const UNIT_ATTEMPTS_MAX: u32 = 3;

/// A text that `Debug` does not show and that is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Keeps `text`.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Shows it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

impl Serialize for SecretText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// Which slice this pod runs. Not secret: it stands in the pod's environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SliceConfig {
    /// The job on chain.
    pub job: JobId,
    /// The slice's first unit.
    pub first_unit: UnitIndex,
    /// How many units from there on.
    pub units: Units,
    /// Which pod for this slice this is, from 1.
    pub attempt: u32,
    /// Addresses that a pod must not reach, the API server's first. Reaching one ends the slice.
    pub canaries: Vec<SocketAddr>,
    /// How long `fetch` tries before the slice abstains for want of inputs.
    pub fetch_seconds_max: u32,
    /// How long `collect` tries to store what it has before the slice abstains for want of storage.
    pub store_seconds_max: u32,
}

impl SliceConfig {
    /// The unit after the slice's last, or `None` if it does not fit.
    pub fn end_unit(&self) -> Option<u32> {
        self.first_unit.get().checked_add(self.units.get())
    }
}

/// What a lease's pods need to fetch, open and store. Secret: mounted into `fetch` and `collect` only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LeaseGrant {
    /// The relay's base URL, by address: there is no DNS in the pod.
    pub relay: String,
    /// Bearer token (a storage grant) for what the pod stores through the relay.
    pub token: SecretText,
    /// The job's key, `AGE-SECRET-KEY-1…`: opens template and inputs.
    pub job_key: SecretText,
    /// Where the template is and what it must be.
    pub template: TemplateRef,
    /// Whom the slice report is sealed to: the provider.
    pub report_recipient: Recipient,
}

/// Where the template is stored and what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TemplateRef {
    /// Address: BLAKE3 of the bytes as stored.
    pub blob: ContentDigest,
    /// BLAKE3 of the plaintext, as fixed on chain.
    pub digest: ContentDigest,
}

/// One finished unit in a [`SliceReport`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct UnitReport {
    /// The unit's index within its job.
    pub unit: UnitIndex,
    /// How its program ended.
    pub outcome: Outcome,
    /// Digest of the manifest of what it wrote.
    pub manifest_digest: ContentDigest,
    /// Address of its output blob: BLAKE3 of the bytes as stored.
    pub blob: ContentDigest,
    /// Length of the bytes as stored.
    pub stored_bytes: u64,
    /// Root over the stored bytes' chunks.
    pub chunk_root: ChunkRoot,
    /// How long it ran, in milliseconds, as `collect` saw it.
    pub millis: u64,
}

impl UnitReport {
    /// What goes into the result roots.
    pub fn result(&self) -> UnitResult {
        UnitResult {
            unit: self.unit.get(),
            outcome: self.outcome,
            digest: self.manifest_digest,
        }
    }

    /// What goes into the storage root.
    pub fn stored(&self) -> StoredUnit {
        StoredUnit {
            unit: self.unit.get(),
            address: self.blob,
            length: self.stored_bytes,
            chunk_root: self.chunk_root,
        }
    }
}

/// What a slice's units came to. Sealed to the provider alone: nobody may copy digests before the reveal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SliceReport {
    /// The job on chain.
    pub job: JobId,
    /// The slice's units, ascending, none missing.
    pub units: Vec<UnitReport>,
}

/// What goes with a unit's output, as the note of its archive (JSON): what its digest does not cover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OutputNote {
    /// The unit's index within its job.
    pub unit: UnitIndex,
    /// How its program ended.
    pub outcome: Outcome,
    /// The end of a failed unit's stderr, at most [`STDERR_TAIL_BYTES`], with replacement characters where it
    /// was not UTF-8; empty where it succeeded.
    pub stderr_tail: String,
}

/// Why a slice ended without a result for each of its units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AbstainCause {
    /// An input cannot be had, or is not what its digest says.
    Inputs,
    /// The job's key does not open what it should.
    Key,
    /// The template cannot be had, breaks a rule, or is not what the chain says.
    TemplateMismatch,
    /// A unit reached its time limit.
    TimeLimit,
    /// A unit was ended for want of memory, on every attempt.
    OutOfMemory,
    /// A unit wrote more than it may, or what no result may hold (links, devices).
    OutputLimit,
    /// A unit used more scratch space or files than it may.
    ScratchLimit,
    /// A unit had more processes than it may.
    ProcessLimit,
    /// A unit left something in the pod that cannot be cleared, which the next could read.
    Leftovers,
    /// The node's disk is full, through no fault of the unit.
    OutOfDisk,
    /// The container died while a unit ran, on every attempt, and nobody knows why.
    Interrupted,
    /// A unit could not be started or ended for reasons of this node.
    Node,
    /// The pod could reach what it must not.
    NotIsolated,
    /// Results could not be stored in time.
    Storage,
}

impl AbstainCause {
    /// The reason's number in a signed abstention (PROTOCOL.md, section 8).
    pub fn reason_code(self) -> u8 {
        match self {
            Self::Inputs => 1,
            Self::Key => 3,
            Self::TemplateMismatch => 4,
            Self::TimeLimit => 5,
            Self::OutOfMemory => 6,
            Self::OutputLimit => 7,
            Self::OutOfDisk | Self::Node => 8,
            Self::Interrupted => 9,
            Self::Storage => 10,
            Self::ScratchLimit | Self::ProcessLimit | Self::Leftovers | Self::NotIsolated => 255,
        }
    }
}

/// Why and where a slice gave up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Abstention {
    /// Why.
    pub cause: AbstainCause,
    /// The unit it happened in, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitIndex>,
    /// For people: what exactly, in at most 512 bytes.
    pub detail: String,
}

impl Abstention {
    const DETAIL_BYTES_MAX: usize = 512;

    /// An abstention; `detail` is cut to what a termination message has room for.
    pub fn new(cause: AbstainCause, unit: Option<UnitIndex>, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        detail.truncate(detail.floor_char_boundary(Self::DETAIL_BYTES_MAX));
        Self { cause, unit, detail }
    }
}

/// Where a slice's report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ReportRef {
    /// Address: BLAKE3 of the bytes as stored.
    pub blob: ContentDigest,
    /// Length of the bytes as stored.
    pub stored_bytes: u64,
    /// BLAKE3 of the plaintext.
    pub digest: ContentDigest,
}

/// What `collect` leaves behind for the operator to read. `run`'s own message is a stranger's and says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TerminationMessage {
    /// The slice's first unit.
    pub first_unit: UnitIndex,
    /// Units that are finished and stored.
    pub units: Units,
    /// Of these, how many did not exit with 0.
    pub failed: Units,
    /// Where the report is; only if every unit of the slice is finished and stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportRef>,
    /// Why there is no report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abstain: Option<Abstention>,
}

/// Why a text is no termination message of `collect`.
#[derive(Debug, thiserror::Error)]
pub enum TerminationError {
    /// It is not the expected JSON, or larger than the kubelet keeps.
    #[error("not a termination message")]
    Json(#[from] serde_json::Error),
    /// It has neither report nor abstention, or both.
    #[error("a termination message has either a report or an abstention")]
    Neither,
    /// Larger than [`TERMINATION_BYTES_MAX`].
    #[error("a termination message of {bytes} bytes")]
    Size {
        /// How large it is.
        bytes: usize,
    },
}

impl TerminationMessage {
    /// The JSON text.
    pub fn to_text(&self) -> Result<String, TerminationError> {
        let text = serde_json::to_string(self)?;
        if text.len() > TERMINATION_BYTES_MAX {
            return Err(TerminationError::Size { bytes: text.len() });
        }
        Ok(text)
    }

    /// From the text in the container's status.
    pub fn from_text(text: &str) -> Result<Self, TerminationError> {
        if text.len() > TERMINATION_BYTES_MAX {
            return Err(TerminationError::Size { bytes: text.len() });
        }
        let message: Self = serde_json::from_str(text)?;
        if message.report.is_some() == message.abstain.is_some() {
            return Err(TerminationError::Neither);
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_message_fits_the_kubelets_limit_and_comes_back() {
        let abstain = Abstention::new(
            AbstainCause::TemplateMismatch,
            Some(UnitIndex::new(u32::MAX)),
            // Control characters are what JSON makes longest.
            "\u{1}".repeat(10_000),
        );
        let message = TerminationMessage {
            first_unit: UnitIndex::new(u32::MAX),
            units: Units::new(u32::MAX),
            failed: Units::new(u32::MAX),
            report: None,
            abstain: Some(abstain),
        };
        let text = message.to_text().unwrap();
        assert_eq!(TerminationMessage::from_text(&text).unwrap(), message);
        let cut = Abstention::new(AbstainCause::Node, None, "ü".repeat(300));
        assert!(cut.detail.len() <= 512);
    }

    #[test]
    fn a_message_says_exactly_one_thing() {
        let neither = r#"{"firstUnit":0,"units":0,"failed":0}"#;
        assert!(matches!(
            TerminationMessage::from_text(neither),
            Err(TerminationError::Neither)
        ));
        assert!(matches!(
            TerminationMessage::from_text("Error: boom"),
            Err(TerminationError::Json(_))
        ));
    }

    #[test]
    fn secrets_are_not_shown_by_accident() {
        assert!(!format!("{:?}", SecretText::new("AGE-SECRET-KEY-1".into())).contains("AGE"));
    }
}
