//! When a job's status is written.
//!
//! Pure. A status that is equal but for times is not written, and progress is written seldom: what a user waits for (a
//! refusal, the money, the end) at once, the rest when a growing interval is over, so that a job costs its API server a
//! handful of writes however many units it has.

use std::time::Duration;

use tokio::time::Instant;
use tradewind_crds::{
    ComputeJobStatus,
    compute_job::{JobCondition, JobReason},
    condition::{Condition, ConditionStatus, Name as _},
};

/// Between a write and the next one for progress; doubled with every write for progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(20);
const PROGRESS_EVERY_MAX: Duration = Duration::from_mins(5);
/// How long a job may be on its way onto the chain before that is written. Mostly it is there sooner.
const UNDER_WAY_AFTER: Duration = Duration::from_secs(4);

/// When a status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// It says nothing new.
    Never,
    /// It is waited for, or must stand there before the next step.
    Now,
    /// The job is on its way onto the chain: worth a write if that takes long.
    UnderWay,
    /// A step is done, and another follows: when the shortest interval is over.
    Step,
    /// It is progress: when the growing interval is over.
    Progress,
}

/// Compares what is stored with what was derived. `pins` where what was stored for the job must stand in its status.
pub(crate) fn due(stored: Option<&ComputeJobStatus>, derived: &ComputeJobStatus, pins: bool) -> Due {
    let nothing = ComputeJobStatus::default();
    let stored = stored.unwrap_or(&nothing);
    if stored == derived {
        return Due::Never;
    }
    let opened = stored.opened_at.is_none() && derived.opened_at.is_some();
    let is_said = |verdict| verdicts(stored).contains(verdict);
    if opened || pins && stored.template != derived.template || !verdicts(derived).iter().all(is_said) {
        Due::Now
    } else if outline(stored) == outline(derived) {
        Due::Progress
    } else if derived.opened_at.is_none() {
        Due::UnderWay
    } else {
        Due::Step
    }
}

/// What a user waits for: a refusal, a wait that only a person ends, the end.
fn verdicts(status: &ComputeJobStatus) -> Vec<(&str, &str)> {
    use JobCondition as C;
    let is = |condition: &Condition, kind: C| condition.type_ == kind.as_str();
    let waited_for = |condition: &&Condition| match condition.status {
        ConditionStatus::True => is(condition, C::Complete) || is(condition, C::Failed),
        ConditionStatus::False => {
            is(condition, C::Accepted)
                || is(condition, C::Funded) && status.opened_at.is_none() && !is_under_way(&condition.reason)
                || is(condition, C::Funded) && condition.reason == JobReason::OfferLost.as_str()
        }
        ConditionStatus::Unknown => false,
    };
    let waited_for = status.conditions.iter().filter(waited_for);
    waited_for
        .map(|condition| (condition.type_.as_str(), condition.reason.as_str()))
        .collect()
}

/// Everything but numbers and texts.
fn outline(status: &ComputeJobStatus) -> Vec<(&str, ConditionStatus, Option<&str>)> {
    let before_money = status.opened_at.is_none();
    status
        .conditions
        .iter()
        .map(|condition| {
            let reason = before_money.then_some(condition.reason.as_str());
            (condition.type_.as_str(), condition.status, reason)
        })
        .collect()
}

/// Whether a job that is not on chain needs nothing but time.
pub(crate) fn is_under_way(reason: &str) -> bool {
    [
        JobReason::Depositing,
        JobReason::Opening,
        JobReason::Matching,
        JobReason::Uploading,
        JobReason::Waiting,
    ]
    .iter()
    .any(|under_way| under_way.as_str() == reason)
}

/// When a job's status was written, which spaces further writes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Writes {
    last: Option<Instant>,
    /// Writes for nothing but progress.
    for_progress: u32,
    /// Since when there is something to write.
    waiting: Option<Instant>,
}

impl Writes {
    /// Whether a status that is due so is written now.
    pub(crate) fn is_time(&mut self, due: Due, now: Instant) -> bool {
        if due == Due::Never {
            self.waiting = None;
            return false;
        }
        let waiting = *self.waiting.get_or_insert(now);
        let rested = |interval| self.last.is_none_or(|last| now.duration_since(last) >= interval);
        match due {
            Due::Never => false,
            Due::Now => true,
            Due::UnderWay => now.duration_since(waiting) >= UNDER_WAY_AFTER,
            Due::Step => rested(PROGRESS_EVERY),
            Due::Progress => rested(progress_interval(self.for_progress)),
        }
    }

    /// It was written.
    pub(crate) fn written(&mut self, due: Due, now: Instant) {
        self.last = Some(now);
        self.waiting = None;
        if due == Due::Progress {
            self.for_progress = self.for_progress.saturating_add(1);
        }
    }
}

/// How long after the last write progress waits, by how many writes for it there were.
fn progress_interval(writes: u32) -> Duration {
    PROGRESS_EVERY
        .saturating_mul(2_u32.saturating_pow(writes.min(8)))
        .min(PROGRESS_EVERY_MAX)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
    use tradewind_crds::{
        compute_job::StoredTemplate,
        condition::{Finding, set},
        scalar::{DigestText, HashText},
    };

    use super::*;
    use crate::consumer::status::{
        Stage,
        tests::{derived, object},
    };

    fn on_chain(mut status: ComputeJobStatus, found: &[(JobCondition, ConditionStatus)]) -> ComputeJobStatus {
        status.opened_at = Some(Time(Timestamp::from_second(1).unwrap()));
        for (condition, status_is) in found {
            let finding = Finding {
                condition: *condition,
                status: *status_is,
                reason: JobReason::Waiting,
                message: String::new(),
            };
            let now = Time(Timestamp::from_second(1).unwrap());
            set(&mut status.conditions, finding, None, &now);
        }
        status
    }

    #[test]
    fn what_a_user_waits_for_is_written_at_once_and_what_says_nothing_new_never() {
        let mut object = object();
        let before_money = |reason, message: &str| Stage::BeforeMoney(reason, message.into());
        let matching = derived(&object, before_money(JobReason::Matching, "looking"), 1);
        assert_eq!(
            matching.refusals[0].reason, "BondTooLow",
            "the most frequent refusal comes first"
        );
        assert_eq!(due(None, &matching, false), Due::UnderWay, "it may be over soon");

        object.status = Some(matching);
        let check = |stage: Stage, expected: Due| {
            let derived = derived(&object, stage.clone(), 9);
            assert_eq!(
                due(object.status.as_ref(), &derived, false),
                expected,
                "{stage:?}"
            );
        };
        check(before_money(JobReason::Matching, "looking"), Due::Never);
        check(before_money(JobReason::Matching, "looking again"), Due::Progress);
        check(before_money(JobReason::Opening, "on its way"), Due::UnderWay);
        check(before_money(JobReason::NoMatchingOffer, "none will do"), Due::Now);
        check(Stage::Refused(JobReason::SourceMissing, "gone".into()), Due::Now);
        check(Stage::Failed(JobReason::NotAgreed, "over".into()), Due::Now);
        check(Stage::Complete, Due::Now);
    }

    #[test]
    fn on_chain_steps_wait_less_than_numbers_and_the_opening_waits_for_nothing() {
        use ConditionStatus::{False, True};
        use JobCondition::{Running, Verified};
        let opening = derived(
            &object(),
            Stage::BeforeMoney(JobReason::Opening, "on its way".into()),
            1,
        );
        let running = on_chain(opening.clone(), &[(Running, True), (Verified, False)]);
        let verified = on_chain(running.clone(), &[(Running, False), (Verified, True)]);
        let mut further = running.clone();
        further.reason = Some("Executing".into());
        assert_eq!(due(Some(&opening), &running, false), Due::Now);
        assert_eq!(due(Some(&running), &verified, false), Due::Step);
        assert_eq!(due(Some(&running), &further, false), Due::Progress);
    }

    #[test]
    fn inputs_that_are_stored_are_pinned_at_once() {
        let mut stored = derived(
            &object(),
            Stage::BeforeMoney(JobReason::Uploading, "storing".into()),
            1,
        );
        stored.template = None;
        let mut pinned = stored.clone();
        pinned.template = Some(StoredTemplate {
            blob: DigestText(format!("blake3:{}", "44".repeat(32))),
            digest: HashText(format!("0x{}", "55".repeat(32))),
            inputs: Vec::new(),
        });
        assert_eq!(due(Some(&stored), &pinned, true), Due::Now);
        assert_eq!(due(Some(&stored), &pinned, false), Due::Progress);
    }

    #[test]
    fn progress_is_written_less_and_less_often() {
        let start = Instant::now();
        let seconds = Duration::from_secs;
        let mut writes = Writes::default();
        let mut check = |due: Due, at: u64, expected: bool| {
            let now = start + seconds(at);
            assert_eq!(writes.is_time(due, now), expected, "{due:?} at {at} s");
            if expected {
                writes.written(due, now);
            }
        };
        check(Due::UnderWay, 0, false);
        check(Due::UnderWay, 1, false);
        check(Due::Now, 1, true);
        check(Due::UnderWay, 2, false);
        check(Due::UnderWay, 5, false);
        check(Due::UnderWay, 6, true);
        check(Due::Progress, 25, false);
        check(Due::Progress, 26, true);
        check(Due::Progress, 65, false);
        check(Due::Step, 65, true);
        check(Due::Progress, 104, false);
        check(Due::Progress, 105, true);
        check(Due::Never, 1000, false);
        assert_eq!(progress_interval(60), PROGRESS_EVERY_MAX);
    }
}
