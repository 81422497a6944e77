//! What there is of a lease: pods, reports, materials. It reads, and changes nothing but what it remembers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use tradewind_gateway_api::slice::{AbstainCause, ReportRef};
use tradewind_market::{
    GroupIndex, Knowledge, SliceIndex, UnixSeconds,
    index::Job,
    message::AbstainReason,
    plan::provider::{PodPhase, PodView, SliceResult},
    state::SeatState,
};

use super::{
    Leases, OfferOf,
    materials::{self, Unusable, fits},
    memo::Memo,
    messages::GroupResult,
    pod::pod_name,
    results::{PodEnd, ReportError, SlicePodState, abstain_reason, fetch_report},
};

/// Reports fetched at once for one lease.
const REPORTS_AT_ONCE: usize = 8;

/// What the planner is told besides the chain.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) materials: Knowledge<()>,
    pub(crate) pods: Knowledge<Vec<PodView>>,
    pub(crate) results: BTreeMap<SliceIndex, SliceResult>,
}

/// A seat whose results are still wanted, with its slices.
struct Wanted {
    group: GroupIndex,
    series: u32,
    slices: Vec<SliceIndex>,
}

/// Everything that a look at a lease starts from.
pub(crate) struct Seen<'a> {
    /// The job at the final block.
    pub(crate) job: &'a Job<'a>,
    /// The job at the newest block.
    pub(crate) newest: &'a Job<'a>,
    /// Offers by series.
    pub(crate) offers: &'a BTreeMap<u32, OfferOf>,
    /// This lease's pods, or unknown while they are not listed.
    pub(crate) pods: Knowledge<&'a [SlicePodState]>,
    /// Reports that the lease's status keeps.
    pub(crate) stored: &'a BTreeMap<SliceIndex, ReportRef>,
    pub(crate) now: UnixSeconds,
    /// How long gateways may take to answer, each time that they are asked; as long as they like where `None`.
    pub(crate) patience: Option<Duration>,
}

/// An answer that comes in time, or nothing.
async fn within<T>(patience: Option<Duration>, answer: impl Future<Output = T>) -> Option<T> {
    match patience {
        Some(patience) => tokio::time::timeout(patience, answer).await.ok(),
        None => Some(answer.await),
    }
}

impl Leases {
    pub(crate) async fn observe(&self, seen: &Seen<'_>, memo: &mut Memo) -> Facts {
        let wanted = self.wanted(seen);
        let known_materials = self.materials(seen, &wanted, memo).await;
        let pods: &[SlicePodState] = match seen.pods {
            Knowledge::Known(pods) => pods,
            Knowledge::Absent | Knowledge::Unknown => &[],
        };
        self.fetch_reports(seen, &wanted, pods, memo).await;
        let mut results = BTreeMap::new();
        for seat in &wanted {
            let unfit = Self::unfit(seat, seen.offers, memo);
            for slice in &seat.slices {
                let own: Vec<_> = pods.iter().filter(|pod| pod.slice == *slice).collect();
                if let Some(result) = self.result(seen.now, *slice, &own, unfit.as_ref(), memo) {
                    results.insert(*slice, result);
                }
            }
            combine(seen.job, seat, memo);
        }
        let materials = match known_materials {
            Knowledge::Known(()) if Self::offers_known(&wanted, seen.offers) => Knowledge::Known(()),
            // Without its offer it is not known how a pod must be shut in.
            Knowledge::Known(()) | Knowledge::Unknown => Knowledge::Unknown,
            Knowledge::Absent => Knowledge::Absent,
        };
        let pods = match seen.pods {
            Knowledge::Known(pods) => Knowledge::Known(self.views(seen.job, pods, memo)),
            Knowledge::Absent => Knowledge::Absent,
            Knowledge::Unknown => Knowledge::Unknown,
        };
        Facts {
            materials,
            pods,
            results,
        }
    }

    /// Seats that still have to commit, or to show what they committed to.
    fn wanted(&self, seen: &Seen<'_>) -> Vec<Wanted> {
        let account = self.context.account();
        let seats = seen
            .job
            .seats_of(account)
            .filter_map(|(group, place, seat, record)| {
                if record.state.is_ended() || seen.job.round_id(group).is_none() {
                    return None;
                }
                let newest = seen.newest.group(group)?.seat(place)?;
                let open = match &newest.state {
                    SeatState::Awarded | SeatState::Committed { .. } => true,
                    SeatState::Opened { opening } => opening.stored.is_none(),
                    SeatState::Abstained { .. } | SeatState::Judged { .. } | SeatState::Settled { .. } => {
                        false
                    }
                };
                let slices = seen.job.terms.shape.group_slices(group).collect();
                open.then_some(Wanted {
                    group,
                    series: seat.series,
                    slices,
                })
            });
        seats.collect()
    }

    fn offers_known(wanted: &[Wanted], offers: &BTreeMap<u32, OfferOf>) -> bool {
        let missing = wanted.iter().find(|seat| !offers.contains_key(&seat.series));
        if let Some(seat) = missing {
            tracing::warn!(group = %seat.group, series = seat.series, "the ProviderOffer of a seat is gone; create it again to have its work done");
        }
        missing.is_none()
    }

    async fn materials(&self, seen: &Seen<'_>, wanted: &[Wanted], memo: &mut Memo) -> Knowledge<()> {
        let job = seen.job;
        if memo.materials.is_some() {
            return Knowledge::Known(());
        }
        if wanted.is_empty() || memo.unusable.is_some() {
            return Knowledge::Unknown;
        }
        let asked = materials::observe(&self.context, &self.opening_key, job);
        match within(seen.patience, asked)
            .await
            .unwrap_or(Ok(Knowledge::Unknown))
        {
            Ok(Knowledge::Known(found)) => {
                tracing::info!(job = %job.id, image = %found.template.image, "bundle, key and template are checked");
                memo.materials = Some(Arc::new(found));
                Knowledge::Known(())
            }
            Ok(Knowledge::Absent) => Knowledge::Absent,
            Ok(Knowledge::Unknown) => Knowledge::Unknown,
            Err(unusable) => {
                tracing::warn!(job = %job.id, reason = unusable.reason.label(), detail = %unusable, "the job cannot be run here");
                memo.unusable = Some(unusable);
                Knowledge::Unknown
            }
        }
    }

    /// Why a seat's slices cannot be run here, for good.
    fn unfit(seat: &Wanted, offers: &BTreeMap<u32, OfferOf>, memo: &Memo) -> Option<Unusable> {
        if memo.unusable.is_some() {
            return memo.unusable.clone();
        }
        let template = &memo.materials.as_ref()?.template;
        fits(template, &offers.get(&seat.series)?.spec).err()
    }

    async fn fetch_reports(
        &self,
        seen: &Seen<'_>,
        wanted: &[Wanted],
        pods: &[SlicePodState],
        memo: &mut Memo,
    ) {
        let slices: BTreeSet<SliceIndex> = wanted
            .iter()
            .filter(|seat| !memo.groups.contains_key(&seat.group))
            .flat_map(|seat| seat.slices.iter().copied())
            .filter(|slice| !memo.reports.contains_key(slice))
            .collect();
        // Pods first: what the status keeps is for pods that are gone.
        let said = pods.iter().filter_map(|pod| match &pod.end {
            PodEnd::Said(message) => Some((pod.slice, Some(pod.attempt), message.report?)),
            PodEnd::Waiting | PodEnd::Running | PodEnd::NoImage(_) | PodEnd::Lost { .. } => None,
        });
        let remembered = seen.stored.iter().map(|(slice, at)| (*slice, None, *at));
        let mut candidates: BTreeMap<SliceIndex, (Option<u32>, ReportRef)> = BTreeMap::new();
        for (slice, attempt, at) in said.chain(remembered) {
            let bad = attempt.is_some_and(|attempt| memo.bad_reports.contains(&(slice, attempt)));
            if slices.contains(&slice) && !bad {
                candidates.entry(slice).or_insert((attempt, at));
            }
        }
        let job = seen.job;
        let requests = candidates.into_iter().filter_map(|(slice, (attempt, at))| {
            let units = job.terms.shape.slice_units(slice)?;
            let (gateways, key, id) = (&self.context.gateways, &self.opening_key, job.id);
            Some(async move {
                (
                    slice,
                    attempt,
                    at,
                    fetch_report(gateways, key, id, units, at).await,
                )
            })
        });
        let asked = stream::iter(requests)
            .buffer_unordered(REPORTS_AT_ONCE)
            .collect::<Vec<_>>();
        let fetched = within(seen.patience, asked).await.unwrap_or_default();
        for (slice, attempt, at, report) in fetched {
            match report {
                Ok(report) => {
                    tracing::info!(job = %job.id, %slice, units = report.units.len(), "a slice is done");
                    memo.reports.insert(slice, (at, report));
                }
                Err(ReportError::Gateway(error)) => {
                    tracing::warn!(job = %job.id, %slice, %error, "a slice's report cannot be had at the moment");
                }
                Err(error @ ReportError::NotTheSlices(_)) => {
                    tracing::error!(job = %job.id, %slice, %error, "a slice's report is of no use");
                    memo.bad_reports.extend(attempt.map(|attempt| (slice, attempt)));
                }
            }
        }
    }

    fn result(
        &self,
        now: UnixSeconds,
        slice: SliceIndex,
        pods: &[&SlicePodState],
        unfit: Option<&Unusable>,
        memo: &Memo,
    ) -> Option<SliceResult> {
        if memo.reports.contains_key(&slice) {
            // Roots are made with the template's salt.
            return memo.materials.is_some().then_some(SliceResult::Done);
        }
        let Some(newest) = pods.iter().max_by_key(|pod| pod.attempt) else {
            return unfit.map(|unusable| SliceResult::Abstain(unusable.reason));
        };
        let patience = u64::from(self.context.args.provider.lease.image_patience);
        match &newest.end {
            PodEnd::Said(message) => {
                let cause = message.abstain.as_ref()?.cause;
                let reason = abstain_reason(message)?;
                (!passes(cause)).then_some(SliceResult::Abstain(reason))
            }
            PodEnd::NoImage(_) if now.saturating_since(newest.created).get() >= patience => {
                Some(SliceResult::Abstain(AbstainReason::Image))
            }
            PodEnd::NoImage(_) | PodEnd::Waiting | PodEnd::Running | PodEnd::Lost { .. } => None,
        }
    }

    fn views(&self, job: &Job<'_>, pods: &[SlicePodState], memo: &mut Memo) -> Vec<PodView> {
        let mut views: Vec<PodView> = pods.iter().map(|pod| view(pod, memo)).collect();
        memo.created
            .retain(|(slice, attempt)| self.slots.is_unseen(&pod_name(job.id, *slice, *attempt)));
        for (slice, attempt) in &memo.created {
            if !pods
                .iter()
                .any(|pod| (pod.slice, pod.attempt) == (*slice, *attempt))
            {
                let phase = PodPhase::Pending {
                    cause: AbstainReason::Hardware,
                };
                views.push(PodView {
                    slice: *slice,
                    attempt: *attempt,
                    phase,
                });
            }
        }
        views
    }
}

/// The group's result, once all its slices have reports.
fn combine(job: &Job<'_>, seat: &Wanted, memo: &mut Memo) {
    if memo.groups.contains_key(&seat.group) {
        return;
    }
    let Some(materials) = &memo.materials else { return };
    let reports: Option<Vec<_>> = seat.slices.iter().map(|slice| memo.reports.get(slice)).collect();
    let Some(reports) = reports else { return };
    let units = reports
        .iter()
        .flat_map(|(_, report)| report.units.iter().copied())
        .collect();
    match GroupResult::new(job.id, materials.template.job_salt, units) {
        Ok(result) => {
            tracing::info!(job = %job.id, group = %seat.group, root = %result.root_a, bytes = result.size, "a group is done");
            memo.groups.insert(seat.group, Arc::new(result));
        }
        Err(error) => {
            tracing::error!(job = %job.id, group = %seat.group, %error, "a group's results have no root");
        }
    }
}

/// Whether another attempt may do better.
fn passes(cause: AbstainCause) -> bool {
    match cause {
        AbstainCause::Inputs
        | AbstainCause::OutOfDisk
        | AbstainCause::Interrupted
        | AbstainCause::Node
        | AbstainCause::Storage => true,
        AbstainCause::Key
        | AbstainCause::TemplateMismatch
        | AbstainCause::TimeLimit
        | AbstainCause::OutOfMemory
        | AbstainCause::OutputLimit
        | AbstainCause::ScratchLimit
        | AbstainCause::ProcessLimit
        | AbstainCause::Leftovers
        | AbstainCause::NotIsolated => false,
    }
}

fn view(pod: &SlicePodState, memo: &Memo) -> PodView {
    let failed = |cause| PodPhase::Failed {
        cause,
        at: pod.finished,
    };
    let phase = match &pod.end {
        PodEnd::Waiting => PodPhase::Pending {
            cause: AbstainReason::Hardware,
        },
        PodEnd::NoImage(_) => PodPhase::Pending {
            cause: AbstainReason::Image,
        },
        PodEnd::Running => PodPhase::Running,
        PodEnd::Said(_) if memo.bad_reports.contains(&(pod.slice, pod.attempt)) => {
            failed(AbstainReason::Storage)
        }
        PodEnd::Said(message) => match &message.abstain {
            Some(abstain) if passes(abstain.cause) => {
                failed(abstain_reason(message).unwrap_or(AbstainReason::Hardware))
            }
            Some(_) | None => PodPhase::Succeeded,
        },
        PodEnd::Lost { deadline: true } => failed(AbstainReason::TimeLimit),
        PodEnd::Lost { deadline: false } => failed(AbstainReason::Preempted),
    };
    PodView {
        slice: pod.slice,
        attempt: pod.attempt,
        phase,
    }
}

#[cfg(test)]
mod tests {
    use tradewind_gateway_api::slice::{Abstention, TerminationMessage};
    use tradewind_market::{UnitIndex, Units};

    use super::*;

    fn pod(end: PodEnd) -> SlicePodState {
        SlicePodState {
            name: "p".to_owned(),
            namespace: "pool".to_owned(),
            slice: SliceIndex::new(3),
            attempt: 1,
            series: 9,
            created: UnixSeconds::new(10),
            finished: UnixSeconds::new(20),
            leaving: false,
            end,
        }
    }

    fn gave_up(cause: AbstainCause) -> PodEnd {
        PodEnd::Said(TerminationMessage {
            first_unit: UnitIndex::new(0),
            units: Units::new(0),
            failed: Units::new(0),
            report: None,
            abstain: Some(Abstention::new(cause, None, "why")),
        })
    }

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_the_slices_end() {
        let memo = Memo::default();
        let at = UnixSeconds::new(20);
        for (end, phase) in [
            (PodEnd::Running, PodPhase::Running),
            (
                PodEnd::Lost { deadline: true },
                PodPhase::Failed {
                    cause: AbstainReason::TimeLimit,
                    at,
                },
            ),
            (
                PodEnd::Lost { deadline: false },
                PodPhase::Failed {
                    cause: AbstainReason::Preempted,
                    at,
                },
            ),
            (
                gave_up(AbstainCause::Node),
                PodPhase::Failed {
                    cause: AbstainReason::Hardware,
                    at,
                },
            ),
            (gave_up(AbstainCause::OutOfMemory), PodPhase::Succeeded),
        ] {
            assert_eq!(view(&pod(end.clone()), &memo).phase, phase, "{end:?}");
        }
    }
}
