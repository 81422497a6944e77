//! What to do next, decided from what is known: pure planners for the reconcilers that act.
//!
//! A plan is a list of steps, each of which may be carried out twice. Facts come in as [`crate::Knowledge`];
//! from what is unknown nothing is deleted, paid or given away. `now` is always the chain's time, that is the
//! newest block's timestamp, because deadlines are the chain's.

pub mod consumer;
pub mod deposit;
pub mod provider;
pub mod treasury;

use crate::index::{GroupRecord, Job};
use crate::quantity::{GroupIndex, Seconds, UnixSeconds};
use crate::state::{GroupState, JobState, SeatState};
use crate::terms::MAX_ENTRIES_PER_CALL;

/// Groups in the form that one call takes, at most 256.
fn one_call(groups: impl IntoIterator<Item = GroupIndex>) -> Vec<GroupIndex> {
    groups.into_iter().take(MAX_ENTRIES_PER_CALL).collect()
}

/// When the group is to be judged: all that can come has come, receipts too, or the time for it is over. Zero is
/// at once; `None` if it is not sealed, or judged already.
fn judgeable_from(job: &Job<'_>, group: GroupIndex, record: &GroupRecord) -> Option<UnixSeconds> {
    let waits = record.seats.iter().any(|seat| match &seat.state {
        SeatState::Committed { .. } => true,
        SeatState::Opened { opening } => opening.stored.is_none(),
        SeatState::Awarded
        | SeatState::Abstained { .. }
        | SeatState::Judged { .. }
        | SeatState::Settled { .. } => false,
    });
    // A deadline's own second is still in time.
    let after = |deadline: UnixSeconds| deadline.saturating_add(Seconds::new(1));
    match record.state {
        GroupState::Running { .. } => {
            let commits_end = job.commit_deadline(group)?;
            let reveals_end = commits_end.saturating_add(job.terms.windows.reveal_window);
            Some(after(if waits { reveals_end } else { commits_end }))
        }
        GroupState::Revealing { reveal_by } => Some(if waits {
            after(reveal_by)
        } else {
            UnixSeconds::ZERO
        }),
        GroupState::Filling
        | GroupState::Agreed { .. }
        | GroupState::Contested { .. }
        | GroupState::Refunding
        | GroupState::Credited { .. }
        | GroupState::Inconclusive
        | GroupState::Refunded => None,
    }
}

/// When anyone may settle the group; `None` unless it is judged and not settled.
fn settleable_from(record: &GroupRecord) -> Option<UnixSeconds> {
    match record.state {
        GroupState::Agreed { settle_at, .. } | GroupState::Contested { settle_at } => Some(settle_at),
        GroupState::Filling
        | GroupState::Running { .. }
        | GroupState::Revealing { .. }
        | GroupState::Refunding
        | GroupState::Credited { .. }
        | GroupState::Inconclusive
        | GroupState::Refunded => None,
    }
}

/// When anyone may close a group that was never sealed; `None` if it was. A cancelled job's can be closed at
/// once.
fn closeable_from(job: &Job<'_>, record: &GroupRecord) -> Option<UnixSeconds> {
    if record.state != GroupState::Filling {
        return None;
    }
    match job.state {
        JobState::Open => Some(job.terms.windows.open_until.saturating_add(Seconds::new(1))),
        JobState::Cancelling { .. } => Some(UnixSeconds::ZERO),
        JobState::Ended { .. } => None,
    }
}
