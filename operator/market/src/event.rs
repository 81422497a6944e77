//! The market's events (PROTOCOL.md section 12), one variant each, decoded.
//!
//! The chain edge makes them from logs; [`crate::index`] folds them. What the chain numbers is an enum here,
//! and a number that has no name is refused where it is decoded.

use serde::{Deserialize, Serialize};

use crate::amount::{Bps, TokenAmount};
use crate::ids::{Address, Hash32, JobId, JobNonce, OfferHash};
use crate::message::AbstainReason;
use crate::quantity::{GroupIndex, Nonce, SeatIndex, UnixSeconds};
use crate::terms::Terms;

/// A number on chain that this version has no name for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no {kind} has the number {number}")]
pub struct UnknownNumber {
    /// Of what.
    pub kind: &'static str,
    /// The number.
    pub number: u8,
}

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident, $kind:literal, { $($(#[$vdoc:meta])* $variant:ident = $number:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every one, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its number on chain.
            pub const fn number(self) -> u8 {
                match self { $(Self::$variant => $number,)+ }
            }

            /// A word for conditions and metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)+ }
            }
        }

        impl TryFrom<u8> for $name {
            type Error = UnknownNumber;
            fn try_from(number: u8) -> Result<Self, UnknownNumber> {
                match number {
                    $($number => Ok(Self::$variant),)+
                    number => Err(UnknownNumber { kind: $kind, number }),
                }
            }
        }
    };
}

numbered!(
    /// A group's state, without its data.
    GroupStatus, "group state", {
        /// Seats are being filled.
        Filling = 0,
        /// Seats commit or abstain.
        Running = 1,
        /// Seats show what they committed to.
        Revealing = 2,
        /// Judged; waits for appeals and challenges.
        Agreed = 5,
        /// Revealed without a quorum; waits for appeals.
        Contested = 6,
        /// Ended: the quorum's seats are paid.
        Credited = 7,
        /// Ended: no quorum.
        Inconclusive = 8,
        /// Ended: nobody showed a result.
        Refunded = 9,
    }
);

numbered!(
    /// A seat's state, without its data.
    SeatStatus, "seat state", {
        /// Has not spoken.
        Awarded = 1,
        /// Committed.
        Committed = 2,
        /// Abstained, with a reason.
        Abstained = 3,
        /// Opened, without a valid receipt so far.
        Revealed = 4,
        /// Opened, with a receipt.
        Stored = 5,
        /// Neither committed nor abstained in time.
        NoShow = 6,
        /// Showed the agreed root, stored.
        Agreed = 7,
        /// Showed a root that counts, without a receipt.
        Unstored = 8,
        /// Showed another root, or committed and did not open.
        Dissent = 9,
        /// Left hanging by the buyer.
        Excused = 10,
        /// Opened and stored, but there was no quorum.
        Unresolved = 11,
    }
);

numbered!(
    /// How a seat came into its group.
    SeatKind, "seat kind", {
        /// By the buyer, from a standing offer.
        Picked = 0,
        /// By the chain.
        Drawn = 1,
        /// By the buyer, in place of a no-show.
        Replacement = 2,
    }
);

numbered!(
    /// Why a fill, or one group of it, was passed over (PROTOCOL.md section 7).
    FillRefusal, "fill refusal", {
        /// F-1.
        SignatureInvalid = 1,
        /// F-2.
        NotYetValid = 2,
        /// F-3.
        Expired = 3,
        /// F-4.
        Superseded = 4,
        /// F-5.
        BuyerNotAllowed = 5,
        /// F-6.
        TokenMismatch = 6,
        /// F-7.
        ClassMismatch = 7,
        /// F-8.
        PriceAboveCap = 8,
        /// F-9.
        TermsOutOfBounds = 9,
        /// F-10.
        NoCommonGateway = 10,
        /// F-11.
        VerifierNotNamed = 11,
        /// F-12.
        ChargeAboveBurn = 12,
        /// F-13.
        TooManyFills = 13,
        /// F-20.
        GroupOutOfRange = 14,
        /// F-21.
        GroupNotFilling = 15,
        /// F-22.
        GroupFull = 16,
        /// F-23.
        AlreadySeated = 17,
        /// F-24.
        SlotsSpent = 18,
        /// F-25.
        BondTooSmall = 19,
        /// F-26.
        EscrowSpent = 20,
    }
);

numbered!(
    /// Why an entry of a message was passed over (PROTOCOL.md section 8).
    EntryRefusal, "entry refusal", {
        /// N-1.
        NoSuchGroup = 1,
        /// N-2.
        WrongRound = 2,
        /// N-3.
        NotYourSeat = 3,
        /// N-4.
        NotRunning = 4,
        /// N-5.
        NotRevealing = 5,
        /// N-6.
        TooLate = 6,
        /// N-7.
        OtherCommitment = 7,
        /// N-8.
        NotCommitted = 8,
        /// N-9.
        CommitmentMismatch = 9,
        /// N-10.
        ReasonMissing = 10,
        /// N-11.
        ZeroCommitment = 11,
    }
);

/// The states of a group's seats after judging, four bits each, seat 0 lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PackedSeatStates(pub u32);

impl PackedSeatStates {
    /// One seat's state; an error for an empty seat and for numbers without a name.
    pub fn of(self, seat: SeatIndex) -> Result<SeatStatus, UnknownNumber> {
        let shift = u32::from(seat.get()).saturating_mul(4);
        let nibble = self.0.checked_shr(shift).unwrap_or(0) & 0xf;
        SeatStatus::try_from(u8::try_from(nibble).unwrap_or(u8::MAX))
    }

    /// Packs states, seat 0 first.
    pub fn pack(states: impl IntoIterator<Item = SeatStatus>) -> Self {
        let packed = states
            .into_iter()
            .zip((0u32..32).step_by(4))
            .fold(0u32, |packed, (state, shift)| {
                packed | u32::from(state.number()).checked_shl(shift).unwrap_or(0)
            });
        Self(packed)
    }
}

/// A stored result's receipt, as the chain keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StoredAt {
    /// Whose receipt.
    pub gateway: Address,
    /// I-19.
    pub stored_root: Hash32,
    /// Bytes stored.
    pub size: u64,
    /// Stored until then.
    pub until: UnixSeconds,
}

/// One event of a market contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MarketEvent {
    /// Of one job, with its place in the job's sequence.
    Job {
        /// The job.
        job: JobId,
        /// Counted from 1 without a gap.
        sequence: u32,
        /// What happened.
        event: JobEvent,
    },
    /// Of balances, bonds, offers and gateways.
    Ledger(LedgerEvent),
    /// Changes nothing; says why a part of a call was passed over.
    Notice(Notice),
}

/// What happened to balances, bonds, offers and gateways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LedgerEvent {
    /// E-1.
    Deposited {
        /// Whose balance.
        account: Address,
        /// Of which token.
        token: Address,
        /// How much.
        amount: TokenAmount,
        /// The caller's intent, or zero.
        intent: Hash32,
    },
    /// E-1.
    Withdrawn {
        /// Whose balance.
        account: Address,
        /// Of which token.
        token: Address,
        /// To where.
        to: Address,
        /// How much.
        amount: TokenAmount,
        /// The caller's intent, or zero.
        intent: Hash32,
    },
    /// E-2.
    BondPosted {
        /// Whose bond.
        provider: Address,
        /// Of which token.
        token: Address,
        /// How much.
        amount: TokenAmount,
        /// The caller's intent, or zero.
        intent: Hash32,
    },
    /// E-3.
    UnbondRequested {
        /// Whose bond.
        provider: Address,
        /// Of which token.
        token: Address,
        /// All that is leaving now.
        amount: TokenAmount,
        /// When it can be taken.
        ready_at: UnixSeconds,
    },
    /// E-4.
    Unbonded {
        /// Whose bond.
        provider: Address,
        /// Of which token.
        token: Address,
        /// How much.
        amount: TokenAmount,
    },
    /// E-5.
    OffersCancelled {
        /// Whose offers.
        provider: Address,
        /// Of which series.
        series: u32,
        /// Offers below are void.
        min_nonce: Nonce,
    },
}

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobEvent {
    /// E-10.
    Opened {
        /// Who pays.
        buyer: Address,
        /// In which token.
        token: Address,
        /// The buyer's nonce.
        nonce: JobNonce,
        /// What it put in.
        escrow: TokenAmount,
        /// I-2.
        terms_hash: Hash32,
        /// The terms, whole.
        terms: Box<Terms>,
    },
    /// E-11.
    ToppedUp {
        /// Whose balance.
        payer: Address,
        /// How much.
        amount: TokenAmount,
        /// The caller's intent, or zero.
        intent: Hash32,
    },
    /// E-12: `provider` has `seat` in each of `groups` groups from `first_group` on.
    SeatsFilled {
        /// Whose seat.
        provider: Address,
        /// By which offer.
        offer_hash: OfferHash,
        /// How it came in.
        kind: SeatKind,
        /// In which round.
        round: u8,
        /// Which seat.
        seat: SeatIndex,
        /// The first group.
        first_group: GroupIndex,
        /// How many groups.
        groups: u32,
        /// What a unit costs.
        price_per_unit: TokenAmount,
        /// The offer's series.
        series: u32,
        /// The offer's minimum charge.
        charge_bps: Bps,
        /// The job's gateways that the offer names too: bit `1 << i` for `terms.gateways[i]`.
        gateways: u8,
    },
    /// E-13.
    GroupsSealed {
        /// The first group.
        first_group: GroupIndex,
        /// How many groups.
        groups: u32,
        /// Their commit deadline.
        commit_by: UnixSeconds,
    },
    /// E-14.
    CancelNoticed {
        /// Seats may commit until then, or until their own deadline if that is earlier.
        grace_until: UnixSeconds,
    },
    /// E-15.
    Ended {
        /// What went back to the buyer's balance.
        refunded: TokenAmount,
    },
    /// E-20.
    SeatCommitted {
        /// Whose seat.
        provider: Address,
        /// In which group.
        group: GroupIndex,
        /// In which round.
        round: u8,
        /// Which seat.
        seat: SeatIndex,
        /// I-8.
        commitment: Hash32,
    },
    /// E-20.
    SeatAbstained {
        /// Whose seat.
        provider: Address,
        /// In which group.
        group: GroupIndex,
        /// In which round.
        round: u8,
        /// Which seat.
        seat: SeatIndex,
        /// Why.
        reason: AbstainReason,
    },
    /// E-21.
    RevealStarted {
        /// In which group.
        group: GroupIndex,
        /// In which round.
        round: u8,
        /// The reveal deadline.
        reveal_by: UnixSeconds,
    },
    /// E-22.
    SeatRevealed {
        /// Whose seat.
        provider: Address,
        /// In which group.
        group: GroupIndex,
        /// In which round.
        round: u8,
        /// Which seat.
        seat: SeatIndex,
        /// The result root.
        root_a: Hash32,
        /// I-7.
        hash_b: Hash32,
        /// The receipt; `None` where the event's gateway is zero.
        stored: Option<StoredAt>,
    },
    /// E-22.
    ReceiptAttached {
        /// Whose seat.
        provider: Address,
        /// In which group.
        group: GroupIndex,
        /// In which round.
        round: u8,
        /// Which seat.
        seat: SeatIndex,
        /// The receipt.
        stored: StoredAt,
    },
    /// E-30.
    GroupJudged {
        /// Which group.
        group: GroupIndex,
        /// The round that was judged.
        round: u8,
        /// The group's state after it.
        state: GroupStatus,
        /// The agreed root, or zero.
        root: Hash32,
        /// How many seats agreed.
        agreed: u8,
        /// The seats' states after it.
        seat_states: PackedSeatStates,
        /// When it can be settled.
        settle_at: UnixSeconds,
    },
    /// E-31.
    SeatSettled {
        /// Whose seat.
        provider: Address,
        /// In which group.
        group: GroupIndex,
        /// Which seat.
        seat: SeatIndex,
        /// Its last state.
        state: SeatStatus,
        /// What its provider got, a charge kept included.
        paid: TokenAmount,
        /// The buyer's money that went to the sink as the seat's charge.
        charge_to_sink: TokenAmount,
        /// What the bond lost.
        burned: TokenAmount,
        /// What of the bond is free again.
        bond_released: TokenAmount,
    },
    /// E-32.
    GroupEnded {
        /// Which group.
        group: GroupIndex,
        /// Its last state.
        state: GroupStatus,
        /// What its seats got in all.
        paid: TokenAmount,
        /// What of `to_sink` is fee.
        fee: TokenAmount,
        /// Everything that went to the sink with this group.
        to_sink: TokenAmount,
        /// What went back to the escrow.
        released: TokenAmount,
    },
}

/// Why a part of a call was passed over (E-40).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// A fill, or one group of it.
    FillSkipped {
        /// Of which job.
        job: JobId,
        /// Whose offer.
        provider: Address,
        /// Which offer.
        offer_hash: OfferHash,
        /// Which group; `None` for the whole request (`0xffffffff` on chain).
        group: Option<GroupIndex>,
        /// Why.
        reason: FillRefusal,
    },
    /// An entry of a message.
    EntrySkipped {
        /// Of which job.
        job: JobId,
        /// Whose message.
        provider: Address,
        /// Which group.
        group: GroupIndex,
        /// Which round.
        round: u8,
        /// Which seat.
        seat: SeatIndex,
        /// Why.
        reason: EntryRefusal,
    },
    /// A call of a batch.
    StepFailed {
        /// Its place in the batch.
        index: u64,
        /// Which function.
        selector: [u8; 4],
        /// The start of what it reverted with.
        reason: Vec<u8>,
    },
}
