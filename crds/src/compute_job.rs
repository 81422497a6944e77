//! `ComputeJob`: work that a user wants done elsewhere, verified, and paid for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::{Condition, ConditionType, names};
use crate::market_ref::MarketRef;
use crate::rule;
use crate::scalar::{AddressText, AmountText, ByteQuantity, DigestText, DurationText, HashText, IndexesText};
use crate::source::{Input, Outputs};
use crate::template::Template;

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

/// What has become of the job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComputeJobStatus {
    /// The metadata.generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the job is in its life, in one word; derived from the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<JobPhase>,
    /// The reason of the condition that decides the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// The message of the condition that decides the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// Accepted, Funded, Running, Verified, Settled, and at the end Complete or Failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Id on chain; set before anything is spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<HashText>,
    /// The market that holds the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub market: Option<MarketRef>,
    /// The image as pinned: repository@sha256:digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 640))]
    pub image: Option<String>,
    /// The job's template as uploaded, sealed to its readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<StoredTemplate>,
    /// How the units were divided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division: Option<Division>,
    /// Progress in units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<UnitCounts>,
    /// The providers that run it: those with the most seats, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["address".into()]))]
    pub providers: Vec<JobProvider>,
    /// Money, in whole tokens of spec.payment.token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Why offers were passed over when the job was last matched, counted by reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["reason".into()]))]
    pub refusals: Vec<RefusalCount>,
    /// When the job was opened on chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Time>,
    /// When the job became Complete or Failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum JobPhase {
    /// Being looked at, or refused until the spec or what it names changes.
    Pending,
    /// Suspended before anything was spent.
    Suspended,
    /// Looking for offers.
    Matching,
    /// Being opened on chain.
    Funding,
    /// Providers are at work.
    Running,
    /// Results are in and being compared.
    Verifying,
    /// Results are agreed on; payment and delivery are under way.
    Settling,
    /// Cancelled; what was running may finish, the rest is being refunded.
    Cancelling,
    /// Everything is agreed on, delivered and paid.
    Complete,
    /// It ended otherwise; what was not agreed on is refunded.
    Failed,
}

/// The job's template as uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredTemplate {
    /// Address of the sealed bytes on the gateway.
    pub blob: DigestText,
    /// Digest of the template itself, as fixed on chain.
    pub digest: HashText,
}

/// How the units were divided; fixed when the job is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Division {
    /// Units that one pod executes.
    #[schemars(range(min = 1))]
    pub slice: u32,
    /// Slices that are agreed on and paid for together.
    #[schemars(range(min = 1))]
    pub slices_per_group: u32,
    /// Number of groups.
    #[schemars(range(min = 1))]
    pub groups: u32,
}

/// Progress in units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitCounts {
    /// All units.
    pub total: u32,
    /// Units that are awarded and not yet committed to by a quorum.
    #[serde(default)]
    pub running: u32,
    /// Units that a quorum of providers has committed a result for.
    #[serde(default)]
    pub committed: u32,
    /// Units whose result is agreed on.
    #[serde(default)]
    pub agreed: u32,
    /// Units that ended, or may end, without agreement.
    #[serde(default)]
    pub disputed: u32,
    /// Agreed units whose outputs are where the job asked for them.
    #[serde(default)]
    pub delivered: u32,
    /// Committed and all, as printed: 40/96.
    #[schemars(length(max = 32))]
    pub summary: String,
    /// Agreed and all, as printed: 40/96.
    #[schemars(length(max = 32))]
    pub verified: String,
    /// The agreed units, as intervals of their indexes: 0-39,48.
    #[serde(default)]
    pub agreed_indexes: IndexesText,
    /// The agreed units that exited with a code other than 0, as intervals of their indexes.
    #[serde(default)]
    pub failed_indexes: IndexesText,
}

/// One provider that runs part of the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobProvider {
    /// Its account.
    pub address: AddressText,
    /// Its region, as it declares it.
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub region: String,
    /// The class of hardware it offered, such as cpu/x86-64-v3.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub class: String,
    /// Groups in which it has a seat.
    pub seats: u32,
    /// Seats whose result was the agreed one.
    #[serde(default)]
    pub agreed: u32,
    /// Seats whose result was another than the agreed one, or that committed and revealed nothing.
    #[serde(default)]
    pub dissented: u32,
    /// Seats that it gave back, with a reason.
    #[serde(default)]
    pub abstained: u32,
    /// Seats from which nothing came in time.
    #[serde(default)]
    pub no_show: u32,
}

/// Money, in whole tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Bound on chain for the job.
    pub deposited: AmountText,
    /// Credited to providers.
    pub paid: AmountText,
    /// The market's fee.
    pub fee: AmountText,
    /// Given back.
    pub refunded: AmountText,
    /// Paid and fee, as printed; what is deposited, in parentheses, while nothing is paid.
    #[schemars(length(max = 96))]
    pub summary: String,
}

/// How many offers were passed over for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusalCount {
    /// Why, as one word.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// How many.
    pub offers: u32,
}

names! {
    /// What is found out about a job.
    pub enum JobCondition {
        /// The spec can be carried out: image, inputs, outputs and token are what they must be.
        Accepted,
        /// The cost is deposited and the seats are taken.
        Funded,
        /// Providers are at work.
        Running,
        /// Every unit's result is agreed on.
        Verified,
        /// Every group is credited or refunded.
        Settled,
        /// It ended well: agreed, delivered, paid.
        Complete,
        /// It ended otherwise.
        Failed,
    }
}

impl ConditionType for JobCondition {
    type Reason = JobReason;
}

names! {
    /// Why a job is where it is.
    pub enum JobReason {
        /// Not looked at yet, or waiting for the condition before.
        Waiting,
        /// All that can be checked beforehand is right.
        Valid,
        /// The spec contradicts itself in a way that the schema cannot catch.
        InvalidSpec,
        /// The image was not found, or its registry cannot be reached.
        ImageUnavailable,
        /// The image cannot run here: platform, user or size.
        ImageUnsuitable,
        /// An input or output that the job names does not exist.
        SourceMissing,
        /// An input or output is not labelled for this use, or is not readable by the operator.
        SourceNotAllowed,
        /// Inputs are larger than allowed.
        SourceTooLarge,
        /// The token is not one that the operator accepts.
        TokenNotAllowed,
        /// An amount has more decimals than the token.
        AmountNotRepresentable,
        /// Another job of the namespace has the same run key.
        RunKeyInUse,
        /// The namespace has no SpendingLimit for the token.
        NoSpendingLimit,
        /// The namespace's SpendingLimit does not allow the cost in this period.
        SpendingLimitReached,
        /// The budget does not cover the cheapest way to run the job.
        BudgetTooSmall,
        /// The buyer's balance on the market does not cover the cost.
        BalanceTooSmall,
        /// No offers are published for this token and kind of hardware.
        NoOffers,
        /// There are offers, and none will do; status.refusals says why.
        NoMatchingOffer,
        /// Offers will do, from too few different owners.
        TooFewProviders,
        /// Inputs and template are being uploaded.
        Uploading,
        /// Offers are being collected and weighed.
        Matching,
        /// Transactions are on their way.
        Opening,
        /// An offer was taken by someone else first; the job is matched again.
        OfferLost,
        /// Everything is deposited and every seat is taken.
        Funded,
        /// The first group is awarded, and the rest waits for it.
        Canary,
        /// Units are executing.
        Executing,
        /// All results are in.
        AllCommitted,
        /// Results are being revealed and compared.
        Comparing,
        /// Results of every group agree.
        Agreed,
        /// Results of some groups did not agree.
        NotAgreed,
        /// Groups are being judged and credited.
        Settling,
        /// Outputs are being written where the job asked.
        Delivering,
        /// Outputs cannot be written where the job asked.
        DeliveryBlocked,
        /// All groups are credited.
        Settled,
        /// What was not agreed on is refunded.
        Refunded,
        /// Agreed, delivered and paid.
        Done,
        /// Time ran out.
        DeadlineExceeded,
        /// The user suspended the job.
        Suspended,
        /// The job was cancelled.
        Cancelled,
        /// The chain cannot be reached, or lags.
        ChainUnavailable,
        /// No gateway can be reached.
        GatewayUnavailable,
        /// The operator only observes and signs nothing.
        ObserveOnly,
    }
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
