//! Why an image cannot be used, or could not be looked at.

use reqwest::StatusCode;

/// Why an image cannot be used, or could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// The reference cannot be read.
    #[error("{reference:?} is not an image reference: {why}")]
    Reference {
        /// As given.
        reference: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The registry could not be spoken to.
    #[error("the registry {registry} could not be reached")]
    Unreachable {
        /// Its host.
        registry: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The registry does not have the image.
    #[error("the registry {registry} has no {what}")]
    Missing {
        /// Its host.
        registry: String,
        /// What was asked for.
        what: String,
    },
    /// The registry does not let us pull without an account.
    #[error("the registry {registry} does not let {what} be pulled anonymously")]
    Forbidden {
        /// Its host.
        registry: String,
        /// What was asked for.
        what: String,
    },
    /// The registry answered with another status.
    #[error("the registry {registry} answered {status}")]
    Status {
        /// Its host.
        registry: String,
        /// The HTTP status.
        status: StatusCode,
    },
    /// The answer is not what it must be.
    #[error("the registry {registry} answered with something that is not {expected}")]
    Malformed {
        /// Its host.
        registry: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// The bytes do not have the digest that names them.
    #[error("the registry {registry} answered with other bytes than {digest}")]
    DigestMismatch {
        /// Its host.
        registry: String,
        /// The digest asked for.
        digest: String,
    },
    /// There is no manifest for the platform.
    #[error("the image has no variant for linux/amd64")]
    Platform,
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegistryDisposition {
    /// Asking again later can help.
    Retry,
    /// Only another image or reference helps; a missing image may still be pushed, so it is asked for again.
    Unsuitable,
}

impl RegistryError {
    /// What to do about it.
    pub(crate) fn disposition(&self) -> RegistryDisposition {
        match self {
            Self::Unreachable { .. }
            | Self::Missing { .. }
            | Self::Forbidden { .. }
            | Self::Status { .. }
            | Self::Malformed { .. }
            | Self::DigestMismatch { .. } => RegistryDisposition::Retry,
            Self::Reference { .. } | Self::Platform => RegistryDisposition::Unsuitable,
        }
    }
}
