//! Offers over HTTP: publishing one, listing many.
//!
//! Of each provider's series the offer with the highest nonce counts. An object's name says provider, series, nonce and
//! end, and its content never changes; so each replica reads each offer once and knows from the names which count.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tradewind_gateway_api::{
    offer::SignedOffer,
    wire::{OfferFilter, OfferPage, Reason, Refusal},
};
use tradewind_market::{Address, OfferHash};
use utoipa::ToSchema;

use crate::{
    authorise::require_signer,
    gateway::{Gateway, Inner},
    http::{Refused, read_json},
    limits::{OFFER_BYTES_MAX, OFFERS_MAX, SERIES_PER_PROVIDER},
    store::{Creation, StoreError},
};

/// How long a replica lists what it knows before it looks for what others took.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Offers a page, at most.
const PAGE_MAX: usize = 200;

/// An offer's place in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OfferKey {
    pub(crate) provider: Address,
    pub(crate) series: u32,
    pub(crate) nonce: u64,
    pub(crate) valid_until: u64,
}

impl OfferKey {
    fn of(signed: &SignedOffer) -> Self {
        let sale = &signed.offer.sale;
        Self {
            provider: signed.offer.provider,
            series: sale.series,
            nonce: sale.nonce.get(),
            valid_until: sale.valid_until.get(),
        }
    }

    /// Provider and series, as a name that sorts.
    pub(crate) fn series_name(&self) -> String {
        format!("{}-{:08x}", self.provider, self.series)
    }

    fn path(&self) -> String {
        format!(
            "offers/{}/{:08x}/{:016x}-{:016x}",
            self.provider, self.series, self.nonce, self.valid_until
        )
    }

    /// From a name below `offers/`.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('/');
        let (provider, series, version) = (parts.next()?, parts.next()?, parts.next()?);
        let (nonce, valid_until) = version.split_once('-')?;
        Some(Self {
            provider: provider.parse().ok()?,
            series: u32::from_str_radix(series, 16).ok()?,
            nonce: u64::from_str_radix(nonce, 16).ok()?,
            valid_until: u64::from_str_radix(valid_until, 16).ok()?,
        })
    }
}

/// What a replica knows of the offers.
#[derive(Debug, Default)]
pub(crate) struct OfferShelf {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    looked: Option<Instant>,
    /// Content by path; it never changes.
    read: HashMap<String, Arc<SignedOffer>>,
    /// The offers that count, by provider and series.
    newest: BTreeMap<String, (OfferKey, Arc<SignedOffer>)>,
}

impl Inner {
    /// The offers that count, by provider and series, at most a moment old.
    async fn shelved(&self, anew: bool) -> Result<Vec<(String, OfferKey, Arc<SignedOffer>)>, StoreError> {
        let mut known = self.offers.known.lock().await;
        if anew || known.looked.is_none_or(|looked| looked.elapsed() > LOOK_EVERY) {
            let listed = self.store.listed("offers").await?;
            let mut read = HashMap::new();
            let mut newest: BTreeMap<String, (OfferKey, Arc<SignedOffer>)> = BTreeMap::new();
            for listed in listed {
                let Some(key) = OfferKey::parse(&listed.name) else {
                    continue;
                };
                let path = format!("offers/{}", listed.name);
                let offer = match known.read.get(&path) {
                    Some(offer) => Arc::clone(offer),
                    None => match self.store.get(&path).await? {
                        Some(content) => match serde_json::from_slice(&content) {
                            Ok(offer) => Arc::new(offer),
                            Err(error) => {
                                tracing::error!(%path, %error, "an object in the store is no offer; it is left alone");
                                continue;
                            }
                        },
                        // Swept since the listing.
                        None => continue,
                    },
                };
                read.insert(path, Arc::clone(&offer));
                let name = key.series_name();
                if newest.get(&name).is_none_or(|(other, _)| other.nonce < key.nonce) {
                    newest.insert(name, (key, offer));
                }
            }
            *known = Known {
                looked: Some(Instant::now()),
                read,
                newest,
            };
        }
        let shelved = known
            .newest
            .iter()
            .map(|(name, (key, offer))| (name.clone(), key.clone(), Arc::clone(offer)));
        Ok(shelved.collect())
    }
}

/// An offer was taken.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OfferTaken {
    /// What awards name it by.
    #[schema(value_type = String)]
    offer_hash: OfferHash,
}

/// Publishes a signed offer. A higher nonce of the same provider and series takes its place; the same offer again is
/// fine.
#[utoipa::path(
    post, path = "/v1/offers",
    request_body(content = Object, description = "a SignedOffer: offer, signature, details"),
    responses(
        (status = 201, body = OfferTaken), (status = 400, body = Refusal), (status = 403, body = Refusal),
        (status = 409, body = Refusal), (status = 413, body = Refusal), (status = 422, body = Refusal),
        (status = 429, body = Refusal), (status = 503, body = Refusal),
    ),
)]
pub(crate) async fn publish(
    State(gateway): State<Gateway>,
    body: Body,
) -> Result<(StatusCode, Json<OfferTaken>), Refused> {
    let gateway = &*gateway.0;
    let (signed, content) =
        read_json::<SignedOffer>(body, OFFER_BYTES_MAX, gateway.limits.body_stall).await?;
    let offer = &signed.offer;
    signed.check_details().map_err(|mismatch| {
        Refused::new(
            Reason::DetailsMismatch,
            mismatch.to_string(),
            "sign the digest of the very bytes that are sent as details, and say the same in both",
        )
    })?;
    check_time(gateway, &signed)?;
    require_signer(signed.digest(&gateway.domain), &signed.signature, offer.provider)?;
    gateway
        .standings
        .require_funds(offer.provider, offer.token)
        .await?;

    let key = OfferKey::of(&signed);
    let shelved = gateway.shelved(true).await?;
    check_room(&shelved, &key)?;
    let taken = Json(OfferTaken {
        offer_hash: offer.hash(),
    });
    if let Some((_, other, there)) = shelved.iter().find(|(name, _, _)| *name == key.series_name()) {
        if other.nonce > key.nonce {
            return Err(Refused::new(
                Reason::Superseded,
                format!(
                    "an offer of this series with nonce {} is here already",
                    other.nonce
                ),
                "sign with a higher nonce",
            ));
        }
        if other.nonce == key.nonce && there.offer != signed.offer {
            return Err(Refused::new(
                Reason::NonceUsed,
                "another offer of this series has the same nonce",
                "sign with a higher nonce",
            ));
        }
        if other.nonce == key.nonce {
            return Ok((StatusCode::CREATED, taken));
        }
    }
    // Two offers with one nonce that arrive together at two replicas may both be kept; the contract takes either.
    if gateway.store.create(&key.path(), content).await? == Creation::Created {
        gateway.offers.known.lock().await.looked = None;
    }
    Ok((StatusCode::CREATED, taken))
}

fn check_time(gateway: &Inner, signed: &SignedOffer) -> Result<(), Refused> {
    let now = gateway.clock.now();
    let until = signed.offer.sale.valid_until;
    let latest = now.saturating_add(gateway.limits.offer_ahead);
    if until <= now || until > latest {
        return Err(Refused::new(
            Reason::TimeOutOfBounds,
            format!("the offer ends at {until}; it must end after {now} and not after {latest}"),
            "sign offers for a few days and renew them",
        ));
    }
    Ok(())
}

fn check_room(shelved: &[(String, OfferKey, Arc<SignedOffer>)], key: &OfferKey) -> Result<(), Refused> {
    let series = key.series_name();
    let of_provider = || {
        shelved
            .iter()
            .filter(|(_, other, _)| other.provider == key.provider)
    };
    let known = of_provider().any(|(name, _, _)| *name == series);
    let remedy = "let offers of other series expire, or use fewer series";
    if !known && of_provider().count() >= SERIES_PER_PROVIDER {
        let message = format!("a provider may publish {SERIES_PER_PROVIDER} series at a time");
        return Err(Refused::new(Reason::QuotaReached, message, remedy));
    }
    if !known && shelved.len() >= OFFERS_MAX {
        let message = format!("this gateway lists {OFFERS_MAX} offers, and no more");
        return Err(Refused::new(Reason::QuotaReached, message, "use another gateway"));
    }
    Ok(())
}

/// Offers that are valid now, filtered, in a stable order, page by page.
#[utoipa::path(
    get, path = "/v1/offers",
    params(OfferFilter),
    responses((status = 200, body = OfferPage), (status = 400, body = Refusal), (status = 503, body = Refusal)),
)]
pub(crate) async fn list(
    State(gateway): State<Gateway>,
    filter: Result<Query<OfferFilter>, QueryRejection>,
) -> Result<Json<OfferPage>, Refused> {
    let Query(filter) = filter.map_err(|error| Refused::malformed(error.body_text()))?;
    let now = gateway.0.clock.now();
    let limit = filter
        .limit
        .map_or(PAGE_MAX, |limit| (limit as usize).clamp(1, PAGE_MAX));
    let shelved = gateway.0.shelved(false).await?;
    let mut fitting = shelved
        .iter()
        .filter(|(name, _, _)| filter.after.as_ref().is_none_or(|after| name > after))
        .filter(|(_, _, signed)| signed.offer.sale.valid_until > now && fits(&filter, signed));
    let page: Vec<_> = fitting.by_ref().take(limit).collect();
    let more = fitting.next().is_some();
    let next = if more {
        page.last().map(|(name, _, _)| name.clone())
    } else {
        None
    };
    let offers = page
        .into_iter()
        .map(|(_, _, signed)| SignedOffer::clone(signed))
        .collect();
    Ok(Json(OfferPage { offers, next }))
}

fn fits(filter: &OfferFilter, signed: &SignedOffer) -> bool {
    let offer = &signed.offer;
    filter.class.is_none_or(|class| class == offer.class_id)
        && filter.token.is_none_or(|token| token == offer.token)
        && filter.region.is_none_or(|region| region == offer.region)
        && filter.provider.is_none_or(|provider| provider == offer.provider)
}
