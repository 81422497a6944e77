//! Why a request has no result.

use std::time::Duration;

use serde_json::Value;

use crate::Disposition;

/// JSON-RPC: the method does not exist on this node.
const METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC: the parameters are not what the method takes. Some providers also say so of a range that is too wide.
const INVALID_PARAMS: i64 = -32602;
/// geth: the call reverted, the data says why.
const EXECUTION_REVERTED: i64 = 3;

/// Why a request has no result. Whether it had an effect is not known, except where a variant says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// The endpoint's address cannot be used. Nothing was sent.
    #[error("the RPC address is not usable: {reason}")]
    Address {
        /// What is wrong with it; never the address itself, which may hold a key.
        reason: String,
    },
    /// The request could not be written as JSON. Nothing was sent.
    #[error("{method}: the parameters cannot be encoded: {reason}")]
    Encode {
        /// The RPC method.
        method: String,
        /// The serializer's reason.
        reason: String,
    },
    /// No connection, or it broke.
    #[error("{method}: connection failed: {reason}")]
    Connection {
        /// The RPC method.
        method: String,
        /// The connector's reason.
        reason: String,
    },
    /// No whole reply in time.
    #[error("{method}: no reply within {after:?}")]
    Timeout {
        /// The RPC method.
        method: String,
        /// The limit.
        after: Duration,
    },
    /// The reply is longer than allowed.
    #[error("{method}: the reply exceeds {limit_bytes} bytes")]
    ResponseTooLarge {
        /// The RPC method.
        method: String,
        /// The limit.
        limit_bytes: usize,
    },
    /// An HTTP status without a JSON-RPC body.
    #[error("{method}: HTTP status {status}")]
    Status {
        /// The RPC method.
        method: String,
        /// The status code.
        status: u16,
        /// What the server asks to wait, if it says so.
        retry_after: Option<Duration>,
    },
    /// The reply is not JSON-RPC, or its result is not of the method's type.
    #[error("{method}: malformed reply: {reason}")]
    Malformed {
        /// The RPC method.
        method: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The reply belongs to another request.
    #[error("{method}: the reply has id {got}, the request had {want}")]
    WrongId {
        /// The RPC method.
        method: String,
        /// The id that came.
        got: String,
        /// The id that was sent.
        want: u64,
    },
    /// The node answered with an error.
    #[error("{method}: the node says {message} (code {code})")]
    Node {
        /// The RPC method.
        method: String,
        /// The JSON-RPC error code.
        code: i64,
        /// The node's words.
        message: String,
        /// The error's data: revert data for calls.
        data: Option<Value>,
    },
}

impl RpcError {
    /// What to do about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Address { .. } | Self::Encode { .. } => Disposition::AwaitChange,
            Self::Connection { .. }
            | Self::Timeout { .. }
            | Self::ResponseTooLarge { .. }
            | Self::Status { .. }
            | Self::Malformed { .. }
            | Self::WrongId { .. } => Disposition::Retry,
            Self::Node { code, .. } => match *code {
                METHOD_NOT_FOUND | INVALID_PARAMS | EXECUTION_REVERTED => Disposition::AwaitChange,
                _ => Disposition::Retry,
            },
        }
    }

    /// The variant's name, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Address { .. } => "Address",
            Self::Encode { .. } => "Encode",
            Self::Connection { .. } => "Connection",
            Self::Timeout { .. } => "Timeout",
            Self::ResponseTooLarge { .. } => "ResponseTooLarge",
            Self::Status { .. } => "Status",
            Self::Malformed { .. } => "Malformed",
            Self::WrongId { .. } => "WrongId",
            Self::Node { .. } => "Node",
        }
    }

    /// The data of a reverted call or estimate: empty where the node says "revert" and no more, `None` where the
    /// error is something else.
    pub fn revert_data(&self) -> Option<Vec<u8>> {
        let Self::Node {
            code, message, data, ..
        } = self
        else {
            return None;
        };
        if *code != EXECUTION_REVERTED && !message.contains("revert") {
            return None;
        }
        Some(data.as_ref().and_then(first_hex).unwrap_or_default())
    }

    /// Whether the node refuses a transaction because it has it: for a broadcast that is success. Nodes have no number
    /// for it; a wrong guess only adds to what is told.
    pub fn is_already_known(&self) -> bool {
        let Self::Node { message, .. } = self else {
            return false;
        };
        let message = message.to_lowercase();
        ["already known", "already imported", "known transaction"]
            .iter()
            .any(|words| message.contains(words))
    }

    /// Whether fewer blocks in one question could help: the reply is too long, or the node refuses the range.
    pub fn is_about_size(&self) -> bool {
        match self {
            // Providers word and number this refusal differently; a wrong guess only costs smaller questions.
            Self::ResponseTooLarge { .. } | Self::Timeout { .. } | Self::Node { .. } => true,
            Self::Status { status, .. } => *status == 413 || *status >= 500,
            Self::Address { .. }
            | Self::Encode { .. }
            | Self::Connection { .. }
            | Self::Malformed { .. }
            | Self::WrongId { .. } => false,
        }
    }
}

/// The first hex string in `data`, which nodes nest differently.
fn first_hex(data: &Value) -> Option<Vec<u8>> {
    match data {
        Value::String(text) => {
            let digits = text.split_once("0x").map_or(text.as_str(), |(_, digits)| digits);
            hex::decode(digits).ok()
        }
        Value::Object(fields) => fields.values().find_map(first_hex),
        Value::Array(items) => items.iter().find_map(first_hex),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(code: i64, message: &str, data: Option<Value>) -> RpcError {
        RpcError::Node {
            method: "eth_call".to_owned(),
            code,
            message: message.to_owned(),
            data,
        }
    }

    #[test]
    fn revert_data_is_found_where_nodes_put_it() {
        let check = |error: RpcError, expected: Option<Vec<u8>>| {
            assert_eq!(error.revert_data(), expected, "{error}");
        };
        check(
            node(3, "execution reverted", Some(json!("0x0102"))),
            Some(vec![1, 2]),
        );
        check(node(-32000, "execution reverted", None), Some(vec![]));
        check(
            node(-32015, "VM execution error: revert", Some(json!("Reverted 0xff"))),
            Some(vec![255]),
        );
        check(
            node(3, "execution reverted", Some(json!({"data": "0x07"}))),
            Some(vec![7]),
        );
        check(node(-32000, "header not found", Some(json!("0x0102"))), None);
    }

    #[test]
    fn what_cannot_get_better_is_not_retried() {
        assert_eq!(
            node(METHOD_NOT_FOUND, "", None).disposition(),
            Disposition::AwaitChange
        );
        assert_eq!(
            node(3, "execution reverted", None).disposition(),
            Disposition::AwaitChange
        );
        assert_eq!(node(-32000, "busy", None).disposition(), Disposition::Retry);
        let refused = RpcError::Status {
            method: String::new(),
            status: 429,
            retry_after: None,
        };
        assert_eq!(refused.disposition(), Disposition::Retry);
    }
}
