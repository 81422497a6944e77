//! When what is left to say for a job presses.

use super::Timing;
use crate::ids::Address;
use crate::index::Job;
use crate::quantity::UnixSeconds;
use crate::state::{GroupState, SeatState};

/// When what the provider still has to say for this job begins to press, by its next deadline; in the past where it
/// presses already. Whoever talks with a gateway must be done by then, because then it is said directly.
pub fn presses_from(
    job: &Job<'_>,
    provider: Address,
    timing: &Timing,
    now: UnixSeconds,
) -> Option<UnixSeconds> {
    job.seats_of(provider)
        .filter_map(|(group, _, seat, record)| match (&record.state, &seat.state) {
            (GroupState::Running { .. }, SeatState::Awarded) => job.commit_deadline(group),
            (GroupState::Running { .. }, SeatState::Committed { .. }) => Some(
                job.commit_deadline(group)?
                    .saturating_add(job.terms.windows.reveal_window),
            ),
            (GroupState::Revealing { reveal_by }, SeatState::Committed { .. } | SeatState::Opened { .. }) => {
                Some(*reveal_by)
            }
            (GroupState::Revealing { .. }, SeatState::Awarded)
            | (GroupState::Running { .. }, SeatState::Opened { .. })
            | (_, SeatState::Abstained { .. } | SeatState::Judged { .. } | SeatState::Settled { .. })
            | (
                GroupState::Filling
                | GroupState::Agreed { .. }
                | GroupState::Contested { .. }
                | GroupState::Refunding
                | GroupState::Credited { .. }
                | GroupState::Inconclusive
                | GroupState::Refunded,
                _,
            ) => None,
        })
        .filter(|deadline| *deadline >= now)
        .map(|deadline| deadline.saturating_sub(timing.margin))
        .min()
}
