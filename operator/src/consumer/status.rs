//! The status of a job, derived afresh from what is known at each pass.
//!
//! Pure. Whether and when it is written is [`super::due`]'s to say: what is not written at once keeps the time at
//! which it was found.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use tradewind_crds::{
    ComputeJob, ComputeJobStatus, MarketRef,
    compute_job::{
        Cost, Division, JobCondition, JobPhase, JobProvider, JobReason, RefusalCount, StoredTemplate,
        UnitCounts,
    },
    condition::{Condition, ConditionStatus, Finding, carry_times, find, is_true, moment, set},
    scalar::{AddressText, AmountText, HashText, IndexesText},
};
use tradewind_market::{
    Address, Decimals, TokenAmount, UnitSet,
    index::{Job, SeatRecord},
    state::{GroupState, JobState, SeatState, SeatVerdict},
};

/// The schema's bound on providers in a status.
const PROVIDERS_MAX: usize = 64;
/// The schema's bound on kinds of refusals.
const REFUSALS_MAX: usize = 32;

/// What keeps a job from going on, or where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The spec cannot be carried out as things are.
    Refused(JobReason, String),
    /// Accepted; the money is not bound yet, for this reason.
    BeforeMoney(JobReason, String),
    /// On chain: the chain says where it is. A reason where something besides it is in the way.
    OnChain(Option<(JobReason, String)>),
    /// Over, well: everything is agreed on, paid and delivered.
    Complete,
    /// Over, otherwise.
    Failed(JobReason, String),
}

/// Everything that a status is derived from.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// The object.
    pub(crate) object: &'a ComputeJob,
    /// The status as it was derived last, or else as it is stored.
    pub(crate) before: Option<&'a ComputeJobStatus>,
    /// Its id on chain.
    pub(crate) job_id: HashText,
    /// The market.
    pub(crate) market: MarketRef,
    /// Where it is.
    pub(crate) stage: Stage,
    /// The image as pinned.
    pub(crate) image: Option<String>,
    /// The template as stored.
    pub(crate) template: Option<StoredTemplate>,
    /// How it is divided.
    pub(crate) division: Option<Division>,
    /// The job on chain, as of the newest block.
    pub(crate) chain: Option<Job<'a>>,
    /// The token's decimals, where they are known.
    pub(crate) decimals: Option<Decimals>,
    /// Region and class by provider, where offers tell.
    pub(crate) descriptions: &'a BTreeMap<Address, (String, String)>,
    /// Offers passed over at the last match, by reason.
    pub(crate) refusals: Vec<(String, u32)>,
    /// Units whose outputs are where the job wants them.
    pub(crate) delivered: &'a UnitSet,
    /// Agreed units that exited with a code other than 0.
    pub(crate) exited_badly: &'a UnitSet,
    /// Now.
    pub(crate) now: Timestamp,
}

/// The status that the facts give, with the transition times of the one before where nothing changed.
pub(crate) fn derive(facts: Facts<'_>) -> ComputeJobStatus {
    let before = facts.before.cloned().unwrap_or_default();
    let generation = facts.object.metadata.generation;
    let now = moment(facts.now);
    let census = facts.chain.map(Census::of);
    let mut conditions = before.conditions.clone();
    for finding in findings(&facts, census.as_ref()) {
        set(&mut conditions, finding, generation, &now);
    }
    carry_times(&before.conditions, &mut conditions);
    let (phase, deciding) = phase(&facts, &conditions);
    let ended = matches!(phase, JobPhase::Complete | JobPhase::Failed);
    ComputeJobStatus {
        observed_generation: generation,
        phase: Some(phase),
        reason: deciding.map(|condition| condition.reason.clone()),
        message: deciding.map(|condition| condition.message.clone()),
        job_id: Some(facts.job_id.clone()),
        market: Some(facts.market.clone()),
        image: facts.image.clone().or(before.image),
        template: facts.template.clone().or(before.template),
        division: facts.division.or(before.division),
        units: census
            .as_ref()
            .map(|census| census.units(&facts))
            .or(before.units),
        providers: census
            .as_ref()
            .map_or(before.providers, |census| census.providers(&facts)),
        cost: facts
            .chain
            .zip(facts.decimals)
            .map(|(job, decimals)| cost(&job, decimals))
            .or(before.cost),
        refusals: if facts.refusals.is_empty() && facts.chain.is_some() {
            Vec::new()
        } else {
            refusals(facts.refusals)
        },
        opened_at: before
            .opened_at
            .or_else(|| facts.chain.is_some().then(|| now.clone())),
        finished_at: before.finished_at.or_else(|| ended.then_some(now)),
        conditions,
    }
}

/// The groups of a job, counted.
#[derive(Debug, Default)]
struct Census {
    total: u32,
    groups: u32,
    unsealed: u32,
    running: u32,
    revealing: u32,
    agreed_groups: u32,
    lost_groups: u32,
    ended: bool,
    cancelling: bool,
    units_running: u32,
    units_committed: u32,
    units_disputed: u32,
    agreed: UnitSet,
    providers: BTreeMap<Address, JobProviderCounts>,
}

#[derive(Debug, Default)]
struct JobProviderCounts {
    seats: u32,
    agreed: u32,
    dissented: u32,
    abstained: u32,
    no_show: u32,
}

impl Census {
    fn of(job: Job<'_>) -> Self {
        let shape = &job.terms.shape;
        let mut census = Self {
            total: shape.units.get(),
            groups: job.groups,
            ..Self::default()
        };
        match job.state {
            JobState::Open => {}
            JobState::Cancelling { .. } => census.cancelling = true,
            JobState::Ended { .. } => census.ended = true,
        }
        for (index, group) in job.groups() {
            let Some(range) = shape.group_units(index) else {
                continue;
            };
            let units = range.count.get();
            let spoke = |seat: &&SeatRecord| {
                seat.state.opening().is_some() || matches!(seat.state, SeatState::Committed { .. })
            };
            let commits = group.seats.iter().filter(spoke).count();
            let has_quorum = commits >= usize::from(job.terms.redundancy.quorum);
            let sealed = !matches!(group.state, GroupState::Filling);
            if sealed && has_quorum {
                census.units_committed = census.units_committed.saturating_add(units);
            }
            match group.state {
                GroupState::Filling => census.unsealed += 1,
                GroupState::Running { .. } => {
                    census.running += 1;
                    if !has_quorum {
                        census.units_running = census.units_running.saturating_add(units);
                    }
                }
                GroupState::Revealing { .. } => census.revealing += 1,
                GroupState::Agreed { .. } | GroupState::Credited { .. } => {
                    census.agreed_groups += 1;
                    census.agreed = census.agreed.union(&range.to_set());
                }
                GroupState::Contested { .. }
                | GroupState::Refunding
                | GroupState::Inconclusive
                | GroupState::Refunded => {
                    census.lost_groups += 1;
                    census.units_disputed = census.units_disputed.saturating_add(units);
                }
            }
            for seat in &group.seats {
                census
                    .providers
                    .entry(seat.provider)
                    .or_default()
                    .count(&seat.state);
            }
        }
        census
    }

    fn units(&self, facts: &Facts<'_>) -> UnitCounts {
        let agreed = u32::try_from(self.agreed.count()).unwrap_or(u32::MAX);
        UnitCounts {
            total: self.total,
            running: self.units_running,
            committed: self.units_committed,
            agreed,
            disputed: self.units_disputed,
            delivered: u32::try_from(facts.delivered.count()).unwrap_or(u32::MAX),
            summary: format!("{}/{}", self.units_committed, self.total),
            verified: format!("{agreed}/{}", self.total),
            agreed_indexes: IndexesText(self.agreed.to_string()),
            failed_indexes: IndexesText(facts.exited_badly.to_string()),
        }
    }

    fn providers(&self, facts: &Facts<'_>) -> Vec<JobProvider> {
        let mut all: Vec<(&Address, &JobProviderCounts)> = self.providers.iter().collect();
        all.sort_by_key(|(address, counts)| (std::cmp::Reverse(counts.seats), **address));
        all.truncate(PROVIDERS_MAX);
        all.into_iter()
            .map(|(address, counts)| {
                let (region, class) = facts.descriptions.get(address).cloned().unwrap_or_default();
                JobProvider {
                    address: AddressText(address.to_string()),
                    region,
                    class,
                    seats: counts.seats,
                    agreed: counts.agreed,
                    dissented: counts.dissented,
                    abstained: counts.abstained,
                    no_show: counts.no_show,
                }
            })
            .collect()
    }
}

impl JobProviderCounts {
    fn count(&mut self, state: &SeatState) {
        self.seats += 1;
        match state {
            SeatState::Awarded | SeatState::Committed { .. } | SeatState::Opened { .. } => {}
            SeatState::Abstained { .. } => self.abstained += 1,
            SeatState::Judged { verdict, .. } | SeatState::Settled { verdict, .. } => match verdict {
                SeatVerdict::Agreed => self.agreed += 1,
                SeatVerdict::Dissent => self.dissented += 1,
                SeatVerdict::Abstained => self.abstained += 1,
                SeatVerdict::NoShow => self.no_show += 1,
                SeatVerdict::Unstored | SeatVerdict::Excused | SeatVerdict::Unresolved => {}
            },
        }
    }
}

fn findings(facts: &Facts<'_>, census: Option<&Census>) -> Vec<Finding<JobCondition>> {
    use ConditionStatus::{False, True};
    use JobCondition as C;
    use JobReason as R;
    let finding = |condition, status, reason, message: &str| Finding {
        condition,
        status,
        reason,
        message: message.to_owned(),
    };
    if let Stage::Refused(reason, message) = &facts.stage {
        return vec![finding(C::Accepted, False, *reason, message)];
    }
    let mut findings = vec![finding(
        C::Accepted,
        True,
        R::Valid,
        "the spec can be carried out",
    )];
    match census {
        None => {
            if let Stage::BeforeMoney(reason, message) = &facts.stage {
                findings.push(finding(C::Funded, False, *reason, message));
            }
        }
        Some(census) => findings.extend(on_chain(facts, census)),
    }
    match &facts.stage {
        Stage::Complete => {
            findings.push(finding(
                C::Complete,
                True,
                R::Done,
                "agreed on, delivered and paid",
            ));
        }
        Stage::Failed(reason, message) => findings.push(finding(C::Failed, True, *reason, message)),
        Stage::Refused(..) | Stage::BeforeMoney(..) | Stage::OnChain(_) => {}
    }
    findings
}

fn on_chain(facts: &Facts<'_>, census: &Census) -> Vec<Finding<JobCondition>> {
    use ConditionStatus::{False, True};
    use JobCondition as C;
    use JobReason as R;
    let finding = |condition, status, reason, message: String| Finding {
        condition,
        status,
        reason,
        message,
    };
    let groups = census.groups;
    let blocked = match &facts.stage {
        Stage::OnChain(Some((reason, message))) => Some((*reason, message.clone())),
        Stage::OnChain(None)
        | Stage::Complete
        | Stage::Failed(..)
        | Stage::Refused(..)
        | Stage::BeforeMoney(..) => None,
    };
    let canary = facts.chain.is_some_and(|job| job.terms.redundancy.canary);
    let funded = if census.unsealed == 0 || census.ended {
        finding(
            C::Funded,
            True,
            R::Funded,
            "everything is deposited, and the seats are taken".to_owned(),
        )
    } else if let Some((reason, message)) = blocked.clone() {
        finding(C::Funded, False, reason, message)
    } else if canary && census.agreed_groups + census.lost_groups == 0 {
        let message = format!("the first of {groups} groups goes ahead alone; the rest waits for its result");
        finding(C::Funded, False, R::Canary, message)
    } else {
        let message = format!("{} of {groups} groups are not sealed yet", census.unsealed);
        finding(C::Funded, False, R::Opening, message)
    };
    let mut findings = vec![funded];
    findings.extend(progress(census));
    if let Some((reason, message)) = blocked.filter(|_| census.unsealed == 0) {
        findings.push(finding(C::Complete, False, reason, message));
    } else if facts
        .before
        .is_some_and(|before| find(&before.conditions, C::Complete).is_some())
    {
        // Said to be blocked before, and no longer.
        findings.push(finding(
            C::Complete,
            False,
            R::Waiting,
            "the job goes on".to_owned(),
        ));
    }
    findings
}

/// How far the work, its checking and its money are.
fn progress(census: &Census) -> [Finding<JobCondition>; 3] {
    use ConditionStatus::{False, True};
    use JobCondition as C;
    use JobReason as R;
    let finding = |condition, status, reason, message: String| Finding {
        condition,
        status,
        reason,
        message,
    };
    let groups = census.groups;
    let active = census.running + census.revealing;
    let running = if census.running > 0 {
        let message = format!("{} of {groups} groups are at work", census.running);
        finding(C::Running, True, R::Executing, message)
    } else if census.ended || census.unsealed == 0 {
        finding(
            C::Running,
            False,
            R::AllCommitted,
            "no group is at work any more".to_owned(),
        )
    } else {
        finding(
            C::Running,
            False,
            R::Waiting,
            "no group is at work yet".to_owned(),
        )
    };
    let verified = if census.agreed_groups == groups {
        finding(
            C::Verified,
            True,
            R::Agreed,
            format!("the results of all {groups} groups agree"),
        )
    } else if census.lost_groups > 0 && active == 0 {
        let message = format!("{} of {groups} groups have no agreed result", census.lost_groups);
        finding(C::Verified, False, R::NotAgreed, message)
    } else {
        let message = format!("{} of {groups} groups are agreed on", census.agreed_groups);
        let reason = if census.revealing > 0 {
            R::Comparing
        } else {
            R::Waiting
        };
        finding(C::Verified, False, reason, message)
    };
    let settled = if census.ended {
        let reason = if census.agreed_groups > 0 {
            R::Settled
        } else {
            R::Refunded
        };
        finding(
            C::Settled,
            True,
            reason,
            "no money is in the job any more".to_owned(),
        )
    } else if active == 0 && census.unsealed == 0 {
        finding(
            C::Settled,
            False,
            R::Settling,
            "groups wait for the end of their windows".to_owned(),
        )
    } else {
        finding(C::Settled, False, R::Waiting, "money is in the job".to_owned())
    };
    [running, verified, settled]
}

/// The phase, and the condition that decides it.
fn phase<'c>(facts: &Facts<'_>, conditions: &'c [Condition]) -> (JobPhase, Option<&'c Condition>) {
    use JobCondition as C;
    let of = |condition: C| find(conditions, condition);
    match &facts.stage {
        Stage::Complete => return (JobPhase::Complete, of(C::Complete)),
        Stage::Failed(..) => return (JobPhase::Failed, of(C::Failed)),
        Stage::Refused(..) => return (JobPhase::Pending, of(C::Accepted)),
        Stage::BeforeMoney(reason, _) => {
            let phase = match reason {
                JobReason::Suspended => JobPhase::Suspended,
                JobReason::Opening => JobPhase::Funding,
                JobReason::Uploading | JobReason::Waiting => JobPhase::Pending,
                _ => JobPhase::Matching,
            };
            return (phase, of(C::Funded));
        }
        Stage::OnChain(_) => {}
    }
    let cancelling = facts
        .chain
        .is_some_and(|job| matches!(job.state, JobState::Cancelling { .. }));
    if cancelling {
        (JobPhase::Cancelling, of(C::Settled))
    } else if is_true(conditions, C::Running) {
        (JobPhase::Running, of(C::Running))
    } else if !is_true(conditions, C::Funded) {
        (JobPhase::Funding, of(C::Funded))
    } else if is_true(conditions, C::Verified) {
        (JobPhase::Settling, of(C::Complete).or_else(|| of(C::Settled)))
    } else {
        (JobPhase::Verifying, of(C::Verified))
    }
}

fn cost(job: &Job<'_>, decimals: Decimals) -> Cost {
    let text = |amount: TokenAmount| AmountText(amount.to_decimal(decimals));
    let refunded = match job.state {
        JobState::Ended { refunded } => refunded,
        JobState::Open | JobState::Cancelling { .. } => TokenAmount::ZERO,
    };
    let spent = job.paid.checked_add(job.fees).unwrap_or(TokenAmount::MAX);
    let summary = if spent.is_zero() {
        format!("({})", job.funded.to_decimal(decimals))
    } else {
        spent.to_decimal(decimals)
    };
    Cost {
        deposited: text(job.funded),
        paid: text(job.paid),
        fee: text(job.fees),
        refunded: text(refunded),
        summary,
    }
}

fn refusals(counts: Vec<(String, u32)>) -> Vec<RefusalCount> {
    let mut counts: Vec<RefusalCount> = counts
        .into_iter()
        .map(|(reason, offers)| RefusalCount { reason, offers })
        .collect();
    counts.sort_by(|a, b| b.offers.cmp(&a.offers).then_with(|| a.reason.cmp(&b.reason)));
    counts.truncate(REFUSALS_MAX);
    counts
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn object() -> ComputeJob {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "tradewind.dev/v1alpha1", "kind": "ComputeJob",
            "metadata": {"name": "flyby", "namespace": "studio", "generation": 3},
            "spec": {
                "completions": 8,
                "template": {"image": "a/b:1", "resources": {"cpu": "1", "memory": "1Gi"}, "secondsPerUnit": 30},
                "payment": {"token": format!("0x{}", "11".repeat(20)), "maxPricePerUnit": "1", "budget": "9"},
            },
        }))
        .unwrap()
    }

    pub(crate) fn derived(object: &ComputeJob, stage: Stage, second: i64) -> ComputeJobStatus {
        derive(Facts {
            object,
            before: object.status.as_ref(),
            job_id: HashText(format!("0x{}", "22".repeat(32))),
            market: MarketRef {
                chain_id: 1,
                contract: AddressText(format!("0x{}", "33".repeat(20))),
            },
            stage,
            image: None,
            template: None,
            division: None,
            chain: None,
            decimals: None,
            descriptions: &BTreeMap::new(),
            refusals: vec![("PriceTooHigh".into(), 2), ("BondTooLow".into(), 5)],
            delivered: &UnitSet::new(),
            exited_badly: &UnitSet::new(),
            now: Timestamp::from_second(second).unwrap(),
        })
    }

    #[test]
    fn the_deciding_condition_explains_the_phase() {
        let check = |stage: Stage, phase: JobPhase, reason: &str| {
            let status = derived(&object(), stage.clone(), 1);
            assert_eq!(
                (status.phase, status.reason.as_deref()),
                (Some(phase), Some(reason)),
                "{stage:?}"
            );
        };
        let text = || "because".to_owned();
        check(
            Stage::Refused(JobReason::SourceMissing, text()),
            JobPhase::Pending,
            "SourceMissing",
        );
        check(
            Stage::BeforeMoney(JobReason::NoMatchingOffer, text()),
            JobPhase::Matching,
            "NoMatchingOffer",
        );
        check(
            Stage::BeforeMoney(JobReason::Suspended, text()),
            JobPhase::Suspended,
            "Suspended",
        );
        check(
            Stage::BeforeMoney(JobReason::Opening, text()),
            JobPhase::Funding,
            "Opening",
        );
        check(
            Stage::Failed(JobReason::DeadlineExceeded, text()),
            JobPhase::Failed,
            "DeadlineExceeded",
        );
        check(Stage::Complete, JobPhase::Complete, "Done");
    }

    #[test]
    fn what_was_found_before_it_is_written_keeps_its_time() {
        let object = object();
        let first = derived(&object, Stage::Complete, 5);
        let facts_at = |before: &ComputeJobStatus, second| {
            let mut object = object.clone();
            object.status = Some(before.clone());
            derived(&object, Stage::Complete, second)
        };
        let second = facts_at(&first, 60);
        assert_eq!(second, first, "nothing changed but the time of day");
    }
}
