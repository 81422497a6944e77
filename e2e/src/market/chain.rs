//! The contracts and the money on the lab's chain.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tradewind_chain::contracts::{self, Deployment};
use tradewind_chain::read::Parameters;
use tradewind_chain::transport::{HttpConfig, HttpTransport};
use tradewind_chain::{LocalSigner, Node, calls};
use tradewind_market::{Address, Bps, Decimals, Seconds, TokenAmount};

use super::TOKEN_DECIMALS;
use super::account::Role;
use super::error::MarketError;
use crate::lab::Lab;

/// The market's fee in the lab.
pub(super) const FEE: Bps = Bps::new(100);
/// Whole tokens that the consumer and each provider start with.
const PURSE: &str = "1000";
/// A bond can leave after this; longer than any lab job lasts.
const UNBOND_DELAY: Seconds = Seconds::new(3_600);

/// Where the contracts are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Contracts {
    pub(super) market: String,
    pub(super) token: String,
    pub(super) start_block: u64,
    pub(super) chain_id: u64,
}

impl Contracts {
    /// Deploys market and token, and gives everyone a purse.
    pub(super) async fn deploy(lab: &Lab, artifacts: &Path) -> Result<Self, MarketError> {
        let node = connect(lab).await?;
        let deployer = LocalSigner::from_hex(Role::Deployer.account().key).map_err(unusable)?;
        let parameters = Parameters {
            fee_bps: FEE,
            unbond_delay: UNBOND_DELAY,
        };
        let Deployment {
            chain_id,
            market,
            start,
        } = contracts::deploy_market(&node, &deployer, artifacts, &parameters).await?;
        let token = contracts::deploy_lab_token(&node, &deployer, artifacts).await?;
        let purse = amount(PURSE)?;
        let providers = lab.spec().clusters.len().saturating_sub(1);
        for role in std::iter::once(Role::Consumer).chain((0..providers).map(Role::Provider)) {
            let owner = parse(role.account().address)?;
            contracts::send(&node, &deployer, &calls::mint(token, owner, purse)).await?;
        }
        Ok(Self {
            market: market.to_string(),
            token: token.to_string(),
            start_block: start.get(),
            chain_id,
        })
    }
}

/// Whole tokens in base units.
pub(super) fn amount(whole: &str) -> Result<TokenAmount, MarketError> {
    let decimals = Decimals::new(TOKEN_DECIMALS).ok_or_else(|| {
        MarketError::Chain(format!("{TOKEN_DECIMALS} decimals are more than an amount has"))
    })?;
    TokenAmount::from_decimal_exact(whole, decimals).map_err(unusable)
}

/// What the chain, or what is meant for it, cannot be used for.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
pub(super) fn unusable(error: impl ToString) -> MarketError {
    MarketError::Chain(error.to_string())
}

/// An address, as it is written down.
pub(super) fn parse(address: &str) -> Result<Address, MarketError> {
    address.parse().map_err(unusable)
}

/// The lab's node.
pub(super) async fn connect(lab: &Lab) -> Result<Node, MarketError> {
    let transport = HttpTransport::new(HttpConfig::new(lab.evm().url())).map_err(unusable)?;
    Node::connect(Arc::new(transport), lab.spec().evm.chain_id)
        .await
        .map_err(unusable)
}
