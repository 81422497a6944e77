//! Stand-in for `reqwest` (0.11): the names that `ethers-providers` and `ethers-middleware` compile against.
//!
//! This project brings its own transport. Here every request fails before anything is sent, and a response cannot
//! exist, so neither the old HTTP and TLS code nor ethers' own look-ups of URLs found on chain are in the build.
#![forbid(unsafe_code)]

use std::fmt;

pub use http::{StatusCode, header};
pub use url::Url;

/// A result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// The only error: there is no HTTP client here.
#[derive(Debug)]
pub struct Error(());

impl Error {
    /// Never a time-out.
    pub fn is_timeout(&self) -> bool {
        false
    }

    /// Never a failed connection: none is tried.
    pub fn is_connect(&self) -> bool {
        false
    }

    /// Never has a status.
    pub fn status(&self) -> Option<StatusCode> {
        None
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ethers' own HTTP client is not in this build")
    }
}

impl std::error::Error for Error {}

/// A client that refuses every request.
#[derive(Debug, Clone, Default)]
pub struct Client(());

impl Client {
    /// The same as every other one.
    pub fn new() -> Self {
        Self(())
    }

    /// A builder that keeps nothing.
    pub fn builder() -> ClientBuilder {
        ClientBuilder(())
    }

    /// A request that will fail.
    pub fn get<U>(&self, _: U) -> RequestBuilder {
        RequestBuilder(())
    }

    /// A request that will fail.
    pub fn post<U>(&self, _: U) -> RequestBuilder {
        RequestBuilder(())
    }
}

/// Builds [`Client`], ignoring every setting.
#[derive(Debug, Default)]
pub struct ClientBuilder(());

impl ClientBuilder {
    /// Ignored.
    pub fn default_headers(self, _: header::HeaderMap) -> Self {
        self
    }

    /// Ignored.
    pub fn user_agent<V>(self, _: V) -> Self {
        self
    }

    /// Never fails.
    pub fn build(self) -> Result<Client> {
        Ok(Client(()))
    }
}

/// A request that fails when it is sent.
#[derive(Debug)]
pub struct RequestBuilder(());

impl RequestBuilder {
    /// Ignored.
    pub fn header<K, V>(self, _: K, _: V) -> Self {
        self
    }

    /// Ignored.
    pub fn json<T: serde::Serialize + ?Sized>(self, _: &T) -> Self {
        self
    }

    /// Always fails.
    pub async fn send(self) -> Result<Response> {
        Err(Error(()))
    }
}

/// A response, of which there is none.
#[derive(Debug)]
pub enum Response {}

impl Response {
    /// Unreachable.
    pub fn error_for_status(self) -> Result<Self> {
        match self {}
    }

    /// Unreachable.
    pub async fn json<T: serde::de::DeserializeOwned>(self) -> Result<T> {
        match self {}
    }

    /// Unreachable.
    pub async fn text(self) -> Result<String> {
        match self {}
    }

    /// Unreachable.
    pub async fn bytes(self) -> Result<bytes::Bytes> {
        match self {}
    }
}

/// Always fails.
pub async fn get<U>(_: U) -> Result<Response> {
    Err(Error(()))
}
