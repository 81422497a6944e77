//! Which pods a lease has: those that slices still need, within the slots, and none that nobody needs any more.

use super::{LeaseView, Plan, PodDeletion, PodPhase, ProviderStep, ProviderWait, Timing};
use crate::message::AbstainReason;
use crate::quantity::{Knowledge, Seconds, SliceIndex, UnixSeconds};
use crate::state::{GroupState, SeatState};

impl Plan<'_> {
    /// Starts or restarts a slice. The reason to abstain, where trying again makes no sense.
    pub(super) fn slice(&mut self, slice: SliceIndex, deadline: UnixSeconds) -> Option<AbstainReason> {
        match self.view.materials {
            Knowledge::Known(()) => {}
            Knowledge::Absent => {
                self.needs_materials = true;
                return None;
            }
            Knowledge::Unknown => {
                self.waits.push((ProviderWait::MaterialsUnknown, Some(deadline)));
                return None;
            }
        }
        let newest = match self.view.pods {
            Knowledge::Known(pods) => pods
                .iter()
                .filter(|pod| pod.slice == slice)
                .max_by_key(|pod| pod.attempt),
            Knowledge::Absent => None,
            Knowledge::Unknown => {
                self.waits.push((ProviderWait::PodsUnknown, None));
                return None;
            }
        };
        match newest.map(|pod| (pod.attempt, pod.phase)) {
            None => self.create(slice, 1),
            Some((_, PodPhase::Pending { .. } | PodPhase::Running | PodPhase::Succeeded)) => {
                self.waits.push((ProviderWait::PodsWork, Some(deadline)));
            }
            Some((attempt, PodPhase::Failed { cause, at })) => {
                if attempt >= self.timing.attempts_max || !may_pass(cause) {
                    return Some(cause);
                }
                let again = at.saturating_add(backoff(self.timing, attempt));
                if again > self.now {
                    self.waits.push((ProviderWait::Backoff, Some(again)));
                } else {
                    self.create(slice, attempt.saturating_add(1));
                }
            }
        }
        None
    }

    fn create(&mut self, slice: SliceIndex, attempt: u32) {
        if let Some(left) = self.free_slots.checked_sub(1) {
            self.free_slots = left;
            self.steps.push(ProviderStep::CreatePod { slice, attempt });
        } else {
            self.waits.push((ProviderWait::SlotsTaken, None));
        }
    }

    /// Why slices are not done at the end of the time: what their pods wait for, or what was never had.
    pub(super) fn late_because(&self, missing: &[SliceIndex]) -> AbstainReason {
        if self.view.materials != Knowledge::Known(()) {
            return AbstainReason::Key;
        }
        let Knowledge::Known(pods) = self.view.pods else {
            return AbstainReason::Hardware;
        };
        let newest = |slice: &SliceIndex| {
            pods.iter()
                .filter(|pod| pod.slice == *slice)
                .max_by_key(|pod| pod.attempt)
        };
        let cause = missing.iter().filter_map(newest).find_map(|pod| match pod.phase {
            PodPhase::Pending { cause } | PodPhase::Failed { cause, .. } => Some(cause),
            PodPhase::Running | PodPhase::Succeeded => None,
        });
        cause.unwrap_or(AbstainReason::TimeLimit)
    }

    /// Pods whose group needs nothing of them any more, as the final block says.
    pub(super) fn pods_that_are_over(&mut self) {
        let Knowledge::Known(pods) = self.view.pods else {
            return;
        };
        for pod in pods {
            if let Some(cause) = self.over(pod.slice) {
                let (slice, attempt) = (pod.slice, pod.attempt);
                self.steps.push(ProviderStep::DeletePod {
                    slice,
                    attempt,
                    cause,
                });
            }
        }
    }

    fn over(&self, slice: SliceIndex) -> Option<PodDeletion> {
        let group = self.job.terms.shape.group_of_slice(slice)?;
        let record = self.job.group(group)?;
        let Some((_, seat)) = record.seat_of(self.view.provider) else {
            return Some(PodDeletion::NoSeat);
        };
        match (&record.state, &seat.state) {
            (GroupState::Credited { .. } | GroupState::Inconclusive | GroupState::Refunded, _)
            | (_, SeatState::Judged { .. } | SeatState::Settled { .. }) => Some(PodDeletion::GroupOver),
            (_, SeatState::Opened { opening }) if opening.stored.is_some() => Some(PodDeletion::GroupOver),
            (_, SeatState::Abstained { .. }) => Some(PodDeletion::Abstained),
            (GroupState::Revealing { .. }, SeatState::Awarded) => Some(PodDeletion::TooLate),
            (
                GroupState::Filling
                | GroupState::Running { .. }
                | GroupState::Revealing { .. }
                | GroupState::Agreed { .. }
                | GroupState::Contested { .. }
                | GroupState::Refunding,
                SeatState::Awarded | SeatState::Committed { .. } | SeatState::Opened { .. },
            ) => None,
        }
    }
}

/// Slots that no pod of the lease has.
pub(super) fn free_slots(view: &LeaseView<'_>) -> u32 {
    let Knowledge::Known(pods) = view.pods else {
        return 0;
    };
    let active = pods.iter().filter(|pod| match pod.phase {
        PodPhase::Pending { .. } | PodPhase::Running => true,
        PodPhase::Succeeded | PodPhase::Failed { .. } => false,
    });
    view.slots
        .get()
        .saturating_sub(u32::try_from(active.count()).unwrap_or(u32::MAX))
}

/// Whether another attempt may go better: not where the same program would meet the same limit again.
const fn may_pass(cause: AbstainReason) -> bool {
    match cause {
        AbstainReason::Inputs
        | AbstainReason::Image
        | AbstainReason::Key
        | AbstainReason::Hardware
        | AbstainReason::Preempted
        | AbstainReason::Storage
        | AbstainReason::Other(_) => true,
        AbstainReason::TemplateMismatch
        | AbstainReason::TimeLimit
        | AbstainReason::OutOfMemory
        | AbstainReason::OutputLimit => false,
    }
}

/// How long to wait after the attempt of this number failed.
fn backoff(timing: &Timing, attempt: u32) -> Seconds {
    let doublings = attempt.saturating_sub(1).min(32);
    let factor = 1u64.checked_shl(doublings).unwrap_or(u64::MAX);
    let wait = timing.retry_first.get().saturating_mul(factor);
    Seconds::new(wait.min(timing.retry_max.get()))
}
