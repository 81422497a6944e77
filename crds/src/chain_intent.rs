//! `ChainIntent`: one entry of the journal of transactions. Creating it claims the nonce, because its name holds
//! chain, account and nonce and the API server refuses a second one. Every signed transaction is written to it
//! before it is sent. It has no status: what became of a transaction is read from the chain, so that a journal
//! restored from a backup is wrong about nothing.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rule;
use crate::scalar::HashText;

/// One nonce of the operator's account, and the transactions signed for it. Only the operator may write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "tradewind.dev",
    version = "v1alpha1",
    kind = "ChainIntent",
    plural = "chainintents",
    namespaced,
    derive = "PartialEq",
    shortname = "cintent",
    category = "tradewind",
    doc = "One nonce of the operator's account on a chain, with the transactions signed for it, written before they are sent. Not to be edited or deleted by hand.",
    cel,
    validation = (
        "self.metadata.name.split('-') == [string(self.spec.chainId), self.spec.account.substring(2), string(self.spec.nonce)]",
        "metadata.name must be spec.chainId, spec.account without 0x, and spec.nonce, joined by dashes: the name is what claims the nonce",
    ),
    printcolumn(name = "Chain", type_ = "integer", json_path = ".spec.chainId"),
    printcolumn(name = "Nonce", type_ = "integer", json_path = ".spec.nonce"),
    printcolumn(name = "Intent", type_ = "string", json_path = ".spec.intents[*].label", description = "What the transaction is for: the first of its effects; none where it only fills a hole"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Account", type_ = "string", json_path = ".spec.account", priority = 1),
    printcolumn(name = "Transaction", type_ = "string", json_path = ".spec.signed[*].transaction", priority = 1, description = "Hash of the first one signed")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule::immutable("chainId"),
    validation = rule::immutable("account"),
    validation = rule::immutable("nonce"),
    validation = rule::immutable("purpose"),
    validation = rule::immutable("intents"),
    validation = Rule::new("(self.purpose == 'Fill') == (self.intents.size() == 0)")
        .message("purpose Fill has no intents, and purpose Call has at least one")
        .field_path(".intents"),
    validation = Rule::new("self.signed.size() >= oldSelf.signed.size() && [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].all(i, i >= oldSelf.signed.size() || self.signed[i] == oldSelf.signed[i])")
        .message("signed may only be appended to: what was signed may already have been sent")
        .field_path(".signed")
        .reason(Reason::FieldValueForbidden),
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
    /// Whether the transaction is to have an effect.
    pub purpose: IntentPurpose,
    /// What the transaction is for, in the order of its steps; empty: it only fills a hole.
    #[serde(default)]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub intents: Vec<JournaledIntent>,
    /// The signed transactions for this nonce, oldest first. They differ in their fees only.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub signed: Vec<SignedTransaction>,
}

/// Whether a transaction is to have an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum IntentPurpose {
    /// It has the effects of its intents.
    Call,
    /// It sends nothing to the account itself, so that no nonce is left out.
    Fill,
}

/// One effect that the transaction is to have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JournaledIntent {
    /// Its id, derived from its content.
    pub id: HashText,
    /// What it is, for people.
    #[schemars(length(max = 256))]
    pub label: String,
}

/// One signed transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignedTransaction {
    /// Its hash.
    pub transaction: HashText,
    /// The signed bytes as they are sent, in hexadecimal: at most the 128 KiB that nodes take.
    #[schemars(length(min = 4, max = 262_146), regex(pattern = "^0x([0-9a-f][0-9a-f])+$"))]
    pub raw: String,
    /// Number of the newest block when it was signed; a fee raise waits from there.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub signed_at_block: u64,
}

impl ChainIntent {
    /// The only name that an intent for this nonce can have. `account` is 40 lower-case hexadecimal digits, with or
    /// without `0x`.
    pub fn name_for(chain_id: u64, account: &str, nonce: u64) -> String {
        format!(
            "{chain_id}-{}-{nonce}",
            account.strip_prefix("0x").unwrap_or(account)
        )
    }
}
