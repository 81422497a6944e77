//! What a buyer's operator does next for a job that is on chain, from how things stand alone.
//!
//! Every step that is due is in the plan and may be taken twice, so nothing is remembered between passes. What
//! gives something away (the job's key, the end) is decided on the final block; what anyone may repeat, on the
//! newest.

use std::collections::{BTreeMap, BTreeSet};

use super::{closeable_from, judgeable_from, settleable_from};
use crate::ids::{Address, Hash32};
use crate::index::{GroupRecord, Job, SeatRecord};
use crate::intervals::UnitSet;
use crate::matching::Want;
use crate::message::SeatRef;
use crate::quantity::{GroupIndex, UnixSeconds};
use crate::state::{GroupState, JobState, SeatState};
use crate::terms::MAX_ENTRIES_PER_CALL;

/// Messages that are carried in one transaction at most, so that its gas stays bounded.
const RELAY_MAX: usize = 64;

/// What the job's author wants of it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Desire {
    /// That it runs.
    Run,
    /// That nothing new is started; what runs goes on.
    Suspend,
    /// That it ends.
    Cancel,
}

/// What a message says of one seat, as far as carrying it depends on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Saying {
    /// The seat commits or abstains.
    Speaks,
    /// The seat opens its commitment.
    Reveals {
        /// Whether with a gateway's receipt.
        with_receipt: bool,
    },
}

/// A signed message that waits to be carried to the chain.
pub trait Letter {
    /// Who signed it.
    fn provider(&self) -> Address;
    /// It is void after this.
    fn deadline(&self) -> UnixSeconds;
    /// What it says, seat by seat.
    fn sayings(&self) -> Vec<(SeatRef, Saying)>;
}

/// How things stand with a job.
#[derive(Debug)]
pub struct Situation<'a, L> {
    /// What is wanted.
    pub desire: Desire,
    /// When the job's own deadline is over.
    pub not_after: Option<UnixSeconds>,
    /// The job at the newest block.
    pub head: Job<'a>,
    /// The job at the final block, if it is there.
    pub finalized: Option<Job<'a>>,
    /// Providers that the published bundle serves; `None` if that is not known.
    pub bundled: Option<&'a BTreeSet<Address>>,
    /// Messages that wait to be carried to the chain, by their struct hashes.
    pub messages: &'a BTreeMap<Hash32, L>,
    /// Units whose results are where they are wanted; `None` where nobody wants them any more.
    pub delivered: Option<&'a UnitSet>,
    /// The chain's time.
    pub now: UnixSeconds,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Look for seats that groups lack, and take them.
    Seek(Vec<Want>),
    /// Seal consecutive groups that have their seats.
    Seal {
        /// The first.
        first: GroupIndex,
        /// How many.
        groups: u32,
    },
    /// Publish the bundle for all these providers.
    PublishBundle(BTreeSet<Address>),
    /// Carry these messages to the chain, in one batch.
    Relay(Vec<Hash32>),
    /// Have these groups judged; as many as one call takes.
    Judge(Vec<GroupIndex>),
    /// Have these groups settled; as many as one call takes.
    Settle(Vec<GroupIndex>),
    /// End these groups, which were never sealed; as many as one call takes.
    Close(Vec<GroupIndex>),
    /// Give notice.
    Cancel(CancelCause),
    /// Fetch the results of an agreed group, from these providers in turn.
    Fetch {
        /// The group.
        group: GroupIndex,
        /// Who showed the agreed root and has a receipt.
        providers: Vec<Address>,
    },
    /// No money is in it any more, finally, and all results are delivered.
    Finish(End),
}

/// Why notice is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CancelCause {
    /// The author wants it.
    Asked,
    /// Its time is over.
    Deadline,
    /// The first group was not agreed on.
    Canary,
}

/// How the job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// Every group is agreed on and paid.
    Complete,
    /// Some groups are not.
    Incomplete {
        /// How many.
        groups: u32,
    },
}

/// Everything that is due now.
pub fn consumer_plan(situation: &Situation<'_, impl Letter>) -> Vec<Step> {
    let cancellation = cancellation(situation);
    let mut steps: Vec<Step> = cancellation.map(Step::Cancel).into_iter().collect();
    steps.extend(bundle(situation));
    steps.extend(relay(situation));
    if cancellation.is_none() && situation.desire == Desire::Run {
        steps.extend(seals(situation));
        steps.extend(seek(situation));
    }
    steps.extend(pokes(situation));
    steps.extend(fetches(situation));
    steps.extend(finish(situation));
    steps
}

/// Whether seats may still speak or open, so that notice of cancellation changes something.
const fn is_undecided(state: &GroupState) -> bool {
    match state {
        GroupState::Filling | GroupState::Running { .. } | GroupState::Revealing { .. } => true,
        GroupState::Agreed { .. }
        | GroupState::Contested { .. }
        | GroupState::Refunding
        | GroupState::Credited { .. }
        | GroupState::Inconclusive
        | GroupState::Refunded => false,
    }
}

/// Whether the group came to nothing.
const fn has_failed(state: &GroupState) -> bool {
    match state {
        GroupState::Contested { .. }
        | GroupState::Refunding
        | GroupState::Inconclusive
        | GroupState::Refunded => true,
        GroupState::Filling
        | GroupState::Running { .. }
        | GroupState::Revealing { .. }
        | GroupState::Agreed { .. }
        | GroupState::Credited { .. } => false,
    }
}

fn cancellation(situation: &Situation<'_, impl Letter>) -> Option<CancelCause> {
    let Situation {
        desire,
        not_after,
        head,
        now,
        ..
    } = situation;
    if head.state != JobState::Open || !head.groups().any(|(_, group)| is_undecided(&group.state)) {
        return None;
    }
    let canary_failed = head.terms.redundancy.canary
        && head
            .group(GroupIndex::ZERO)
            .is_some_and(|group| has_failed(&group.state));
    match desire {
        Desire::Cancel => Some(CancelCause::Asked),
        Desire::Run | Desire::Suspend if not_after.is_some_and(|end| *now > end) => {
            Some(CancelCause::Deadline)
        }
        Desire::Run | Desire::Suspend if canary_failed => Some(CancelCause::Canary),
        Desire::Run | Desire::Suspend => None,
    }
}

/// Keys go only to providers whose seats are final.
fn bundle(situation: &Situation<'_, impl Letter>) -> Option<Step> {
    let seated: BTreeSet<Address> = situation
        .finalized?
        .groups()
        .filter(|(_, group)| !group.state.is_ended())
        .flat_map(|(_, group)| group.seats.iter().map(|seat| seat.provider))
        .collect();
    let missing = situation.bundled.is_none_or(|bundled| !seated.is_subset(bundled));
    (!seated.is_empty() && missing).then_some(Step::PublishBundle(seated))
}

fn relay(situation: &Situation<'_, impl Letter>) -> Option<Step> {
    let useful: Vec<Hash32> = situation
        .messages
        .iter()
        .filter(|(_, letter)| letter.deadline() >= situation.now)
        .filter(|(_, letter)| {
            letter
                .sayings()
                .into_iter()
                .any(|saying| changes(situation, letter.provider(), saying))
        })
        .map(|(id, _)| *id)
        .take(RELAY_MAX)
        .collect();
    (!useful.is_empty()).then_some(Step::Relay(useful))
}

/// Whether the market would take the entry now, and it is not there yet.
fn changes(
    situation: &Situation<'_, impl Letter>,
    provider: Address,
    (at, saying): (SeatRef, Saying),
) -> bool {
    let Some(group) = situation.head.group(at.group) else {
        return false;
    };
    let mine = |seat: &&SeatRecord| seat.provider == provider && seat.round == at.round;
    let Some(seat) = group.seat(at.seat).filter(mine) else {
        return false;
    };
    let commits_end = situation.head.commit_deadline(at.group);
    match saying {
        Saying::Speaks => {
            seat.state == SeatState::Awarded && commits_end.is_some_and(|deadline| situation.now <= deadline)
        }
        Saying::Reveals { with_receipt } => {
            let in_time = match group.state {
                GroupState::Revealing { reveal_by } => situation.now <= reveal_by,
                GroupState::Running { .. } => commits_end.is_some_and(|deadline| situation.now > deadline),
                GroupState::Filling
                | GroupState::Agreed { .. }
                | GroupState::Contested { .. }
                | GroupState::Refunding
                | GroupState::Credited { .. }
                | GroupState::Inconclusive
                | GroupState::Refunded => false,
            };
            let adds = match &seat.state {
                SeatState::Committed { .. } => true,
                SeatState::Opened { opening } => opening.stored.is_none() && with_receipt,
                SeatState::Awarded
                | SeatState::Abstained { .. }
                | SeatState::Judged { .. }
                | SeatState::Settled { .. } => false,
            };
            in_time && adds
        }
    }
}

fn seals(situation: &Situation<'_, impl Letter>) -> Vec<Step> {
    let head = &situation.head;
    if !head.takes_seals(situation.now) {
        return Vec::new();
    }
    let picked = usize::from(head.terms.redundancy.picked);
    let proven = !head.terms.redundancy.canary
        || head
            .group(GroupIndex::ZERO)
            .is_some_and(|first| first.state.agreed_root().is_some());
    let ready = head.groups().filter(|(index, group)| {
        group.state == GroupState::Filling
            && group.seats.len() >= picked
            && (proven || *index == GroupIndex::ZERO)
    });
    runs(ready.map(|(index, _)| index))
        .into_iter()
        .map(|(first, groups)| Step::Seal { first, groups })
        .collect()
}

fn seek(situation: &Situation<'_, impl Letter>) -> Option<Step> {
    let head = &situation.head;
    if !head.takes_seals(situation.now) {
        return None;
    }
    let picked = usize::from(head.terms.redundancy.picked);
    let wants: Vec<Want> = head
        .groups()
        .filter(|(_, group)| group.state == GroupState::Filling)
        .filter_map(|(group, record)| {
            let lacking = picked
                .checked_sub(record.seats.len())
                .filter(|lacking| *lacking > 0)?;
            let seated = record.seats.iter().map(|seat| seat.provider).collect();
            Some(Want {
                group,
                seats: u8::try_from(lacking).ok()?,
                seated,
            })
        })
        .collect();
    (!wants.is_empty()).then_some(Step::Seek(wants))
}

/// Calls that anyone may make, and that move money to whom it belongs.
fn pokes(situation: &Situation<'_, impl Letter>) -> Vec<Step> {
    let (head, now) = (&situation.head, situation.now);
    let due = |from: &dyn Fn(GroupIndex, &GroupRecord) -> Option<UnixSeconds>| -> Vec<GroupIndex> {
        let is_due = |index, group: &GroupRecord| from(index, group).is_some_and(|from| now >= from);
        head.groups()
            .filter(|(index, group)| is_due(*index, group))
            .map(|(index, _)| index)
            .collect()
    };
    let judge = due(&|index, group| judgeable_from(head, index, group));
    let settle = due(&|_, group| settleable_from(group));
    let close = due(&|_, group| closeable_from(head, group));
    let pieces = |groups: Vec<GroupIndex>, step: fn(Vec<GroupIndex>) -> Step| -> Vec<Step> {
        groups
            .chunks(MAX_ENTRIES_PER_CALL)
            .map(|piece| step(piece.to_vec()))
            .collect()
    };
    [
        pieces(judge, Step::Judge),
        pieces(settle, Step::Settle),
        pieces(close, Step::Close),
    ]
    .concat()
}

fn fetches(situation: &Situation<'_, impl Letter>) -> Vec<Step> {
    let Some(delivered) = situation.delivered else {
        return Vec::new();
    };
    let head = &situation.head;
    let missing = |index: GroupIndex| {
        let units = head.terms.shape.group_units(index);
        units.is_some_and(|units| !units.to_set().difference(delivered).is_empty())
    };
    head.groups()
        .filter_map(|(index, group)| Some((index, group, group.state.agreed_root()?)))
        .filter(|(index, ..)| missing(*index))
        .map(|(group, record, root)| Step::Fetch {
            group,
            providers: holders(record, root),
        })
        .collect()
}

/// Who showed the root and has a receipt for the bytes behind it.
fn holders(group: &GroupRecord, root: Hash32) -> Vec<Address> {
    let holds = |seat: &&SeatRecord| {
        seat.state
            .opening()
            .is_some_and(|opening| opening.root_a == root && opening.stored.is_some())
    };
    group
        .seats
        .iter()
        .filter(holds)
        .map(|seat| seat.provider)
        .collect()
}

fn finish(situation: &Situation<'_, impl Letter>) -> Option<Step> {
    let finalized = situation.finalized?;
    let over = match finalized.state {
        JobState::Ended { .. } => true,
        JobState::Open | JobState::Cancelling { .. } => false,
    };
    if !over || !fetches(situation).is_empty() {
        return None;
    }
    let lost = finalized
        .groups()
        .filter(|(_, group)| group.state.agreed_root().is_none())
        .count();
    let end = match u32::try_from(lost) {
        Ok(0) => End::Complete,
        Ok(groups) => End::Incomplete { groups },
        Err(_) => End::Incomplete { groups: u32::MAX },
    };
    Some(Step::Finish(end))
}

/// Consecutive indices joined, as first and count.
fn runs(indices: impl Iterator<Item = GroupIndex>) -> Vec<(GroupIndex, u32)> {
    let mut runs: Vec<(GroupIndex, u32)> = Vec::new();
    for index in indices {
        match runs.last_mut() {
            Some((first, count)) if first.get().saturating_add(*count) == index.get() => {
                *count = count.saturating_add(1);
            }
            Some(_) | None => runs.push((index, 1)),
        }
    }
    runs
}

#[cfg(test)]
#[path = "consumer_tests.rs"]
mod tests;
