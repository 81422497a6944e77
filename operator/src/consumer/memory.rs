//! What is remembered of a job between passes. All of it can be had again from chain, objects and gateways: it only
//! saves asking twice.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;
use tradewind_crds::{ComputeJobStatus, compute_job::JobReason};
use tradewind_gateway_api::offer::SignedOffer;
use tradewind_market::{Address, Hash32, JobId, OfferHash, UnitSet};

use super::{deposit::Reservations, due::Writes, mailbox::Mailbox, offers::Offers, preparing::Prepared};

/// What is remembered of one job.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    /// Messages of its providers.
    pub(crate) mailbox: Mailbox,
    /// What was stored for it.
    pub(crate) prepared: Option<Prepared>,
    /// Whether the movers of its inputs were removed.
    pub(crate) swept: bool,
    /// When seats were last looked for.
    pub(crate) sought: Option<Instant>,
    /// What kept that from finding any.
    pub(crate) seek_blocked: Option<(JobReason, String)>,
    /// The last wish to fill seats.
    pub(crate) filling: Option<Hash32>,
    /// Not before then are results asked for again, and why not.
    pub(crate) fetch_after: Option<Instant>,
    /// What kept results from being had.
    pub(crate) fetch_blocked: Option<(JobReason, String)>,
    /// Offers that it was last matched with.
    pub(crate) offers: BTreeMap<OfferHash, SignedOffer>,
    /// Why offers were passed over at the last match, counted.
    pub(crate) refusals: Vec<(String, u32)>,
    /// Providers that the published bundle has an envelope for; `None` if it was not looked at yet.
    pub(crate) bundled: Option<BTreeSet<Address>>,
    /// Units whose results were checked and are where the job wants them.
    pub(crate) delivered: UnitSet,
    /// Of those, the ones that exited with a code other than 0.
    pub(crate) exited_badly: UnitSet,
    /// Files to be written into one ConfigMap at the end, by key.
    pub(crate) small_files: BTreeMap<String, Vec<u8>>,
    /// The status as it was last derived, written or not: what changed since is told, and keeps its time.
    pub(crate) derived: Option<ComputeJobStatus>,
    /// When the status was written.
    pub(crate) writes: Writes,
}

impl Memo {
    /// Region and class of each provider, as its offers describe them.
    pub(crate) fn descriptions(&self) -> BTreeMap<Address, (String, String)> {
        let describe = |offer: &SignedOffer| {
            let details = offer.details.value();
            (
                offer.offer.provider,
                (details.region.clone(), details.class.to_string()),
            )
        };
        self.offers.values().map(describe).collect()
    }

    /// Keeps what the gateways had, and what was known before of offers that they no longer have: seats may hold them.
    pub(crate) fn keep(&mut self, offers: Offers) {
        self.offers.extend(offers.genuine);
    }

    /// An offer by its hash, or else any of the same provider, whose recipient is the same.
    pub(crate) fn offer_of(&self, hash: OfferHash, provider: Address) -> Option<&SignedOffer> {
        self.offers.get(&hash).or_else(|| {
            self.offers
                .values()
                .find(|offer| offer.offer.provider == provider)
        })
    }
}

/// The memos of all jobs at work.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    jobs: Mutex<HashMap<JobId, Arc<tokio::sync::Mutex<Memo>>>>,
    /// Of the balance that they share.
    pub(crate) reservations: Reservations,
}

impl Memory {
    /// The memo of a job. Held locked for a whole pass, so that a job has one pass at a time.
    pub(crate) fn of(&self, job: JobId) -> Arc<tokio::sync::Mutex<Memo>> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(jobs.entry(job).or_default())
    }

    /// Forgets a job that is over.
    pub(crate) fn forget(&self, job: JobId) {
        self.reservations.release(job);
        self.jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&job);
    }
}
