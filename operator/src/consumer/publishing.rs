//! Publishes a job's bundle: where its template is, and its key, sealed to each provider that has a seat for good.

use std::collections::BTreeSet;

use tradewind_chain::{Preimage, keys::SignerError};
use tradewind_gateway_api::{bundle::EnvelopeError, client::ClientError, seal::Recipient, signed::Signed};
use tradewind_market::{
    Address, JobId,
    document::{Envelope, JobBundle},
    index::Job,
    message::HexBytes,
};

use super::{Consumer, identity::Identity, memory::Memo, offers};
use crate::shell;

/// Why the bundle is not published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The gateways do not take it.
    #[error(transparent)]
    Gateway(#[from] ClientError),
    /// The account did not sign it.
    #[error("the bundle could not be signed")]
    Sign(#[from] SignerError),
    /// An envelope could not be made.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// No offer tells a provider's recipient.
    #[error("no offer of provider {provider} is at hand, so its recipient is not known")]
    NoOffer {
        /// Whose.
        provider: Address,
    },
}

/// The providers that the published bundle serves, as the gateways have it now.
pub(crate) async fn observe(consumer: &Consumer, job: JobId) -> Result<BTreeSet<Address>, ClientError> {
    let published = consumer.context.gateways.get_bundle(job).await?;
    Ok(published
        .map(|bundle| {
            bundle
                .statement
                .envelopes
                .iter()
                .map(|envelope| envelope.provider)
                .collect()
        })
        .unwrap_or_default())
}

/// Publishes the bundle for these providers, in place of an older one.
pub(crate) async fn publish(
    consumer: &Consumer,
    identity: &Identity,
    job: &Job<'_>,
    providers: BTreeSet<Address>,
    memo: &mut Memo,
) -> Result<(), PublishError> {
    let context = &consumer.context;
    let offer_of = |memo: &Memo, provider: Address| -> Option<Recipient> {
        let (_, _, seat, _) = job.seats_of(provider).next()?;
        memo.offer_of(seat.offer_hash, provider)?
            .details
            .value()
            .recipient
            .parse()
            .ok()
    };
    if providers
        .iter()
        .any(|provider| offer_of(memo, *provider).is_none())
    {
        // After a restart nothing is remembered of the offers that were filled.
        let token = job.terms.pricing.token;
        let found = offers::observe(&context.gateways, &context.market.domain, token).await?;
        memo.keep(found);
    }
    let mut envelopes = Vec::with_capacity(providers.len());
    for provider in &providers {
        let reader = offer_of(memo, *provider).ok_or(PublishError::NoOffer { provider: *provider })?;
        envelopes.push(Envelope {
            provider: *provider,
            sealed: identity.key_document.seal(&reader)?,
        });
    }
    let statement = JobBundle {
        job_id: identity.id,
        template_address: job.terms.content.template_address,
        issued: shell::now(),
        envelopes,
    };
    let preimage = Preimage::message(&context.market.domain, &statement);
    let signature = context.signer.sign(&preimage).await?;
    let signed = Signed {
        statement,
        signature: HexBytes(signature.as_bytes().to_vec()),
    };
    context.gateways.put_bundle(&signed).await?;
    memo.bundled = Some(providers);
    Ok(())
}
