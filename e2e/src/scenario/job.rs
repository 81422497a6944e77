//! A small job in a namespace of its own, as scenarios apply it.

use std::time::Duration;

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tradewind_crds::compute_job::ComputeJob;
use tradewind_crds::condition::{self, Condition, ConditionStatus, Name as _};
use tradewind_crds::job_status::JobCondition;

use crate::market::watch::{Found, Watched};
use crate::market::{Market, MarketError, manifest};

use super::ScenarioError;

/// Jobs of a scenario are called so where it has one, in its own namespace.
const NAME: &str = "job";
/// Longer than all windows of one job together, on a machine that has much else to do.
const ENDS_WITHIN: Duration = Duration::from_secs(400);

/// What to apply; the defaults make two groups of two slices of two units each.
#[derive(Clone, Debug)]
pub(super) struct JobSpec {
    pub(super) name: &'static str,
    pub(super) completions: u32,
    pub(super) slice: u32,
    pub(super) slices_per_group: u32,
    pub(super) image: Option<String>,
    /// What each unit runs in a shell.
    pub(super) script: String,
    pub(super) memory: &'static str,
    pub(super) disk: &'static str,
    pub(super) seconds_per_unit: u32,
    pub(super) max_price_per_unit: &'static str,
    pub(super) limit: &'static str,
    pub(super) canary: bool,
    /// Hosts that units may reach.
    pub(super) egress: Vec<String>,
    pub(super) inputs: Vec<Value>,
    /// As in a manifest, without limits.
    pub(super) outputs: Value,
    /// The accounts that may run it; any where there is none.
    pub(super) allow: Vec<String>,
    /// Whether the price alone decides among offers.
    pub(super) cheapest: bool,
    pub(super) deadline: &'static str,
}

impl Default for JobSpec {
    fn default() -> Self {
        Self {
            name: NAME,
            completions: 8,
            slice: 2,
            slices_per_group: 2,
            image: None,
            script: "echo unit $JOB_COMPLETION_INDEX >/out/result".to_owned(),
            memory: "64Mi",
            disk: "64Mi",
            seconds_per_unit: 20,
            max_price_per_unit: "0.01",
            limit: "5",
            canary: false,
            egress: Vec::new(),
            inputs: Vec::new(),
            outputs: json!({}),
            allow: Vec::new(),
            cheapest: false,
            deadline: "1h",
        }
    }
}

impl JobSpec {
    fn manifest(&self, market: &Market<'_>, namespace: &str) -> Value {
        let image = self
            .image
            .clone()
            .unwrap_or_else(|| market.images().busybox.tagged());
        let mut outputs = self.outputs.clone();
        outputs["limits"] = json!({"bytesPerUnit": "1Mi", "filesPerUnit": 4});
        let (speed, reliability) = if self.cheapest { (0, 0) } else { (30, 20) };
        json!({
            "apiVersion": "tradewind.dev/v1alpha1",
            "kind": "ComputeJob",
            "metadata": {"name": self.name, "namespace": namespace},
            "spec": {
                "completions": self.completions,
                "slice": self.slice,
                "slicesPerGroup": self.slices_per_group,
                "template": {
                    "image": image,
                    "command": ["sh", "-c", self.script],
                    "resources": {"cpu": "200m", "memory": self.memory, "disk": self.disk},
                    "secondsPerUnit": self.seconds_per_unit,
                    "egress": self.egress,
                },
                "inputs": self.inputs,
                "outputs": outputs,
                "verification": {"quorum": 2, "maxSeats": 3, "canary": self.canary},
                "payment": {"token": market.token(), "maxPricePerUnit": self.max_price_per_unit, "budget": "2"},
                "placement": {"providers": {"allow": self.allow}},
                "preference": {"price": 50, "speed": speed, "reliability": reliability},
                "deadline": self.deadline,
            },
        })
    }
}

/// A job that was applied.
#[derive(Debug)]
pub(super) struct Job<'m, 'lab> {
    market: &'m Market<'lab>,
    namespace: String,
    name: &'static str,
    watched: Watched<ComputeJob>,
}

impl<'m, 'lab> Job<'m, 'lab> {
    /// Makes the namespace and its SpendingLimit, and applies the job.
    pub(super) async fn apply(
        market: &'m Market<'lab>,
        namespace: &str,
        spec: &JobSpec,
    ) -> Result<Self, ScenarioError> {
        let consumer = market.consumer()?;
        let ground = json!({
            "apiVersion": "v1",
            "kind": "List",
            "items": [
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
                {
                    "apiVersion": "tradewind.dev/v1alpha1",
                    "kind": "SpendingLimit",
                    "metadata": {"name": "default", "namespace": namespace},
                    "spec": {"tokens": [{"token": market.token(), "amount": spec.limit}]},
                },
            ],
        });
        manifest::apply(&consumer, &ground.to_string()).await?;
        manifest::apply(&consumer, &spec.manifest(market, namespace).to_string()).await?;
        let watched = Watched::start(consumer.client().await?, namespace, spec.name);
        Ok(Self {
            market,
            namespace: namespace.to_owned(),
            name: spec.name,
            watched,
        })
    }

    /// Waits until the condition is as wanted, and gives it.
    pub(super) async fn until(
        &mut self,
        wanted: JobCondition,
        status: ConditionStatus,
        reason: Option<&str>,
    ) -> Result<Condition, ScenarioError> {
        let what = format!(
            "{}: {} {status:?} {}",
            self.namespace,
            wanted.as_str(),
            reason.unwrap_or_default()
        );
        let mut found = None;
        self.watched
            .until(&what, ENDS_WITHIN, |job| {
                let conditions = job.status.as_ref().map_or(&[][..], |status| &status.conditions);
                let condition = condition::find(conditions, wanted);
                let fits = |condition: &&Condition| {
                    condition.status == status && reason.is_none_or(|reason| condition.reason == reason)
                };
                if let Some(condition) = condition.filter(fits) {
                    found = Some(condition.clone());
                    return Found::Wanted;
                }
                Found::NotYet(describe(conditions))
            })
            .await?;
        found.ok_or_else(|| ScenarioError::NotSo(what))
    }

    /// Waits until the job ended well.
    pub(super) async fn complete(&mut self) -> Result<(), ScenarioError> {
        self.until(JobCondition::Complete, ConditionStatus::True, None)
            .await
            .map(drop)
    }

    /// Waits until the job ended otherwise, and says why.
    pub(super) async fn failed(&mut self) -> Result<Condition, ScenarioError> {
        self.until(JobCondition::Failed, ConditionStatus::True, None)
            .await
    }

    /// The blob that it stored as the input of this place in its list.
    pub(super) fn stored_input(&self, place: usize) -> Result<String, ScenarioError> {
        let status = self.watched.last().and_then(|job| job.status.as_ref());
        let input = status.and_then(|status| status.template.as_ref()?.inputs.get(place));
        let blob = input.map(|input| input.blob.as_str().to_owned());
        blob.ok_or_else(|| ScenarioError::NotSo(format!("the status names the input {place}")))
    }

    /// Its id on chain, in lower case; empty before it has one.
    pub(super) fn id(&self) -> String {
        let id = self
            .watched
            .last()
            .and_then(|job| job.status.as_ref()?.job_id.as_ref());
        id.map(|id| id.as_str().to_lowercase()).unwrap_or_default()
    }

    /// Suspends the job: what runs goes on, nothing new begins.
    pub(super) async fn suspend(&mut self) -> Result<(), ScenarioError> {
        let api: Api<ComputeJob> = Api::namespaced(self.market.consumer()?.client().await?, &self.namespace);
        api.patch(
            NAME,
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": {"suspend": true}})),
        )
        .await
        .map(drop)
        .map_err(MarketError::kubernetes("suspend the job"))?;
        Ok(())
    }

    /// Deletes the object.
    pub(super) async fn delete(&mut self) -> Result<(), ScenarioError> {
        let api: Api<ComputeJob> = Api::namespaced(self.market.consumer()?.client().await?, &self.namespace);
        api.delete(self.name, &kube::api::DeleteParams::default())
            .await
            .map(drop)
            .map_err(MarketError::kubernetes("delete the job"))?;
        Ok(())
    }

    /// Changes the SpendingLimit of the job's namespace.
    pub(super) async fn allow(&mut self, amount: &str) -> Result<(), ScenarioError> {
        let api: Api<tradewind_crds::spending_limit::SpendingLimit> =
            Api::namespaced(self.market.consumer()?.client().await?, &self.namespace);
        let patch = json!({"spec": {"tokens": [{"token": self.market.token(), "amount": amount}]}});
        api.patch("default", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map(drop)
            .map_err(MarketError::kubernetes("change the limit"))?;
        Ok(())
    }
}

fn describe(conditions: &[Condition]) -> String {
    let told = conditions
        .iter()
        .filter(|condition| condition.reason != "Waiting")
        .map(|condition| {
            format!(
                "{}={:?} {}: {}",
                condition.type_, condition.status, condition.reason, condition.message
            )
        });
    told.collect::<Vec<_>>().join("; ")
}
