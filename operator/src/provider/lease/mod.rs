//! The reconciler of leases: runs what this provider was awarded, says what came out, and clears up.
//!
//! What is a lease's is decided by the final chain; the ComputeLease object is its record. A pass over a job looks
//! ([`observe`]), asks the market's planner, carries its steps out ([`apply`]) and tells how it stands ([`status`]).
//! Whatever woke it, a pass starts from what is, so it may end at any point and begin anew.

mod apply;
mod awards;
mod materials;
mod memo;
mod messages;
mod observe;
mod pod;
mod results;
pub(crate) mod settings;
mod sign;
mod slots;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::DeserializeGuard,
};
use kube_runtime::{WatchStreamExt as _, reflector, reflector::Store, watcher};
use prometheus::{IntCounterVec, Opts};
use serde_json::json;
use tradewind_chain::{BlockTag, Disposition, read::Reader};
use tradewind_crds::{
    ComputeLease, ProviderOffer, ProviderOfferSpec,
    compute_lease::{LeasePhase, OfferRef},
};
use tradewind_daemon::CancellationToken;
use tradewind_gateway_api::seal::OpeningKey;
use tradewind_market::{
    Address, Decimals, GroupSet, JobId, Knowledge, Slots as SlotCount, UnixSeconds,
    index::Job,
    plan::provider::{LeaseView, ProviderStep, Timing, presses_from, provider_plan},
};

use self::{
    apply::Target,
    awards::{POOL_ANNOTATION, add_awards, is_live, lease},
    memo::Memo,
    observe::Seen,
    pod::{LEASE_LABEL, PART_LABEL, lease_name},
    results::SlicePodState,
    slots::{Slots, is_active},
    status::{Standing, stored_reports},
};
use super::{ProviderError, args::ProviderArgs, offer};
use crate::shell::{self, chain::ChainView, context::Context, metrics};

const KIND: &str = "ComputeLease";
/// Pauses after a pass that did not come to its end.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// Where a deadline presses, gateways get this part of the margin to answer, each of the few times that they are asked
/// before something is said.
const PARTS_OF_MARGIN: u32 = 4;
/// Shorter than the least margin before a deadline.
const PAUSE_MAX: Duration = Duration::from_secs(5);

type PodChanges = futures::stream::BoxStream<'static, Result<Pod, watcher::Error>>;
type GuardedLease = DeserializeGuard<ComputeLease>;
type GuardedOffer = DeserializeGuard<ProviderOffer>;

/// An offer of this cluster, found by its series.
#[derive(Clone, Debug)]
pub(crate) struct OfferOf {
    pub(crate) reference: OfferRef,
    pub(crate) spec: ProviderOfferSpec,
}

impl OfferOf {
    /// Pods that it may have at once.
    pub(crate) fn slots(&self) -> u32 {
        self.spec
            .slots
            .max
            .saturating_sub(self.spec.slots.reserve_for_own_pods)
    }
}

#[derive(Clone, Debug)]
struct Counters {
    /// `tradewind_slice_pods_total{event}`.
    pods: IntCounterVec,
    /// `tradewind_lease_messages_total{kind,by}`.
    messages: IntCounterVec,
    /// `tradewind_lease_abstentions_total{reason}`.
    abstentions: IntCounterVec,
}

impl Counters {
    fn register(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            metrics::register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        Ok(Self {
            pods: counters(
                "tradewind_slice_pods_total",
                "Slice pods created and deleted.",
                &["event"],
            )?,
            messages: counters(
                "tradewind_lease_messages_total",
                "Commitments, abstentions and reveals by how they were sent.",
                &["kind", "by"],
            )?,
            abstentions: counters(
                "tradewind_lease_abstentions_total",
                "Abstentions decided on, by reason.",
                &["reason"],
            )?,
        })
    }
}

/// Everything that passes share.
#[derive(Debug)]
pub(crate) struct Leases {
    context: Arc<Context>,
    reader: Reader,
    opening_key: OpeningKey,
    /// What a slice's pod must not reach.
    canaries: Vec<SocketAddr>,
    timing: Timing,
    slots: Slots,
    metrics: Counters,
    decimals: Mutex<HashMap<Address, Decimals>>,
    memos: Mutex<HashMap<JobId, Arc<tokio::sync::Mutex<Memo>>>>,
    /// Slice pods, a store for each namespace of the pool.
    pods: Vec<Store<Pod>>,
    records: Store<GuardedLease>,
    offers: Store<GuardedOffer>,
}

/// Reconciles until shutdown.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) -> Result<(), ProviderError> {
    let gate = context.readiness.gate("leases");
    gate.wait("leases and pods are not listed yet");
    check_relay(&context.args.provider.relay_url)?;
    let watches = pool(&context.args.provider).map(|namespace| watch_pods(&context.client, &namespace));
    let (pods, streams): (Vec<_>, Vec<_>) = watches.unzip();
    let mut pod_changes = futures::stream::select_all(streams);
    let (leases, mut lease_changes) = {
        let (store, writer) = reflector::store::<GuardedLease>();
        let api: Api<GuardedLease> = Api::namespaced(context.client.clone(), &context.args.namespace);
        let changes = watcher(api, watcher::Config::default())
            .default_backoff()
            .reflect(writer)
            .touched_objects();
        (store, changes.boxed())
    };
    let (offers, mut offer_changes) = {
        let (store, writer) = reflector::store::<GuardedOffer>();
        let api: Api<GuardedOffer> = Api::all(context.client.clone());
        let changes = watcher(api, watcher::Config::default())
            .default_backoff()
            .reflect(writer)
            .touched_objects();
        (store, changes.boxed())
    };
    let this = Arc::new(Leases::new(Arc::clone(&context), pods, leases, offers)?);
    let mut leadership = context.leadership.clone();
    let mut chain = context.chain.subscribe();
    let mut resync = tokio::time::interval(context.args.resync);
    // Pods report many changes in bursts; what they mean is looked at a few times a second.
    let mut beat = tokio::time::interval(Duration::from_millis(250));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut passes = Passes::default();
    let (mut leads, mut dirty, mut sweep) = (false, false, false);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            held = leadership.acquired(), if !leads => leads = held,
            change = pod_changes.next() => dirty |= seen("pods", change)?,
            change = lease_changes.next() => dirty |= seen("leases", change)?,
            change = offer_changes.next() => dirty |= seen("offers", change)?,
            new_view = chain.changed() => {
                if new_view.is_err() {
                    return Ok(());
                }
                dirty = true;
            }
            _ = resync.tick() => (dirty, sweep) = (true, true),
            Some((job, done)) = passes.running.next() => passes.ended(&context, job, done),
            _ = beat.tick(), if dirty => {
                if !this.listed() {
                    continue;
                }
                gate.open();
                dirty = false;
                let view = context.chain.view();
                if leads && context.leadership.holds() && view.caught_up {
                    passes.start(&this, &view);
                    if std::mem::take(&mut sweep) {
                        passes.start_sweep(&this, &view);
                    }
                }
            }
        }
    }
}

/// The slice pods of one namespace of the pool, without what takes room and is not looked at.
fn watch_pods(client: &kube::Client, namespace: &str) -> (Store<Pod>, PodChanges) {
    let (store, writer) = reflector::store::<Pod>();
    let config = watcher::Config::default().labels(&format!("{}={}", PART_LABEL.0, PART_LABEL.1));
    let changes = watcher(Api::<Pod>::namespaced(client.clone(), namespace), config)
        .default_backoff()
        .modify(|pod| {
            pod.spec = None;
            pod.metadata.managed_fields = None;
        })
        .reflect(writer)
        .touched_objects();
    (store, changes.boxed())
}

/// The namespaces that job pods run in.
fn pool(args: &ProviderArgs) -> impl Iterator<Item = String> {
    (0..args.pool_size).map(|number| format!("{}-{number}", args.pool_prefix))
}

fn seen<K>(what: &'static str, change: Option<Result<K, watcher::Error>>) -> Result<bool, ProviderError> {
    match change {
        Some(Ok(_)) => Ok(true),
        Some(Err(error)) => {
            tracing::warn!(%error, what, "a watch failed; trying again");
            Ok(false)
        }
        None => Err(ProviderError::WatchEnded(what)),
    }
}

/// Job pods have no DNS, so the relay must be named by its address.
fn check_relay(url: &str) -> Result<(), ProviderError> {
    let host = reqwest::Url::parse(url).ok().and_then(|url| {
        let host = url
            .host_str()?
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        host.parse::<IpAddr>().ok()
    });
    if host.is_some() {
        Ok(())
    } else {
        Err(ProviderError::RelayNotByAddress(url.to_owned()))
    }
}

/// Passes under way, at most one for a job.
#[derive(Default)]
struct Passes {
    running: FuturesUnordered<futures::future::BoxFuture<'static, (JobId, Result<(), ProviderError>)>>,
    busy: BTreeSet<JobId>,
    /// Jobs that wait after an error: until when, and how long the next wait is.
    paused: HashMap<JobId, (Instant, Duration)>,
}

impl Passes {
    fn start(&mut self, leases: &Arc<Leases>, view: &Arc<ChainView>) {
        let room = usize::from(leases.context.args.concurrency);
        for job in leases.jobs(view) {
            if self.running.len() >= room {
                return;
            }
            let paused = self
                .paused
                .get(&job)
                .is_some_and(|(until, _)| *until > Instant::now());
            if paused || !self.busy.insert(job) {
                continue;
            }
            let (leases, view) = (Arc::clone(leases), Arc::clone(view));
            self.running
                .push(async move { (job, leases.timely_pass(job, &view).await) }.boxed());
        }
    }

    /// Clears up beside the passes, once at a time. No job has the id zero.
    fn start_sweep(&mut self, leases: &Arc<Leases>, view: &Arc<ChainView>) {
        if self.busy.insert(JobId::ZERO) {
            let (leases, view) = (Arc::clone(leases), Arc::clone(view));
            self.running
                .push(async move { (JobId::ZERO, leases.sweep(&view).await) }.boxed());
        }
    }

    fn ended(&mut self, context: &Context, job: JobId, done: Result<(), ProviderError>) {
        self.busy.remove(&job);
        match done {
            Ok(()) => {
                self.paused.remove(&job);
            }
            Err(error) => {
                let pause = self.paused.get(&job).map_or(PAUSE_FIRST, |(_, pause)| *pause);
                let source = std::error::Error::source(&error).map(ToString::to_string);
                match error.disposition() {
                    Disposition::Retry => {
                        tracing::warn!(%job, %error, source, "a lease's pass failed; trying again");
                    }
                    Disposition::AwaitChange | Disposition::Halt => {
                        tracing::error!(%job, %error, source, "a lease's pass failed; something must change");
                    }
                }
                context
                    .metrics
                    .reconciles
                    .with_label_values(&[KIND, error.label()])
                    .inc();
                self.paused.insert(
                    job,
                    (Instant::now() + pause, pause.saturating_mul(2).min(PAUSE_MAX)),
                );
            }
        }
    }
}

impl Leases {
    fn new(
        context: Arc<Context>,
        pods: Vec<Store<Pod>>,
        records: Store<GuardedLease>,
        offers: Store<GuardedOffer>,
    ) -> Result<Self, ProviderError> {
        let address = offer::api_server().and_then(|address| address.parse().ok());
        let canaries = vec![address.ok_or(ProviderError::ApiServerUnknown)?];
        Ok(Self {
            reader: Reader::new(context.chain.node().clone(), context.market.domain.market),
            opening_key: offer::opening_key(&context.keys)?,
            canaries,
            timing: context
                .args
                .provider
                .lease
                .timing(context.args.provider.relay_patience),
            slots: Slots::default(),
            metrics: Counters::register(&context.registry)?,
            decimals: Mutex::default(),
            memos: Mutex::default(),
            pods,
            records,
            offers,
            context,
        })
    }

    fn listed(&self) -> bool {
        let ready = |done: Option<bool>| done == Some(true);
        let listed =
            |store: &Store<Pod>| ready(store.wait_until_ready().now_or_never().map(|done| done.is_ok()));
        self.pods.iter().all(listed)
            && ready(
                self.records
                    .wait_until_ready()
                    .now_or_never()
                    .map(|done| done.is_ok()),
            )
            && ready(
                self.offers
                    .wait_until_ready()
                    .now_or_never()
                    .map(|done| done.is_ok()),
            )
    }

    /// Jobs in which something may be left to do, those that must commit first in front.
    fn jobs(&self, view: &ChainView) -> Vec<JobId> {
        let account = self.context.account();
        let mut jobs: Vec<_> = view
            .finalized()
            .jobs_of_provider(account)
            .filter_map(|id| {
                let Knowledge::Known(job) = view.finalized().job(id) else {
                    return None;
                };
                let open =
                    is_live(&job, account) || self.stored_lease(id).is_some_and(|lease| !is_closed(&lease));
                let urgent = job
                    .seats_of(account)
                    .filter_map(|(group, ..)| job.commit_deadline(group))
                    .min();
                open.then_some((urgent.unwrap_or(UnixSeconds::MAX), id))
            })
            .collect();
        jobs.sort_unstable();
        jobs.into_iter().map(|(_, id)| id).collect()
    }

    fn stored_lease(&self, job: JobId) -> Option<ComputeLease> {
        let key =
            reflector::ObjectRef::<GuardedLease>::new(&lease_name(job)).within(&self.context.args.namespace);
        match &self.records.get(&key)?.0 {
            Ok(lease) => Some(lease.clone()),
            Err(error) => {
                self.context
                    .metrics
                    .invalid_objects
                    .with_label_values(&[KIND])
                    .inc();
                tracing::debug!(%job, %error, "a lease cannot be read");
                None
            }
        }
    }

    fn offers_by_series(&self) -> BTreeMap<u32, OfferOf> {
        let offers = self.offers.state();
        let readable = offers.iter().filter_map(|offer| offer.0.as_ref().ok());
        readable
            .map(|object| {
                let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                let series = offer::series(&namespace, &name);
                (
                    series,
                    OfferOf {
                        reference: OfferRef { namespace, name },
                        spec: object.spec.clone(),
                    },
                )
            })
            .collect()
    }

    fn slice_pods(&self) -> Vec<SlicePodState> {
        let pods = self.pods.iter().flat_map(Store::state);
        pods.filter_map(|pod| results::read(&pod)).collect()
    }

    fn memo(&self, job: JobId) -> Arc<tokio::sync::Mutex<Memo>> {
        Arc::clone(
            self.memos
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(job)
                .or_default(),
        )
    }

    /// One pass over one job, which gives way when a deadline begins to press: the next one then says what is to be said
    /// before it asks any gateway. A gateway that does not answer must not cost a seat.
    async fn timely_pass(&self, id: JobId, view: &ChainView) -> Result<(), ProviderError> {
        let (Knowledge::Known(newest), Some(now)) = (view.head().job(id), view.now()) else {
            return self.pass(id, view).await;
        };
        let ahead = presses_from(&newest, self.context.account(), &self.timing, now)
            .and_then(|from| from.checked_since(now));
        match ahead {
            Some(ahead) if ahead.get() > 0 => {
                let limit = Duration::from_secs(ahead.get());
                tokio::time::timeout(limit, self.pass(id, view))
                    .await
                    .unwrap_or_else(|_| {
                        tracing::debug!(job = %id, "a pass gave way to what presses");
                        Ok(())
                    })
            }
            Some(_) | None => self.pass(id, view).await,
        }
    }

    /// One pass over one job.
    async fn pass(&self, id: JobId, view: &ChainView) -> Result<(), ProviderError> {
        let begun = Instant::now();
        let (final_job, newest) = (view.finalized().job(id), view.head().job(id));
        let (Knowledge::Known(job), Knowledge::Known(newest), Some(now)) = (final_job, newest, view.now())
        else {
            // Nothing is deleted, said or paid for on what is not known.
            tracing::warn!(job = %id, "the job's events do not fit; it is left as it is");
            return Ok(());
        };
        let memo = self.memo(id);
        let mut memo = memo.lock().await;
        let offers = self.offers_by_series();
        let Some(lease) = self.record(&job, &offers, &mut memo).await? else {
            return self
                .leave_unsealed(&job, &newest, &offers, view, now, &mut memo)
                .await;
        };
        if is_closed(&lease) && !is_live(&job, self.context.account()) {
            return Ok(());
        }
        // A lease that is done soon has one status: its last.
        memo.written.get_or_insert_with(Instant::now);
        let pool = lease
            .annotations()
            .get(POOL_ANNOTATION)
            .cloned()
            .unwrap_or_else(|| self.pool_of(id));
        let pods = self.slice_pods();
        let prefix = format!("{}-", lease_name(id));
        let own: Vec<_> = pods
            .iter()
            .filter(|pod| pod.name.starts_with(&prefix))
            .cloned()
            .collect();
        let stored = stored_reports(lease.status.as_ref());
        let presses =
            presses_from(&newest, self.context.account(), &self.timing, now).is_some_and(|from| from <= now);
        let seen = Seen {
            patience: presses.then(|| Duration::from_secs(self.timing.margin.get()) / PARTS_OF_MARGIN),
            job: &job,
            newest: &newest,
            offers: &offers,
            pods: Knowledge::Known(&own),
            stored: &stored,
            now,
        };
        let facts = self.observe(&seen, &mut memo).await;
        let receipts: GroupSet = memo.receipts.keys().copied().collect();
        let pod_views = facts.pods.known().unwrap_or_default();
        let plan = provider_plan(
            &LeaseView {
                provider: self.context.account(),
                final_chain: Knowledge::Known(job),
                chain: Knowledge::Known(newest),
                materials: facts.materials,
                unfit: memo.unusable.as_ref().map(|unusable| unusable.reason),
                pods: Knowledge::Known(&pod_views),
                results: &facts.results,
                indexed: &memo.indexed,
                receipts: &receipts,
                posted: &memo.posted,
                slots: self.room(&job, &offers, &own),
            },
            &self.timing,
            now,
        );
        let target = Target {
            job: &job,
            view,
            offers: &offers,
            pods: &pods,
            pool: &pool,
            now,
        };
        let applied = self.apply_all(&target, &plan, &mut memo).await;
        let decimals = self.decimals(job.terms.pricing.token).await;
        let standing = Standing {
            job: &newest,
            pods: &pod_views,
            plan: &plan,
            decimals,
        };
        // A step that failed is told of too; it does not keep the status from being written.
        let finished_early = applied.is_err() && plan.contains(&ProviderStep::Finish);
        if !finished_early {
            self.write_status(&lease, &standing, &mut memo).await?;
        }
        applied?;
        if plan.contains(&ProviderStep::Finish) {
            tracing::info!(job = %id, "the lease is closed");
            // The watch may show the object as it was for a while.
            *memo = Memo {
                lease: memo.lease.take(),
                ..Memo::default()
            };
        }
        self.context
            .metrics
            .reconciled(KIND, "done", begun.elapsed().as_secs_f64());
        Ok(())
    }

    /// A job of which nothing is sealed has no lease, and may never have one: the bond and the slots that it holds are
    /// got back all the same.
    async fn leave_unsealed(
        &self,
        job: &Job<'_>,
        newest: &Job<'_>,
        offers: &BTreeMap<u32, OfferOf>,
        view: &ChainView,
        now: UnixSeconds,
        memo: &mut Memo,
    ) -> Result<(), ProviderError> {
        let (results, none, posted) = (BTreeMap::new(), GroupSet::new(), BTreeMap::new());
        let plan = provider_plan(
            &LeaseView {
                provider: self.context.account(),
                final_chain: Knowledge::Known(*job),
                chain: Knowledge::Known(*newest),
                materials: Knowledge::Unknown,
                unfit: None,
                pods: Knowledge::Unknown,
                results: &results,
                indexed: &none,
                receipts: &none,
                posted: &posted,
                slots: SlotCount::ZERO,
            },
            &self.timing,
            now,
        );
        let closing: Vec<_> = plan
            .into_iter()
            .filter(|step| matches!(step, ProviderStep::CloseGroups { .. }))
            .collect();
        let target = Target {
            job,
            view,
            offers,
            pods: &[],
            pool: &self.pool_of(job.id),
            now,
        };
        self.apply_all(&target, &closing, memo).await
    }

    async fn apply_all(
        &self,
        target: &Target<'_>,
        plan: &[ProviderStep],
        memo: &mut Memo,
    ) -> Result<(), ProviderError> {
        if self.context.args.observe_only {
            return Ok(());
        }
        let mut first = Ok(());
        for step in plan {
            if !self.context.leadership.holds() {
                return Ok(());
            }
            if let Err(error) = self.apply(target, step, memo).await {
                tracing::debug!(job = %target.job.id, ?step, %error, "a step failed");
                if first.is_ok() {
                    first = Err(error);
                }
            }
        }
        first
    }

    /// Slots for this lease: those that it has, and those that are free.
    fn room(&self, job: &Job<'_>, offers: &BTreeMap<u32, OfferOf>, own: &[SlicePodState]) -> SlotCount {
        let series: BTreeSet<u32> = job
            .seats_of(self.context.account())
            .map(|(_, _, seat, _)| seat.series)
            .collect();
        let free = series.iter().filter_map(|series| {
            Some(
                self.slots
                    .free(*series, offers.get(series)?.slots(), || self.slice_pods()),
            )
        });
        let active = own.iter().filter(|pod| is_active(pod)).count();
        SlotCount::new(free.fold(u32::try_from(active).unwrap_or(u32::MAX), u32::saturating_add))
    }

    /// The lease's object, made or brought up to date; `None` while there is nothing to record.
    async fn record(
        &self,
        job: &Job<'_>,
        offers: &BTreeMap<u32, OfferOf>,
        memo: &mut Memo,
    ) -> Result<Option<ComputeLease>, ProviderError> {
        let account = self.context.account();
        let api: Api<ComputeLease> =
            Api::namespaced(self.context.client.clone(), &self.context.args.namespace);
        let references = offers
            .iter()
            .map(|(series, offer)| (*series, offer.reference.clone()))
            .collect();
        let (namespace, domain) = (&self.context.args.namespace, &self.context.market.domain);
        let found = lease(
            job,
            domain,
            account,
            &references,
            namespace,
            &self.pool_of(job.id),
        );
        let stored = match self.stored_lease(job.id) {
            Some(stored) => {
                memo.shown = true;
                Some(newer(stored, memo.lease.take()))
            }
            // Written a moment ago, or deleted by somebody: then it is made anew.
            None => memo.lease.take().filter(|_| !std::mem::take(&mut memo.shown)),
        };
        memo.lease.clone_from(&stored);
        let Some(stored) = stored else {
            let Some(found) = found else { return Ok(None) };
            if self.context.args.observe_only {
                return Ok(None);
            }
            let name = found.name_any();
            let created = match api.create(&PostParams::default(), &found).await {
                Ok(created) => {
                    tracing::info!(job = %job.id, lease = name, "a lease begins");
                    created
                }
                Err(kube::Error::Api(status)) if status.is_already_exists() => api
                    .get(&name)
                    .await
                    .map_err(ProviderError::kubernetes("read a lease"))?,
                Err(error) => return Err(ProviderError::kubernetes("create a lease")(error)),
            };
            memo.lease = Some(created.clone());
            return Ok(Some(created));
        };
        if stored.spec.provider.as_str() != account.to_string()
            || stored.spec.market.contract.as_str() != domain.market.to_string()
        {
            tracing::warn!(job = %job.id, "a lease is of another account or market and is left alone");
            return Ok(None);
        }
        let more = found.and_then(|found| add_awards(&stored.spec.awards, &found.spec.awards));
        let Some(awards) = more.filter(|_| !self.context.args.observe_only) else {
            return Ok(Some(stored));
        };
        let patch =
            json!({"metadata": {"resourceVersion": stored.resource_version()}, "spec": {"awards": awards}});
        let patched = api
            .patch(&stored.name_any(), &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(ProviderError::kubernetes("add awards to a lease"))?;
        tracing::info!(job = %job.id, awards = patched.spec.awards.len(), "a lease has more awards");
        memo.lease = Some(patched.clone());
        Ok(Some(patched))
    }

    /// The namespace for a job's pods: the same each time as long as the pool has the same size.
    fn pool_of(&self, job: JobId) -> String {
        let args = &self.context.args.provider;
        let [a, b, c, d, ..] = *job.as_bytes();
        format!(
            "{}-{}",
            args.pool_prefix,
            u32::from_be_bytes([a, b, c, d]) % u32::from(args.pool_size)
        )
    }

    /// The token's decimals; they never change. `None` while the chain does not answer.
    async fn decimals(&self, token: Address) -> Option<Decimals> {
        let known = self
            .decimals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&token)
            .copied();
        if known.is_some() {
            return known;
        }
        match self.reader.token_decimals(token, BlockTag::Latest).await {
            Ok(decimals) => {
                self.decimals
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(token, decimals);
                Some(decimals)
            }
            Err(error) => {
                tracing::debug!(%error, "the token cannot be asked for its decimals");
                None
            }
        }
    }

    /// Clears up what old leases left: pods of seats that ended for good, and records that were kept long enough.
    async fn sweep(&self, view: &ChainView) -> Result<(), ProviderError> {
        if self.context.args.observe_only {
            return Ok(());
        }
        let account = self.context.account();
        let over: BTreeMap<String, JobId> = view
            .finalized()
            .jobs_of_provider(account)
            .filter(
                |id| matches!(view.finalized().job(*id), Knowledge::Known(job) if !is_live(&job, account)),
            )
            .map(|id| (lease_name(id), id))
            .collect();
        for pod in self.pods.iter().flat_map(Store::state) {
            let owner = pod.labels().get(LEASE_LABEL).and_then(|name| over.get(name));
            if let (Some(job), Some(pod)) = (owner, results::read(&pod))
                && !pod.leaving
            {
                tracing::info!(%job, pod = pod.name, "a pod was left behind by its lease");
                self.remove_pod(&pod).await?;
                self.remove_secret(&pod.namespace, &lease_name(*job)).await?;
            }
        }
        let kept = self.context.args.provider.lease.lease_kept.as_secs();
        let api: Api<ComputeLease> =
            Api::namespaced(self.context.client.clone(), &self.context.args.namespace);
        for object in self.records.state() {
            let Ok(lease) = &object.0 else { continue };
            let closed_at = closed_at(lease);
            let name = lease.name_any();
            if over.contains_key(&name)
                && closed_at.is_some_and(|at| shell::now().get() >= at.saturating_add(kept))
            {
                match api.delete(&name, &DeleteParams::default()).await {
                    Ok(_) => tracing::info!(lease = name, "the record of a finished lease goes"),
                    Err(kube::Error::Api(status)) if status.is_not_found() => {}
                    Err(error) => return Err(ProviderError::kubernetes("delete an old lease")(error)),
                }
            }
        }
        Ok(())
    }
}

/// What was written last counts until the watch has shown it.
fn newer(stored: ComputeLease, written: Option<ComputeLease>) -> ComputeLease {
    let version = |lease: &ComputeLease| lease.resource_version()?.parse::<u64>().ok();
    match written {
        Some(written) if written.uid() == stored.uid() && version(&written) > version(&stored) => written,
        Some(_) | None => stored,
    }
}

fn is_closed(lease: &ComputeLease) -> bool {
    lease
        .status
        .as_ref()
        .is_some_and(|status| status.phase == Some(LeasePhase::Closed))
}

fn closed_at(lease: &ComputeLease) -> Option<u64> {
    let status = lease
        .status
        .as_ref()
        .filter(|status| status.phase == Some(LeasePhase::Closed))?;
    let last = status
        .conditions
        .iter()
        .map(|condition| condition.last_transition_time.0.as_second())
        .max()?;
    u64::try_from(last).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_is_named_by_its_address() {
        for (url, good) in [
            ("http://10.96.0.40:8080", true),
            ("http://[fd00::1]:8080", true),
            ("http://tradewind-relay.tradewind.svc:8080", false),
            ("10.96.0.40:8080", false),
            ("", false),
        ] {
            assert_eq!(check_relay(url).is_ok(), good, "{url}");
        }
    }
}
