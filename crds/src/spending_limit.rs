//! `SpendingLimit`: what the jobs of a namespace may cost. Without one they may cost nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::{Condition, ConditionType, names};
use crate::rule;
use crate::scalar::{AddressText, AmountText, DurationText, HashText};

/// What the jobs of a namespace may cost, per token and period. A namespace has one, named default; without it
/// nothing is spent. Grant the right to write it to those who answer for the money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "tradewind.dev",
    version = "v1alpha1",
    kind = "SpendingLimit",
    plural = "spendinglimits",
    namespaced,
    status = "SpendingLimitStatus",
    derive = "PartialEq",
    shortname = "slimit",
    category = "tradewind",
    doc = "What the jobs of a namespace may cost, per token and period. A namespace has one, named default; without it nothing is spent.",
    cel,
    validation = ("self.metadata.name == 'default'", "metadata.name must be default: a namespace has one SpendingLimit, which lists all its tokens"),
    printcolumn(name = "Period", type_ = "string", json_path = ".spec.period", description = "Length of a period"),
    printcolumn(
        name = "Spent",
        type_ = "string",
        json_path = ".status.summary",
        description = "Spent in the current period, of the limit, for each token in whole tokens"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        description = "Whether the limits are applied"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
)]
#[serde(rename_all = "camelCase")]
pub struct SpendingLimitSpec {
    /// Length of a period. Periods follow each other from midnight UTC of 1 January 1970 on, so a day's period
    /// is a calendar day; what is not spent is not carried over.
    #[serde(default = "one_day")]
    #[x_kube(validation = rule::duration(
        "self",
        "(duration(self) >= duration('1m') && duration(self) <= duration('8784h'))",
        "must be between 1m and 8784h, such as 24h",
    ))]
    pub period: DurationText,
    /// The tokens that may be spent; others may not.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(
        validation = (
            "self.all(a, self.exists_one(b, a.token.lowerAscii() == b.token.lowerAscii()))",
            "each token may stand here once, upper and lower case being the same: merge the entries",
        ),
        merge_strategy = ListMerge::Map(vec!["token".into()]),
    )]
    pub tokens: Vec<TokenLimit>,
}

/// The limit for one token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenLimit {
    /// The ERC-20 token.
    pub token: AddressText,
    /// The most that jobs opened in one period may bind, in whole tokens; 0 for nothing.
    pub amount: AmountText,
    /// The most that one job may bind, in whole tokens; left out: only amount counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_per_job: Option<AmountText>,
}

/// What is spent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpendingLimitStatus {
    /// The metadata.generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Spent in the current period and the limit of each token, in the order of spec.tokens, as printed: 3.84/20.00.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub summary: Option<String>,
    /// Spending in the current period, by token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["token".into()]))]
    pub tokens: Vec<TokenSpending>,
}

/// Spending in one period. A claim is written here before the transaction that spends it, and is refused by the
/// API server where another writer was faster; so two jobs never spend the same room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenSpending {
    /// The ERC-20 token.
    pub token: AddressText,
    /// When the period began.
    pub period_start: Time,
    /// The sum of the claims, in whole tokens.
    pub spent: AmountText,
    /// What the period's jobs have bound or are about to bind. Full at 1000: further jobs wait for the next
    /// period.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["jobId".into()]))]
    pub claims: Vec<SpendingClaim>,
}

/// What one job has bound or is about to bind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpendingClaim {
    /// The job's id on chain, known before it is opened.
    pub job_id: HashText,
    /// The amount, in whole tokens.
    pub amount: AmountText,
}

names! {
    /// What is found out about a spending limit.
    pub enum LimitCondition {
        /// The limits can be applied.
        Ready,
    }
}

impl ConditionType for LimitCondition {
    type Reason = LimitReason;
}

names! {
    /// Why a spending limit is as it is.
    pub enum LimitReason {
        /// The limits are applied.
        Applied,
        /// A token is not one that the operator accepts.
        TokenNotAllowed,
        /// An amount has more decimals than the token.
        AmountNotRepresentable,
        /// The chain cannot be reached, or lags.
        ChainUnavailable,
    }
}

fn one_day() -> DurationText {
    "24h".into()
}
