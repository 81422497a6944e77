//! A market on a lab: the contracts and a token on its chain, a gateway and a consumer in one cluster, a provider
//! in each other cluster. What a person does with helm and kubectl, done the same way.
//!
//! It knows the product by what users see of it: chart, custom resources, contracts, HTTP. It never reaches into a
//! running part.

pub mod account;
mod audit;
mod chain;
mod error;
mod install;

use std::path::PathBuf;

pub use account::Role;
pub use audit::{Books, JobBooks, SeatBooks};
pub use error::MarketError;
pub use install::{Images, Windows};

use crate::lab::{Cluster, Lab, Progress, source_root};

/// The namespace that the chart is installed in, in every cluster.
pub const NAMESPACE: &str = "tradewind";
/// The node port of the gateway in the consumer's cluster.
const GATEWAY_PORT: u16 = 30_080;
/// Decimals of the lab's token.
pub const TOKEN_DECIMALS: u8 = 6;

/// A market that is up on a lab.
#[derive(Debug)]
pub struct Market<'lab> {
    lab: &'lab Lab,
    chain: chain::Contracts,
    images: Images,
    windows: Windows,
}

impl<'lab> Market<'lab> {
    /// Puts contracts on the lab's chain, images into its registry, and the chart into each cluster: role consumer
    /// with a gateway into `consumer`, role provider into the others.
    pub async fn raise(lab: &'lab Lab, windows: Windows) -> Result<Self, MarketError> {
        let progress = Progress::shown();
        progress.say("building images and pushing them to the lab's registry");
        let images = Images::push(lab, &progress)?;
        progress.say("deploying the market and a token");
        let chain = chain::Contracts::deploy(lab, &artifacts()).await?;
        progress.say(format!("market {} token {}", chain.market, chain.token));
        let market = Self { lab, chain, images, windows };
        market.install_consumer().await?;
        progress.say("consumer and gateway are ready");
        let providers: Vec<_> = market.providers()?.into_iter().map(|cluster| market.install_provider(cluster)).collect();
        futures::future::try_join_all(providers).await?;
        progress.say("providers are ready");
        Ok(market)
    }

    /// The lab that this market is on.
    pub fn lab(&self) -> &'lab Lab {
        self.lab
    }

    /// The market contract's address.
    pub fn address(&self) -> &str {
        &self.chain.market
    }

    /// The token's address.
    pub fn token(&self) -> &str {
        &self.chain.token
    }

    /// The product's images and those that jobs run.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// The gateway's base URL, from anywhere in the lab.
    pub fn gateway(&self) -> Result<String, MarketError> {
        Ok(format!("http://{}:{GATEWAY_PORT}", self.consumer()?.node_address()))
    }

    /// The cluster that jobs are applied in.
    pub fn consumer(&self) -> Result<Cluster<'lab>, MarketError> {
        Ok(self.lab.cluster("consumer")?)
    }

    /// The clusters that sell.
    pub fn providers(&self) -> Result<Vec<Cluster<'lab>>, MarketError> {
        Ok(self.lab.clusters()?.into_iter().filter(|cluster| cluster.name() != "consumer").collect())
    }

    /// Keeps the market's books again from the node's raw logs, and compares.
    pub async fn audit(&self) -> Result<Books, MarketError> {
        audit::run(self.lab, &self.chain.market, None).await
    }

    /// The same, with one event of a job withheld, as a lying node would: what the auditor says then.
    pub async fn audit_withholding(&self, event: usize) -> Result<Books, MarketError> {
        audit::run(self.lab, &self.chain.market, Some(event)).await
    }
}

/// Forge's output folder.
fn artifacts() -> PathBuf {
    source_root().join("deploy/contracts/out")
}
