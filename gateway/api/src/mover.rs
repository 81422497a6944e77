//! What the operator tells a mover pod, and what the mover says at its end.
//!
//! A mover runs in a job's own namespace and moves more bytes than an object of the API holds: results to a volume, or
//! an input from a volume, from the web or from an earlier job to the gateways. Its task stands in a Secret that goes
//! with the pod. It holds nothing but what the job's author may see anyway: the key to this one job's results, the key
//! to one earlier input of the same namespace, or leave to store one input.

use serde::{Deserialize, Serialize};
use tradewind_market::{Address, Hash32, JobId, RoundId, UnitSet, Units, UnixSeconds, geometry::UnitRange};
use tradewind_result::{ContentDigest, Limits};

use crate::{
    seal::Recipient,
    slice::{SecretText, TERMINATION_BYTES_MAX},
};

/// The program's verb.
pub const MOVE_VERB: &str = "move";
/// Where the Secret is mounted.
pub const TASK_PATH: &str = "/tradewind/task";
/// Its key with the task.
pub const TASK_KEY: &str = "task.json";
/// Its key with the certificates to trust for https; there only where the operator has some.
pub const ROOTS_KEY: &str = "ca.crt";
/// Where the claim's volume is mounted.
pub const CLAIM_PATH: &str = "/tradewind/claim";
/// Where sealed bytes lie on their way.
pub const PASSAGE_PATH: &str = "/tradewind/passage";

/// What a mover does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum MoverTask {
    /// Brings results to the mounted volume.
    Export(ExportTask),
    /// Brings an input to the gateways.
    Import(ImportTask),
}

/// Results to be brought to the mounted volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ExportTask {
    /// Base URLs of the gateways.
    pub gateways: Vec<String>,
    /// The job on chain.
    pub job: JobId,
    /// Opens the job's outputs and nothing else, `AGE-SECRET-KEY-1…`.
    pub output_key: SecretText,
    /// The job's salt.
    pub salt: Hash32,
    /// What one unit may have written.
    pub limits: Limits,
    /// Directory in the volume; its root where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<String>,
    /// The groups, in ascending order.
    pub groups: Vec<ExportGroup>,
}

/// One agreed group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ExportGroup {
    /// Its round.
    pub round: RoundId,
    /// Its units.
    pub units: UnitRange,
    /// What was agreed on.
    pub root: Hash32,
    /// Who stored it, in the order in which they are asked.
    pub providers: Vec<Address>,
}

/// One input to be brought to the gateways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ImportTask {
    /// Base URLs of the gateways.
    pub gateways: Vec<String>,
    /// Bearer token (a storage grant) for this input.
    pub token: SecretText,
    /// Whom it is sealed to: the job's seats.
    pub reader: Recipient,
    /// Until when it is to be kept.
    pub retain_until: UnixSeconds,
    /// What it may hold.
    pub limits: Limits,
    /// Where it comes from.
    pub source: ImportSource,
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum ImportSource {
    /// The mounted volume.
    Claim {
        /// Directory in it; its root where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sub_path: Option<String>,
    },
    /// A file on the web.
    Web {
        /// Where.
        url: String,
        /// BLAKE3 of the file.
        digest: ContentDigest,
        /// Hosts that may have an address that is not public, as `host` or `host:port`.
        hosts: Vec<String>,
    },
    /// An input that an earlier job of the namespace stored.
    Blob {
        /// Address of the sealed bytes.
        blob: ContentDigest,
        /// Their length.
        stored_bytes: u64,
        /// What is in them.
        manifest_digest: ContentDigest,
        /// The earlier job's key, `AGE-SECRET-KEY-1…`.
        key: SecretText,
    },
}

/// What the mover did, or why it did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum MoverReport {
    /// All groups are on the volume.
    Exported {
        /// How many units.
        units: Units,
        /// Those that exited with a code other than 0; the first of them where the message has no room for all.
        exited_badly: UnitSet,
    },
    /// The input is on a gateway.
    Imported {
        /// Address: BLAKE3 of the bytes as stored.
        blob: ContentDigest,
        /// Length of the bytes as stored.
        stored_bytes: u64,
        /// Digest of the directory's manifest.
        manifest_digest: ContentDigest,
    },
    /// Neither.
    Failed {
        /// Why.
        cause: MoverCause,
        /// For people: what exactly.
        detail: String,
    },
}

/// Why a mover could not do its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MoverCause {
    /// The volume is full.
    VolumeFull,
    /// The volume is mounted read-only.
    VolumeReadOnly,
    /// The mover's user may not read or write there.
    VolumeDenied,
    /// The volume holds something else where results would go.
    Occupied,
    /// A path in the volume leads through a link, or is no directory.
    PathRefused,
    /// What is to be moved is not there.
    Missing,
    /// What is to be moved holds what no input may hold: links, devices, names that no other system takes.
    ContentRefused,
    /// It is more than may be moved.
    TooLarge,
    /// It is not what its digest says.
    OtherContent,
    /// The address of a URL is not one that may be reached.
    AddressRefused,
    /// The web server does not answer, or refuses.
    Web,
    /// The gateways do not answer, refuse, or do not have what was agreed on.
    Gateway,
    /// The node that the mover ran on, or the task itself.
    Node,
}

impl MoverCause {
    /// What a person can do about it, as the end of a sentence.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::VolumeFull => "make room in the volume, or enlarge the claim",
            Self::VolumeReadOnly => "give a claim whose volume can be written",
            Self::VolumeDenied => {
                "let the mover's user into the directory: it runs as user and group 65532, or as the claim's \
                 annotation tradewind.dev/run-as says (UID:GID)"
            }
            Self::Occupied => "move what is there away, or give another subPath",
            Self::PathRefused => "give a subPath of real directories",
            Self::Missing => "put it there, or name another",
            Self::ContentRefused => "leave out links and devices",
            Self::TooLarge => "split it, or have the operator's --input-bytes-max raised",
            Self::OtherContent => "give the digest that b3sum prints of what is meant",
            Self::AddressRefused => {
                "name a public address; the operator's --url-host lets named hosts of a private network be used"
            }
            Self::Web | Self::Gateway | Self::Node => "it is tried again",
        }
    }
}

/// Why a text is no report.
#[derive(Debug, thiserror::Error)]
#[error("not a mover's report")]
pub struct ReportError(#[from] serde_json::Error);

/// Longest detail, in bytes: JSON may make six of one.
const DETAIL_BYTES_MAX: usize = 512;
/// Longest list of units in a report, in bytes.
const UNITS_BYTES_MAX: usize = 3000;

impl MoverReport {
    /// A failure, its detail cut to what a termination message has room for.
    pub fn failed(cause: MoverCause, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX));
        Self::Failed { cause, detail }
    }

    /// A success, the list of units cut to what a termination message has room for.
    pub fn exported(units: Units, exited_badly: &UnitSet) -> Self {
        let mut kept = UnitSet::new();
        let mut bytes = 0;
        for (first, last) in exited_badly.runs() {
            bytes += UnitSet::run(first, last).to_string().len() + 1;
            if bytes > UNITS_BYTES_MAX {
                break;
            }
            kept.insert_run(first, last);
        }
        Self::Exported {
            units,
            exited_badly: kept,
        }
    }

    /// The termination message.
    pub fn to_text(&self) -> Result<String, ReportError> {
        let text = serde_json::to_string(self)?;
        debug_assert!(text.len() <= TERMINATION_BYTES_MAX, "each part is bounded");
        Ok(text)
    }

    /// From a termination message.
    pub fn from_text(text: &str) -> Result<Self, ReportError> {
        Ok(serde_json::from_str(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tradewind_market::UnitIndex;

    #[test]
    fn the_longest_reports_fit_the_kubelets_limit_and_come_back() {
        let odd: UnitSet =
            (0..100_000)
                .map(|unit| UnitIndex::new(2 * unit + 1))
                .fold(UnitSet::new(), |mut set, unit| {
                    set.insert(unit);
                    set
                });
        let reports = [
            MoverReport::exported(Units::new(u32::MAX), &odd),
            // Control characters are what JSON makes longest.
            MoverReport::failed(MoverCause::VolumeReadOnly, "\u{1}".repeat(10_000)),
        ];
        for report in reports {
            let text = report.to_text().unwrap();
            assert!(text.len() <= TERMINATION_BYTES_MAX, "{}", text.len());
            assert_eq!(MoverReport::from_text(&text).unwrap(), report);
        }
        assert!(MoverReport::from_text("Error: boom").is_err());
    }

    #[test]
    fn keys_and_tokens_of_a_task_are_not_shown_by_accident() {
        let source = ImportSource::Blob {
            blob: ContentDigest::of(b""),
            stored_bytes: 1,
            manifest_digest: ContentDigest::of(b""),
            key: SecretText::new("AGE-SECRET-KEY-1".to_owned()),
        };
        assert!(!format!("{source:?}").contains("AGE"));
    }
}
