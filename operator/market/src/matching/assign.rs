//! Seats to offers, group by group, within one class; and which class.

use std::collections::{BTreeMap, BTreeSet};

use super::filter::Suitable;
use super::score::{Rank, rank};
use super::{Cost, Demand, PlannedFill, Refusal, Want};
use crate::amount::TokenAmount;
use crate::ids::{Address, ClassId, OfferHash};
use crate::intervals::GroupSet;
use crate::money::SeatMoney;
use crate::quantity::{GroupIndex, Slots};

/// What came of one class, or of none.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    pub(super) class: Option<ClassId>,
    pub(super) fills: Vec<PlannedFill>,
    pub(super) filled: GroupSet,
    pub(super) cost: Cost,
    pub(super) passed_over: BTreeMap<OfferHash, Refusal>,
}

/// Assigns within each class by itself, since seats that are compared must be of one, and takes the class that
/// fills most groups, of those the cheapest, of those the lowest id.
pub(super) fn best_class(demand: &Demand<'_>, suitable: Vec<Suitable<'_>>) -> Assignment {
    let mut classes: BTreeMap<ClassId, Vec<Suitable<'_>>> = BTreeMap::new();
    for offer in suitable {
        classes
            .entry(offer.candidate.offer.class_id)
            .or_default()
            .push(offer);
    }
    let assignments: Vec<_> = classes
        .into_iter()
        .map(|(class, offers)| assign(demand, class, offers))
        .collect();
    let best = assignments
        .iter()
        .enumerate()
        .filter(|(_, found)| !found.filled.is_empty())
        .min_by_key(|(place, found)| {
            (
                std::cmp::Reverse(found.filled.count()),
                found.cost.total(),
                *place,
            )
        })
        .map(|(place, _)| place);
    let mut chosen = Assignment::default();
    for (place, mut assignment) in assignments.into_iter().enumerate() {
        if Some(place) == best {
            chosen.passed_over.append(&mut assignment.passed_over);
            chosen = Assignment {
                passed_over: chosen.passed_over,
                ..assignment
            };
        } else if best.is_some() {
            let used = assignment.fills.iter().map(|fill| fill.offer_hash);
            let all = used.chain(assignment.passed_over.keys().copied());
            chosen
                .passed_over
                .extend(all.map(|hash| (hash, Refusal::OtherClassChosen)));
        } else {
            chosen.passed_over.append(&mut assignment.passed_over);
        }
    }
    chosen
}

/// What is left to give while groups are filled.
struct Stock<'a> {
    offers: BTreeMap<Rank, Suitable<'a>>,
    /// Offers of one series share their slots, whatever else they say.
    slots: BTreeMap<(Address, u32), Slots>,
    bonds: BTreeMap<Address, TokenAmount>,
    budget: TokenAmount,
    /// Why a group went without, if one did.
    budget_short: bool,
    owners_short: bool,
}

/// One group's seats, not yet taken.
struct Picks {
    seats: Vec<(Rank, SeatMoney)>,
    cost: Cost,
}

fn assign(demand: &Demand<'_>, class: ClassId, offers: Vec<Suitable<'_>>) -> Assignment {
    let mut stock = Stock::new(demand, offers);
    let mut assignment = Assignment {
        class: Some(class),
        ..Assignment::default()
    };
    let mut taken: BTreeMap<(OfferHash, GroupIndex), PlannedFill> = BTreeMap::new();
    let wants: BTreeMap<GroupIndex, &Want> = demand.wants.iter().map(|want| (want.group, want)).collect();
    for want in wants.into_values().filter(|want| want.seats > 0) {
        let Some(picks) = stock.pick(demand, want) else {
            continue;
        };
        let Some(cost) = add(assignment.cost, picks.cost) else {
            continue;
        };
        assignment.cost = cost;
        assignment.filled.insert(want.group);
        for fill in stock.take(demand, want.group, &picks) {
            taken.insert((fill.offer_hash, want.group), fill);
        }
    }
    let used: BTreeSet<OfferHash> = taken.keys().map(|(hash, _)| *hash).collect();
    assignment.passed_over = stock
        .offers
        .values()
        .map(|offer| offer.candidate.hash)
        .filter(|hash| !used.contains(hash))
        .map(|hash| (hash, stock.why_unused(&assignment.filled)))
        .collect();
    assignment.fills = join_runs(taken.into_values());
    assignment
}

impl<'a> Stock<'a> {
    fn new(demand: &Demand<'_>, offers: Vec<Suitable<'a>>) -> Self {
        let cheapest = offers
            .iter()
            .map(|offer| offer.price_per_unit)
            .min()
            .unwrap_or_default();
        let mut slots: BTreeMap<(Address, u32), Slots> = BTreeMap::new();
        let mut bonds: BTreeMap<Address, TokenAmount> = BTreeMap::new();
        for offer in &offers {
            let series = (offer.candidate.offer.provider, offer.candidate.offer.sale.series);
            let left = slots.entry(series).or_insert(offer.slots_left);
            *left = (*left).min(offer.slots_left);
            let bond = bonds
                .entry(offer.candidate.offer.provider)
                .or_insert(offer.free_bond);
            *bond = (*bond).min(offer.free_bond);
        }
        let offers = offers
            .into_iter()
            .map(|offer| (rank(demand.weights, &offer, cheapest), offer))
            .collect();
        Self {
            offers,
            slots,
            bonds,
            budget: demand.budget,
            budget_short: false,
            owners_short: false,
        }
    }

    /// The best offers of distinct owners for all the seats that the group lacks, or nothing.
    fn pick(&mut self, demand: &Demand<'_>, want: &Want) -> Option<Picks> {
        let units = demand.terms.shape.group_units(want.group)?.count;
        let mut owners = want.seated.clone();
        let mut providers = BTreeSet::new();
        let mut seats = Vec::new();
        let mut cost = Cost {
            reserve: demand
                .terms
                .reserve_per_unit()?
                .checked_mul(u64::from(units.get()))?,
            ..Cost::default()
        };
        for (rank, offer) in &self.offers {
            if seats.len() == usize::from(want.seats) {
                break;
            }
            let Candidate {
                owner,
                provider,
                series,
                charge_bps,
            } = Candidate::of(offer);
            let money = SeatMoney::of(offer.price_per_unit, units, &demand.terms.pricing, charge_bps)?;
            let has_slots = self.slots.get(&(provider, series)) >= Some(&demand.terms.shape.slots_per_seat);
            let has_bond = self.bonds.get(&provider) >= Some(&money.bond);
            let is_new = !owners.contains(&owner) && !want.seated.contains(&provider);
            if !has_slots || !has_bond || !is_new || providers.contains(&provider) {
                continue;
            }
            owners.insert(owner);
            providers.insert(provider);
            cost.pay = cost.pay.checked_add(money.pay)?;
            cost.fee = cost.fee.checked_add(money.fee)?;
            seats.push((*rank, money));
        }
        if seats.len() < usize::from(want.seats) {
            self.owners_short = true;
            return None;
        }
        if cost.total().is_none_or(|total| total > self.budget) {
            self.budget_short = true;
            return None;
        }
        Some(Picks { seats, cost })
    }

    /// Takes what the seats need out of the stock.
    fn take(&mut self, demand: &Demand<'_>, group: GroupIndex, picks: &Picks) -> Vec<PlannedFill> {
        let total = picks.cost.total().unwrap_or(TokenAmount::MAX);
        self.budget = self.budget.checked_sub(total).unwrap_or(TokenAmount::ZERO);
        let mut fills = Vec::new();
        for (rank, money) in &picks.seats {
            let Some(offer) = self.offers.get(rank) else {
                continue;
            };
            let Candidate { provider, series, .. } = Candidate::of(offer);
            if let Some(left) = self.slots.get_mut(&(provider, series)) {
                *left = left
                    .checked_sub(demand.terms.shape.slots_per_seat)
                    .unwrap_or(Slots::ZERO);
            }
            if let Some(bond) = self.bonds.get_mut(&provider) {
                *bond = bond.checked_sub(money.bond).unwrap_or(TokenAmount::ZERO);
            }
            fills.push(PlannedFill {
                first_group: group,
                groups: 1,
                offer_hash: offer.candidate.hash,
                provider,
                price_per_unit: offer.price_per_unit,
            });
        }
        fills
    }

    fn why_unused(&self, filled: &GroupSet) -> Refusal {
        if !filled.is_empty() || (!self.budget_short && !self.owners_short) {
            Refusal::Outscored
        } else if self.budget_short {
            Refusal::BudgetTooLow
        } else {
            Refusal::TooFewOwners
        }
    }
}

/// What an assignment looks at in an offer.
struct Candidate {
    owner: Address,
    provider: Address,
    series: u32,
    charge_bps: crate::amount::Bps,
}

impl Candidate {
    fn of(offer: &Suitable<'_>) -> Self {
        let terms = offer.candidate.offer;
        Self {
            owner: offer.candidate.owner,
            provider: terms.provider,
            series: terms.sale.series,
            charge_bps: terms.sale.min_charge_bps,
        }
    }
}

fn add(left: Cost, right: Cost) -> Option<Cost> {
    Some(Cost {
        pay: left.pay.checked_add(right.pay)?,
        fee: left.fee.checked_add(right.fee)?,
        reserve: left.reserve.checked_add(right.reserve)?,
    })
}

/// Joins fills of one offer in consecutive groups; the input is ordered by offer, then by group.
fn join_runs(fills: impl Iterator<Item = PlannedFill>) -> Vec<PlannedFill> {
    let mut joined: Vec<PlannedFill> = Vec::new();
    for fill in fills {
        match joined.last_mut() {
            Some(last)
                if last.offer_hash == fill.offer_hash
                    && last.first_group.get().saturating_add(last.groups) == fill.first_group.get() =>
            {
                last.groups = last.groups.saturating_add(fill.groups);
            }
            Some(_) | None => joined.push(fill),
        }
    }
    joined.sort_unstable();
    joined
}
