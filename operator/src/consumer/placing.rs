//! Looks for seats: observes offers again and has the market choose among them.

use std::collections::BTreeMap;

use tradewind_chain::calls::Fill;
use tradewind_gateway_api::client::ClientError;
use tradewind_market::{
    Address, JobId, Knowledge, OfferHash, Seconds, Terms, TokenAmount,
    event::FillRefusal,
    index::MarketIndex,
    matching::{Candidate, Demand, Matching, PlannedFill, Standing, Want, match_offers},
    state::{SeatState, SeatVerdict},
};

use super::{Consumer, memory::Memo, offers, terms::Asked};
use crate::shell::chain::ChainView;

/// How much longer than now an offer must be valid: a transaction may wait for several blocks.
const VALIDITY_MARGIN: Seconds = Seconds::new(30);
const ONE_PPM: u64 = 1_000_000;

/// What is looked for.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    /// The job.
    pub(crate) job: JobId,
    /// On these terms; a class of zero lets one be chosen.
    pub(crate) terms: &'a Terms,
    /// By what the object asks.
    pub(crate) asked: &'a Asked,
    /// The image's registry and repository.
    pub(crate) image: &'a str,
    /// Groups that want seats.
    pub(crate) wants: &'a [Want],
    /// What it may cost.
    pub(crate) budget: TokenAmount,
}

/// Asks the gateways for offers and chooses among them. What was found is kept in the memo.
pub(crate) async fn search(
    consumer: &Consumer,
    view: &ChainView,
    memo: &mut Memo,
    search: Search<'_>,
) -> Result<Matching, ClientError> {
    let Search {
        job,
        terms,
        asked,
        image,
        wants,
        budget,
    } = search;
    let context = &consumer.context;
    let found = offers::observe(&context.gateways, &context.market.domain, asked.token).await?;
    let forged = found.forged;
    let refused = refused_fills(view.head(), job);
    let candidates: Vec<Candidate<'_>> = found
        .genuine
        .iter()
        .map(|(hash, offer)| Candidate {
            offer: &offer.offer,
            hash: *hash,
            details: offer.details.value(),
            owner: offer.offer.provider,
            series: Knowledge::Known(view.head().series(offer.offer.provider, offer.offer.sale.series)),
            free_bond: Knowledge::Known(view.head().bond(offer.offer.provider, asked.token).free()),
            standing: standing(view.finalized(), offer.offer.provider),
            refused_before: refused.get(hash).copied(),
        })
        .collect();
    let demand = Demand {
        buyer: context.account(),
        terms,
        wants,
        slot: asked.slot,
        hosts: &asked.hosts,
        image,
        regions: &asked.regions,
        gpu_models: &asked.gpu_models,
        allow: &asked.allow,
        deny: &asked.deny,
        weights: asked.weights,
        budget,
        margin: VALIDITY_MARGIN,
    };
    let matching = match_offers(&demand, &candidates, view.now().unwrap_or_default());
    memo.refusals = matching
        .refusal_counts()
        .into_iter()
        .map(|(reason, count)| (reason.label(), count))
        .collect();
    if forged > 0 {
        memo.refusals.push(("SignatureInvalid".to_owned(), forged));
    }
    for (reason, count) in &memo.refusals {
        consumer
            .metrics
            .refusals
            .with_label_values(&[reason])
            .inc_by(u64::from(*count));
    }
    memo.keep(found);
    Ok(matching)
}

/// The requests that the market takes, for fills whose offers are known.
pub(crate) fn requests(memo: &Memo, fills: &[PlannedFill]) -> Vec<Fill> {
    fills
        .iter()
        .filter_map(|fill| {
            let signed = memo.offers.get(&fill.offer_hash)?;
            Some(Fill {
                offer: signed.offer.clone(),
                signature: signed.signature.clone(),
                first_group: fill.first_group,
                groups: fill.groups,
            })
        })
        .collect()
}

fn refused_fills(index: &MarketIndex, job: JobId) -> BTreeMap<OfferHash, FillRefusal> {
    match index.job(job) {
        Knowledge::Known(job) => job.refused_fills().collect(),
        Knowledge::Absent | Knowledge::Unknown => BTreeMap::new(),
    }
}

/// What the chain tells of a provider's past: the share of its judged seats that were agreed. How fast it is, only
/// its own reports would tell, and those are not believed.
fn standing(index: &MarketIndex, provider: Address) -> Standing {
    let (mut judged, mut agreed) = (0_u64, 0_u64);
    for id in index.jobs_of_provider(provider) {
        let Knowledge::Known(job) = index.job(id) else {
            continue;
        };
        for (_, _, seat, _) in job.seats_of(provider) {
            match &seat.state {
                SeatState::Judged { verdict, .. } | SeatState::Settled { verdict, .. } => match verdict {
                    SeatVerdict::Agreed => {
                        judged += 1;
                        agreed += 1;
                    }
                    SeatVerdict::Dissent | SeatVerdict::NoShow | SeatVerdict::Unstored => judged += 1,
                    SeatVerdict::Abstained | SeatVerdict::Excused | SeatVerdict::Unresolved => {}
                },
                SeatState::Awarded
                | SeatState::Committed { .. }
                | SeatState::Abstained { .. }
                | SeatState::Opened { .. } => {}
            }
        }
    }
    match agreed.saturating_mul(ONE_PPM).checked_div(judged) {
        Some(share) => Standing {
            reliability_ppm: u32::try_from(share).unwrap_or(u32::MAX),
            ..Standing::UNPROVEN
        },
        None => Standing::UNPROVEN,
    }
}
