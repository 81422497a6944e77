//! `ComputeLease`: a provider's own record of the seats that its cluster holds in one job. Written and read by
//! the operator alone; people may read it to see what their cluster works on.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::{Condition, ConditionType, names};
use crate::market_ref::MarketRef;
use crate::rule;
use crate::scalar::{AddressText, AmountText, BaseUnitsText, DigestText, HashText, IndexesText};

/// The seats that this cluster holds in one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "tradewind.dev",
    version = "v1alpha1",
    kind = "ComputeLease",
    plural = "computeleases",
    namespaced,
    status = "ComputeLeaseStatus",
    derive = "PartialEq",
    shortname = "clease",
    category = "tradewind",
    doc = "The seats that this cluster holds in one job. Written by the operator; not to be edited.",
    cel,
    printcolumn(
        name = "Job",
        type_ = "string",
        json_path = ".spec.jobId",
        description = "The job's id on chain"
    ),
    printcolumn(
        name = "Offer",
        type_ = "string",
        json_path = ".spec.offer.name",
        description = "The ProviderOffer that was filled"
    ),
    printcolumn(
        name = "Units",
        type_ = "string",
        json_path = ".status.units.summary",
        description = "Work units done, of those awarded"
    ),
    printcolumn(
        name = "Pods",
        type_ = "integer",
        json_path = ".status.pods",
        description = "Pods at work"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Where the lease is in its life"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.reason",
        description = "The reason of the condition that decides"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule::immutable("jobId"),
    validation = rule::immutable("market"),
    validation = rule::immutable("buyer"),
    validation = rule::immutable("provider"),
    validation = rule::immutable("division"),
    validation = Rule::new("oldSelf.awards.all(o, self.awards.exists(n, n.round == o.round && n.firstGroup == o.firstGroup && n.seat == o.seat && n.lastGroup == o.lastGroup))")
        .message("awards may be added and never removed or narrowed: they are facts of the chain")
        .field_path(".awards")
        .reason(Reason::FieldValueForbidden),
)]
pub struct ComputeLeaseSpec {
    /// The job's id on chain.
    pub job_id: HashText,
    /// The market that holds the job.
    pub market: MarketRef,
    /// The buyer's account.
    pub buyer: AddressText,
    /// This provider's account.
    pub provider: AddressText,
    /// The ProviderOffer that was filled.
    pub offer: OfferRef,
    /// The digest of the job's template, as fixed on chain.
    pub template_digest: HashText,
    /// The sealed template's address on the gateway; known once the buyer has published the job's bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_blob: Option<DigestText>,
    /// Gateways that offer and job both name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 2048)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub gateways: Vec<String>,
    /// How the job's units are divided.
    pub division: LeaseDivision,
    /// The seats: each entry for a run of neighbouring groups on equal terms.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["round".into(), "firstGroup".into(), "seat".into()]))]
    pub awards: Vec<Award>,
}

/// The ProviderOffer that was filled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfferRef {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How the job's units are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseDivision {
    /// All units of the job, those of other providers too.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub units: u32,
    /// Units that one pod executes.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub slice: u32,
    /// Slices in a group.
    #[schemars(range(min = 1, max = 10_000))]
    pub slices_per_group: u32,
    /// Hard limit on one unit's run time, in seconds.
    #[schemars(range(min = 1, max = 86_400))]
    pub seconds_per_unit: u32,
}

/// One seat in each of a run of neighbouring groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.firstGroup <= self.lastGroup", "firstGroup must be at most lastGroup"),
    validation = (
        "self.roundIds.size() == self.lastGroup - self.firstGroup + 1",
        "roundIds must have one id for each group from firstGroup to lastGroup",
    ),
)]
pub struct Award {
    /// The round: 0 for seats that the buyer picked.
    #[schemars(range(min = 0, max = 255))]
    pub round: u32,
    /// The first group.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub first_group: u32,
    /// The last group.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub last_group: u32,
    /// The seat's number in these groups.
    #[schemars(range(min = 0, max = 255))]
    pub seat: u32,
    /// The ids of the rounds that this seat commits in, one for each group in order.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub round_ids: Vec<HashText>,
    /// The signed offer that was filled.
    pub offer_hash: HashText,
    /// Pay for one unit, in base units of the token.
    pub price_per_unit: BaseUnitsText,
    /// The ERC-20 token.
    pub token: AddressText,
    /// When results must be committed by.
    pub commit_by: Time,
    /// The block that holds the award.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub block: u64,
}

/// What has become of the seats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComputeLeaseStatus {
    /// The metadata.generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the lease is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<LeasePhase>,
    /// The reason of the condition that decides the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Prepared, Executed, Committed, Revealed, Closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The groups by what has become of this provider's seat in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["state".into()]))]
    pub groups: Vec<GroupsInState>,
    /// Progress in units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<LeaseUnits>,
    /// The reports of finished slices, kept until their group's result is revealed: what commitments and reveals
    /// are made from after a restart. No new slices start while it is full.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2048))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["slice".into()]))]
    pub reports: Vec<StoredReport>,
    /// Pods at work.
    #[serde(default)]
    pub pods: u32,
    /// Credited for these seats, in whole tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earned: Option<AmountText>,
}

/// Where a lease is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LeasePhase {
    /// Awards are there; the job's bundle, inputs or pods are not yet.
    Preparing,
    /// Units are executing.
    Running,
    /// Everything is executed; commitments or reveals are under way.
    Delivering,
    /// Revealed; waiting to be judged and credited.
    Waiting,
    /// Every seat has ended, and pods and secrets are gone.
    Closed,
}

/// The groups whose seat is in one state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupsInState {
    /// The state.
    pub state: SeatState,
    /// The groups, as intervals: 0-3,7.
    pub groups: IndexesText,
}

/// What has become of this provider's seat in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SeatState {
    /// Taken on chain, not started.
    Awarded,
    /// Pods exist.
    Running,
    /// All units are executed, and the commitment is not on chain yet.
    Executed,
    /// The commitment is on chain.
    Committed,
    /// Given back with a reason.
    Abstained,
    /// The reveal is on chain, without a receipt yet.
    Revealed,
    /// The reveal is on chain, with a receipt.
    Stored,
    /// Nothing was committed in time.
    NoShow,
    /// The agreed result was this one, and its pay is credited or will be.
    Agreed,
    /// The agreed result was this one, but no receipt shows that it is stored.
    Unstored,
    /// The agreed result was another one, or the commitment was not opened.
    Dissent,
    /// The buyer left the group hanging; nothing is owed.
    Excused,
    /// There was no agreement.
    Unresolved,
    /// The group was refunded before a result was due, or the block that held the award is gone.
    Released,
}

/// Progress in units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseUnits {
    /// Units of all awarded groups.
    pub awarded: u32,
    /// Units executed, of whole slices.
    #[serde(default)]
    pub done: u32,
    /// Done and awarded, as printed: 8/24.
    #[schemars(length(max = 32))]
    pub summary: String,
    /// The slices whose report is stored, as intervals of slice numbers.
    #[serde(default)]
    pub done_slices: IndexesText,
}

/// Where a finished slice's report is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredReport {
    /// The slice's number in the job.
    pub slice: u32,
    /// Address of the sealed report on the gateway.
    pub blob: DigestText,
    /// Digest of the report itself.
    pub digest: DigestText,
}

names! {
    /// What is found out about a lease.
    pub enum LeaseCondition {
        /// Template, inputs and keys are there, and pods can be made.
        Prepared,
        /// Every unit of every seat that was not given back is executed.
        Executed,
        /// Every commitment is on chain.
        Committed,
        /// Every reveal is on chain.
        Revealed,
        /// Every seat has ended, and pods and secrets are gone.
        Closed,
    }
}

impl ConditionType for LeaseCondition {
    type Reason = LeaseReason;
}

names! {
    /// Why a lease is where it is.
    pub enum LeaseReason {
        /// Waiting for the condition before.
        Waiting,
        /// The buyer has not published the job's bundle yet.
        BundleMissing,
        /// The template does not have the digest that is fixed on chain.
        TemplateMismatch,
        /// The template asks for what the offer does not give.
        TermsExceeded,
        /// Everything needed is there.
        Ready,
        /// Pods do not find room in this cluster.
        NoRoom,
        /// The image cannot be pulled, or its registry is not allowed.
        ImageUnavailable,
        /// Inputs cannot be had, or have another digest.
        InputsUnavailable,
        /// Pods are at work.
        Executing,
        /// A unit reached a limit, so its group is no result.
        LimitHit,
        /// All is done.
        Done,
        /// Messages are signed and waiting to be relayed.
        Relaying,
        /// The buyer did not relay in time; the operator sends by itself.
        SendingDirectly,
        /// Results are being stored and receipts collected.
        Storing,
        /// Some seats were given back.
        Abstained,
        /// Deadlines passed before it was done.
        TooLate,
        /// The job was cancelled.
        Cancelled,
        /// The block that held the awards is gone.
        Unwound,
        /// The chain cannot be reached, or lags.
        ChainUnavailable,
        /// No gateway can be reached.
        GatewayUnavailable,
        /// The operator only observes and signs nothing.
        ObserveOnly,
    }
}
