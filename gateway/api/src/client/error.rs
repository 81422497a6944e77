//! What can go wrong between a client and its gateways.

use std::{error::Error, path::PathBuf, time::Duration};

use reqwest::{Response, StatusCode, Url, header};
use tradewind_result::ContentDigest;

use crate::wire::{Reason, Refusal};

/// A refusal's body is short; more is not a refusal of ours.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Why a client could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No gateway is configured.
    #[error("no gateway is configured")]
    NoGateway,
    /// A gateway's address is not usable.
    #[error("{text:?} is not a gateway's address: expected http(s)://host[:port][/path]")]
    Address {
        /// The address as given.
        text: String,
    },
    /// The HTTP client could not be made.
    #[error("the HTTP client could not be set up: {reason}")]
    Setup {
        /// What was wrong.
        reason: String,
    },
    /// No answer, or not all of one.
    #[error("{gateway} cannot be reached or stopped answering: {reason}")]
    Transport {
        /// Which gateway.
        gateway: String,
        /// What the network said.
        reason: String,
    },
    /// The gateway refused, in its own words.
    #[error("{gateway} refused ({:?}): {}", refusal.reason, refusal.message)]
    Refused {
        /// Which gateway.
        gateway: String,
        /// Its words.
        refusal: Box<Refusal>,
        /// How long it asks to wait, if it does.
        wait: Option<Duration>,
    },
    /// The answer is not one of a gateway.
    #[error("{gateway} answered {status} with what no gateway says: {reason}")]
    Answer {
        /// Which gateway.
        gateway: String,
        /// Its HTTP status.
        status: u16,
        /// What was wrong.
        reason: String,
    },
    /// The answer is longer than the caller allows.
    #[error("{gateway} sends more than the {limit} bytes that are expected here")]
    TooLong {
        /// Which gateway.
        gateway: String,
        /// The limit.
        limit: u64,
    },
    /// The bytes are not those that were asked for: the gateway lies or its store is damaged.
    #[error("{gateway} sent bytes with the digest {found} for the blob {expected}")]
    OtherBytes {
        /// Which gateway.
        gateway: String,
        /// What was asked for.
        expected: ContentDigest,
        /// What came.
        found: ContentDigest,
    },
    /// A file here cannot be read or written.
    #[error("the file {path} cannot be used")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Whose doing an error is, for those who must decide what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Passes by itself: try again later.
    Passing,
    /// The thing is not there, on any gateway that answered.
    Absent,
    /// The request, the grant or the configuration must change first.
    Request,
    /// A gateway does what it must not.
    Gateway,
    /// This machine's disk.
    Local,
}

impl ClientError {
    /// Whose doing it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoGateway | Self::Address { .. } | Self::Setup { .. } => Fault::Request,
            Self::Refused { refusal, .. } => match refusal.reason {
                Reason::NotFound => Fault::Absent,
                reason if reason.passes() => Fault::Passing,
                _ => Fault::Request,
            },
            // Something before the gateway (a proxy, a balancer) may answer so while it is away.
            Self::Transport { .. } | Self::Answer { status: 500.., .. } => Fault::Passing,
            Self::Answer { .. } | Self::TooLong { .. } | Self::OtherBytes { .. } => Fault::Gateway,
            Self::File { .. } => Fault::Local,
        }
    }

    /// The gateway's reason, if it gave one.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.reason),
            Self::NoGateway
            | Self::Address { .. }
            | Self::Setup { .. }
            | Self::Transport { .. }
            | Self::Answer { .. }
            | Self::TooLong { .. }
            | Self::OtherBytes { .. }
            | Self::File { .. } => None,
        }
    }

    /// The variant's name, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoGateway => "NoGateway",
            Self::Address { .. } => "Address",
            Self::Setup { .. } => "Setup",
            Self::Transport { .. } => "Transport",
            Self::Refused { .. } => "Refused",
            Self::Answer { .. } => "Answer",
            Self::TooLong { .. } => "TooLong",
            Self::OtherBytes { .. } => "OtherBytes",
            Self::File { .. } => "File",
        }
    }

    /// Whether the same may succeed later with nothing changed here.
    pub fn passes(&self) -> bool {
        self.fault() == Fault::Passing
    }

    pub(super) fn asked_wait(&self) -> Option<Duration> {
        match self {
            Self::Refused { wait, .. } => *wait,
            _ => None,
        }
    }

    /// Of the errors of two gateways, the one to tell: anything before "not here", and "not here" before nothing.
    pub(super) fn tells_more_than(&self, other: &Self) -> bool {
        !matches!(self, Self::NoGateway) && other.fault() == Fault::Absent
    }

    pub(super) fn transport(gateway: &Url, source: &reqwest::Error) -> Self {
        Self::Transport {
            gateway: gateway.to_string(),
            reason: chain(source),
        }
    }
}

/// An error and its causes in one line: the HTTP client says little in the first.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| (*error).source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// What a refusing answer says.
pub(super) async fn refused(gateway: &Url, response: Response) -> ClientError {
    let status = response.status();
    let wait = retry_after(&response);
    let body = match read_bounded(gateway, response, REFUSAL_BYTES_MAX as u64).await {
        Ok(body) => body,
        Err(error) => return error,
    };
    // A HEAD has no body, so its status must do.
    if body.is_empty() && status == StatusCode::NOT_FOUND {
        let refusal = Refusal {
            reason: Reason::NotFound,
            message: "there is no such thing here".to_owned(),
            remedy: "ask another gateway".to_owned(),
            offset: None,
        };
        return ClientError::Refused {
            gateway: gateway.to_string(),
            refusal: Box::new(refusal),
            wait,
        };
    }
    match serde_json::from_slice::<Refusal>(&body) {
        Ok(refusal) => ClientError::Refused {
            gateway: gateway.to_string(),
            refusal: Box::new(refusal),
            wait,
        },
        Err(error) => ClientError::Answer {
            gateway: gateway.to_string(),
            status: status.as_u16(),
            reason: error.to_string(),
        },
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response
        .headers()
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

/// The whole body, if it is not longer than `limit` bytes.
pub(super) async fn read_bounded(
    gateway: &Url,
    mut response: Response,
    limit: u64,
) -> Result<Vec<u8>, ClientError> {
    let too_long = || ClientError::TooLong {
        gateway: gateway.to_string(),
        limit,
    };
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_long());
    }
    let mut body = Vec::new();
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|source| ClientError::transport(gateway, &source))?
    {
        if (body.len() + piece.len()) as u64 > limit {
            return Err(too_long());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
