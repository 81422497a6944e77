//! What is counted. Labels are closed sets: routes and reasons, never names or addresses.

use std::time::Duration;

use axum::http::Method;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, exponential_buckets,
};
use tradewind_gateway_api::wire::{Reason, path};

/// Requests by route and outcome.
#[derive(Clone, Debug)]
pub(crate) struct RequestMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
}

/// Bytes of blobs that came and went.
#[derive(Clone, Debug)]
pub(crate) struct BlobMetrics {
    pub(crate) received: IntCounter,
    pub(crate) sent: IntCounter,
}

/// What the sweeper removed.
#[derive(Clone, Debug)]
pub(crate) struct SweepMetrics {
    pub(crate) sweeps: IntCounter,
    pub(crate) failures: IntCounter,
    pub(crate) removed: IntCounterVec,
}

/// What the relay's cache did.
#[derive(Clone, Debug)]
pub(crate) struct CacheMetrics {
    pub(crate) hits: IntCounter,
    pub(crate) misses: IntCounter,
    pub(crate) evicted_bytes: IntCounter,
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

impl RequestMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = counters(
            registry,
            "tradewind_gateway_requests_total",
            "Requests by route and outcome: ok, or the reason of the refusal.",
            &["route", "outcome"],
        )?;
        let options = HistogramOpts::new(
            "tradewind_gateway_request_seconds",
            "Time until the head of the answer, by route.",
        )
        .buckets(exponential_buckets(0.001, 4.0, 9)?);
        let seconds = HistogramVec::new(options, &["route"])?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { requests, seconds })
    }

    pub(crate) fn observe(
        &self,
        method: &Method,
        path: Option<&str>,
        reason: Option<Reason>,
        took: Duration,
    ) {
        let route = route_label(method, path);
        self.requests
            .with_label_values(&[route, reason.map_or("ok", reason_label)])
            .inc();
        self.seconds
            .with_label_values(&[route])
            .observe(took.as_secs_f64());
    }
}

impl BlobMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            received: counter(
                registry,
                "tradewind_gateway_blob_received_bytes_total",
                "Bytes of blobs taken.",
            )?,
            sent: counter(
                registry,
                "tradewind_gateway_blob_sent_bytes_total",
                "Bytes of blobs handed out.",
            )?,
        })
    }
}

impl SweepMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            sweeps: counter(
                registry,
                "tradewind_gateway_sweeps_total",
                "Sweeps that ran to their end.",
            )?,
            failures: counter(
                registry,
                "tradewind_gateway_sweep_failures_total",
                "Sweeps that the store broke off.",
            )?,
            removed: counters(
                registry,
                "tradewind_gateway_swept_total",
                "Objects removed because their time was over, by kind.",
                &["kind"],
            )?,
        })
    }
}

impl CacheMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            hits: counter(
                registry,
                "tradewind_relay_cache_hits_total",
                "Blobs served from the cache.",
            )?,
            misses: counter(
                registry,
                "tradewind_relay_cache_misses_total",
                "Blobs fetched from a gateway.",
            )?,
            evicted_bytes: counter(
                registry,
                "tradewind_relay_cache_evicted_bytes_total",
                "Bytes removed from the cache to make room.",
            )?,
        })
    }
}

fn route_label(method: &Method, path: Option<&str>) -> &'static str {
    match (method.as_str(), path) {
        ("PUT", Some(path::BLOB)) => "put_blob",
        ("GET", Some(path::BLOB)) => "get_blob",
        ("HEAD", Some(path::BLOB)) => "head_blob",
        ("GET", Some(path::UPLOAD)) => "get_upload",
        ("POST", Some(path::OFFERS)) => "post_offer",
        ("GET", Some(path::OFFERS)) => "get_offers",
        ("PUT", Some(path::BUNDLE)) => "put_bundle",
        ("GET", Some(path::BUNDLE)) => "get_bundle",
        ("PUT", Some(path::INDEX)) => "put_index",
        ("GET", Some(path::INDEX)) => "get_index",
        ("POST", Some(path::MESSAGES)) => "post_message",
        ("GET", Some(path::MESSAGES)) => "get_messages",
        ("POST", Some(path::RECEIPTS)) => "post_receipt",
        ("GET", Some(path::ABOUT)) => "get_about",
        ("GET", Some(path::OPENAPI)) => "get_openapi",
        ("CONNECT", _) => "connect",
        _ => "other",
    }
}

fn reason_label(reason: Reason) -> &'static str {
    match reason {
        Reason::Malformed => "malformed",
        Reason::NotFound => "not_found",
        Reason::MethodUnknown => "method_unknown",
        Reason::GrantMissing => "grant_missing",
        Reason::GrantMalformed => "grant_malformed",
        Reason::GrantExpired => "grant_expired",
        Reason::GrantSignature => "grant_signature",
        Reason::GrantForeign => "grant_foreign",
        Reason::GrantSpent => "grant_spent",
        Reason::NoStanding => "no_standing",
        Reason::StandingUnknown => "standing_unknown",
        Reason::SignatureInvalid => "signature_invalid",
        Reason::SignerForeign => "signer_foreign",
        Reason::JobUnknown => "job_unknown",
        Reason::TooLarge => "too_large",
        Reason::LengthRequired => "length_required",
        Reason::OffsetMismatch => "offset_mismatch",
        Reason::DigestMismatch => "digest_mismatch",
        Reason::Truncated => "truncated",
        Reason::Stalled => "stalled",
        Reason::RateLimited => "rate_limited",
        Reason::Busy => "busy",
        Reason::QuotaReached => "quota_reached",
        Reason::RetentionTooLong => "retention_too_long",
        Reason::Superseded => "superseded",
        Reason::NonceUsed => "nonce_used",
        Reason::TimeOutOfBounds => "time_out_of_bounds",
        Reason::DetailsMismatch => "details_mismatch",
        Reason::BlobMissing => "blob_missing",
        Reason::StoreFailed => "store_failed",
        Reason::UpstreamFailed => "upstream_failed",
        Reason::HostNotGranted => "host_not_granted",
        Reason::HostNotPublic => "host_not_public",
        Reason::HostUnreachable => "host_unreachable",
        Reason::Unknown => "unknown",
    }
}
