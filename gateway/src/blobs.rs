//! Blobs over HTTP: PUT, HEAD, GET, and how far an upload has come.
//!
//! A blob is visible once all of it is here and has the digest that it is named by, never before.

pub(crate) mod holds;
pub(crate) mod range;
mod upload;

use std::ops::Range;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header as http_header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tradewind_gateway_api::wire::{
    BlobStat, Reason, Refusal, UploadState, blob_name, header, parse_blob_name,
};
use tradewind_market::{UnixSeconds, document::StorageGrant};
use tradewind_result::ContentDigest;

use crate::{
    authorise::grant_of,
    gateway::{Gateway, Inner},
    http::{Incoming, Refused, number_header, too_large},
};
use holds::Claim;

pub(crate) fn blob_path(digest: &ContentDigest) -> String {
    let name = blob_name(digest);
    // Folders of a 256th each, which file systems list faster than one of all.
    format!("blobs/{}/{name}", &name[..2])
}

pub(crate) fn named_blob(name: &str) -> Result<ContentDigest, Refused> {
    parse_blob_name(name)
        .ok_or_else(|| Refused::malformed("a blob is named by 64 lower-case hex digits: its BLAKE3 digest"))
}

/// What an upload request says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UploadHead {
    pub(crate) digest: ContentDigest,
    pub(crate) offset: u64,
    pub(crate) total: u64,
}

impl UploadHead {
    pub(crate) fn read(digest: ContentDigest, headers: &HeaderMap, bytes_max: u64) -> Result<Self, Refused> {
        let offset = number_header(headers, header::UPLOAD_OFFSET)?.unwrap_or(0);
        let stated = number_header(headers, header::UPLOAD_LENGTH)?;
        let body = number_header(headers, http_header::CONTENT_LENGTH.as_str())?;
        let whole = if offset == 0 { body } else { None };
        let total = stated.or(whole).ok_or_else(|| {
            Refused::new(
                Reason::LengthRequired,
                "the length of the blob is not stated",
                "send Content-Length with a whole blob, tradewind-upload-length with a part",
            )
        })?;
        if total > bytes_max {
            return Err(too_large(bytes_max));
        }
        if offset > total || body.is_some_and(|body| body > total - offset) {
            return Err(Refused::malformed("the body would end behind the blob's end"));
        }
        Ok(Self {
            digest,
            offset,
            total,
        })
    }
}

/// Stores a blob, or goes on storing it. A whole blob is sent with Content-Length alone; a part says where it begins
/// and how long the whole is. Sending what is here already succeeds and keeps it longer.
#[utoipa::path(
    put, path = "/v1/blobs/{digest}",
    params(
        ("digest" = String, Path, description = "BLAKE3 of the bytes, 64 lower-case hex digits"),
        ("tradewind-upload-offset" = Option<u64>, Header, description = "where the body begins"),
        ("tradewind-upload-length" = Option<u64>, Header, description = "length of the whole blob"),
        ("tradewind-retain-until" = Option<u64>, Header, description = "keep until (Unix seconds)"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, body = BlobStat), (status = 400, body = Refusal), (status = 401, body = Refusal),
        (status = 403, body = Refusal), (status = 408, body = Refusal), (status = 409, body = Refusal),
        (status = 411, body = Refusal), (status = 413, body = Refusal), (status = 422, body = Refusal),
        (status = 429, body = Refusal), (status = 503, body = Refusal),
    ),
    security(("grant" = [])),
)]
pub(crate) async fn put(
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let body = Incoming::new(body, gateway.0.limits.body_stall);
    let admitted = match admit(&gateway.0, &name, &headers).await {
        Ok(admitted) => admitted,
        Err(refused) => {
            body.drain().await;
            return Err(refused);
        }
    };
    // Apart from the request, so that what has come is kept even when the peer goes away.
    let stored = tokio::spawn(upload::receive(gateway, admitted, body)).await;
    let stat = stored.map_err(|error| {
        tracing::error!(%error, "an upload panicked");
        Refused::new(Reason::StoreFailed, "the gateway failed", "try again later")
    })??;
    Ok((StatusCode::CREATED, Json(stat)).into_response())
}

pub(crate) struct Admitted {
    head: UploadHead,
    claim: Claim,
    permit: tokio::sync::OwnedSemaphorePermit,
}

async fn admit(gateway: &Inner, name: &str, headers: &HeaderMap) -> Result<Admitted, Refused> {
    let digest = named_blob(name)?;
    let grant = granted(gateway, headers).await?;
    let head = UploadHead::read(digest, headers, gateway.limits.blob_bytes)?;
    let until = retention(
        gateway,
        number_header(headers, header::RETAIN_UNTIL)?.map(UnixSeconds::new),
    )?;
    let permit = gateway
        .uploads
        .clone()
        .try_acquire_owned()
        .map_err(|_| Refused::busy("uploads"))?;
    let claim = Claim {
        grant,
        digest,
        bytes: head.total,
        until,
    };
    gateway.claim(&claim).await?;
    Ok(Admitted { head, claim, permit })
}

/// The request's grant, with its signer's standing asked of the chain.
pub(crate) async fn granted(gateway: &Inner, headers: &HeaderMap) -> Result<StorageGrant, Refused> {
    let (grant, _) = grant_of(headers, &gateway.domain, gateway.clock.now())?;
    gateway.standings.require(grant.signer, grant.job_id).await?;
    Ok(grant)
}

/// Until when something is kept: as asked for, or the default.
pub(crate) fn retention(gateway: &Inner, asked: Option<UnixSeconds>) -> Result<UnixSeconds, Refused> {
    let now = gateway.clock.now();
    let latest = now.saturating_add(gateway.limits.retention_max);
    let until = asked.unwrap_or_else(|| now.saturating_add(gateway.limits.retention_default).min(latest));
    if until > latest {
        let days = gateway.limits.retention_max.get() / 86_400;
        return Err(Refused::new(
            Reason::RetentionTooLong,
            format!("this gateway keeps nothing longer than {days} days"),
            "ask for less, and again before it ends",
        ));
    }
    if until <= now {
        return Err(Refused::new(
            Reason::TimeOutOfBounds,
            "the time until which to keep it is past",
            "ask for a time to come",
        ));
    }
    Ok(until)
}

/// Whether a blob is here, and its length.
#[utoipa::path(
    head, path = "/v1/blobs/{digest}",
    params(("digest" = String, Path, description = "BLAKE3 of the bytes, 64 lower-case hex digits")),
    responses((status = 200, description = "here; Content-Length is its length"), (status = 404)),
)]
pub(crate) async fn head(
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    let digest = named_blob(&name)?;
    let bytes = gateway
        .0
        .store
        .size(&blob_path(&digest))
        .await?
        .ok_or_else(|| Refused::not_found("the blob"))?;
    Ok(blob_response(&digest, bytes, None, Body::empty()))
}

/// A blob's bytes, or a range of them. Needs no grant: what is private is encrypted.
#[utoipa::path(
    get, path = "/v1/blobs/{digest}",
    params(
        ("digest" = String, Path, description = "BLAKE3 of the bytes, 64 lower-case hex digits"),
        ("range" = Option<String>, Header, description = "bytes=FIRST- or bytes=FIRST-LAST"),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, body = Refusal), (status = 416), (status = 503, body = Refusal),
    ),
)]
pub(crate) async fn get(
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let digest = named_blob(&name)?;
    let path = blob_path(&digest);
    let missing = || Refused::not_found("the blob");
    let bytes = gateway.0.store.size(&path).await?.ok_or_else(missing)?;
    let Some(wanted) = range::wanted(&headers, bytes) else {
        return Ok(range::not_satisfiable(bytes));
    };
    let permit = gateway
        .0
        .downloads
        .clone()
        .try_acquire_owned()
        .map_err(|_| Refused::busy("downloads"))?;
    let selected = wanted.clone().unwrap_or(0..bytes);
    let stream = gateway.0.store.read(&path, selected).await?.ok_or_else(missing)?;
    let sent = gateway.0.blob_metrics.sent.clone();
    let stream = stream.inspect(move |piece| {
        if let Ok(piece) = piece {
            sent.inc_by(piece.len() as u64);
        }
    });
    Ok(blob_response(
        &digest,
        bytes,
        wanted,
        Body::from_stream(while_held(stream, permit)),
    ))
}

/// A stream that holds on to something until it ends.
pub(crate) fn while_held<T>(
    stream: impl Stream<Item = T> + Send + 'static,
    held: impl Send + 'static,
) -> impl Stream<Item = T> + Send + 'static {
    stream.map(move |item| {
        let _held = &held;
        item
    })
}

/// The head of an answer with a blob's bytes, or some of them.
pub(crate) fn blob_response(
    digest: &ContentDigest,
    bytes: u64,
    part: Option<Range<u64>>,
    body: Body,
) -> Response {
    let mut response = Response::new(body);
    let length = part.as_ref().map_or(bytes, |part| part.end - part.start);
    if let Some(part) = part {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let text = format!("bytes {}-{}/{bytes}", part.start, part.end.saturating_sub(1));
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(http_header::CONTENT_RANGE, value);
        }
    }
    let headers = response.headers_mut();
    headers.insert(http_header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(http_header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(
        http_header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(
        http_header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=31536000, immutable"),
    );
    headers.insert(
        http_header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", blob_name(digest))) {
        headers.insert(http_header::ETAG, tag);
    }
    response
}

/// How much of an upload under this grant has come, so that it can go on there.
#[utoipa::path(
    get, path = "/v1/uploads/{digest}",
    params(("digest" = String, Path, description = "BLAKE3 of the bytes, 64 lower-case hex digits")),
    responses(
        (status = 200, body = UploadState), (status = 401, body = Refusal), (status = 403, body = Refusal),
        (status = 503, body = Refusal),
    ),
    security(("grant" = [])),
)]
pub(crate) async fn upload_state(
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<UploadState>, Refused> {
    let digest = named_blob(&name)?;
    let grant = granted(&gateway.0, &headers).await?;
    if let Some(bytes) = gateway.0.store.size(&blob_path(&digest)).await? {
        return Ok(Json(UploadState {
            digest,
            offset: bytes,
            complete: true,
        }));
    }
    let offset = upload::Parts::load(&gateway.0.store, &grant, digest)
        .await?
        .covered();
    Ok(Json(UploadState {
        digest,
        offset,
        complete: false,
    }))
}

/// A blob's pieces hashed as one, for those that must know it whole.
pub(crate) fn is_whole(hasher: &blake3::Hasher, digest: ContentDigest) -> bool {
    ContentDigest::from(hasher.finalize()) == digest
}

pub(crate) fn digest_mismatch(found: &blake3::Hasher, expected: ContentDigest) -> Refused {
    let found = ContentDigest::from(found.finalize());
    Refused::new(
        Reason::DigestMismatch,
        format!(
            "the bytes have the digest {} and not {}",
            blob_name(&found),
            blob_name(&expected)
        ),
        "nothing was kept: send the bytes that the name is the BLAKE3 digest of",
    )
}

pub(crate) fn truncated(offset: u64) -> Refused {
    let mut refused = Refused::new(
        Reason::Truncated,
        format!("the upload has come to {offset} bytes and is not whole"),
        "go on at the offset",
    );
    refused.0.offset = Some(offset);
    refused
}

/// Puts pieces of any size together until they fill a segment.
#[derive(Debug, Default)]
pub(crate) struct Segment(Vec<u8>);

impl Segment {
    /// Takes as much of `piece` as fits into `size` bytes and returns the rest.
    pub(crate) fn take(&mut self, mut piece: Bytes, size: usize) -> Bytes {
        let fits = piece.len().min(size.saturating_sub(self.0.len()));
        self.0.extend_from_slice(&piece.split_to(fits));
        piece
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn empty(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.0))
    }
}
