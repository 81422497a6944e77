//! What is to be done next for a job that is on chain, from how things stand alone.
//!
//! Pure: time is the chain's, given as an argument. Every step may be taken twice; every step that is due is in the
//! plan, so nothing is remembered between passes. What gives something away (the job's key, the end) is decided on
//! final blocks; what anyone may repeat, on the newest.

use std::collections::{BTreeMap, BTreeSet};

use tradewind_gateway_api::message::SignedMessage;
use tradewind_market::{
    Address, GroupIndex, Hash32, UnitSet, UnixSeconds,
    index::{GroupRecord, Job, SeatRecord},
    matching::Want,
    message::SeatRef,
    state::{GroupState, JobState, SeatState},
    terms::MAX_ENTRIES_PER_CALL,
};

/// What the job's author wants of it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Desire {
    /// That it runs.
    Run,
    /// That nothing new is started.
    Cancel,
}

/// How things stand.
#[derive(Debug)]
pub(crate) struct Situation<'a> {
    /// What is wanted.
    pub(crate) desire: Desire,
    /// When the job's own deadline is over.
    pub(crate) not_after: Option<UnixSeconds>,
    /// The job as of the newest block.
    pub(crate) head: Job<'a>,
    /// The job as of the final block, if it is there.
    pub(crate) finalized: Option<Job<'a>>,
    /// Providers that the published bundle serves; `None` if that is not known.
    pub(crate) bundled: Option<&'a BTreeSet<Address>>,
    /// Messages that wait to be carried to the chain.
    pub(crate) messages: &'a BTreeMap<Hash32, SignedMessage>,
    /// Units whose results are where they are wanted; `None` where nobody wants them any more.
    pub(crate) delivered: Option<&'a UnitSet>,
    /// The chain's time.
    pub(crate) now: UnixSeconds,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
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
    /// Carry these messages to the chain.
    Relay(Vec<Hash32>),
    /// Have these groups judged.
    Judge(Vec<GroupIndex>),
    /// Have these groups settled.
    Settle(Vec<GroupIndex>),
    /// End these groups, which were never sealed.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CancelCause {
    /// The author wants it.
    Asked,
    /// Its time is over.
    Deadline,
    /// The first group was not agreed on.
    Canary,
}

/// How the job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Every group is agreed on and paid.
    Complete,
    /// Some groups are not.
    Incomplete {
        /// How many.
        groups: u32,
    },
}

/// Everything that is due now.
pub(crate) fn plan(situation: &Situation<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    steps.extend(cancellation(situation).map(Step::Cancel));
    steps.extend(bundle(situation));
    steps.extend(relay(situation));
    if steps.iter().all(|step| !matches!(step, Step::Cancel(_))) {
        steps.extend(seals(situation));
        steps.extend(seek(situation));
    }
    steps.extend(pokes(situation));
    steps.extend(fetches(situation));
    steps.extend(finish(situation));
    steps
}

fn cancellation(situation: &Situation<'_>) -> Option<CancelCause> {
    let Situation {
        desire,
        not_after,
        head,
        now,
        ..
    } = situation;
    let undecided = head.groups().any(|(_, group)| {
        matches!(
            group.state,
            GroupState::Filling | GroupState::Running { .. } | GroupState::Revealing { .. }
        )
    });
    if head.state != JobState::Open || !undecided {
        return None;
    }
    let canary_failed = head.terms.redundancy.canary
        && head.group(GroupIndex::ZERO).is_some_and(|group| {
            matches!(
                group.state,
                GroupState::Contested { .. }
                    | GroupState::Refunding
                    | GroupState::Inconclusive
                    | GroupState::Refunded
            )
        });
    match desire {
        Desire::Cancel => Some(CancelCause::Asked),
        Desire::Run if not_after.is_some_and(|end| *now > end) => Some(CancelCause::Deadline),
        Desire::Run if canary_failed => Some(CancelCause::Canary),
        Desire::Run => None,
    }
}

/// Keys go only to providers whose seats are final.
fn bundle(situation: &Situation<'_>) -> Option<Step> {
    let seated: BTreeSet<Address> = situation
        .finalized?
        .groups()
        .filter(|(_, group)| !group.state.is_ended())
        .flat_map(|(_, group)| group.seats.iter().map(|seat| seat.provider))
        .collect();
    let missing = situation.bundled.is_none_or(|bundled| !seated.is_subset(bundled));
    (!seated.is_empty() && missing).then_some(Step::PublishBundle(seated))
}

fn relay(situation: &Situation<'_>) -> Option<Step> {
    let useful: Vec<Hash32> = situation
        .messages
        .iter()
        .filter(|(_, message)| message.deadline() >= situation.now && is_useful(situation, message))
        .map(|(id, _)| *id)
        .collect();
    (!useful.is_empty()).then_some(Step::Relay(useful))
}

/// Whether any entry would change something now.
fn is_useful(situation: &Situation<'_>, message: &SignedMessage) -> bool {
    let seat = |at: SeatRef| {
        let group = situation.head.group(at.group)?;
        let seat = group.seat(at.seat)?;
        (seat.provider == message.provider() && seat.round == at.round).then_some((group, seat))
    };
    let awaits_word =
        |at: SeatRef| seat(at).is_some_and(|(group, seat)| awaits_word(situation, at, group, seat));
    match message {
        SignedMessage::Commit(signed) => signed
            .statement
            .entries
            .iter()
            .any(|entry| awaits_word(entry.seat)),
        SignedMessage::Abstain(signed) => signed
            .statement
            .entries
            .iter()
            .any(|entry| awaits_word(entry.seat)),
        SignedMessage::Reveal(signed) => signed.statement.entries.iter().any(|entry| {
            let with_receipt = !entry.receipt.0.is_empty();
            seat(entry.seat)
                .is_some_and(|(group, seat)| awaits_opening(situation, entry.seat, group, seat, with_receipt))
        }),
    }
}

fn awaits_word(situation: &Situation<'_>, at: SeatRef, group: &GroupRecord, seat: &SeatRecord) -> bool {
    matches!(group.state, GroupState::Running { .. })
        && matches!(seat.state, SeatState::Awarded)
        && situation
            .head
            .commit_deadline(at.group)
            .is_some_and(|deadline| situation.now <= deadline)
}

fn awaits_opening(
    situation: &Situation<'_>,
    at: SeatRef,
    group: &GroupRecord,
    seat: &SeatRecord,
    with_receipt: bool,
) -> bool {
    let revealing = match group.state {
        GroupState::Revealing { reveal_by } => situation.now <= reveal_by,
        GroupState::Running { .. } => situation
            .head
            .commit_deadline(at.group)
            .is_some_and(|deadline| situation.now > deadline),
        _ => false,
    };
    let missing = match &seat.state {
        SeatState::Committed { .. } => true,
        SeatState::Opened { opening } => opening.stored.is_none() && with_receipt,
        _ => false,
    };
    revealing && missing
}

/// Whether the market would seal the group, were it full.
fn may_be_sealed(head: &Job<'_>, group: GroupIndex) -> bool {
    let agreed = |group: &GroupRecord| group.state.agreed_root().is_some();
    !head.terms.redundancy.canary
        || group == GroupIndex::ZERO
        || head.group(GroupIndex::ZERO).is_some_and(agreed)
}

fn seals(situation: &Situation<'_>) -> Vec<Step> {
    let head = &situation.head;
    if !head.takes_seals(situation.now) {
        return Vec::new();
    }
    let picked = usize::from(head.terms.redundancy.picked);
    let full = head.groups().filter(|(index, group)| {
        group.state == GroupState::Filling && group.seats.len() >= picked && may_be_sealed(head, *index)
    });
    runs(full.map(|(index, _)| index))
        .into_iter()
        .map(|(first, groups)| Step::Seal { first, groups })
        .collect()
}

fn seek(situation: &Situation<'_>) -> Option<Step> {
    let head = &situation.head;
    if !head.takes_seals(situation.now) {
        return None;
    }
    let picked = usize::from(head.terms.redundancy.picked);
    let wants: Vec<Want> = head
        .groups()
        .filter(|(_, group)| group.state == GroupState::Filling && group.seats.len() < picked)
        .map(|(group, record)| Want {
            group,
            seats: u8::try_from(picked.saturating_sub(record.seats.len())).unwrap_or(u8::MAX),
            seated: record.seats.iter().map(|seat| seat.provider).collect(),
        })
        .collect();
    (!wants.is_empty()).then_some(Step::Seek(wants))
}

/// Calls that anyone may make, and that move money to whom it belongs.
fn pokes(situation: &Situation<'_>) -> Vec<Step> {
    let (head, now) = (&situation.head, situation.now);
    let of = |test: &dyn Fn(GroupIndex, &GroupRecord) -> bool| -> Vec<GroupIndex> {
        head.groups()
            .filter(|(index, group)| test(*index, group))
            .map(|(index, _)| index)
            .collect()
    };
    let takes_no_seals = head.state != JobState::Open || now > head.terms.windows.open_until;
    let judge = of(&|index, group| is_ready_to_judge(head, index, group, now));
    let settle = of(&|_, group| match group.state {
        GroupState::Agreed { settle_at, .. } | GroupState::Contested { settle_at } => now >= settle_at,
        _ => false,
    });
    let close = of(&|_, group| takes_no_seals && group.state == GroupState::Filling);
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

/// All that can come has come, receipts too; or the time for it is over.
fn is_ready_to_judge(head: &Job<'_>, index: GroupIndex, group: &GroupRecord, now: UnixSeconds) -> bool {
    let committed = |seat: &SeatRecord| matches!(seat.state, SeatState::Committed { .. });
    let without_receipt = |seat: &SeatRecord| match &seat.state {
        SeatState::Opened { opening } => opening.stored.is_none(),
        _ => false,
    };
    match group.state {
        GroupState::Revealing { reveal_by } => {
            now > reveal_by
                || !group
                    .seats
                    .iter()
                    .any(|seat| committed(seat) || without_receipt(seat))
        }
        GroupState::Running { .. } => head.commit_deadline(index).is_some_and(|deadline| {
            let reveal_by = deadline.saturating_add(head.terms.windows.reveal_window);
            now > deadline && (now > reveal_by || !group.seats.iter().any(committed))
        }),
        _ => false,
    }
}

fn fetches(situation: &Situation<'_>) -> Vec<Step> {
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

fn finish(situation: &Situation<'_>) -> Option<Step> {
    let finalized = situation.finalized?;
    if !matches!(finalized.state, JobState::Ended { .. }) || !fetches(situation).is_empty() {
        return None;
    }
    let credited = finalized
        .groups()
        .filter(|(_, group)| group.state.agreed_root().is_some())
        .count();
    let lost = finalized
        .record
        .groups
        .saturating_sub(u32::try_from(credited).unwrap_or(u32::MAX));
    Some(Step::Finish(if lost == 0 {
        End::Complete
    } else {
        End::Incomplete { groups: lost }
    }))
}

/// Consecutive indices joined, as first and count.
fn runs(indices: impl Iterator<Item = GroupIndex>) -> Vec<(GroupIndex, u32)> {
    let mut runs: Vec<(GroupIndex, u32)> = Vec::new();
    for index in indices {
        match runs.last_mut() {
            Some((first, count)) if first.get().saturating_add(*count) == index.get() => *count += 1,
            Some(_) | None => runs.push((index, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests;
