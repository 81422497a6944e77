//! The JSON shapes of a node's answers, and their checked conversion. Only the fields that are used.

use ethers::types::{Bytes, H160, H256, U64, U256};
use serde::Deserialize;
use serde_json::{Value, json};
use tradewind_market::{Address, BlockNumber, UnixSeconds};

use super::{FeeHistory, NodeError};
use crate::convert::{to_address, to_hash, to_u64, to_u128};
use crate::{BlockId, BlockTag, Call, Header, RawLog, Receipt, Wei};

/// A block parameter of a request.
pub(super) fn tag(tag: BlockTag) -> Value {
    match tag {
        BlockTag::Latest => json!("latest"),
        BlockTag::Pending => json!("pending"),
        BlockTag::Finalized => json!("finalized"),
        BlockTag::Number(number) => json!(format!("{:#x}", number.get())),
        // EIP-1898: state of exactly this block, and an error if it is not on the node's branch.
        BlockTag::Hash(hash) => json!({"blockHash": hash, "requireCanonical": true}),
    }
}

pub(super) fn call_request(from: Address, call: &Call) -> Value {
    json!({"from": from, "to": call.to, "data": format!("0x{}", hex::encode(&call.data))})
}

/// A hex number of any size.
#[derive(Deserialize)]
pub(super) struct Number(U256);

impl Number {
    pub(super) fn to_u64(&self, method: &'static str) -> Result<u64, NodeError> {
        to_u64(self.0).ok_or_else(|| NodeError::inconsistent(method, format!("{} is out of range", self.0)))
    }

    /// Balances above 2^128 wei exist on development chains only; more than enough is enough.
    pub(super) fn to_wei_saturating(&self) -> Wei {
        Wei::new(to_u128(self.0).unwrap_or(u128::MAX))
    }
}

/// A hex byte string.
#[derive(Deserialize)]
#[serde(from = "Bytes")]
pub(super) struct Data(pub(super) Vec<u8>);

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        Self(bytes.to_vec())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireBlock {
    number: Option<U64>,
    hash: Option<H256>,
    parent_hash: H256,
    timestamp: U256,
    gas_limit: U256,
}

impl WireBlock {
    pub(super) fn header(self) -> Result<Header, NodeError> {
        const METHOD: &str = "eth_getBlockByNumber";
        let id = block_id(METHOD, self.number, self.hash)?;
        let bounded = |field: &str, number: U256| {
            to_u64(number)
                .ok_or_else(|| NodeError::inconsistent(METHOD, format!("{field} {number} is out of range")))
        };
        Ok(Header {
            id,
            parent: to_hash(self.parent_hash),
            timestamp: UnixSeconds::new(bounded("timestamp", self.timestamp)?),
            gas_limit: bounded("gasLimit", self.gas_limit)?,
        })
    }
}

fn block_id(method: &'static str, number: Option<U64>, hash: Option<H256>) -> Result<BlockId, NodeError> {
    let (Some(number), Some(hash)) = (number, hash) else {
        return Err(NodeError::inconsistent(method, "about a pending block"));
    };
    Ok(BlockId {
        number: BlockNumber::new(number.0[0]),
        hash: to_hash(hash),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireLog {
    address: H160,
    topics: Vec<H256>,
    data: Bytes,
    block_number: Option<U64>,
    block_hash: Option<H256>,
    transaction_hash: Option<H256>,
    log_index: Option<U256>,
    #[serde(default)]
    removed: bool,
}

impl WireLog {
    pub(super) fn log(self) -> Result<RawLog, NodeError> {
        const METHOD: &str = "eth_getLogs";
        if self.removed {
            return Err(NodeError::inconsistent(
                METHOD,
                "a log of a block that was removed",
            ));
        }
        let (Some(tx), Some(log_index)) = (self.transaction_hash, self.log_index.and_then(to_u64)) else {
            return Err(NodeError::inconsistent(METHOD, "a log without its place"));
        };
        Ok(RawLog {
            contract: to_address(self.address),
            topics: self.topics.into_iter().map(to_hash).collect(),
            data: self.data.to_vec(),
            block: block_id(METHOD, self.block_number, self.block_hash)?,
            tx: to_hash(tx),
            log_index,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireReceipt {
    transaction_hash: H256,
    block_number: Option<U64>,
    block_hash: Option<H256>,
    status: Option<U64>,
    gas_used: Option<U256>,
    #[serde(default)]
    effective_gas_price: Option<U256>,
    #[serde(default)]
    logs: Vec<WireLog>,
    #[serde(default)]
    contract_address: Option<H160>,
}

impl WireReceipt {
    pub(super) fn receipt(self) -> Result<Receipt, NodeError> {
        const METHOD: &str = "eth_getTransactionReceipt";
        let (Some(status), Some(gas_used)) = (self.status, self.gas_used.and_then(to_u64)) else {
            return Err(NodeError::inconsistent(METHOD, "without status or gas used"));
        };
        Ok(Receipt {
            tx: to_hash(self.transaction_hash),
            block: block_id(METHOD, self.block_number, self.block_hash)?,
            succeeded: status == U64::one(),
            gas_used,
            gas_price: Wei::new(self.effective_gas_price.and_then(to_u128).unwrap_or_default()),
            logs: self
                .logs
                .into_iter()
                .map(WireLog::log)
                .collect::<Result<_, _>>()?,
            created: self.contract_address.map(to_address),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireFeeHistory {
    base_fee_per_gas: Option<Vec<U256>>,
    reward: Option<Vec<Vec<U256>>>,
}

impl WireFeeHistory {
    /// Numbers that do not fit are nonsense that a hostile node may send; the policy's cap is what bounds fees, so
    /// here they only must not break anything.
    pub(super) fn fee_history(self) -> Result<FeeHistory, NodeError> {
        let wei = |number: U256| Wei::new(to_u128(number).unwrap_or(u128::MAX));
        let next_base_fee = self
            .base_fee_per_gas
            .and_then(|fees| fees.last().copied())
            .map(wei);
        let next_base_fee = next_base_fee.ok_or_else(|| {
            NodeError::inconsistent("eth_feeHistory", "no base fee: the chain does not know EIP-1559")
        })?;
        let rewards = self.reward.unwrap_or_default();
        let rewards = rewards
            .into_iter()
            .filter_map(|row| row.first().copied())
            .map(wei)
            .collect();
        Ok(FeeHistory {
            next_base_fee,
            rewards,
        })
    }
}
