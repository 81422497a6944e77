//! Carries an offer out: the bond on chain, the signed offer to the gateways, the withdrawal where it is suspended.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use kube::ResourceExt as _;
use tradewind_chain::{
    Preimage, calls,
    sender::{Intent, IntentId, IntentState},
};
use tradewind_crds::{
    condition::ConditionStatus,
    provider_offer::{OfferCondition, OfferReason, ProviderOffer},
};
use tradewind_gateway_api::{client::ClientError, offer::SignedOffer};
use tradewind_market::{
    Decimals, Hash32, Nonce, OfferHash, Slots, TokenAmount, UnixSeconds, class::Class,
    eip712::StructHash as _, keccak256, message::HexBytes,
};

use super::{
    content::{Content, Window},
    status::{OfferFinding, finding},
};
use crate::{
    provider::ProviderError,
    shell::{chain::ChainView, context::Context},
};

/// What a pass over an offer found and did; the status is written from it alone.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(crate) findings: Vec<OfferFinding>,
    pub(crate) class: Option<Class>,
    pub(crate) published: Option<Published>,
    /// On offer, and taken.
    pub(crate) slots: Option<(Slots, Slots)>,
    pub(crate) earned: Option<(TokenAmount, Decimals)>,
    pub(crate) reliability: Option<String>,
}

/// An offer that gateways have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) hash: OfferHash,
    pub(crate) nonce: Nonce,
    pub(crate) until: UnixSeconds,
}

/// Publishes, and remembers what each gateway has so as not to send it again. Forgetting costs a repeated request.
#[derive(Debug)]
pub(crate) struct Publisher {
    context: Arc<Context>,
    /// By object: the hash that every gateway took.
    sent: Mutex<BTreeMap<String, OfferHash>>,
}

impl Publisher {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            sent: Mutex::default(),
        }
    }

    /// Signs the offer and brings it to every gateway that lacks it.
    pub(crate) async fn publish(
        &self,
        object: &ProviderOffer,
        content: Content,
        window: Window,
        applied: &mut Applied,
    ) -> Result<(), ProviderError> {
        let hash = content.offer.hash();
        let published = Published {
            hash,
            nonce: window.nonce,
            until: window.until,
        };
        let key = object.uid().unwrap_or_default();
        if self.lock().get(&key) == Some(&hash) {
            applied.published = Some(published);
            applied.findings.push(everywhere());
            return Ok(());
        }
        let preimage =
            Preimage::typed_data(self.context.market.domain_separator, content.offer.struct_hash());
        let signature = self.context.signer.sign(&preimage).await?;
        let signed = SignedOffer {
            offer: content.offer,
            signature: HexBytes(signature.as_bytes().to_vec()),
            details: content.details,
        };
        match self.context.gateways.put_offer(&signed).await {
            Ok(written) if written.refused.is_empty() => {
                tracing::info!(offer = %object.name_any(), %hash, nonce = %window.nonce, "the offer is published");
                self.lock().insert(key, hash);
                applied.published = Some(published);
                applied.findings.push(everywhere());
            }
            Ok(written) => {
                applied.published = Some(published);
                applied.findings.push(finding(
                    OfferCondition::Publishing,
                    ConditionStatus::True,
                    OfferReason::PartlyPublished,
                    format!("not taken by: {}", errors(&written.refused)),
                ));
            }
            Err(error) => applied.findings.push(finding(
                OfferCondition::Publishing,
                ConditionStatus::False,
                OfferReason::GatewayUnavailable,
                format!("no gateway took the offer: {error}"),
            )),
        }
        Ok(())
    }

    /// Makes what was published void on chain, as of now, and stops publishing.
    pub(crate) fn withdraw(&self, object: &ProviderOffer, series: u32, min_nonce: Nonce, view: &ChainView) {
        self.lock().remove(&object.uid().unwrap_or_default());
        let account = self.context.account();
        if view.finalized().series(account, series).min_nonce >= min_nonce {
            return;
        }
        let id = keccak256(&[
            b"tradewind cancel offers v1",
            &series.to_be_bytes(),
            &min_nonce.get().to_be_bytes(),
        ]);
        let call = calls::cancel_offers(self.context.market.domain.market, series, min_nonce);
        self.submit(
            id,
            format!("cancel offers of {}", object.name_any()),
            call,
            true,
            view,
        );
    }

    fn submit(
        &self,
        id: Hash32,
        label: String,
        call: tradewind_chain::Call,
        shareable: bool,
        view: &ChainView,
    ) -> IntentState {
        self.context.chain.submit(
            Intent {
                id: IntentId::new(id),
                label,
                call,
                shareable,
                gas_max: None,
            },
            view,
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, OfferHash>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn everywhere() -> OfferFinding {
    finding(
        OfferCondition::Publishing,
        ConditionStatus::True,
        OfferReason::Published,
        "the offer is at every gateway",
    )
}

fn errors(errors: &[ClientError]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    texts.join("; ")
}
