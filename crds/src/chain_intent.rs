//! `ChainIntent`: one entry of the journal of transactions. Creating it claims the nonce, because its name holds
//! chain, account and nonce and the API server refuses a second one. Every signed transaction is written to it
//! before it is sent. Only the operator may touch it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rule;
use crate::scalar::HashText;

/// One nonce of the operator's account, and the transactions signed for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "tradewind.dev",
    version = "v1alpha1",
    kind = "ChainIntent",
    plural = "chainintents",
    namespaced,
    status = "ChainIntentStatus",
    derive = "PartialEq",
    shortname = "ci",
    category = "tradewind",
    doc = "One nonce of the operator's account on a chain, with the transactions signed for it, written before they are sent. Not to be edited or deleted by hand.",
    cel,
    validation = (
        "self.metadata.name == string(self.spec.chainId) + '-' + self.spec.account.substring(2) + '-' + string(self.spec.nonce)",
        "metadata.name must be chainId, account without 0x, and nonce, joined by dashes: the name is what claims the nonce",
    ),
    printcolumn(name = "Chain", type_ = "integer", json_path = ".spec.chainId"),
    printcolumn(name = "Account", type_ = "string", json_path = ".spec.account"),
    printcolumn(name = "Nonce", type_ = "integer", json_path = ".spec.nonce"),
    printcolumn(name = "Purpose", type_ = "string", json_path = ".spec.purpose"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Block", type_ = "integer", json_path = ".status.included.block"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule::immutable("chainId"),
    validation = rule::immutable("account"),
    validation = rule::immutable("nonce"),
    validation = rule::immutable("purpose"),
    validation = rule::immutable("intents"),
    validation = Rule::new("self.signed.size() >= oldSelf.signed.size() && [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].all(i, i >= oldSelf.signed.size() || self.signed[i] == oldSelf.signed[i])")
        .message("signed may only be appended to: a transaction that was signed may already have been sent")
        .field_path(".signed")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("(self.purpose == 'Fill') == (self.intents.size() == 0)")
        .message("purpose Fill has no intents, and every other purpose has at least one")
        .field_path(".intents"),
)]
pub struct ChainIntentSpec {
    /// The chain's EIP-155 id.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_u64))]
    pub chain_id: u64,
    /// The operator's account, in lower case.
    #[schemars(length(max = 42), regex(pattern = "^0x[0-9a-f]{40}$"))]
    pub account: String,
    /// The nonce that this object claims.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub nonce: u64,
    /// What the nonce is used for.
    pub purpose: IntentPurpose,
    /// The effects that the transaction is to have.
    #[serde(default)]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub intents: Vec<JournaledIntent>,
    /// The signed transactions, oldest first: a fee raise appends one.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub signed: Vec<SignedTransaction>,
}

/// One effect that a transaction is to have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JournaledIntent {
    /// Its id, derived from its content.
    pub id: HashText,
    /// What it is, for people who read the journal.
    #[schemars(length(max = 128))]
    pub label: String,
}

/// One signed transaction, kept so that the very same bytes can be sent again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignedTransaction {
    /// Its hash.
    pub transaction: HashText,
    /// Its bytes as they are sent, in hexadecimal.
    #[schemars(length(min = 4, max = 262_146), regex(pattern = "^0x([0-9a-f]{2})+$"))]
    pub raw: String,
    /// The most it pays for gas in all, in wei per gas.
    #[schemars(length(max = 39), regex(pattern = "^[0-9]+$"))]
    pub max_fee_per_gas: String,
    /// The most it pays as the block builder's tip, in wei per gas.
    #[schemars(length(max = 39), regex(pattern = "^[0-9]+$"))]
    pub max_priority_fee_per_gas: String,
    /// Number of the head block when it was signed.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub signed_at_block: u64,
}

/// What a nonce is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum IntentPurpose {
    /// A call that has the effects of its intents.
    Call,
    /// A transfer of nothing to the account itself, so that no nonce is left out.
    Fill,
}

/// What is known of the transaction. Derived from the chain; never what a decision about money rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChainIntentStatus {
    /// How far it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<IntentState>,
    /// Where it was included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub included: Option<Inclusion>,
    /// Why it was reverted or refused, as the node says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub error: Option<String>,
}

/// How far a transaction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum IntentState {
    /// Signed and written down.
    Signed,
    /// Sent to a node that took it.
    Submitted,
    /// In a block that may still be reorganised.
    Included,
    /// In a final block, and it took effect.
    Final,
    /// In a final block, without effect.
    Reverted,
    /// The nonce was used by a transaction that is not written here; the sender has stopped.
    Foreign,
}

/// Where a transaction was included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Inclusion {
    /// Hash of the transaction that was included.
    pub transaction: HashText,
    /// Number of the block.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub block: u64,
    /// Hash of the block.
    pub block_hash: HashText,
    /// When it was seen.
    pub seen_at: Time,
}

impl ChainIntent {
    /// The only name that an intent for this nonce can have. `account` is given as 20 bytes in lower-case
    /// hexadecimal, with or without `0x`.
    pub fn name_for(chain_id: u64, account: &str, nonce: u64) -> String {
        format!(
            "{chain_id}-{}-{nonce}",
            account.strip_prefix("0x").unwrap_or(account)
        )
    }
}
