//! What the index keeps of a job, its groups and seats, of bonds and of offer series.

use std::sync::Arc;

use super::fold::Anomaly;
use crate::amount::{Bps, TokenAmount};
use crate::derivation;
use crate::event::SeatKind;
use crate::ids::{Address, Hash32, JobId, JobNonce, OfferHash, RoundId};
use crate::message::AbstainReason;
use crate::money::SeatMoney;
use crate::quantity::{BlockNumber, GroupIndex, Nonce, SeatIndex, Slots, UnixSeconds};
use crate::state::{GroupState, JobState, SeatState};
use crate::terms::Terms;

/// A job as its events tell it, without its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// Who pays.
    pub buyer: Address,
    /// The buyer's nonce.
    pub nonce: JobNonce,
    /// The hash of its terms.
    pub terms_hash: Hash32,
    /// Its terms.
    pub terms: Arc<Terms>,
    /// What it is at.
    pub state: JobState,
    /// The number of its newest event.
    pub sequence: u32,
    /// The block that opened it.
    pub opened_in: BlockNumber,
    /// Money in it.
    pub escrow: TokenAmount,
    /// The part of it that is promised to seats and reserves.
    pub allocated: TokenAmount,
    /// Everything that was put in, in all.
    pub funded: TokenAmount,
    /// What its seats got so far.
    pub paid: TokenAmount,
    /// What of the buyer's money went to the sink so far: fees, charges, burned shares.
    pub to_sink: TokenAmount,
    /// What of that is fee.
    pub fees: TokenAmount,
    /// How many groups it has.
    pub groups: u32,
    /// How many of them have ended.
    pub groups_ended: u32,
}

/// A group of a job. A group that no event has named is `Filling` without seats.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupRecord {
    /// What it is at.
    pub state: GroupState,
    /// Its seats, seat 0 first.
    pub seats: Vec<SeatRecord>,
}

/// A seat of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatRecord {
    /// Whose.
    pub provider: Address,
    /// By which offer.
    pub offer_hash: OfferHash,
    /// How it came in.
    pub kind: SeatKind,
    /// In which round.
    pub round: u8,
    /// The offer's series.
    pub series: u32,
    /// What a unit costs.
    pub price_per_unit: TokenAmount,
    /// The offer's minimum charge.
    pub charge_bps: Bps,
    /// Bit `1 << i` for each of the job's gateways that the offer names too.
    pub gateways: u8,
    /// What the award fixed.
    pub money: SeatMoney,
    /// What it is at.
    pub state: SeatState,
    /// Why it abstained, if it did, also after it was judged.
    pub abstained: Option<AbstainReason>,
}

/// A provider's bond in one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bond {
    /// All of it.
    pub total: TokenAmount,
    /// What awards have locked.
    pub locked: TokenAmount,
    /// What was asked back and can no longer be locked.
    pub leaving: TokenAmount,
    /// When that can be taken.
    pub ready_at: UnixSeconds,
}

impl Bond {
    /// What a new award can lock.
    pub fn free(&self) -> TokenAmount {
        let bound = self.locked.checked_add(self.leaving);
        bound
            .and_then(|bound| self.total.checked_sub(bound))
            .unwrap_or(TokenAmount::ZERO)
    }
}

/// A series of offers that share their slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Series {
    /// Slots awarded now.
    pub used: Slots,
    /// Offers below are void, as far as cancellations tell; a fill raises the floor without an event.
    pub min_nonce: Nonce,
}

/// What is kept of a job: the job, or why its events could not be folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEntry {
    /// Folded up to its newest event.
    Sound(JobRecord),
    /// An event did not fit. Nothing is known of the job until the index is built anew.
    Quarantined(Anomaly),
}

/// A job with its groups, borrowed from an index.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The job itself.
    pub record: &'a JobRecord,
    pub(super) index: &'a super::MarketIndex,
}

impl std::ops::Deref for Job<'_> {
    type Target = JobRecord;
    fn deref(&self) -> &JobRecord {
        self.record
    }
}

static UNTOUCHED: GroupRecord = GroupRecord {
    state: GroupState::Filling,
    seats: Vec::new(),
};

impl<'a> Job<'a> {
    /// A group; `None` if the job has none of that number.
    pub fn group(&self, group: GroupIndex) -> Option<&'a GroupRecord> {
        if group.get() >= self.record.groups {
            return None;
        }
        Some(
            self.index
                .tables
                .groups
                .get(&(self.record.id, group))
                .unwrap_or(&UNTOUCHED),
        )
    }

    /// All groups in ascending order.
    pub fn groups(&self) -> impl Iterator<Item = (GroupIndex, &'a GroupRecord)> + use<'a> {
        let job = *self;
        (0..self.record.groups)
            .map(GroupIndex::new)
            .filter_map(move |group| Some((group, job.group(group)?)))
    }

    /// The seats of one provider: group, seat number, seat and the group's record.
    pub fn seats_of(
        &self,
        provider: Address,
    ) -> impl Iterator<Item = (GroupIndex, SeatIndex, &'a SeatRecord, &'a GroupRecord)> + use<'a> {
        self.groups().filter_map(move |(group, record)| {
            let (seat, found) = record.seat_of(provider)?;
            Some((group, seat, found, record))
        })
    }

    /// The round of a group's first seats. `None` while seats may still come (I-6), or if there is no such group.
    pub fn round_id(&self, group: GroupIndex) -> Option<RoundId> {
        let record = self.group(group)?;
        if record.state == GroupState::Filling {
            return None;
        }
        let units = derivation::units_hash(self.record.terms.shape.group_units(group)?);
        let seats = derivation::seats_hash(record.seats.iter().map(|seat| seat.provider));
        Some(derivation::round_id(self.record.id, group, 0, seats, units))
    }

    /// The last second in which a seat of a running group may commit or abstain (D-1); `None` in other states.
    pub fn commit_deadline(&self, group: GroupIndex) -> Option<UnixSeconds> {
        let GroupState::Running { commit_by } = self.group(group)?.state else {
            return None;
        };
        match self.record.state {
            JobState::Open | JobState::Ended { .. } => Some(commit_by),
            JobState::Cancelling { grace_until } => Some(commit_by.min(grace_until)),
        }
    }

    /// Whether the market still takes fills and seals at `now`.
    pub fn takes_seals(&self, now: UnixSeconds) -> bool {
        self.record.state == JobState::Open && now <= self.record.terms.windows.open_until
    }

    /// Fills that the market passed over, by offer, each with its newest reason.
    pub fn refused_fills(&self) -> impl Iterator<Item = (OfferHash, crate::event::FillRefusal)> + use<'a> {
        let id = self.record.id;
        let keys = (id, OfferHash::ZERO)..=(id, OfferHash::from_bytes([0xff; 32]));
        self.index
            .tables
            .refused_fills
            .range(keys)
            .map(|((_, offer), reason)| (*offer, *reason))
    }
}

impl GroupRecord {
    /// The seat of a provider; nobody has two in one group.
    pub fn seat_of(&self, provider: Address) -> Option<(SeatIndex, &SeatRecord)> {
        let place = self.seats.iter().position(|seat| seat.provider == provider)?;
        Some((SeatIndex::new(u8::try_from(place).ok()?), self.seats.get(place)?))
    }

    /// A seat by its number.
    pub fn seat(&self, seat: SeatIndex) -> Option<&SeatRecord> {
        self.seats.get(usize::from(seat.get()))
    }
}
