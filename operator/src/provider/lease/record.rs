//! The ComputeLease object of a job: made, kept up to date with the awards, and removed when it is old.

use std::collections::BTreeMap;

use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use kube_runtime::reflector::{self, Store};
use serde_json::json;
use tradewind_crds::{ComputeLease, compute_lease::LeasePhase};
use tradewind_market::{JobId, Knowledge, index::Job};

use super::{
    GuardedLease, KIND, Leases, OfferOf,
    awards::{add_awards, is_live, lease},
    memo::Memo,
    pod::{LEASE_LABEL, lease_name},
    results,
};
use crate::{
    provider::ProviderError,
    shell::{self, chain::ChainView},
};

impl Leases {
    /// A job's object, as the watch shows it.
    pub(super) fn stored_lease(&self, job: JobId) -> Option<ComputeLease> {
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

    /// The lease's object, made or brought up to date; `None` while there is nothing to record.
    pub(super) async fn record(
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

    /// Clears up what old leases left: pods of seats that ended for good, and records that were kept long enough.
    pub(super) async fn sweep(&self, view: &ChainView) -> Result<(), ProviderError> {
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
