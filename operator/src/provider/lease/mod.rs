//! The reconciler of leases: runs what this provider was awarded, says what came out, and clears up.
//!
//! What is a lease's is decided by the final chain; the ComputeLease object is its record. A pass over a job looks
//! ([`observe`]), asks the market's planner, carries its steps out ([`apply`]) and tells how it stands ([`status`]).
//! Whatever woke it ([`watching`]), a pass starts from what is, so it may end at any point and begin anew.

mod apply;
mod awards;
mod materials;
mod memo;
mod messages;
mod observe;
mod passes;
mod pod;
mod record;
mod results;
pub(crate) mod settings;
mod sign;
mod slots;
mod status;
mod watching;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt as _, core::DeserializeGuard};
use kube_runtime::reflector::Store;
use prometheus::{IntCounterVec, Opts};
use tradewind_chain::{BlockTag, read::Reader};
use tradewind_crds::{
    ComputeLease, ProviderOffer, ProviderOfferSpec,
    compute_lease::{LeasePhase, OfferRef},
};
use tradewind_gateway_api::seal::OpeningKey;
use tradewind_market::{
    Address, Decimals, GroupSet, JobId, Knowledge, Slots as SlotCount, UnixSeconds,
    index::Job,
    plan::provider::{LeaseView, ProviderStep, Timing, presses_from, provider_plan},
};

use self::{
    apply::Target,
    awards::{POOL_ANNOTATION, is_live},
    memo::Memo,
    observe::Seen,
    pod::lease_name,
    results::SlicePodState,
    slots::{Slots, is_active},
    status::{Standing, stored_reports},
};
use super::{ProviderError, offer};
use crate::shell::{chain::ChainView, context::Context, metrics};

pub(crate) use self::watching::run;

const KIND: &str = "ComputeLease";
/// Where a deadline presses, gateways get this part of the margin to answer, each of the few times that they are asked
/// before something is said.
const PARTS_OF_MARGIN: u32 = 4;

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
    pub(super) async fn timely_pass(&self, id: JobId, view: &ChainView) -> Result<(), ProviderError> {
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
}

fn is_closed(lease: &ComputeLease) -> bool {
    lease
        .status
        .as_ref()
        .is_some_and(|status| status.phase == Some(LeasePhase::Closed))
}
