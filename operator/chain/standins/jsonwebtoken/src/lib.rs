//! Stand-in for `jsonwebtoken` (8): the names that `ethers-providers` needs to compile the helper for a node's
//! Engine API, which this project never calls. Every operation fails, so no key is used and nothing is signed.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use errors::Error;

/// What every operation here returns.
pub mod errors {
    /// The only error: this build carries no JSON Web Tokens.
    #[derive(Debug)]
    pub struct Error(pub(crate) ());

    impl std::fmt::Display for Error {
        fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("this build carries no JSON Web Tokens")
        }
    }

    impl std::error::Error for Error {}

    /// A result with [`Error`].
    pub type Result<T> = std::result::Result<T, Error>;
}

/// The algorithm that the Engine API prescribes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HS256,
}

/// A token's header; carries nothing.
#[derive(Debug, Clone)]
pub struct Header(());

impl Header {
    /// An empty header.
    pub fn new(_: Algorithm) -> Self {
        Self(())
    }
}

/// A signing key; the secret is dropped at once.
#[derive(Clone)]
pub struct EncodingKey(());

impl EncodingKey {
    /// Ignores the secret.
    pub fn from_secret(_: &[u8]) -> Self {
        Self(())
    }
}

/// A verifying key; the secret is dropped at once.
#[derive(Clone)]
pub struct DecodingKey(());

impl DecodingKey {
    /// Ignores the secret.
    pub fn from_secret(_: &[u8]) -> Self {
        Self(())
    }
}

/// A decoded token; never made.
#[derive(Debug)]
pub struct TokenData<T> {
    /// Its header.
    pub header: Header,
    /// Its claims.
    pub claims: T,
}

/// What to check in a token; read by nobody.
#[derive(Debug, Clone)]
pub struct Validation {
    /// Whether expiry counts.
    pub validate_exp: bool,
    /// Claims that must be there.
    pub required_spec_claims: HashSet<String>,
}

impl Validation {
    /// The defaults of the crate it stands for.
    pub fn new(_: Algorithm) -> Self {
        Self { validate_exp: true, required_spec_claims: HashSet::new() }
    }
}

/// Always fails.
pub fn encode<T: serde::Serialize>(_: &Header, _: &T, _: &EncodingKey) -> errors::Result<String> {
    Err(Error(()))
}

/// Always fails.
pub fn decode<T: serde::de::DeserializeOwned>(
    _: &str,
    _: &DecodingKey,
    _: &Validation,
) -> errors::Result<TokenData<T>> {
    Err(Error(()))
}

/// Seconds since the epoch, 0 before it.
pub fn get_current_timestamp() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
