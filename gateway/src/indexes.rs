//! Result indexes over HTTP: where a seat's outputs are. Each is stored in its provider's name, and counts like a blob.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::{Value, json};
use tradewind_gateway_api::{
    index::{SignedIndex, UNITS_MAX},
    wire::{Reason, Refusal},
};
use tradewind_market::{Address, RoundId};
use tradewind_result::ContentDigest;

use crate::{
    authorise::require_signer,
    blobs::{granted, holds::Claim, retention},
    bundles::stored_json,
    gateway::Gateway,
    http::{Refused, read_json},
    limits::INDEX_BYTES_MAX,
};

/// Publishes where a seat's outputs are, signed by its provider, with a grant of the same provider. A later one takes
/// its place.
#[utoipa::path(
    put, path = "/v1/rounds/{round}/{provider}/index",
    params(
        ("round" = String, Path, description = "the round's id, 0x and 64 hex digits"),
        ("provider" = String, Path, description = "the provider's address, 0x and 40 hex digits"),
    ),
    request_body(content = Object, description = "a SignedIndex: statement and signature"),
    responses(
        (status = 201), (status = 400, body = Refusal), (status = 401, body = Refusal),
        (status = 403, body = Refusal), (status = 413, body = Refusal), (status = 429, body = Refusal),
        (status = 503, body = Refusal),
    ),
    security(("grant" = [])),
)]
pub(crate) async fn publish(
    State(gateway): State<Gateway>,
    Path((round, provider)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Refused> {
    let gateway = &*gateway.0;
    let (round, provider) = seat_in_path(&round, &provider)?;
    let grant = granted(gateway, &headers).await?;
    if grant.signer != provider {
        return Err(Refused::new(
            Reason::GrantForeign,
            "the grant is not of the index's provider",
            "send a grant that the provider signed",
        ));
    }
    let (signed, content) =
        read_json::<SignedIndex>(body, INDEX_BYTES_MAX, gateway.limits.body_stall).await?;
    let index = &signed.statement;
    if index.round_id != round || index.provider != provider {
        return Err(Refused::malformed(
            "the index is of another round or provider than the path",
        ));
    }
    let ascending = index.units.is_sorted_by(|a, b| a.unit < b.unit);
    if index.units.is_empty() || index.units.len() > UNITS_MAX || !ascending {
        return Err(Refused::malformed(format!(
            "an index has 1 to {UNITS_MAX} units, ascending, none twice"
        )));
    }
    require_signer(signed.digest(&gateway.domain), &signed.signature, provider)?;
    let claim = Claim {
        grant,
        digest: ContentDigest::of(&content),
        bytes: content.len() as u64,
        until: retention(gateway, None)?,
    };
    gateway.claim(&claim).await?;
    gateway
        .store
        .put(&format!("indexes/{round}/{provider}"), content)
        .await?;
    Ok((StatusCode::CREATED, Json(json!({}))))
}

/// Where a seat's outputs are, as its provider says.
#[utoipa::path(
    get, path = "/v1/rounds/{round}/{provider}/index",
    params(
        ("round" = String, Path, description = "the round's id, 0x and 64 hex digits"),
        ("provider" = String, Path, description = "the provider's address, 0x and 40 hex digits"),
    ),
    responses((status = 200, body = Object), (status = 404, body = Refusal), (status = 503, body = Refusal)),
)]
pub(crate) async fn get(
    State(gateway): State<Gateway>,
    Path((round, provider)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let (round, provider) = seat_in_path(&round, &provider)?;
    let content = gateway
        .0
        .store
        .get(&format!("indexes/{round}/{provider}"))
        .await?;
    content
        .map(stored_json)
        .ok_or_else(|| Refused::not_found("an index of this seat"))
}

fn seat_in_path(round: &str, provider: &str) -> Result<(RoundId, Address), Refused> {
    let bad = |what: &str, error: tradewind_market::ids::ParseIdError| {
        Refused::malformed(format!("the {what} in the path: {error}"))
    };
    Ok((
        round.parse().map_err(|error| bad("round's id", error))?,
        provider
            .parse()
            .map_err(|error| bad("provider's address", error))?,
    ))
}
