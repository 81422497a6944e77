//! Standing offers as the gateways have them, each checked to be its provider's own words.
//!
//! A gateway may withhold or keep stale offers, so all of them are asked and the newest of each series counts. It
//! never judges whether an offer suits a job.

use std::collections::BTreeMap;

use tradewind_chain::{Signature, recover};
use tradewind_gateway_api::{
    client::{ClientError, GatewayClient},
    offer::SignedOffer,
    signed::key_signature,
    wire::OfferFilter,
};
use tradewind_market::{Address, Nonce, OfferHash, eip712::Domain};

/// What the gateways have.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    /// Offers that their providers signed, the newest of each series, by hash.
    pub(crate) genuine: BTreeMap<OfferHash, SignedOffer>,
    /// How many were passed over because signature or document does not hold.
    pub(crate) forged: u32,
}

/// Asks every gateway for the offers in a token. An error only where none of them answers.
pub(crate) async fn observe(
    gateways: &GatewayClient,
    domain: &Domain,
    token: Address,
) -> Result<Offers, ClientError> {
    let filter = OfferFilter {
        token: Some(token),
        ..OfferFilter::default()
    };
    let mut answers = Vec::new();
    let mut failure = ClientError::NoGateway;
    let mut answered = false;
    for gateway in gateways.gateways() {
        match gateways.only(gateway).offers(&filter).await {
            Ok(offers) => {
                answered = true;
                answers.extend(offers);
            }
            Err(error) => failure = error,
        }
    }
    if answered {
        Ok(sift(answers, domain))
    } else {
        Err(failure)
    }
}

fn sift(offers: Vec<SignedOffer>, domain: &Domain) -> Offers {
    let mut forged = 0_u32;
    let mut newest: BTreeMap<(Address, u32), (Nonce, SignedOffer)> = BTreeMap::new();
    for offer in offers {
        if !is_genuine(&offer, domain) {
            forged = forged.saturating_add(1);
            continue;
        }
        let (series, nonce) = (
            (offer.offer.provider, offer.offer.sale.series),
            offer.offer.sale.nonce,
        );
        if newest.get(&series).is_none_or(|(known, _)| *known < nonce) {
            newest.insert(series, (nonce, offer));
        }
    }
    let genuine = newest
        .into_values()
        .map(|(_, offer)| (offer.offer.hash(), offer))
        .collect();
    Offers { genuine, forged }
}

fn is_genuine(offer: &SignedOffer, domain: &Domain) -> bool {
    let signed = key_signature(&offer.signature)
        .and_then(|bytes| recover(offer.digest(domain), &Signature::from_bytes(bytes)).ok())
        .is_some_and(|signer| signer == offer.offer.provider);
    signed && offer.check_details().is_ok()
}
