//! How suitable offers rank: cheaper, faster and more reliable, as much as the job's weights say.

use std::cmp::Reverse;

use super::Weights;
use super::filter::Suitable;
use crate::amount::TokenAmount;
use crate::ids::OfferHash;

const ONE_PPM: u128 = 1_000_000;

/// Best first when sorted in ascending order. Ties go to the cheaper offer, then to the lower hash, so that
/// the order in which offers came never decides.
pub(super) type Rank = (Reverse<u128>, TokenAmount, OfferHash);

/// The rank of an offer beside the cheapest suitable one.
pub(super) fn rank(weights: Weights, offer: &Suitable<'_>, cheapest: TokenAmount) -> Rank {
    let score = weighted(weights, offer, cheapest);
    (Reverse(score), offer.price_per_unit, offer.candidate.hash)
}

fn weighted(weights: Weights, offer: &Suitable<'_>, cheapest: TokenAmount) -> u128 {
    let standing = &offer.candidate.standing;
    let price = price_ppm(offer.price_per_unit, cheapest);
    let all_zero = weights == Weights::default();
    let weight = if all_zero { 1 } else { u128::from(weights.price) };
    let parts = [
        (weight, price),
        (
            u128::from(weights.speed),
            u128::from(standing.speed_ppm).min(ONE_PPM),
        ),
        (
            u128::from(weights.reliability),
            u128::from(standing.reliability_ppm).min(ONE_PPM),
        ),
    ];
    parts
        .into_iter()
        .map(|(weight, ppm)| weight.saturating_mul(ppm))
        .fold(0, u128::saturating_add)
}

/// The cheapest price in millionths of this one, rounded down: 1,000,000 for the cheapest, 0 for the dearest.
fn price_ppm(price: TokenAmount, cheapest: TokenAmount) -> u128 {
    // Prices fit 96 bits, so that the product fits.
    let scaled = cheapest.base_units().saturating_mul(ONE_PPM);
    scaled.checked_div(price.base_units()).unwrap_or(ONE_PPM)
}
