//! The only writer of ComputeLease statuses. Nothing is written that says only a newer time, and seldom anything
//! before the last.

use std::{collections::BTreeMap, time::Instant};

use jiff::Timestamp;
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tradewind_crds::{
    ComputeLease, ComputeLeaseStatus,
    compute_lease::{
        GroupsInState, LeaseCondition, LeasePhase, LeaseReason, LeaseUnits, SeatState, StoredReport,
    },
    condition::{self, ConditionStatus, Finding},
    scalar::{AmountText, IndexesText},
};
use tradewind_gateway_api::slice::ReportRef;
use tradewind_market::{
    Address, Decimals, GroupIndex, GroupSet, SliceIndex, SliceSet, TokenAmount, UnixSeconds,
    index::{GroupRecord, Job, SeatRecord},
    message::AbstainReason,
    plan::provider::{Delivery, PodPhase, PodView, ProviderStep, ProviderWait},
    state::{GroupState, JobState, SeatState as Seat, SeatVerdict},
};
use tradewind_result::ContentDigest;

use super::{Leases, awards::digest, memo::Memo};
use crate::{provider::ProviderError, shell::events::Telling};

const KIND: &str = "ComputeLease";
const FIELD_MANAGER: &str = "tradewind-operator";
/// The schema's bound.
const REPORTS_MAX: usize = 2048;

/// What a status is made from.
pub(crate) struct Standing<'a> {
    /// The job at the newest block.
    pub(crate) job: &'a Job<'a>,
    pub(crate) pods: &'a [PodView],
    pub(crate) plan: &'a [ProviderStep],
    pub(crate) decimals: Option<Decimals>,
}

/// The reports that a status keeps.
pub(crate) fn stored_reports(status: Option<&ComputeLeaseStatus>) -> BTreeMap<SliceIndex, ReportRef> {
    let reports = status.map(|status| status.reports.as_slice()).unwrap_or_default();
    reports
        .iter()
        .filter_map(|report| {
            let at = ReportRef {
                blob: parse(&report.blob.0)?,
                stored_bytes: 0,
                digest: parse(&report.digest.0)?,
            };
            Some((SliceIndex::new(report.slice), at))
        })
        .collect()
}

fn parse(text: &str) -> Option<ContentDigest> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.strip_prefix("blake3:")?, &mut bytes).ok()?;
    Some(ContentDigest::from_bytes(bytes))
}

/// What has become of one seat.
pub(crate) fn seat_state(
    group: GroupIndex,
    record: &GroupRecord,
    seat: &SeatRecord,
    slices: &[SliceIndex],
    pods: &[PodView],
    memo: &Memo,
) -> SeatState {
    match &seat.state {
        Seat::Awarded if record.state == GroupState::Refunded => SeatState::Released,
        Seat::Awarded if memo.groups.contains_key(&group) => SeatState::Executed,
        Seat::Awarded if pods.iter().any(|pod| slices.contains(&pod.slice)) => SeatState::Running,
        Seat::Awarded => SeatState::Awarded,
        Seat::Committed { .. } => SeatState::Committed,
        Seat::Abstained { .. } => SeatState::Abstained,
        Seat::Opened { opening } if opening.stored.is_none() => SeatState::Revealed,
        Seat::Opened { .. } => SeatState::Stored,
        Seat::Judged { verdict, .. } | Seat::Settled { verdict, .. } => match verdict {
            SeatVerdict::Abstained => SeatState::Abstained,
            SeatVerdict::NoShow => SeatState::NoShow,
            SeatVerdict::Agreed => SeatState::Agreed,
            SeatVerdict::Unstored => SeatState::Unstored,
            SeatVerdict::Dissent => SeatState::Dissent,
            SeatVerdict::Excused => SeatState::Excused,
            SeatVerdict::Unresolved => SeatState::Unresolved,
        },
    }
}

/// Where the lease is, by its seats.
fn phase(states: &BTreeMap<SeatState, GroupSet>, finished: bool) -> LeasePhase {
    let any = |wanted: &[SeatState]| wanted.iter().any(|state| states.contains_key(state));
    if finished {
        LeasePhase::Closed
    } else if any(&[SeatState::Running]) {
        LeasePhase::Running
    } else if any(&[SeatState::Awarded]) {
        LeasePhase::Preparing
    } else if any(&[SeatState::Executed, SeatState::Committed, SeatState::Revealed]) {
        LeasePhase::Delivering
    } else {
        LeasePhase::Waiting
    }
}

/// The reason of the first thing that is not done, and its words.
fn reason(plan: &[ProviderStep], pods: &[PodView], memo: &Memo) -> (LeaseReason, String) {
    if let Some(unusable) = &memo.unusable {
        return (LeaseReason::TemplateMismatch, unusable.to_string());
    }
    if plan.contains(&ProviderStep::FetchBundle) {
        return (
            LeaseReason::BundleMissing,
            "the buyer has not published the job's bundle with a key for us".into(),
        );
    }
    let no_image = pods.iter().any(|pod| {
        matches!(
            pod.phase,
            PodPhase::Pending {
                cause: AbstainReason::Image
            }
        )
    });
    if no_image {
        return (
            LeaseReason::ImageUnavailable,
            "the job's image cannot be pulled".into(),
        );
    }
    for step in plan {
        let found = match step {
            ProviderStep::Commit {
                by: Delivery::Relay, ..
            }
            | ProviderStep::Reveal {
                by: Delivery::Relay, ..
            } => (
                LeaseReason::Relaying,
                "messages are posted for the buyer to relay",
            ),
            ProviderStep::Commit {
                by: Delivery::Direct, ..
            }
            | ProviderStep::Reveal {
                by: Delivery::Direct, ..
            }
            | ProviderStep::Judge { .. }
            | ProviderStep::Settle { .. }
            | ProviderStep::CloseGroups { .. } => (
                LeaseReason::SendingDirectly,
                "the buyer is late, so the operator sends by itself",
            ),
            ProviderStep::Abstain { .. } => (LeaseReason::Abstained, "seats are given back"),
            ProviderStep::PublishIndex { .. } | ProviderStep::RequestReceipt { .. } => (
                LeaseReason::Storing,
                "results are being stored and receipts collected",
            ),
            ProviderStep::CreatePod { .. } => (LeaseReason::Executing, "pods are being started"),
            ProviderStep::Finish => (LeaseReason::Done, "every seat has ended"),
            ProviderStep::DeletePod { .. } | ProviderStep::FetchBundle => continue,
            ProviderStep::Wait { reason, .. } => wait_reason(*reason),
        };
        return (found.0, found.1.to_owned());
    }
    (LeaseReason::Waiting, "waits for the condition before".to_owned())
}

fn wait_reason(wait: ProviderWait) -> (LeaseReason, &'static str) {
    match wait {
        ProviderWait::ChainUnknown => (LeaseReason::ChainUnavailable, "the chain cannot be read, or lags"),
        ProviderWait::MaterialsUnknown => (
            LeaseReason::GatewayUnavailable,
            "no gateway gives bundle and template",
        ),
        ProviderWait::SlotsTaken => (LeaseReason::NoRoom, "all slots of the offer are taken"),
        ProviderWait::ResultsUnknown => (LeaseReason::GatewayUnavailable, "reports are being read again"),
        ProviderWait::PodsWork | ProviderWait::Backoff | ProviderWait::PodsUnknown => {
            (LeaseReason::Executing, "pods are at work")
        }
        ProviderWait::Storing => (
            LeaseReason::Storing,
            "waits for a gateway to sign that it stores the results",
        ),
        ProviderWait::Relay => (LeaseReason::Relaying, "messages wait for the buyer to relay them"),
        ProviderWait::Finality => (LeaseReason::Waiting, "waits until the chain is final"),
        ProviderWait::NotSealed => (LeaseReason::Waiting, "waits for the buyer to seal the groups"),
        ProviderWait::OthersWork => (LeaseReason::Waiting, "waits for the other seats"),
        ProviderWait::Revealing => (
            LeaseReason::Storing,
            "results are being stored and receipts collected",
        ),
        ProviderWait::Settlement => (LeaseReason::Waiting, "waits to be judged and settled"),
    }
}

impl Leases {
    /// Logs, tells and counts what changed, and writes the status where it is due.
    pub(crate) async fn write_status(
        &self,
        lease: &ComputeLease,
        standing: &Standing<'_>,
        memo: &mut Memo,
    ) -> Result<(), ProviderError> {
        let finished = standing.plan.contains(&ProviderStep::Finish);
        let states = self.states(standing, memo);
        let mut told = Vec::new();
        let stored = lease.status.clone().unwrap_or_default();
        let before = memo.derived.take().unwrap_or_else(|| stored.clone());
        let derived = derive(
            self.context.account(),
            lease,
            &before,
            standing,
            &states,
            memo,
            finished,
            &mut told,
        );
        self.tell(lease, told).await;
        memo.derived = Some(derived.clone());
        let due = memo
            .written
            .is_none_or(|at| at.elapsed() >= self.context.args.provider.lease.lease_status_every);
        if derived == stored || !(finished || due) {
            return Ok(());
        }
        let api: Api<ComputeLease> =
            Api::namespaced(self.context.client.clone(), &self.context.args.namespace);
        let patch = json!({"apiVersion": ComputeLease::api_version(&()), "kind": KIND, "status": derived});
        let written = api
            .patch_status(
                &lease.name_any(),
                &PatchParams::apply(FIELD_MANAGER).force(),
                &Patch::Apply(patch),
            )
            .await
            .map_err(ProviderError::kubernetes("write the status of a lease"))?;
        memo.written = Some(Instant::now());
        memo.lease = Some(written);
        self.context
            .metrics
            .status_writes
            .with_label_values(&[KIND])
            .inc();
        Ok(())
    }

    /// Whatever was found is counted; what is reached, and what somebody may have to see to, is an Event.
    async fn tell(&self, lease: &ComputeLease, findings: Vec<Finding<LeaseCondition>>) {
        let reference = lease.object_ref(&());
        for finding in findings {
            let reason = condition::Name::as_str(finding.reason);
            let status = match finding.status {
                ConditionStatus::True => "True",
                ConditionStatus::False => "False",
                ConditionStatus::Unknown => "Unknown",
            };
            self.context
                .metrics
                .findings
                .with_label_values(&[KIND, condition::Name::as_str(finding.condition), status, reason])
                .inc();
            let warning = finding.status == ConditionStatus::False && is_warning(finding.reason);
            if !warning && finding.status != ConditionStatus::True {
                continue;
            }
            let telling = Telling {
                warning,
                action: "Lease",
                reason,
                note: finding.message,
            };
            self.context.events.tell(&reference, telling).await;
        }
    }

    /// What has become of each seat; says what changed since the last look.
    fn states(&self, standing: &Standing<'_>, memo: &mut Memo) -> BTreeMap<SeatState, GroupSet> {
        let mut states: BTreeMap<SeatState, GroupSet> = BTreeMap::new();
        let job = standing.job;
        for (group, _, seat, record) in job.seats_of(self.context.account()) {
            let slices: Vec<_> = job.terms.shape.group_slices(group).collect();
            let state = seat_state(group, record, seat, &slices, standing.pods, memo);
            states.entry(state).or_default().insert(group);
            if memo.told.insert(group, state) != Some(state) {
                tracing::info!(job = %job.id, %group, ?state, "a seat's state");
            }
        }
        for step in standing.plan {
            if let ProviderStep::Wait { reason, until } = step
                && memo.waiting.replace(*reason) != Some(*reason)
            {
                tracing::info!(job = %job.id, ?reason, until = until.map(UnixSeconds::get), "waiting");
            }
        }
        states
    }
}

fn is_warning(reason: LeaseReason) -> bool {
    matches!(
        reason,
        LeaseReason::TemplateMismatch
            | LeaseReason::TermsExceeded
            | LeaseReason::ImageUnavailable
            | LeaseReason::InputsUnavailable
            | LeaseReason::LimitHit
            | LeaseReason::Abstained
            | LeaseReason::TooLate
            | LeaseReason::Unwound
    )
}

#[expect(
    clippy::too_many_arguments,
    reason = "a status is made from everything that is known"
)]
fn derive(
    account: Address,
    lease: &ComputeLease,
    before: &ComputeLeaseStatus,
    standing: &Standing<'_>,
    states: &BTreeMap<SeatState, GroupSet>,
    memo: &Memo,
    finished: bool,
    told: &mut Vec<Finding<LeaseCondition>>,
) -> ComputeLeaseStatus {
    let now = condition::moment(Timestamp::now());
    let generation = lease.metadata.generation;
    let (reason, message) = reason(standing.plan, standing.pods, memo);
    let mut conditions = before.conditions.clone();
    for finding in findings(standing.job, states, finished, memo, reason, &message) {
        if condition::set(&mut conditions, finding.clone(), generation, &now) {
            told.push(finding);
        }
    }
    condition::carry_times(&before.conditions, &mut conditions);
    let active = |pod: &&PodView| matches!(pod.phase, PodPhase::Pending { .. } | PodPhase::Running);
    ComputeLeaseStatus {
        observed_generation: generation,
        phase: Some(phase(states, finished)),
        reason: Some(condition::Name::as_str(reason).to_owned()),
        conditions,
        groups: states
            .iter()
            .map(|(state, groups)| GroupsInState {
                state: *state,
                groups: IndexesText(groups.to_string()),
            })
            .collect(),
        units: Some(units(account, standing.job, states, memo)),
        reports: if finished {
            Vec::new()
        } else {
            reports(before, states, memo, standing.job)
        },
        pods: u32::try_from(standing.pods.iter().filter(active).count()).unwrap_or(u32::MAX),
        earned: standing
            .decimals
            .map(|decimals| AmountText(earned(account, standing.job).to_decimal(decimals))),
    }
}

fn findings(
    job: &Job<'_>,
    states: &BTreeMap<SeatState, GroupSet>,
    finished: bool,
    memo: &Memo,
    reason: LeaseReason,
    message: &str,
) -> Vec<Finding<LeaseCondition>> {
    let any = |wanted: &[SeatState]| wanted.iter().any(|state| states.contains_key(state));
    let before_execution = any(&[SeatState::Awarded, SeatState::Running]);
    let before_commit = before_execution || any(&[SeatState::Executed]);
    let before_reveal = before_commit || any(&[SeatState::Committed, SeatState::Revealed]);
    let reached = [
        (
            LeaseCondition::Prepared,
            memo.materials.is_some() || !any(&[SeatState::Awarded]),
        ),
        (LeaseCondition::Executed, !before_execution),
        (LeaseCondition::Committed, !before_commit),
        (LeaseCondition::Revealed, !before_reveal),
        (LeaseCondition::Closed, finished),
    ];
    let lost = if any(&[SeatState::NoShow]) {
        Some(LeaseReason::TooLate)
    } else if any(&[SeatState::Abstained]) {
        Some(LeaseReason::Abstained)
    } else if matches!(job.state, JobState::Cancelling { .. }) {
        Some(LeaseReason::Cancelled)
    } else {
        None
    };
    let mut first_open = true;
    reached
        .into_iter()
        .map(|(condition, holds)| {
            if holds {
                let reason = match condition {
                    LeaseCondition::Prepared => LeaseReason::Ready,
                    LeaseCondition::Executed
                    | LeaseCondition::Committed
                    | LeaseCondition::Revealed
                    | LeaseCondition::Closed => lost.unwrap_or(LeaseReason::Done),
                };
                let message = match condition {
                    LeaseCondition::Prepared => "template and key are there",
                    LeaseCondition::Executed => "every unit is executed, or its seat is given back",
                    LeaseCondition::Committed => "every commitment is on chain",
                    LeaseCondition::Revealed => "every result is shown and stored",
                    LeaseCondition::Closed => "every seat has ended, and pods and secrets are gone",
                };
                let message = message.to_owned();
                return Finding {
                    condition,
                    status: ConditionStatus::True,
                    reason,
                    message,
                };
            }
            let (reason, message) = if std::mem::take(&mut first_open) {
                (reason, message.to_owned())
            } else {
                (LeaseReason::Waiting, "waits for the condition before".to_owned())
            };
            Finding {
                condition,
                status: ConditionStatus::False,
                reason,
                message,
            }
        })
        .collect()
}

fn units(account: Address, job: &Job<'_>, states: &BTreeMap<SeatState, GroupSet>, memo: &Memo) -> LeaseUnits {
    let done_states = [
        SeatState::Executed,
        SeatState::Committed,
        SeatState::Revealed,
        SeatState::Stored,
        SeatState::Agreed,
        SeatState::Unstored,
        SeatState::Dissent,
        SeatState::Unresolved,
    ];
    let (mut awarded, mut done, mut slices) = (0_u32, 0_u32, SliceSet::new());
    for (group, ..) in job.seats_of(account) {
        let all = done_states
            .iter()
            .any(|state| states.get(state).is_some_and(|groups| groups.contains(group)));
        for slice in job.terms.shape.group_slices(group) {
            let units = job
                .terms
                .shape
                .slice_units(slice)
                .map_or(0, |range| range.count.get());
            awarded = awarded.saturating_add(units);
            if all || memo.reports.contains_key(&slice) {
                done = done.saturating_add(units);
                slices.insert(slice);
            }
        }
    }
    LeaseUnits {
        awarded,
        done,
        summary: format!("{done}/{awarded}"),
        done_slices: IndexesText(slices.to_string()),
    }
}

/// Reports are kept until their group's result is shown and stored.
fn reports(
    stored: &ComputeLeaseStatus,
    states: &BTreeMap<SeatState, GroupSet>,
    memo: &Memo,
    job: &Job<'_>,
) -> Vec<StoredReport> {
    let needed = [
        SeatState::Awarded,
        SeatState::Running,
        SeatState::Executed,
        SeatState::Committed,
        SeatState::Revealed,
    ];
    let is_needed = |slice: SliceIndex| {
        job.terms.shape.group_of_slice(slice).is_some_and(|group| {
            needed
                .iter()
                .any(|state| states.get(state).is_some_and(|groups| groups.contains(group)))
        })
    };
    let mut all = stored_reports(Some(stored));
    all.extend(memo.reports.iter().map(|(slice, (at, _))| (*slice, *at)));
    let reports = all.into_iter().filter(|(slice, _)| is_needed(*slice));
    let reports = reports.map(|(slice, at)| StoredReport {
        slice: slice.get(),
        blob: digest(at.blob),
        digest: digest(at.digest),
    });
    reports.take(REPORTS_MAX).collect()
}

fn earned(account: Address, job: &Job<'_>) -> TokenAmount {
    let paid = job.seats_of(account).map(|(_, _, seat, _)| match &seat.state {
        Seat::Settled { payout, .. } => payout.paid,
        Seat::Awarded
        | Seat::Committed { .. }
        | Seat::Abstained { .. }
        | Seat::Opened { .. }
        | Seat::Judged { .. } => TokenAmount::ZERO,
    });
    TokenAmount::checked_sum(paid).unwrap_or(TokenAmount::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(states: &[SeatState], finished: bool, want: LeasePhase) {
        let states = states.iter().map(|state| (*state, GroupSet::new())).collect();
        assert_eq!(phase(&states, finished), want);
    }

    #[test]
    fn the_phase_is_that_of_the_seat_that_is_furthest_behind() {
        check(
            &[SeatState::Awarded, SeatState::Agreed],
            false,
            LeasePhase::Preparing,
        );
        check(
            &[SeatState::Awarded, SeatState::Running],
            false,
            LeasePhase::Running,
        );
        check(
            &[SeatState::Executed, SeatState::Stored],
            false,
            LeasePhase::Delivering,
        );
        check(
            &[SeatState::Stored, SeatState::Agreed],
            false,
            LeasePhase::Waiting,
        );
        check(&[SeatState::Agreed], true, LeasePhase::Closed);
    }

    #[test]
    fn reports_in_a_status_are_found_again() {
        let at = ReportRef {
            blob: ContentDigest::from_bytes([3; 32]),
            stored_bytes: 0,
            digest: ContentDigest::from_bytes([4; 32]),
        };
        let status = ComputeLeaseStatus {
            reports: vec![StoredReport {
                slice: 5,
                blob: digest(at.blob),
                digest: digest(at.digest),
            }],
            ..ComputeLeaseStatus::default()
        };
        assert_eq!(stored_reports(Some(&status)), [(SliceIndex::new(5), at)].into());
    }
}
