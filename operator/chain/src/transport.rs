//! JSON-RPC requests to one node: the seam ([`Transport`]), its typed errors, and the HTTP implementation.
//!
//! A transport sends one request and believes nothing about the reply beyond its form: time-out, size, id. It never
//! retries: who asked knows whether asking again is harmless, and [`RpcError::disposition`] says whether it could help.

mod error;
mod http;

use std::fmt;

use async_trait::async_trait;
use serde_json::Value;
use serde_json::value::RawValue;

pub use error::RpcError;
pub use http::{HttpConfig, HttpTransport};

/// One JSON-RPC endpoint. Tests put faulty ones between by implementing this around another.
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends one request and returns the reply's `result` (`null` where it is missing).
    ///
    /// An error does not say that the request had no effect: the reply may have been lost after the node acted.
    async fn request(&self, method: &str, params: Value) -> Result<Box<RawValue>, RpcError>;
}
