//! Everything but blobs: offers, bundles, indexes, messages, receipts.

use reqwest::Method;
use serde::{Serialize, de::DeserializeOwned};
use tradewind_market::{Address, JobId, RoundId};

use super::{ClientError, GatewayClient, Spread, Written, error::Fault};
use crate::{
    bundle::SignedBundle,
    grant::GrantToken,
    index::SignedIndex,
    message::SignedMessage,
    offer::SignedOffer,
    receipt::SignedReceipt,
    wire::{About, MessageFilter, MessagePage, MessageTaken, OfferFilter, OfferPage, ReceiptRequest, path},
};

/// Bytes of a JSON answer. The largest is a result index of 100,000 units.
pub(super) const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Offers that are read from one gateway: as many as a market of this design has.
const OFFERS_MAX: usize = 20_000;

impl GatewayClient {
    /// Who the first gateway that answers is, and what it takes.
    pub async fn about(&self) -> Result<About, ClientError> {
        self.get_json(path::ABOUT).await
    }

    /// Publishes an offer on every gateway.
    pub async fn put_offer(&self, offer: &SignedOffer) -> Result<Written<serde_json::Value>, ClientError> {
        self.send_json(Method::POST, path::OFFERS, offer, Spread::All)
            .await
    }

    /// All valid offers that a filter lets through, of the first gateway that answers.
    pub async fn offers(&self, filter: &OfferFilter) -> Result<Vec<SignedOffer>, ClientError> {
        self.ask_any(|gateway| async move {
            let mut filter = filter.clone();
            let mut offers = Vec::new();
            loop {
                let request = self.request(&gateway, Method::GET, path::OFFERS)?.query(&filter);
                let page: OfferPage = self.call(&gateway, request, Some(self.call_timeout)).await?;
                let moved = !page.offers.is_empty();
                offers.extend(page.offers);
                if offers.len() > OFFERS_MAX {
                    return Err(ClientError::TooLong {
                        gateway: gateway.to_string(),
                        limit: OFFERS_MAX as u64,
                    });
                }
                // A gateway that pages without offers would otherwise keep us for ever.
                match page.next {
                    Some(next) if moved => filter.after = Some(next),
                    Some(_) | None => return Ok(offers),
                }
            }
        })
        .await
    }

    /// Publishes a job's bundle on every gateway.
    pub async fn put_bundle(&self, bundle: &SignedBundle) -> Result<Written<serde_json::Value>, ClientError> {
        self.send_json(
            Method::PUT,
            &path::bundle(bundle.statement.job_id),
            bundle,
            Spread::All,
        )
        .await
    }

    /// A job's newest bundle over all gateways; nothing if none that answered has one.
    pub async fn get_bundle(&self, job: JobId) -> Result<Option<SignedBundle>, ClientError> {
        self.newest(&path::bundle(job), |bundle: &SignedBundle| {
            bundle.statement.issued
        })
        .await
    }

    /// Publishes a seat's result index on every gateway. The grant is of the index's provider.
    pub async fn put_index(
        &self,
        index: &SignedIndex,
        grant: &GrantToken,
    ) -> Result<Written<serde_json::Value>, ClientError> {
        let path = path::index(index.statement.round_id, index.statement.provider);
        let path = &path;
        self.to_gateways(Spread::All, |gateway| async move {
            let request = self
                .request(&gateway, Method::PUT, path)?
                .bearer_auth(grant.to_text())
                .json(index);
            self.call(&gateway, request, Some(self.call_timeout)).await
        })
        .await
    }

    /// A seat's result index, of the first gateway that has one.
    pub async fn get_index(
        &self,
        round: RoundId,
        provider: Address,
    ) -> Result<Option<SignedIndex>, ClientError> {
        match self.get_json(&path::index(round, provider)).await {
            Ok(index) => Ok(Some(index)),
            Err(error) if error.fault() == Fault::Absent => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Leaves a message for a job's buyer to relay, on every gateway.
    pub async fn post_message(
        &self,
        job: JobId,
        message: &SignedMessage,
    ) -> Result<Written<MessageTaken>, ClientError> {
        self.send_json(Method::POST, &path::messages(job), message, Spread::All)
            .await
    }

    /// A page of a job's messages from one gateway. Cursors of two gateways have nothing to do with each other, so
    /// the client must be of one gateway alone ([`GatewayClient::only`]).
    pub async fn messages(&self, job: JobId, filter: MessageFilter) -> Result<MessagePage, ClientError> {
        self.ask_any(|gateway| async move {
            let request = self
                .request(&gateway, Method::GET, &path::messages(job))?
                .query(&filter);
            self.call(&gateway, request, Some(self.call_timeout)).await
        })
        .await
    }

    /// A receipt over stored outputs, of the first gateway that gives one. The gateway reads every byte for it, so it
    /// may take long; what it has read is not read again.
    pub async fn receipt(
        &self,
        request: &ReceiptRequest,
        grant: &GrantToken,
    ) -> Result<SignedReceipt, ClientError> {
        self.ask_any(|gateway| async move {
            let call = self
                .request(&gateway, Method::POST, path::RECEIPTS)?
                .bearer_auth(grant.to_text())
                .json(request);
            self.call(&gateway, call, Some(self.call_timeout)).await
        })
        .await
    }

    async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask_any(|gateway| async move {
            let request = self.request(&gateway, Method::GET, path)?;
            self.call(&gateway, request, Some(self.call_timeout)).await
        })
        .await
    }

    /// The newest of what the gateways have. One that is out of reach does not hide what another has.
    async fn newest<T: DeserializeOwned, K: Ord>(
        &self,
        path: &str,
        key: impl Fn(&T) -> K,
    ) -> Result<Option<T>, ClientError> {
        let mut best: Option<T> = None;
        let mut failure = None;
        for gateway in &self.gateways {
            match self.only(gateway).get_json::<T>(path).await {
                Ok(found) if best.as_ref().is_none_or(|best| key(&found) > key(best)) => best = Some(found),
                Ok(_) => {}
                Err(error) if error.fault() == Fault::Absent => {}
                Err(error) => failure = Some(error),
            }
        }
        match (best, failure) {
            (Some(best), _) => Ok(Some(best)),
            (None, None) => Ok(None),
            (None, Some(error)) => Err(error),
        }
    }

    async fn send_json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
        spread: Spread,
    ) -> Result<Written<T>, ClientError> {
        let method = &method;
        self.to_gateways(spread, |gateway| async move {
            let request = self.request(&gateway, method.clone(), path)?.json(body);
            self.call(&gateway, request, Some(self.call_timeout)).await
        })
        .await
    }
}
