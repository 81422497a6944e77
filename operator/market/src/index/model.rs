//! A plain market that emits what the contract emits, and knows by its own arithmetic what must come of it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{BlockRef, ChainView, JobEntry, MarketIndex};
use crate::amount::{Bps, TokenAmount};
use crate::event::{
    GroupStatus, JobEvent, LedgerEvent, MarketEvent, PackedSeatStates, SeatKind, SeatStatus, StoredAt,
};
use crate::fixture::{GATEWAY, TOKEN, address, at, terms};
use crate::ids::{Address, Hash32, JobId, JobNonce, OfferHash};
use crate::message::AbstainReason;
use crate::quantity::{BlockNumber, GroupIndex, SeatIndex};
use crate::terms::Terms;

const BUYERS: u8 = 2;
const PROVIDERS: u8 = 4;
const ROOT_NONE: u8 = 0;

#[derive(Debug, Clone)]
struct Seat {
    provider: Address,
    price: u128,
    charge_bps: u128,
    status: SeatStatus,
    root: u8,
}

#[derive(Debug, Clone)]
struct Group {
    status: GroupStatus,
    deadline: u64,
    units: u128,
    seats: Vec<Seat>,
}

#[derive(Debug, Clone)]
struct Job {
    id: JobId,
    buyer: Address,
    escrow: u128,
    allocated: u128,
    sequence: u32,
    cancelled_until: Option<u64>,
    ended: bool,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Market {
    terms: Terms,
    now: u64,
    balances: BTreeMap<Address, u128>,
    bonds: BTreeMap<Address, (u128, u128)>,
    slots: BTreeMap<Address, u32>,
    sink: u128,
    held: u128,
    jobs: Vec<Job>,
    out: Vec<MarketEvent>,
}

fn amount(units: u128) -> TokenAmount {
    TokenAmount::from_base_units(units)
}

fn root(number: u8) -> Hash32 {
    Hash32::from_bytes([number; 32])
}

fn up(pay: u128, bps: u128) -> u128 {
    (pay * bps).div_ceil(10_000)
}

/// What to try next: an action and the numbers it picks by. What does not apply does nothing.
type Choice = (u8, u8, u8, u8);

impl Market {
    fn new() -> Self {
        Self {
            terms: terms(),
            now: 100,
            balances: BTreeMap::new(),
            bonds: BTreeMap::new(),
            slots: BTreeMap::new(),
            sink: 0,
            held: 0,
            jobs: Vec::new(),
            out: Vec::new(),
        }
    }

    fn step(&mut self, (action, a, b, c): Choice) {
        self.now += u64::from(c % 8 / 7);
        match action % 16 {
            0 => self.deposit(address(1 + a % BUYERS), u128::from(b) * 100 + 1),
            1 => self.post_bond(address(10 + a % PROVIDERS), u128::from(b) * 50 + 1),
            2 => self.open(a, u128::from(b) * 60),
            3..=5 => self.fill(a, b, c),
            6 | 7 => self.seal(a, b),
            8..=10 => (0..=b % 3).for_each(|more| self.speak(a, b, c.wrapping_add(more))),
            11 | 12 => (0..=c % 4).for_each(|more| self.reveal(a, b, c.wrapping_add(more))),
            13 => self.judge(a, b),
            14 => self.settle_or_close(a, b),
            _ => match a % 8 {
                0 => self.cancel(b),
                1 => self.now += 60,
                2 => self.withdraw(address(1 + b % BUYERS)),
                3 => self.judge(b, c),
                _ => self.now += u64::from(b % 16),
            },
        }
    }

    fn tell(&mut self, place: usize, event: JobEvent) {
        let job = &mut self.jobs[place];
        job.sequence += 1;
        self.out.push(MarketEvent::Job {
            job: job.id,
            sequence: job.sequence,
            event,
        });
    }

    fn deposit(&mut self, account: Address, units: u128) {
        *self.balances.entry(account).or_default() += units;
        self.held += units;
        let amount = amount(units);
        self.out.push(MarketEvent::Ledger(LedgerEvent::Deposited {
            account,
            token: TOKEN,
            amount,
            intent: Hash32::ZERO,
        }));
    }

    fn withdraw(&mut self, account: Address) {
        let units = self.balances.insert(account, 0).unwrap_or(0);
        self.held -= units;
        let (amount, intent) = (amount(units), Hash32::ZERO);
        let event = LedgerEvent::Withdrawn {
            account,
            token: TOKEN,
            to: account,
            amount,
            intent,
        };
        self.out.push(MarketEvent::Ledger(event));
    }

    fn post_bond(&mut self, provider: Address, units: u128) {
        self.deposit(provider, units);
        *self.balances.entry(provider).or_default() -= units;
        self.bonds.entry(provider).or_default().0 += units;
        let (amount, intent) = (amount(units), Hash32::ZERO);
        self.out.push(MarketEvent::Ledger(LedgerEvent::BondPosted {
            provider,
            token: TOKEN,
            amount,
            intent,
        }));
    }

    fn open(&mut self, a: u8, escrow: u128) {
        let buyer = address(1 + a % BUYERS);
        if self.jobs.len() >= 3 || self.balances.get(&buyer).copied().unwrap_or(0) < escrow {
            return;
        }
        *self.balances.entry(buyer).or_default() -= escrow;
        let nonce = JobNonce::from_bytes([u8::try_from(self.jobs.len()).unwrap() + 1; 32]);
        let units = [2, 2, 1];
        let groups = units.map(|units| Group {
            status: GroupStatus::Filling,
            deadline: 0,
            units,
            seats: vec![],
        });
        self.jobs.push(Job {
            id: JobId::from_bytes(*nonce.as_bytes()),
            buyer,
            escrow,
            allocated: 0,
            sequence: 0,
            cancelled_until: None,
            ended: false,
            groups: groups.to_vec(),
        });
        let terms = Box::new(self.terms.clone());
        let event = JobEvent::Opened {
            buyer,
            token: TOKEN,
            nonce,
            escrow: amount(escrow),
            terms_hash: Hash32::ZERO,
            terms,
        };
        self.tell(self.jobs.len() - 1, event);
    }

    fn pick(&self, a: u8, b: u8) -> Option<(usize, usize)> {
        let place = usize::from(a) % self.jobs.len().max(1);
        let job = self.jobs.get(place)?;
        Some((place, usize::from(b) % job.groups.len()))
    }

    fn fill(&mut self, a: u8, b: u8, c: u8) {
        let Some((place, group)) = self.pick(a, b) else {
            return;
        };
        let (provider, price) = (address(10 + c % PROVIDERS), 3 + u128::from(c));
        let takes = !self.jobs[place].ended && self.jobs[place].cancelled_until.is_none();
        let found = &self.jobs[place].groups[group];
        let seated = found.seats.iter().any(|seat| seat.provider == provider);
        let pay = price * found.units;
        let cost = pay + pay * 150 / 10_000;
        let (total, locked) = self.bonds.get(&provider).copied().unwrap_or_default();
        let room = self.jobs[place].escrow - self.jobs[place].allocated >= cost;
        let free = total - locked >= up(pay, 15_000);
        if !takes
            || seated
            || found.status != GroupStatus::Filling
            || found.seats.len() >= 3
            || !room
            || !free
        {
            return;
        }
        self.bonds.entry(provider).or_default().1 += up(pay, 15_000);
        *self.slots.entry(provider).or_default() += 1;
        let job = &mut self.jobs[place];
        job.allocated += cost;
        let seat = u8::try_from(job.groups[group].seats.len()).unwrap();
        job.groups[group].seats.push(Seat {
            provider,
            price,
            charge_bps: 100,
            status: SeatStatus::Awarded,
            root: ROOT_NONE,
        });
        let event = JobEvent::SeatsFilled {
            provider,
            offer_hash: OfferHash::ZERO,
            kind: SeatKind::Picked,
            round: 0,
            seat: SeatIndex::new(seat),
            first_group: GroupIndex::new(u32::try_from(group).unwrap()),
            groups: 1,
            price_per_unit: amount(price),
            series: 1,
            charge_bps: Bps::new(100),
            gateways: 1,
        };
        self.tell(place, event);
    }

    fn seal(&mut self, a: u8, b: u8) {
        let Some((place, group)) = self.pick(a, b) else {
            return;
        };
        let job = &mut self.jobs[place];
        let found = &mut job.groups[group];
        if job.cancelled_until.is_some() || found.status != GroupStatus::Filling || found.seats.len() < 3 {
            return;
        }
        found.status = GroupStatus::Running;
        found.deadline = self.now + 20 + 30;
        let commit_by = at(found.deadline);
        let first_group = GroupIndex::new(u32::try_from(group).unwrap());
        self.tell(
            place,
            JobEvent::GroupsSealed {
                first_group,
                groups: 1,
                commit_by,
            },
        );
    }

    fn cancel(&mut self, b: u8) {
        let Some((place, _)) = self.pick(b, 0) else { return };
        if self.jobs[place].ended || self.jobs[place].cancelled_until.is_some() {
            return;
        }
        self.jobs[place].cancelled_until = Some(self.now + 25);
        self.tell(
            place,
            JobEvent::CancelNoticed {
                grace_until: at(self.now + 25),
            },
        );
    }

    fn close_commits(&mut self, place: usize, group: usize) {
        let job = &self.jobs[place];
        let found = &job.groups[group];
        if found.status != GroupStatus::Running {
            return;
        }
        let ends = job
            .cancelled_until
            .map_or(found.deadline, |until| until.min(found.deadline));
        let all_spoke = found.seats.iter().all(|seat| seat.status != SeatStatus::Awarded);
        let reveal_by = match (self.now > ends, all_spoke) {
            (true, _) => ends + 20,
            (false, true) => self.now + 20,
            (false, false) => return,
        };
        let found = &mut self.jobs[place].groups[group];
        (found.status, found.deadline) = (GroupStatus::Revealing, reveal_by);
        let group = GroupIndex::new(u32::try_from(group).unwrap());
        self.tell(
            place,
            JobEvent::RevealStarted {
                group,
                round: 0,
                reveal_by: at(reveal_by),
            },
        );
    }

    fn speak(&mut self, a: u8, b: u8, c: u8) {
        let Some((place, group)) = self.pick(a, b) else {
            return;
        };
        let job = &self.jobs[place];
        let found = &job.groups[group];
        let ends = job
            .cancelled_until
            .map_or(found.deadline, |until| until.min(found.deadline));
        let Some(seat) = found
            .seats
            .iter()
            .position(|seat| seat.status == SeatStatus::Awarded)
        else {
            return;
        };
        if found.status != GroupStatus::Running || self.now > ends {
            return;
        }
        let provider = found.seats[seat].provider;
        let index = GroupIndex::new(u32::try_from(group).unwrap());
        let number = SeatIndex::new(u8::try_from(seat).unwrap());
        let event = if c.is_multiple_of(5) {
            self.jobs[place].groups[group].seats[seat].status = SeatStatus::Abstained;
            let reason = AbstainReason::OutOfMemory;
            JobEvent::SeatAbstained {
                provider,
                group: index,
                round: 0,
                seat: number,
                reason,
            }
        } else {
            self.jobs[place].groups[group].seats[seat].status = SeatStatus::Committed;
            let commitment = root(c);
            JobEvent::SeatCommitted {
                provider,
                group: index,
                round: 0,
                seat: number,
                commitment,
            }
        };
        self.tell(place, event);
        self.close_commits(place, group);
    }

    fn reveal(&mut self, a: u8, b: u8, c: u8) {
        let Some((place, group)) = self.pick(a, b) else {
            return;
        };
        self.close_commits(place, group);
        let found = &self.jobs[place].groups[group];
        let Some(seat) = found
            .seats
            .iter()
            .position(|seat| seat.status == SeatStatus::Committed)
        else {
            return;
        };
        if found.status != GroupStatus::Revealing || self.now > found.deadline {
            return;
        }
        let provider = found.seats[seat].provider;
        let found = &mut self.jobs[place].groups[group].seats[seat];
        found.root = 1 + c % 3 / 2;
        let root_a = root(found.root);
        let receipt = StoredAt {
            gateway: GATEWAY,
            stored_root: root(9),
            size: 1,
            until: at(5_000),
        };
        let stored = (!c.is_multiple_of(3)).then_some(receipt);
        found.status = if stored.is_some() {
            SeatStatus::Stored
        } else {
            SeatStatus::Revealed
        };
        let (group, seat) = (
            GroupIndex::new(u32::try_from(group).unwrap()),
            SeatIndex::new(u8::try_from(seat).unwrap()),
        );
        let event = JobEvent::SeatRevealed {
            provider,
            group,
            round: 0,
            seat,
            root_a,
            hash_b: root(8),
            stored,
        };
        self.tell(place, event);
        if stored.is_none() && c.is_multiple_of(2) {
            let found = &mut self.jobs[place].groups[usize::try_from(group.get()).unwrap()];
            found.seats[usize::from(seat.get())].status = SeatStatus::Stored;
            self.tell(
                place,
                JobEvent::ReceiptAttached {
                    provider,
                    group,
                    round: 0,
                    seat,
                    stored: receipt,
                },
            );
        }
    }

    fn judge(&mut self, a: u8, b: u8) {
        let Some((place, group)) = self.pick(a, b) else {
            return;
        };
        self.close_commits(place, group);
        let excused = self.jobs[place].cancelled_until.is_some();
        let found = &mut self.jobs[place].groups[group];
        let waiting = found
            .seats
            .iter()
            .any(|seat| seat.status == SeatStatus::Committed);
        if found.status != GroupStatus::Revealing || (waiting && self.now <= found.deadline) {
            return;
        }
        let votes = |wanted: u8| found.seats.iter().filter(|seat| seat.root == wanted).count();
        let (winner, agreed) = if votes(1) >= votes(2) {
            (1, votes(1))
        } else {
            (2, votes(2))
        };
        for seat in &mut found.seats {
            seat.status = match seat.status {
                SeatStatus::Awarded if excused => SeatStatus::Excused,
                SeatStatus::Awarded => SeatStatus::NoShow,
                SeatStatus::Committed => SeatStatus::Dissent,
                SeatStatus::Stored if agreed >= 2 && seat.root == winner => SeatStatus::Agreed,
                SeatStatus::Revealed if agreed >= 2 && seat.root == winner => SeatStatus::Unstored,
                SeatStatus::Stored | SeatStatus::Revealed if agreed >= 2 => SeatStatus::Dissent,
                SeatStatus::Stored => SeatStatus::Unresolved,
                SeatStatus::Revealed => SeatStatus::Unstored,
                status => status,
            };
        }
        let state = match agreed {
            0 => GroupStatus::Refunded,
            1 => GroupStatus::Contested,
            _ => GroupStatus::Agreed,
        };
        found.status = state;
        found.deadline = self.now + if agreed > 0 { 15 } else { 0 };
        let event = JobEvent::GroupJudged {
            group: GroupIndex::new(u32::try_from(group).unwrap()),
            round: 0,
            state,
            root: if agreed >= 2 { root(winner) } else { Hash32::ZERO },
            agreed: u8::try_from(agreed).unwrap(),
            seat_states: PackedSeatStates::pack(found.seats.iter().map(|seat| seat.status)),
            settle_at: at(found.deadline),
        };
        self.tell(place, event);
        if agreed == 0 {
            self.end(place, group, GroupStatus::Refunded);
        }
    }

    fn settle_or_close(&mut self, a: u8, b: u8) {
        let Some((place, group)) = self.pick(a, b) else {
            return;
        };
        let cancelled = self.jobs[place].cancelled_until.is_some();
        let found = &mut self.jobs[place].groups[group];
        match found.status {
            GroupStatus::Agreed if self.now >= found.deadline => {
                self.end(place, group, GroupStatus::Credited);
            }
            GroupStatus::Contested if self.now >= found.deadline => {
                self.end(place, group, GroupStatus::Inconclusive);
            }
            GroupStatus::Filling if cancelled => {
                found
                    .seats
                    .iter_mut()
                    .for_each(|seat| seat.status = SeatStatus::Excused);
                self.end(place, group, GroupStatus::Refunded);
            }
            _ => {}
        }
    }

    fn end(&mut self, place: usize, group: usize, state: GroupStatus) {
        let found = self.jobs[place].groups[group].clone();
        let index = GroupIndex::new(u32::try_from(group).unwrap());
        let (mut paid, mut fees, mut from_job, mut all_burned, mut allocation) = (0, 0, 0, 0, 0);
        for (number, seat) in (0u8..).zip(&found.seats) {
            let pay = seat.price * found.units;
            let (fee, charge) = (pay * 150 / 10_000, pay * seat.charge_bps / 10_000);
            let bond = up(pay, 15_000);
            allocation += pay + fee;
            let (got, fee, charge_to_sink, share, burned) = match seat.status {
                SeatStatus::Agreed => (pay, fee, 0, 0, 0),
                SeatStatus::NoShow => (0, 0, charge, 0, bond.min(up(pay, 2_000))),
                SeatStatus::Excused => (charge, 0, 0, 0, 0),
                SeatStatus::Unresolved => (charge, 0, 0, up(pay - charge, 5_000), 0),
                _ => (0, 0, 0, 0, 0),
            };
            paid += got;
            fees += fee;
            from_job += fee + charge_to_sink + share;
            all_burned += burned;
            *self.balances.entry(seat.provider).or_default() += got;
            let (total, locked) = self.bonds.entry(seat.provider).or_default();
            *total -= burned;
            *locked -= bond;
            *self.slots.entry(seat.provider).or_default() -= 1;
            let event = JobEvent::SeatSettled {
                provider: seat.provider,
                group: index,
                seat: SeatIndex::new(number),
                state: seat.status,
                paid: amount(got),
                charge_to_sink: amount(charge_to_sink),
                burned: amount(burned),
                bond_released: amount(bond - burned),
            };
            self.tell(place, event);
        }
        self.sink += from_job + all_burned;
        let job = &mut self.jobs[place];
        job.escrow -= paid + from_job;
        job.allocated -= allocation;
        job.groups[group].status = state;
        let event = JobEvent::GroupEnded {
            group: index,
            state,
            paid: amount(paid),
            fee: amount(fees),
            to_sink: amount(from_job + all_burned),
            released: amount(allocation - paid - from_job),
        };
        self.tell(place, event);
        let ended = |group: &Group| {
            matches!(
                group.status,
                GroupStatus::Credited | GroupStatus::Inconclusive | GroupStatus::Refunded
            )
        };
        if self.jobs[place].groups.iter().all(ended) {
            let refunded = std::mem::take(&mut self.jobs[place].escrow);
            self.jobs[place].ended = true;
            *self.balances.entry(self.jobs[place].buyer).or_default() += refunded;
            self.tell(
                place,
                JobEvent::Ended {
                    refunded: amount(refunded),
                },
            );
        }
    }
}

fn blocks(choices: &[Choice], market: &mut Market) -> Vec<(BlockRef, Vec<MarketEvent>)> {
    (1..=BUYERS).for_each(|buyer| market.deposit(address(buyer), 30_000));
    (10..10 + PROVIDERS).for_each(|provider| market.post_bond(address(provider), 5_000));
    let mut blocks = Vec::new();
    for (number, chunk) in (1u64..).zip(choices.chunks(5)) {
        for choice in chunk {
            market.step(*choice);
        }
        let hash = Hash32::from_bytes([u8::try_from(number % 251).unwrap(); 32]);
        blocks.push((
            BlockRef {
                number: BlockNumber::new(number),
                hash,
            },
            std::mem::take(&mut market.out),
        ));
    }
    blocks
}

fn replay(blocks: &[(BlockRef, Vec<MarketEvent>)]) -> MarketIndex {
    let mut index = MarketIndex::new();
    for (block, events) in blocks {
        let anomalies = index.apply(*block, events).unwrap();
        assert_eq!(anomalies, [], "block {block:?}");
    }
    index
}

fn choices(length: usize) -> impl Strategy<Value = Vec<Choice>> {
    proptest::collection::vec(any::<Choice>(), 1..length)
}

/// Without this, a model that never gets anywhere would agree with anything.
#[test]
fn the_model_reaches_every_end() {
    let mut reached = std::collections::BTreeSet::new();
    for seed in 0u64..40 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let choices: Vec<Choice> = (0..600)
            .map(|_| next())
            .map(|b| (b[0], b[2], b[4], b[6]))
            .collect();
        let mut market = Market::new();
        replay(&blocks(&choices, &mut market));
        let groups = market.jobs.iter().flat_map(|job| &job.groups);
        reached.extend(groups.clone().map(|group| group.status.label()));
        reached.extend(
            groups
                .flat_map(|group| &group.seats)
                .map(|seat| seat.status.label()),
        );
    }
    let ends = [
        "Credited",
        "Inconclusive",
        "Refunded",
        "NoShow",
        "Agreed",
        "Unstored",
        "Dissent",
        "Excused",
    ];
    for end in ends.into_iter().chain(["Unresolved", "Abstained"]) {
        assert!(reached.contains(end), "{end} is not among {reached:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_index_knows_what_the_market_knows(choices in choices(600)) {
        let mut market = Market::new();
        let index = replay(&blocks(&choices, &mut market));
        prop_assert!(index.is_exact());
        prop_assert_eq!(index.conserves(TOKEN), Some(true));
        prop_assert_eq!(index.held(TOKEN), amount(market.held));
        prop_assert_eq!(index.sink(TOKEN), amount(market.sink));
        for (account, units) in &market.balances {
            prop_assert_eq!(index.balance(*account, TOKEN), amount(*units));
        }
        for (provider, (total, locked)) in &market.bonds {
            let bond = index.bond(*provider, TOKEN);
            prop_assert_eq!((bond.total, bond.locked), (amount(*total), amount(*locked)));
            prop_assert_eq!(index.series(*provider, 1).used.get(), market.slots.get(provider).copied().unwrap_or(0));
        }
        for job in &market.jobs {
            let found = index.job(job.id).known().unwrap();
            prop_assert_eq!(found.escrow, amount(job.escrow));
            prop_assert_eq!(found.allocated, amount(job.allocated));
            prop_assert_eq!(found.sequence, job.sequence);
            for ((_, group), expected) in found.groups().zip(&job.groups) {
                prop_assert_eq!(group.state.status(), expected.status);
                let states: Vec<_> = group.seats.iter().map(|seat| seat.state.status()).collect();
                prop_assert_eq!(states, expected.seats.iter().map(|seat| seat.status).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn after_any_reorganisation_it_is_as_if_rebuilt(
        choices in choices(300),
        turns in proptest::collection::vec((0usize..4, 0usize..6), 1..40),
    ) {
        let blocks = blocks(&choices, &mut Market::new());
        let mut view = ChainView::new();
        let (mut applied, mut finalized) = (0usize, 0usize);
        for (turn, count) in turns {
            for _ in 0..count {
                match turn {
                    0 if applied > finalized => {
                        applied -= 1;
                        view.unwind(blocks[applied].0).unwrap();
                    }
                    1 if finalized < applied => {
                        finalized += 1;
                        view.finalize(blocks[finalized - 1].0.number).unwrap();
                    }
                    _ if applied < blocks.len() => {
                        let (block, events) = blocks[applied].clone();
                        prop_assert_eq!(view.apply(block, events).unwrap(), []);
                        applied += 1;
                    }
                    _ => {}
                }
            }
            prop_assert!(*view.newest() == replay(&blocks[..applied]));
            prop_assert!(*view.finalized() == replay(&blocks[..finalized]));
        }
    }

    #[test]
    fn a_withheld_event_stops_its_own_job_alone(choices in choices(400), at in any::<proptest::sample::Index>()) {
        let mut blocks = blocks(&choices, &mut Market::new());
        let whole = replay(&blocks);
        let of_jobs: Vec<_> = blocks
            .iter()
            .enumerate()
            .flat_map(|(block, (_, events))| {
                events.iter().enumerate().filter_map(move |(place, event)| match event {
                    MarketEvent::Job { job, sequence, .. } => Some((block, place, *job, *sequence)),
                    MarketEvent::Ledger(_) | MarketEvent::Notice(_) => None,
                })
            })
            .collect();
        prop_assume!(!of_jobs.is_empty());
        let (block, place, job, sequence) = of_jobs[at.index(of_jobs.len())];
        blocks[block].1.remove(place);
        let mut index = MarketIndex::new();
        let mut anomalies = Vec::new();
        for (block, events) in &blocks {
            anomalies.extend(index.apply(*block, events).unwrap());
        }
        let last = of_jobs.iter().filter(|(_, _, id, _)| *id == job).map(|(_, _, _, number)| *number).max();
        if last == Some(sequence) {
            let of_ledger = |anomaly: &super::Anomaly| matches!(anomaly, super::Anomaly::Amount { .. });
            prop_assert!(anomalies.iter().all(of_ledger), "{:?}", anomalies);
        } else {
            let expected = super::Anomaly::Gap { job, expected: sequence, found: sequence + 1 };
            prop_assert!(anomalies.contains(&expected), "{:?}", anomalies);
            prop_assert!(index.job(job) .known().is_none());
            prop_assert!(!index.is_exact());
        }
        for (id, entry) in index.entries().filter(|(id, _)| *id != job) {
            // A withheld last event shows in nothing but the ledger, which may quarantine the job that finds it.
            match entry {
                JobEntry::Sound(record) => {
                    prop_assert_eq!(whole.job(id).known().map(|job| job.record.clone()), Some(record.clone()));
                }
                JobEntry::Quarantined(_) => prop_assert_eq!(last, Some(sequence)),
            }
        }
    }
}
