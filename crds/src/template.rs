//! What a work unit runs: the small, safe part of a container that a job may describe. It has no field that
//! could reach a provider's host, and must never gain one.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::{ByteQuantity, CpuQuantity, HostText};

/// What each work unit runs: a small, safe part of a container, without host access or privileges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Container image. It is pinned to a digest when the job is accepted (see status.image), so that every
    /// provider runs the same bytes. The image must name a numeric user other than root.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = (
        "self.matches('^([a-zA-Z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@sha256:[0-9a-f]{64})?$')",
        "must be an image reference such as registry.example/povray:1, without a scheme or spaces; a digest is written @sha256: and 64 hexadecimal digits",
    ))]
    pub image: String,
    /// Program and first arguments, in place of the image's entrypoint. Not run in a shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub command: Vec<String>,
    /// Arguments, in place of the image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub args: Vec<String>,
    /// Environment variables. Every unit also gets JOB_COMPLETION_INDEX, HOME and TMPDIR.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// What one slice's pod gets, as its limit and its request.
    pub resources: Resources,
    /// Hard limit on one unit's run time, in seconds, and what a unit is priced by: a unit that reaches it is
    /// ended and not paid. Measure a unit on a slow machine and add a margin.
    #[schemars(range(min = 1, max = 86_400))]
    pub seconds_per_unit: u32,
    /// Absolute paths that the program may write, besides /out and what HOME and TMPDIR name. All of them are
    /// empty at the start of a unit; everything else is read-only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub writable_paths: Vec<WritablePath>,
    /// Hosts that the program may reach, through the provider's relay and nothing else; none if left out. Only
    /// offers that allow all of them suit. HTTP_PROXY and HTTPS_PROXY lead there, in capitals and small letters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub egress: Vec<HostText>,
}

/// One environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Name, as in a POSIX shell.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = (
            "self.matches('^[A-Za-z_][A-Za-z0-9_]*$')",
            "must be letters, digits and underscores, not starting with a digit",
        ),
        validation = (
            "!self.startsWith('NVIDIA_')",
            "NVIDIA_ variables decide which GPUs are visible and are set by the provider: remove it and ask for GPUs in template.resources.gpu",
        ),
        validation = (
            "!(self in ['JOB_COMPLETION_INDEX', 'HOME', 'TMPDIR']) && !self.startsWith('TRADEWIND_')",
            "JOB_COMPLETION_INDEX, HOME, TMPDIR and TRADEWIND_ variables are set for every unit: remove it or choose another name",
        ),
        validation = (
            "!(self.lowerAscii() in ['http_proxy', 'https_proxy'])",
            "the proxy that leads to granted hosts is set by the provider: remove it and list the hosts in template.egress",
        ),
    )]
    pub name: String,
    /// Value, taken literally: $(NAME) is not expanded.
    #[serde(default)]
    #[schemars(length(max = 8192))]
    pub value: String,
}

/// What one slice's pod gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// CPUs, such as "2" or "500m". Every seat gets exactly as many.
    pub cpu: CpuQuantity,
    /// Memory, such as 2Gi. A unit that needs more is killed and is not a result.
    #[x_kube(validation = ("self.matches('[1-9]')", "must be greater than zero, such as 2Gi"))]
    pub memory: ByteQuantity,
    /// Disk for scratch space and for outputs that are not collected yet.
    #[serde(default = "one_gibibyte")]
    #[x_kube(validation = ("self.matches('[1-9]')", "must be greater than zero, such as 1Gi"))]
    pub disk: ByteQuantity,
    /// GPUs; none if left out.
    #[serde(default)]
    pub gpu: GpuCount,
}

/// How many GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuCount {
    /// Whole GPUs for one slice's pod. Which models will do is said in placement.
    #[serde(default)]
    #[schemars(range(min = 0, max = 16))]
    pub count: u32,
}

/// An absolute path in normal form, outside the places that Tradewind and the kernel provide.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WritablePath(pub String);

impl WritablePath {
    /// Places that a job can have no writable path at or under.
    pub const RESERVED: [&'static str; 8] = [
        "/in",
        "/out",
        "/tradewind",
        "/proc",
        "/sys",
        "/dev",
        "/run/secrets",
        "/var/run/secrets",
    ];
}

impl JsonSchema for WritablePath {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WritablePath".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let reserved: Vec<String> = Self::RESERVED.iter().map(|path| format!("'{path}'")).collect();
        schemars::json_schema!({
            "type": "string",
            "maxLength": 256,
            "x-kubernetes-validations": [
                {
                    "rule": "self.matches('^(/[A-Za-z0-9_][A-Za-z0-9._-]*|/[.][A-Za-z0-9_-]+)+$')",
                    "message": "must be an absolute path such as /var/cache: no trailing slash, no . or .. as a part, only letters, digits, dots, dashes and underscores",
                },
                {
                    "rule": format!("[{}].all(r, self != r && !self.startsWith(r + '/'))", reserved.join(", ")),
                    "message": format!(
                        "must not be at or under {}: these are provided for every unit; choose another path",
                        Self::RESERVED.join(", "),
                    ),
                },
            ],
        })
    }
}

fn one_gibibyte() -> ByteQuantity {
    "1Gi".into()
}
