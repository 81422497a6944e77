//! The structs of PROTOCOL.md T-1 to T-5 in the market's ABI, from the core's and back.
//!
//! The core's numbers are wider than some of the contract's words: what does not fit is refused by name, never cut.

use tradewind_market::message::{Abstain, AbstainEntry, Commit, CommitEntry, Reveal, RevealEntry};
use tradewind_market::offer::{Bounds, Offer, Sale};
use tradewind_market::terms::{Content, Policy, Pricing, Redundancy, Shape, Terms, Windows};
use tradewind_market::{Bps, Hash32, Seconds, Slots, TokenAmount, Units, UnixSeconds};

use crate::abi;
use crate::convert::{to_address, to_h160};

/// A value does not fit the contract's word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} is too large for the contract")]
pub struct DoesNotFit {
    /// Which field.
    pub field: &'static str,
}

/// Words of 96 bits, which the generated types hold in 128.
const MAX_96: u128 = (1 << 96) - 1;
/// Words of 24 bits, which the generated types hold in 32.
const MAX_24: u32 = (1 << 24) - 1;

fn fit<T: TryFrom<U>, U>(field: &'static str, number: U) -> Result<T, DoesNotFit> {
    T::try_from(number).map_err(|_| DoesNotFit { field })
}

fn fit_96(field: &'static str, number: u128) -> Result<u128, DoesNotFit> {
    if number <= MAX_96 {
        Ok(number)
    } else {
        Err(DoesNotFit { field })
    }
}

fn fit_24(field: &'static str, share: Bps) -> Result<u32, DoesNotFit> {
    if share.get() <= MAX_24 {
        Ok(share.get())
    } else {
        Err(DoesNotFit { field })
    }
}

pub(crate) fn write_terms(terms: &Terms) -> Result<abi::Terms, DoesNotFit> {
    let Terms {
        shape,
        redundancy,
        windows,
        pricing,
        content,
        gateways,
    } = terms;
    Ok(abi::Terms {
        shape: write_shape(shape)?,
        redundancy: write_redundancy(redundancy)?,
        windows: write_windows(windows)?,
        pricing: write_pricing(pricing)?,
        content: write_content(content),
        gateways: gateways.iter().copied().map(to_h160).collect(),
    })
}

fn write_shape(shape: &Shape) -> Result<abi::Shape, DoesNotFit> {
    let Shape {
        units,
        units_per_slice,
        slices_per_group,
        slots_per_seat,
        seconds_per_unit,
        class_id,
    } = shape;
    Ok(abi::Shape {
        units: units.get(),
        units_per_slice: units_per_slice.get(),
        slices_per_group: *slices_per_group,
        slots_per_seat: fit("slotsPerSeat", slots_per_seat.get())?,
        seconds_per_unit: fit("secondsPerUnit", seconds_per_unit.get())?,
        class_id: *class_id.as_bytes(),
    })
}

fn write_redundancy(redundancy: &Redundancy) -> Result<abi::Redundancy, DoesNotFit> {
    let Redundancy {
        policy,
        quorum,
        picked,
        max_seats,
        drawn,
        max_rounds,
        canary,
        entropy,
        audit_floor_ppm,
        collusion_bps,
    } = redundancy;
    Ok(abi::Redundancy {
        policy: policy.number(),
        quorum: *quorum,
        picked: *picked,
        max_seats: *max_seats,
        drawn: *drawn,
        max_rounds: *max_rounds,
        canary: *canary,
        entropy: *entropy,
        audit_floor_ppm: *audit_floor_ppm,
        collusion_bps: fit("collusionBps", collusion_bps.get())?,
    })
}

fn write_windows(windows: &Windows) -> Result<abi::Windows, DoesNotFit> {
    let Windows {
        open_until,
        commit_grace,
        reveal_window,
        appeal_window,
        availability_window,
        cancel_grace,
        retention,
    } = windows;
    Ok(abi::Windows {
        open_until: open_until.get(),
        commit_grace: fit("commitGrace", commit_grace.get())?,
        reveal_window: fit("revealWindow", reveal_window.get())?,
        appeal_window: fit("appealWindow", appeal_window.get())?,
        availability_window: fit("availabilityWindow", availability_window.get())?,
        cancel_grace: fit("cancelGrace", cancel_grace.get())?,
        retention: fit("retention", retention.get())?,
    })
}

fn write_pricing(pricing: &Pricing) -> Result<abi::Pricing, DoesNotFit> {
    let Pricing {
        token,
        picked_cap,
        drawn_cap,
        bond_bps,
        no_show_bps,
        fee_bps,
        inconclusive_bps,
        unresolved_burn_bps,
    } = pricing;
    Ok(abi::Pricing {
        token: to_h160(*token),
        picked_cap: fit_96("pickedCap", picked_cap.base_units())?,
        drawn_cap: fit_96("drawnCap", drawn_cap.base_units())?,
        bond_bps: fit_24("bondBps", *bond_bps)?,
        no_show_bps: fit("noShowBps", no_show_bps.get())?,
        fee_bps: fit("feeBps", fee_bps.get())?,
        inconclusive_bps: fit("inconclusiveBps", inconclusive_bps.get())?,
        unresolved_burn_bps: fit("unresolvedBurnBps", unresolved_burn_bps.get())?,
    })
}

fn write_content(content: &Content) -> abi::Content {
    let Content {
        template_digest,
        template_address,
        key_commitment,
        secrets_root,
        spot_checks_root,
        comparator,
        verifier,
    } = content;
    abi::Content {
        template_digest: *template_digest.as_bytes(),
        template_address: *template_address.as_bytes(),
        key_commitment: *key_commitment.as_bytes(),
        secrets_root: *secrets_root.as_bytes(),
        spot_checks_root: *spot_checks_root.as_bytes(),
        comparator: *comparator.as_bytes(),
        verifier: to_h160(*verifier),
    }
}

/// The core's terms, or which number has no name.
pub(crate) fn read_terms(terms: &abi::Terms) -> Result<Terms, String> {
    let seconds = |seconds: u32| Seconds::new(u64::from(seconds));
    let amount = TokenAmount::from_base_units;
    let share = |share: u16| Bps::new(u32::from(share));
    let abi::Terms {
        shape,
        redundancy,
        windows,
        pricing,
        content,
        gateways,
    } = terms;
    Ok(Terms {
        shape: Shape {
            units: Units::new(shape.units),
            units_per_slice: Units::new(shape.units_per_slice),
            slices_per_group: shape.slices_per_group,
            slots_per_seat: Slots::new(u32::from(shape.slots_per_seat)),
            seconds_per_unit: seconds(shape.seconds_per_unit),
            class_id: Hash32::from_bytes(shape.class_id).into(),
        },
        redundancy: Redundancy {
            policy: Policy::from_number(redundancy.policy)
                .ok_or_else(|| format!("no policy has the number {}", redundancy.policy))?,
            quorum: redundancy.quorum,
            picked: redundancy.picked,
            max_seats: redundancy.max_seats,
            drawn: redundancy.drawn,
            max_rounds: redundancy.max_rounds,
            canary: redundancy.canary,
            entropy: redundancy.entropy,
            audit_floor_ppm: redundancy.audit_floor_ppm,
            collusion_bps: share(redundancy.collusion_bps),
        },
        windows: Windows {
            open_until: UnixSeconds::new(windows.open_until),
            commit_grace: seconds(windows.commit_grace),
            reveal_window: seconds(windows.reveal_window),
            appeal_window: seconds(windows.appeal_window),
            availability_window: seconds(windows.availability_window),
            cancel_grace: seconds(windows.cancel_grace),
            retention: seconds(windows.retention),
        },
        pricing: Pricing {
            token: to_address(pricing.token),
            picked_cap: amount(pricing.picked_cap),
            drawn_cap: amount(pricing.drawn_cap),
            bond_bps: Bps::new(pricing.bond_bps),
            no_show_bps: share(pricing.no_show_bps),
            fee_bps: share(pricing.fee_bps),
            inconclusive_bps: share(pricing.inconclusive_bps),
            unresolved_burn_bps: share(pricing.unresolved_burn_bps),
        },
        content: Content {
            template_digest: Hash32::from_bytes(content.template_digest),
            template_address: Hash32::from_bytes(content.template_address),
            key_commitment: Hash32::from_bytes(content.key_commitment),
            secrets_root: Hash32::from_bytes(content.secrets_root),
            spot_checks_root: Hash32::from_bytes(content.spot_checks_root),
            comparator: Hash32::from_bytes(content.comparator),
            verifier: to_address(content.verifier),
        },
        gateways: gateways.iter().copied().map(to_address).collect(),
    })
}

pub(crate) fn write_offer(offer: &Offer) -> Result<abi::Offer, DoesNotFit> {
    let Offer {
        provider,
        allowed_buyer,
        token,
        class_id,
        region,
        details,
        recipient,
        sale,
        bounds,
        gateways,
        verifiers,
    } = offer;
    Ok(abi::Offer {
        provider: to_h160(*provider),
        allowed_buyer: to_h160(*allowed_buyer),
        token: to_h160(*token),
        class_id: *class_id.as_bytes(),
        region: *region.as_bytes(),
        details: *details.as_bytes(),
        recipient: *recipient.as_bytes(),
        sale: write_sale(sale)?,
        bounds: write_bounds(bounds)?,
        gateways: gateways.iter().copied().map(to_h160).collect(),
        verifiers: verifiers.iter().copied().map(to_h160).collect(),
    })
}

fn write_sale(sale: &Sale) -> Result<abi::Sale, DoesNotFit> {
    let Sale {
        series,
        nonce,
        valid_from,
        valid_until,
        price_per_slot_second,
        slots,
        min_charge_bps,
    } = sale;
    Ok(abi::Sale {
        series: *series,
        nonce: nonce.get(),
        valid_from: valid_from.get(),
        valid_until: valid_until.get(),
        price_per_slot_second: fit_96("pricePerSlotSecond", price_per_slot_second.base_units())?,
        slots: slots.get(),
        min_charge_bps: fit("minChargeBps", min_charge_bps.get())?,
    })
}

fn write_bounds(bounds: &Bounds) -> Result<abi::Bounds, DoesNotFit> {
    let Bounds {
        max_seconds_per_unit,
        max_lock_seconds,
        min_commit_grace,
        min_reveal_window,
        max_retention,
        max_bond_bps,
        max_no_show_bps,
        min_inconclusive_bps,
        policies,
    } = bounds;
    Ok(abi::Bounds {
        max_seconds_per_unit: fit("maxSecondsPerUnit", max_seconds_per_unit.get())?,
        max_lock_seconds: fit("maxLockSeconds", max_lock_seconds.get())?,
        min_commit_grace: fit("minCommitGrace", min_commit_grace.get())?,
        min_reveal_window: fit("minRevealWindow", min_reveal_window.get())?,
        max_retention: fit("maxRetention", max_retention.get())?,
        max_bond_bps: fit_24("maxBondBps", *max_bond_bps)?,
        max_no_show_bps: fit("maxNoShowBps", max_no_show_bps.get())?,
        min_inconclusive_bps: fit("minInconclusiveBps", min_inconclusive_bps.get())?,
        policies: *policies,
    })
}

pub(crate) fn write_commit(message: &Commit) -> abi::Commit {
    let entry = |entry: &CommitEntry| abi::CommitEntry {
        group: entry.seat.group.get(),
        round: entry.seat.round,
        seat: entry.seat.seat.get(),
        commitment: *entry.commitment.as_bytes(),
    };
    abi::Commit {
        provider: to_h160(message.provider),
        job_id: *message.job_id.as_bytes(),
        deadline: message.deadline.get(),
        entries: message.entries.iter().map(entry).collect(),
    }
}

pub(crate) fn write_abstain(message: &Abstain) -> abi::Abstain {
    let entry = |entry: &AbstainEntry| abi::AbstainEntry {
        group: entry.seat.group.get(),
        round: entry.seat.round,
        seat: entry.seat.seat.get(),
        reason: entry.reason.number(),
    };
    abi::Abstain {
        provider: to_h160(message.provider),
        job_id: *message.job_id.as_bytes(),
        deadline: message.deadline.get(),
        entries: message.entries.iter().map(entry).collect(),
    }
}

pub(crate) fn write_reveal(message: &Reveal) -> abi::Reveal {
    let entry = |entry: &RevealEntry| abi::RevealEntry {
        group: entry.seat.group.get(),
        round: entry.seat.round,
        seat: entry.seat.seat.get(),
        root_a: *entry.root_a.as_bytes(),
        salt_a: *entry.salt_a.as_bytes(),
        hash_b: *entry.hash_b.as_bytes(),
        gateway: to_h160(entry.gateway),
        stored_root: *entry.stored_root.as_bytes(),
        size: entry.size,
        until: entry.until.get(),
        receipt: entry.receipt.0.clone().into(),
    };
    abi::Reveal {
        provider: to_h160(message.provider),
        job_id: *message.job_id.as_bytes(),
        deadline: message.deadline.get(),
        entries: message.entries.iter().map(entry).collect(),
    }
}
