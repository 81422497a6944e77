//! A standing offer's states, as the chain's events and newer offers of its series change them.

use super::IllegalEvent;
use crate::offer::Sale;
use crate::quantity::{Nonce, Slots, UnixSeconds};

/// What a signed offer is at. Validity in time is a question to ask, not a state: [`OfferState::sells`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OfferState {
    /// Can be filled.
    Standing {
        /// Slots of its series that are awarded now.
        used: Slots,
    },
    /// A newer offer of its series was filled or published, or it was cancelled; its awards go on.
    Void {
        /// Offers of the series below this are void.
        min_nonce: Nonce,
        /// Slots of its series that are awarded now.
        used: Slots,
    },
}

/// What happens to a standing offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OfferEvent {
    /// Slots of its series were awarded.
    Awarded(Slots),
    /// Slots of its series are free again.
    Freed(Slots),
    /// Offers of its series below this nonce are void.
    Raised {
        /// The lowest nonce that stands.
        min_nonce: Nonce,
    },
}

impl OfferState {
    /// An offer that nothing has happened to.
    pub const NEW: Self = Self::Standing { used: Slots::ZERO };

    /// The state after `event`, for the offer of this nonce.
    pub fn next(self, nonce: Nonce, event: OfferEvent) -> Result<Self, IllegalEvent> {
        let illegal = || IllegalEvent {
            subject: "offer",
            state: self.label(),
            event: event.label(),
        };
        match (self, event) {
            (Self::Standing { used }, OfferEvent::Awarded(slots)) => Ok(Self::Standing {
                used: used.checked_add(slots).ok_or_else(illegal)?,
            }),
            // Another offer of the series may still be filled.
            (Self::Void { min_nonce, used }, OfferEvent::Awarded(slots)) => Ok(Self::Void {
                min_nonce,
                used: used.checked_add(slots).ok_or_else(illegal)?,
            }),
            (Self::Standing { used }, OfferEvent::Freed(slots)) => Ok(Self::Standing {
                used: used.checked_sub(slots).ok_or_else(illegal)?,
            }),
            (Self::Void { min_nonce, used }, OfferEvent::Freed(slots)) => Ok(Self::Void {
                min_nonce,
                used: used.checked_sub(slots).ok_or_else(illegal)?,
            }),
            (Self::Standing { used }, OfferEvent::Raised { min_nonce }) if min_nonce > nonce => {
                Ok(Self::Void { min_nonce, used })
            }
            (Self::Standing { used }, OfferEvent::Raised { .. }) => Ok(Self::Standing { used }),
            (
                Self::Void {
                    min_nonce: before,
                    used,
                },
                OfferEvent::Raised { min_nonce },
            ) => Ok(Self::Void {
                min_nonce: before.max(min_nonce),
                used,
            }),
        }
    }

    /// How many slots can still be awarded from it at `now`.
    pub fn sells(&self, sale: &Sale, now: UnixSeconds) -> Slots {
        match self {
            Self::Standing { used } if sale.valid_from <= now && now <= sale.valid_until => {
                sale.slots.checked_sub(*used).unwrap_or(Slots::ZERO)
            }
            Self::Standing { .. } | Self::Void { .. } => Slots::ZERO,
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Standing { .. } => "Standing",
            Self::Void { .. } => "Void",
        }
    }
}

impl OfferEvent {
    const fn label(self) -> &'static str {
        match self {
            Self::Awarded(_) => "Awarded",
            Self::Freed(_) => "Freed",
            Self::Raised { .. } => "Raised",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::{Bps, PricePerSlotSecond};

    #[test]
    fn slots_come_and_go_and_a_raised_floor_ends_the_sale() {
        let sale = Sale {
            series: 1,
            nonce: Nonce::new(5),
            valid_from: UnixSeconds::new(10),
            valid_until: UnixSeconds::new(20),
            price_per_slot_second: PricePerSlotSecond::ZERO,
            slots: Slots::new(4),
            min_charge_bps: Bps::ZERO,
        };
        let next = |state: OfferState, event| state.next(sale.nonce, event).unwrap();
        let sells = |state: OfferState, now| state.sells(&sale, UnixSeconds::new(now)).get();
        let taken = next(OfferState::NEW, OfferEvent::Awarded(Slots::new(3)));
        assert_eq!(
            (
                sells(taken, 9),
                sells(taken, 10),
                sells(taken, 20),
                sells(taken, 21)
            ),
            (0, 1, 1, 0)
        );
        assert_eq!(
            next(
                taken,
                OfferEvent::Raised {
                    min_nonce: Nonce::new(5)
                }
            ),
            taken
        );
        let void = next(
            taken,
            OfferEvent::Raised {
                min_nonce: Nonce::new(6),
            },
        );
        assert_eq!(sells(void, 15), 0);
        let freed = next(void, OfferEvent::Freed(Slots::new(3)));
        assert!(freed.next(sale.nonce, OfferEvent::Freed(Slots::new(1))).is_err());
        assert_eq!(sells(next(taken, OfferEvent::Freed(Slots::new(3))), 15), 4);
    }
}
