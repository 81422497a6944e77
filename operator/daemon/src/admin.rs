//! What a process tells about itself over HTTP: /healthz, /readyz, /metrics.
//!
//! It never changes anything: every route only reads.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{Encoder, IntGaugeVec, Opts, Registry, TextEncoder, process_collector::ProcessCollector};

use crate::{process::About, ready::Readiness};

#[derive(Clone)]
struct Seen {
    registry: Registry,
    readiness: Readiness,
}

/// Registers what is known of every process: its build, and what the system says of it (`process_*`).
pub(crate) fn register_process(registry: &Registry, about: &About) -> Result<(), prometheus::Error> {
    let build = IntGaugeVec::new(
        Opts::new(
            "tradewind_build_info",
            "Always 1; the labels say which program in which version.",
        ),
        &["program", "version"],
    )?;
    build.with_label_values(&[about.program, about.version]).set(1);
    registry.register(Box::new(build))?;
    registry.register(Box::new(ProcessCollector::for_self()))
}

/// The routes. A binary may serve them from its own listener too.
pub fn router(registry: Registry, readiness: Readiness) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Seen { registry, readiness })
}

/// Alive: a process whose tasks are not all running has ended already.
async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(seen): State<Seen>) -> Response {
    let report = seen.readiness.report();
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report)).into_response()
}

async fn metrics(State(seen): State<Seen>) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&seen.registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written as text");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
