//! What to do next, decided from what is known: pure planners for the reconcilers that act.
//!
//! A plan is a list of steps, each of which may be carried out twice. Facts come in as [`crate::Knowledge`];
//! from what is unknown nothing is deleted, paid or given away. `now` is always the chain's time, that is the
//! newest block's timestamp, because deadlines are the chain's. Every wait has a reason.

pub mod consumer;
pub mod provider;
pub mod treasury;

use crate::ids::{Hash32, JobId, keccak256};
use crate::index::{GroupRecord, Job};
use crate::quantity::{GroupIndex, Seconds, UnixSeconds};
use crate::state::{GroupState, JobState, SeatState};
use crate::terms::MAX_ENTRIES_PER_CALL;

/// How much time to leave. All of it is configuration, since block times differ from chain to chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Before a deadline, so that what is sent then is still included in time.
    pub margin: Seconds,
    /// How long a matching may be used.
    pub placement_fresh: Seconds,
    /// How long a provider waits for the buyer to relay its message before it sends it itself.
    pub relay_patience: Seconds,
    /// How long a provider waits for the buyer to judge and settle before it does so itself.
    pub settle_patience: Seconds,
    /// How long to wait before a slice is tried again the first time; doubles with each attempt.
    pub retry_first: Seconds,
    /// The longest wait between attempts.
    pub retry_max: Seconds,
    /// How often a slice is tried in all.
    pub attempts_max: u32,
}

/// The id of an effect on a job: the same for the same step at the same point of the job's history. `nonce`
/// tells repetitions apart that are wanted although nothing has changed, such as another try of fills that the
/// market passed over.
pub fn intent_id(action: &str, job: JobId, sequence: u32, subject: &[u8], nonce: u64) -> Hash32 {
    let action = keccak256(&[action.as_bytes()]);
    let subject = keccak256(&[subject]);
    keccak256(&[
        b"tradewind intent v1",
        action.as_bytes(),
        job.as_bytes(),
        &sequence.to_be_bytes(),
        subject.as_bytes(),
        &nonce.to_be_bytes(),
    ])
}

/// Groups in the form that one call takes, at most 256.
fn one_call(groups: impl IntoIterator<Item = GroupIndex>) -> Vec<GroupIndex> {
    groups.into_iter().take(MAX_ENTRIES_PER_CALL).collect()
}

/// When anyone may judge the group; `None` while it cannot be said, or if it is judged.
fn judgeable_from(job: &Job<'_>, group: GroupIndex, record: &GroupRecord) -> Option<UnixSeconds> {
    let waits = record
        .seats
        .iter()
        .any(|seat| matches!(seat.state, SeatState::Committed { .. }));
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
