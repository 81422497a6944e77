//! The chain's time: waited for, held, and moved. It is everyone's: what holds or moves it runs alone.

use std::time::Duration;

use futures::future::try_join_all;
use serde_json::{Value, json};
use tradewind_chain::Call;
use tradewind_market::UnixSeconds;

use crate::lab::quantity;
use crate::market::{Market, Party};

use super::ScenarioError;
use super::books::require;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// For anything that is looked for again and again.
const SEEN_WITHIN: Duration = Duration::from_mins(5);

/// Looks again and again until it is so; for what nobody tells of.
pub(super) async fn until<F>(what: &str, look: impl Fn() -> F) -> Result<(), ScenarioError>
where
    F: Future<Output = Result<bool, ScenarioError>>,
{
    let asked = async {
        while !look().await? {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    let late = |_| ScenarioError::NotSo(format!("{what} within {} s", SEEN_WITHIN.as_secs()));
    tokio::time::timeout(SEEN_WITHIN, asked).await.map_err(late)?
}

/// The newest block's number.
pub(super) async fn height(market: &Market<'_>) -> Result<u64, ScenarioError> {
    number(&market.lab().evm().rpc("eth_blockNumber", json!([])).await?)
}

/// Waits while the chain makes so many blocks.
pub(super) async fn blocks(market: &Market<'_>, count: u64) -> Result<(), ScenarioError> {
    let last = height(market).await? + count;
    until("blocks are made", || async { Ok(height(market).await? >= last) }).await
}

/// Does something while the chain makes no block by itself; whatever comes of it, it makes blocks again afterwards.
pub(super) async fn while_held<T>(
    market: &Market<'_>,
    doing: impl Future<Output = Result<T, ScenarioError>>,
) -> Result<T, ScenarioError> {
    market.lab().evm().hold().await?;
    let done = doing.await;
    market.lab().evm().go_on().await?;
    done
}

/// Moves the chain's clock on.
pub(super) async fn jump(market: &Market<'_>, to: UnixSeconds) -> Result<(), ScenarioError> {
    while_held(market, async {
        market.lab().evm().block_at(to.get()).await?;
        Ok(())
    })
    .await
}

/// Has these calls made in one block of exactly that time, while the chain is held. Whatever others sent waits.
pub(super) async fn in_block_at(
    market: &Market<'_>,
    time: UnixSeconds,
    calls: &[(&Party, Call)],
) -> Result<(), ScenarioError> {
    let sent = try_join_all(calls.iter().map(|(party, call)| party.send_ahead(call)));
    let mined = async {
        for (party, _) in calls {
            let account = party.address().to_string();
            until("a call waits for its block", || waits(market, &account)).await?;
        }
        market.lab().evm().block_at(time.get()).await?;
        Ok::<_, ScenarioError>(())
    };
    let (sent, mined) = futures::future::join(sent, mined).await;
    mined?;
    sent?;
    let found = number(&newest(market).await?["timestamp"])?;
    require(found == time.get(), || {
        format!("the block's time is {time} ({found})")
    })
}

/// Whether the node has a transaction of that account that no block has.
pub(super) async fn waits(market: &Market<'_>, account: &str) -> Result<bool, ScenarioError> {
    let evm = market.lab().evm();
    let pending = evm
        .rpc("eth_getTransactionCount", json!([account, "pending"]))
        .await?;
    let latest = evm
        .rpc("eth_getTransactionCount", json!([account, "latest"]))
        .await?;
    Ok(pending != latest)
}

async fn newest(market: &Market<'_>) -> Result<Value, ScenarioError> {
    let block = json!(["latest", false]);
    Ok(market.lab().evm().rpc("eth_getBlockByNumber", block).await?)
}

/// A number as the node writes it.
pub(super) fn number(value: &Value) -> Result<u64, ScenarioError> {
    quantity(value).ok_or_else(|| ScenarioError::NotSo(format!("{value} is a number")))
}
