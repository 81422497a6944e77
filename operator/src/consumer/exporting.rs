//! Results that go to a volume: mover pods in the job's namespace fetch them there, a batch of groups each, once
//! everything in the batch is decided for good. What is on the volume is known from the pods' own reports.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use tradewind_crds::{
    compute_job::JobReason,
    source::{ClaimPath, Input},
};
use tradewind_gateway_api::{
    mover::{ExportGroup, ExportTask, MoverReport, MoverTask},
    results::sealed_bytes_max,
    slice::SecretText,
};
use tradewind_market::{Address, GroupIndex, index::Job, state::GroupState};

use super::{
    Consumer,
    driving::Subject,
    memory::Memo,
    movers::{Errand, Mount, Movers, Standing, standing},
    rights::Rights,
    sources, template,
};
use crate::shell;

/// Groups that one pod brings: its task has to fit a Secret.
const GROUPS_PER_MOVER: u32 = 256;
/// Pods of one job at a time.
const MOVERS_AT_ONCE: usize = 4;
/// What else may lie where sealed bytes pass.
const PASSAGE_BYTES: u64 = 64 << 20;

/// Undelivered groups, and who stored their results.
pub(crate) type Undelivered = BTreeMap<GroupIndex, Vec<Address>>;

/// Groups that one pod brings.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Batch {
    number: u32,
    groups: Vec<GroupIndex>,
}

/// The batches that are ready: nothing in them can change any more, and some of it is not delivered.
fn batches(
    groups: impl Iterator<Item = (GroupIndex, bool)>,
    is_undelivered: impl Fn(GroupIndex) -> bool,
) -> Vec<Batch> {
    let mut all: BTreeMap<u32, (bool, Vec<GroupIndex>)> = BTreeMap::new();
    for (group, is_decided) in groups {
        let (ready, wanted) = all
            .entry(group.get() / GROUPS_PER_MOVER)
            .or_insert_with(|| (true, Vec::new()));
        *ready &= is_decided;
        if is_undelivered(group) {
            wanted.push(group);
        }
    }
    all.into_iter()
        .filter(|(_, (ready, groups))| *ready && !groups.is_empty())
        .map(|(number, (_, groups))| Batch { number, groups })
        .collect()
}

/// Whether the group's result, or that it has none, stands for good once it is final.
const fn is_decided(state: &GroupState) -> bool {
    match state {
        GroupState::Filling | GroupState::Running { .. } | GroupState::Revealing { .. } => false,
        GroupState::Agreed { .. }
        | GroupState::Contested { .. }
        | GroupState::Refunding
        | GroupState::Credited { .. }
        | GroupState::Inconclusive
        | GroupState::Refunded => true,
    }
}

impl Consumer {
    /// The movers of the job.
    pub(super) fn movers<'a>(&'a self, subject: Subject<'a>) -> Movers<'a> {
        Movers {
            client: &self.context.client,
            args: &self.context.args,
            namespace: subject.namespace,
            object: subject.object,
        }
    }

    /// Has results brought to the claim, and notes what is there. Says what is in the way, or under way.
    pub(super) async fn export(
        &self,
        subject: Subject<'_>,
        memo: &mut Memo,
        finalized: Option<Job<'_>>,
        claim: &ClaimPath,
        undelivered: &Undelivered,
    ) -> Result<(), (JobReason, String)> {
        let Some(job) = finalized else {
            return Ok(());
        };
        let groups = job
            .groups()
            .map(|(index, group)| (index, is_decided(&group.state)));
        let ready = batches(groups, |group| undelivered.contains_key(&group));
        if ready.is_empty() {
            return Ok(());
        }
        let blocked = |error: &dyn std::fmt::Display| (JobReason::DeliveryBlocked, error.to_string());
        let movers = self.movers(subject);
        let pods = movers.observe().await.map_err(|error| blocked(&error))?;
        let (mut at_work, mut hindrance) = (0, Ok(()));
        for batch in ready {
            match standing(&pods, Errand::Out(batch.number), shell::now()) {
                Standing::Done(MoverReport::Exported { exited_badly, .. }) => {
                    for units in batch
                        .groups
                        .iter()
                        .filter_map(|group| job.terms.shape.group_units(*group))
                    {
                        memo.delivered = memo.delivered.union(&units.to_set());
                    }
                    memo.exited_badly = memo.exited_badly.union(&exited_badly);
                }
                Standing::Done(other) => {
                    hindrance = Err(blocked(&format!("a mover did what it was not asked: {other:?}")));
                }
                Standing::UnderWay(what) => {
                    at_work += 1;
                    hindrance = hindrance.and(Err((JobReason::Delivering, what)));
                }
                Standing::Failed(_, what) => hindrance = Err((JobReason::DeliveryBlocked, what)),
                Standing::Untold(pod) => {
                    at_work += 1;
                    let task = self.export_task(subject, &job, claim, &batch, undelivered)?;
                    movers.tell(&pod, &task).await.map_err(|error| blocked(&error))?;
                    let what = format!("{} starts", pod.metadata.name.unwrap_or_default());
                    hindrance = hindrance.and(Err((JobReason::Delivering, what)));
                }
                Standing::Due(_) if at_work >= MOVERS_AT_ONCE || !self.may_act() => {}
                Standing::Due(attempt) => {
                    at_work += 1;
                    self.start_export(subject, &pods, &job, claim, &batch, undelivered, attempt)
                        .await?;
                }
            }
        }
        hindrance
    }

    /// Removes movers that are done with; what stays goes with the job's object.
    pub(super) async fn sweep_movers(&self, subject: Subject<'_>) {
        let spec = &subject.object.spec;
        let by_mover = |input: &Input| input.config_map.is_none() && input.secret.is_none();
        if spec.outputs.persistent_volume_claim.is_none() && !spec.inputs.iter().any(by_mover) {
            return;
        }
        let movers = self.movers(subject);
        let swept = match movers.observe().await {
            Ok(pods) => movers.remove(pods.iter()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = swept {
            tracing::info!(job = %subject.identity.id, %error, "mover pods stay until the job's object goes");
        }
    }

    /// Whether this replica may have effects.
    pub(super) fn may_act(&self) -> bool {
        self.context.leadership.holds() && !self.context.args.observe_only
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "each is a different kind of knowledge, used once"
    )]
    async fn start_export(
        &self,
        subject: Subject<'_>,
        pods: &[Pod],
        job: &Job<'_>,
        claim: &ClaimPath,
        batch: &Batch,
        undelivered: &Undelivered,
        attempt: u32,
    ) -> Result<(), (JobReason, String)> {
        let blocked = |error: &dyn std::fmt::Display| (JobReason::DeliveryBlocked, error.to_string());
        let (client, rights) = (&self.context.client, Rights::new(&self.context.args));
        // Looked at anew: the label may have been taken off since the job was accepted.
        let run_as = sources::observe_claim(client, rights, subject.namespace, &claim.claim_name, false)
            .await
            .map_err(|error| blocked(&error))?;
        let mount = Mount {
            claim: claim.claim_name.clone(),
            read_only: false,
            run_as,
        };
        let task = self.export_task(subject, job, claim, batch, undelivered)?;
        let MoverTask::Export(ExportTask { limits, .. }) = &task else {
            return Ok(());
        };
        let passage = sealed_bytes_max(*limits).saturating_add(PASSAGE_BYTES);
        self.movers(subject)
            .start(
                pods,
                Errand::Out(batch.number),
                attempt,
                Some(&mount),
                passage,
                &task,
            )
            .await
            .map_err(|error| blocked(&error))
    }

    fn export_task(
        &self,
        subject: Subject<'_>,
        job: &Job<'_>,
        claim: &ClaimPath,
        batch: &Batch,
        undelivered: &Undelivered,
    ) -> Result<MoverTask, (JobReason, String)> {
        let identity = subject.identity;
        let limits = template::limits(&subject.object.spec)
            .map_err(|error| (JobReason::InvalidSpec, error.to_string()))?
            .output();
        let of = |group: &GroupIndex| {
            Some(ExportGroup {
                round: job.round_id(*group)?,
                units: job.terms.shape.group_units(*group)?,
                root: job.group(*group)?.state.agreed_root()?,
                providers: undelivered.get(group)?.clone(),
            })
        };
        Ok(MoverTask::Export(ExportTask {
            gateways: self.context.args.gateways.clone(),
            job: identity.id,
            output_key: SecretText::new(identity.output_key.to_text().to_string()),
            salt: identity.salt,
            limits,
            sub_path: claim.sub_path.clone(),
            groups: batch.groups.iter().filter_map(of).collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(decided: impl Fn(u32) -> bool, undelivered: &[u32], expected: &[(u32, &[u32])]) {
        let groups = (0..600).map(|group| (GroupIndex::new(group), decided(group)));
        let found: Vec<(u32, Vec<u32>)> = batches(groups, |group| undelivered.contains(&group.get()))
            .into_iter()
            .map(|batch| {
                (
                    batch.number,
                    batch.groups.iter().map(|group| group.get()).collect(),
                )
            })
            .collect();
        let expected: Vec<(u32, Vec<u32>)> = expected
            .iter()
            .map(|(number, groups)| (*number, groups.to_vec()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_batch_is_brought_once_nothing_in_it_can_change() {
        check(|_| true, &[], &[]);
        check(|_| false, &[0, 300], &[]);
        check(
            |_| true,
            &[0, 255, 256, 599],
            &[(0, &[0, 255]), (1, &[256]), (2, &[599])],
        );
        check(|group| group != 300, &[0, 299, 599], &[(0, &[0]), (2, &[599])]);
    }
}
