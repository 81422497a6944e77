#![forbid(unsafe_code)]
//! The part of reqwest 0.11's surface that ethers 2.0.14 compiles against. Every request fails.
pub use http::{header, StatusCode};
use std::fmt;
pub use url::Url;
pub type Result<T> = std::result::Result<T, Error>;
#[derive(Debug)]
pub struct Error(());
impl Error {
    pub fn is_timeout(&self) -> bool {
        false
    }
    pub fn is_connect(&self) -> bool {
        false
    }
    pub fn status(&self) -> Option<StatusCode> {
        None
    }
}
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HTTP through ethers' own client is disabled in this build")
    }
}
impl std::error::Error for Error {}
#[derive(Debug, Clone, Default)]
pub struct Client(());
#[derive(Debug, Default)]
pub struct ClientBuilder(());
#[derive(Debug)]
pub struct RequestBuilder(());
#[derive(Debug)]
pub enum Response {}
impl Client {
    pub fn new() -> Self {
        Client(())
    }
    pub fn builder() -> ClientBuilder {
        ClientBuilder(())
    }
    pub fn get<U>(&self, _: U) -> RequestBuilder {
        RequestBuilder(())
    }
    pub fn post<U>(&self, _: U) -> RequestBuilder {
        RequestBuilder(())
    }
}
impl ClientBuilder {
    pub fn default_headers(self, _: header::HeaderMap) -> Self {
        self
    }
    pub fn user_agent<V>(self, _: V) -> Self {
        self
    }
    pub fn timeout(self, _: std::time::Duration) -> Self {
        self
    }
    pub fn build(self) -> Result<Client> {
        Ok(Client(()))
    }
}
impl RequestBuilder {
    pub fn header<K, V>(self, _: K, _: V) -> Self {
        self
    }
    pub fn json<T: serde::Serialize + ?Sized>(self, _: &T) -> Self {
        self
    }
    pub async fn send(self) -> Result<Response> {
        Err(Error(()))
    }
}
impl Response {
    pub fn error_for_status(self) -> Result<Self> {
        match self {}
    }
    pub async fn json<T: serde::de::DeserializeOwned>(self) -> Result<T> {
        match self {}
    }
    pub async fn text(self) -> Result<String> {
        match self {}
    }
    pub async fn bytes(self) -> Result<bytes::Bytes> {
        match self {}
    }
}
pub async fn get<U>(_: U) -> Result<Response> {
    Err(Error(()))
}
