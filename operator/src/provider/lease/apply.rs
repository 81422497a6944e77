//! Carries a plan out: Secret and pods, messages to gateways or straight to the chain, indexes, receipts.
//!
//! Every step may be carried out twice: names, messages and calls are functions of the job alone.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tradewind_chain::{
    Call, Signature,
    calls::{self, Voucher},
    recover,
    sender::{Intent, IntentId},
};
use tradewind_gateway_api::{
    message::SignedMessage,
    receipt::SignedReceipt,
    signed::key_signature,
    slice::{GRANT_KEY, LeaseGrant, PROXY_KEY, SecretText, SliceConfig},
    wire::{ReceiptRequest, ReceiptUnit},
};
use tradewind_market::{
    Address, GroupIndex, Seconds, SliceIndex, UnixSeconds,
    eip712::StructHash,
    index::{Job, SeatRecord},
    message::{AbstainEntry, AbstainReason, RoundMessage, SeatRef},
    plan::provider::{Delivery, MessageKind, PodDeletion, ProviderStep},
    state::GroupState,
};

use super::{
    Leases, OfferOf,
    awards::common_gateways,
    materials::Materials,
    memo::Memo,
    messages::{GroupResult, Place},
    pod::{MANAGED_LABEL, SlicePod, lease_name, pod_name, slice_pod},
    results::SlicePodState,
};
use crate::{provider::ProviderError, shell::chain::ChainView};

const FIELD_MANAGER: &str = "tradewind-operator";
/// Receipts reach a little beyond what the market asks for, since the reveal is included later than it is sent.
const RECEIPT_SLACK: Seconds = Seconds::new(300);

/// What steps are carried out on.
pub(crate) struct Target<'a> {
    /// The job at the final block.
    pub(crate) job: &'a Job<'a>,
    pub(crate) view: &'a ChainView,
    pub(crate) offers: &'a BTreeMap<u32, OfferOf>,
    /// All slice pods of the cluster.
    pub(crate) pods: &'a [SlicePodState],
    /// Where the lease's pods run.
    pub(crate) pool: &'a str,
    pub(crate) now: UnixSeconds,
}

impl Target<'_> {
    fn seat(&self, account: Address, group: GroupIndex) -> Option<(SeatRef, &SeatRecord)> {
        let (place, seat) = self.job.group(group)?.seat_of(account)?;
        Some((
            SeatRef {
                group,
                round: 0,
                seat: place,
            },
            seat,
        ))
    }

    /// Until when the group's seats may commit; by the final block.
    fn commit_by(&self, group: GroupIndex) -> UnixSeconds {
        self.job.commit_deadline(group).unwrap_or(UnixSeconds::ZERO)
    }

    /// Until when the group's seats may reveal, at the latest.
    fn reveal_by(&self, group: GroupIndex) -> UnixSeconds {
        match self.job.group(group).map(|record| &record.state) {
            Some(GroupState::Revealing { reveal_by }) => *reveal_by,
            Some(GroupState::Running { commit_by }) => {
                commit_by.saturating_add(self.job.terms.windows.reveal_window)
            }
            Some(
                GroupState::Filling
                | GroupState::Agreed { .. }
                | GroupState::Contested { .. }
                | GroupState::Refunding
                | GroupState::Credited { .. }
                | GroupState::Inconclusive
                | GroupState::Refunded,
            )
            | None => UnixSeconds::ZERO,
        }
    }
}

impl Leases {
    /// Carries one step out. An error leaves the others of the plan as they are.
    pub(crate) async fn apply(
        &self,
        target: &Target<'_>,
        step: &ProviderStep,
        memo: &mut Memo,
    ) -> Result<(), ProviderError> {
        let (job, market) = (target.job.id, self.context.market.domain.market);
        match step {
            // Materials are asked for in each look; what is missing is the buyer's to publish.
            ProviderStep::FetchBundle | ProviderStep::Wait { .. } => Ok(()),
            ProviderStep::CreatePod { slice, attempt } => {
                self.create_pod(target, *slice, *attempt, memo).await
            }
            ProviderStep::DeletePod {
                slice,
                attempt,
                cause,
            } => self.delete_pod(target, *slice, *attempt, *cause).await,
            ProviderStep::Commit { groups, by } => self.commit(target, groups, *by, memo).await,
            ProviderStep::Abstain { groups, reason, by } => {
                self.abstain(target, groups, *reason, *by, memo).await
            }
            ProviderStep::Reveal { groups, by } => self.reveal(target, groups, *by, memo).await,
            ProviderStep::PublishIndex { group } => self.publish_index(target, *group, memo).await,
            ProviderStep::RequestReceipt { group } => self.request_receipt(target, *group, memo).await,
            ProviderStep::Judge { groups } => {
                self.poke(target, "judge", groups, calls::judge(market, job, groups));
                Ok(())
            }
            ProviderStep::Settle { groups } => {
                self.poke(target, "settle", groups, calls::settle(market, job, groups));
                Ok(())
            }
            ProviderStep::CloseGroups { groups } => {
                self.poke(target, "close", groups, calls::close_groups(market, job, groups));
                Ok(())
            }
            ProviderStep::Finish => self.delete_secret(target).await,
        }
    }

    fn poke(&self, target: &Target<'_>, what: &str, groups: &[GroupIndex], call: Call) {
        let job = target.job.id;
        let state = self.submit(target, format!("{what} {} groups of {job}", groups.len()), call);
        tracing::debug!(%job, what, state, "the buyer is late; doing what anyone may");
    }

    fn submit(&self, target: &Target<'_>, label: String, call: Call) -> &'static str {
        let intent = Intent {
            id: IntentId::of_call(&call),
            label,
            call,
            shareable: true,
            gas_max: None,
        };
        self.context.chain.submit(intent, target.view).label()
    }

    async fn create_pod(
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

    async fn delete_pod(
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

    async fn delete_secret(&self, target: &Target<'_>) -> Result<(), ProviderError> {
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

    /// Our place in a group, and its result, as far as both are known.
    fn done<'m>(
        &self,
        target: &Target<'_>,
        group: GroupIndex,
        memo: &'m Memo,
    ) -> Option<(Place, &'m Arc<GroupResult>)> {
        let (seat, _) = target.seat(self.context.account(), group)?;
        let place = Place {
            domain_separator: self.context.market.domain_separator,
            job: target.job.id,
            terms_hash: target.job.terms_hash,
            group,
            round_number: 0,
            round: target.job.round_id(group)?,
            seat: seat.seat,
            provider: self.context.account(),
        };
        Some((place, memo.groups.get(&group)?))
    }

    async fn commit(
        &self,
        target: &Target<'_>,
        groups: &[GroupIndex],
        by: Delivery,
        memo: &mut Memo,
    ) -> Result<(), ProviderError> {
        let entries = groups
            .iter()
            .filter_map(|group| self.done(target, *group, memo))
            .map(|(place, result)| result.commit(&self.context.keys, &place))
            .collect();
        let message = self.message(
            target,
            entries,
            groups.iter().map(|group| target.commit_by(*group)),
        );
        let call = calls::commit(self.context.market.domain.market, &message, &Voucher::Caller);
        let said: Vec<_> = message.entries.iter().map(|entry| entry.seat.group).collect();
        self.say(
            target,
            MessageKind::Commit,
            &said,
            by,
            message,
            call,
            SignedMessage::Commit,
            memo,
        )
        .await
    }

    async fn abstain(
        &self,
        target: &Target<'_>,
        groups: &[GroupIndex],
        reason: AbstainReason,
        by: Delivery,
        memo: &mut Memo,
    ) -> Result<(), ProviderError> {
        let account = self.context.account();
        let seats = groups.iter().filter_map(|group| target.seat(account, *group));
        let entries = seats.map(|(seat, _)| AbstainEntry { seat, reason }).collect();
        let message = self.message(
            target,
            entries,
            groups.iter().map(|group| target.commit_by(*group)),
        );
        let call = calls::abstain(self.context.market.domain.market, &message, &Voucher::Caller);
        let said: Vec<_> = message.entries.iter().map(|entry| entry.seat.group).collect();
        let posted = said
            .iter()
            .all(|group| memo.posted.contains_key(&(MessageKind::Abstain, *group)));
        if !posted && !memo.direct.contains(&(MessageKind::Abstain, said.clone())) {
            self.metrics
                .abstentions
                .with_label_values(&[reason.label()])
                .inc();
            let (job, label) = (target.job.id, reason.label());
            if reason.is_of_the_program() {
                tracing::info!(%job, groups = ?said, reason = label, "seats are given back: the job's own limits were met");
            } else {
                tracing::warn!(%job, groups = ?said, reason = label, "seats are given back");
            }
        }
        self.say(
            target,
            MessageKind::Abstain,
            &said,
            by,
            message,
            call,
            SignedMessage::Abstain,
            memo,
        )
        .await
    }

    async fn reveal(
        &self,
        target: &Target<'_>,
        groups: &[GroupIndex],
        by: Delivery,
        memo: &mut Memo,
    ) -> Result<(), ProviderError> {
        let entries = groups
            .iter()
            .filter_map(|group| self.done(target, *group, memo))
            .map(|(place, result)| {
                let receipt = memo
                    .receipts
                    .get(&place.group)
                    .map(|receipt| (&receipt.statement, &receipt.signature));
                result.reveal(&self.context.keys, &place, receipt)
            })
            .collect();
        let message = self.message(
            target,
            entries,
            groups.iter().map(|group| target.reveal_by(*group)),
        );
        let call = calls::reveal(self.context.market.domain.market, &message, &Voucher::Caller);
        let said: Vec<_> = message.entries.iter().map(|entry| entry.seat.group).collect();
        self.say(
            target,
            MessageKind::Reveal,
            &said,
            by,
            message,
            call,
            SignedMessage::Reveal,
            memo,
        )
        .await
    }

    /// A message is good until the first of its entries' deadlines.
    fn message<E>(
        &self,
        target: &Target<'_>,
        entries: Vec<E>,
        deadlines: impl Iterator<Item = UnixSeconds>,
    ) -> RoundMessage<E> {
        RoundMessage {
            provider: self.context.account(),
            job_id: target.job.id,
            deadline: deadlines.min().unwrap_or(UnixSeconds::ZERO),
            entries,
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one conversation for three kinds of messages"
    )]
    async fn say<E>(
        &self,
        target: &Target<'_>,
        kind: MessageKind,
        groups: &[GroupIndex],
        by: Delivery,
        message: RoundMessage<E>,
        call: Call,
        wrap: impl FnOnce(tradewind_gateway_api::signed::Signed<RoundMessage<E>>) -> SignedMessage,
        memo: &mut Memo,
    ) -> Result<(), ProviderError>
    where
        RoundMessage<E>: StructHash,
    {
        let job = target.job.id;
        if groups.is_empty() {
            return Ok(());
        }
        match by {
            Delivery::Relay => {
                let signed = wrap(self.sign(message).await?);
                self.context.gateways.post_message(job, &signed).await?;
                memo.posted
                    .extend(groups.iter().map(|group| ((kind, *group), target.now)));
                self.metrics
                    .messages
                    .with_label_values(&[kind_label(kind), "relay"])
                    .inc();
                tracing::info!(%job, ?groups, ?kind, "posted for the buyer to relay");
            }
            Delivery::Direct => {
                let state = self.submit(target, format!("{kind:?} {} groups of {job}", groups.len()), call);
                // Asked for again in each pass until it is seen on chain; told of once.
                if memo.direct.insert((kind, groups.to_vec())) {
                    self.metrics
                        .messages
                        .with_label_values(&[kind_label(kind), "direct"])
                        .inc();
                    tracing::info!(%job, ?groups, ?kind, state, "sent directly");
                }
            }
        }
        Ok(())
    }

    async fn publish_index(
        &self,
        target: &Target<'_>,
        group: GroupIndex,
        memo: &mut Memo,
    ) -> Result<(), ProviderError> {
        let Some((place, result)) = self.done(target, group, memo) else {
            return Ok(());
        };
        let Some(materials) = memo.materials.clone() else {
            return Ok(());
        };
        let index = self.sign(result.index(&place)).await?;
        let grant = self.grant(target.job, &materials).await?;
        self.context.gateways.put_index(&index, &grant).await?;
        memo.indexed.insert(group);
        tracing::info!(job = %target.job.id, %group, "the result's index is published");
        Ok(())
    }

    async fn request_receipt(
        &self,
        target: &Target<'_>,
        group: GroupIndex,
        memo: &mut Memo,
    ) -> Result<(), ProviderError> {
        let account = self.context.account();
        let Some((place, result)) = self.done(target, group, memo) else {
            return Ok(());
        };
        let Some((_, seat)) = target.seat(account, group) else {
            return Ok(());
        };
        let Some(materials) = memo.materials.clone() else {
            return Ok(());
        };
        let allowed = common_gateways(target.job, seat);
        let retention = target.job.terms.windows.retention;
        let request = ReceiptRequest {
            job: target.job.id,
            round: place.round,
            provider: account,
            units: result
                .units
                .iter()
                .map(|unit| ReceiptUnit {
                    unit: unit.unit.get(),
                    address: unit.blob,
                    length: unit.stored_bytes,
                })
                .collect(),
            until: target
                .reveal_by(group)
                .saturating_add(retention)
                .saturating_add(RECEIPT_SLACK),
        };
        let result = Arc::clone(result);
        let grant = self.grant(target.job, &materials).await?;
        let receipt = self.receipt_of_any(&allowed, &request, &grant, &result).await?;
        if let Some(receipt) = receipt {
            tracing::info!(job = %target.job.id, %group, gateway = %receipt.statement.gateway, "a gateway signed for the result");
            memo.receipts.insert(group, receipt);
        } else {
            tracing::warn!(job = %target.job.id, %group, ?allowed, "no gateway that the job takes receipts of gave one");
        }
        Ok(())
    }

    /// The first receipt that the chain will take, of those gateways that offer and job both name.
    async fn receipt_of_any(
        &self,
        allowed: &[Address],
        request: &ReceiptRequest,
        grant: &tradewind_gateway_api::grant::GrantToken,
        result: &GroupResult,
    ) -> Result<Option<SignedReceipt>, ProviderError> {
        let mut failure = None;
        for url in self.context.gateways.gateways() {
            let gateway = self.context.gateways.only(url);
            let asked = match gateway.about().await {
                Ok(about) if allowed.contains(&about.gateway) => gateway.receipt(request, grant).await,
                Ok(_) => continue,
                Err(error) => Err(error),
            };
            match asked {
                Ok(receipt) if self.is_good(&receipt, allowed, request, result) => return Ok(Some(receipt)),
                Ok(receipt) => {
                    tracing::warn!(%url, gateway = %receipt.statement.gateway, "a gateway's receipt is not about our result");
                }
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(None), |error| Err(error.into()))
    }

    fn is_good(
        &self,
        receipt: &SignedReceipt,
        allowed: &[Address],
        request: &ReceiptRequest,
        result: &GroupResult,
    ) -> bool {
        let statement = &receipt.statement;
        let signer = key_signature(&receipt.signature).and_then(|bytes| {
            recover(
                receipt.digest(&self.context.market.domain),
                &Signature::from_bytes(bytes),
            )
            .ok()
        });
        signer == Some(statement.gateway)
            && allowed.contains(&statement.gateway)
            && statement.round_id == request.round
            && statement.provider == request.provider
            && statement.stored_root == result.stored_root
            && statement.size == result.size
            && statement.until >= request.until
    }
}

fn kind_label(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Commit => "Commit",
        MessageKind::Abstain => "Abstain",
        MessageKind::Reveal => "Reveal",
    }
}
