//! Where results are stored: the index that the buyer finds them by, and the receipt that the market takes.

use std::sync::Arc;

use tradewind_chain::{Signature, recover};
use tradewind_gateway_api::{
    grant::GrantToken,
    receipt::SignedReceipt,
    signed::key_signature,
    wire::{ReceiptRequest, ReceiptUnit},
};
use tradewind_market::{Address, GroupIndex, Seconds};

use super::Target;
use crate::provider::{
    ProviderError,
    lease::{Leases, awards::common_gateways, memo::Memo, messages::GroupResult},
};

/// Receipts reach a little beyond what the market asks for, since the reveal is included later than it is sent.
const RECEIPT_SLACK: Seconds = Seconds::new(300);

impl Leases {
    pub(super) async fn publish_index(
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

    pub(super) async fn request_receipt(
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
        grant: &GrantToken,
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
