//! Job bundles over HTTP. Only the job's buyer, as the chain has it, can publish one; the newest counts.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::{Value, json};
use tradewind_gateway_api::{
    bundle::{ENVELOPE_BYTES_MAX, ENVELOPES_MAX, SignedBundle},
    wire::{Reason, Refusal},
};
use tradewind_market::{JobId, Seconds};

use crate::{
    authorise::require_signer,
    gateway::Gateway,
    http::{Refused, read_json},
    limits::BUNDLE_BYTES_MAX,
    store::Creation,
};

/// How far the buyer's clock may be ahead of ours.
const CLOCK_SKEW: Seconds = Seconds::new(300);

/// Publishes a job's bundle, signed by its buyer. One with a later `issued` takes its place.
#[utoipa::path(
    put, path = "/v1/jobs/{job}/bundle",
    params(("job" = String, Path, description = "the job's id, 0x and 64 hex digits")),
    request_body(content = Object, description = "a SignedBundle: statement and signature"),
    responses(
        (status = 201), (status = 400, body = Refusal), (status = 403, body = Refusal),
        (status = 404, body = Refusal), (status = 409, body = Refusal), (status = 413, body = Refusal),
        (status = 422, body = Refusal), (status = 503, body = Refusal),
    ),
)]
pub(crate) async fn publish(
    State(gateway): State<Gateway>,
    Path(job): Path<String>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Refused> {
    let gateway = &*gateway.0;
    let job = job_in_path(&job)?;
    let (signed, content) =
        read_json::<SignedBundle>(body, BUNDLE_BYTES_MAX, gateway.limits.body_stall).await?;
    let bundle = &signed.statement;
    if bundle.job_id != job {
        return Err(Refused::malformed("the bundle is of another job than the path"));
    }
    let sealed_too_long = bundle
        .envelopes
        .iter()
        .any(|envelope| envelope.sealed.0.len() > ENVELOPE_BYTES_MAX);
    if bundle.envelopes.len() > ENVELOPES_MAX || sealed_too_long {
        return Err(Refused::new(
            Reason::TooLarge,
            format!("a bundle has at most {ENVELOPES_MAX} envelopes of {ENVELOPE_BYTES_MAX} bytes"),
            "seal the key alone, once for each provider",
        ));
    }
    if bundle.issued > gateway.clock.now().saturating_add(CLOCK_SKEW) {
        return Err(Refused::new(
            Reason::TimeOutOfBounds,
            "the bundle was issued in the future",
            "set the buyer's clock",
        ));
    }
    let buyer = gateway.standings.job(job).await?.buyer;
    require_signer(signed.digest(&gateway.domain), &signed.signature, buyer)?;
    let there = gateway.store.listed(&format!("bundles/{job}")).await?;
    let name = format!("{:016x}", bundle.issued.get());
    if there.last().is_some_and(|newest| newest.name > name) {
        return Err(Refused::new(
            Reason::Superseded,
            "a newer bundle is here already",
            "issue it anew",
        ));
    }
    let path = format!("bundles/{job}/{name}");
    if gateway.store.create(&path, content.clone()).await? == Creation::Existed
        && gateway
            .store
            .get(&path)
            .await?
            .is_some_and(|other| !same_statement(&other, &signed))
    {
        return Err(Refused::new(
            Reason::NonceUsed,
            "another bundle was issued in the same second",
            "issue it again a second later",
        ));
    }
    for older in there.iter().filter(|older| older.name < name) {
        gateway
            .store
            .delete(&format!("bundles/{job}/{}", older.name))
            .await?;
    }
    Ok((StatusCode::CREATED, Json(json!({}))))
}

fn same_statement(content: &Bytes, signed: &SignedBundle) -> bool {
    serde_json::from_slice::<SignedBundle>(content).is_ok_and(|other| other.statement == signed.statement)
}

/// A job's newest bundle.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/bundle",
    params(("job" = String, Path, description = "the job's id, 0x and 64 hex digits")),
    responses((status = 200, body = Object), (status = 404, body = Refusal), (status = 503, body = Refusal)),
)]
pub(crate) async fn newest(
    State(gateway): State<Gateway>,
    Path(job): Path<String>,
) -> Result<Response, Refused> {
    let job = job_in_path(&job)?;
    let missing = || Refused::not_found("a bundle of this job");
    let listed = gateway.0.store.listed(&format!("bundles/{job}")).await?;
    let newest = listed.last().ok_or_else(missing)?;
    let content = gateway
        .0
        .store
        .get(&format!("bundles/{job}/{}", newest.name))
        .await?
        .ok_or_else(missing)?;
    Ok(stored_json(content))
}

pub(crate) fn job_in_path(text: &str) -> Result<JobId, Refused> {
    text.parse()
        .map_err(|error| Refused::malformed(format!("the job's id in the path: {error}")))
}

/// Stored JSON as an answer, byte for byte.
pub(crate) fn stored_json(content: Bytes) -> Response {
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        content,
    )
        .into_response()
}
