//! What a provider's operator does next for its seats of one job, from the award to the last pod.
//!
//! What it gives away or throws away (work, results, pods) is decided on the final chain; what it has said
//! already, on the newest.

mod closing;
mod pods;
mod pressing;
mod step;
mod view;

use std::collections::BTreeMap;

use self::pods::free_slots;
use super::{one_call, settleable_from};
use crate::index::{GroupRecord, Job, SeatRecord};
use crate::message::AbstainReason;
use crate::quantity::{GroupIndex, Knowledge, Seconds, UnixSeconds};
use crate::state::{GroupState, SeatState};

pub use pressing::presses_from;
pub use step::{PodDeletion, ProviderStep, ProviderWait};
pub use view::{Delivery, LeaseView, MessageKind, PodPhase, PodView, SliceResult, Timing};

/// What to do next for the seats of `view.provider` at `now`.
pub fn provider_plan(view: &LeaseView<'_>, timing: &Timing, now: UnixSeconds) -> Vec<ProviderStep> {
    let wait = |reason| vec![ProviderStep::Wait { reason, until: None }];
    let job = match view.final_chain {
        Knowledge::Known(job) => job,
        Knowledge::Absent => return wait(ProviderWait::Finality),
        Knowledge::Unknown => return wait(ProviderWait::ChainUnknown),
    };
    let newest = match view.chain {
        Knowledge::Known(newest) => newest,
        // A final job that the newest block does not have is a node that lags behind itself.
        Knowledge::Absent | Knowledge::Unknown => return wait(ProviderWait::ChainUnknown),
    };
    let mut plan = Plan {
        view,
        timing,
        now,
        job,
        newest,
        free_slots: free_slots(view),
        needs_materials: false,
        steps: Vec::new(),
        messages: BTreeMap::new(),
        waits: Vec::new(),
    };
    plan.seats();
    plan.pods_that_are_over();
    plan.settle();
    plan.end()
}

/// What a seat says, by kind, reason and way: one step for all groups that say the same.
type Messages = BTreeMap<(MessageKind, Option<AbstainReason>, Delivery), Vec<GroupIndex>>;

struct Plan<'a> {
    view: &'a LeaseView<'a>,
    timing: &'a Timing,
    now: UnixSeconds,
    job: Job<'a>,
    newest: Job<'a>,
    free_slots: u32,
    needs_materials: bool,
    steps: Vec<ProviderStep>,
    messages: Messages,
    waits: Vec<(ProviderWait, Option<UnixSeconds>)>,
}

/// Where one of the provider's seats stands, by the final and by the newest block.
#[derive(Clone, Copy)]
struct Seat<'a> {
    group: GroupIndex,
    final_group: &'a GroupRecord,
    finally: &'a SeatRecord,
    newest_group: &'a GroupRecord,
    latest: &'a SeatRecord,
}

impl<'a> Plan<'a> {
    fn seats(&mut self) {
        let provider = self.view.provider;
        let (job, newest) = (self.job, self.newest);
        let mut seats: Vec<_> = job
            .seats_of(provider)
            .filter_map(|(group, place, finally, final_group)| {
                let newest_group = newest.group(group)?;
                let latest = newest_group
                    .seat(place)
                    .filter(|seat| seat.provider == provider)?;
                Some(Seat {
                    group,
                    final_group,
                    finally,
                    newest_group,
                    latest,
                })
            })
            .collect();
        // Who must commit first gets slots first.
        seats.sort_by_key(|seat| {
            (
                job.commit_deadline(seat.group).unwrap_or(UnixSeconds::MAX),
                seat.group,
            )
        });
        for seat in seats {
            self.seat(seat);
        }
    }

    fn seat(&mut self, seat: Seat<'a>) {
        match seat.final_group.state {
            GroupState::Filling => self.waits.push((ProviderWait::NotSealed, None)),
            GroupState::Running { .. } => match seat.latest.state {
                SeatState::Awarded => self.work(seat),
                SeatState::Committed { .. } | SeatState::Opened { .. } => self.reveal(seat),
                SeatState::Abstained { .. } => self.waits.push((ProviderWait::OthersWork, None)),
                SeatState::Judged { .. } | SeatState::Settled { .. } => {
                    self.waits.push((ProviderWait::Settlement, None));
                }
            },
            GroupState::Revealing { .. } => self.reveal(seat),
            GroupState::Agreed { .. } | GroupState::Contested { .. } | GroupState::Refunding => {
                self.waits
                    .push((ProviderWait::Settlement, settleable_from(seat.final_group)));
            }
            GroupState::Credited { .. } | GroupState::Inconclusive | GroupState::Refunded => {}
        }
    }

    /// A sealed group whose seat has not spoken: run slices, then commit, or abstain.
    fn work(&mut self, seat: Seat<'a>) {
        let Some(deadline) = self.newest.commit_deadline(seat.group) else {
            // The newest block says that the commits are over; the final block will say so too.
            self.waits.push((ProviderWait::Finality, None));
            return;
        };
        if self.now > deadline {
            self.waits.push((ProviderWait::Settlement, None));
            return;
        }
        let slices: Vec<_> = self.job.terms.shape.group_slices(seat.group).collect();
        let abstains = slices
            .iter()
            .find_map(|slice| match self.view.results.get(slice) {
                Some(SliceResult::Abstain(reason)) => Some(*reason),
                Some(SliceResult::Done) | None => None,
            });
        let missing: Vec<_> = slices
            .into_iter()
            .filter(|slice| !self.view.results.contains_key(slice))
            .collect();
        if let Some(reason) = self.view.unfit.or(abstains) {
            self.say(MessageKind::Abstain, Some(reason), seat.group, deadline);
        } else if missing.is_empty() {
            self.commit(seat.group, deadline);
        } else if self.now.saturating_add(self.timing.margin) >= deadline {
            let reason = self.late_because(&missing);
            self.say(MessageKind::Abstain, Some(reason), seat.group, deadline);
        } else {
            for slice in missing {
                if let Some(reason) = self.slice(slice, deadline) {
                    self.say(MessageKind::Abstain, Some(reason), seat.group, deadline);
                    return;
                }
            }
        }
    }

    /// Results are committed to once a gateway has signed that it stores them: a seat that shows a result without a
    /// receipt is unpaid, and one that abstains before it commits loses nothing.
    fn commit(&mut self, group: GroupIndex, deadline: UnixSeconds) {
        // Who is done late still gets half of the margin for its receipt; the other half is for the abstention.
        let last = Seconds::new(self.timing.margin.get().div_ceil(2));
        if self.view.receipts.contains(group) {
            self.say(MessageKind::Commit, None, group, deadline);
        } else if self.now.saturating_add(last) < deadline {
            self.steps.push(ProviderStep::RequestReceipt { group });
            self.waits.push((ProviderWait::Storing, Some(deadline)));
        } else {
            let reason = AbstainReason::Storage;
            self.say(MessageKind::Abstain, Some(reason), group, deadline);
        }
    }

    /// A committed seat: publish and store, and show the result once nobody can commit any more.
    fn reveal(&mut self, seat: Seat<'a>) {
        match (&seat.finally.state, &seat.latest.state) {
            (SeatState::Committed { .. } | SeatState::Opened { .. }, SeatState::Committed { .. }) => {}
            (_, SeatState::Opened { opening }) if opening.stored.is_none() => {}
            // Spoken, but not final; or nothing to open; or open and stored.
            (_, SeatState::Committed { .. }) => {
                self.waits.push((ProviderWait::Finality, None));
                return;
            }
            (
                _,
                SeatState::Awarded
                | SeatState::Abstained { .. }
                | SeatState::Opened { .. }
                | SeatState::Judged { .. }
                | SeatState::Settled { .. },
            ) => {
                self.waits.push((ProviderWait::Settlement, None));
                return;
            }
        }
        let mut slices = self.job.terms.shape.group_slices(seat.group);
        if !slices.all(|slice| self.view.results.get(&slice) == Some(&SliceResult::Done)) {
            self.waits.push((ProviderWait::ResultsUnknown, None));
            return;
        }
        self.store(seat.group);
        let Some(reveal_by) = self.reveal_deadline(seat) else {
            self.waits
                .push((ProviderWait::OthersWork, self.job.commit_deadline(seat.group)));
            return;
        };
        if self.now > reveal_by {
            self.waits.push((ProviderWait::Settlement, None));
            return;
        }
        let stored = self.view.receipts.contains(seat.group);
        let shown = matches!(seat.latest.state, SeatState::Opened { .. });
        let pressing = self.now.saturating_add(self.timing.margin) >= reveal_by;
        // Shown without a receipt it is unpaid, but no dissent; so only when time runs out.
        if stored || (pressing && !shown) {
            self.say(MessageKind::Reveal, None, seat.group, reveal_by);
        } else {
            self.waits.push((ProviderWait::Revealing, Some(reveal_by)));
        }
    }

    fn store(&mut self, group: GroupIndex) {
        if !self.view.indexed.contains(group) {
            self.steps.push(ProviderStep::PublishIndex { group });
        }
        if !self.view.receipts.contains(group) {
            self.steps.push(ProviderStep::RequestReceipt { group });
        }
    }

    /// Until when the seat can reveal; `None` while others may still commit, by the final block.
    fn reveal_deadline(&self, seat: Seat<'a>) -> Option<UnixSeconds> {
        match (&seat.final_group.state, &seat.newest_group.state) {
            (GroupState::Revealing { reveal_by }, _) => Some(*reveal_by),
            (GroupState::Running { .. }, _) => {
                let commits_end = self.job.commit_deadline(seat.group)?;
                // Notice of cancellation can only make the deadline earlier, so this one is safe to rely on.
                let over = self.now > commits_end;
                over.then(|| commits_end.saturating_add(self.job.terms.windows.reveal_window))
            }
            (
                GroupState::Filling
                | GroupState::Agreed { .. }
                | GroupState::Contested { .. }
                | GroupState::Refunding
                | GroupState::Credited { .. }
                | GroupState::Inconclusive
                | GroupState::Refunded,
                _,
            ) => None,
        }
    }

    /// Posts a message, or sends it where the buyer is late or the deadline near.
    fn say(
        &mut self,
        kind: MessageKind,
        reason: Option<AbstainReason>,
        group: GroupIndex,
        deadline: UnixSeconds,
    ) {
        let pressing = self.now.saturating_add(self.timing.margin) >= deadline;
        let by = match self.view.posted.get(&(kind, group)) {
            None if pressing => Delivery::Direct,
            None => Delivery::Relay,
            Some(at) if pressing || self.now >= at.saturating_add(self.timing.relay_patience) => {
                Delivery::Direct
            }
            Some(at) => {
                let until = at.saturating_add(self.timing.relay_patience);
                self.waits.push((ProviderWait::Relay, Some(until)));
                return;
            }
        };
        self.messages.entry((kind, reason, by)).or_default().push(group);
    }

    /// The plan: what is to be got, what is to be said, and then what it waits for or that it is done.
    fn end(mut self) -> Vec<ProviderStep> {
        for ((kind, reason, by), groups) in std::mem::take(&mut self.messages) {
            let groups = one_call(groups);
            let step = match (kind, reason) {
                (MessageKind::Commit, _) => ProviderStep::Commit { groups, by },
                (MessageKind::Reveal, _) => ProviderStep::Reveal { groups, by },
                (MessageKind::Abstain, reason) => {
                    let reason = reason.unwrap_or(AbstainReason::Other(u8::MAX));
                    ProviderStep::Abstain { groups, reason, by }
                }
            };
            match by {
                // What presses must not wait for the gateways that other steps ask.
                Delivery::Direct => self.steps.insert(0, step),
                Delivery::Relay => self.steps.push(step),
            }
        }
        if self.needs_materials {
            self.steps.insert(0, ProviderStep::FetchBundle);
        }
        let over = self
            .job
            .seats_of(self.view.provider)
            .all(|(_, _, _, group)| group.state.is_ended());
        if over && self.steps.is_empty() {
            self.steps.push(match self.view.pods {
                Knowledge::Known(_) | Knowledge::Absent => ProviderStep::Finish,
                Knowledge::Unknown => ProviderStep::Wait {
                    reason: ProviderWait::PodsUnknown,
                    until: None,
                },
            });
            return self.steps;
        }
        let until = self
            .waits
            .iter()
            .filter_map(|(_, until)| *until)
            .filter(|until| *until > self.now)
            .min();
        let reason = self
            .waits
            .iter()
            .map(|(reason, _)| *reason)
            .min()
            .unwrap_or(ProviderWait::PodsWork);
        self.steps.push(ProviderStep::Wait { reason, until });
        self.steps
    }
}

#[cfg(test)]
mod tests;
