//! JSON-RPC over HTTP(S) by hyper 1 and rustls.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{RpcError, Transport};

/// How to reach a node.
#[derive(Clone)]
pub struct HttpConfig {
    /// `http://` or `https://`. May hold a key, so it is never printed.
    pub url: String,
    /// For a whole request, from connecting to the reply's last byte.
    pub timeout: Duration,
    /// The longest reply that is read. 64 MiB holds the logs of any range that public nodes answer.
    pub response_bytes_max: usize,
}

impl HttpConfig {
    /// The node at `url`, 10 seconds and 64 MiB a reply.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            timeout: Duration::from_secs(10),
            response_bytes_max: 64 << 20,
        }
    }
}

impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConfig")
            .field("timeout", &self.timeout)
            .field("response_bytes_max", &self.response_bytes_max)
            .finish_non_exhaustive()
    }
}

/// A node reached over HTTP(S); connections are kept and shared.
pub struct HttpTransport {
    uri: Uri,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    next_id: AtomicU64,
    timeout: Duration,
    response_bytes_max: usize,
}

impl fmt::Debug for HttpTransport {
    /// Only the host: path and query of provider addresses are keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport")
            .field("host", &self.uri.host())
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct RequestBody<'a> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    params: Value,
}

#[derive(Deserialize)]
struct ResponseBody<'a> {
    /// Nodes answer `null` here when they could not read the request.
    #[serde(default)]
    id: Value,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<ErrorBody>,
}

#[derive(Deserialize)]
struct ErrorBody {
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Option<Value>,
}

/// The roots that the system has. Without any, addresses with https fail and those with http work.
fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    // A certificate that cannot be read is one fewer to trust: connections that need it fail by themselves.
    let (_added, _ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
}

impl HttpTransport {
    /// Prepares connections to the node; none is opened yet.
    pub fn new(config: HttpConfig) -> Result<Self, RpcError> {
        let HttpConfig {
            url,
            timeout,
            response_bytes_max,
        } = config;
        let refuse = |reason: String| RpcError::Address { reason };
        let uri: Uri = url
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| refuse(error.to_string()))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(refuse("expected http://HOST or https://HOST".to_owned()));
        }
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls().map_err(|error| refuse(error.to_string()))?)
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self {
            uri,
            client,
            next_id: AtomicU64::new(1),
            timeout,
            response_bytes_max,
        })
    }

    async fn exchange(
        &self,
        method: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, HeaderMap, Bytes), RpcError> {
        let connection = |reason: String| RpcError::Connection {
            method: method.to_owned(),
            reason,
        };
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| connection(error.to_string()))?;
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| connection(chain_of(&error)))?;
        let (parts, body) = response.into_parts();
        let bytes = Limited::new(body, self.response_bytes_max)
            .collect()
            .await
            .map_err(|error| {
                if error.is::<LengthLimitError>() {
                    RpcError::ResponseTooLarge {
                        method: method.to_owned(),
                        limit_bytes: self.response_bytes_max,
                    }
                } else {
                    connection(chain_of(error.as_ref()))
                }
            })?;
        Ok((parts.status, parts.headers, bytes.to_bytes()))
    }
}

/// An error with its causes in one line: hyper's own text names only the outermost.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The `result` of a reply, its form checked.
fn read_reply(
    method: &str,
    id: u64,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Box<RawValue>, RpcError> {
    let malformed = |reason: String| RpcError::Malformed {
        method: method.to_owned(),
        reason,
    };
    let reply: ResponseBody<'_> = match serde_json::from_slice(body) {
        Ok(reply) => reply,
        Err(_) if !status.is_success() => {
            let retry_after = retry_after(headers);
            return Err(RpcError::Status {
                method: method.to_owned(),
                status: status.as_u16(),
                retry_after,
            });
        }
        Err(error) => return Err(malformed(error.to_string())),
    };
    if reply.id.as_u64() != Some(id) && !(reply.id.is_null() && reply.error.is_some()) {
        return Err(RpcError::WrongId {
            method: method.to_owned(),
            got: reply.id.to_string(),
            want: id,
        });
    }
    if let Some(ErrorBody { code, message, data }) = reply.error {
        return Err(RpcError::Node {
            method: method.to_owned(),
            code,
            message,
            data,
        });
    }
    let result = reply.result.map_or("null", RawValue::get);
    RawValue::from_string(result.to_owned()).map_err(|error| malformed(error.to_string()))
}

#[async_trait]
impl Transport for HttpTransport {
    async fn request(&self, method: &str, params: Value) -> Result<Box<RawValue>, RpcError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        // Nodes want an array where there are no parameters.
        let params = if params.is_null() {
            Value::Array(Vec::new())
        } else {
            params
        };
        let body = serde_json::to_vec(&RequestBody {
            jsonrpc: "2.0",
            id,
            method,
            params,
        })
        .map_err(|error| RpcError::Encode {
            method: method.to_owned(),
            reason: error.to_string(),
        })?;
        let (status, headers, body) = tokio::time::timeout(self.timeout, self.exchange(method, body))
            .await
            .map_err(|_| RpcError::Timeout {
                method: method.to_owned(),
                after: self.timeout,
            })??;
        read_reply(method, id, status, &headers, &body)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A node that answers one request with these bytes and closes; `%BODY` of the request is checked by `seen`.
    async fn answer_once(
        response: &'static str,
        hold_open: bool,
    ) -> (HttpTransport, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 4096];
            let mut length = 0;
            while !String::from_utf8_lossy(&seen[..length]).contains('}') {
                length += socket.read(&mut seen[length..]).await.unwrap();
            }
            socket.write_all(response.as_bytes()).await.unwrap();
            if hold_open {
                // Until the client gives up and closes.
                while socket.read(&mut seen[..1]).await.is_ok_and(|read| read > 0) {}
            }
            String::from_utf8_lossy(&seen[..length]).into_owned()
        });
        let config = HttpConfig {
            url,
            timeout: Duration::from_millis(300),
            response_bytes_max: 1000,
        };
        (HttpTransport::new(config).unwrap(), server)
    }

    fn http_ok(body: &str) -> &'static str {
        let text = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        Box::leak(text.into_boxed_str())
    }

    #[tokio::test]
    async fn a_reply_is_believed_only_in_its_form() {
        async fn check(response: &'static str, expected: &str) {
            let (transport, _server) = answer_once(response, false).await;
            let error = transport.request("eth_chainId", Value::Null).await.unwrap_err();
            assert_eq!(error.label(), expected, "{error}");
        }
        check(http_ok(r#"{"jsonrpc":"2.0","id":2,"result":"0x1"}"#), "WrongId").await;
        check(http_ok(r#"{"jsonrpc":"2.0","result":"0x1"}"#), "WrongId").await;
        check(http_ok("not json"), "Malformed").await;
        check(
            http_ok(&format!(r#"{{"id":1,"result":"{}"}}"#, "f".repeat(1000))),
            "ResponseTooLarge",
        )
        .await;
        check(
            http_ok(r#"{"id":1,"error":{"code":-32000,"message":"no"}}"#),
            "Node",
        )
        .await;
        check(
            http_ok(r#"{"id":null,"error":{"code":-32700,"message":"parse error"}}"#),
            "Node",
        )
        .await;
        check(
            "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\nno",
            "Status",
        )
        .await;
        check(
            "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"id\":1",
            "Connection",
        )
        .await;
    }

    #[tokio::test]
    async fn a_silent_node_ends_in_a_timeout() {
        let (transport, _server) = answer_once("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{", true).await;
        let error = transport.request("eth_chainId", Value::Null).await.unwrap_err();
        assert_eq!(error.label(), "Timeout", "{error}");
    }

    #[tokio::test]
    async fn empty_params_are_an_array_and_a_missing_result_is_null() {
        let (transport, server) = answer_once(http_ok(r#"{"jsonrpc":"2.0","id":1}"#), false).await;
        assert_eq!(
            transport.request("eth_syncing", Value::Null).await.unwrap().get(),
            "null"
        );
        assert!(
            server
                .await
                .unwrap()
                .ends_with(r#""method":"eth_syncing","params":[]}"#)
        );
    }

    #[test]
    fn addresses_that_cannot_work_are_refused_without_showing_them() {
        for url in ["", "node:8545", "ftp://node/secret", "http://"] {
            let error = HttpTransport::new(HttpConfig::new(url)).unwrap_err();
            assert_eq!(error.label(), "Address", "{url}");
            assert!(!error.to_string().contains("secret"));
        }
        let transport = HttpTransport::new(HttpConfig::new("https://node/v3/secret")).unwrap();
        assert!(!format!("{transport:?}").contains("secret"));
    }
}
