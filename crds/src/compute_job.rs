//! `ComputeJob`: work that a user wants done elsewhere, verified, and paid for. What has become of it is in
//! [`crate::job_status`].

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rule;
use crate::scalar::{AddressText, AmountText, ByteQuantity, DurationText};
use crate::source::{Input, Outputs};
use crate::template::Template;

pub use crate::job_status::{
    ComputeJobStatus, Cost, Division, JobCondition, JobPhase, JobProvider, JobReason, RefusalCount,
    StoredInput, StoredTemplate, UnitCounts,
};

/// CEL over the root's `oldSelf`: money may already be bound to the terms.
const OPENED: &str = "has(oldSelf.status) && has(oldSelf.status.jobId)";
const SINCE_OPENED: &str = "once the job is opened on chain (status.jobId)";

/// Work to be done in other clusters: `completions` independent work units, each run by several providers,
/// compared, and paid for only where they agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "tradewind.dev",
    version = "v1alpha1",
    kind = "ComputeJob",
    plural = "computejobs",
    namespaced,
    status = "ComputeJobStatus",
    derive = "PartialEq",
    shortname = "cjob",
    category = "tradewind",
    doc = "Work to be done in other clusters: split into work units, each run by several providers, compared, and paid for only where they agree.",
    cel,
    validation = ("self.metadata.name.size() <= 63", "metadata.name must be at most 63 characters: choose a shorter name"),
    validation = rule::locked("outputs", OPENED, SINCE_OPENED),
    validation = rule::locked("placement", OPENED, SINCE_OPENED),
    validation = rule::locked("preference", OPENED, SINCE_OPENED),
    validation = rule::locked("payment", OPENED, SINCE_OPENED),
    validation = rule::locked("deadline", OPENED, SINCE_OPENED),
    printcolumn(name = "Units", type_ = "string", json_path = ".status.units.summary", description = "Work units committed, of all"),
    printcolumn(name = "Verified", type_ = "string", json_path = ".status.units.verified", description = "Work units agreed on, of all"),
    printcolumn(name = "Cost", type_ = "string", json_path = ".status.cost.summary", description = "Paid so far, or deposited before anything is paid, in whole tokens"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "Where the job is in its life"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", description = "Why it is there: the reason of the condition that decides"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Job", type_ = "string", json_path = ".status.jobId", priority = 1, description = "Id on chain"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1, description = "The message of the condition that decides"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule::immutable("completions"),
    validation = rule::immutable("slice"),
    validation = rule::immutable("slicesPerGroup"),
    validation = rule::immutable("runKey"),
    validation = rule::immutable("template"),
    validation = rule::immutable("inputs"),
    validation = rule::immutable("verification"),
    validation = Rule::new("!has(self.slice) || self.slice <= self.completions")
        .message("slice must be at most completions: lower it, or leave it out to have it chosen")
        .field_path(".slice"),
    validation = Rule::new("!has(self.slice) || (self.completions + self.slice - 1) / self.slice <= 10000")
        .message("completions split by slice must give at most 10000 slices: raise slice, or split the work into several jobs")
        .field_path(".slice"),
    validation = rule::duration(
        "self.deadline",
        "duration(self.deadline).getSeconds() >= self.template.secondsPerUnit * (has(self.slice) ? self.slice : 1)",
        "deadline must leave time for one slice, which may take template.secondsPerUnit for each of its units: raise deadline, or lower slice or template.secondsPerUnit",
    )
    .field_path(".deadline"),
    validation = Rule::new("self.template.resources.gpu.count > 0 || ((!has(self.placement.gpuModels) || self.placement.gpuModels.size() == 0) && !self.placement.minGpuMemory.matches('[1-9]'))")
        .message("placement.gpuModels and placement.minGpuMemory need template.resources.gpu.count of at least 1: raise it, or remove them")
        .field_path(".placement"),
)]
pub struct ComputeJobSpec {
    /// Number of work units. Each runs on its own, with its 0-based number in JOB_COMPLETION_INDEX.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub completions: u32,
    /// Units that one pod executes, one after another. Left out: chosen from completions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub slice: Option<u32>,
    /// Slices that are given to the same providers, agreed on and paid for together. Few large groups cost
    /// fewer fees; many small ones lose less when one goes wrong. Left out: chosen from completions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub slices_per_group: Option<u32>,
    /// Identity of this work within the namespace: a job with the same key is never paid for twice, also when
    /// the object is deleted and created anew, as GitOps tools do. Left out: the object's own UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = (
        "self.matches('^[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?$')",
        "must be letters, digits, dots, dashes and underscores, starting and ending with a letter or digit, such as flyby-v3",
    ))]
    pub run_key: Option<String>,
    /// What each unit runs.
    pub template: Template,
    /// Directories that every unit finds read-only at /in/NAME.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub inputs: Vec<Input>,
    /// Where results go once they are verified. Left out: they stay on the gateway, readable by the job's key.
    #[serde(default)]
    pub outputs: Outputs,
    /// How many providers run each unit, and what makes their results one.
    #[serde(default)]
    pub verification: Verification,
    /// Which providers may run the job.
    #[serde(default)]
    pub placement: Placement,
    /// What matters in choosing among the offers that will do.
    #[serde(default)]
    pub preference: Preference,
    /// What the job may cost.
    pub payment: Payment,
    /// Time from the opening on chain until the last result may come in. What is not agreed on by then is
    /// refunded.
    #[serde(default = "one_day")]
    #[x_kube(validation = rule::duration(
        "self",
        "duration(self) <= duration('720h')",
        "must be at most 720h: split the work into several jobs",
    ))]
    pub deadline: DurationText,
    /// Starts nothing new while true. Before the opening nothing is spent; afterwards the job is cancelled on
    /// chain: what runs may finish and is paid for, the rest is refunded.
    #[serde(default)]
    pub suspend: bool,
}

/// How results are checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.quorum <= self.maxSeats")
        .message("quorum must be at most maxSeats: lower quorum or raise maxSeats")
        .field_path(".quorum"),
    validation = Rule::new("self.quorum * 2 > self.maxSeats")
        .message("quorum must be more than half of maxSeats, or two different results could both win: raise quorum or lower maxSeats")
        .field_path(".quorum"),
)]
pub struct Verification {
    /// How many results are asked for. Quorum, the only policy in this version: several providers run every
    /// unit, and a result counts when a quorum of them agree.
    #[serde(default)]
    pub policy: VerificationPolicy,
    /// Providers that must agree on a group's result for it to count.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 8))]
    pub quorum: u32,
    /// Providers that run each group. Each is paid when its result is the agreed one.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 8))]
    pub max_seats: u32,
    /// Seats of maxSeats that the chain draws by lot. Not available in this version: must be 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 8))]
    #[x_kube(validation = ("self == 0", "drawn seats are not available in this version: set it to 0 or remove it"))]
    pub drawn: u32,
    /// Whether the first group goes ahead alone and the rest is opened when it is agreed on: an honest mistake
    /// then costs one group.
    #[serde(default = "yes")]
    pub canary: bool,
    /// What makes two results equal.
    #[serde(default)]
    pub comparator: Comparator,
}

impl Default for Verification {
    fn default() -> Self {
        Self {
            policy: VerificationPolicy::Quorum,
            quorum: two(),
            max_seats: three(),
            drawn: 0,
            canary: yes(),
            comparator: Comparator::default(),
        }
    }
}

/// How many results are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum VerificationPolicy {
    /// A result counts when a quorum of providers agree.
    #[default]
    Quorum,
}

/// What makes two results equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Comparator {
    /// Exact, the only comparator in this version: same exit code, same files, same bytes.
    #[serde(default, rename = "type")]
    pub type_: ComparatorType,
}

/// The ways to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ComparatorType {
    /// Same exit code, same files, same bytes.
    #[default]
    Exact,
}

/// Which providers may run the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Regions that will do, as providers declare them; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub regions: Vec<String>,
    /// GPU models that will do, as the node label nvidia.com/gpu.product gives them; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub gpu_models: Vec<String>,
    /// Memory that each GPU must have, such as 40Gi.
    #[serde(default = "no_bytes")]
    pub min_gpu_memory: ByteQuantity,
    /// Providers by name.
    #[serde(default)]
    pub providers: ProviderLists,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            regions: Vec::new(),
            gpu_models: Vec::new(),
            min_gpu_memory: no_bytes(),
            providers: ProviderLists::default(),
        }
    }
}

/// Providers by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.allow) || !has(self.deny) || self.allow.all(a, self.deny.all(d, a.lowerAscii() != d.lowerAscii()))",
    "an address must not stand in both allow and deny: remove it from one of them",
))]
pub struct ProviderLists {
    /// Only these accounts may run the job; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allow: Vec<AddressText>,
    /// These accounts may not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub deny: Vec<AddressText>,
}

/// Weights in choosing among the offers that will do; only their proportions count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "self.price + self.speed + self.reliability > 0",
    "at least one of price, speed and reliability must be greater than 0",
))]
pub struct Preference {
    /// Weight of a low price.
    #[serde(default = "fifty")]
    #[schemars(range(min = 0, max = 100))]
    pub price: u32,
    /// Weight of an early start.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0, max = 100))]
    pub speed: u32,
    /// Weight of a record of agreed results.
    #[serde(default = "twenty")]
    #[schemars(range(min = 0, max = 100))]
    pub reliability: u32,
}

impl Default for Preference {
    fn default() -> Self {
        Self {
            price: fifty(),
            speed: thirty(),
            reliability: twenty(),
        }
    }
}

/// What the job may cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Payment {
    /// ERC-20 token to pay in: one that the operator accepts and that the namespace's SpendingLimit lists.
    pub token: AddressText,
    /// The most to pay one provider for one unit, in whole tokens.
    #[x_kube(validation = ("self.matches('[1-9]')", r#"must be greater than zero, such as "0.02""#))]
    pub max_price_per_unit: AmountText,
    /// The most to spend on the whole job, fees included, in whole tokens.
    #[x_kube(validation = ("self.matches('[1-9]')", r#"must be greater than zero, such as "8.00""#))]
    pub budget: AmountText,
}

fn one_day() -> DurationText {
    "24h".into()
}

fn no_bytes() -> ByteQuantity {
    "0".into()
}

fn yes() -> bool {
    true
}

fn two() -> u32 {
    2
}

fn three() -> u32 {
    3
}

fn fifty() -> u32 {
    50
}

fn thirty() -> u32 {
    30
}

fn twenty() -> u32 {
    20
}
