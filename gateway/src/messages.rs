//! Messages over HTTP: what providers leave for a job's buyer to relay to the chain.
//!
//! Each message of a job gets the next number, which only one replica can take; a reader asks for those after the last
//! it saw. What is here is a convenience: each message can be sent to the chain directly.

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use bytes::Bytes;
use tradewind_gateway_api::{
    message::SignedMessage,
    wire::{MessageFilter, MessagePage, MessageTaken, Reason, Refusal},
};
use tradewind_market::{JobId, message::SeatRef};

use crate::{
    authorise::require_signer,
    bundles::job_in_path,
    gateway::{Gateway, Inner},
    http::{Refused, read_json},
    limits::{MESSAGE_BYTES_MAX, MESSAGES_PER_PROVIDER},
    store::Creation,
};

/// Messages a page, at most, and their bytes; at least one is given.
const PAGE_MAX: usize = 256;
const PAGE_BYTES_MAX: usize = 8 << 20;
/// Other replicas that may take the next number before us, again and again.
const TRIES_MAX: u64 = 100;

/// Leaves a message, signed by a provider that holds the seats it names. The same message again is fine.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/messages",
    params(("job" = String, Path, description = "the job's id, 0x and 64 hex digits")),
    request_body(content = Object, description = "a SignedMessage: commit, abstain or reveal, each with statement and signature"),
    responses(
        (status = 201, body = MessageTaken), (status = 400, body = Refusal), (status = 403, body = Refusal),
        (status = 413, body = Refusal), (status = 422, body = Refusal), (status = 429, body = Refusal),
        (status = 503, body = Refusal),
    ),
)]
pub(crate) async fn leave(
    State(gateway): State<Gateway>,
    Path(job): Path<String>,
    body: Body,
) -> Result<(StatusCode, Json<MessageTaken>), Refused> {
    let gateway = &*gateway.0;
    let job = job_in_path(&job)?;
    let (message, content) =
        read_json::<SignedMessage>(body, MESSAGE_BYTES_MAX, gateway.limits.body_stall).await?;
    check(gateway, job, &message).await?;
    let provider = message.provider();
    let marks = format!("messages/{job}/by/{provider}");
    let mark = format!("{marks}/{}", hex::encode(message.struct_hash().as_bytes()));
    if let Some(taken) = gateway.store.get(&mark).await? {
        let sequence = std::str::from_utf8(&taken)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        return Ok((StatusCode::CREATED, Json(MessageTaken { sequence })));
    }
    if gateway.store.listed(&marks).await?.len() >= MESSAGES_PER_PROVIDER {
        return Err(Refused::new(
            Reason::QuotaReached,
            format!("a provider may leave {MESSAGES_PER_PROVIDER} messages about a job"),
            "put more entries into each message, or send it to the chain directly",
        ));
    }
    let sequence = append(gateway, job, content).await?;
    // A crash before this leaves the message twice at worst, which the contract passes over.
    gateway
        .store
        .put(&mark, Bytes::from(sequence.to_string()))
        .await?;
    Ok((StatusCode::CREATED, Json(MessageTaken { sequence })))
}

async fn check(gateway: &Inner, job: JobId, message: &SignedMessage) -> Result<(), Refused> {
    if message.job() != job {
        return Err(Refused::malformed(
            "the message is about another job than the path",
        ));
    }
    if !message.has_valid_count() {
        return Err(Refused::malformed("a message has 1 to 256 entries"));
    }
    if message.deadline() < gateway.clock.now() {
        return Err(Refused::new(
            Reason::TimeOutOfBounds,
            "the message's deadline is past",
            "sign it anew with a later one",
        ));
    }
    let provider = message.provider();
    require_signer(message.digest(&gateway.domain), message.signature(), provider)?;
    // One seat proves a part in the job; whether each entry's seat is its own, the contract checks.
    if let Some(SeatRef {
        group,
        round: _,
        seat,
    }) = first_seat(message)
    {
        gateway.standings.require_seat(provider, job, group, seat).await?;
    }
    Ok(())
}

fn first_seat(message: &SignedMessage) -> Option<SeatRef> {
    match message {
        SignedMessage::Commit(signed) => signed.statement.entries.first().map(|entry| entry.seat),
        SignedMessage::Abstain(signed) => signed.statement.entries.first().map(|entry| entry.seat),
        SignedMessage::Reveal(signed) => signed.statement.entries.first().map(|entry| entry.seat),
    }
}

fn message_path(job: JobId, sequence: u64) -> String {
    format!("messages/{job}/log/{sequence:016x}")
}

async fn append(gateway: &Inner, job: JobId, content: Bytes) -> Result<u64, Refused> {
    let listed = gateway.store.listed(&format!("messages/{job}/log")).await?;
    let last = listed
        .last()
        .and_then(|listed| u64::from_str_radix(&listed.name, 16).ok())
        .unwrap_or(0);
    for sequence in last + 1..=last + TRIES_MAX {
        if gateway
            .store
            .create(&message_path(job, sequence), content.clone())
            .await?
            == Creation::Created
        {
            return Ok(sequence);
        }
    }
    Err(Refused::busy("messages about this job"))
}

/// A job's messages after a cursor, in the order in which they came.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/messages",
    params(("job" = String, Path, description = "the job's id, 0x and 64 hex digits"), MessageFilter),
    responses((status = 200, body = MessagePage), (status = 400, body = Refusal), (status = 503, body = Refusal)),
)]
pub(crate) async fn list(
    State(gateway): State<Gateway>,
    Path(job): Path<String>,
    filter: Result<Query<MessageFilter>, QueryRejection>,
) -> Result<Json<MessagePage>, Refused> {
    let job = job_in_path(&job)?;
    let Query(filter) = filter.map_err(|error| Refused::malformed(error.body_text()))?;
    let limit = filter
        .limit
        .map_or(PAGE_MAX, |limit| (limit as usize).clamp(1, PAGE_MAX));
    let mut page = MessagePage {
        messages: Vec::new(),
        next: filter.after,
    };
    let mut bytes = 0;
    for listed in gateway.0.store.listed(&format!("messages/{job}/log")).await? {
        let Ok(sequence) = u64::from_str_radix(&listed.name, 16) else {
            continue;
        };
        if sequence <= filter.after {
            continue;
        }
        let Some(content) = gateway.0.store.get(&message_path(job, sequence)).await? else {
            continue;
        };
        bytes += content.len();
        if page.messages.len() >= limit || (bytes > PAGE_BYTES_MAX && !page.messages.is_empty()) {
            break;
        }
        page.next = sequence;
        match serde_json::from_slice(&content) {
            Ok(message) => page.messages.push(message),
            Err(error) => {
                tracing::error!(%job, sequence, %error, "an object in the store is no message; it is passed over");
            }
        }
    }
    Ok(Json(page))
}
