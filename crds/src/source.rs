//! Where a job's inputs come from and where its outputs go.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rule;
use crate::scalar::{ByteQuantity, DigestText};

/// A directory that every unit finds read-only at /in/NAME.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule::exactly_one_of("an input", &["configMap", "secret", "persistentVolumeClaim", "url", "blob"]),
    validation = Rule::new("has(self.url) == has(self.digest)")
        .message("url and digest go together: give the digest that b3sum prints of the file as blake3:<digits>, or remove digest where there is no url")
        .field_path(".digest"),
)]
pub struct Input {
    /// Name of the directory under /in.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = (
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "must be lower-case letters, digits and dashes, starting and ending with a letter or digit: it becomes a directory under /in",
    ))]
    pub name: String,
    /// A ConfigMap of the job's namespace, labelled tradewind.dev/allow; every key becomes a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ObjectName>,
    /// A Secret of the job's namespace, labelled tradewind.dev/allow and readable by the operator through a
    /// RoleBinding; every key becomes a file. Providers that win the job can read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ObjectName>,
    /// A PersistentVolumeClaim of the job's namespace, labelled tradewind.dev/allow. Read by a mover pod, which the
    /// namespace's owner allows by a RoleBinding, as user and group 65532 or as the claim's annotation
    /// tradewind.dev/run-as says (UID:GID).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimPath>,
    /// A file on the web at a public address, named by the last part of its path. Fetched by a mover pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(validation = (
        "self.matches('^https?://[^/?#@ ]+/[^?# ]*[^/?# ]([?][^# ]*)?$')",
        "must be an http or https URL of a file, without user name or fragment, such as https://example.org/scene.tar",
    ))]
    pub url: Option<String>,
    /// Digest of the file that url names; another file is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<DigestText>,
    /// An input of an earlier job of this namespace that is still there, by status.template.inputs[].blob. Read by a
    /// mover pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<DigestText>,
}

/// An object of the job's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectName {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (
        "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
        "must be the name of an object in the job's namespace: lower-case letters, digits, dashes and dots",
    ))]
    pub name: String,
}

/// A directory in a PersistentVolumeClaim of the job's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimPath {
    /// The claim's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (
        "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
        "must be the name of a PersistentVolumeClaim in the job's namespace: lower-case letters, digits, dashes and dots",
    ))]
    pub claim_name: String,
    /// Directory in the volume, relative to its root; left out: the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = (
        "!self.startsWith('/') && self.split('/').all(part, part != '' && part != '.' && part != '..')",
        "must be a path relative to the volume's root, such as renders/flyby, without empty, . or .. parts",
    ))]
    pub sub_path: Option<String>,
}

/// Where results go once they are verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.configMap) || !has(self.persistentVolumeClaim)",
    "outputs go to one place: give configMap or persistentVolumeClaim, not both",
))]
pub struct Outputs {
    /// Directory that a unit writes its result to. /out, the only one in this version.
    #[serde(default = "out")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = ("self == '/out'", "must be /out in this version: remove it, and have the program write to /out"))]
    pub path: String,
    /// A PersistentVolumeClaim of the job's namespace, labelled tradewind.dev/allow. Every unit's files go to a
    /// directory named by its index, once all is decided; what is there already is never overwritten. Written by a
    /// mover pod, which the namespace's owner allows by a RoleBinding, as user and group 65532 or as the claim's
    /// annotation tradewind.dev/run-as says (UID:GID).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimPath>,
    /// A ConfigMap to create in the job's namespace, for results that are small in all (at most 512 KiB). One
    /// that exists is never overwritten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ObjectName>,
    /// What one unit may write.
    #[serde(default)]
    pub limits: OutputLimits,
}

impl Default for Outputs {
    fn default() -> Self {
        Self {
            path: out(),
            persistent_volume_claim: None,
            config_map: None,
            limits: OutputLimits::default(),
        }
    }
}

/// What one unit may write; a unit that writes more is not a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputLimits {
    /// Bytes in all of a unit's files.
    #[serde(default = "half_a_gibibyte")]
    pub bytes_per_unit: ByteQuantity,
    /// Number of a unit's files and directories.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1, max = 100_000))]
    pub files_per_unit: u32,
}

impl Default for OutputLimits {
    fn default() -> Self {
        Self {
            bytes_per_unit: half_a_gibibyte(),
            files_per_unit: thousand(),
        }
    }
}

fn out() -> String {
    "/out".into()
}

fn half_a_gibibyte() -> ByteQuantity {
    "512Mi".into()
}

fn thousand() -> u32 {
    1000
}
