//! A market on a lab: the contracts and a token on its chain, a gateway and a consumer in one cluster, a provider
//! in each other cluster. What a person does with helm and kubectl, done the same way.
//!
//! It knows the product by what users see of it: chart, custom resources, contracts, HTTP. It never reaches into a
//! running part.

pub mod account;
mod audit;
mod chain;
mod claim;
pub mod cli;
mod error;
mod install;
pub mod manifest;
mod party;
mod view;
pub mod watch;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use account::Role;
pub use audit::{BondBooks, Books, GroupBooks, JobBooks, SeatBooks, TokenBooks};
pub use error::MarketError;
pub use install::{Images, Windows};
pub use party::{HeldSeat, Party, Purchase, Stall};
pub use view::{Seeming, View};

use tradewind_crds::condition;
use tradewind_crds::provider_offer::{OfferCondition, ProviderOffer};

use crate::lab::{Cluster, Lab, Progress, source_root};
use watch::{Found, Watched};

/// The namespace that the chart is installed in, in every cluster.
pub const NAMESPACE: &str = "tradewind";
/// The node port of the gateway in the consumer's cluster.
pub const GATEWAY_PORT: u16 = 30_080;
/// What the offers of the lab's data centers are called.
const OFFER: &str = "cpu-spare";
/// Decimals of the lab's token.
pub const TOKEN_DECIMALS: u8 = 18;

/// What is written down of a market, in the lab's folder.
const RECORD: &str = "market.json";

#[derive(Serialize, Deserialize)]
struct Record {
    chain: chain::Contracts,
    images: Images,
    windows: Windows,
}

/// A market that is up on a lab.
#[derive(Clone, Debug)]
pub struct Market<'lab> {
    lab: &'lab Lab,
    chain: chain::Contracts,
    images: Images,
    windows: Windows,
}

impl<'lab> Market<'lab> {
    /// Puts contracts on the lab's chain, images into its registry, and the chart into each cluster: role consumer
    /// with a gateway into `consumer`, role provider into the others.
    pub async fn raise(lab: &'lab Lab, windows: Windows, progress: &Progress) -> Result<Self, MarketError> {
        progress.say("building images and pushing them to the lab's registry");
        let images = Images::push(lab, progress)?;
        progress.say("deploying the market and a token");
        let chain = chain::Contracts::deploy(lab, &artifacts()).await?;
        progress.say(format!("market {} token {}", chain.market, chain.token));
        let market = Self {
            lab,
            chain,
            images,
            windows,
        };
        market.install_consumer().await?;
        progress.say("consumer and gateway are ready");
        let providers: Vec<_> = market
            .providers()?
            .into_iter()
            .map(|cluster| market.install_provider(cluster))
            .collect();
        futures::future::try_join_all(providers).await?;
        progress.say("providers are ready");
        market.record()?;
        Ok(market)
    }

    /// The market that was raised on a lab before.
    pub fn attach(lab: &'lab Lab) -> Result<Self, MarketError> {
        let path = lab.data().join(RECORD);
        let text = std::fs::read_to_string(&path).map_err(MarketError::file(&path))?;
        let unreadable = |error: serde_json::Error| MarketError::file(&path)(error.into());
        let Record {
            chain,
            images,
            windows,
        } = serde_json::from_str(&text).map_err(unreadable)?;
        Ok(Self {
            lab,
            chain,
            images,
            windows,
        })
    }

    fn record(&self) -> Result<(), MarketError> {
        let path = self.lab.data().join(RECORD);
        let Self {
            lab: _,
            chain,
            images,
            windows,
        } = self.clone();
        let text = serde_json::to_string(&Record {
            chain,
            images,
            windows,
        })
        .map_err(|error| MarketError::file(&path)(error.into()))?;
        std::fs::write(&path, text).map_err(MarketError::file(&path))
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

    /// The protocol's windows in this market.
    pub fn windows(&self) -> Windows {
        self.windows
    }

    /// The gateway's base URL, from anywhere in the lab.
    pub fn gateway(&self) -> Result<String, MarketError> {
        Ok(format!(
            "http://{}:{GATEWAY_PORT}",
            self.consumer()?.node_address()
        ))
    }

    /// The cluster that jobs are applied in.
    pub fn consumer(&self) -> Result<Cluster<'lab>, MarketError> {
        Ok(self.lab.cluster("consumer")?)
    }

    /// The clusters that sell.
    pub fn providers(&self) -> Result<Vec<Cluster<'lab>>, MarketError> {
        Ok(self
            .lab
            .clusters()?
            .into_iter()
            .filter(|cluster| cluster.name() != "consumer")
            .collect())
    }

    /// Puts the lab's usual offer up in every data center, and waits until all are published.
    pub async fn sell(&self, limit: Duration) -> Result<(), MarketError> {
        let providers = self.providers()?;
        for cluster in &providers {
            let offer = manifest::read(
                "offer.yaml",
                &[("TOKEN", self.token()), ("REGION", cluster.name())],
            )?;
            manifest::apply(cluster, &offer).await?;
        }
        for cluster in &providers {
            self.wait_until_sold(cluster, limit).await?;
        }
        Ok(())
    }

    /// The cluster of whoever acts on the chain.
    pub fn cluster_of(&self, role: Role) -> Result<Cluster<'lab>, MarketError> {
        for cluster in self.lab.clusters()? {
            if self.role_of(&cluster)? == role {
                return Ok(cluster);
            }
        }
        Err(MarketError::Chain(format!("{role:?} has no cluster in this lab")))
    }

    /// Waits until the usual offer of a data center's cluster is published.
    pub async fn wait_until_sold(&self, cluster: &Cluster<'_>, limit: Duration) -> Result<(), MarketError> {
        self.wait_until_published(cluster, OFFER, limit).await
    }

    /// Waits until an offer of a data center's cluster is published.
    pub async fn wait_until_published(
        &self,
        cluster: &Cluster<'_>,
        offer: &str,
        limit: Duration,
    ) -> Result<(), MarketError> {
        let what = format!("{}: the publication of the offer {offer}", cluster.name());
        let mut offer: Watched<ProviderOffer> = Watched::start(cluster.client().await?, NAMESPACE, offer);
        offer
            .until(&what, limit, |offer| {
                let Some(status) = &offer.status else {
                    return Found::NotYet("no status yet".to_owned());
                };
                if condition::is_true(&status.conditions, OfferCondition::Publishing) {
                    return Found::Wanted;
                }
                let text = |text: &Option<String>| text.clone().unwrap_or_default();
                Found::NotYet(format!("{}: {}", text(&status.reason), text(&status.message)))
            })
            .await
    }

    /// Keeps the market's books again from the node's raw logs, and compares.
    pub async fn audit(&self) -> Result<Books, MarketError> {
        let audited = audit::run(self.lab, &self.chain.market, None).await?;
        audited.map_err(MarketError::Audit)
    }

    /// The same, with one event of a job withheld, as a lying node would: what the auditor finds then, if anything.
    pub async fn audit_withholding(&self, job: &str, sequence: u64) -> Result<Option<String>, MarketError> {
        let withheld = audit::Withheld { job, sequence };
        let audited = audit::run(self.lab, &self.chain.market, Some(withheld)).await?;
        Ok(audited.err())
    }
}

/// The contracts' folder, with what forge made of them.
fn artifacts() -> PathBuf {
    source_root().join("deploy/contracts")
}
