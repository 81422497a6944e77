//! The consumer role: places the jobs of this cluster in the market, and sees them to their end.
//!
//! A pass over a job goes through the same phases each time: observe (objects, chain, gateways), validate (every
//! refusal by name), plan (pure), apply, and at last the status. Why a pass was made is not known to it. Data flows
//! [`identity`] → [`quoting`] ([`placing`], [`offers`], [`terms`]) → [`deposit`], [`spending`] → [`preparing`]
//! ([`sources`], [`importing`], [`template`], [`content`]) → [`opening`], [`driving`] (by
//! [`tradewind_market::plan::consumer`]; [`acting`], [`publishing`], [`mailbox`]) → [`outputs`], [`delivery`],
//! [`exporting`] → [`status`], [`due`], [`news`]. [`movers`] run what moves more than an object of the API holds.

mod acting;
mod cancel;
mod content;
mod delivery;
mod deposit;
mod detached;
mod driving;
mod due;
mod exporting;
mod fetching;
mod identity;
mod importing;
mod mailbox;
mod memory;
mod movers;
mod news;
mod offers;
mod opening;
mod outputs;
mod pinned;
mod placing;
mod preparing;
mod publishing;
mod quoting;
mod reasons;
mod reconcile;
mod rights;
mod seeking;
mod sources;
mod spending;
mod status;
mod template;
mod terms;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use futures::{StreamExt, future::join_all};
use kube::{Api, core::DeserializeGuard};
use kube_runtime::{Controller, controller, reflector::Store, watcher};
use prometheus::{IntCounterVec, Opts};
use tradewind_chain::{
    BlockTag, Disposition,
    read::{ReadError, Reader},
};
use tradewind_crds::{ComputeJob, compute_job::JobReason};
use tradewind_daemon::CancellationToken;
use tradewind_gateway_api::client::ClientError;
use tradewind_market::{Address, Bps, Decimals, terms::MAX_JOB_GATEWAYS};

use self::{cancel::Records, memory::Memory, spending::SpendingError, status::Stage};
use crate::{
    registry::Registries,
    shell::{context::Context, metrics},
    treasury::Purse,
};

/// The kind's name in metrics and Events.
const KIND: &str = "ComputeJob";

/// A job as the API server gives it: one that cannot be read stops only itself.
type Guarded = DeserializeGuard<ComputeJob>;

/// Why the role ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsumerError {
    /// Its metrics could not be registered.
    #[error("the consumer's metrics could not be registered")]
    Metrics(#[from] prometheus::Error),
}

/// What all passes share.
pub(crate) struct Consumer {
    context: Arc<Context>,
    reader: Reader,
    purse: Purse,
    registries: Registries,
    records: Records,
    memory: Memory,
    metrics: ConsumerMetrics,
    decimals: Mutex<HashMap<Address, Decimals>>,
    fee: OnceLock<Bps>,
    gateway_accounts: Mutex<HashMap<String, Address>>,
    failures: Mutex<HashMap<String, u32>>,
    stores: OnceLock<Vec<Store<Guarded>>>,
}

#[derive(Clone, Debug)]
struct ConsumerMetrics {
    /// `tradewind_offer_refusals_total{reason}`.
    refusals: IntCounterVec,
}

/// Runs until shutdown. A replica that does not hold the lease only waits for it.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) -> Result<(), ConsumerError> {
    let gate = context.readiness.gate("jobs");
    // A standby is ready: there is nothing that it should have done.
    gate.open();
    let consumer = Arc::new(Consumer::new(Arc::clone(&context))?);
    let mut leadership = context.leadership.clone();
    tokio::select! {
        held = leadership.acquired() => if !held { return Ok(()) },
        () = shutdown.cancelled() => return Ok(()),
    }
    gate.wait("jobs are not listed yet");
    let (controllers, stores): (Vec<_>, Vec<_>) = job_apis(&context)
        .into_iter()
        .map(|api| {
            let controller = Controller::new(api, watcher::Config::default());
            let store = controller.store();
            let config = controller::Config::default().concurrency(context.args.concurrency);
            let passes = controller
                .with_config(config)
                .graceful_shutdown_on(shutdown.clone().cancelled_owned())
                .run(
                    reconcile::reconcile,
                    reconcile::after_error,
                    Arc::clone(&consumer),
                );
            (passes.for_each(|_| std::future::ready(())), store)
        })
        .unzip();
    let listed = async {
        for store in &stores {
            tokio::select! {
                ready = store.wait_until_ready() => if ready.is_err() { return },
                () = shutdown.cancelled() => return,
            }
        }
        gate.open();
    };
    // Set once, before the first pass can look at it.
    let _first = consumer.stores.set(stores.clone());
    tokio::join!(join_all(controllers), listed, detached::run(&consumer, &shutdown));
    Ok(())
}

/// All namespaces, or those that the operator was told.
fn job_apis(context: &Context) -> Vec<Api<Guarded>> {
    let namespaces = &context.args.consumer.namespaces;
    if namespaces.is_empty() {
        return vec![Api::all(context.client.clone())];
    }
    namespaces
        .iter()
        .map(|namespace| Api::namespaced(context.client.clone(), namespace))
        .collect()
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}

impl Consumer {
    fn new(context: Arc<Context>) -> Result<Self, ConsumerError> {
        let refusals = IntCounterVec::new(
            Opts::new(
                "tradewind_offer_refusals_total",
                "Offers that were passed over in matching, by reason.",
            ),
            &["reason"],
        )?;
        Ok(Self {
            reader: Reader::new(context.chain.node().clone(), context.market.domain.market),
            purse: Purse::new(Arc::clone(&context)),
            registries: Registries::new(
                context.http.clone(),
                context.args.consumer.plain_http_registries.clone(),
            ),
            records: Records::new(context.client.clone(), &context.args.namespace),
            memory: Memory::default(),
            metrics: ConsumerMetrics {
                refusals: metrics::register(&context.registry, refusals)?,
            },
            decimals: Mutex::default(),
            fee: OnceLock::new(),
            gateway_accounts: Mutex::default(),
            failures: Mutex::default(),
            stores: OnceLock::new(),
            context,
        })
    }

    /// A token's decimals, asked once.
    async fn decimals(&self, token: Address) -> Result<Decimals, ReadError> {
        let known = self
            .decimals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&token)
            .copied();
        if let Some(decimals) = known {
            return Ok(decimals);
        }
        let decimals = self.reader.token_decimals(token, BlockTag::Latest).await?;
        self.decimals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(token, decimals);
        Ok(decimals)
    }

    /// The market's fee, which it was deployed with; asked once.
    async fn fee(&self) -> Result<Bps, ReadError> {
        if let Some(fee) = self.fee.get() {
            return Ok(*fee);
        }
        let fee = self.reader.parameters(BlockTag::Latest).await?.fee_bps;
        Ok(*self.fee.get_or_init(|| fee))
    }

    /// The accounts of the gateways, as jobs and offers name them. Each is asked once; those that do not answer, or
    /// are of another market, are left out. An error only where none is left.
    async fn gateway_accounts(&self) -> Result<Vec<Address>, ClientError> {
        let mut accounts = Vec::new();
        let mut failure = ClientError::NoGateway;
        for gateway in self.context.gateways.gateways().iter().take(MAX_JOB_GATEWAYS) {
            let known = self
                .gateway_accounts
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(gateway.as_str())
                .copied();
            if let Some(account) = known {
                accounts.push(account);
                continue;
            }
            match self.context.gateways.only(gateway).about().await {
                Ok(about) => {
                    let domain = &self.context.market.domain;
                    if (about.chain_id, about.market) != (domain.chain_id, domain.market) {
                        tracing::error!(%gateway, market = %about.market, "the gateway serves another market; it is not used");
                        continue;
                    }
                    let mut cache = self
                        .gateway_accounts
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    cache.insert(gateway.to_string(), about.gateway);
                    accounts.push(about.gateway);
                }
                Err(error) => failure = error,
            }
        }
        accounts.sort_unstable();
        accounts.dedup();
        if accounts.is_empty() {
            Err(failure)
        } else {
            Ok(accounts)
        }
    }
}

/// Why no money is bound, as a stage.
fn before_money(error: &SpendingError) -> Stage {
    let reason = match error {
        SpendingError::NoLimit { .. } | SpendingError::Unusable(_) => JobReason::NoSpendingLimit,
        SpendingError::JobTooLarge { .. } | SpendingError::Reached { .. } => JobReason::SpendingLimitReached,
        SpendingError::Api(_) | SpendingError::Contended => JobReason::Waiting,
    };
    Stage::BeforeMoney(reason, error.to_string())
}

/// What a failed look at the chain means for a pass.
fn chain_unavailable(error: &ReadError) -> Stage {
    match error.disposition() {
        Disposition::Retry | Disposition::AwaitChange | Disposition::Halt => {
            Stage::BeforeMoney(JobReason::ChainUnavailable, error.to_string())
        }
    }
}
