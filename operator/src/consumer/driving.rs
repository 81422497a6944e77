//! One pass over one job: from what is known now to what is done about it, and where the job is then.

use std::time::Duration;

use tokio::time::Instant;
use tradewind_chain::{calls, sender::IntentId};
use tradewind_crds::{
    ComputeJob,
    compute_job::{ComputeJobStatus, Division, JobReason, StoredInput},
    scalar::{DigestText, HashText},
};
use tradewind_gateway_api::{results::Wanted, template::Input};
use tradewind_market::{
    Address, Decimals, GroupIndex, Hash32, Knowledge, Seconds, Terms, TokenAmount, UnitSet, UnixSeconds,
    index::Job,
    matching::Want,
    plan::consumer::{Desire, End, Situation, Step, consumer_plan},
};
use tradewind_result::ContentDigest;

use super::{
    Consumer,
    acting::{Filling, group_bytes, intent_id},
    before_money,
    content::{self, StoredTemplate},
    delivery,
    exporting::Undelivered,
    identity::Identity,
    memory::Memo,
    outputs,
    placing::{self, Search},
    preparing::{self, Prepared},
    publishing,
    quoting::no_match,
    reasons::{abstentions, lost_offers},
    spending,
    spending::Want as SpendingWant,
    status::Stage,
    template, terms,
};
use crate::shell::{self, chain::ChainView};

/// Between two searches for seats: offers do not change faster.
const SEEK_EVERY: Duration = Duration::from_secs(5);
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

    /// Looks for the seats that groups lack, and takes them.
    async fn seek(
        &self,
        view: &ChainView,
        subject: Subject<'_>,
        memo: &mut Memo,
        job: &Job<'_>,
        wants: Vec<Want>,
    ) -> Result<(), (JobReason, String)> {
        if memo.filling.is_some_and(|id| self.is_under_way(id)) {
            return Ok(());
        }
        if memo.sought.is_some_and(|at| at.elapsed() < SEEK_EVERY) {
            return memo.seek_blocked.clone().map_or(Ok(()), Err);
        }
        memo.sought = Some(Instant::now());
        let result = self.seek_now(view, subject, memo, job, wants).await;
        memo.seek_blocked = result.as_ref().err().cloned();
        result
    }

    async fn seek_now(
        &self,
        view: &ChainView,
        subject: Subject<'_>,
        memo: &mut Memo,
        job: &Job<'_>,
        wants: Vec<Want>,
    ) -> Result<(), (JobReason, String)> {
        let flat = |stage| match stage {
            Stage::Refused(reason, message)
            | Stage::BeforeMoney(reason, message)
            | Stage::Failed(reason, message) => (reason, message),
            Stage::OnChain(Some(blocked)) => blocked,
            Stage::OnChain(None) | Stage::Complete => (JobReason::Matching, String::new()),
        };
        let (asked, decimals) = preparing::ask(self, subject.object).await.map_err(flat)?;
        let spare = job
            .record
            .escrow
            .checked_sub(job.record.allocated)
            .unwrap_or_default();
        let addable = asked.budget.checked_sub(job.record.funded).unwrap_or_default();
        let budget = spare.checked_add(addable).unwrap_or(TokenAmount::MAX);
        let search = Search {
            job: job.record.id,
            terms: &job.terms,
            asked: &asked,
            image: terms::repository(&subject.object.spec.template.image),
            wants: &wants,
            budget,
        };
        let matching = placing::search(self, view, memo, search)
            .await
            .map_err(|error| (JobReason::GatewayUnavailable, error.to_string()))?;
        if matching.fills.is_empty() {
            return Err(flat(no_match(memo)));
        }
        let cost = matching.cost.total().unwrap_or(TokenAmount::MAX);
        let top_up = cost.checked_sub(spare).unwrap_or_default();
        if !top_up.is_zero() {
            let amount = job.record.funded.checked_add(top_up).unwrap_or(TokenAmount::MAX);
            let to_approve = self
                .check_funds(view, asked.token, top_up, decimals)
                .await
                .map_err(flat)?;
            let want = SpendingWant {
                job: job.record.id,
                token: asked.token,
                decimals,
                amount,
            };
            spending::claim(&self.context.client, subject.namespace, want, shell::now())
                .await
                .map_err(|error| flat(before_money(&error)))?;
            if let Some(amount) = to_approve {
                self.approve(view, job.record.id, asked.token, amount);
                memo.sought = None;
                return Ok(());
            }
        }
        if !self.context.leadership.holds() || self.context.args.observe_only {
            return Ok(());
        }
        let fills = placing::requests(memo, &matching.fills);
        let hashes: Vec<u8> = matching
            .fills
            .iter()
            .flat_map(|fill| {
                let place = [fill.first_group.get().to_be_bytes(), fill.groups.to_be_bytes()].concat();
                [fill.offer_hash.as_bytes().as_slice(), &place].concat()
            })
            .collect();
        let id = intent_id(job.record.id, "fill", &[&hashes], job.record.sequence);
        memo.filling = Some(id);
        let filling = Filling {
            job: job.record.id,
            terms: &job.terms,
            top_up,
            fills: &fills,
        };
        self.fill(view, id, &filling)
            .map_err(|error| (JobReason::InvalidSpec, error.to_string()))?;
        Ok(())
    }

    /// Fetches a group's results from the first provider whose bytes are what was agreed on, and hands them on.
    async fn fetch(
        &self,
        subject: Subject<'_>,
        memo: &mut Memo,
        job: &Job<'_>,
        group: GroupIndex,
        providers: &[Address],
    ) -> Result<(), (JobReason, String)> {
        if memo.fetch_after.is_some_and(|at| Instant::now() < at) {
            return memo.fetch_blocked.clone().map_or(Ok(()), Err);
        }
        let result = self.fetch_now(subject, memo, job, group, providers).await;
        match &result {
            Ok(()) => (memo.fetch_after, memo.fetch_blocked) = (None, None),
            Err(blocked) => {
                memo.fetch_after = Some(Instant::now() + WAIT);
                memo.fetch_blocked = Some(blocked.clone());
            }
        }
        result
    }

    async fn fetch_now(
        &self,
        subject: Subject<'_>,
        memo: &mut Memo,
        job: &Job<'_>,
        group: GroupIndex,
        providers: &[Address],
    ) -> Result<(), (JobReason, String)> {
        let Subject { object, identity, .. } = subject;
        let unknown = || {
            (
                JobReason::Delivering,
                "the group is not agreed on any more".to_owned(),
            )
        };
        let record = job.group(group).ok_or_else(unknown)?;
        let limits = template::limits(&object.spec)
            .map_err(|error| (JobReason::InvalidSpec, error.to_string()))?
            .output();
        let wanted = Wanted {
            job: identity.id,
            round: job.round_id(group).ok_or_else(unknown)?,
            units: job.terms.shape.group_units(group).ok_or_else(unknown)?,
            root: record.state.agreed_root().ok_or_else(unknown)?,
            salt: identity.salt,
            limits,
        };
        let domain = &self.context.market.domain;
        let mut failure = (
            JobReason::GatewayUnavailable,
            "no seat stored the agreed result".to_owned(),
        );
        for provider in providers {
            let gateways = &self.context.gateways;
            match outputs::fetch(gateways, domain, &identity.output_key, &wanted, *provider).await {
                Ok(fetched) => {
                    if object.spec.outputs.config_map.is_some() {
                        let mut files = memo.small_files.clone();
                        for unit in &fetched.units {
                            delivery::collect_small(&mut files, unit.unit, &fetched.directory(unit.unit))
                                .map_err(|error| (JobReason::DeliveryBlocked, error.to_string()))?;
                        }
                        memo.small_files = files;
                    }
                    for unit in &fetched.units {
                        memo.delivered.insert(unit.unit);
                        if !unit.outcome.is_success() {
                            memo.exited_badly.insert(unit.unit);
                        }
                    }
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(job = %identity.id, %provider, %error, "results could not be had from a provider");
                    failure.1 = error.to_string();
                }
            }
        }
        Err(failure)
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

/// What was stored for the job, by its status or by an earlier pass.
pub(super) fn pinned(object: &ComputeJob, memo: &Memo) -> Option<Prepared> {
    let of_status = || {
        let status = object.status.as_ref()?;
        let template = status.template.as_ref()?;
        let digest: Hash32 = template.digest.as_str().parse().ok()?;
        Some(Prepared {
            image: status.image.clone()?,
            template: StoredTemplate {
                blob: digest_of(&template.blob)?,
                digest: ContentDigest::from_bytes(*digest.as_bytes()),
            },
            inputs: stored_inputs(status),
        })
    };
    memo.prepared.clone().or_else(of_status)
}

/// The inputs that a job's status says it stored.
pub(super) fn stored_inputs(status: &ComputeJobStatus) -> Vec<Input> {
    let inputs = status.template.iter().flat_map(|template| &template.inputs);
    inputs
        .filter_map(|input| {
            Some(Input {
                name: input.name.clone(),
                blob: digest_of(&input.blob)?,
                stored_bytes: input.stored_bytes,
                manifest_digest: digest_of(&input.manifest)?,
            })
        })
        .collect()
}

/// As the status holds it.
pub(crate) fn written_template(prepared: &Prepared) -> tradewind_crds::compute_job::StoredTemplate {
    let stored = &prepared.template;
    tradewind_crds::compute_job::StoredTemplate {
        blob: digest_text(stored.blob),
        digest: HashText(Hash32::from_bytes(*stored.digest.as_bytes()).to_string()),
        inputs: prepared
            .inputs
            .iter()
            .map(|input| StoredInput {
                name: input.name.clone(),
                blob: digest_text(input.blob),
                stored_bytes: input.stored_bytes,
                manifest: digest_text(input.manifest_digest),
            })
            .collect(),
    }
}

/// A digest as objects hold it.
fn digest_text(digest: ContentDigest) -> DigestText {
    DigestText(format!("blake3:{}", hex::encode(digest.as_bytes())))
}

/// A digest from how objects hold it.
pub(super) fn digest_of(text: &DigestText) -> Option<ContentDigest> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.hex().ok()?, &mut bytes).ok()?;
    Some(ContentDigest::from_bytes(bytes))
}

fn agreed_units(job: &Job<'_>) -> UnitSet {
    job.groups()
        .filter(|(_, group)| group.state.agreed_root().is_some())
        .filter_map(|(index, _)| job.terms.shape.group_units(index))
        .fold(UnitSet::new(), |units, range| units.union(&range.to_set()))
}
