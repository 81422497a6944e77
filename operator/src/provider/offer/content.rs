//! What is signed: the offer and the document beside it, as a function of the object, the time and the gateways.
//! The same object at the same time gives the same bytes, before and after a restart. No client, no clock.

use std::time::Duration;

use tradewind_gateway_api::exact::Exact;
use tradewind_market::{
    Address, Nonce, Offer, UnixSeconds,
    class::region_id,
    offer::{Bounds, OfferDetails, Sale, recipient_commitment},
};

use super::validate::Valid;

/// Bits of the nonce that hold the object's generation; the time window stands above them. So a newer window
/// supersedes also an object that was deleted and made anew, whose generations start over.
const GENERATION_BITS: u32 = 20;

/// A gateway as offers name it: its account, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NamedGateway {
    pub(crate) account: Address,
    pub(crate) url: String,
}

/// What the offer says about its provider rather than about the object.
#[derive(Clone, Debug)]
pub(crate) struct Seller<'a> {
    pub(crate) account: Address,
    /// The age recipient that job keys are sealed to.
    pub(crate) recipient: &'a str,
    pub(crate) bounds: Bounds,
    pub(crate) gateways: &'a [NamedGateway],
    /// What isolation this cluster lacks, and the owner sells without.
    pub(crate) missing_isolation: &'a [String],
}

/// An offer and its document, not yet signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) offer: Offer,
    pub(crate) details: Exact<OfferDetails>,
}

/// When the offer that is right at `now` begins, ends and has to be renewed, and its nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) nonce: Nonce,
    pub(crate) from: UnixSeconds,
    pub(crate) until: UnixSeconds,
}

impl Window {
    /// Windows follow each other at half the validity, so that a new offer is out long before the old one ends.
    pub(crate) fn at(now: UnixSeconds, validity: Duration, generation: i64) -> Self {
        let step = (validity.as_secs() / 2).max(1);
        let index = now.get() / step;
        let generation = u64::try_from(generation).unwrap_or_default() & ((1 << GENERATION_BITS) - 1);
        Self {
            nonce: Nonce::new(index.wrapping_shl(GENERATION_BITS) | generation),
            from: UnixSeconds::new(index.saturating_mul(step)),
            until: UnixSeconds::new(index.saturating_add(2).saturating_mul(step)),
        }
    }
}

/// The offer for `valid` in `window`.
pub(crate) fn content(
    valid: &Valid,
    seller: &Seller<'_>,
    window: Window,
) -> Result<Content, serde_json::Error> {
    let details = Exact::new(OfferDetails {
        class: valid.class.clone(),
        slot: valid.slot,
        region: valid.region.clone(),
        recipient: seller.recipient.to_owned(),
        gateway_urls: seller
            .gateways
            .iter()
            .map(|gateway| gateway.url.clone())
            .collect(),
        egress: valid.egress.clone(),
        registries: valid.registries.clone(),
        runtime_class: valid.runtime_class.clone(),
        user_namespaces: valid.user_namespaces,
        missing_isolation: seller.missing_isolation.to_vec(),
        min_seconds_per_unit: valid.seconds_per_unit_min,
    })?;
    let offer = Offer {
        provider: seller.account,
        allowed_buyer: valid.allowed_buyer,
        token: valid.token,
        class_id: valid.class.id(),
        region: region_id(&valid.region),
        details: details.digest(),
        recipient: recipient_commitment(seller.recipient),
        sale: Sale {
            series: valid.series,
            nonce: window.nonce,
            valid_from: window.from,
            valid_until: window.until,
            price_per_slot_second: valid.price,
            slots: valid.slots,
            min_charge_bps: valid.min_charge,
        },
        bounds: seller.bounds,
        gateways: seller.gateways.iter().map(|gateway| gateway.account).collect(),
        verifiers: Vec::new(),
    };
    Ok(Content { offer, details })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn window(now: u64, generation: i64) -> Window {
        Window::at(UnixSeconds::new(now), HOUR, generation)
    }

    #[test]
    fn the_same_object_in_the_same_window_has_the_same_nonce_and_dates() {
        assert_eq!(window(1_800_000_000, 3), window(1_800_000_000 + 1799, 3));
        assert_ne!(window(1_800_000_000, 3), window(1_800_000_000 + 1800, 3));
    }

    #[test]
    fn a_newer_spec_and_a_newer_window_supersede_also_a_recreated_object() {
        let first = window(1_800_000_000, 7);
        assert!(window(1_800_000_000, 8).nonce > first.nonce, "a newer generation");
        assert!(
            window(1_800_001_800, 1).nonce > first.nonce,
            "made anew, one window later"
        );
    }

    #[test]
    fn an_offer_is_valid_now_and_for_at_least_half_its_validity() {
        for now in [1_800_000_000_u64, 1_800_000_901, 1_800_001_799] {
            let Window { from, until, .. } = window(now, 1);
            assert!(
                from.get() <= now && until.get() >= now + 1800,
                "{now}: {from} to {until}"
            );
        }
    }
}
