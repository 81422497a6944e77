//! The role `relay`: the only address that job pods can reach.
//!
//! It hands out blobs, each fetched once for the cluster however many pods ask, and passes on what pods store, for
//! those that carry a storage grant of the cluster's own provider. To hosts it leads with that provider's host grant
//! alone. It reaches the configured gateways and granted hosts, and nothing else, asks no chain and keeps no secret.

mod cache;
mod egress;
mod routes;

pub use egress::EgressRules;

use std::{path::PathBuf, sync::Arc};

use axum::{
    Router, middleware,
    routing::{get, put},
};
use prometheus::Registry;
use tokio::sync::Semaphore;
use tradewind_gateway_api::{
    client::{GatewayClient, Spread},
    wire::path,
};
use tradewind_market::{Address, eip712::Domain};

use crate::{
    gateway::Clock,
    http::{Door, at_the_door, no_such_method, no_such_path},
    limits::{Limits, RateLimiter},
    metrics::{BlobMetrics, CacheMetrics, RequestMetrics},
};
use cache::Cache;
use egress::Egress;

/// What a relay is made of.
#[derive(Debug)]
pub struct RelayParts {
    /// The gateways that blobs come from and go to.
    pub upstream: GatewayClient,
    /// Which hosts jobs may be led to.
    pub egress: EgressRules,
    /// Whether each gateway gets what is stored, or the first that takes it.
    pub spread: Spread,
    /// Whose grants count.
    pub provider: Address,
    /// The market that grants are signed for.
    pub domain: Domain,
    /// Where the cache is.
    pub cache: PathBuf,
    /// How many bytes it may hold.
    pub cache_bytes: u64,
    /// How much of everything else.
    pub limits: Limits,
    /// The time.
    pub clock: Clock,
}

/// A running relay, shared by all requests. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Relay(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    upstream: GatewayClient,
    spread: Spread,
    provider: Address,
    domain: Domain,
    cache: Cache,
    limits: Limits,
    clock: Clock,
    egress: Egress,
    uploads: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
    blob_metrics: BlobMetrics,
    door: Door,
}

/// Why a relay could not start.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The cache's folder cannot be used.
    #[error("the cache in {folder} cannot be used")]
    Cache {
        /// Which folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A metric could not be registered.
    #[error("the relay's metrics could not be registered")]
    Metrics(#[from] prometheus::Error),
}

impl Relay {
    /// Puts the parts together: finds what the cache still holds, and registers the metrics.
    pub fn new(parts: RelayParts, registry: &Registry) -> Result<Self, RelayError> {
        let RelayParts {
            upstream,
            egress,
            spread,
            provider,
            domain,
            cache,
            cache_bytes,
            limits,
            clock,
        } = parts;
        let opened =
            Cache::open(&cache, cache_bytes, CacheMetrics::register(registry)?).map_err(|source| {
                RelayError::Cache {
                    folder: cache,
                    source,
                }
            })?;
        Ok(Self(Arc::new(Inner {
            upstream,
            egress: Egress::new(egress),
            spread,
            provider,
            domain,
            cache: opened,
            clock,
            uploads: Arc::new(Semaphore::new(limits.uploads)),
            downloads: Arc::new(Semaphore::new(limits.downloads)),
            blob_metrics: BlobMetrics::register(registry)?,
            door: Door {
                rate: Arc::new(RateLimiter::new(limits.rate)),
                metrics: RequestMetrics::register(registry)?,
            },
            limits,
        })))
    }

    /// All its routes.
    pub fn router(&self) -> Router {
        Router::new()
            .route(path::BLOB, put(routes::put).get(routes::get).head(routes::head))
            .route(path::UPLOAD, get(routes::upload_state))
            .fallback(no_such_path)
            .method_not_allowed_fallback(no_such_method)
            .layer(middleware::from_fn_with_state(self.clone(), egress::gate))
            .layer(middleware::from_fn_with_state(self.0.door.clone(), at_the_door))
            .with_state(self.clone())
    }
}
