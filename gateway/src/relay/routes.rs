//! The relay over HTTP: the part of the gateway's interface that pods need.

use std::{io::SeekFrom, path::Path as FilePath, path::PathBuf};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt},
};
use tokio_util::io::ReaderStream;
use tradewind_gateway_api::{
    client::{ClientError, Download, Upload},
    grant::GrantToken,
    wire::{BlobStat, Reason, UploadState, header},
};
use tradewind_market::UnixSeconds;
use tradewind_result::ContentDigest;

use super::{Inner, Relay};
use crate::{
    authorise::grant_of,
    blobs::{UploadHead, blob_response, digest_mismatch, is_whole, named_blob, range, truncated, while_held},
    http::{Incoming, Refused, number_header},
};

/// Bytes read from a file at a time.
const PIECE_BYTES: usize = 256 * 1024;

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn disk_failed(error: std::io::Error) -> Refused {
    tracing::error!(
        error = &error as &dyn std::error::Error,
        "the relay's disk failed"
    );
    Refused::new(Reason::StoreFailed, "the relay's disk failed", "try again later")
}

/// A gateway's refusal is passed on as it is; anything else is ours.
fn upstream_failed(error: ClientError) -> Refused {
    match error {
        ClientError::Refused { refusal, .. } => Refused(*refusal),
        other => {
            tracing::warn!(
                error = &other as &dyn std::error::Error,
                "no gateway could serve a pod"
            );
            Refused::new(
                Reason::UpstreamFailed,
                "no gateway could be reached",
                "try again later",
            )
        }
    }
}

pub(super) async fn get(
    State(relay): State<Relay>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let digest = named_blob(&name)?;
    let permit = relay
        .0
        .downloads
        .clone()
        .try_acquire_owned()
        .map_err(|_| Refused::busy("downloads"))?;
    let (mut file, bytes) = cached(&relay, digest).await?;
    let Some(wanted) = range::wanted(&headers, bytes) else {
        return Ok(range::not_satisfiable(bytes));
    };
    let selected = wanted.clone().unwrap_or(0..bytes);
    file.seek(SeekFrom::Start(selected.start))
        .await
        .map_err(disk_failed)?;
    let stream = ReaderStream::with_capacity(file.take(selected.end - selected.start), PIECE_BYTES);
    relay.0.blob_metrics.sent.inc_by(selected.end - selected.start);
    Ok(blob_response(
        &digest,
        bytes,
        wanted,
        Body::from_stream(while_held(stream, permit)),
    ))
}

/// A blob out of the cache. Of many that ask for one that is not there, one fetches it and the others wait.
async fn cached(relay: &Relay, digest: ContentDigest) -> Result<(File, u64), Refused> {
    if let Some(found) = relay.0.cache.open_blob(&digest).await.map_err(disk_failed)? {
        return Ok(found);
    }
    let flight = relay.0.cache.flight(digest);
    // Apart from the request: a pod that goes away must not break off what others wait for.
    let fetched = tokio::spawn({
        let relay = relay.clone();
        async move {
            let _alone = flight.lock().await;
            if let Some(found) = relay.0.cache.open_blob(&digest).await.map_err(disk_failed)? {
                return Ok(found);
            }
            relay.0.cache.missed();
            fetch(&relay.0, digest).await
        }
    });
    fetched.await.map_err(|error| {
        tracing::error!(%error, "a download panicked");
        Refused::new(Reason::UpstreamFailed, "the relay failed", "try again later")
    })?
}

async fn fetch(relay: &Inner, digest: ContentDigest) -> Result<(File, u64), Refused> {
    let path = relay.cache.fresh_path();
    let download = Download {
        digest,
        bytes_max: relay.limits.blob_bytes,
    };
    let bytes = relay
        .upstream
        .get_to_file(download, &path)
        .await
        .map_err(upstream_failed)?;
    // Opened before it is in the cache, so that it cannot be evicted under our feet.
    let file = File::open(&path).await.map_err(disk_failed)?;
    relay
        .cache
        .adopt(&path, digest, bytes)
        .await
        .map_err(disk_failed)?;
    Ok((file, bytes))
}

pub(super) async fn head(State(relay): State<Relay>, Path(name): Path<String>) -> Result<Response, Refused> {
    let digest = named_blob(&name)?;
    let here = relay.0.cache.open_blob(&digest).await.map_err(disk_failed)?;
    let bytes = if let Some((_, bytes)) = here {
        bytes
    } else {
        let found = relay.0.upstream.stat(digest).await.map_err(upstream_failed)?;
        found.ok_or_else(|| Refused::not_found("the blob"))?.bytes
    };
    Ok(blob_response(&digest, bytes, None, Body::empty()))
}

/// An upload to the relay always starts anew: inside a cluster that costs little.
pub(super) async fn upload_state(
    State(relay): State<Relay>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<UploadState>, Refused> {
    let digest = named_blob(&name)?;
    granted(&relay.0, &headers)?;
    Ok(Json(UploadState {
        digest,
        offset: 0,
        complete: false,
    }))
}

pub(super) async fn put(
    State(relay): State<Relay>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let body = Incoming::new(body, relay.0.limits.body_stall);
    let admitted = match admit(&relay.0, &name, &headers) {
        Ok(admitted) => admitted,
        Err(refused) => {
            body.drain().await;
            return Err(refused);
        }
    };
    let passed = tokio::spawn(async move { pass_on(&relay.0, admitted, body).await }).await;
    let stat = passed.map_err(|error| {
        tracing::error!(%error, "an upload panicked");
        Refused::new(Reason::UpstreamFailed, "the relay failed", "try again later")
    })??;
    Ok((StatusCode::CREATED, Json(stat)).into_response())
}

struct Admitted {
    head: UploadHead,
    token: GrantToken,
    retain_until: Option<UnixSeconds>,
    permit: tokio::sync::OwnedSemaphorePermit,
}

fn admit(relay: &Inner, name: &str, headers: &HeaderMap) -> Result<Admitted, Refused> {
    let digest = named_blob(name)?;
    let token = granted(relay, headers)?;
    let head = UploadHead::read(digest, headers, relay.limits.blob_bytes)?;
    if head.offset != 0 {
        let mut refused = Refused::new(
            Reason::OffsetMismatch,
            "an upload to the relay starts anew",
            "send the whole blob",
        );
        refused.0.offset = Some(0);
        return Err(refused);
    }
    if head.total > token.grant().max_bytes {
        return Err(Refused::new(
            Reason::GrantSpent,
            format!("the grant is for {} bytes in all", token.grant().max_bytes),
            "get a grant for more bytes from its signer",
        ));
    }
    let retain_until = number_header(headers, header::RETAIN_UNTIL)?.map(UnixSeconds::new);
    let permit = relay
        .uploads
        .clone()
        .try_acquire_owned()
        .map_err(|_| Refused::busy("uploads"))?;
    Ok(Admitted {
        head,
        token,
        retain_until,
        permit,
    })
}

/// The request's grant, which must be of the provider whose cluster this is.
fn granted(relay: &Inner, headers: &HeaderMap) -> Result<GrantToken, Refused> {
    let (grant, token) = grant_of(headers, &relay.domain, relay.clock.now())?;
    if grant.signer != relay.provider {
        return Err(Refused::new(
            Reason::GrantForeign,
            format!("only grants of {} count here", relay.provider),
            "use the grant that the lease carries",
        ));
    }
    Ok(token)
}

/// Takes a blob in, checks it, and stores it at the gateways before it says so.
async fn pass_on(relay: &Inner, admitted: Admitted, body: Incoming) -> Result<BlobStat, Refused> {
    let Admitted {
        head,
        token,
        retain_until,
        permit,
    } = admitted;
    let file = Spooled(relay.cache.fresh_path());
    spool(relay, &head, body, &file.0).await?;
    let upload = Upload {
        grant: &token,
        retain_until,
        spread: relay.spread,
    };
    relay
        .upstream
        .put_file(&file.0, &upload)
        .await
        .map_err(upstream_failed)?;
    relay
        .cache
        .adopt(&file.0, head.digest, head.total)
        .await
        .map_err(disk_failed)?;
    drop(permit);
    Ok(BlobStat {
        digest: head.digest,
        bytes: head.total,
    })
}

/// A file that is removed when its upload is over, unless the cache took it.
struct Spooled(PathBuf);

impl Drop for Spooled {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.0) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "an upload's file could not be removed; a restart does"),
        }
    }
}

async fn spool(relay: &Inner, head: &UploadHead, mut body: Incoming, path: &FilePath) -> Result<(), Refused> {
    let mut file = File::create(path).await.map_err(disk_failed)?;
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0_u64;
    while let Some(piece) = body.next().await? {
        bytes += piece.len() as u64;
        relay.blob_metrics.received.inc_by(piece.len() as u64);
        if bytes > head.total {
            return Err(Refused::malformed(
                "the body goes on behind the blob's stated end",
            ));
        }
        hasher.update(&piece);
        file.write_all(&piece).await.map_err(disk_failed)?;
    }
    file.flush().await.map_err(disk_failed)?;
    if bytes < head.total {
        return Err(truncated(0));
    }
    if !is_whole(&hasher, head.digest) {
        return Err(digest_mismatch(&hasher, head.digest));
    }
    Ok(())
}
