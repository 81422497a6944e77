//! Storage receipts over HTTP: the gateway reads what it stores, and signs that it keeps it.
//!
//! It signs nothing that it has not read: the root over each blob's chunks is worked out from the bytes in the store,
//! once, and kept beside them.

use axum::{Json, body::Body, extract::State, http::HeaderMap};
use bytes::Bytes;
use futures::StreamExt;
use tradewind_chain::Preimage;
use tradewind_gateway_api::{
    receipt::SignedReceipt,
    wire::{RECEIPT_UNITS_MAX, Reason, ReceiptRequest, ReceiptUnit, Refusal, blob_name},
};
use tradewind_market::{
    Hash32,
    document::StorageGrant,
    eip712::StructHash,
    message::{HexBytes, Receipt},
};
use tradewind_result::{
    ChunkRoot, StoredUnit,
    stored::{StoredDigest, stored_root},
};

use crate::{
    blobs::{blob_path, granted, holds::Claim, retention},
    gateway::{Gateway, Inner},
    http::{Refused, read_json},
    limits::INDEX_BYTES_MAX,
};

/// Signs a receipt over a round's outputs, which are kept until then. The grant is of the receipt's provider.
#[utoipa::path(
    post, path = "/v1/receipts",
    request_body = ReceiptRequest,
    responses(
        (status = 200, body = Object, description = "a SignedReceipt: statement and signature"),
        (status = 400, body = Refusal), (status = 401, body = Refusal), (status = 403, body = Refusal),
        (status = 409, body = Refusal), (status = 413, body = Refusal), (status = 422, body = Refusal),
        (status = 429, body = Refusal), (status = 503, body = Refusal),
    ),
    security(("grant" = [])),
)]
pub(crate) async fn issue(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SignedReceipt>, Refused> {
    let gateway = &*gateway.0;
    let grant = granted(gateway, &headers).await?;
    let (request, _) = read_json::<ReceiptRequest>(body, INDEX_BYTES_MAX, gateway.limits.body_stall).await?;
    check(&request, &grant)?;
    let until = retention(gateway, Some(request.until))?;
    let _place = gateway
        .receipts
        .try_acquire()
        .map_err(|_| Refused::busy("receipts"))?;
    let mut units = Vec::with_capacity(request.units.len());
    for unit in &request.units {
        let stored = stored_unit(gateway, unit).await?;
        let claim = Claim {
            grant,
            digest: unit.address,
            bytes: unit.length,
            until,
        };
        gateway.claim(&claim).await?;
        units.push(stored);
    }
    // The claims came after the look: what was swept in between would be promised without being there.
    for unit in &request.units {
        require_blob(gateway, unit).await?;
    }
    let root = stored_root(&units).map_err(|error| Refused::malformed(error.to_string()))?;
    let size = request
        .units
        .iter()
        .try_fold(0_u64, |all, unit| all.checked_add(unit.length));
    let receipt = Receipt {
        gateway: gateway.signer.address(),
        round_id: request.round,
        provider: request.provider,
        stored_root: Hash32::from_bytes(*root.as_bytes()),
        size: size.ok_or_else(|| Refused::malformed("the lengths do not add up"))?,
        until,
    };
    let preimage = Preimage::typed_data(gateway.domain.separator(), receipt.struct_hash());
    let signature = gateway.signer.sign(&preimage).await.map_err(|error| {
        tracing::error!(%error, "a receipt could not be signed");
        Refused::new(
            Reason::StoreFailed,
            "the gateway cannot sign now",
            "try again later, or at another gateway",
        )
    })?;
    Ok(Json(SignedReceipt {
        statement: receipt,
        signature: HexBytes(signature.as_bytes().to_vec()),
    }))
}

fn check(request: &ReceiptRequest, grant: &StorageGrant) -> Result<(), Refused> {
    if grant.signer != request.provider {
        return Err(Refused::new(
            Reason::GrantForeign,
            "the grant is not of the receipt's provider",
            "send a grant that the provider signed",
        ));
    }
    if request.units.is_empty() || request.units.len() > RECEIPT_UNITS_MAX {
        return Err(Refused::malformed(format!(
            "a receipt is over 1 to {RECEIPT_UNITS_MAX} units"
        )));
    }
    Ok(())
}

async fn require_blob(gateway: &Inner, unit: &ReceiptUnit) -> Result<(), Refused> {
    match gateway.store.size(&blob_path(&unit.address)).await? {
        Some(bytes) if bytes == unit.length => Ok(()),
        Some(bytes) => Err(missing(
            unit,
            &format!("has {bytes} bytes here, not {}", unit.length),
        )),
        None => Err(missing(unit, "is not here")),
    }
}

fn missing(unit: &ReceiptUnit, what: &str) -> Refused {
    Refused::new(
        Reason::BlobMissing,
        format!(
            "the output of unit {} at {} {what}",
            unit.unit,
            blob_name(&unit.address)
        ),
        "store the output here first, and state the length as stored",
    )
}

async fn stored_unit(gateway: &Inner, unit: &ReceiptUnit) -> Result<StoredUnit, Refused> {
    require_blob(gateway, unit).await?;
    let ReceiptUnit {
        unit: index,
        address,
        length,
    } = *unit;
    let chunk_root = match known_root(gateway, unit).await? {
        Some(root) => root,
        None => read_root(gateway, unit).await?,
    };
    Ok(StoredUnit {
        unit: index,
        address,
        length,
        chunk_root,
    })
}

fn root_path(unit: &ReceiptUnit) -> String {
    format!("roots/{}", blob_name(&unit.address))
}

async fn known_root(gateway: &Inner, unit: &ReceiptUnit) -> Result<Option<ChunkRoot>, Refused> {
    let content = gateway.store.get(&root_path(unit)).await?;
    let bytes = content.and_then(|content| <[u8; 32]>::try_from(content.as_ref()).ok());
    Ok(bytes.map(ChunkRoot::from_bytes))
}

async fn read_root(gateway: &Inner, unit: &ReceiptUnit) -> Result<ChunkRoot, Refused> {
    let stream = gateway
        .store
        .read(&blob_path(&unit.address), 0..unit.length)
        .await?;
    let mut stream = stream.ok_or_else(|| missing(unit, "is not here"))?;
    let mut digest = StoredDigest::new();
    while let Some(piece) = stream.next().await {
        digest.update(&piece?);
        // Hashing is work: others get their turn between pieces.
        tokio::task::yield_now().await;
    }
    let Some((address, length, root)) = digest.finish() else {
        return Err(missing(unit, "is larger than a receipt can name"));
    };
    if address != unit.address || length != unit.length {
        tracing::error!(
            blob = blob_name(&unit.address),
            "a blob in the store does not have its digest any more"
        );
        return Err(missing(unit, "is damaged here"));
    }
    gateway
        .store
        .put(&root_path(unit), Bytes::copy_from_slice(root.as_bytes()))
        .await?;
    Ok(root)
}
