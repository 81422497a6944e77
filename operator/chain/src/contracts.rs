//! Puts the contracts on a chain, and sends single transactions: for labs, tests and a person with a fresh account.
//!
//! Everything here sends and waits, one transaction at a time, and forgets. What must happen once whatever happens goes
//! through the [`crate::sender`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ethers::abi::{Token, encode};
use ethers::types::U256;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tradewind_market::{Address, BlockNumber, Hash32};

use crate::convert::to_h160;
use crate::keys::SignerError;
use crate::node::NodeError;
use crate::read::Parameters;
use crate::sender::{Fees, Payload, Transaction};
use crate::{BlockTag, Call, Disposition, Node, Receipt, Signer, Wei};

/// How often a receipt is asked for.
const POLL: Duration = Duration::from_millis(20);
/// How long a transaction may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// The gas of transactions whose effect others in the same block may change.
const GAS_MARGIN_DENOMINATOR: u64 = 4;
/// The tip offered, whatever others pay: such chains are not contended.
const PRIORITY_FEE: Wei = Wei::new(1_000_000_000);

/// Where the market is, for those who follow and call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// The chain.
    pub chain_id: u64,
    /// The market's one address.
    pub market: Address,
    /// The block it was made in: following starts there.
    pub start: BlockNumber,
}

/// Why a contract is not there, or a transaction not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeployError {
    /// The node did not answer, or the call would revert.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Nothing was signed.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The compiled contract cannot be read.
    #[error("the compiled contract {path} cannot be read: {reason}")]
    Artifact {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The transaction was included and reverted.
    #[error("transaction {tx} reverted")]
    Reverted {
        /// The transaction.
        tx: Hash32,
    },
    /// The transaction is in no block yet. It may still come.
    #[error("transaction {tx} is in no block after {PATIENCE:?}")]
    NotIncluded {
        /// The transaction.
        tx: Hash32,
    },
}

impl DeployError {
    /// What to do about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Node(error) => error.disposition(),
            Self::Signer(error) => error.disposition(),
            Self::Artifact { .. } | Self::Reverted { .. } => Disposition::AwaitChange,
            Self::NotIncluded { .. } => Disposition::Retry,
        }
    }

    /// The innermost variant's name, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Node(error) => error.label(),
            Self::Signer(error) => error.label(),
            Self::Artifact { .. } => "Artifact",
            Self::Reverted { .. } => "Reverted",
            Self::NotIncluded { .. } => "NotIncluded",
        }
    }
}

/// Deploys the market as `deployment.json` in `contracts` says, from the artifacts that it names.
pub async fn deploy_market(
    node: &Node,
    signer: &dyn Signer,
    contracts: &Path,
    parameters: &Parameters,
) -> Result<Deployment, DeployError> {
    let path = contracts.join("deployment.json");
    let refuse = |reason: String| DeployError::Artifact {
        path: path.clone(),
        reason,
    };
    let recipe: Recipe = read_json(&path)?;
    let mut made: BTreeMap<String, (Address, BlockNumber)> = BTreeMap::new();
    for step in &recipe.contracts {
        let mut arguments = Vec::new();
        for argument in &step.arguments {
            arguments.push(match (argument.kind.as_str(), argument.value.as_deref()) {
                (PARAMETERS_TYPE, None) => parameters_token(parameters),
                ("address", Some(reference)) => {
                    let earlier = reference.strip_prefix('$').and_then(|name| made.get(name));
                    let (address, _) =
                        earlier.ok_or_else(|| refuse(format!("{reference} names no earlier contract")))?;
                    Token::Address(to_h160(*address))
                }
                (kind, _) => {
                    return Err(refuse(format!(
                        "{}: no argument of type {kind} is known",
                        step.name
                    )));
                }
            });
        }
        let code = [
            read_bytecode(&contracts.join(&step.artifact))?,
            encode(&arguments),
        ]
        .concat();
        made.insert(step.name.clone(), deploy(node, signer, code).await?);
    }
    let (market, start) = *made
        .get("market")
        .ok_or_else(|| refuse("it makes no market".to_owned()))?;
    Ok(Deployment {
        chain_id: node.chain_id(),
        market,
        start,
    })
}

fn parameters_token(parameters: &Parameters) -> Token {
    let Parameters {
        fee_bps,
        unbond_delay,
    } = parameters;
    Token::Tuple(vec![
        Token::Uint(U256::from(fee_bps.get())),
        Token::Uint(U256::from(unbond_delay.get())),
    ])
}

/// Deploys the token that anyone may mint, from the build in `contracts`.
pub async fn deploy_lab_token(
    node: &Node,
    signer: &dyn Signer,
    contracts: &Path,
) -> Result<Address, DeployError> {
    let artifact = contracts.join("out").join("LabToken.sol").join("LabToken.json");
    let (token, _) = deploy(node, signer, read_bytecode(&artifact)?).await?;
    Ok(token)
}

/// Makes `call`, and waits until it is in a block and succeeded.
pub async fn send(node: &Node, signer: &dyn Signer, call: &Call) -> Result<Receipt, DeployError> {
    let gas = node.estimate_gas(signer.address(), call).await?;
    send_with_gas(node, signer, call, gas + gas / GAS_MARGIN_DENOMINATOR).await
}

/// The same, with so much gas at most: what a call does in a block of a later time cannot be estimated now.
pub async fn send_with_gas(
    node: &Node,
    signer: &dyn Signer,
    call: &Call,
    gas_limit: u64,
) -> Result<Receipt, DeployError> {
    let payload = Payload {
        to: Some(call.to),
        data: call.data.clone(),
        gas_limit,
    };
    send_payload(node, signer, payload).await
}

async fn deploy(
    node: &Node,
    signer: &dyn Signer,
    code: Vec<u8>,
) -> Result<(Address, BlockNumber), DeployError> {
    let gas = node.estimate_creation_gas(signer.address(), &code).await?;
    let gas_limit = gas + gas / GAS_MARGIN_DENOMINATOR;
    let receipt = send_payload(
        node,
        signer,
        Payload {
            to: None,
            data: code,
            gas_limit,
        },
    )
    .await?;
    let created = receipt.created.ok_or_else(|| {
        NodeError::inconsistent(
            "eth_getTransactionReceipt",
            "a contract was made, and no address given",
        )
    })?;
    Ok((created, receipt.block.number))
}

async fn send_payload(node: &Node, signer: &dyn Signer, payload: Payload) -> Result<Receipt, DeployError> {
    let history = node.fee_history(1, 50).await?;
    let twice = history
        .next_base_fee
        .checked_mul(2)
        .and_then(|fee| fee.checked_add(PRIORITY_FEE));
    let max_fee =
        twice.ok_or_else(|| NodeError::inconsistent("eth_feeHistory", "the base fee is out of range"))?;
    let nonce = node.nonce(signer.address(), BlockTag::Pending).await?;
    let fees = Fees {
        max_fee,
        priority_fee: PRIORITY_FEE,
    };
    let submitted = Transaction {
        chain_id: node.chain_id(),
        nonce,
        payload,
        fees,
    }
    .sign(signer)
    .await?;
    node.broadcast(&submitted.raw).await.map_err(NodeError::from)?;
    let receipt = async {
        loop {
            if let Some(receipt) = node.receipt(submitted.tx).await? {
                return Ok::<_, NodeError>(receipt);
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let receipt = tokio::time::timeout(PATIENCE, receipt)
        .await
        .map_err(|_| DeployError::NotIncluded { tx: submitted.tx })??;
    if receipt.succeeded {
        Ok(receipt)
    } else {
        Err(DeployError::Reverted { tx: submitted.tx })
    }
}

/// The constructor's tuple of [`Parameters`].
const PARAMETERS_TYPE: &str = "(uint16,uint32)";

/// `deployment.json`: what is made, in order.
#[derive(Deserialize)]
struct Recipe {
    contracts: Vec<RecipeStep>,
}

#[derive(Deserialize)]
struct RecipeStep {
    name: String,
    artifact: PathBuf,
    arguments: Vec<RecipeArgument>,
}

#[derive(Deserialize)]
struct RecipeArgument {
    #[serde(rename = "type")]
    kind: String,
    value: Option<String>,
}

#[derive(Deserialize)]
struct Artifact {
    bytecode: Bytecode,
}

#[derive(Deserialize)]
struct Bytecode {
    object: String,
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, DeployError> {
    let read = || -> Result<T, String> {
        let text = std::fs::read(path).map_err(|error| error.to_string())?;
        serde_json::from_slice(&text).map_err(|error| error.to_string())
    };
    read().map_err(|reason| DeployError::Artifact {
        path: path.to_owned(),
        reason,
    })
}

fn read_bytecode(path: &Path) -> Result<Vec<u8>, DeployError> {
    let artifact: Artifact = read_json(path)?;
    let digits = artifact.bytecode.object.trim_start_matches("0x");
    hex::decode(digits).map_err(|error| DeployError::Artifact {
        path: path.to_owned(),
        reason: format!("the bytecode is not hex, or not linked: {error}"),
    })
}
