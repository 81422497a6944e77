//! Matching against a naive oracle: what must hold of any result, checked by plain counting.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::amount::{Bps, PricePerSlotSecond};
use crate::class::Class;
use crate::fixture::{CLASS, GATEWAY, TOKEN, address, at, offer, terms};
use crate::quantity::{Nonce, Slots};

const NOW: UnixSeconds = UnixSeconds::new(500);

fn details() -> OfferDetails {
    OfferDetails {
        class: Class::Cpu {
            level: "x86-64-v3".to_owned(),
        },
        slot: SlotSize {
            cpu_millis: 2_000,
            memory_bytes: 1 << 30,
            disk_bytes: 1 << 30,
            gpus: 0,
            gpu_memory_bytes: 0,
        },
        region: "eu".to_owned(),
        recipient: String::new(),
        gateway_urls: vec![],
        egress: vec!["*.pypi.example".parse().unwrap()],
        registries: vec!["registry.local/team".to_owned()],
        runtime_class: String::new(),
        user_namespaces: false,
        missing_isolation: vec![],
        min_seconds_per_unit: Seconds::new(1),
    }
}

/// Everything that a demand borrows.
#[derive(Debug, Clone)]
struct Ask {
    terms: Terms,
    wants: Vec<Want>,
    regions: BTreeSet<String>,
    gpu_models: BTreeSet<String>,
    allow: BTreeSet<Address>,
    deny: BTreeSet<Address>,
    weights: Weights,
    budget: TokenAmount,
    hosts: Vec<Host>,
    image: String,
    slot: SlotSize,
}

impl Ask {
    fn new() -> Self {
        let wants = (0..3).map(GroupIndex::new);
        Self {
            terms: terms(),
            wants: wants
                .map(|group| Want {
                    group,
                    seats: 3,
                    seated: BTreeSet::new(),
                })
                .collect(),
            regions: BTreeSet::new(),
            gpu_models: BTreeSet::new(),
            allow: BTreeSet::new(),
            deny: BTreeSet::new(),
            weights: Weights {
                price: 50,
                speed: 30,
                reliability: 20,
            },
            budget: TokenAmount::from_base_units(1_000_000),
            hosts: vec!["files.pypi.example".parse().unwrap()],
            image: "registry.local/team/povray".to_owned(),
            slot: SlotSize {
                cpu_millis: 1_000,
                memory_bytes: 1,
                disk_bytes: 1,
                gpus: 0,
                gpu_memory_bytes: 0,
            },
        }
    }

    fn demand(&self) -> Demand<'_> {
        Demand {
            buyer: address(1),
            terms: &self.terms,
            wants: &self.wants,
            slot: self.slot,
            hosts: &self.hosts,
            image: &self.image,
            regions: &self.regions,
            gpu_models: &self.gpu_models,
            allow: &self.allow,
            deny: &self.deny,
            weights: self.weights,
            budget: self.budget,
            margin: Seconds::new(60),
        }
    }
}

/// Everything that a candidate borrows.
#[derive(Debug, Clone)]
struct Bid {
    offer: Offer,
    details: OfferDetails,
    owner: Address,
    series: Knowledge<Series>,
    free_bond: Knowledge<TokenAmount>,
    standing: Standing,
    refused_before: Option<FillRefusal>,
}

impl Bid {
    fn new(provider: u8) -> Self {
        Self {
            offer: offer(provider),
            details: details(),
            owner: address(provider),
            series: Knowledge::Absent,
            free_bond: Knowledge::Known(TokenAmount::from_base_units(1_000_000)),
            standing: Standing::UNPROVEN,
            refused_before: None,
        }
    }

    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            offer: &self.offer,
            hash: self.offer.hash(),
            details: &self.details,
            owner: self.owner,
            series: self.series,
            free_bond: self.free_bond,
            standing: self.standing,
            refused_before: self.refused_before,
        }
    }
}

fn run(ask: &Ask, bids: &[Bid]) -> Matching {
    let candidates: Vec<_> = bids.iter().map(Bid::candidate).collect();
    match_offers(&ask.demand(), &candidates, NOW)
}

#[test]
fn each_refusal_has_its_name() {
    let check = |expected: Refusal, change: &dyn Fn(&mut Ask, &mut Bid)| {
        let (mut ask, mut bid) = (Ask::new(), Bid::new(20));
        change(&mut ask, &mut bid);
        let bids = [bid.clone(), Bid::new(21), Bid::new(22), Bid::new(23)];
        assert_eq!(run(&ask, &bids).refusals.get(&bid.offer.hash()), Some(&expected));
    };
    check(Refusal::NotYetValid, &|_, bid| {
        bid.offer.sale.valid_from = at(501);
    });
    check(Refusal::Expired, &|_, bid| bid.offer.sale.valid_until = at(559));
    check(Refusal::BuyerNotAllowed, &|_, bid| {
        bid.offer.allowed_buyer = address(2);
    });
    check(Refusal::ProviderDenied, &|ask, _| {
        ask.deny = BTreeSet::from([address(20)]);
    });
    check(Refusal::ProviderNotAllowed, &|ask, _| {
        ask.allow = BTreeSet::from([address(21)]);
    });
    check(Refusal::TokenMismatch, &|_, bid| bid.offer.token = address(9));
    check(Refusal::ClassMismatch, &|_, bid| {
        bid.offer.class_id = ClassId::from_bytes([1; 32]);
    });
    check(Refusal::GpuModelMismatch, &|ask, _| {
        ask.gpu_models = BTreeSet::from(["H100".to_owned()]);
    });
    check(Refusal::GpuTooSmall, &|ask, _| ask.slot.gpus = 1);
    check(Refusal::CpuTooSmall, &|_, bid| bid.details.slot.cpu_millis = 999);
    check(Refusal::MemoryTooSmall, &|_, bid| {
        bid.details.slot.memory_bytes = 0;
    });
    check(Refusal::DiskTooSmall, &|_, bid| bid.details.slot.disk_bytes = 0);
    check(Refusal::RegionMismatch, &|ask, _| {
        ask.regions = BTreeSet::from(["us".to_owned()]);
    });
    check(Refusal::HostNotAllowed, &|ask, _| {
        ask.hosts.push("other.example".parse().unwrap());
    });
    check(Refusal::RegistryNotAllowed, &|ask, _| {
        ask.image = "registry.local/teams/x".to_owned();
    });
    check(Refusal::PriceTooHigh, &|_, bid| {
        bid.offer.sale.price_per_slot_second = PricePerSlotSecond::from_base_units(1_001);
    });
    check(Refusal::UnitTooLong, &|_, bid| {
        bid.offer.bounds.max_seconds_per_unit = Seconds::new(9);
    });
    check(Refusal::UnitTooShort, &|_, bid| {
        bid.details.min_seconds_per_unit = Seconds::new(11);
    });
    check(Refusal::TermsOutOfBounds, &|_, bid| {
        bid.offer.bounds.max_lock_seconds = Seconds::new(584);
    });
    check(Refusal::TermsOutOfBounds, &|_, bid| {
        bid.offer.bounds.max_bond_bps = Bps::new(14_999);
    });
    check(Refusal::PolicyNotAccepted, &|_, bid| {
        bid.offer.bounds.policies = 0b1110;
    });
    check(Refusal::NoCommonGateway, &|_, bid| {
        bid.offer.gateways = vec![address(8); 9];
    });
    check(Refusal::ChargeTooHigh, &|_, bid| {
        bid.offer.sale.min_charge_bps = Bps::new(2_001);
    });
    check(Refusal::StateUnknown, &|_, bid| bid.series = Knowledge::Unknown);
    check(Refusal::StateUnknown, &|_, bid| {
        bid.free_bond = Knowledge::Unknown;
    });
    check(Refusal::Superseded, &|_, bid| {
        bid.series = Knowledge::Known(Series {
            used: Slots::ZERO,
            min_nonce: Nonce::new(2),
        });
    });
    check(Refusal::RefusedByMarket, &|_, bid| {
        bid.refused_before = Some(FillRefusal::SignatureInvalid);
    });
    check(Refusal::SlotsSpent, &|_, bid| {
        bid.series = Knowledge::Known(Series {
            used: Slots::new(10),
            min_nonce: Nonce::ZERO,
        });
    });
    check(Refusal::BondTooLow, &|_, bid| bid.free_bond = Knowledge::Absent);
    check(Refusal::Outscored, &|_, bid| {
        bid.offer.sale.price_per_slot_second = PricePerSlotSecond::from_base_units(8);
    });
    check(Refusal::BudgetTooLow, &|ask, _| {
        ask.budget = TokenAmount::from_base_units(100);
    });
}

#[test]
fn a_lock_at_the_bound_and_a_passing_refusal_are_no_obstacle() {
    let mut bid = Bid::new(20);
    // 1,000 − 500 until sealed, 20 to run, 30 grace, 20 to reveal, 15 to appeal.
    bid.offer.bounds.max_lock_seconds = Seconds::new(585);
    bid.refused_before = Some(FillRefusal::SlotsSpent);
    bid.details.registries = vec!["registry.local".to_owned()];
    let found = run(&Ask::new(), &[bid, Bid::new(21), Bid::new(22)]);
    assert_eq!(found.refusals, BTreeMap::new());
    assert_eq!(found.filled.to_string(), "0-2");
}

#[test]
fn too_few_owners_fill_nothing_and_say_so() {
    let mut sibling = Bid::new(22);
    sibling.owner = address(21);
    let found = run(&Ask::new(), &[Bid::new(20), Bid::new(21), sibling]);
    assert_eq!(
        (found.class, found.fills.len(), found.unfilled.to_string()),
        (None, 0, "0-2".to_owned())
    );
    assert_eq!(
        found.refusal_counts(),
        BTreeMap::from([(Refusal::TooFewOwners, 3)])
    );
}

#[test]
fn the_class_that_fills_most_groups_wins() {
    let mut ask = Ask::new();
    ask.terms.shape.class_id = ClassId::ZERO;
    let other = ClassId::from_bytes([1; 32]);
    let mut bids: Vec<_> = (20..23).map(Bid::new).collect();
    for bid in &mut bids {
        bid.offer.sale.slots = Slots::new(2);
    }
    for provider in 30..33 {
        let mut bid = Bid::new(provider);
        bid.offer.class_id = other;
        bid.offer.sale.price_per_slot_second = PricePerSlotSecond::from_base_units(900);
        bids.push(bid);
    }
    let found = run(&ask, &bids);
    assert_eq!((found.class, found.filled.count()), (Some(other), 3));
    assert_eq!(
        found.refusal_counts(),
        BTreeMap::from([(Refusal::OtherClassChosen, 3)])
    );
    assert_eq!(found.fills.len(), 3);
}

#[test]
fn weights_decide_who_is_taken() {
    let taken = |weights: Weights| {
        let mut ask = Ask::new();
        ask.weights = weights;
        ask.wants = vec![Want {
            group: GroupIndex::new(0),
            seats: 1,
            seated: BTreeSet::new(),
        }];
        let (mut cheap, mut fast, mut sure) = (Bid::new(20), Bid::new(21), Bid::new(22));
        cheap.offer.sale.price_per_slot_second = PricePerSlotSecond::from_base_units(5);
        fast.standing.speed_ppm = 1_000_000;
        sure.standing.reliability_ppm = 1_000_000;
        run(&ask, &[cheap, fast, sure])
            .fills
            .first()
            .map(|fill| fill.provider)
    };
    assert_eq!(taken(Weights::default()), Some(address(20)));
    assert_eq!(
        taken(Weights {
            price: 1,
            speed: 0,
            reliability: 0
        }),
        Some(address(20))
    );
    assert_eq!(
        taken(Weights {
            price: 0,
            speed: 1,
            reliability: 0
        }),
        Some(address(21))
    );
    assert_eq!(
        taken(Weights {
            price: 1,
            speed: 1,
            reliability: 9
        }),
        Some(address(22))
    );
}

#[test]
fn costs_are_the_contracts() {
    let found = run(&Ask::new(), &[Bid::new(20), Bid::new(21), Bid::new(22)]);
    // 70 a unit; two groups of two units, one of one; 1.5 % fee, rounded down seat by seat: 2 + 2 + 1.
    assert_eq!(found.cost.pay.base_units(), 3 * 5 * 70);
    assert_eq!(found.cost.fee.base_units(), 3 * (2 + 2 + 1));
    assert_eq!(found.fills.len(), 3);
    assert!(
        found
            .fills
            .iter()
            .all(|fill| fill.groups == 3 && fill.price_per_unit.base_units() == 70)
    );
}

type Sold = (u8, u8, u128, u32, u32);
type Known = (u128, u8, u32, u32, u8);

fn bids() -> impl Strategy<Value = Vec<Bid>> {
    let one = (
        (0u8..8, 0u8..4, 1u128..1_200, 0u32..4, 0u32..3),
        (0u128..2_000, 0u8..3, 0u32..1_000_000, 0u32..1_000_000, 0u8..12),
    );
    let build = |(sold, known): (Sold, Known)| {
        let (provider, owner, price, slots, used) = sold;
        let (bond, class, speed, reliability, oddity) = known;
        let mut bid = Bid::new(20 + provider);
        bid.owner = if owner == 0 {
            address(20 + provider)
        } else {
            address(60 + owner)
        };
        bid.offer.sale.price_per_slot_second = PricePerSlotSecond::from_base_units(price);
        bid.offer.sale.slots = Slots::new(slots);
        bid.series = Knowledge::Known(Series {
            used: Slots::new(used),
            min_nonce: Nonce::ZERO,
        });
        bid.free_bond = Knowledge::Known(TokenAmount::from_base_units(bond * 20));
        bid.offer.class_id = if class == 0 {
            ClassId::from_bytes([1; 32])
        } else {
            CLASS
        };
        bid.standing = Standing {
            speed_ppm: speed,
            reliability_ppm: reliability,
        };
        match oddity {
            0 => bid.offer.token = address(9),
            1 => bid.free_bond = Knowledge::Unknown,
            2 => bid.offer.sale.valid_until = at(510),
            _ => {}
        }
        // One provider's bond and series look the same to all its offers, as they do on chain.
        bid.offer.sale.series = u32::from(provider) + 100 * u32::from(class);
        bid.offer.sale.nonce = Nonce::new(u64::from(oddity));
        bid
    };
    proptest::collection::vec(one.prop_map(build), 0..12).prop_map(|mut bids| {
        let mut first: BTreeMap<Address, (Address, Knowledge<TokenAmount>)> = BTreeMap::new();
        for bid in &mut bids {
            let (owner, bond) = *first
                .entry(bid.offer.provider)
                .or_insert((bid.owner, bid.free_bond));
            (bid.owner, bid.free_bond) = (owner, bond);
        }
        bids
    })
}

proptest! {
    #[test]
    fn nothing_is_promised_that_the_market_would_refuse(
        bids in bids(),
        budget in 0u128..100_000,
        any_class in any::<bool>(),
        seated in 0u8..8,
        rotation in 0usize..12,
    ) {
        let mut ask = Ask::new();
        ask.budget = TokenAmount::from_base_units(budget);
        if any_class {
            ask.terms.shape.class_id = ClassId::ZERO;
        }
        ask.wants[1] =
            Want { group: GroupIndex::new(1), seats: 2, seated: BTreeSet::from([address(20 + seated)]) };
        let found = run(&ask, &bids);

        let mut rotated = bids.clone();
        rotated.rotate_left(rotation % bids.len().max(1));
        rotated.reverse();
        prop_assert_eq!(&run(&ask, &rotated), &found, "the order of offers decided");

        let by_hash: BTreeMap<_, _> = bids.iter().map(|bid| (bid.offer.hash(), bid)).collect();
        let mut seats: BTreeMap<u32, Vec<&Bid>> = BTreeMap::new();
        for fill in &found.fills {
            for group in fill.first_group.get()..fill.first_group.get() + fill.groups {
                seats.entry(group).or_default().push(by_hash[&fill.offer_hash]);
            }
        }
        let (mut cost, mut slots, mut bonds) = (0u128, BTreeMap::new(), BTreeMap::new());
        for want in &ask.wants {
            let taken = seats.remove(&want.group.get()).unwrap_or_default();
            let filled = found.filled.contains(want.group);
            prop_assert_ne!(filled, found.unfilled.contains(want.group));
            prop_assert_eq!(taken.len(), if filled { usize::from(want.seats) } else { 0 });
            let mut owners = want.seated.clone();
            for bid in taken {
                prop_assert!(owners.insert(bid.owner), "an owner has two seats in one group");
                prop_assert_eq!(Some(bid.offer.class_id), found.class);
                let price = bid.offer.sale.price_per_slot_second.base_units() * 10;
                prop_assert!(price <= 10_000 && bid.offer.token == TOKEN && bid.offer.gateways.contains(&GATEWAY));
                let pay = price * if want.group.get() == 2 { 1 } else { 2 };
                cost += pay + pay * 150 / 10_000;
                *slots.entry((bid.offer.provider, bid.offer.sale.series)).or_insert(0u32) += 1;
                *bonds.entry(bid.offer.provider).or_insert(0u128) += (pay * 15_000).div_ceil(10_000);
            }
        }
        prop_assert!(seats.is_empty(), "a group that wants nothing got seats");
        prop_assert_eq!(found.cost.total().unwrap().base_units(), cost);
        prop_assert!(cost <= budget);
        for bid in &bids {
            let series = bid.series.known().unwrap();
            let used = slots.get(&(bid.offer.provider, bid.offer.sale.series)).copied().unwrap_or(0);
            let is_used = found.fills.iter().any(|fill| fill.offer_hash == bid.offer.hash());
            prop_assert!(!is_used || series.used.get() + used <= bid.offer.sale.slots.get(), "slots sold twice");
            let locked = bonds.get(&bid.offer.provider).copied().unwrap_or(0);
            if is_used {
                prop_assert!(locked <= bid.free_bond.known().unwrap().base_units(), "bond locked twice");
            }
            prop_assert_ne!(is_used, found.refusals.contains_key(&bid.offer.hash()), "one reason, or none");
        }
        let reasons: u32 = found.refusal_counts().values().sum();
        prop_assert_eq!(reasons as usize, found.refusals.len());
    }
}
