//! Agreed results: fetched from whoever stored them, checked against what was agreed on, and handed on.

use std::time::Duration;

use tokio::time::Instant;
use tradewind_crds::compute_job::JobReason;
use tradewind_gateway_api::results::Wanted;
use tradewind_market::{Address, GroupIndex, index::Job};

use super::{Consumer, delivery, driving::Subject, memory::Memo, outputs, template};

/// After a group's results could not be had from anyone.
const WAIT: Duration = Duration::from_secs(10);

impl Consumer {
    /// Fetches a group's results from the first provider whose bytes are what was agreed on, and hands them on.
    pub(super) async fn fetch(
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
}
