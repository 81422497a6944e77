//! What a provider's operator does next for its seats of one job, from the award to the last pod.
//!
//! What it gives away or throws away (work, results, pods) is decided on the final chain; what it has said
//! already, on the newest.

use std::collections::BTreeMap;

use super::{closeable_from, judgeable_from, one_call, settleable_from};
use crate::ids::Address;
use crate::index::{GroupRecord, Job, SeatRecord};
use crate::intervals::GroupSet;
use crate::message::AbstainReason;
use crate::quantity::{GroupIndex, Knowledge, Seconds, SliceIndex, Slots, UnixSeconds};
use crate::state::{GroupState, JobState, SeatState};

/// How long things are waited for: configuration of the provider, since block times differ from chain to chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Before a deadline, so that what is sent then is still included in time.
    pub margin: Seconds,
    /// For the buyer to carry a message, before it is sent directly.
    pub relay_patience: Seconds,
    /// For the buyer to judge, settle or close, before that is done here.
    pub settle_patience: Seconds,
    /// Before a slice is tried again the first time; doubles with each attempt.
    pub retry_first: Seconds,
    /// Between attempts at most.
    pub retry_max: Seconds,
    /// How often a slice is tried in all.
    pub attempts_max: u32,
}

/// What kind of message was posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageKind {
    /// A commitment.
    Commit,
    /// An abstention.
    Abstain,
    /// An opening.
    Reveal,
}

/// How a message gets to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Delivery {
    /// Posted at the job's gateways, for the buyer to carry.
    Relay,
    /// Sent by the provider itself.
    Direct,
}

/// What a slice's pods came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SliceResult {
    /// All its units have results, and the report is at hand.
    Done,
    /// A unit has no result, and trying again would not help.
    Abstain(AbstainReason),
}

/// One attempt at a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PodView {
    /// Which slice.
    pub slice: SliceIndex,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// What it is at.
    pub phase: PodPhase,
}

/// What a pod is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PodPhase {
    /// Not running yet; what it waits for is what the seat abstains for, should it wait too long.
    Pending {
        /// Why not, as far as it can be told.
        cause: AbstainReason,
    },
    /// Running, or about to be deleted.
    Running,
    /// Ended with a report.
    Succeeded,
    /// Ended without one.
    Failed {
        /// Why, as far as it can be told.
        cause: AbstainReason,
        /// When.
        at: UnixSeconds,
    },
}

/// Everything that is known of a provider's seats of one job.
#[derive(Debug, Clone, Copy)]
pub struct LeaseView<'a> {
    /// Whose seats.
    pub provider: Address,
    /// The job at the final block.
    pub final_chain: Knowledge<Job<'a>>,
    /// The job at the newest block.
    pub chain: Knowledge<Job<'a>>,
    /// Whether key, template and grant are at hand, so that pods can be made.
    pub materials: Knowledge<()>,
    /// Why the job cannot be run here, where its key or template showed that.
    pub unfit: Option<AbstainReason>,
    /// All pods of the lease, finished ones too.
    pub pods: Knowledge<&'a [PodView]>,
    /// What finished slices came to.
    pub results: &'a BTreeMap<SliceIndex, SliceResult>,
    /// Groups whose result index is published.
    pub indexed: &'a GroupSet,
    /// Groups whose receipt is at hand.
    pub receipts: &'a GroupSet,
    /// When each message was posted at a gateway.
    pub posted: &'a BTreeMap<(MessageKind, GroupIndex), UnixSeconds>,
    /// How many pods may run at once.
    pub slots: Slots,
}

/// Why a pod is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PodDeletion {
    /// Its group needs nothing of it any more.
    GroupOver,
    /// Its seat can no longer commit.
    TooLate,
    /// Its seat has abstained.
    Abstained,
    /// The provider has no seat in its group.
    NoSeat,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderStep {
    /// Get the bundle, check it, and make key, template and grant ready for pods.
    FetchBundle,
    /// Create a slice's pod.
    CreatePod {
        /// Which slice.
        slice: SliceIndex,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// Delete a pod.
    DeletePod {
        /// Which slice.
        slice: SliceIndex,
        /// Which attempt.
        attempt: u32,
        /// Why.
        cause: PodDeletion,
    },
    /// Commit to results.
    Commit {
        /// In which groups.
        groups: Vec<GroupIndex>,
        /// How.
        by: Delivery,
    },
    /// Abstain.
    Abstain {
        /// In which groups.
        groups: Vec<GroupIndex>,
        /// Why.
        reason: AbstainReason,
        /// How.
        by: Delivery,
    },
    /// Open commitments, with receipts where they are at hand.
    Reveal {
        /// In which groups.
        groups: Vec<GroupIndex>,
        /// How.
        by: Delivery,
    },
    /// Publish where the results of a group are stored.
    PublishIndex {
        /// Which group.
        group: GroupIndex,
    },
    /// Ask a gateway for its receipt.
    RequestReceipt {
        /// For which group.
        group: GroupIndex,
    },
    /// Judge groups that the buyer leaves unjudged.
    Judge {
        /// Which.
        groups: Vec<GroupIndex>,
    },
    /// Settle groups that the buyer leaves unsettled.
    Settle {
        /// Which.
        groups: Vec<GroupIndex>,
    },
    /// End groups that the buyer never sealed.
    CloseGroups {
        /// Which.
        groups: Vec<GroupIndex>,
    },
    /// Nothing is left to do.
    Finish,
    /// Come back later.
    Wait {
        /// Why.
        reason: ProviderWait,
        /// When at the latest, if it is known.
        until: Option<UnixSeconds>,
    },
}

/// Why nothing more is done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProviderWait {
    /// The chain could not be read, or the job's events do not fit.
    ChainUnknown,
    /// The awards are not final yet.
    Finality,
    /// Whether key and template are to be had could not be found out.
    MaterialsUnknown,
    /// The pods could not be listed.
    PodsUnknown,
    /// The buyer has not sealed the groups.
    NotSealed,
    /// Pods are at work, or their reports are being read.
    PodsWork,
    /// All slots are taken.
    SlotsTaken,
    /// A slice is tried again after a pause.
    Backoff,
    /// A message waits to be carried by the buyer.
    Relay,
    /// The reports that were committed to have not been read again yet.
    ResultsUnknown,
    /// Other seats have not spoken.
    OthersWork,
    /// Seats reveal.
    Revealing,
    /// The group is judged and settled by the buyer, or after a while by us.
    Settlement,
}

impl ProviderWait {
    /// A word for conditions and metrics.
    pub fn label(self) -> String {
        format!("{self:?}")
    }
}

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

fn free_slots(view: &LeaseView<'_>) -> u32 {
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
            self.say(MessageKind::Commit, None, seat.group, deadline);
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

    /// Starts or restarts a slice. The reason to abstain, where trying again makes no sense.
    fn slice(&mut self, slice: SliceIndex, deadline: UnixSeconds) -> Option<AbstainReason> {
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
    fn late_because(&self, missing: &[SliceIndex]) -> AbstainReason {
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

    /// Pods whose group needs nothing of them any more, as the final block says.
    fn pods_that_are_over(&mut self) {
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

    /// What anyone may call, where the buyer has not for a while.
    fn settle(&mut self) {
        let (newest, patience, now) = (self.newest, self.timing.settle_patience, self.now);
        let provider = self.view.provider;
        let late = |from: Option<UnixSeconds>, fallback: Option<UnixSeconds>| {
            // What can be done at once counts from the last deadline that was fixed.
            let from = from.map(|from| {
                if from == UnixSeconds::ZERO {
                    fallback.unwrap_or(from)
                } else {
                    from
                }
            });
            from.is_some_and(|from| now >= from.saturating_add(patience))
        };
        let mine = || {
            newest
                .seats_of(provider)
                .map(|(group, _, _, record)| (group, record))
        };
        let judge = mine().filter(|(group, record)| {
            let revealing = match record.state {
                GroupState::Revealing { reveal_by } => Some(reveal_by),
                GroupState::Filling
                | GroupState::Running { .. }
                | GroupState::Agreed { .. }
                | GroupState::Contested { .. }
                | GroupState::Refunding
                | GroupState::Credited { .. }
                | GroupState::Inconclusive
                | GroupState::Refunded => None,
            };
            late(judgeable_from(&newest, *group, record), revealing)
        });
        let judge = one_call(judge.map(|(group, _)| group));
        let settle = one_call(
            mine()
                .filter(|(_, record)| late(settleable_from(record), None))
                .map(|(group, _)| group),
        );
        let noticed = match newest.state {
            JobState::Cancelling { grace_until } => Some(grace_until),
            JobState::Open | JobState::Ended { .. } => None,
        };
        let close = one_call(
            mine()
                .filter(|(_, record)| late(closeable_from(&newest, record), noticed))
                .map(|(group, _)| group),
        );
        if !judge.is_empty() {
            self.steps.push(ProviderStep::Judge { groups: judge });
        }
        if !settle.is_empty() {
            self.steps.push(ProviderStep::Settle { groups: settle });
        }
        if !close.is_empty() {
            self.steps.push(ProviderStep::CloseGroups { groups: close });
        }
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

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;
