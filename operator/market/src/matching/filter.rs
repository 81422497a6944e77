//! What an offer must be to be considered at all. The checks stand in the order in which they are named.

use std::collections::BTreeSet;

use super::{Candidate, Demand, Refusal};
use crate::amount::TokenAmount;
use crate::class::Class;
use crate::money::SeatMoney;
use crate::offer::Offer;
use crate::quantity::{Knowledge, Slots, UnixSeconds};
use crate::terms::{MAX_OFFER_GATEWAYS, Terms};

/// A candidate that passed, with what it can still give.
#[derive(Debug, Clone)]
pub(super) struct Suitable<'a> {
    pub(super) candidate: Candidate<'a>,
    pub(super) price_per_unit: TokenAmount,
    pub(super) slots_left: Slots,
    pub(super) free_bond: TokenAmount,
}

/// Whether the offer suits the job, and if not, the first reason.
pub(super) fn suits<'a>(
    demand: &Demand<'_>,
    candidate: &Candidate<'a>,
    now: UnixSeconds,
) -> Result<Suitable<'a>, Refusal> {
    stands(demand, candidate.offer, now)?;
    parties(demand, candidate)?;
    hardware(demand, candidate)?;
    place(demand, candidate)?;
    let price_per_unit = price(demand.terms, candidate.offer)?;
    within_bounds(demand.terms, candidate, now)?;
    named_in_common(demand.terms, candidate.offer)?;
    let (slots_left, free_bond) = capacity(demand, candidate, price_per_unit)?;
    Ok(Suitable {
        candidate: candidate.clone(),
        price_per_unit,
        slots_left,
        free_bond,
    })
}

fn stands(demand: &Demand<'_>, offer: &Offer, now: UnixSeconds) -> Result<(), Refusal> {
    let sale = &offer.sale;
    if now < sale.valid_from {
        return Err(Refusal::NotYetValid);
    }
    if now.saturating_add(demand.margin) > sale.valid_until {
        return Err(Refusal::Expired);
    }
    Ok(())
}

fn parties(demand: &Demand<'_>, candidate: &Candidate<'_>) -> Result<(), Refusal> {
    let offer = candidate.offer;
    if !offer.allowed_buyer.is_zero() && offer.allowed_buyer != demand.buyer {
        return Err(Refusal::BuyerNotAllowed);
    }
    if demand.deny.contains(&offer.provider) {
        return Err(Refusal::ProviderDenied);
    }
    if !demand.allow.is_empty() && !demand.allow.contains(&offer.provider) {
        return Err(Refusal::ProviderNotAllowed);
    }
    if offer.token != demand.terms.pricing.token {
        return Err(Refusal::TokenMismatch);
    }
    Ok(())
}

fn hardware(demand: &Demand<'_>, candidate: &Candidate<'_>) -> Result<(), Refusal> {
    let wanted_class = demand.terms.shape.class_id;
    if !wanted_class.is_zero() && candidate.offer.class_id != wanted_class {
        return Err(Refusal::ClassMismatch);
    }
    let (wanted, slot) = (&demand.slot, &candidate.details.slot);
    if !demand.gpu_models.is_empty() {
        match &candidate.details.class {
            Class::Gpu(gpu) if demand.gpu_models.contains(&gpu.model) => {}
            Class::Gpu(_) | Class::Cpu { .. } => return Err(Refusal::GpuModelMismatch),
        }
    }
    let checks = [
        (slot.gpus >= wanted.gpus, Refusal::GpuTooSmall),
        (
            slot.gpu_memory_bytes >= wanted.gpu_memory_bytes,
            Refusal::GpuTooSmall,
        ),
        (slot.cpu_millis >= wanted.cpu_millis, Refusal::CpuTooSmall),
        (slot.memory_bytes >= wanted.memory_bytes, Refusal::MemoryTooSmall),
        (slot.disk_bytes >= wanted.disk_bytes, Refusal::DiskTooSmall),
    ];
    first_failure(checks)
}

fn place(demand: &Demand<'_>, candidate: &Candidate<'_>) -> Result<(), Refusal> {
    let details = candidate.details;
    let registry_allowed = details.registries.iter().any(|entry| covers(entry, demand.image));
    first_failure([
        (
            demand.regions.is_empty() || demand.regions.contains(&details.region),
            Refusal::RegionMismatch,
        ),
        (
            demand
                .hosts
                .iter()
                .all(|host| details.egress.iter().any(|allowed| allowed.covers(host))),
            Refusal::HostNotAllowed,
        ),
        (registry_allowed, Refusal::RegistryNotAllowed),
    ])
}

/// Whether a registry entry covers an image: `*`, the same name, or a name that it continues after a slash.
fn covers(entry: &str, image: &str) -> bool {
    entry == "*"
        || image
            .strip_prefix(entry)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn price(terms: &Terms, offer: &Offer) -> Result<TokenAmount, Refusal> {
    let price = offer
        .sale
        .price_per_slot_second
        .checked_mul_seconds(terms.shape.seconds_per_unit);
    price
        .filter(|price| *price <= terms.pricing.picked_cap)
        .ok_or(Refusal::PriceTooHigh)
}

fn within_bounds(terms: &Terms, candidate: &Candidate<'_>, now: UnixSeconds) -> Result<(), Refusal> {
    let (bounds, windows, pricing) = (&candidate.offer.bounds, &terms.windows, &terms.pricing);
    let seconds = terms.shape.seconds_per_unit;
    let lock = terms.lock_time(now);
    let fits = lock.is_some_and(|lock| lock <= bounds.max_lock_seconds)
        && windows.commit_grace >= bounds.min_commit_grace
        && windows.reveal_window >= bounds.min_reveal_window
        && windows.retention <= bounds.max_retention
        && pricing.bond_bps <= bounds.max_bond_bps
        && pricing.no_show_bps <= bounds.max_no_show_bps
        && pricing.inconclusive_bps >= bounds.min_inconclusive_bps;
    first_failure([
        (seconds <= bounds.max_seconds_per_unit, Refusal::UnitTooLong),
        (
            seconds >= candidate.details.min_seconds_per_unit,
            Refusal::UnitTooShort,
        ),
        (fits, Refusal::TermsOutOfBounds),
        (
            bounds.policies & terms.redundancy.policy.bit() != 0,
            Refusal::PolicyNotAccepted,
        ),
    ])
}

fn named_in_common(terms: &Terms, offer: &Offer) -> Result<(), Refusal> {
    // The market reads no more than the first eight of an offer's lists.
    let gateways: BTreeSet<_> = offer.gateways.iter().take(MAX_OFFER_GATEWAYS).collect();
    let verifiers: BTreeSet<_> = offer.verifiers.iter().take(MAX_OFFER_GATEWAYS).collect();
    let verifier = &terms.content.verifier;
    first_failure([
        (
            terms.gateways.iter().any(|gateway| gateways.contains(gateway)),
            Refusal::NoCommonGateway,
        ),
        (
            verifier.is_zero() || verifiers.contains(verifier),
            Refusal::VerifierNotNamed,
        ),
        (
            offer.sale.min_charge_bps <= terms.pricing.no_show_bps,
            Refusal::ChargeTooHigh,
        ),
    ])
}

/// What the offer can still give: from what is unknown nothing is bought.
fn capacity(
    demand: &Demand<'_>,
    candidate: &Candidate<'_>,
    price_per_unit: TokenAmount,
) -> Result<(Slots, TokenAmount), Refusal> {
    let series = match candidate.series {
        Knowledge::Known(series) => series,
        Knowledge::Absent => crate::index::Series::default(),
        Knowledge::Unknown => return Err(Refusal::StateUnknown),
    };
    let free_bond = match candidate.free_bond {
        Knowledge::Known(free_bond) => free_bond,
        Knowledge::Absent => TokenAmount::ZERO,
        Knowledge::Unknown => return Err(Refusal::StateUnknown),
    };
    let sale = &candidate.offer.sale;
    if sale.nonce < series.min_nonce {
        return Err(Refusal::Superseded);
    }
    if candidate.refused_before.is_some_and(is_lasting) {
        return Err(Refusal::RefusedByMarket);
    }
    let slots_left = sale.slots.checked_sub(series.used).unwrap_or(Slots::ZERO);
    if slots_left < demand.terms.shape.slots_per_seat {
        return Err(Refusal::SlotsSpent);
    }
    let pricing = &demand.terms.pricing;
    let smallest_bond = demand
        .wants
        .iter()
        .filter_map(|want| demand.terms.shape.group_units(want.group))
        .filter_map(|units| SeatMoney::of(price_per_unit, units.count, pricing, sale.min_charge_bps))
        .map(|money| money.bond)
        .min();
    if smallest_bond.is_some_and(|bond| bond > free_bond) {
        return Err(Refusal::BondTooLow);
    }
    Ok((slots_left, free_bond))
}

/// Whether what the market said of an offer stays true; slots, bonds, escrow and seats change.
const fn is_lasting(refusal: crate::event::FillRefusal) -> bool {
    use crate::event::FillRefusal as F;
    match refusal {
        F::SignatureInvalid
        | F::Expired
        | F::Superseded
        | F::BuyerNotAllowed
        | F::TokenMismatch
        | F::ClassMismatch
        | F::PriceAboveCap
        | F::TermsOutOfBounds
        | F::NoCommonGateway
        | F::VerifierNotNamed
        | F::ChargeAboveBurn
        | F::TooManyFills => true,
        F::NotYetValid
        | F::GroupOutOfRange
        | F::GroupNotFilling
        | F::GroupFull
        | F::AlreadySeated
        | F::SlotsSpent
        | F::BondTooSmall
        | F::EscrowSpent => false,
    }
}

fn first_failure<const N: usize>(checks: [(bool, Refusal); N]) -> Result<(), Refusal> {
    checks
        .into_iter()
        .find(|(holds, _)| !holds)
        .map_or(Ok(()), |(_, reason)| Err(reason))
}
