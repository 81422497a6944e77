//! The role `gateway`: its parts, its routes, its tasks.

use std::{fmt, sync::Arc, time::SystemTime};

use axum::{
    Json, Router,
    extract::State,
    middleware,
    routing::{get, post, put},
};
use prometheus::Registry;
use tokio::sync::Semaphore;
use tradewind_chain::Signer;
use tradewind_gateway_api::wire::{About, path};
use tradewind_market::{UnixSeconds, eip712::Domain};

use crate::{
    blobs::{self, holds::Totals},
    bundles,
    http::{Door, at_the_door, no_such_method, no_such_path},
    indexes,
    limits::{Limits, RECEIPTS_AT_ONCE, RateLimiter},
    messages,
    metrics::{BlobMetrics, RequestMetrics, SweepMetrics},
    offers::{self, OfferShelf},
    openapi, receipts,
    standing::Standings,
    store::Store,
};

/// Where the time comes from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> UnixSeconds + Send + Sync>);

impl Clock {
    /// The system's.
    pub fn system() -> Self {
        Self::from_fn(|| {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            UnixSeconds::new(since.map_or(0, |since| since.as_secs()))
        })
    }

    /// Any other.
    pub fn from_fn(now: impl Fn() -> UnixSeconds + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
    pub fn now(&self) -> UnixSeconds {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// What a gateway is made of.
#[derive(Debug)]
pub struct GatewayParts {
    /// Its state.
    pub store: Store,
    /// The market that everything is signed for.
    pub domain: Domain,
    /// Who may store and publish.
    pub standings: Standings,
    /// Signs receipts.
    pub signer: Arc<dyn Signer>,
    /// How much of everything.
    pub limits: Limits,
    /// The time.
    pub clock: Clock,
}

/// A running gateway, shared by all requests. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) domain: Domain,
    pub(crate) standings: Standings,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) uploads: Arc<Semaphore>,
    pub(crate) downloads: Arc<Semaphore>,
    pub(crate) receipts: Semaphore,
    pub(crate) totals: Totals,
    pub(crate) offers: OfferShelf,
    pub(crate) blob_metrics: BlobMetrics,
    pub(crate) sweep_metrics: SweepMetrics,
    door: Door,
}

impl Gateway {
    /// Puts the parts together and registers the metrics.
    pub fn new(parts: GatewayParts, registry: &Registry) -> Result<Self, prometheus::Error> {
        let GatewayParts {
            store,
            domain,
            standings,
            signer,
            limits,
            clock,
        } = parts;
        Ok(Self(Arc::new(Inner {
            store,
            domain,
            standings,
            signer,
            clock,
            uploads: Arc::new(Semaphore::new(limits.uploads)),
            downloads: Arc::new(Semaphore::new(limits.downloads)),
            receipts: Semaphore::new(RECEIPTS_AT_ONCE),
            totals: Totals::default(),
            offers: OfferShelf::default(),
            blob_metrics: BlobMetrics::register(registry)?,
            sweep_metrics: SweepMetrics::register(registry)?,
            door: Door {
                rate: Arc::new(RateLimiter::new(limits.rate)),
                metrics: RequestMetrics::register(registry)?,
            },
            limits,
        })))
    }

    /// Whether the store answers.
    pub async fn check_store(&self) -> Result<(), crate::store::StoreError> {
        self.0.store.check().await
    }

    /// All its routes.
    pub fn router(&self) -> Router {
        Router::new()
            .route(path::ABOUT, get(about))
            .route(path::OPENAPI, get(openapi::serve))
            // HEAD apart from GET, so that it reads no content.
            .route(path::BLOB, put(blobs::put).get(blobs::get).head(blobs::head))
            .route(path::UPLOAD, get(blobs::upload_state))
            .route(path::OFFERS, post(offers::publish).get(offers::list))
            .route(path::BUNDLE, put(bundles::publish).get(bundles::newest))
            .route(path::INDEX, put(indexes::publish).get(indexes::get))
            .route(path::MESSAGES, post(messages::leave).get(messages::list))
            .route(path::RECEIPTS, post(receipts::issue))
            .fallback(no_such_path)
            .method_not_allowed_fallback(no_such_method)
            .layer(middleware::from_fn_with_state(self.0.door.clone(), at_the_door))
            .with_state(self.clone())
    }
}

/// Who this gateway is and what it takes.
#[utoipa::path(get, path = "/v1/about", responses((status = 200, body = About)))]
pub(crate) async fn about(State(gateway): State<Gateway>) -> Json<About> {
    let Inner {
        domain,
        signer,
        limits,
        ..
    } = &*gateway.0;
    Json(About {
        gateway: signer.address(),
        chain_id: domain.chain_id,
        market: domain.market,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        blob_bytes_max: limits.blob_bytes,
        retention_default: limits.retention_default,
        retention_max: limits.retention_max,
    })
}
