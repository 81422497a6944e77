//! From waiting intents to the payload of one transaction: what would fail is refused before anything is signed, and
//! what may share a transaction does.

use tradewind_market::Address;

use super::config::{SenderConfig, Sharing};
use super::intent::{Intent, Refusal};
use super::transaction::Payload;
use crate::abi;
use crate::node::NodeError;
use crate::{BlockTag, Call, Node};

/// A transfer of nothing.
pub(super) const TRANSFER_GAS: u64 = 21_000;
/// For what the newest block's state hides: other transactions run before ours.
const MARGIN_NUMERATOR: u64 = 5;
const MARGIN_DENOMINATOR: u64 = 4;
/// What `batch` adds for each step: calldata, delegatecall, and a notice if the step fails.
const STEP_OVERHEAD_GAS: u64 = 15_000;
/// Calldata of one transaction: nodes' pools refuse transactions above 128 KiB.
const SHARED_DATA_BYTES_MAX: usize = 96 * 1024;

/// One transaction to be signed, and the intents it is for.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) payload: Payload,
    pub(super) intents: Vec<Intent>,
}

/// What came of looking at waiting intents.
#[derive(Debug, Default)]
pub(super) struct Preparation {
    pub(super) ready: Option<Prepared>,
    pub(super) refused: Vec<(Intent, Refusal)>,
}

struct Estimated {
    intent: Intent,
    gas_limit: u64,
}

/// Prepares the first of `waiting` that would work, with others that can share its transaction.
pub(super) async fn prepare(
    node: &Node,
    sender: Address,
    waiting: &[Intent],
    config: &SenderConfig,
) -> Result<Preparation, NodeError> {
    let mut refused = Vec::new();
    let mut steps: Vec<Estimated> = Vec::new();
    let mut gas_limit = 0u64;
    let mut data_bytes = 0usize;
    for intent in waiting {
        let sharing = config.sharing.filter(|sharing| may_share(intent, *sharing));
        if !steps.is_empty() {
            let fits = |sharing: Sharing| {
                steps.len() < sharing.steps_max
                    && data_bytes + intent.call.data.len() <= SHARED_DATA_BYTES_MAX
            };
            if !sharing.is_some_and(fits) {
                continue;
            }
        }
        let estimated = match estimate(node, sender, intent, config).await? {
            Ok(estimated) => estimated,
            Err(refusal) => {
                refused.push((intent.clone(), refusal));
                continue;
            }
        };
        let with_this = gas_limit
            .saturating_add(estimated.gas_limit)
            .saturating_add(STEP_OVERHEAD_GAS);
        if !steps.is_empty() && with_this > config.gas_max {
            break;
        }
        gas_limit = with_this;
        data_bytes += intent.call.data.len();
        steps.push(estimated);
        if sharing.is_none() {
            break;
        }
    }
    let ready = share(node, sender, steps, gas_limit, config).await?;
    Ok(Preparation { ready, refused })
}

fn may_share(intent: &Intent, sharing: Sharing) -> bool {
    intent.shareable && intent.call.to == sharing.contract && sharing.steps_max > 1
}

/// The gas that an intent may use by itself.
async fn estimate(
    node: &Node,
    sender: Address,
    intent: &Intent,
    config: &SenderConfig,
) -> Result<Result<Estimated, Refusal>, NodeError> {
    let gas = match node.estimate_gas(sender, &intent.call).await {
        Ok(gas) => gas,
        Err(NodeError::Reverted { data }) => return Ok(Err(Refusal::Reverts { data })),
        Err(error) => return Err(error),
    };
    let gas_max = intent.gas_max.unwrap_or(config.gas_max).min(config.gas_max);
    if gas > gas_max {
        return Ok(Err(Refusal::GasAboveMax { gas, gas_max }));
    }
    let with_margin = gas.saturating_mul(MARGIN_NUMERATOR) / MARGIN_DENOMINATOR;
    Ok(Ok(Estimated {
        intent: intent.clone(),
        gas_limit: with_margin.min(gas_max),
    }))
}

async fn share(
    node: &Node,
    sender: Address,
    mut steps: Vec<Estimated>,
    gas_limit: u64,
    config: &SenderConfig,
) -> Result<Option<Prepared>, NodeError> {
    if let (Some(sharing), 2..) = (config.sharing, steps.len()) {
        let calls: Vec<Call> = steps.iter().map(|step| step.intent.call.clone()).collect();
        let call = Call {
            to: sharing.contract,
            data: abi::share(&calls),
        };
        // A step that runs out of gas fails alone, so an estimate of the whole would be far too low: the sum of the
        // single estimates is taken, and tried. Steps that are in each other's way go one by one.
        let returned = node.call(sender, &call, Some(gas_limit), BlockTag::Latest).await;
        let all_succeed = match returned {
            Ok(returned) => abi::succeeded_steps(&returned) == Some(calls.len()),
            Err(NodeError::Reverted { .. }) => false,
            Err(error) => return Err(error),
        };
        if all_succeed {
            let payload = Payload {
                to: Some(call.to),
                data: call.data,
                gas_limit,
            };
            let intents = steps.into_iter().map(|step| step.intent).collect();
            return Ok(Some(Prepared { payload, intents }));
        }
    }
    steps.truncate(1);
    Ok(steps.pop().map(|Estimated { intent, gas_limit }| Prepared {
        payload: Payload {
            to: Some(intent.call.to),
            data: intent.call.data.clone(),
            gas_limit,
        },
        intents: vec![intent],
    }))
}
