//! `ProviderOffer`: capacity that a cluster's owner sells, as a standing offer on the market.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::{Condition, ConditionType, names};
use crate::market_ref::MarketRef;
use crate::rule;
use crate::scalar::{AddressText, AmountText, ByteQuantity, CpuQuantity, HashText, HostPatternText};

/// Capacity of this cluster that is for sale: a standing offer that the operator signs, publishes and keeps
/// up to date, and that buyers fill in part or whole without asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "tradewind.dev",
    version = "v1alpha1",
    kind = "ProviderOffer",
    plural = "provideroffers",
    namespaced,
    status = "ProviderOfferStatus",
    derive = "PartialEq",
    shortname = "poffer",
    category = "tradewind",
    doc = "Capacity of this cluster that is for sale: a standing offer that is signed, published and kept up to date, and that buyers fill without asking.",
    cel,
    validation = ("self.metadata.name.size() <= 63", "metadata.name must be at most 63 characters: choose a shorter name"),
    printcolumn(name = "Class", type_ = "string", json_path = ".status.class", description = "Class of hardware, as buyers see it"),
    printcolumn(name = "Slots", type_ = "integer", json_path = ".status.slots.offered", description = "Slots on offer now"),
    printcolumn(name = "Awarded", type_ = "integer", json_path = ".status.slots.awarded", description = "Slots at work"),
    printcolumn(name = "Price", type_ = "string", json_path = ".spec.price.perSlotSecond", description = "Whole tokens per slot and second"),
    printcolumn(name = "Earned", type_ = "string", json_path = ".status.earned", description = "Credited so far, in whole tokens"),
    printcolumn(name = "Published", type_ = "string", json_path = ".status.conditions[?(@.type=='Publishing')].status", description = "Whether buyers can see it"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", description = "The reason of the condition that decides"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.terms.region", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1, description = "The message of the condition that decides"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule::immutable("class"),
    validation = Rule::new("self.price.token == oldSelf.price.token")
        .message("price.token cannot be changed, because the bond is in this token: suspend this offer and create another")
        .field_path(".price.token")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("self.slots.reserveForOwnPods < self.slots.max")
        .message("slots.reserveForOwnPods must be less than slots.max: lower it, or set suspend to sell nothing")
        .field_path(".slots.reserveForOwnPods"),
    validation = Rule::new("self.terms.minSecondsPerUnit <= self.terms.maxSecondsPerUnit")
        .message("terms.minSecondsPerUnit must be at most terms.maxSecondsPerUnit: lower the one or raise the other")
        .field_path(".terms.minSecondsPerUnit"),
)]
pub struct ProviderOfferSpec {
    /// What one slot is. A slot runs one pod at a time. To sell another class, create another offer.
    pub class: SlotClass,
    /// How many slots.
    pub slots: SlotLimits,
    /// What a slot costs.
    pub price: Price,
    /// On what terms.
    #[serde(default)]
    pub terms: OfferTerms,
    /// Bond to keep posted for this token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bond: Option<BondTarget>,
    /// Drains while true: finishes what is awarded, sells nothing new.
    #[serde(default)]
    pub suspend: bool,
}

/// What one slot is. Buyers see it as a class, and all seats of a group are of one class, so that results can be
/// equal to the bit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.gpu) || has(self.cpuLevel)",
    "a class without gpu needs cpuLevel: name the instruction-set level that every node that runs slots has, such as x86-64-v3",
))]
pub struct SlotClass {
    /// CPUs of a slot.
    pub cpu: CpuQuantity,
    /// Memory of a slot.
    #[x_kube(validation = ("self.matches('[1-9]')", "must be greater than zero, such as 32Gi"))]
    pub memory: ByteQuantity,
    /// Disk of a slot, for images' writable paths, scratch space and outputs that are not collected yet.
    #[serde(default = "ten_gibibytes")]
    #[x_kube(validation = ("self.matches('[1-9]')", "must be greater than zero, such as 10Gi"))]
    pub disk: ByteQuantity,
    /// Instruction-set level that every node that runs slots has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_level: Option<CpuLevel>,
    /// GPUs of a slot; left out: a CPU-only offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<SlotGpu>,
}

/// Instruction-set levels, as compilers name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CpuLevel {
    /// SSE2.
    #[serde(rename = "x86-64-v1")]
    X86V1,
    /// SSE4.2.
    #[serde(rename = "x86-64-v2")]
    X86V2,
    /// AVX2.
    #[serde(rename = "x86-64-v3")]
    X86V3,
    /// AVX-512.
    #[serde(rename = "x86-64-v4")]
    X86V4,
    /// 64-bit Arm.
    #[serde(rename = "arm64-v8")]
    Arm64V8,
}

impl CpuLevel {
    /// The level as compilers name it, which is also how it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86V1 => "x86-64-v1",
            Self::X86V2 => "x86-64-v2",
            Self::X86V3 => "x86-64-v3",
            Self::X86V4 => "x86-64-v4",
            Self::Arm64V8 => "arm64-v8",
        }
    }
}

/// GPUs of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotGpu {
    /// Model, as the node label nvidia.com/gpu.product gives it, such as NVIDIA-A100-SXM4-40GB.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = (
        "self.matches('^[A-Za-z0-9][A-Za-z0-9._-]*$')",
        "must be the model as the node label nvidia.com/gpu.product gives it, such as NVIDIA-A100-SXM4-40GB",
    ))]
    pub model: String,
    /// Memory of each GPU.
    #[x_kube(validation = ("self.matches('[1-9]')", "must be greater than zero, such as 40Gi"))]
    pub memory: ByteQuantity,
    /// Whole GPUs of one slot.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 16))]
    pub count: u32,
}

/// How many slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotLimits {
    /// The most slots to sell at a time.
    #[schemars(range(min = 1, max = 100_000))]
    pub max: u32,
    /// Slots of max that are never sold, so that the cluster's own pods find room.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    pub reserve_for_own_pods: u32,
}

/// What a slot costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    /// Price of one slot for one second, in whole tokens. A unit costs this times the job's secondsPerUnit.
    #[x_kube(validation = ("self.matches('[1-9]')", r#"must be greater than zero, such as "0.0004""#))]
    pub per_slot_second: AmountText,
    /// ERC-20 token to be paid in, which is also the token of the bond.
    pub token: AddressText,
    /// Share of a seat's pay that is due as soon as it is taken, in hundredths of a percent. It is given back
    /// where the provider abstains.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub minimum_charge_bps: u32,
}

/// On what terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfferTerms {
    /// Region that buyers see, such as eu.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = (
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "must be lower-case letters, digits and dashes, such as eu or us-east",
    ))]
    pub region: Option<String>,
    /// The shortest unit to take, in seconds of the job's secondsPerUnit.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 86_400))]
    pub min_seconds_per_unit: u32,
    /// The longest unit to take, in seconds of the job's secondsPerUnit.
    #[serde(default = "one_hour")]
    #[schemars(range(min = 1, max = 86_400))]
    pub max_seconds_per_unit: u32,
    /// RuntimeClass of this cluster that job pods run with, such as gvisor; left out: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (
        "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
        "must be the name of a RuntimeClass: lower-case letters, digits, dashes and dots",
    ))]
    pub runtime_class: Option<String>,
    /// Whether job pods get a user namespace of their own (hostUsers: false), so that images may run as root
    /// inside. Every node that runs slots must support it.
    #[serde(default)]
    pub user_namespaces: bool,
    /// Hosts on the internet that jobs may ask to reach, through this cluster's relay: names, "*." and a domain, or
    /// "*"; none if left out. Addresses that are not the open internet's stay out of reach unless the relay was
    /// told otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub egress: Vec<HostPatternText>,
    /// Image registries and repositories to run images from: a name with everything under it, or "*" for any.
    #[serde(default = "any_registry")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 256)))]
    #[x_kube(
        validation = (
            "self.all(r, r == '*' || r.matches('^[a-zA-Z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*$'))",
            r#"each entry must be "*" or a registry with an optional repository, such as registry.example or registry.example/team, without a scheme"#,
        ),
        merge_strategy = ListMerge::Set,
    )]
    pub registries: Vec<String>,
    /// Accounts that may buy; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub buyers: Vec<AddressText>,
}

impl Default for OfferTerms {
    fn default() -> Self {
        Self {
            region: None,
            min_seconds_per_unit: one(),
            max_seconds_per_unit: one_hour(),
            runtime_class: None,
            user_namespaces: false,
            egress: Vec::new(),
            registries: any_registry(),
            buyers: Vec::new(),
        }
    }
}

/// Bond to keep posted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BondTarget {
    /// Bond in price.token that the operator tops up to from its account, in whole tokens. Left out with bond:
    /// the owner posts it by hand. It is never taken down by lowering this.
    pub amount: AmountText,
}

/// What has become of the offer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderOfferStatus {
    /// The metadata.generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The reason of the condition that decides whether buyers can see the offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// The message of the condition that decides whether buyers can see the offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// Accepted, Enrolled, Bonded, Isolated, Publishing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The provider's account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<AddressText>,
    /// The market that the offer is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub market: Option<MarketRef>,
    /// The class of hardware as buyers see it, such as cpu/x86-64-v3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub class: Option<String>,
    /// The offer as signed and published last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<PublishedOffer>,
    /// Slots now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<SlotCounts>,
    /// Credited so far for awards of this offer, in whole tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earned: Option<AmountText>,
    /// Share of the seats taken that ended in the agreed result, as a decimal between 0 and 1; left out while
    /// none has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reliability: Option<AmountText>,
}

/// An offer as signed and published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublishedOffer {
    /// Hash of the signed offer, by which awards name it.
    pub hash: HashText,
    /// Its nonce; a higher one supersedes it.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub nonce: u64,
    /// When it ends if it is not published anew.
    pub expires_at: Time,
}

/// Slots now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotCounts {
    /// On offer.
    pub offered: u32,
    /// Taken by awards that are not over.
    pub awarded: u32,
}

names! {
    /// What is found out about an offer.
    pub enum OfferCondition {
        /// The spec can be carried out in this cluster.
        Accepted,
        /// The provider's account is known to the market, with its encryption key.
        Enrolled,
        /// The bond covers the slots on offer.
        Bonded,
        /// Job pods are held to the isolation that buyers are promised.
        Isolated,
        /// Buyers can see the offer.
        Publishing,
    }
}

impl ConditionType for OfferCondition {
    type Reason = OfferReason;
}

names! {
    /// Why an offer is as it is.
    pub enum OfferReason {
        /// Not looked at yet, or waiting for the condition before.
        Waiting,
        /// All that can be checked beforehand is right.
        Valid,
        /// The spec contradicts itself or the cluster in a way that the schema cannot catch.
        InvalidSpec,
        /// An amount has more decimals than the token.
        AmountNotRepresentable,
        /// The token is not one that the operator accepts.
        TokenNotAllowed,
        /// The cluster has no RuntimeClass of that name.
        RuntimeClassMissing,
        /// No node has the class's hardware.
        NoSuitableNode,
        /// Enrolled on chain.
        Enrolled,
        /// A transaction is on its way.
        Submitting,
        /// The bond covers the slots on offer.
        Bonded,
        /// The bond covers fewer slots than there are.
        BondTooSmall,
        /// The operator's account cannot pay the bond.
        BalanceTooSmall,
        /// Isolation was tried from inside a job pod and held.
        Isolated,
        /// Isolation has not been tried yet.
        NotTried,
        /// A job pod could reach or do what it must not.
        NotIsolated,
        /// Published at every gateway.
        Published,
        /// Published at some gateways.
        PartlyPublished,
        /// All slots are taken or held back.
        SoldOut,
        /// The owner suspended the offer; awards are being finished.
        Draining,
        /// The owner suspended the offer, and nothing is left to finish.
        Suspended,
        /// The chain cannot be reached, or lags.
        ChainUnavailable,
        /// No gateway can be reached.
        GatewayUnavailable,
        /// The operator only observes and signs nothing.
        ObserveOnly,
    }
}

fn ten_gibibytes() -> ByteQuantity {
    "10Gi".into()
}

fn one() -> u32 {
    1
}

fn one_hour() -> u32 {
    3600
}

fn any_registry() -> Vec<String> {
    vec!["*".into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_written_as_compilers_name_them() {
        for level in [
            CpuLevel::X86V1,
            CpuLevel::X86V2,
            CpuLevel::X86V3,
            CpuLevel::X86V4,
            CpuLevel::Arm64V8,
        ] {
            assert_eq!(serde_json::to_value(level).unwrap(), level.as_str());
        }
    }
}
