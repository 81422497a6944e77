//! What reconcilers share. It owns nothing that could not be had again after a restart.

use std::{fmt, sync::Arc};

use kube::Client;
use prometheus::Registry;
use tradewind_chain::Signer;
use tradewind_daemon::Readiness;
use tradewind_gateway_api::client::GatewayClient;
use tradewind_market::{Address, Hash32, eip712::Domain};

use crate::{
    args::Args,
    http::HttpClient,
    keys::Keys,
    shell::{chain::Chain, events::Events, leader::Leadership, metrics::Metrics},
};

/// The market that this operator takes part in.
#[derive(Clone, Debug)]
pub(crate) struct Market {
    /// What signatures are bound to: chain and contract.
    pub(crate) domain: Domain,
    /// The hash of it.
    pub(crate) domain_separator: Hash32,
}

/// What reconcilers share.
pub(crate) struct Context {
    /// The API server.
    pub(crate) client: Client,
    /// The settings.
    pub(crate) args: Args,
    /// Secrets derived from the seed.
    pub(crate) keys: Keys,
    /// Signs for our account.
    pub(crate) signer: Arc<dyn Signer>,
    /// The market.
    pub(crate) market: Market,
    /// What is known of the chain, and what is wanted of it.
    pub(crate) chain: Chain,
    /// The gateways.
    pub(crate) gateways: GatewayClient,
    /// The HTTP client for everything else.
    pub(crate) http: HttpClient,
    /// Metrics of the shell.
    pub(crate) metrics: Metrics,
    /// Where reconcilers register their own.
    pub(crate) registry: Registry,
    /// Events about objects.
    pub(crate) events: Events,
    /// Whether this replica may act.
    pub(crate) leadership: Leadership,
    /// Where reconcilers put their gates.
    pub(crate) readiness: Readiness,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("market", &self.market)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// Our account.
    pub(crate) fn account(&self) -> Address {
        self.signer.address()
    }
}
