//! The gateway's HTTP interface: paths, headers, requests and answers, and how it refuses.
//!
//! The relay speaks the part of it that concerns blobs. What is signed is in the other modules.

use serde::{Deserialize, Serialize};
use tradewind_market::{Address, ClassId, JobId, RegionId, RoundId, Seconds, UnixSeconds};
use tradewind_result::ContentDigest;
use utoipa::ToSchema;

use crate::{message::SignedMessage, offer::SignedOffer};

/// Routes, in axum's and OpenAPI's notation.
pub mod path {
    use super::{Address, ContentDigest, JobId, RoundId, blob_name};

    /// Who this gateway is and what it takes.
    pub const ABOUT: &str = "/v1/about";
    /// One blob: PUT, HEAD, GET.
    pub const BLOB: &str = "/v1/blobs/{digest}";
    /// How far an upload has come.
    pub const UPLOAD: &str = "/v1/uploads/{digest}";
    /// Offers: POST one, GET many.
    pub const OFFERS: &str = "/v1/offers";
    /// A job's bundle: PUT, GET.
    pub const BUNDLE: &str = "/v1/jobs/{job}/bundle";
    /// A job's messages: POST one, GET those after a cursor.
    pub const MESSAGES: &str = "/v1/jobs/{job}/messages";
    /// A seat's result index: PUT, GET.
    pub const INDEX: &str = "/v1/rounds/{round}/{provider}/index";
    /// Storage receipts: POST.
    pub const RECEIPTS: &str = "/v1/receipts";
    /// The interface's description.
    pub const OPENAPI: &str = "/openapi.json";

    /// [`BLOB`] of one blob.
    pub fn blob(digest: &ContentDigest) -> String {
        format!("/v1/blobs/{}", blob_name(digest))
    }

    /// [`UPLOAD`] of one blob.
    pub fn upload(digest: &ContentDigest) -> String {
        format!("/v1/uploads/{}", blob_name(digest))
    }

    /// [`BUNDLE`] of one job.
    pub fn bundle(job: JobId) -> String {
        format!("/v1/jobs/{job}/bundle")
    }

    /// [`MESSAGES`] of one job.
    pub fn messages(job: JobId) -> String {
        format!("/v1/jobs/{job}/messages")
    }

    /// [`INDEX`] of one seat.
    pub fn index(round: RoundId, provider: Address) -> String {
        format!("/v1/rounds/{round}/{provider}/index")
    }
}

/// Headers of our own.
pub mod header {
    /// Where in the blob the body of a PUT begins, in bytes. Left out: at its start.
    pub const UPLOAD_OFFSET: &str = "tradewind-upload-offset";
    /// Length of the whole blob, in bytes. Left out: the body is all of it, and has a Content-Length.
    pub const UPLOAD_LENGTH: &str = "tradewind-upload-length";
    /// Keep the blob until this time (Unix seconds). Left out: for the gateway's default retention.
    pub const RETAIN_UNTIL: &str = "tradewind-retain-until";
}

/// A blob's name in a path: its BLAKE3 digest as 64 lower-case hex digits, and nothing else, so that a name can never
/// lead out of a folder.
pub fn blob_name(digest: &ContentDigest) -> String {
    hex::encode(digest.as_bytes())
}

/// The blob that a name in a path means.
pub fn parse_blob_name(name: &str) -> Option<ContentDigest> {
    if name.len() != 64 || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; 32];
    hex::decode_to_slice(name, &mut bytes).ok()?;
    Some(ContentDigest::from_bytes(bytes))
}

/// Who a gateway is and what it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// The account that signs its receipts, as offers and jobs name it.
    #[schema(value_type = String)]
    pub gateway: Address,
    /// The chain it follows.
    pub chain_id: u64,
    /// The market on that chain.
    #[schema(value_type = String)]
    pub market: Address,
    /// The software's version.
    pub version: String,
    /// Largest blob, in bytes.
    pub blob_bytes_max: u64,
    /// How long a blob is kept where its upload does not say, in seconds.
    #[schema(value_type = u64)]
    pub retention_default: Seconds,
    /// How long an upload or a receipt may ask for, in seconds.
    #[schema(value_type = u64)]
    pub retention_max: Seconds,
}

/// A blob that can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlobStat {
    /// Its address.
    #[schema(value_type = String)]
    pub digest: ContentDigest,
    /// Its length, in bytes.
    pub bytes: u64,
}

/// How far an upload has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploadState {
    /// The blob's address.
    #[schema(value_type = String)]
    pub digest: ContentDigest,
    /// Bytes that are stored already: where the next PUT may begin.
    pub offset: u64,
    /// Whether the blob is whole and can be fetched.
    pub complete: bool,
}

/// Which offers to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OfferFilter {
    /// Only of this class.
    #[param(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ClassId>,
    /// Only for this token.
    #[param(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Address>,
    /// Only of this region (the hash of its name).
    #[param(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
    /// Only of this provider.
    #[param(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Address>,
    /// Go on after this page: what the last answer gave as `next`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Offers a page, at most; the gateway may give fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of offers, in a stable order.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfferPage {
    /// Offers that are valid now.
    #[schema(value_type = Vec<Object>)]
    pub offers: Vec<SignedOffer>,
    /// Given as `after`, gets the next page; left out on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which messages of a job to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MessageFilter {
    /// Only later ones: the last answer's `next`. Zero or left out: from the first.
    #[serde(default)]
    pub after: u64,
    /// Messages a page, at most; the gateway may give fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of a job's messages, in the order in which the gateway took them.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessagePage {
    /// The messages.
    #[schema(value_type = Vec<Object>)]
    pub messages: Vec<SignedMessage>,
    /// Given as `after`, gets what comes next; the same number again if nothing has.
    pub next: u64,
}

/// A message was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageTaken {
    /// Its place among the job's messages.
    pub sequence: u64,
}

/// Asks for a receipt over outputs that the gateway stores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReceiptRequest {
    /// The job.
    #[schema(value_type = String)]
    pub job: JobId,
    /// The round that the receipt is for.
    #[schema(value_type = String)]
    pub round: RoundId,
    /// The provider that the receipt is for; signs the grant that is sent along.
    #[schema(value_type = String)]
    pub provider: Address,
    /// Every unit of the round, in ascending order.
    pub units: Vec<ReceiptUnit>,
    /// Until when the bytes are to be kept: now and the terms' retention, at least.
    #[schema(value_type = u64)]
    pub until: UnixSeconds,
}

/// One unit of a [`ReceiptRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReceiptUnit {
    /// Its index within the job.
    pub unit: u32,
    /// Where its sealed output is.
    #[schema(value_type = String)]
    pub address: ContentDigest,
    /// Length of the output as stored, in bytes.
    pub length: u64,
}

/// Units in one receipt.
pub const RECEIPT_UNITS_MAX: usize = 100_000;

/// Why a request was refused, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum Reason {
    /// A path, header or body cannot be read.
    Malformed,
    /// There is no such thing here.
    NotFound,
    /// The method does not exist for this path.
    MethodUnknown,
    /// The request needs a storage grant.
    GrantMissing,
    /// The storage grant cannot be read.
    GrantMalformed,
    /// The storage grant's time is over.
    GrantExpired,
    /// The storage grant's signature is not its signer's.
    GrantSignature,
    /// The storage grant is of another signer than this request or this relay needs.
    GrantForeign,
    /// The storage grant's bytes are used up, or too few.
    GrantSpent,
    /// The signer has neither balance nor bond in the market, nor a part in a job that the chain knows: money there
    /// comes first, also before a job is opened.
    NoStanding,
    /// The chain could not be asked about the signer.
    StandingUnknown,
    /// A signature is not its signer's.
    SignatureInvalid,
    /// The signer is not whom the request needs: the job's buyer, the seat's provider.
    SignerForeign,
    /// The chain does not know the job (yet).
    JobUnknown,
    /// A body or a list is larger than allowed.
    TooLarge,
    /// The length of the blob must be stated.
    LengthRequired,
    /// The upload goes on at another offset.
    OffsetMismatch,
    /// The bytes do not have the digest they were sent under.
    DigestMismatch,
    /// The body ended before its stated end.
    Truncated,
    /// The peer sent nothing for too long.
    Stalled,
    /// More requests than allowed for now.
    RateLimited,
    /// The gateway has its hands full.
    Busy,
    /// The signer stores as much, or as many things, as one may.
    QuotaReached,
    /// Longer retention than the gateway gives.
    RetentionTooLong,
    /// A newer one is here already.
    Superseded,
    /// The same number was used for other content.
    NonceUsed,
    /// Its time is over, or has too long to come.
    TimeOutOfBounds,
    /// The description does not hash to what was signed.
    DetailsMismatch,
    /// A blob that a receipt should cover is not here, or of another length.
    BlobMissing,
    /// The object store failed.
    StoreFailed,
    /// No gateway upstream of this relay answered well.
    UpstreamFailed,
    /// The job was not granted the host that it wants to reach through this relay.
    HostNotGranted,
    /// The host has no address that this relay may reach.
    HostNotPublic,
    /// The host cannot be resolved, or does not answer.
    HostUnreachable,
    /// A reason that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Reason {
    /// The HTTP status it travels under.
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::Truncated => 400,
            Self::GrantMissing | Self::GrantMalformed | Self::GrantExpired | Self::GrantSignature => 401,
            Self::GrantForeign
            | Self::GrantSpent
            | Self::NoStanding
            | Self::SignatureInvalid
            | Self::SignerForeign
            | Self::HostNotGranted
            | Self::HostNotPublic => 403,
            Self::NotFound | Self::JobUnknown => 404,
            Self::MethodUnknown => 405,
            Self::Stalled => 408,
            Self::OffsetMismatch | Self::Superseded | Self::NonceUsed | Self::BlobMissing => 409,
            Self::LengthRequired => 411,
            Self::TooLarge => 413,
            Self::DigestMismatch | Self::RetentionTooLong | Self::TimeOutOfBounds | Self::DetailsMismatch => {
                422
            }
            Self::RateLimited | Self::QuotaReached => 429,
            Self::UpstreamFailed | Self::HostUnreachable => 502,
            Self::StandingUnknown | Self::Busy | Self::StoreFailed | Self::Unknown => 503,
        }
    }

    /// Whether the same request may succeed a little later, with nothing changed by the caller.
    pub const fn passes(self) -> bool {
        match self {
            Self::StandingUnknown
            | Self::JobUnknown
            | Self::Truncated
            | Self::Stalled
            | Self::RateLimited
            | Self::Busy
            | Self::StoreFailed
            | Self::UpstreamFailed
            | Self::HostUnreachable
            | Self::Unknown => true,
            Self::Malformed
            | Self::NotFound
            | Self::MethodUnknown
            | Self::GrantMissing
            | Self::GrantMalformed
            | Self::GrantExpired
            | Self::GrantSignature
            | Self::GrantForeign
            | Self::GrantSpent
            | Self::NoStanding
            | Self::SignatureInvalid
            | Self::SignerForeign
            | Self::TooLarge
            | Self::LengthRequired
            | Self::OffsetMismatch
            | Self::DigestMismatch
            | Self::QuotaReached
            | Self::RetentionTooLong
            | Self::Superseded
            | Self::NonceUsed
            | Self::TimeOutOfBounds
            | Self::DetailsMismatch
            | Self::BlobMissing
            | Self::HostNotGranted
            | Self::HostNotPublic => false,
        }
    }
}

/// The body of every refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// For programs.
    pub reason: Reason,
    /// For people: what was wrong.
    pub message: String,
    /// For people: what to do about it.
    pub remedy: String,
    /// With `OffsetMismatch`: where the upload goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_text_form_names_a_blob() {
        let digest = ContentDigest::of(b"");
        let name = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(blob_name(&digest), name);
        assert_eq!(parse_blob_name(name), Some(digest));
        let (upper, prefixed, longer) = (name.to_uppercase(), format!("0x{name}"), format!("{name}/.."));
        for bad in [
            "",
            "../../etc/passwd",
            "af13",
            &upper,
            &prefixed,
            &longer,
            &name[1..],
        ] {
            assert_eq!(parse_blob_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_reason_of_a_newer_gateway_is_read_as_unknown_and_tried_again() {
        let text = r#"{"reason":"MoonInTheWrongHouse","message":"m","remedy":"r"}"#;
        let refusal: Refusal = serde_json::from_str(text).unwrap();
        assert_eq!(refusal.reason, Reason::Unknown);
        assert!(refusal.reason.passes());
    }
}
