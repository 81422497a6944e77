//! A seat's states (PROTOCOL.md S-21 to S-31): what its provider did, what that came to, what it was paid.

use super::IllegalEvent;
use crate::amount::TokenAmount;
use crate::event::{SeatStatus, StoredAt};
use crate::ids::Hash32;
use crate::message::AbstainReason;

/// What a seat showed when it opened its commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Opening {
    /// The result root.
    pub root_a: Hash32,
    /// I-7.
    pub hash_b: Hash32,
    /// The receipt of a gateway that stores the result; `None` while there is none.
    pub stored: Option<StoredAt>,
}

/// What a seat's conduct came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SeatVerdict {
    /// Abstained in time: unpaid, unslashed.
    Abstained,
    /// Neither committed nor abstained in time.
    NoShow,
    /// Showed the agreed root, stored.
    Agreed,
    /// Showed a root that counts, without a receipt.
    Unstored,
    /// Showed another root, or committed and did not open.
    Dissent,
    /// Left hanging by the buyer.
    Excused,
    /// Opened and stored, but there was no quorum.
    Unresolved,
}

/// What a settled seat got and lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Payout {
    /// To its provider's balance.
    pub paid: TokenAmount,
    /// The buyer's money that went to the sink.
    pub charge_to_sink: TokenAmount,
    /// From its provider's bond to the sink.
    pub burned: TokenAmount,
    /// Of its provider's bond, free again.
    pub bond_released: TokenAmount,
}

/// What a seat is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SeatState {
    /// Has not spoken.
    Awarded,
    /// Committed.
    Committed {
        /// I-8.
        commitment: Hash32,
    },
    /// Abstained.
    Abstained {
        /// Why.
        reason: AbstainReason,
    },
    /// Opened its commitment; `opening.stored` says whether with a receipt.
    Opened {
        /// What it showed.
        opening: Opening,
    },
    /// Judged; its money is still locked.
    Judged {
        /// What it came to.
        verdict: SeatVerdict,
        /// What it showed, if it did.
        opening: Option<Opening>,
    },
    /// Its money is dealt out.
    Settled {
        /// What it came to.
        verdict: SeatVerdict,
        /// What it showed, if it did.
        opening: Option<Opening>,
        /// What it got and lost.
        payout: Payout,
    },
}

/// What happens to a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SeatEvent {
    /// It committed.
    Committed {
        /// I-8.
        commitment: Hash32,
    },
    /// It abstained.
    Abstained {
        /// Why.
        reason: AbstainReason,
    },
    /// It opened its commitment.
    Revealed {
        /// What it showed.
        opening: Opening,
    },
    /// It added the receipt that it lacked.
    ReceiptAttached {
        /// The receipt.
        stored: StoredAt,
    },
    /// Its group was judged.
    Judged(SeatVerdict),
    /// Its money was dealt out.
    Settled {
        /// What it came to.
        verdict: SeatVerdict,
        /// What it got and lost.
        payout: Payout,
    },
}

impl SeatState {
    /// The state after `event`.
    pub fn next(self, event: SeatEvent) -> Result<Self, IllegalEvent> {
        use SeatEvent as E;
        use SeatVerdict as V;
        let illegal = IllegalEvent {
            subject: "seat",
            state: self.label(),
            event: event.label(),
        };
        match self {
            Self::Awarded => match event {
                E::Committed { commitment } => Ok(Self::Committed { commitment }),
                E::Abstained { reason } => Ok(Self::Abstained { reason }),
                E::Judged(verdict @ (V::NoShow | V::Excused)) => Ok(Self::Judged {
                    verdict,
                    opening: None,
                }),
                // A group that was never sealed is closed without being judged.
                E::Settled {
                    verdict: verdict @ V::Excused,
                    payout,
                } => Ok(Self::Settled {
                    verdict,
                    opening: None,
                    payout,
                }),
                E::Revealed { .. }
                | E::ReceiptAttached { .. }
                | E::Judged(V::Abstained | V::Agreed | V::Unstored | V::Dissent | V::Unresolved)
                | E::Settled {
                    verdict: V::Abstained | V::NoShow | V::Agreed | V::Unstored | V::Dissent | V::Unresolved,
                    ..
                } => Err(illegal),
            },
            Self::Committed { .. } => match event {
                E::Revealed { opening } => Ok(Self::Opened { opening }),
                E::Judged(verdict @ V::Dissent) => Ok(Self::Judged {
                    verdict,
                    opening: None,
                }),
                E::Committed { .. }
                | E::Abstained { .. }
                | E::ReceiptAttached { .. }
                | E::Settled { .. }
                | E::Judged(
                    V::Abstained | V::NoShow | V::Agreed | V::Unstored | V::Excused | V::Unresolved,
                ) => Err(illegal),
            },
            Self::Abstained { .. } => match event {
                E::Judged(verdict @ V::Abstained) => Ok(Self::Judged {
                    verdict,
                    opening: None,
                }),
                E::Committed { .. }
                | E::Abstained { .. }
                | E::Revealed { .. }
                | E::ReceiptAttached { .. }
                | E::Settled { .. }
                | E::Judged(V::NoShow | V::Agreed | V::Unstored | V::Dissent | V::Excused | V::Unresolved) => {
                    Err(illegal)
                }
            },
            Self::Opened { opening } => Self::after_opening(opening, event).ok_or(illegal),
            Self::Judged { verdict, opening } => match event {
                E::Settled {
                    verdict: settled,
                    payout,
                } if settled == verdict => Ok(Self::Settled {
                    verdict,
                    opening,
                    payout,
                }),
                E::Settled { .. }
                | E::Committed { .. }
                | E::Abstained { .. }
                | E::Revealed { .. }
                | E::ReceiptAttached { .. }
                | E::Judged(_) => Err(illegal),
            },
            Self::Settled { .. } => match event {
                E::Committed { .. }
                | E::Abstained { .. }
                | E::Revealed { .. }
                | E::ReceiptAttached { .. }
                | E::Judged(_)
                | E::Settled { .. } => Err(illegal),
            },
        }
    }

    /// The state of a seat that has opened, after `event`; `None` where that cannot happen.
    fn after_opening(opening: Opening, event: SeatEvent) -> Option<Self> {
        use SeatEvent as E;
        match event {
            E::ReceiptAttached { stored } if opening.stored.is_none() => Some(Self::Opened {
                opening: Opening {
                    stored: Some(stored),
                    ..opening
                },
            }),
            E::Judged(verdict) if verdict.follows(&opening) => Some(Self::Judged {
                verdict,
                opening: Some(opening),
            }),
            E::ReceiptAttached { .. }
            | E::Judged(_)
            | E::Committed { .. }
            | E::Abstained { .. }
            | E::Revealed { .. }
            | E::Settled { .. } => None,
        }
    }

    /// The state as the chain numbers it.
    pub const fn status(&self) -> SeatStatus {
        match self {
            Self::Awarded => SeatStatus::Awarded,
            Self::Committed { .. } => SeatStatus::Committed,
            Self::Abstained { .. } => SeatStatus::Abstained,
            Self::Opened {
                opening: Opening { stored: None, .. },
            } => SeatStatus::Revealed,
            Self::Opened {
                opening: Opening { stored: Some(_), .. },
            } => SeatStatus::Stored,
            Self::Judged { verdict, .. } | Self::Settled { verdict, .. } => verdict.status(),
        }
    }

    /// What it showed, if it did.
    pub const fn opening(&self) -> Option<&Opening> {
        match self {
            Self::Opened { opening } => Some(opening),
            Self::Judged { opening, .. } | Self::Settled { opening, .. } => opening.as_ref(),
            Self::Awarded | Self::Committed { .. } | Self::Abstained { .. } => None,
        }
    }

    /// A word for conditions and metrics.
    pub const fn label(&self) -> &'static str {
        self.status().label()
    }
}

impl SeatVerdict {
    /// The verdict that a state on chain is, if it is one.
    pub const fn from_status(status: SeatStatus) -> Option<Self> {
        match status {
            SeatStatus::Abstained => Some(Self::Abstained),
            SeatStatus::NoShow => Some(Self::NoShow),
            SeatStatus::Agreed => Some(Self::Agreed),
            SeatStatus::Unstored => Some(Self::Unstored),
            SeatStatus::Dissent => Some(Self::Dissent),
            SeatStatus::Excused => Some(Self::Excused),
            SeatStatus::Unresolved => Some(Self::Unresolved),
            SeatStatus::Awarded | SeatStatus::Committed | SeatStatus::Revealed | SeatStatus::Stored => None,
        }
    }

    /// The state as the chain numbers it.
    pub const fn status(self) -> SeatStatus {
        match self {
            Self::Abstained => SeatStatus::Abstained,
            Self::NoShow => SeatStatus::NoShow,
            Self::Agreed => SeatStatus::Agreed,
            Self::Unstored => SeatStatus::Unstored,
            Self::Dissent => SeatStatus::Dissent,
            Self::Excused => SeatStatus::Excused,
            Self::Unresolved => SeatStatus::Unresolved,
        }
    }

    /// Whether a seat that opened like this can come to this.
    const fn follows(self, opening: &Opening) -> bool {
        match self {
            Self::Dissent => true,
            Self::Agreed | Self::Unresolved => opening.stored.is_some(),
            Self::Unstored => opening.stored.is_none(),
            Self::Abstained | Self::NoShow | Self::Excused => false,
        }
    }
}

impl SeatEvent {
    const fn label(self) -> &'static str {
        match self {
            Self::Committed { .. } => "Committed",
            Self::Abstained { .. } => "Abstained",
            Self::Revealed { .. } => "Revealed",
            Self::ReceiptAttached { .. } => "ReceiptAttached",
            Self::Judged(_) => "Judged",
            Self::Settled { .. } => "Settled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Address;
    use crate::quantity::UnixSeconds;

    const VERDICTS: [SeatVerdict; 7] = [
        SeatVerdict::Abstained,
        SeatVerdict::NoShow,
        SeatVerdict::Agreed,
        SeatVerdict::Unstored,
        SeatVerdict::Dissent,
        SeatVerdict::Excused,
        SeatVerdict::Unresolved,
    ];

    fn stored() -> StoredAt {
        StoredAt {
            gateway: Address::from_bytes([3; 20]),
            stored_root: Hash32::from_bytes([4; 32]),
            size: 10,
            until: UnixSeconds::new(99),
        }
    }

    fn opening(with_receipt: bool) -> Opening {
        Opening {
            root_a: Hash32::from_bytes([1; 32]),
            hash_b: Hash32::from_bytes([2; 32]),
            stored: with_receipt.then(stored),
        }
    }

    #[test]
    fn every_state_takes_exactly_these_events() {
        let commitment = Hash32::from_bytes([5; 32]);
        let payout = Payout::default();
        let mut events = vec![
            ("commit".to_owned(), SeatEvent::Committed { commitment }),
            (
                "abstain".to_owned(),
                SeatEvent::Abstained {
                    reason: AbstainReason::Image,
                },
            ),
            (
                "reveal".to_owned(),
                SeatEvent::Revealed {
                    opening: opening(false),
                },
            ),
            (
                "attach".to_owned(),
                SeatEvent::ReceiptAttached { stored: stored() },
            ),
        ];
        for verdict in VERDICTS {
            events.push((format!("judge {verdict:?}"), SeatEvent::Judged(verdict)));
            events.push((
                format!("settle {verdict:?}"),
                SeatEvent::Settled { verdict, payout },
            ));
        }
        let check = |state: SeatState, expected: &[&str]| {
            let found: Vec<_> = events
                .iter()
                .filter(|(_, event)| state.next(*event).is_ok())
                .map(|(name, _)| name.as_str())
                .collect();
            assert_eq!(found, expected, "{state:?}");
        };
        check(
            SeatState::Awarded,
            &[
                "commit",
                "abstain",
                "judge NoShow",
                "judge Excused",
                "settle Excused",
            ],
        );
        check(SeatState::Committed { commitment }, &["reveal", "judge Dissent"]);
        check(
            SeatState::Abstained {
                reason: AbstainReason::Image,
            },
            &["judge Abstained"],
        );
        check(
            SeatState::Opened {
                opening: opening(false),
            },
            &["attach", "judge Unstored", "judge Dissent"],
        );
        check(
            SeatState::Opened {
                opening: opening(true),
            },
            &["judge Agreed", "judge Dissent", "judge Unresolved"],
        );
        for verdict in VERDICTS {
            let expected = format!("settle {verdict:?}");
            check(
                SeatState::Judged {
                    verdict,
                    opening: None,
                },
                &[expected.as_str()],
            );
            check(
                SeatState::Settled {
                    verdict,
                    opening: None,
                    payout,
                },
                &[],
            );
        }
    }

    #[test]
    fn statuses_and_verdicts_name_each_other() {
        for verdict in VERDICTS {
            assert_eq!(SeatVerdict::from_status(verdict.status()), Some(verdict));
        }
        assert_eq!(
            SeatState::Opened {
                opening: opening(true)
            }
            .status(),
            SeatStatus::Stored
        );
    }
}
