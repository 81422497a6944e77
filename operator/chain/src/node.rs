//! Typed questions to a node, over any [`Transport`].
//!
//! It checks that answers are of the right kind and about what was asked; it never judges whether they are true.
//! That is for who asks: by finality, parent hashes, sequence numbers and the journal.

mod wire;

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tradewind_market::{Address, BlockNumber, Hash32};

use crate::transport::{RpcError, Transport};
use crate::{AccountNonce, BlockId, BlockTag, Call, Disposition, Finality, Header, RawLog, Receipt, Wei};

use wire::{WireBlock, WireFeeHistory, WireLog, WireReceipt};

/// Why a question has no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The request has no result.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The node serves another chain than the one that was configured.
    #[error("the node serves chain {found}, expected chain {expected}")]
    WrongChain {
        /// From the configuration.
        expected: u64,
        /// From the node.
        found: u64,
    },
    /// The answer contradicts the question or itself.
    #[error("{method}: inconsistent answer: {reason}")]
    Inconsistent {
        /// The RPC method.
        method: &'static str,
        /// In what way.
        reason: String,
    },
    /// The call would revert.
    #[error("the call reverts with {} bytes of data", data.len())]
    Reverted {
        /// The contract's reason, ABI-encoded.
        data: Vec<u8>,
    },
}

impl NodeError {
    /// What to do about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Rpc(error) => error.disposition(),
            Self::WrongChain { .. } => Disposition::Halt,
            Self::Inconsistent { .. } => Disposition::Retry,
            Self::Reverted { .. } => Disposition::AwaitChange,
        }
    }

    /// The variant's name, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Rpc(error) => error.label(),
            Self::WrongChain { .. } => "WrongChain",
            Self::Inconsistent { .. } => "Inconsistent",
            Self::Reverted { .. } => "Reverted",
        }
    }

    pub(crate) fn inconsistent(method: &'static str, reason: impl Into<String>) -> Self {
        Self::Inconsistent {
            method,
            reason: reason.into(),
        }
    }

    /// A reverted call as such, anything else as it is.
    fn of_execution(error: RpcError) -> Self {
        match error.revert_data() {
            Some(data) => Self::Reverted { data },
            None => Self::Rpc(error),
        }
    }
}

/// Fees that recent blocks asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeeHistory {
    /// The next block's base fee per gas.
    pub next_base_fee: Wei,
    /// Each recent block's priority fee at the percentile that was asked for, oldest first.
    pub rewards: Vec<Wei>,
}

/// One chain as one node shows it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Node {
    transport: Arc<dyn Transport>,
    chain_id: u64,
}

impl Node {
    /// Asks the node for its chain id and refuses any but the expected.
    pub async fn connect(transport: Arc<dyn Transport>, expected_chain_id: u64) -> Result<Self, NodeError> {
        let found: wire::Number = ask(transport.as_ref(), "eth_chainId", json!([])).await?;
        let found = found.to_u64("eth_chainId")?;
        if found != expected_chain_id {
            return Err(NodeError::WrongChain {
                expected: expected_chain_id,
                found,
            });
        }
        Ok(Self {
            transport,
            chain_id: expected_chain_id,
        })
    }

    /// The same chain seen through `transport`, without asking: for tests and tools that checked before.
    pub fn assume_chain(transport: Arc<dyn Transport>, chain_id: u64) -> Self {
        Self { transport, chain_id }
    }

    /// The chain, as checked when connecting.
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    async fn ask<T: DeserializeOwned>(&self, method: &'static str, params: Value) -> Result<T, RpcError> {
        ask(self.transport.as_ref(), method, params).await
    }

    /// The header at `tag`, or `None` where the node has no such block. [`BlockTag::Pending`] has none.
    pub async fn header(&self, tag: BlockTag) -> Result<Option<Header>, NodeError> {
        const BY_NUMBER: &str = "eth_getBlockByNumber";
        let block: Option<WireBlock> = match tag {
            BlockTag::Hash(hash) => self.ask("eth_getBlockByHash", json!([hash, false])).await?,
            BlockTag::Pending => return Ok(None),
            BlockTag::Latest | BlockTag::Finalized | BlockTag::Number(_) => {
                self.ask(BY_NUMBER, json!([wire::tag(tag), false])).await?
            }
        };
        let Some(header) = block.map(WireBlock::header).transpose()? else {
            return Ok(None);
        };
        let about_another = match tag {
            BlockTag::Number(number) => header.id.number != number,
            BlockTag::Hash(hash) => header.id.hash != hash,
            BlockTag::Latest | BlockTag::Pending | BlockTag::Finalized => false,
        };
        if about_another {
            return Err(NodeError::inconsistent(
                BY_NUMBER,
                format!("asked for {tag:?}, got {}", header.id),
            ));
        }
        Ok(Some(header))
    }

    /// The newest final block, or `None` where the chain has none yet.
    pub async fn finalized(&self, finality: Finality) -> Result<Option<Header>, NodeError> {
        match finality {
            Finality::Tag => self.header(BlockTag::Finalized).await,
            Finality::Depth(depth) => {
                let Some(head) = self.header(BlockTag::Latest).await? else {
                    return Ok(None);
                };
                match head.id.number.get().checked_sub(depth) {
                    Some(number) => self.header(BlockTag::Number(BlockNumber::new(number))).await,
                    None => Ok(None),
                }
            }
        }
    }

    /// The logs of `contracts` in one particular block.
    pub async fn logs_in_block(
        &self,
        block: BlockId,
        contracts: &[Address],
    ) -> Result<Vec<RawLog>, NodeError> {
        let filter = json!([{"blockHash": block.hash, "address": contracts}]);
        let logs = self.logs(filter).await?;
        check_logs(&logs, contracts, |log| log.block == block)?;
        Ok(logs)
    }

    /// The logs of `contracts` from block `from` to block `to`, both included, on the branch that the node is on.
    pub async fn logs_in_range(
        &self,
        from: BlockNumber,
        to: BlockNumber,
        contracts: &[Address],
    ) -> Result<Vec<RawLog>, NodeError> {
        let filter = json!([{
            "fromBlock": wire::tag(BlockTag::Number(from)),
            "toBlock": wire::tag(BlockTag::Number(to)),
            "address": contracts,
        }]);
        let logs = self.logs(filter).await?;
        check_logs(&logs, contracts, |log| (from..=to).contains(&log.block.number))?;
        Ok(logs)
    }

    async fn logs(&self, filter: Value) -> Result<Vec<RawLog>, NodeError> {
        let logs: Vec<WireLog> = self.ask("eth_getLogs", filter).await?;
        logs.into_iter().map(WireLog::log).collect()
    }

    /// What became of a transaction, or `None` where the node knows of no inclusion.
    pub async fn receipt(&self, tx: Hash32) -> Result<Option<Receipt>, NodeError> {
        let receipt: Option<WireReceipt> = self.ask("eth_getTransactionReceipt", json!([tx])).await?;
        let receipt = receipt.map(WireReceipt::receipt).transpose()?;
        match receipt {
            Some(receipt) if receipt.tx != tx => Err(NodeError::inconsistent(
                "eth_getTransactionReceipt",
                format!("asked for {tx}, got {}", receipt.tx),
            )),
            receipt => Ok(receipt),
        }
    }

    /// The first free nonce of `account` at `tag`.
    pub async fn nonce(&self, account: Address, tag: BlockTag) -> Result<AccountNonce, NodeError> {
        const METHOD: &str = "eth_getTransactionCount";
        let count: wire::Number = self.ask(METHOD, json!([account, wire::tag(tag)])).await?;
        count.to_u64(METHOD).map(AccountNonce::new)
    }

    /// The native coin that `account` holds at `tag`.
    pub async fn balance(&self, account: Address, tag: BlockTag) -> Result<Wei, NodeError> {
        const METHOD: &str = "eth_getBalance";
        let balance: wire::Number = self.ask(METHOD, json!([account, wire::tag(tag)])).await?;
        Ok(balance.to_wei_saturating())
    }

    /// The code at an address, empty where no contract is.
    pub async fn code(&self, address: Address, tag: BlockTag) -> Result<Vec<u8>, NodeError> {
        let code: wire::Data = self.ask("eth_getCode", json!([address, wire::tag(tag)])).await?;
        Ok(code.0)
    }

    /// The fees of the last `blocks` blocks, the priority fee at `percentile` of each block's gas.
    pub async fn fee_history(&self, blocks: u16, percentile: u8) -> Result<FeeHistory, NodeError> {
        let params = json!([format!("{blocks:#x}"), "latest", [percentile]]);
        let history: WireFeeHistory = self.ask("eth_feeHistory", params).await?;
        history.fee_history()
    }

    /// What `call` returns if `from` makes it at `tag`, with at most `gas` where given.
    pub async fn call(
        &self,
        from: Address,
        call: &Call,
        gas: Option<u64>,
        tag: BlockTag,
    ) -> Result<Vec<u8>, NodeError> {
        let mut request = wire::call_request(from, call);
        if let Some(gas) = gas {
            request["gas"] = json!(format!("{gas:#x}"));
        }
        let returned: Result<wire::Data, _> = self.ask("eth_call", json!([request, wire::tag(tag)])).await;
        returned.map(|data| data.0).map_err(NodeError::of_execution)
    }

    /// The gas that `call` would use if `from` made it on the newest block.
    pub async fn estimate_gas(&self, from: Address, call: &Call) -> Result<u64, NodeError> {
        const METHOD: &str = "eth_estimateGas";
        let request = json!([wire::call_request(from, call), "latest"]);
        let gas: wire::Number = self.ask(METHOD, request).await.map_err(NodeError::of_execution)?;
        gas.to_u64(METHOD)
    }

    /// The gas that making a contract with `code` would use.
    pub(crate) async fn estimate_creation_gas(&self, from: Address, code: &[u8]) -> Result<u64, NodeError> {
        const METHOD: &str = "eth_estimateGas";
        let request = json!([{"from": from, "data": format!("0x{}", hex::encode(code))}, "latest"]);
        let gas: wire::Number = self.ask(METHOD, request).await.map_err(NodeError::of_execution)?;
        gas.to_u64(METHOD)
    }

    /// Hands signed bytes to the node's pool. The answer is advice: whether they took effect is read from the chain.
    pub async fn broadcast(&self, signed: &[u8]) -> Result<(), RpcError> {
        let params = json!([format!("0x{}", hex::encode(signed))]);
        let _tx: Value = self.ask("eth_sendRawTransaction", params).await?;
        Ok(())
    }
}

async fn ask<T: DeserializeOwned>(
    transport: &dyn Transport,
    method: &str,
    params: Value,
) -> Result<T, RpcError> {
    let reply = transport.request(method, params).await?;
    serde_json::from_str(reply.get()).map_err(|error| RpcError::Malformed {
        method: method.to_owned(),
        reason: error.to_string(),
    })
}

/// Logs are of the contracts and blocks that were asked for, and in their order.
fn check_logs(
    logs: &[RawLog],
    contracts: &[Address],
    in_place: impl Fn(&RawLog) -> bool,
) -> Result<(), NodeError> {
    const METHOD: &str = "eth_getLogs";
    if let Some(log) = logs
        .iter()
        .find(|log| !contracts.contains(&log.contract) || !in_place(log))
    {
        let reason = format!(
            "a log of contract {} in block {} was not asked for",
            log.contract, log.block
        );
        return Err(NodeError::inconsistent(METHOD, reason));
    }
    let place = |log: &RawLog| (log.block.number, log.log_index);
    if logs
        .windows(2)
        .any(|pair| matches!(pair, [one, next] if place(one) >= place(next)))
    {
        return Err(NodeError::inconsistent(
            METHOD,
            "logs are out of order or doubled",
        ));
    }
    Ok(())
}
