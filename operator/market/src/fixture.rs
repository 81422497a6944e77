//! Values that tests start from.

use crate::amount::{Bps, PricePerSlotSecond, TokenAmount};
use crate::event::{
    GroupStatus, JobEvent, LedgerEvent, MarketEvent, PackedSeatStates, SeatKind, SeatStatus, StoredAt,
};
use crate::ids::{Address, ClassId, Hash32, JobId, JobNonce, OfferHash, RegionId};
use crate::index::{BlockRef, Job, MarketIndex};
use crate::message::AbstainReason;
use crate::offer::{Bounds, Offer, Sale};
use crate::quantity::{BlockNumber, GroupIndex, Nonce, SeatIndex, Seconds, Slots, Units, UnixSeconds};
use crate::terms::{Content, Policy, Pricing, Redundancy, Shape, Terms, Windows};

pub(crate) const TOKEN: Address = Address::from_bytes([0xcc; 20]);
pub(crate) const GATEWAY: Address = Address::from_bytes([0x99; 20]);
pub(crate) const CLASS: ClassId = ClassId::from_bytes([0xaa; 32]);

pub(crate) fn address(number: u8) -> Address {
    Address::from_bytes([number; 20])
}

pub(crate) fn at(seconds: u64) -> UnixSeconds {
    UnixSeconds::new(seconds)
}

/// Six units in three groups of two slices, two of three seats, opened until second 1,000.
pub(crate) fn terms() -> Terms {
    Terms {
        shape: Shape {
            units: Units::new(5),
            units_per_slice: Units::new(1),
            slices_per_group: 2,
            slots_per_seat: Slots::new(1),
            seconds_per_unit: Seconds::new(10),
            class_id: CLASS,
        },
        redundancy: Redundancy {
            policy: Policy::Quorum,
            quorum: 2,
            picked: 3,
            max_seats: 3,
            drawn: 0,
            max_rounds: 1,
            canary: false,
            entropy: 0,
            audit_floor_ppm: 0,
            collusion_bps: Bps::ZERO,
        },
        windows: Windows {
            open_until: at(1_000),
            commit_grace: Seconds::new(30),
            reveal_window: Seconds::new(20),
            appeal_window: Seconds::new(15),
            availability_window: Seconds::new(10),
            cancel_grace: Seconds::new(25),
            retention: Seconds::new(1_000),
        },
        pricing: Pricing {
            token: TOKEN,
            picked_cap: TokenAmount::from_base_units(10_000),
            drawn_cap: TokenAmount::ZERO,
            bond_bps: Bps::new(15_000),
            no_show_bps: Bps::new(2_000),
            fee_bps: Bps::new(150),
            inconclusive_bps: Bps::new(5_000),
            unresolved_burn_bps: Bps::new(5_000),
        },
        content: Content {
            template_digest: Hash32::from_bytes([1; 32]),
            template_address: Hash32::from_bytes([2; 32]),
            key_commitment: Hash32::from_bytes([3; 32]),
            secrets_root: Hash32::ZERO,
            spot_checks_root: Hash32::ZERO,
            comparator: Hash32::ZERO,
            verifier: Address::ZERO,
        },
        gateways: vec![GATEWAY],
    }
}

/// An offer of ten slots at 7 base units a slot-second that fits [`terms`].
pub(crate) fn offer(provider: u8) -> Offer {
    Offer {
        provider: address(provider),
        allowed_buyer: Address::ZERO,
        token: TOKEN,
        class_id: CLASS,
        region: RegionId::ZERO,
        details: Hash32::ZERO,
        recipient: Hash32::ZERO,
        sale: Sale {
            series: 1,
            nonce: Nonce::new(1),
            valid_from: at(0),
            valid_until: at(100_000),
            price_per_slot_second: PricePerSlotSecond::from_base_units(7),
            slots: Slots::new(10),
            min_charge_bps: Bps::new(100),
        },
        bounds: Bounds {
            max_seconds_per_unit: Seconds::new(3_600),
            max_lock_seconds: Seconds::new(10_000),
            min_commit_grace: Seconds::new(5),
            min_reveal_window: Seconds::new(5),
            max_retention: Seconds::new(100_000),
            max_bond_bps: Bps::new(20_000),
            max_no_show_bps: Bps::new(5_000),
            min_inconclusive_bps: Bps::new(1_000),
            policies: 1,
        },
        gateways: vec![GATEWAY],
        verifiers: vec![],
    }
}

/// A job's history as events, each block one event.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    pub(crate) index: MarketIndex,
    blocks: u64,
    sequence: u32,
}

impl Script {
    pub(crate) const JOB: JobId = JobId::from_bytes([0x10; 32]);

    /// A job that buyer 1 opened with 100,000.
    pub(crate) fn opened(terms: Terms) -> Self {
        let mut script = Self::default();
        let (account, amount) = (address(1), TokenAmount::from_base_units(100_000));
        let deposit = LedgerEvent::Deposited {
            account,
            token: TOKEN,
            amount,
            intent: Hash32::ZERO,
        };
        script.apply(MarketEvent::Ledger(deposit));
        script.event(JobEvent::Opened {
            buyer: account,
            token: TOKEN,
            nonce: JobNonce::ZERO,
            escrow: amount,
            terms_hash: Hash32::ZERO,
            terms: Box::new(terms),
        })
    }

    fn apply(&mut self, event: MarketEvent) {
        self.blocks += 1;
        let block = BlockRef {
            number: BlockNumber::new(self.blocks),
            hash: Hash32::ZERO,
        };
        assert_eq!(self.index.apply(block, &[event]).unwrap(), []);
    }

    pub(crate) fn event(mut self, event: JobEvent) -> Self {
        self.sequence += 1;
        self.apply(MarketEvent::Job {
            job: Self::JOB,
            sequence: self.sequence,
            event,
        });
        self
    }

    pub(crate) fn job(&self) -> Job<'_> {
        self.index.job(Self::JOB).known().unwrap()
    }

    /// Provider 20 + seat takes a seat in these groups.
    pub(crate) fn filled(self, seat: u8, first_group: u32, groups: u32) -> Self {
        self.event(JobEvent::SeatsFilled {
            provider: address(20 + seat),
            offer_hash: OfferHash::ZERO,
            kind: SeatKind::Picked,
            round: 0,
            seat: SeatIndex::new(seat),
            first_group: GroupIndex::new(first_group),
            groups,
            price_per_unit: TokenAmount::from_base_units(70),
            series: 1,
            charge_bps: Bps::new(100),
            gateways: 1,
        })
    }

    /// Providers 20 to 22 take the seats of these groups.
    pub(crate) fn full(self, first_group: u32, groups: u32) -> Self {
        (0..3).fold(self, |script, seat| script.filled(seat, first_group, groups))
    }

    pub(crate) fn sealed(self, first_group: u32, groups: u32, commit_by: u64) -> Self {
        let first_group = GroupIndex::new(first_group);
        self.event(JobEvent::GroupsSealed {
            first_group,
            groups,
            commit_by: at(commit_by),
        })
    }

    pub(crate) fn committed(self, group: u32, seat: u8) -> Self {
        self.event(JobEvent::SeatCommitted {
            provider: address(20 + seat),
            group: GroupIndex::new(group),
            round: 0,
            seat: SeatIndex::new(seat),
            commitment: Hash32::from_bytes([7; 32]),
        })
    }

    pub(crate) fn abstained(self, group: u32, seat: u8) -> Self {
        self.event(JobEvent::SeatAbstained {
            provider: address(20 + seat),
            group: GroupIndex::new(group),
            round: 0,
            seat: SeatIndex::new(seat),
            reason: AbstainReason::Image,
        })
    }

    pub(crate) fn revealing(self, group: u32, reveal_by: u64) -> Self {
        let group = GroupIndex::new(group);
        self.event(JobEvent::RevealStarted {
            group,
            round: 0,
            reveal_by: at(reveal_by),
        })
    }

    pub(crate) fn revealed(self, group: u32, seat: u8, root: u8, with_receipt: bool) -> Self {
        let receipt = StoredAt {
            gateway: GATEWAY,
            stored_root: Hash32::ZERO,
            size: 1,
            until: at(9_999),
        };
        self.event(JobEvent::SeatRevealed {
            provider: address(20 + seat),
            group: GroupIndex::new(group),
            round: 0,
            seat: SeatIndex::new(seat),
            root_a: Hash32::from_bytes([root; 32]),
            hash_b: Hash32::ZERO,
            stored: with_receipt.then_some(receipt),
        })
    }

    pub(crate) fn judged(
        self,
        group: u32,
        state: GroupStatus,
        seats: [SeatStatus; 3],
        settle_at: u64,
    ) -> Self {
        let root = if state == GroupStatus::Agreed {
            Hash32::from_bytes([1; 32])
        } else {
            Hash32::ZERO
        };
        self.event(JobEvent::GroupJudged {
            group: GroupIndex::new(group),
            round: 0,
            state,
            root,
            agreed: 2,
            seat_states: PackedSeatStates::pack(seats),
            settle_at: at(settle_at),
        })
    }

    /// All three seats are settled in the states given, no money moved, and the group ends.
    pub(crate) fn ended(self, group: u32, state: GroupStatus, seats: [SeatStatus; 3]) -> Self {
        let record = self.job().group(GroupIndex::new(group)).unwrap();
        let amounts: Vec<_> = record.seats.iter().map(|seat| seat.money).collect();
        let mut script = self;
        for (seat, (state, money)) in (0u8..).zip(seats.into_iter().zip(&amounts)) {
            script = script.event(JobEvent::SeatSettled {
                provider: address(20 + seat),
                group: GroupIndex::new(group),
                seat: SeatIndex::new(seat),
                state,
                paid: TokenAmount::ZERO,
                charge_to_sink: TokenAmount::ZERO,
                burned: TokenAmount::ZERO,
                bond_released: money.bond,
            });
        }
        let released = TokenAmount::checked_sum(amounts.iter().map(|money| money.allocation().unwrap()));
        script.event(JobEvent::GroupEnded {
            group: GroupIndex::new(group),
            state,
            paid: TokenAmount::ZERO,
            fee: TokenAmount::ZERO,
            to_sink: TokenAmount::ZERO,
            released: released.unwrap(),
        })
    }
}
