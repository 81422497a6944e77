//! Slice pods and the Secret that they share: made, and taken away.

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tradewind_gateway_api::slice::{GRANT_KEY, LeaseGrant, PROXY_KEY, SecretText, SliceConfig};
use tradewind_market::{SliceIndex, plan::provider::PodDeletion};

use super::Target;
use crate::provider::{
    ProviderError,
    lease::{
        Leases,
        materials::Materials,
        memo::Memo,
        pod::{MANAGED_LABEL, SlicePod, lease_name, pod_name, slice_pod},
        results::SlicePodState,
    },
};

const FIELD_MANAGER: &str = "tradewind-operator";

impl Leases {
    pub(super) async fn create_pod(
        &self,
        target: &Target<'_>,
        slice: SliceIndex,
        attempt: u32,
        memo: &mut Memo,
    ) -> Result<(), ProviderError> {
        let job = target.job;
        let Some(materials) = memo.materials.clone() else {
            return Ok(());
        };
        let seat = job
            .terms
            .shape
            .group_of_slice(slice)
            .and_then(|group| target.seat(self.context.account(), group));
        let Some((seat_ref, seat)) = seat else {
            return Ok(());
        };
        let Some(offer) = target.offers.get(&seat.series) else {
            return Ok(());
        };
        let Some(units) = job.terms.shape.slice_units(slice) else {
            return Ok(());
        };
        let name = pod_name(job.id, slice, attempt);
        if !self
            .slots
            .take(seat.series, offer.slots(), &name, || self.slice_pods())
        {
            tracing::debug!(job = %job.id, %slice, "all slots of the offer are taken");
            return Ok(());
        }
        self.write_secret(target, &materials, memo)
            .await
            .inspect_err(|_| self.slots.give_back(&name))?;
        let limits = &self.context.args.provider.lease;
        let config = SliceConfig {
            job: job.id,
            first_unit: units.first,
            units: units.count,
            attempt,
            canaries: self.canaries.clone(),
            fetch_seconds_max: limits.fetch_seconds_max,
            store_seconds_max: limits.store_seconds_max,
        };
        let pod = slice_pod(&SlicePod {
            job: job.id,
            slice,
            series: seat.series,
            config: &config,
            template: &materials.template,
            pod_image: &self.context.args.pod_image,
            secret: &lease_name(job.id),
            runtime_class: offer.spec.terms.runtime_class.as_deref().unwrap_or_default(),
            user_namespaces: offer.spec.terms.user_namespaces,
        })
        .inspect_err(|_| self.slots.give_back(&name))?;
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), target.pool);
        match api.create(&PostParams::default(), &pod).await {
            Ok(_) => {
                self.metrics.pods.with_label_values(&["created"]).inc();
                tracing::info!(job = %job.id, group = %seat_ref.group, %slice, attempt, pod = name, "a slice starts");
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => {
                self.slots.give_back(&name);
                return Err(ProviderError::kubernetes("create a slice's pod")(error));
            }
        }
        memo.created.insert((slice, attempt));
        Ok(())
    }

    pub(super) async fn delete_pod(
        &self,
        target: &Target<'_>,
        slice: SliceIndex,
        attempt: u32,
        cause: PodDeletion,
    ) -> Result<(), ProviderError> {
        let name = pod_name(target.job.id, slice, attempt);
        let found = target.pods.iter().find(|pod| pod.name == name);
        match found {
            Some(pod) if !pod.leaving => {
                tracing::info!(job = %target.job.id, %slice, attempt, ?cause, "a slice's pod goes");
                self.remove_pod(pod).await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Deletes a pod that was seen.
    pub(crate) async fn remove_pod(&self, pod: &SlicePodState) -> Result<(), ProviderError> {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &pod.namespace);
        match api.delete(&pod.name, &DeleteParams::default()).await {
            Ok(_) => self.metrics.pods.with_label_values(&["deleted"]).inc(),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(ProviderError::kubernetes("delete a slice's pod")(error)),
        }
        Ok(())
    }

    async fn write_secret(
        &self,
        target: &Target<'_>,
        materials: &Materials,
        memo: &mut Memo,
    ) -> Result<(), ProviderError> {
        if memo.granted {
            return Ok(());
        }
        let grant = LeaseGrant {
            relay: self.context.args.provider.relay_url.clone(),
            token: SecretText::new(self.grant(target.job, materials).await?.to_text()),
            job_key: SecretText::new(materials.job_key.to_text().to_string()),
            template: materials.template_ref.clone(),
            report_recipient: self.opening_key.recipient(),
        };
        let text = serde_json::to_string(&grant).map_err(ProviderError::Document)?;
        let proxy = self.proxy(target.job, &materials.template.egress).await?;
        let name = lease_name(target.job.id);
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": {MANAGED_LABEL.0: MANAGED_LABEL.1}},
            "stringData": {GRANT_KEY: text, PROXY_KEY: proxy},
        });
        let api: Api<Secret> = Api::namespaced(self.context.client.clone(), target.pool);
        api.patch(
            &name,
            &PatchParams::apply(FIELD_MANAGER).force(),
            &Patch::Apply(secret),
        )
        .await
        .map_err(ProviderError::kubernetes("write a lease's Secret"))?;
        memo.granted = true;
        Ok(())
    }

    pub(super) async fn delete_secret(&self, target: &Target<'_>) -> Result<(), ProviderError> {
        self.remove_secret(target.pool, &lease_name(target.job.id)).await
    }

    /// Deletes a lease's Secret, if it is there.
    pub(crate) async fn remove_secret(&self, namespace: &str, name: &str) -> Result<(), ProviderError> {
        let api: Api<Secret> = Api::namespaced(self.context.client.clone(), namespace);
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(ProviderError::kubernetes("delete a lease's Secret")(error)),
        }
    }
}
