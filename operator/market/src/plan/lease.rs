//! What a provider does next about its seats in one job.
//!
//! Everything is derived from what is seen now: a step that was taken shows in the pods, in the reports, or on the
//! chain, and is not planned again. From `Unknown` nothing is deleted and nothing is given up.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::Address;
use crate::index::{GroupRecord, Job, SeatRecord};
use crate::message::AbstainReason;
use crate::quantity::{GroupIndex, Knowledge, Seconds, SliceIndex, Slots, UnixSeconds};
use crate::state::{GroupState, SeatState};

/// A slice is given to at most this many pods, one after another.
pub const ATTEMPTS_MAX: u32 = 3;

/// How long things are waited for. Configuration of the provider, not terms of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTiming {
    /// How long the buyer may take to bring a message to the chain, to judge, and to settle.
    pub patience: Seconds,
    /// This long before a deadline nothing is waited for any more.
    pub margin: Seconds,
    /// How long an image may fail to be pulled before it counts as not to be had.
    pub image_patience: Seconds,
}

/// What a pod of a slice is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodStanding {
    /// Waiting or at work.
    Live,
    /// Its image cannot be had so far.
    NoImage,
    /// It left a report or an abstention, which stands among the results.
    Done,
    /// It ended without a word.
    Lost {
        /// Whether it was ended at its deadline.
        deadline: bool,
    },
}

/// A pod of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodView {
    /// The slice.
    pub slice: SliceIndex,
    /// Which pod for it, from 1.
    pub attempt: u32,
    /// When it was made.
    pub created: UnixSeconds,
    /// How it stands.
    pub standing: PodStanding,
}

/// What a slice came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceResult {
    /// All units are executed, stored and reported.
    Done,
    /// There is none, for this reason.
    Abstain(AbstainReason),
}

/// The messages of a seat, in the order of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageKind {
    /// T-3 or T-4: each seat sends one of them.
    Spoken,
    /// T-5.
    Reveal,
}

/// How a message gets to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Delivery {
    /// Left at the gateways, for the buyer to carry.
    Relay,
    /// Sent by the provider itself.
    Direct,
}

/// What is seen of one job that the provider has seats in.
#[derive(Debug, Clone, Copy)]
pub struct LeaseView<'a> {
    /// Whose seats.
    pub provider: Address,
    /// The job as of the final block: what is acted on.
    pub last: Job<'a>,
    /// The job as of the newest block: what need not be done again.
    pub head: Knowledge<Job<'a>>,
    /// Whether template and key are at hand; for good reason not, where the job cannot be run here at all.
    pub materials: Result<Knowledge<()>, AbstainReason>,
    /// Its pods.
    pub pods: Knowledge<&'a [PodView]>,
    /// What its slices came to.
    pub results: &'a BTreeMap<SliceIndex, SliceResult>,
    /// Groups whose result index is at the gateways.
    pub indexed: &'a BTreeSet<GroupIndex>,
    /// Groups with a gateway's receipt.
    pub receipts: &'a BTreeSet<GroupIndex>,
    /// Messages left at the gateways, and since when.
    pub told: &'a BTreeMap<(MessageKind, GroupIndex), UnixSeconds>,
    /// Pods that may be live at once for this job.
    pub slots: Slots,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeaseStep {
    /// Ask the gateways for bundle and template.
    FetchMaterials,
    /// Make the pod of that attempt.
    CreatePod {
        /// Of this slice.
        slice: SliceIndex,
        /// From 1.
        attempt: u32,
    },
    /// Remove the pods of that slice: nothing of it counts any more.
    DeletePods {
        /// Of this slice.
        slice: SliceIndex,
    },
    /// Commit to the group's result.
    Commit {
        /// Of this group.
        group: GroupIndex,
        /// How.
        by: Delivery,
    },
    /// Give the seat back.
    Abstain {
        /// Of this group.
        group: GroupIndex,
        /// Why.
        reason: AbstainReason,
        /// How.
        by: Delivery,
    },
    /// Tell the buyer where the group's results are.
    PublishIndex {
        /// Of this group.
        group: GroupIndex,
    },
    /// Ask a gateway for its promise to keep the group's results.
    RequestReceipt {
        /// Of this group.
        group: GroupIndex,
    },
    /// Open the commitment.
    Reveal {
        /// Of this group.
        group: GroupIndex,
        /// How.
        by: Delivery,
    },
    /// Do what the buyer is late with.
    Judge {
        /// Of this group.
        group: GroupIndex,
    },
    /// Do what the buyer is late with.
    Settle {
        /// Of this group.
        group: GroupIndex,
    },
    /// Free seats that the buyer never sealed.
    CloseGroup {
        /// Of this group.
        group: GroupIndex,
    },
    /// Every seat has ended: remove pods and secrets.
    Close,
}

/// The steps that are due, in order. `now` is the newest block's time.
pub fn lease_plan(view: &LeaseView<'_>, timing: &LeaseTiming, now: UnixSeconds) -> Vec<LeaseStep> {
    let mut plan = Planner { view, timing, now, live: live_pods(view), steps: Vec::new() };
    let mut ended = true;
    for (group, seat, record) in seats(view) {
        ended &= is_over(record.state);
        plan.group(group, seat, record);
    }
    if ended {
        plan.steps.push(LeaseStep::Close);
    }
    plan.steps
}

fn seats<'a>(view: &LeaseView<'a>) -> impl Iterator<Item = (GroupIndex, &'a SeatRecord, &'a GroupRecord)> + use<'a> {
    view.last.seats_of(view.provider).map(|(group, _, seat, record)| (group, seat, record))
}

fn is_over(state: GroupState) -> bool {
    match state {
        GroupState::Credited { .. } | GroupState::Inconclusive | GroupState::Refunded => true,
        GroupState::Filling
        | GroupState::Running { .. }
        | GroupState::Revealing { .. }
        | GroupState::Agreed { .. }
        | GroupState::Contested { .. }
        | GroupState::Refunding => false,
    }
}

fn live_pods(view: &LeaseView<'_>) -> u32 {
    let pods = view.pods.known().unwrap_or_default();
    let live = pods.iter().filter(|pod| matches!(pod.standing, PodStanding::Live | PodStanding::NoImage));
    u32::try_from(live.count()).unwrap_or(u32::MAX)
}

struct Planner<'p, 'a> {
    view: &'p LeaseView<'a>,
    timing: &'p LeaseTiming,
    now: UnixSeconds,
    live: u32,
    steps: Vec<LeaseStep>,
}

impl Planner<'_, '_> {
    fn group(&mut self, group: GroupIndex, seat: &SeatRecord, record: &GroupRecord) {
        match record.state {
            GroupState::Filling => self.unsealed(group),
            GroupState::Running { .. } => match self.view.last.commit_deadline(group) {
                Some(deadline) if self.now <= deadline => self.running(group, seat, deadline),
                // Over, and nobody has said so on chain yet: the first reveal does.
                Some(deadline) => self.opening(group, seat, after(deadline, self.view.last.terms.windows.reveal_window)),
                None => {}
            },
            GroupState::Revealing { reveal_by } => self.opening(group, seat, reveal_by),
            GroupState::Agreed { settle_at, .. } | GroupState::Contested { settle_at } => {
                if self.now >= after(settle_at, self.timing.patience) {
                    self.steps.push(LeaseStep::Settle { group });
                }
            }
            GroupState::Refunding
            | GroupState::Credited { .. }
            | GroupState::Inconclusive
            | GroupState::Refunded => {}
        }
    }

    fn unsealed(&mut self, group: GroupIndex) {
        let open_until = self.view.last.terms.windows.open_until;
        if self.now > after(open_until, self.timing.patience) {
            self.steps.push(LeaseStep::CloseGroup { group });
        }
    }

    fn running(&mut self, group: GroupIndex, seat: &SeatRecord, deadline: UnixSeconds) {
        match seat.state {
            SeatState::Awarded => {}
            // Given back: what still runs is for nothing.
            SeatState::Abstained { .. } => return self.clear(group),
            SeatState::Committed { .. }
            | SeatState::Opened { .. }
            | SeatState::Judged { .. }
            | SeatState::Settled { .. } => return,
        }
        if self.spoke_at_head(group) {
            return;
        }
        let verdict = match self.view.materials {
            Err(reason) => Some(Err(reason)),
            Ok(Knowledge::Known(())) => self.slices(group, deadline),
            Ok(Knowledge::Absent | Knowledge::Unknown) => {
                self.add_once(LeaseStep::FetchMaterials);
                // Without template or key nothing can be said but that, and in time.
                (self.now > before(deadline, self.timing.margin)).then_some(Err(AbstainReason::Key))
            }
        };
        let by = self.delivery(MessageKind::Spoken, group, deadline);
        match (verdict, by) {
            (Some(Ok(())), Some(by)) => self.steps.push(LeaseStep::Commit { group, by }),
            (Some(Err(reason)), Some(by)) => self.steps.push(LeaseStep::Abstain { group, reason, by }),
            (None, _) | (_, None) => {}
        }
    }

    /// Whether the group's slices are all done, or why they never will be; starts what is missing.
    fn slices(&mut self, group: GroupIndex, deadline: UnixSeconds) -> Option<Result<(), AbstainReason>> {
        let mut all_done = true;
        let mut lost = None;
        let slices: Vec<SliceIndex> = self.view.last.terms.shape.group_slices(group).collect();
        for slice in slices {
            match self.view.results.get(&slice) {
                Some(SliceResult::Done) => {}
                Some(SliceResult::Abstain(reason)) => return Some(Err(*reason)),
                None => {
                    all_done = false;
                    lost = lost.or(self.slice(slice, deadline));
                }
            }
        }
        if all_done { Some(Ok(())) } else { lost.map(Err) }
    }

    /// Sees to a slice without a result; a reason if there will be none.
    fn slice(&mut self, slice: SliceIndex, deadline: UnixSeconds) -> Option<AbstainReason> {
        let pods = self.view.pods.known()?;
        let newest = pods.iter().filter(|pod| pod.slice == slice).max_by_key(|pod| pod.attempt);
        let (attempt, cause) = match newest {
            None => (1, AbstainReason::Preempted),
            Some(pod) => match pod.standing {
                PodStanding::Live | PodStanding::Done => return None,
                PodStanding::NoImage if self.now < after(pod.created, self.timing.image_patience) => return None,
                PodStanding::NoImage => return Some(AbstainReason::Image),
                PodStanding::Lost { deadline: true } => return Some(AbstainReason::TimeLimit),
                PodStanding::Lost { deadline: false } => (pod.attempt.saturating_add(1), AbstainReason::Preempted),
            },
        };
        let takes = self.view.last.terms.shape.slice_time().unwrap_or(Seconds::MAX);
        if attempt > ATTEMPTS_MAX || after(self.now, takes) > before(deadline, self.timing.margin) {
            return Some(cause);
        }
        if self.live < self.view.slots.get() {
            self.live = self.live.saturating_add(1);
            self.steps.push(LeaseStep::CreatePod { slice, attempt });
        }
        None
    }

    fn opening(&mut self, group: GroupIndex, seat: &SeatRecord, reveal_by: UnixSeconds) {
        match seat.state {
            SeatState::Committed { .. } => {}
            SeatState::Opened { opening } if opening.stored.is_none() => {}
            SeatState::Opened { .. } => return self.judge_if_late(group, reveal_by),
            SeatState::Awarded | SeatState::Abstained { .. } => {
                self.clear(group);
                return self.judge_if_late(group, reveal_by);
            }
            SeatState::Judged { .. } | SeatState::Settled { .. } => return,
        }
        if self.now > reveal_by {
            return self.judge_if_late(group, reveal_by);
        }
        let complete = self.group_done(group);
        if !complete {
            return;
        }
        if !self.view.indexed.contains(&group) {
            self.steps.push(LeaseStep::PublishIndex { group });
        }
        let has_receipt = self.view.receipts.contains(&group);
        if !has_receipt {
            self.steps.push(LeaseStep::RequestReceipt { group });
        }
        let opened = self.at_head(group).is_some_and(|seat| match seat.state {
            SeatState::Opened { opening } => opening.stored.is_some() || !has_receipt,
            SeatState::Judged { .. } | SeatState::Settled { .. } => true,
            SeatState::Awarded | SeatState::Committed { .. } | SeatState::Abstained { .. } => false,
        });
        // Without a receipt the work is unpaid; without the reveal it is dissent. So the one is waited for as long
        // as the other allows.
        let late = self.now > before(reveal_by, self.timing.margin);
        if opened || !(has_receipt || late) {
            return;
        }
        if let Some(by) = self.delivery(MessageKind::Reveal, group, reveal_by) {
            self.steps.push(LeaseStep::Reveal { group, by });
        }
    }

    fn judge_if_late(&mut self, group: GroupIndex, reveal_by: UnixSeconds) {
        let head_judged = self.view.head.known().and_then(|job| job.group(group)).is_some_and(|record| {
            !matches!(record.state, GroupState::Running { .. } | GroupState::Revealing { .. })
        });
        if !head_judged && self.now > after(reveal_by, self.timing.patience) {
            self.steps.push(LeaseStep::Judge { group });
        }
    }

    /// Relay first, and once; then, when the buyer is late or time runs out, directly.
    fn delivery(&self, kind: MessageKind, group: GroupIndex, deadline: UnixSeconds) -> Option<Delivery> {
        match self.view.told.get(&(kind, group)) {
            _ if self.now > before(deadline, self.timing.margin) => Some(Delivery::Direct),
            None => Some(Delivery::Relay),
            Some(since) if self.now >= after(*since, self.timing.patience) => Some(Delivery::Direct),
            Some(_) => None,
        }
    }

    fn at_head(&self, group: GroupIndex) -> Option<&SeatRecord> {
        let job = self.view.head.known()?;
        job.group(group)?.seat_of(self.view.provider).map(|(_, seat)| seat)
    }

    fn spoke_at_head(&self, group: GroupIndex) -> bool {
        self.at_head(group).is_some_and(|seat| seat.state != SeatState::Awarded)
    }

    fn group_done(&self, group: GroupIndex) -> bool {
        let mut slices = self.view.last.terms.shape.group_slices(group);
        slices.all(|slice| self.view.results.get(&slice) == Some(&SliceResult::Done))
    }

    fn clear(&mut self, group: GroupIndex) {
        let Some(pods) = self.view.pods.known() else { return };
        for slice in self.view.last.terms.shape.group_slices(group) {
            if pods.iter().any(|pod| pod.slice == slice && pod.standing != PodStanding::Done) {
                self.steps.push(LeaseStep::DeletePods { slice });
            }
        }
    }

    fn add_once(&mut self, step: LeaseStep) {
        if !self.steps.contains(&step) {
            self.steps.push(step);
        }
    }
}

fn after(time: UnixSeconds, by: Seconds) -> UnixSeconds {
    UnixSeconds::new(time.get().saturating_add(by.get()))
}

fn before(time: UnixSeconds, by: Seconds) -> UnixSeconds {
    UnixSeconds::new(time.get().saturating_sub(by.get()))
}
