//! What a seat, a group and a job cost: the formulas of PROTOCOL.md section 10, rounded as the contract rounds.

use crate::amount::{BPS_ONE, Bps, TokenAmount};
use crate::quantity::{Seconds, Units, UnixSeconds};
use crate::terms::{Pricing, Terms};

/// The amounts that one award fixes for its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeatMoney {
    /// What the seat earns if its result is agreed.
    pub pay: TokenAmount,
    /// The market's share, on top of pay.
    pub fee: TokenAmount,
    /// What the seat keeps if the buyer leaves it hanging.
    pub charge: TokenAmount,
    /// What the seat's provider has locked.
    pub bond: TokenAmount,
    /// What a no-show loses of its bond.
    pub burn: TokenAmount,
}

impl SeatMoney {
    /// For a seat that runs `units` units at `price_per_unit`; `None` if an amount does not fit.
    pub fn of(price_per_unit: TokenAmount, units: Units, pricing: &Pricing, charge_bps: Bps) -> Option<Self> {
        let pay = price_per_unit.checked_mul(u64::from(units.get()))?;
        let bond = pay.share_rounding_up(pricing.bond_bps)?;
        Some(Self {
            pay,
            fee: pay.share_rounding_down(pricing.fee_bps)?,
            charge: pay.share_rounding_down(charge_bps)?,
            bond,
            burn: bond.min(pay.share_rounding_up(pricing.no_show_bps)?),
        })
    }

    /// What the award allocates in the job's escrow.
    pub fn allocation(&self) -> Option<TokenAmount> {
        self.pay.checked_add(self.fee)
    }
}

impl Terms {
    /// What sealing a group allocates per unit, for drawn seats (M-5).
    pub fn reserve_per_unit(&self) -> Option<TokenAmount> {
        let redundancy = &self.redundancy;
        let drawn_seats = redundancy.max_seats.checked_sub(redundancy.picked)?;
        let with_fee = Bps::new(BPS_ONE.checked_add(self.pricing.fee_bps.get())?);
        self.pricing
            .drawn_cap
            .checked_mul(u64::from(drawn_seats))?
            .share_rounding_up(with_fee)
    }

    /// What a fill at `now` locks a bond for at most (D-9).
    pub fn lock_time(&self, now: UnixSeconds) -> Option<Seconds> {
        let windows = &self.windows;
        windows
            .open_until
            .checked_since(now)?
            .checked_add(self.shape.run_time()?)?
            .checked_add(windows.commit_grace)?
            .checked_add(windows.reveal_window)?
            .checked_add(windows.appeal_window.max(windows.availability_window))
    }

    /// The most that `units` units can cost on these terms: all picked seats at the cap, fees and reserve.
    pub fn cost_at_cap(&self, units: Units) -> Option<TokenAmount> {
        let seat = SeatMoney::of(self.pricing.picked_cap, units, &self.pricing, Bps::ZERO)?;
        let seats = seat
            .allocation()?
            .checked_mul(u64::from(self.redundancy.picked))?;
        seats.checked_add(self.reserve_per_unit()?.checked_mul(u64::from(units.get()))?)
    }
}
