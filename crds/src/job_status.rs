//! What has become of a job: its status, and the closed sets of conditions and reasons.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::{Condition, ConditionType, names};
use crate::market_ref::MarketRef;
use crate::scalar::{AddressText, AmountText, DigestText, HashText, IndexesText};

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredTemplate {
    /// Address of the sealed bytes on the gateway.
    pub blob: DigestText,
    /// Digest of the template itself, as fixed on chain.
    pub digest: HashText,
    /// The job's inputs as uploaded, sealed to its readers, in the order of spec.inputs. Later jobs of the namespace
    /// can name their blobs as inputs, for as long as this object and the blobs are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub inputs: Vec<StoredInput>,
}

/// One input as uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredInput {
    /// Its directory under /in.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Address of the sealed bytes on the gateway.
    pub blob: DigestText,
    /// Their length.
    pub stored_bytes: u64,
    /// Digest of the manifest of its files.
    pub manifest: DigestText,
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
        /// An input is not what its digest says.
        SourceChanged,
        /// An input cannot be had at the moment: its server or its volume does not answer.
        SourceUnavailable,
        /// The operator has no right to run mover pods in the namespace.
        MoverNotAllowed,
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
        /// The operator's account lacks tokens for what the job binds, or gateways see no deposit of it.
        AwaitingDeposit,
        /// What the job binds is being deposited in the market.
        Depositing,
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
