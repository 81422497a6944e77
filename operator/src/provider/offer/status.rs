//! The only writer of ProviderOffer statuses. Nothing is written that says only a newer time, and counts are written
//! seldom: every award and every end of one changes them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tradewind_crds::{
    condition::{self, ConditionStatus, Finding},
    market_ref::MarketRef,
    provider_offer::{
        OfferCondition, OfferReason, ProviderOffer, ProviderOfferStatus, PublishedOffer, SlotCounts,
    },
};
use tradewind_market::Decimals;

use super::apply::Applied;
use crate::shell::{context::Context, events::Telling};

const KIND: &str = "ProviderOffer";
const FIELD_MANAGER: &str = "tradewind-operator";

/// One finding about an offer.
pub(crate) type OfferFinding = Finding<OfferCondition>;

/// A finding in fewer words.
pub(crate) fn finding(
    condition: OfferCondition,
    status: ConditionStatus,
    reason: OfferReason,
    message: impl Into<String>,
) -> OfferFinding {
    Finding {
        condition,
        status,
        reason,
        message: message.into(),
    }
}

/// When each offer's status was written last, which spaces the writes that say only newer counts.
#[derive(Debug)]
pub(crate) struct Writes {
    every: Duration,
    last: Mutex<HashMap<String, Instant>>,
}

impl Writes {
    /// Counts are written so often at most.
    pub(crate) fn new(every: Duration) -> Self {
        Self {
            every,
            last: Mutex::default(),
        }
    }

    fn is_time(&self, offer: &str, now: Instant) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(offer)
            .is_none_or(|at| now.duration_since(*at) >= self.every)
    }

    fn written(&self, offer: String, now: Instant) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|_, at| now.duration_since(*at) < self.every);
        last.insert(offer, now);
    }
}

/// Whether nothing is new but what is counted.
fn only_counts_changed(stored: &ProviderOfferStatus, derived: &ProviderOfferStatus) -> bool {
    let counts_of_stored = ProviderOfferStatus {
        slots: stored.slots,
        earned: stored.earned.clone(),
        reliability: stored.reliability.clone(),
        ..derived.clone()
    };
    stored.slots.is_some() && counts_of_stored == *stored
}

/// Derives the status from what was applied, and writes it where it is another than the stored one.
pub(crate) async fn write(
    context: &Context,
    offer: &ProviderOffer,
    applied: Applied,
    writes: &Writes,
) -> Result<(), kube::Error> {
    let stored = offer.status.clone().unwrap_or_default();
    let mut told = Vec::new();
    let derived = derive(context, offer, &stored, applied, &mut told);
    let namespace = offer.namespace().unwrap_or_default();
    let name = format!("{namespace}/{}", offer.name_any());
    let waits = || only_counts_changed(&stored, &derived) && !writes.is_time(&name, Instant::now());
    if derived == stored || waits() {
        return Ok(());
    }
    let api: Api<ProviderOffer> = Api::namespaced(context.client.clone(), &namespace);
    let patch = json!({"apiVersion": ProviderOffer::api_version(&()), "kind": KIND, "status": derived});
    api.patch_status(
        &offer.name_any(),
        &PatchParams::apply(FIELD_MANAGER).force(),
        &Patch::Apply(patch),
    )
    .await?;
    writes.written(name, Instant::now());
    context.metrics.status_writes.with_label_values(&[KIND]).inc();
    let reference = offer.object_ref(&());
    for finding in told {
        let status = if finding.status == ConditionStatus::True {
            "True"
        } else {
            "False"
        };
        context
            .metrics
            .findings
            .with_label_values(&[
                KIND,
                condition_name(finding.condition),
                status,
                reason_name(finding.reason),
            ])
            .inc();
        let telling = Telling {
            warning: finding.status == ConditionStatus::False && finding.reason != OfferReason::Waiting,
            action: "Offer",
            reason: reason_name(finding.reason),
            note: finding.message,
        };
        context.events.tell(&reference, telling).await;
    }
    Ok(())
}

fn condition_name(condition: OfferCondition) -> &'static str {
    condition::Name::as_str(condition)
}

fn reason_name(reason: OfferReason) -> &'static str {
    condition::Name::as_str(reason)
}

fn derive(
    context: &Context,
    offer: &ProviderOffer,
    stored: &ProviderOfferStatus,
    applied: Applied,
    told: &mut Vec<OfferFinding>,
) -> ProviderOfferStatus {
    let now = Time(Timestamp::now());
    let generation = offer.metadata.generation;
    let mut status = ProviderOfferStatus {
        observed_generation: generation,
        provider: Some(context.account().to_string().into()),
        market: Some(MarketRef {
            chain_id: context.market.domain.chain_id,
            contract: context.market.domain.market.to_string().into(),
        }),
        conditions: stored.conditions.clone(),
        ..stored.clone()
    };
    for finding in applied.findings {
        if condition::set(&mut status.conditions, finding.clone(), generation, &now) {
            told.push(finding);
        }
    }
    let deciding = status
        .conditions
        .iter()
        .find(|condition| condition.status != ConditionStatus::True)
        .or(status.conditions.last());
    status.reason = deciding.map(|condition| condition.reason.clone());
    status.message = deciding.map(|condition| condition.message.clone());
    if let Some(class) = applied.class {
        status.class = Some(class.to_string());
    }
    status.published = applied.published.map(|published| PublishedOffer {
        hash: published.hash.to_string().into(),
        nonce: published.nonce.get(),
        expires_at: Time(timestamp(published.until.get())),
    });
    if let Some(counts) = applied.slots {
        status.slots = Some(SlotCounts {
            offered: counts.0.get(),
            awarded: counts.1.get(),
        });
    }
    if let Some((earned, decimals)) = applied.earned {
        status.earned = Some(decimal(earned, decimals).into());
    }
    status.reliability = applied.reliability.map(Into::into);
    condition::carry_times(&stored.conditions, &mut status.conditions);
    status
}

fn decimal(amount: tradewind_market::TokenAmount, decimals: Decimals) -> String {
    amount.to_decimal(decimals)
}

fn timestamp(seconds: u64) -> Timestamp {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_alone_wait_and_whatever_else_is_new_does_not() {
        let stored = ProviderOfferStatus {
            slots: Some(SlotCounts {
                offered: 8,
                awarded: 1,
            }),
            reason: Some("Published".to_owned()),
            ..ProviderOfferStatus::default()
        };
        let check = |change: fn(&mut ProviderOfferStatus), counts_alone: bool| {
            let mut derived = stored.clone();
            change(&mut derived);
            assert_eq!(
                only_counts_changed(&stored, &derived),
                counts_alone,
                "{derived:?}"
            );
        };
        check(|status| status.slots.as_mut().unwrap().awarded = 2, true);
        check(|status| status.reliability = Some("0.998".into()), true);
        check(|status| status.reason = Some("Draining".to_owned()), false);
        let first = ProviderOfferStatus::default();
        assert!(
            !only_counts_changed(&first, &stored),
            "the first counts are waited for"
        );
    }

    #[test]
    fn counts_are_written_once_in_an_interval() {
        let writes = Writes::new(Duration::from_mins(1));
        let start = Instant::now();
        assert!(writes.is_time("a/b", start));
        writes.written("a/b".to_owned(), start);
        assert!(!writes.is_time("a/b", start + Duration::from_secs(59)));
        assert!(writes.is_time("a/c", start), "each offer by itself");
        assert!(writes.is_time("a/b", start + Duration::from_mins(1)));
    }
}
