//! What a buyer's operator does next for one job, from the first upload to the last output.

use std::collections::BTreeSet;

use super::{Timing, closeable_from, judgeable_from, one_call, settleable_from};
use crate::amount::TokenAmount;
use crate::ids::{Address, Hash32};
use crate::index::{GroupRecord, Job};
use crate::intervals::{GroupSet, UnitSet};
use crate::matching::Matching;
use crate::message::SeatRef;
use crate::quantity::{GroupIndex, Knowledge, Seconds, UnixSeconds};
use crate::state::{GroupState, JobState, SeatState, SeatVerdict};

/// Messages that are carried in one transaction at most, so that its gas stays bounded.
const RELAY_MAX: usize = 64;

/// Why a job is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CancelCause {
    /// Its object was deleted.
    Deleted,
    /// Its deadline passed.
    DeadlinePassed,
    /// Its first group came to nothing, so the rest is not risked.
    CanaryFailed,
}

/// What the job's author wants now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Desire {
    /// That it runs.
    Run,
    /// That nothing new begins.
    Suspend,
    /// That it ends.
    Cancel(CancelCause),
}

/// A matching, and what it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// What was chosen.
    pub matching: Matching,
    /// When.
    pub made_at: UnixSeconds,
    /// The number of the job's newest event then; zero before it was opened.
    pub sequence: u32,
}

/// A signed message that waits at a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxMessage {
    /// Its struct hash.
    pub id: Hash32,
    /// Who signed it.
    pub provider: Address,
    /// It is void after this.
    pub deadline: UnixSeconds,
    /// What it says, seat by seat.
    pub entries: Vec<(SeatRef, Saying)>,
}

/// What a message says of one seat, as far as relaying depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Saying {
    /// It commits or abstains.
    Speaks,
    /// It opens its commitment.
    Reveals {
        /// Whether with a receipt.
        with_receipt: bool,
    },
}

/// Everything that is known of a job.
#[derive(Debug, Clone, Copy)]
pub struct JobView<'a> {
    /// What its author wants.
    pub desire: Desire,
    /// When it shall be over.
    pub not_after: Option<UnixSeconds>,
    /// Whether template and inputs are at the gateways.
    pub content: Knowledge<()>,
    /// Whether a transaction that opens it is on its way.
    pub opening: Knowledge<()>,
    /// The job at the newest block.
    pub chain: Knowledge<Job<'a>>,
    /// The job at the final block.
    pub final_chain: Knowledge<Job<'a>>,
    /// The newest matching, if there was one.
    pub placement: Option<&'a Placement>,
    /// Whether the namespace's budget has room for the placement.
    pub budget_has_room: Knowledge<bool>,
    /// Providers that the published bundle has an envelope for.
    pub bundle: Knowledge<&'a BTreeSet<Address>>,
    /// Messages at the gateways.
    pub mailbox: &'a [MailboxMessage],
    /// Units whose outputs are where the job wants them.
    pub fetched: &'a UnitSet,
    /// How many groups the job has or will have.
    pub groups: u32,
    /// Whether the first group goes ahead alone.
    pub canary: bool,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerStep {
    /// Put template and inputs to the gateways.
    Upload,
    /// Look at the offers again, for these groups.
    Match {
        /// Groups that lack seats.
        groups: GroupSet,
    },
    /// Open the job with the placement's fills, and seal these groups in the same transaction.
    Open {
        /// What to put in.
        escrow: TokenAmount,
        /// What to seal.
        seal: GroupSet,
    },
    /// Fill the placement's seats.
    Fill {
        /// What the escrow lacks for them.
        top_up: TokenAmount,
    },
    /// Let groups run.
    Seal {
        /// Which.
        groups: GroupSet,
    },
    /// Publish a bundle with an envelope for each of these providers and no other.
    PublishBundle {
        /// Providers with seats in sealed groups.
        providers: BTreeSet<Address>,
    },
    /// Carry messages to the chain, in one batch.
    Relay {
        /// Their struct hashes.
        messages: Vec<Hash32>,
    },
    /// Judge groups.
    Judge {
        /// Which.
        groups: Vec<GroupIndex>,
    },
    /// Settle groups.
    Settle {
        /// Which.
        groups: Vec<GroupIndex>,
    },
    /// End groups that were never sealed.
    CloseGroups {
        /// Which.
        groups: Vec<GroupIndex>,
    },
    /// Give notice.
    Cancel {
        /// Why.
        cause: CancelCause,
    },
    /// Fetch and check outputs of an agreed group.
    Fetch {
        /// Which group.
        group: GroupIndex,
        /// Which of its units are missing.
        units: UnitSet,
        /// Who has them, in the order in which to ask.
        providers: Vec<Address>,
    },
    /// Nothing is left to do.
    Finish {
        /// What it came to.
        outcome: JobOutcome,
    },
    /// Come back later.
    Wait {
        /// Why.
        reason: ConsumerWait,
        /// When at the latest, if it is known.
        until: Option<UnixSeconds>,
    },
}

/// What a job came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    /// All units are agreed, paid and fetched.
    Complete,
    /// It was never opened: no money moved.
    NeverOpened {
        /// Why.
        cause: CancelCause,
    },
    /// Some groups came to nothing.
    Incomplete {
        /// Which.
        groups: GroupSet,
    },
}

/// Why nothing more is done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConsumerWait {
    /// The chain could not be read, or the job's events do not fit.
    ChainUnknown,
    /// The author suspended it.
    Suspended,
    /// Whether the content is at the gateways could not be found out.
    ContentUnknown,
    /// The transaction that opens it is on its way.
    Opening,
    /// No offers suit, or too few.
    NoSuitableOffers,
    /// The namespace's budget has no room.
    BudgetSpent,
    /// Whether the budget has room could not be found out.
    BudgetUnknown,
    /// Whether the bundle is published could not be found out.
    BundleUnknown,
    /// The first group goes ahead.
    Canary,
    /// Seats are at work.
    SeatsWork,
    /// Seats reveal.
    SeatsReveal,
    /// Judged groups wait for appeals and challenges.
    AppealWindow,
    /// Groups that were not sealed wait for the job to take no more seals.
    Closing,
    /// What happened is not final yet.
    Finality,
}

impl ConsumerWait {
    /// A word for conditions and metrics.
    pub fn label(self) -> String {
        format!("{self:?}")
    }
}

/// What to do next for a job at `now`.
pub fn consumer_plan(view: &JobView<'_>, timing: &Timing, now: UnixSeconds) -> Vec<ConsumerStep> {
    match view.chain {
        Knowledge::Unknown => vec![wait(ConsumerWait::ChainUnknown)],
        Knowledge::Absent => before_opening(view, timing, now),
        Knowledge::Known(job) => {
            let mut steps = Vec::new();
            if job.state != (JobState::Open) || !cancel(view, &job, now, &mut steps) {
                begin(view, &job, timing, now, &mut steps);
            }
            bundle(view, &mut steps);
            relay(view, &job, now, &mut steps);
            settle(&job, now, &mut steps);
            fetch(view, &mut steps);
            finish(view, &job, now, &mut steps);
            steps
        }
    }
}

fn wait(reason: ConsumerWait) -> ConsumerStep {
    ConsumerStep::Wait { reason, until: None }
}

/// What its author or its deadline says of ending it.
fn wants_end(view: &JobView<'_>, now: UnixSeconds) -> Option<CancelCause> {
    match view.desire {
        Desire::Cancel(cause) => Some(cause),
        Desire::Run | Desire::Suspend => view
            .not_after
            .filter(|deadline| now > *deadline)
            .map(|_| CancelCause::DeadlinePassed),
    }
}

fn before_opening(view: &JobView<'_>, timing: &Timing, now: UnixSeconds) -> Vec<ConsumerStep> {
    match view.opening {
        // Whatever is wanted now: what is on its way is dealt with when it has arrived.
        Knowledge::Known(()) => return vec![wait(ConsumerWait::Opening)],
        Knowledge::Unknown => return vec![wait(ConsumerWait::ChainUnknown)],
        Knowledge::Absent => {}
    }
    if let Some(cause) = wants_end(view, now) {
        return vec![ConsumerStep::Finish {
            outcome: JobOutcome::NeverOpened { cause },
        }];
    }
    if view.desire == Desire::Suspend {
        return vec![wait(ConsumerWait::Suspended)];
    }
    match view.content {
        Knowledge::Unknown => return vec![wait(ConsumerWait::ContentUnknown)],
        Knowledge::Absent => return vec![ConsumerStep::Upload],
        Knowledge::Known(()) => {}
    }
    let Some(all) = view.groups.checked_sub(1) else {
        return vec![wait(ConsumerWait::NoSuitableOffers)];
    };
    let groups = GroupSet::run(GroupIndex::ZERO, GroupIndex::new(all));
    let Some(placement) = fresh(view, 0, timing, now) else {
        return vec![ConsumerStep::Match { groups }];
    };
    let filled = &placement.matching.filled;
    if filled.is_empty() || (view.canary && !filled.contains(GroupIndex::ZERO)) {
        return vec![no_offers(placement, timing)];
    }
    let Some(escrow) = placement.matching.cost.total() else {
        return vec![no_offers(placement, timing)];
    };
    match view.budget_has_room {
        Knowledge::Known(true) => {
            let canary = GroupSet::run(GroupIndex::ZERO, GroupIndex::ZERO);
            let seal = if view.canary { canary } else { filled.clone() };
            vec![ConsumerStep::Open { escrow, seal }]
        }
        Knowledge::Known(false) => vec![wait(ConsumerWait::BudgetSpent)],
        Knowledge::Absent | Knowledge::Unknown => vec![wait(ConsumerWait::BudgetUnknown)],
    }
}

/// The placement, if it was made for this point of the job's history and not too long ago.
fn fresh<'a>(view: &JobView<'a>, sequence: u32, timing: &Timing, now: UnixSeconds) -> Option<&'a Placement> {
    view.placement.filter(|placement| {
        placement.sequence == sequence && now <= placement.made_at.saturating_add(timing.placement_fresh)
    })
}

fn no_offers(placement: &Placement, timing: &Timing) -> ConsumerStep {
    let until = placement.made_at.saturating_add(timing.placement_fresh);
    ConsumerStep::Wait {
        reason: ConsumerWait::NoSuitableOffers,
        until: Some(until),
    }
}

/// Gives notice where that is wanted and still changes something. Whether nothing new shall begin.
fn cancel(view: &JobView<'_>, job: &Job<'_>, now: UnixSeconds, steps: &mut Vec<ConsumerStep>) -> bool {
    let unsealed = job.groups().any(|(_, group)| group.state == GroupState::Filling);
    let running = job
        .groups()
        .any(|(_, group)| matches!(group.state, GroupState::Running { .. }));
    let canary_failed = view.canary
        && unsealed
        && job
            .group(GroupIndex::ZERO)
            .is_some_and(|group| match group.state {
                GroupState::Contested { .. } | GroupState::Inconclusive | GroupState::Refunded => true,
                GroupState::Filling
                | GroupState::Running { .. }
                | GroupState::Revealing { .. }
                | GroupState::Agreed { .. }
                | GroupState::Refunding
                | GroupState::Credited { .. } => false,
            });
    let cause = wants_end(view, now).or(canary_failed.then_some(CancelCause::CanaryFailed));
    let Some(cause) = cause else { return false };
    if unsealed || running {
        steps.push(ConsumerStep::Cancel { cause });
    }
    true
}

/// Fills and seals what is not running yet.
fn begin(
    view: &JobView<'_>,
    job: &Job<'_>,
    timing: &Timing,
    now: UnixSeconds,
    steps: &mut Vec<ConsumerStep>,
) {
    if view.desire != Desire::Run || !job.takes_seals(now.saturating_add(timing.margin)) {
        return;
    }
    let picked = usize::from(job.terms.redundancy.picked);
    let filling = || {
        job.groups()
            .filter(|(_, group)| group.state == GroupState::Filling)
    };
    let lacking: GroupSet = filling()
        .filter(|(_, group)| group.seats.len() < picked)
        .map(|(index, _)| index)
        .collect();
    if !lacking.is_empty() {
        steps.push(fill(view, job, lacking, timing, now));
    }
    let proven = !view.canary
        || job
            .group(GroupIndex::ZERO)
            .is_some_and(|group| group.state.agreed_root().is_some());
    let ready: GroupSet = filling()
        .filter(|(index, group)| group.seats.len() >= picked && (proven || *index == GroupIndex::ZERO))
        .map(|(index, _)| index)
        .collect();
    if !ready.is_empty() {
        steps.push(ConsumerStep::Seal { groups: ready });
    }
}

fn fill(
    view: &JobView<'_>,
    job: &Job<'_>,
    lacking: GroupSet,
    timing: &Timing,
    now: UnixSeconds,
) -> ConsumerStep {
    let Some(placement) = fresh(view, job.sequence, timing, now) else {
        return ConsumerStep::Match { groups: lacking };
    };
    let free = job.escrow.checked_sub(job.allocated).unwrap_or(TokenAmount::ZERO);
    let Some(cost) = placement.matching.cost.total() else {
        return no_offers(placement, timing);
    };
    if placement.matching.filled.is_empty() {
        return no_offers(placement, timing);
    }
    let top_up = cost.checked_sub(free).unwrap_or(TokenAmount::ZERO);
    match view.budget_has_room {
        Knowledge::Known(true) => ConsumerStep::Fill { top_up },
        Knowledge::Known(false) if top_up.is_zero() => ConsumerStep::Fill { top_up },
        Knowledge::Known(false) => wait(ConsumerWait::BudgetSpent),
        Knowledge::Absent | Knowledge::Unknown => wait(ConsumerWait::BudgetUnknown),
    }
}

/// Gives the job's key to those who have seats in sealed groups, once that cannot be taken back.
fn bundle(view: &JobView<'_>, steps: &mut Vec<ConsumerStep>) {
    let Knowledge::Known(job) = view.final_chain else {
        return;
    };
    let at_work = |group: &GroupRecord| match group.state {
        GroupState::Running { .. } => true,
        GroupState::Filling
        | GroupState::Revealing { .. }
        | GroupState::Agreed { .. }
        | GroupState::Contested { .. }
        | GroupState::Refunding
        | GroupState::Credited { .. }
        | GroupState::Inconclusive
        | GroupState::Refunded => false,
    };
    let providers: BTreeSet<Address> = job
        .groups()
        .filter(|(_, group)| at_work(group))
        .flat_map(|(_, group)| group.seats.iter().map(|seat| seat.provider))
        .collect();
    if providers.is_empty() {
        return;
    }
    match view.bundle {
        Knowledge::Unknown => steps.push(wait(ConsumerWait::BundleUnknown)),
        Knowledge::Known(covered) if covered.is_superset(&providers) => {}
        // A newer bundle replaces the older, so it goes on to serve those that have it.
        Knowledge::Known(covered) => {
            steps.push(ConsumerStep::PublishBundle {
                providers: covered.union(&providers).copied().collect(),
            });
        }
        Knowledge::Absent => steps.push(ConsumerStep::PublishBundle { providers }),
    }
}

fn relay(view: &JobView<'_>, job: &Job<'_>, now: UnixSeconds, steps: &mut Vec<ConsumerStep>) {
    let useful = |message: &&MailboxMessage| {
        message.deadline > now
            && message
                .entries
                .iter()
                .any(|(seat, saying)| changes(job, message.provider, *seat, *saying, now))
    };
    let messages: Vec<Hash32> = view
        .mailbox
        .iter()
        .filter(useful)
        .map(|message| message.id)
        .take(RELAY_MAX)
        .collect();
    if !messages.is_empty() {
        steps.push(ConsumerStep::Relay { messages });
    }
}

/// Whether the market would take the entry now.
fn changes(job: &Job<'_>, provider: Address, entry: SeatRef, saying: Saying, now: UnixSeconds) -> bool {
    let Some(group) = job.group(entry.group) else {
        return false;
    };
    let Some(seat) = group.seat(entry.seat).filter(|seat| seat.provider == provider) else {
        return false;
    };
    let commits_end = job.commit_deadline(entry.group);
    match saying {
        Saying::Speaks => {
            seat.state == SeatState::Awarded && commits_end.is_some_and(|deadline| now <= deadline)
        }
        Saying::Reveals { with_receipt } => {
            let open = match group.state {
                GroupState::Revealing { reveal_by } => now <= reveal_by,
                GroupState::Running { .. } => commits_end.is_some_and(|deadline| now > deadline),
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
            open && adds
        }
    }
}

fn settle(job: &Job<'_>, now: UnixSeconds, steps: &mut Vec<ConsumerStep>) {
    let due = |from: Option<UnixSeconds>| from.is_some_and(|from| now >= from);
    let judge = one_call(
        job.groups()
            .filter(|(index, group)| due(judgeable_from(job, *index, group)))
            .map(|(index, _)| index),
    );
    let settle = one_call(
        job.groups()
            .filter(|(_, group)| due(settleable_from(group)))
            .map(|(index, _)| index),
    );
    let close = one_call(
        job.groups()
            .filter(|(_, group)| due(closeable_from(job, group)))
            .map(|(index, _)| index),
    );
    if !judge.is_empty() {
        steps.push(ConsumerStep::Judge { groups: judge });
    }
    if !settle.is_empty() {
        steps.push(ConsumerStep::Settle { groups: settle });
    }
    if !close.is_empty() {
        steps.push(ConsumerStep::CloseGroups { groups: close });
    }
}

/// Outputs of groups whose agreement is final, from the seats that agreed.
fn fetch(view: &JobView<'_>, steps: &mut Vec<ConsumerStep>) {
    let Knowledge::Known(job) = view.final_chain else {
        return;
    };
    for (index, group) in job
        .groups()
        .filter(|(_, group)| group.state.agreed_root().is_some())
    {
        let Some(range) = job.terms.shape.group_units(index) else {
            continue;
        };
        let units = range.to_set().difference(view.fetched);
        if units.is_empty() {
            continue;
        }
        let agreed = group.seats.iter().filter(|seat| match seat.state {
            SeatState::Judged { verdict, .. } | SeatState::Settled { verdict, .. } => {
                verdict == SeatVerdict::Agreed
            }
            SeatState::Awarded
            | SeatState::Committed { .. }
            | SeatState::Abstained { .. }
            | SeatState::Opened { .. } => false,
        });
        let providers = agreed.map(|seat| seat.provider).collect();
        steps.push(ConsumerStep::Fetch {
            group: index,
            units,
            providers,
        });
    }
}

/// Ends the plan: finished, or what it waits for.
fn finish(view: &JobView<'_>, job: &Job<'_>, now: UnixSeconds, steps: &mut Vec<ConsumerStep>) {
    let finally_ended = match view.final_chain {
        Knowledge::Known(job) => matches!(job.state, JobState::Ended { .. }),
        Knowledge::Absent | Knowledge::Unknown => false,
    };
    let busy = steps
        .iter()
        .any(|step| !matches!(step, ConsumerStep::Wait { .. }));
    if finally_ended && !busy {
        let failed: GroupSet = job
            .groups()
            .filter(|(_, group)| !matches!(group.state, GroupState::Credited { .. }))
            .map(|(index, _)| index)
            .collect();
        let outcome = if failed.is_empty() {
            JobOutcome::Complete
        } else {
            JobOutcome::Incomplete { groups: failed }
        };
        steps.push(ConsumerStep::Finish { outcome });
        return;
    }
    let (reason, until) = waits_for(view, job, now);
    steps.push(ConsumerStep::Wait { reason, until });
}

/// What the job waits for, and the next deadline that changes it.
fn waits_for(view: &JobView<'_>, job: &Job<'_>, now: UnixSeconds) -> (ConsumerWait, Option<UnixSeconds>) {
    let earliest = |times: &mut dyn Iterator<Item = UnixSeconds>| times.filter(|time| *time > now).min();
    let working = &mut job.groups().filter_map(|(index, _)| job.commit_deadline(index));
    let revealing = &mut job.groups().filter_map(|(_, group)| match group.state {
        GroupState::Revealing { reveal_by } => Some(reveal_by.saturating_add(Seconds::new(1))),
        GroupState::Filling
        | GroupState::Running { .. }
        | GroupState::Agreed { .. }
        | GroupState::Contested { .. }
        | GroupState::Refunding
        | GroupState::Credited { .. }
        | GroupState::Inconclusive
        | GroupState::Refunded => None,
    });
    let judged = &mut job.groups().filter_map(|(_, group)| settleable_from(group));
    let closing = &mut job.groups().filter_map(|(_, group)| closeable_from(job, group));
    if matches!(job.state, JobState::Ended { .. }) {
        return (ConsumerWait::Finality, None);
    }
    if let Some(until) = earliest(revealing) {
        return (ConsumerWait::SeatsReveal, Some(until));
    }
    if let Some(until) = earliest(working) {
        let canary = view.canary && job.groups().any(|(_, group)| group.state == GroupState::Filling);
        let reason = if canary {
            ConsumerWait::Canary
        } else {
            ConsumerWait::SeatsWork
        };
        return (reason, Some(until.saturating_add(Seconds::new(1))));
    }
    if let Some(until) = earliest(judged) {
        return (ConsumerWait::AppealWindow, Some(until));
    }
    let suspended = view.desire == Desire::Suspend;
    let reason = if suspended {
        ConsumerWait::Suspended
    } else {
        ConsumerWait::Closing
    };
    match earliest(closing) {
        Some(until) => (reason, Some(until)),
        None => (ConsumerWait::Finality, None),
    }
}

#[cfg(test)]
#[path = "consumer_tests.rs"]
mod tests;
