//! What of a job's status is told as it is found: which changes are Events, and which are counted.
//!
//! Pure. A refusal, a wait and a step each are told once, with the reason that the condition carries; progress within
//! a step is not.

use tradewind_crds::{
    ComputeJobStatus,
    compute_job::{JobCondition, JobReason},
    condition::{Condition, ConditionStatus, Name, find},
};

use super::{KIND, due::is_under_way};
use crate::shell::events::Telling;

/// What is new since `before`, in the order of the conditions.
pub(crate) fn of(before: Option<&ComputeJobStatus>, derived: &ComputeJobStatus) -> Vec<Telling> {
    let news = JobCondition::ALL.iter().filter_map(|kind| {
        let found = find(&derived.conditions, *kind)?;
        let old = before.and_then(|before| find(&before.conditions, *kind));
        let telling = tell(*kind, found, derived.opened_at.is_some())?;
        let is_new = old.is_none_or(|old| (old.status, &old.reason) != (found.status, &found.reason));
        // What a refusal or a wait names may change while its reason stays.
        let says_more = telling.warning && old.is_some_and(|old| old.message != found.message);
        (is_new || says_more).then_some(telling)
    });
    news.collect()
}

/// Labels of `tradewind_findings_total` for each condition whose status or reason changed.
pub(crate) fn changes<'s>(
    before: Option<&ComputeJobStatus>,
    derived: &'s ComputeJobStatus,
) -> impl Iterator<Item = [&'s str; 4]> {
    let old = before.map(|before| before.conditions.clone()).unwrap_or_default();
    derived.conditions.iter().filter_map(move |condition| {
        let old = old.iter().find(|old| old.type_ == condition.type_);
        let changed =
            old.is_none_or(|old| (old.status, &old.reason) != (condition.status, &condition.reason));
        let status = match condition.status {
            ConditionStatus::True => "True",
            ConditionStatus::False => "False",
            ConditionStatus::Unknown => "Unknown",
        };
        changed.then_some([KIND, condition.type_.as_str(), status, condition.reason.as_str()])
    })
}

/// How a condition is told, if it is.
fn tell(kind: JobCondition, found: &Condition, on_chain: bool) -> Option<Telling> {
    use ConditionStatus::{False, True, Unknown};
    use JobCondition as C;
    let (action, warning) = match (kind, found.status) {
        (C::Accepted, False) => ("Accept", true),
        (C::Funded, True) => ("Place", false),
        // Someone else was quicker: the money is there, and seats are looked for again.
        (C::Funded, False) if found.reason == JobReason::OfferLost.as_str() => ("Place", true),
        (C::Funded, False) if on_chain || is_under_way(&found.reason) => {
            let told = [JobReason::Opening, JobReason::Canary];
            if !told.iter().any(|reason| reason.as_str() == found.reason) {
                return None;
            }
            ("Place", false)
        }
        (C::Funded, False) => ("Place", true),
        (C::Running, True) => ("Run", false),
        (C::Verified, True) => ("Verify", false),
        (C::Verified, False) if found.reason == JobReason::NotAgreed.as_str() => ("Verify", true),
        (C::Settled, True) => ("Settle", false),
        (C::Settled, False) if found.reason == JobReason::Settling.as_str() => ("Settle", false),
        (C::Complete, True) => ("Finish", false),
        // Something besides the chain is in the way.
        (C::Complete, False) if !is_under_way(&found.reason) => ("Finish", true),
        (C::Failed, True) => ("Finish", true),
        (C::Accepted, True)
        | (C::Running | C::Verified | C::Settled | C::Complete | C::Failed, False)
        | (_, Unknown) => return None,
    };
    Some(Telling {
        warning,
        action,
        reason: named(&found.reason),
        note: found.message.clone(),
    })
}

/// A reason's name as a static text, for a closed set of words.
fn named(text: &str) -> &'static str {
    JobReason::ALL
        .iter()
        .map(|reason| reason.as_str())
        .find(|name| *name == text)
        .unwrap_or("Unknown")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
    use tradewind_crds::condition::{Finding, set};

    use super::*;

    type Found<'a> = (JobCondition, ConditionStatus, JobReason, &'a str);

    fn status(opened: bool, found: &[Found<'_>]) -> ComputeJobStatus {
        let now = Time(Timestamp::from_second(1).unwrap());
        let mut status = ComputeJobStatus {
            opened_at: opened.then(|| now.clone()),
            ..ComputeJobStatus::default()
        };
        for (condition, holds, reason, message) in found {
            let finding = Finding {
                condition: *condition,
                status: *holds,
                reason: *reason,
                message: (*message).to_owned(),
            };
            set(&mut status.conditions, finding, None, &now);
        }
        status
    }

    /// Told as `action reason`, with `!` before a warning.
    fn check(before: Option<&ComputeJobStatus>, derived: &ComputeJobStatus, expected: &[&str]) {
        let told = of(before, derived);
        let told: Vec<String> = told
            .iter()
            .map(|told| {
                let warning = if told.warning { "!" } else { "" };
                format!("{warning}{} {}", told.action, told.reason)
            })
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn each_refusal_wait_and_step_is_told_once() {
        use ConditionStatus::{False, True};
        use JobCondition as C;
        use JobReason as R;
        let accepted = (C::Accepted, True, R::Valid, "");
        let refused = status(false, &[(C::Accepted, False, R::SourceMissing, "no map")]);
        check(None, &refused, &["!Accept SourceMissing"]);
        check(Some(&refused), &refused, &[]);
        let otherwise = status(false, &[(C::Accepted, False, R::SourceMissing, "no claim")]);
        check(Some(&refused), &otherwise, &["!Accept SourceMissing"]);

        let matching = status(false, &[accepted, (C::Funded, False, R::Matching, "")]);
        check(None, &matching, &[]);
        let waiting = status(false, &[accepted, (C::Funded, False, R::NoMatchingOffer, "")]);
        check(Some(&matching), &waiting, &["!Place NoMatchingOffer"]);
        let opening = status(false, &[accepted, (C::Funded, False, R::Opening, "")]);
        check(Some(&waiting), &opening, &["Place Opening"]);

        let running = [
            accepted,
            (C::Funded, True, R::Funded, ""),
            (C::Running, True, R::Executing, "2 of 4"),
            (C::Verified, False, R::Waiting, ""),
        ];
        let at_work = status(true, &running);
        check(Some(&opening), &at_work, &["Place Funded", "Run Executing"]);
        let further = status(true, &[(C::Running, True, R::Executing, "1 of 4")]);
        check(Some(&at_work), &further, &[]);

        // All that happened between two looks is told.
        let over = [
            accepted,
            (C::Funded, True, R::Funded, ""),
            (C::Running, False, R::AllCommitted, ""),
            (C::Verified, True, R::Agreed, ""),
            (C::Settled, True, R::Settled, ""),
            (C::Complete, True, R::Done, ""),
        ];
        let told = ["Verify Agreed", "Settle Settled", "Finish Done"];
        check(Some(&at_work), &status(true, &over), &told);

        let lost = [(C::Funded, False, R::OfferLost, "1 of 2 groups")];
        check(Some(&at_work), &status(true, &lost), &["!Place OfferLost"]);
        let blocked = [(C::Complete, False, R::GatewayUnavailable, "no answer")];
        check(
            Some(&at_work),
            &status(true, &blocked),
            &["!Finish GatewayUnavailable"],
        );
        let failed = [
            (C::Verified, False, R::NotAgreed, ""),
            (C::Failed, True, R::NotAgreed, ""),
        ];
        check(
            Some(&at_work),
            &status(true, &failed),
            &["!Verify NotAgreed", "!Finish NotAgreed"],
        );
    }

    #[test]
    fn a_change_of_reason_is_counted_and_a_change_of_words_is_not() {
        use ConditionStatus::False;
        use JobCondition::Funded;
        let matching = status(false, &[(Funded, False, JobReason::Matching, "looking")]);
        let again = status(false, &[(Funded, False, JobReason::Matching, "looking again")]);
        let waiting = status(false, &[(Funded, False, JobReason::NoOffers, "none")]);
        assert_eq!(changes(None, &matching).count(), 1);
        assert_eq!(changes(Some(&matching), &again).count(), 0);
        let counted: Vec<_> = changes(Some(&matching), &waiting).collect();
        assert_eq!(counted, [[KIND, "Funded", "False", "NoOffers"]]);
    }
}
