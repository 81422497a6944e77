//! The contracts' ABIs as types: the market's generated from the committed JSON, the tokens' from the functions used.
//! Conversion to and from the core's types is done by who uses them.

use ethers::abi::{AbiDecode as _, AbiEncode as _, RawLog as EthersLog};
use ethers::contract::EthLogDecode as _;

use crate::convert::to_h256;
use crate::{Call, RawLog};

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    clippy::too_many_arguments,
    clippy::type_complexity,
    reason = "generated"
)]
mod generated {
    ethers::contract::abigen!(
        Market,
        "$CARGO_MANIFEST_DIR/../../deploy/contracts/abi/Market.json";
        Token,
        r#"[
            function decimals() external view returns (uint8)
            function symbol() external view returns (string)
            function balanceOf(address account) external view returns (uint256)
            function allowance(address owner, address spender) external view returns (uint256)
            function approve(address spender, uint256 amount) external returns (bool)
            function mint(address to, uint256 amount) external
        ]"#;
    );
}

pub(crate) use generated::market::*;
pub(crate) use generated::token;

/// A log in the form that the generated events decode.
pub(crate) fn to_ethers_log(log: &RawLog) -> EthersLog {
    EthersLog {
        topics: log.topics.iter().copied().map(to_h256).collect(),
        data: log.data.clone(),
    }
}

/// Several calls of one contract as one, each failing alone.
pub(crate) fn share(calls: &[Call]) -> Vec<u8> {
    BatchCall {
        calls: calls.iter().map(|call| call.data.clone().into()).collect(),
    }
    .encode()
}

/// The step of a shared transaction that failed, and the start of its reason, if that is what the log says.
pub(crate) fn failed_step(log: &RawLog) -> Option<(usize, Vec<u8>)> {
    let event = StepFailedFilter::decode_log(&to_ethers_log(log)).ok()?;
    let index = usize::try_from(crate::convert::to_u64(event.index)?).ok()?;
    Some((index, event.reason.to_vec()))
}

/// What `batch` returns: how many steps succeeded.
pub(crate) fn succeeded_steps(returned: &[u8]) -> Option<usize> {
    let count = BatchReturn::decode(returned).ok()?.succeeded;
    usize::try_from(crate::convert::to_u64(count)?).ok()
}
