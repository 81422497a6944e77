//! Matching: which standing offers fill a job's seats, and for every other offer the one reason why not.
//!
//! Filter ([`Refusal`]), score by the job's weights, then seats spread over distinct owners group by group, all
//! of a group or none. The result depends on what the offers say, never on the order in which they came.
//! It decides nothing about when to buy: that is [`crate::plan`].

mod assign;
mod filter;
#[cfg(test)]
mod oracle;
mod score;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::amount::TokenAmount;
use crate::egress::Host;
use crate::event::FillRefusal;
use crate::ids::{Address, ClassId, OfferHash};
use crate::index::Series;
use crate::intervals::GroupSet;
use crate::offer::{Offer, OfferDetails, SlotSize};
use crate::quantity::{GroupIndex, Knowledge, Seconds, UnixSeconds};
use crate::terms::Terms;

/// How much price, speed and reliability matter beside each other. All zero is price alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Weights {
    /// Of a low price.
    pub price: u32,
    /// Of short run times.
    pub speed: u32,
    /// Of results that held up.
    pub reliability: u32,
}

/// What is known of a provider's past, each in millionths of the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Standing {
    /// How fast it ran units, beside the fastest.
    pub speed_ppm: u32,
    /// Which share of its seats was agreed.
    pub reliability_ppm: u32,
}

impl Standing {
    /// Of a provider that nothing is known of: in the middle, so that newcomers are neither first nor last.
    pub const UNPROVEN: Self = Self {
        speed_ppm: 500_000,
        reliability_ppm: 500_000,
    };
}

/// A group that wants seats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Which group.
    pub group: GroupIndex,
    /// How many seats it lacks.
    pub seats: u8,
    /// Owners that have a seat in it already.
    pub seated: BTreeSet<Address>,
}

/// What a job asks of offers.
#[derive(Debug, Clone)]
pub struct Demand<'a> {
    /// Who buys.
    pub buyer: Address,
    /// The job's terms; a class of zero lets the matching choose one.
    pub terms: &'a Terms,
    /// Groups that want seats.
    pub wants: &'a [Want],
    /// What a slot must have at least.
    pub slot: SlotSize,
    /// Hosts that the job asks to reach.
    pub hosts: &'a [Host],
    /// The image's registry and repository, without tag and digest.
    pub image: &'a str,
    /// Regions that are welcome; empty for any.
    pub regions: &'a BTreeSet<String>,
    /// GPU models that are welcome; empty for any.
    pub gpu_models: &'a BTreeSet<String>,
    /// Providers that may be picked; empty for any.
    pub allow: &'a BTreeSet<Address>,
    /// Providers that may not be picked.
    pub deny: &'a BTreeSet<Address>,
    /// What matters how much.
    pub weights: Weights,
    /// What seats, fees and reserves may cost in all.
    pub budget: TokenAmount,
    /// How much longer than now an offer must be valid, so that it still is when the fill is included.
    pub margin: Seconds,
}

/// An offer with what is known of it. Its signature and its document have been checked.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// The offer.
    pub offer: &'a Offer,
    /// The offer's hash.
    pub hash: OfferHash,
    /// The document beside it.
    pub details: &'a OfferDetails,
    /// Who owns the provider; the provider itself unless more is known.
    pub owner: Address,
    /// Its series on chain.
    pub series: Knowledge<Series>,
    /// What of its provider's bond can still be locked.
    pub free_bond: Knowledge<TokenAmount>,
    /// Its provider's past.
    pub standing: Standing,
    /// Why the market passed it over for this job before, if it did.
    pub refused_before: Option<FillRefusal>,
}

/// Why an offer was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// Not valid yet.
    NotYetValid,
    /// No longer valid, or about to be.
    Expired,
    /// A newer offer of its series counts, or it was cancelled.
    Superseded,
    /// It is for another buyer.
    BuyerNotAllowed,
    /// The job denies its provider.
    ProviderDenied,
    /// The job allows others only.
    ProviderNotAllowed,
    /// It asks for another token.
    TokenMismatch,
    /// Not the job's class.
    ClassMismatch,
    /// Not a GPU model that the job names.
    GpuModelMismatch,
    /// Too few GPUs, or too little memory on them.
    GpuTooSmall,
    /// Too few CPUs in a slot.
    CpuTooSmall,
    /// Too little memory in a slot.
    MemoryTooSmall,
    /// Too little disk in a slot.
    DiskTooSmall,
    /// Not in a region that the job names.
    RegionMismatch,
    /// Does not allow a host that the job asks to reach.
    HostNotAllowed,
    /// Does not run images from there.
    RegistryNotAllowed,
    /// Dearer than the job's cap.
    PriceTooHigh,
    /// Units are longer than it takes.
    UnitTooLong,
    /// Units are shorter than it takes.
    UnitTooShort,
    /// Another of the job's terms is outside the offer's bounds.
    TermsOutOfBounds,
    /// Does not take the job's policy.
    PolicyNotAccepted,
    /// Stores at none of the job's gateways.
    NoCommonGateway,
    /// Does not name the job's verifier.
    VerifierNotNamed,
    /// Its minimum charge is above the job's no-show burn.
    ChargeTooHigh,
    /// Its slots or its provider's bond could not be looked up.
    StateUnknown,
    /// The market passed it over for this job before.
    RefusedByMarket,
    /// No slot is left.
    SlotsSpent,
    /// Its provider's free bond does not cover one group.
    BondTooLow,
    /// It suits, but seats of this job went to another class.
    OtherClassChosen,
    /// It suits, but too few owners suit to give any group all its seats.
    TooFewOwners,
    /// It suits, but the budget does not cover it.
    BudgetTooLow,
    /// It suits, but better ones took the seats, or its owner has a seat in every group already.
    Outscored,
}

impl Refusal {
    /// A word for conditions and metrics.
    pub fn label(self) -> String {
        format!("{self:?}")
    }
}

/// Consecutive groups in which one offer is to take a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlannedFill {
    /// The first group.
    pub first_group: GroupIndex,
    /// How many groups.
    pub groups: u32,
    /// The offer.
    pub offer_hash: OfferHash,
    /// Whose offer.
    pub provider: Address,
    /// What a unit costs.
    pub price_per_unit: TokenAmount,
}

/// What fills cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// The seats' pay.
    pub pay: TokenAmount,
    /// The market's share.
    pub fee: TokenAmount,
    /// Reserves of the groups that have all their seats then.
    pub reserve: TokenAmount,
}

impl Cost {
    /// All of it.
    pub fn total(&self) -> Option<TokenAmount> {
        self.pay.checked_add(self.fee)?.checked_add(self.reserve)
    }
}

/// What came of a matching.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matching {
    /// The class that was chosen; `None` if no group got its seats.
    pub class: Option<ClassId>,
    /// Fills in ascending order of groups.
    pub fills: Vec<PlannedFill>,
    /// Groups that get all the seats they lack.
    pub filled: GroupSet,
    /// Groups that get none.
    pub unfilled: GroupSet,
    /// What the fills cost.
    pub cost: Cost,
    /// Each offer that was not taken, with the one reason, by its hash.
    pub refusals: BTreeMap<OfferHash, Refusal>,
}

impl Matching {
    /// How many offers were refused for each reason.
    pub fn refusal_counts(&self) -> BTreeMap<Refusal, u32> {
        let mut counts = BTreeMap::new();
        for reason in self.refusals.values() {
            let count: &mut u32 = counts.entry(*reason).or_default();
            *count = count.saturating_add(1);
        }
        counts
    }
}

/// Chooses offers for the groups that want seats, as of `now`.
pub fn match_offers(demand: &Demand<'_>, candidates: &[Candidate<'_>], now: UnixSeconds) -> Matching {
    let mut refusals = BTreeMap::new();
    let mut suitable: BTreeMap<OfferHash, filter::Suitable<'_>> = BTreeMap::new();
    for candidate in candidates {
        match filter::suits(demand, candidate, now) {
            Ok(found) => drop(suitable.insert(candidate.hash, found)),
            Err(reason) => drop(refusals.insert(candidate.hash, reason)),
        }
    }
    let best = assign::best_class(demand, suitable.into_values().collect());
    refusals.extend(best.passed_over);
    let wanted: GroupSet = demand.wants.iter().map(|want| want.group).collect();
    Matching {
        class: best.class,
        unfilled: wanted.difference(&best.filled),
        filled: best.filled,
        fills: best.fills,
        cost: best.cost,
        refusals,
    }
}
