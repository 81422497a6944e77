//! Reading requests and refusing them: bounded bodies, one form of refusal, and what every route passes first.

use std::{sync::Arc, time::Duration, time::Instant};

use axum::{
    Json,
    body::{Body, BodyDataStream},
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use tradewind_daemon::Peer;
use tradewind_gateway_api::wire::{Reason, Refusal};

use crate::{limits::RateLimiter, metrics::RequestMetrics, store::StoreError};

/// Bytes of a refused request's body that are read and dropped, so that the refusal reaches a peer that is still
/// sending. More than this the peer should have asked about before.
const DRAIN_BYTES_MAX: usize = 1 << 20;

/// A request that is not granted.
#[derive(Clone, Debug)]
pub(crate) struct Refused(pub(crate) Refusal);

impl Refused {
    pub(crate) fn new(reason: Reason, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self(Refusal {
            reason,
            message: message.into(),
            remedy: remedy.into(),
            offset: None,
        })
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(
            Reason::Malformed,
            message,
            "see /openapi.json for what this path takes",
        )
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(
            Reason::NotFound,
            format!("{what} is not here"),
            "ask another gateway, or wait until it is published",
        )
    }

    pub(crate) fn busy(what: &str) -> Self {
        Self::new(
            Reason::Busy,
            format!("too many {what} at once"),
            "try again after the time in Retry-After",
        )
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        // Logged here, where it is turned into an answer; the peer is not told about paths and disks.
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "the object store failed"
        );
        Self::new(
            Reason::StoreFailed,
            "the gateway's store failed",
            "try again later, or at another gateway",
        )
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let reason = self.0.reason;
        let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.0)).into_response();
        if reason.passes() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.extensions_mut().insert(reason);
        response
    }
}

/// The bytes of a body as they come, each within the time that a peer may be silent.
pub(crate) struct Incoming {
    stream: BodyDataStream,
    stall: Duration,
}

impl Incoming {
    pub(crate) fn new(body: Body, stall: Duration) -> Self {
        Self {
            stream: body.into_data_stream(),
            stall,
        }
    }

    /// The next bytes; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Refused> {
        match tokio::time::timeout(self.stall, self.stream.next()).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(piece))) => Ok(Some(piece)),
            Ok(Some(Err(_))) => Err(Refused::new(
                Reason::Truncated,
                "the body ended before its stated end",
                "send it again; an upload goes on where it broke off",
            )),
            Err(_) => Err(Refused::new(
                Reason::Stalled,
                format!("nothing came for {} seconds", self.stall.as_secs()),
                "send it again; an upload goes on where it broke off",
            )),
        }
    }

    /// Everything, if it is not more than `limit` bytes.
    pub(crate) async fn collect(mut self, limit: usize) -> Result<Bytes, Refused> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.next().await? {
            if all.len() + piece.len() > limit {
                self.drain().await;
                return Err(too_large(limit as u64));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// Reads and drops a little of what is still coming, so that a refusal is heard.
    pub(crate) async fn drain(mut self) {
        let mut dropped = 0;
        while dropped < DRAIN_BYTES_MAX {
            match self.next().await {
                Ok(Some(piece)) => dropped += piece.len(),
                Ok(None) | Err(_) => return,
            }
        }
    }
}

pub(crate) fn too_large(limit: u64) -> Refused {
    Refused::new(
        Reason::TooLarge,
        format!("more than the {limit} bytes that are taken here"),
        "send less",
    )
}

/// A JSON body of at most `limit` bytes, and its exact bytes.
pub(crate) async fn read_json<T: DeserializeOwned>(
    body: Body,
    limit: usize,
    stall: Duration,
) -> Result<(T, Bytes), Refused> {
    let bytes = Incoming::new(body, stall).collect(limit).await?;
    let value = serde_json::from_slice(&bytes)
        .map_err(|error| Refused::malformed(format!("the body is not what this path takes: {error}")))?;
    Ok((value, bytes))
}

/// A header's number.
pub(crate) fn number_header(headers: &HeaderMap, name: &str) -> Result<Option<u64>, Refused> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number
        .map(Some)
        .ok_or_else(|| Refused::malformed(format!("the header {name} is not a whole number")))
}

/// What is the same in front of every route of either role.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) rate: Arc<RateLimiter>,
    pub(crate) metrics: RequestMetrics,
}

/// Limits the rate and counts what comes and goes.
pub(crate) async fn at_the_door(State(door): State<Door>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let peer = request.extensions().get::<Peer>().copied();
    let admitted = peer.is_none_or(|Peer(address)| door.rate.admit(address.ip(), begun));
    let method = request.method().clone();
    let response = if admitted {
        next.run(request).await
    } else {
        Refused::new(
            Reason::RateLimited,
            "too many requests from this address",
            "send fewer, or wait",
        )
        .into_response()
    };
    let reason = response.extensions().get::<Reason>().copied();
    door.metrics
        .observe(&method, route.as_deref(), reason, begun.elapsed());
    response
}

/// Answers a path that does not exist.
pub(crate) async fn no_such_path() -> Refused {
    Refused::not_found("this path")
}

/// Answers a method that a path does not have.
pub(crate) async fn no_such_method() -> Refused {
    Refused::new(
        Reason::MethodUnknown,
        "this path does not have this method",
        "see /openapi.json",
    )
}
