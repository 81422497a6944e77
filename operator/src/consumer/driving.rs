//! One pass over one job: from what is known now to what is done about it, and where the job is then.

use std::time::Duration;

use tradewind_chain::{calls, sender::IntentId};
use tradewind_crds::{
    ComputeJob,
    compute_job::{Division, JobReason},
};
use tradewind_market::{
    Decimals, Hash32, Knowledge, Seconds, Terms, UnitSet, UnixSeconds,
    index::Job,
    plan::consumer::{Desire, End, Situation, Step, consumer_plan},
};
use tradewind_result::ContentDigest;

use super::{
    Consumer,
    acting::{group_bytes, intent_id},
    content::{self, StoredTemplate},
    delivery,
    exporting::Undelivered,
    identity::Identity,
    memory::Memo,
    pinned::pinned,
    preparing::{self, Prepared},
    publishing,
    reasons::{abstentions, lost_offers},
    status::Stage,
};
use crate::shell::chain::ChainView;

/// What only a person, or time, changes.
const WAIT: Duration = Duration::from_secs(10);

/// What came of a pass.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Where the job is.
    pub(crate) stage: Stage,
    /// When to look again.
    pub(crate) again: Duration,
    /// What is stored, where that is known.
    pub(crate) prepared: Option<Prepared>,
    /// How the units are divided, where that is known.
    pub(crate) division: Option<Division>,
    /// The token's decimals, where they are known.
    pub(crate) decimals: Option<Decimals>,
}

impl Outcome {
    pub(super) fn at(stage: Stage, again: Duration) -> Self {
        Self {
            stage,
            again,
            prepared: None,
            division: None,
            decimals: None,
        }
    }
}

/// The object of a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// The job's object.
    pub(crate) object: &'a ComputeJob,
    /// Its namespace.
    pub(crate) namespace: &'a str,
    /// Its names and secrets.
    pub(crate) identity: &'a Identity,
}

impl Consumer {
    /// Between two looks at a job that is at work.
    pub(super) fn pace(&self) -> Duration {
        Duration::from_millis(self.context.args.chain.poll_ms.max(250))
    }

    /// One pass over a job that is wanted. `None` where nothing can be said now: the chain is not in sight.
    pub(crate) async fn drive(
        &self,
        view: &ChainView,
        subject: Subject<'_>,
        memo: &mut Memo,
    ) -> Option<Outcome> {
        let now = view.now().filter(|_| view.caught_up)?;
        match view.head().job(subject.identity.id) {
            Knowledge::Known(job) => Some(self.go_on(view, subject, memo, job, now).await),
            Knowledge::Unknown => {
                let message = "the job's events on chain do not fit together; nothing is done until they do";
                let blocked = Some((JobReason::ChainUnavailable, message.to_owned()));
                Some(Outcome::at(Stage::OnChain(blocked), WAIT))
            }
            Knowledge::Absent => Some(self.begin(view, subject, memo, now).await),
        }
    }

    pub(crate) fn is_under_way(&self, id: Hash32) -> bool {
        self.context
            .chain
            .state(IntentId::new(id))
            .is_some_and(|state| !state.is_at_an_end())
    }

    /// A job that is on chain.
    async fn go_on(
        &self,
        view: &ChainView,
        subject: Subject<'_>,
        memo: &mut Memo,
        job: Job<'_>,
        now: UnixSeconds,
    ) -> Outcome {
        let Subject { object, identity, .. } = subject;
        let stored = StoredTemplate {
            blob: ContentDigest::from_bytes(*job.terms.content.template_address.as_bytes()),
            digest: ContentDigest::from_bytes(*job.terms.content.template_digest.as_bytes()),
        };
        let decimals = self.decimals(job.terms.pricing.token).await.ok();
        let division = Division {
            slice: job.terms.shape.units_per_slice.get(),
            slices_per_group: job.terms.shape.slices_per_group,
            groups: job.record.groups,
        };
        let finished = |stage, again, prepared| Outcome {
            stage,
            again,
            prepared,
            division: Some(division),
            decimals,
        };
        let prepared = match pinned(object, memo).filter(|prepared| prepared.template == stored) {
            Some(prepared) => prepared,
            None => match self.adopt(subject, stored).await {
                Ok(prepared) => prepared,
                Err(stage) => return finished(stage, WAIT, None),
            },
        };
        memo.prepared = Some(prepared.clone());
        let mut blocked = self.observe(subject, memo, &job).await;
        let finalized = match view.finalized().job(identity.id) {
            Knowledge::Known(job) => Some(job),
            Knowledge::Absent | Knowledge::Unknown => None,
        };
        let desire = if object.spec.suspend {
            Desire::Cancel
        } else {
            Desire::Run
        };
        let steps = consumer_plan(&Situation {
            desire,
            not_after: self.not_after(object, &job.terms),
            head: job,
            finalized,
            bundled: memo.bundled.as_ref(),
            messages: memo.mailbox.messages(),
            delivered: Some(&memo.delivered),
            now,
        });
        let (mut end, mut undelivered) = (None, Undelivered::new());
        let claim = object.spec.outputs.persistent_volume_claim.as_ref();
        for step in steps {
            match step {
                Step::Seek(wants) => {
                    blocked = self
                        .seek(view, subject, memo, &job, wants)
                        .await
                        .err()
                        .or(blocked);
                }
                Step::PublishBundle(providers) => {
                    if let Err(error) = publishing::publish(self, identity, &job, providers, memo).await {
                        blocked = Some((JobReason::GatewayUnavailable, error.to_string()));
                    }
                }
                Step::Fetch { group, providers } if claim.is_some() => {
                    undelivered.insert(group, providers);
                }
                Step::Fetch { group, providers } => {
                    blocked = self
                        .fetch(subject, memo, &job, group, &providers)
                        .await
                        .err()
                        .or(blocked);
                }
                Step::Finish(how) => end = Some(how),
                Step::Seal { .. }
                | Step::Relay(_)
                | Step::Judge(_)
                | Step::Settle(_)
                | Step::Close(_)
                | Step::Cancel(_) => self.send(view, memo, &job, &step),
            }
        }
        if let Some(claim) = claim.filter(|_| !undelivered.is_empty()) {
            let exported = self.export(subject, memo, finalized, claim, &undelivered).await;
            blocked = exported.err().or(blocked);
        }
        let blocked = blocked.or_else(|| lost_offers(&job));
        match end {
            Some(how) => match self.finish(subject, memo, &job, how, now).await {
                Ok(stage) => finished(stage, self.context.args.resync, Some(prepared)),
                Err(blocked) => finished(Stage::OnChain(Some(blocked)), WAIT, Some(prepared)),
            },
            None => finished(Stage::OnChain(blocked), self.pace(), Some(prepared)),
        }
    }

    /// Calls that need nothing but what is known.
    pub(crate) fn send(&self, view: &ChainView, memo: &Memo, job: &Job<'_>, step: &Step) {
        if !self.context.leadership.holds() || self.context.args.observe_only {
            return;
        }
        let market = self.context.market.domain.market;
        let (id, sequence) = (job.record.id, job.record.sequence);
        let poke = |what: &'static str, about: &[&[u8]], call| {
            self.poke(
                view,
                intent_id(id, what, about, sequence),
                format!("{what} {id}"),
                call,
            );
        };
        match step {
            Step::Seal { first, groups } => {
                let about = [first.get().to_be_bytes(), groups.to_be_bytes()].concat();
                poke("seal", &[&about], calls::seal(market, id, *first, *groups));
            }
            Step::Judge(groups) => poke("judge", &[&group_bytes(groups)], calls::judge(market, id, groups)),
            Step::Settle(groups) => poke(
                "settle",
                &[&group_bytes(groups)],
                calls::settle(market, id, groups),
            ),
            Step::Close(groups) => {
                poke(
                    "close",
                    &[&group_bytes(groups)],
                    calls::close_groups(market, id, groups),
                );
            }
            Step::Cancel(_) => poke("cancel", &[], calls::cancel_job(market, id)),
            Step::Relay(messages) => {
                for message in messages {
                    if let Some(call) = memo.mailbox.call(market, *message) {
                        // Named by the message alone: other seats' words do not make it another wish.
                        let wish = intent_id(id, "relay", &[message.as_bytes()], 0);
                        self.poke(view, wish, format!("relay {id}"), call);
                    }
                }
            }
            Step::Seek(_) | Step::PublishBundle(_) | Step::Fetch { .. } | Step::Finish(_) => {}
        }
    }

    /// A job that an earlier object, or an earlier life of this operator, opened: its content is on chain.
    async fn adopt(&self, subject: Subject<'_>, stored: StoredTemplate) -> Result<Prepared, Stage> {
        let gateways = &self.context.gateways;
        let template = content::fetch_template(gateways, stored, &subject.identity.job_key)
            .await
            .map_err(|error| Stage::OnChain(Some((JobReason::GatewayUnavailable, error.to_string()))))?;
        if !preparing::is_same_work(subject.object, &template) {
            let message = "this run key, or this object, opened a job with other work: choose another runKey";
            return Err(Stage::Refused(JobReason::RunKeyInUse, message.to_owned()));
        }
        Ok(Prepared {
            image: template.image,
            template: stored,
            inputs: template.inputs,
        })
    }

    /// Reads what is not on chain: messages, the bundle, what is delivered already.
    async fn observe(
        &self,
        subject: Subject<'_>,
        memo: &mut Memo,
        job: &Job<'_>,
    ) -> Option<(JobReason, String)> {
        let gateways = &self.context.gateways;
        let mut blocked = None;
        let unavailable =
            |error: &dyn std::fmt::Display| Some((JobReason::GatewayUnavailable, error.to_string()));
        if job
            .groups()
            .any(|(_, group)| !group.state.is_ended() && !group.seats.is_empty())
            && let Err(error) = memo
                .mailbox
                .refresh(gateways, &self.context.market.domain, job.record.id)
                .await
        {
            blocked = unavailable(&error);
        }
        if memo.bundled.is_none() {
            match publishing::observe(self, job.record.id).await {
                Ok(providers) => memo.bundled = Some(providers),
                Err(error) => blocked = unavailable(&error),
            }
        }
        if let Some(target) = &subject.object.spec.outputs.config_map
            && memo.delivered.is_empty()
        {
            let client = &self.context.client;
            match delivery::is_delivered(client, subject.namespace, &target.name, job.record.id).await {
                Ok(true) => memo.delivered = agreed_units(job),
                Ok(false) => {}
                Err(error) => blocked = Some((JobReason::DeliveryBlocked, error.to_string())),
            }
        }
        blocked
    }

    /// Everything is over on chain: delivers what is delivered at the end.
    async fn finish(
        &self,
        subject: Subject<'_>,
        memo: &Memo,
        job: &Job<'_>,
        how: End,
        now: UnixSeconds,
    ) -> Result<Stage, (JobReason, String)> {
        let Subject {
            object,
            namespace,
            identity,
        } = subject;
        if let Some(target) = &object.spec.outputs.config_map
            && !memo.small_files.is_empty()
        {
            delivery::create_config_map(
                &self.context.client,
                namespace,
                &target.name,
                identity.id,
                &memo.small_files,
            )
            .await
            .map_err(|error| (JobReason::DeliveryBlocked, error.to_string()))?;
        }
        Ok(match how {
            End::Complete => Stage::Complete,
            End::Incomplete { groups } => {
                let late = self.not_after(object, &job.terms).is_some_and(|end| now > end);
                let reason = if object.spec.suspend {
                    JobReason::Suspended
                } else if late {
                    JobReason::DeadlineExceeded
                } else {
                    JobReason::NotAgreed
                };
                let all = job.record.groups;
                let message = format!(
                    "{groups} of {all} groups have no agreed result{}; what was not earned is refunded",
                    abstentions(job)
                );
                Stage::Failed(reason, message)
            }
        })
    }

    /// When the job's own deadline is over: counted from its opening, which its terms tell.
    fn not_after(&self, object: &ComputeJob, terms: &Terms) -> Option<UnixSeconds> {
        let deadline = object.spec.deadline.seconds().ok()?;
        let open_for = self.context.args.consumer.windows.open_for.min(deadline);
        let opened = terms.windows.open_until.saturating_sub(Seconds::new(open_for));
        Some(opened.saturating_add(Seconds::new(deadline)))
    }
}

fn agreed_units(job: &Job<'_>) -> UnitSet {
    job.groups()
        .filter(|(_, group)| group.state.agreed_root().is_some())
        .filter_map(|(index, _)| job.terms.shape.group_units(index))
        .fold(UnitSet::new(), |units, range| units.union(&range.to_set()))
}
