//! Values that tests start from.

use crate::amount::{Bps, PricePerSlotSecond, TokenAmount};
use crate::ids::{Address, ClassId, Hash32, RegionId};
use crate::offer::{Bounds, Offer, Sale};
use crate::quantity::{Nonce, Seconds, Slots, Units, UnixSeconds};
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
