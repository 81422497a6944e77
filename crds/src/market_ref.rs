//! Which market: a chain and a contract on it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::AddressText;

/// A market: a chain, and the contract on it that holds jobs and money.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MarketRef {
    /// The chain's EIP-155 id.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_u64))]
    pub chain_id: u64,
    /// The market contract.
    pub contract: AddressText,
}
