//! A pass over one object: what is common to all of them, from the guard against unreadable objects to the one
//! write of the status.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use kube_runtime::controller::Action;
use tokio::time::Instant;
use tradewind_crds::{
    ComputeJob, MarketRef,
    compute_job::{JobCondition, JobReason},
    condition::is_true,
    scalar::{AddressText, HashText},
};
use tradewind_gateway_api::seal::SealError;
use tradewind_market::{Knowledge, Seconds, state::JobState};

use super::{
    Consumer, Guarded, KIND,
    cancel::{Record, RecordError},
    driving::{Outcome, Subject},
    due,
    identity::Identity,
    memory::Memo,
    news,
    pinned::written_template,
    status::{self, Facts, Stage},
};
use crate::shell::{self, chain::ChainView, events::Telling};

/// Keeps a deleted job's object until its cancel record is written, and no longer.
const FINALIZER: &str = "tradewind.dev/cancel";
/// The field manager of statuses.
const MANAGER: &str = "tradewind-consumer";
/// Of the waits between failing passes.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_mins(2);
/// How long after its opening could last have happened a cancelled job that the chain never saw is remembered.
const FORGET_AFTER_OPENING: Seconds = Seconds::new(86_400);

/// Why a pass ended early. The next one starts from what is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// The API server did not take a write.
    #[error("the job's {what} could not be written")]
    Write {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// Someone else wrote the object since it was read: it is read again.
    #[error("the job was written by others meanwhile")]
    Stale,
    /// The cancel record could not be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The job's keys could not be made.
    #[error("the job's keys could not be derived")]
    Keys(#[from] SealError),
}

impl ReconcileError {
    /// The variant's name, for metrics.
    fn label(&self) -> &'static str {
        match self {
            Self::Write { .. } => "Write",
            Self::Stale => "Stale",
            Self::Record(_) => "Record",
            Self::Keys(_) => "Keys",
        }
    }
}

/// One pass.
pub(crate) async fn reconcile(
    object: Arc<Guarded>,
    consumer: Arc<Consumer>,
) -> Result<Action, ReconcileError> {
    let started = Instant::now();
    let result = match &object.0 {
        Ok(job) => consumer.pass(job).await,
        Err(invalid) => {
            consumer
                .context
                .metrics
                .invalid_objects
                .with_label_values(&[KIND])
                .inc();
            let telling = Telling {
                warning: true,
                action: "Read",
                reason: "Unreadable",
                note: format!("the object cannot be read and is left alone: {invalid}"),
            };
            consumer
                .context
                .events
                .tell(&object.object_ref(&()), telling)
                .await;
            Ok(Action::await_change())
        }
    };
    let outcome = match &result {
        Ok(_) => {
            consumer
                .failures
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .remove(&key(&object));
            "ok"
        }
        Err(error) => error.label(),
    };
    consumer
        .context
        .metrics
        .reconciled(KIND, outcome, started.elapsed().as_secs_f64());
    result
}

/// When to try again after an error: doubling by object, so that one that keeps failing does not crowd out others.
#[allow(
    clippy::needless_pass_by_value,
    reason = "the controller hands over what it shares"
)]
pub(crate) fn after_error(object: Arc<Guarded>, error: &ReconcileError, consumer: Arc<Consumer>) -> Action {
    let mut failures = consumer
        .failures
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let count = failures.entry(key(&object)).or_default();
    let wait = BACKOFF_FIRST
        .saturating_mul(2_u32.saturating_pow(*count))
        .min(BACKOFF_MAX);
    *count = count.saturating_add(1);
    let source = std::error::Error::source(error).map(ToString::to_string);
    match error {
        ReconcileError::Stale => tracing::debug!(job = key(&object), %error, "a pass is made again"),
        ReconcileError::Write { .. } | ReconcileError::Record(_) | ReconcileError::Keys(_) => {
            tracing::warn!(job = key(&object), %error, source, "a pass failed; trying again");
        }
    }
    Action::requeue(wait)
}

fn key(object: &Guarded) -> String {
    let meta = match &object.0 {
        Ok(job) => &job.metadata,
        Err(invalid) => &invalid.metadata,
    };
    format!(
        "{}/{}",
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default()
    )
}

impl Consumer {
    async fn pass(&self, object: &ComputeJob) -> Result<Action, ReconcileError> {
        let context = &self.context;
        if !context.leadership.holds() {
            return Ok(Action::requeue(BACKOFF_FIRST));
        }
        let identity = Identity::of(object, &context.keys, &context.market.domain, context.account())?;
        if object.metadata.deletion_timestamp.is_some() {
            return self.release(object, &identity).await;
        }
        if is_over(object) {
            self.memory.forget(identity.id);
            return Ok(Action::await_change());
        }
        let memo = self.memory.of(identity.id);
        let mut memo = memo.lock().await;
        let namespace = object.namespace().unwrap_or_default();
        let view = context.chain.view();
        let outcome = if self.has_elder(object) {
            let message =
                "another job of this namespace has the same runKey: choose another, or delete one".to_owned();
            Outcome {
                stage: Stage::Refused(JobReason::RunKeyInUse, message),
                again: context.args.resync,
                prepared: None,
                division: None,
                decimals: None,
            }
        } else {
            let subject = Subject {
                object,
                namespace: &namespace,
                identity: &identity,
            };
            match self.drive(&view, subject, &mut memo).await {
                Some(outcome) => outcome,
                None => return Ok(Action::requeue(BACKOFF_FIRST)),
            }
        };
        if outcome.prepared.is_some() {
            self.hold(object, &namespace).await?;
        }
        let again = outcome.again;
        let over = matches!(outcome.stage, Stage::Complete | Stage::Failed(..));
        self.report(object, &namespace, &identity, &view, &mut memo, outcome)
            .await?;
        if over {
            drop(memo);
            let subject = Subject {
                object,
                namespace: &namespace,
                identity: &identity,
            };
            self.sweep_movers(subject).await;
            self.memory.forget(identity.id);
            return Ok(Action::await_change());
        }
        Ok(Action::requeue(again))
    }

    /// Whether another job of the namespace has the same run key and was there first.
    fn has_elder(&self, object: &ComputeJob) -> bool {
        let Some(run_key) = &object.spec.run_key else {
            return false;
        };
        let age = |job: &ComputeJob| (job.creation_timestamp(), job.uid());
        let is_elder = |other: &Guarded| match &other.0 {
            Ok(other) => {
                other.spec.run_key.as_ref() == Some(run_key)
                    && other.namespace() == object.namespace()
                    && other.uid() != object.uid()
                    && other.metadata.deletion_timestamp.is_none()
                    && age(other) < age(object)
            }
            Err(_) => false,
        };
        self.stores
            .get()
            .into_iter()
            .flatten()
            .any(|store| store.find(is_elder).is_some())
    }

    /// Puts the finalizer on, before anything on chain can depend on it.
    async fn hold(&self, object: &ComputeJob, namespace: &str) -> Result<(), ReconcileError> {
        if is_held(object) {
            return Ok(());
        }
        let mut finalizers = object.finalizers().to_vec();
        finalizers.push(FINALIZER.to_owned());
        self.set_finalizers(object, namespace, &finalizers).await
    }

    async fn set_finalizers(
        &self,
        object: &ComputeJob,
        namespace: &str,
        finalizers: &[String],
    ) -> Result<(), ReconcileError> {
        let api: Api<ComputeJob> = Api::namespaced(self.context.client.clone(), namespace);
        // At the resourceVersion that was read: nobody else's finalizer is lost.
        let patch = serde_json::json!({
            "metadata": {"finalizers": finalizers, "resourceVersion": object.resource_version()},
        });
        match api
            .patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(kube::Error::Api(status)) if status.is_conflict() => Err(ReconcileError::Stale),
            Err(source) => Err(ReconcileError::Write {
                what: "finalizers",
                source,
            }),
        }
    }

    /// The object is to go: leaves a record where money may be on chain, and frees it at once.
    async fn release(&self, object: &ComputeJob, identity: &Identity) -> Result<Action, ReconcileError> {
        if is_held(object) {
            let namespace = object.namespace().unwrap_or_default();
            let view = self.context.chain.view();
            let ended = match view.finalized().job(identity.id) {
                Knowledge::Known(job) => matches!(job.state, JobState::Ended { .. }),
                Knowledge::Absent | Knowledge::Unknown => false,
            };
            if !ended && !self.has_successor(object) {
                let record = Record {
                    nonce: identity.nonce,
                    job: identity.id,
                    forget_after: shell::now().saturating_add(FORGET_AFTER_OPENING),
                };
                self.records
                    .leave(record, &format!("{namespace}/{}", object.name_any()))
                    .await?;
            }
            let rest: Vec<String> = object
                .finalizers()
                .iter()
                .filter(|finalizer| *finalizer != FINALIZER)
                .cloned()
                .collect();
            self.set_finalizers(object, &namespace, &rest).await?;
        }
        self.memory.forget(identity.id);
        Ok(Action::await_change())
    }

    /// Whether a live job of the namespace goes on with the same run key.
    fn has_successor(&self, object: &ComputeJob) -> bool {
        let Some(run_key) = &object.spec.run_key else {
            return false;
        };
        let goes_on = |other: &Guarded| match &other.0 {
            Ok(other) => {
                other.spec.run_key.as_ref() == Some(run_key)
                    && other.namespace() == object.namespace()
                    && other.uid() != object.uid()
                    && other.metadata.deletion_timestamp.is_none()
            }
            Err(_) => false,
        };
        self.stores
            .get()
            .into_iter()
            .flatten()
            .any(|store| store.find(goes_on).is_some())
    }

    /// Derives the status, writes it if it is due, and tells what changed.
    async fn report(
        &self,
        object: &ComputeJob,
        namespace: &str,
        identity: &Identity,
        view: &ChainView,
        memo: &mut Memo,
        outcome: Outcome,
    ) -> Result<(), ReconcileError> {
        let Outcome {
            stage,
            prepared,
            division,
            decimals,
            again: _,
        } = outcome;
        let chain = match view.head().job(identity.id) {
            Knowledge::Known(job) => Some(job),
            Knowledge::Absent | Knowledge::Unknown => None,
        };
        let domain = &self.context.market.domain;
        let before = memo.derived.take().or_else(|| object.status.clone());
        let derived = status::derive(Facts {
            object,
            before: before.as_ref(),
            job_id: HashText(identity.id.to_string()),
            market: MarketRef {
                chain_id: domain.chain_id,
                contract: AddressText(domain.market.to_string()),
            },
            stage,
            image: prepared.as_ref().map(|prepared| prepared.image.clone()),
            template: prepared.as_ref().map(written_template),
            division,
            chain,
            decimals,
            descriptions: &memo.descriptions(),
            refusals: memo.refusals.clone(),
            delivered: &memo.delivered,
            exited_badly: &memo.exited_badly,
            now: Timestamp::now(),
        });
        // Told and counted when it is found, whenever it is written.
        for news in news::of(before.as_ref(), &derived) {
            self.context.events.tell(&object.object_ref(&()), news).await;
        }
        for labels in news::changes(before.as_ref(), &derived) {
            self.context.metrics.findings.with_label_values(&labels).inc();
        }
        memo.derived = Some(derived.clone());
        let due = due::due(object.status.as_ref(), &derived, must_be_pinned(object));
        if !memo.writes.is_time(due, Instant::now()) {
            return Ok(());
        }
        let patch = serde_json::json!({
            "apiVersion": ComputeJob::api_version(&()),
            "kind": ComputeJob::kind(&()),
            "metadata": {"name": object.name_any(), "namespace": namespace},
            "status": derived,
        });
        let api: Api<ComputeJob> = Api::namespaced(self.context.client.clone(), namespace);
        let written = api
            .patch_status(
                &object.name_any(),
                &PatchParams::apply(MANAGER).force(),
                &Patch::Apply(&patch),
            )
            .await;
        match written {
            Ok(_) => {}
            // Deleted meanwhile, with nothing to say to anyone.
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            Err(source) => {
                return Err(ReconcileError::Write {
                    what: "status",
                    source,
                });
            }
        }
        self.context
            .metrics
            .status_writes
            .with_label_values(&[KIND])
            .inc();
        memo.writes.written(due, Instant::now());
        Ok(())
    }
}

/// Whether the finalizer is on: before that, nothing on chain may depend on the object.
pub(super) fn is_held(object: &ComputeJob) -> bool {
    object.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// Whether what was stored must stand in the status before the chain names it: inputs are not stored twice. A template
/// alone costs nothing to store again, and is the same each time.
pub(super) fn must_be_pinned(object: &ComputeJob) -> bool {
    !object.spec.inputs.is_empty()
}

/// A job that is complete or failed is never looked at again.
fn is_over(object: &ComputeJob) -> bool {
    object.status.as_ref().is_some_and(|status| {
        is_true(&status.conditions, JobCondition::Complete)
            || is_true(&status.conditions, JobCondition::Failed)
    })
}
