//! The client of gateways and relays: bounded in time and size, with retries, resumed transfers, and several gateways
//! where a job names several.
//!
//! It believes nothing that it can check: blobs are hashed, and a gateway that sends other bytes is passed over.
//! Signatures inside documents are for the caller to check, who knows whose they must be.

mod blobs;
mod documents;
mod error;
mod retry;
pub mod tls;

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, Url, redirect};

pub use blobs::{Download, Upload};
pub use error::{ClientError, Fault};
pub use retry::RetryPolicy;

/// How a client finds and treats gateways.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Base addresses, in the order in which they are asked.
    pub gateways: Vec<String>,
    /// How often and how fast to try again.
    pub retry: RetryPolicy,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long a transfer may stand still.
    pub stall_timeout: Duration,
    /// How long a request without a blob may take.
    pub call_timeout: Duration,
}

impl ClientConfig {
    /// For these gateways, with the usual patience.
    pub fn new(gateways: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            gateways: gateways.into_iter().map(Into::into).collect(),
            retry: RetryPolicy::default(),
            connect_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_mins(1),
        }
    }
}

/// A client of one or more gateways. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GatewayClient {
    http: reqwest::Client,
    gateways: Vec<Url>,
    retry: RetryPolicy,
    call_timeout: Duration,
}

/// Which gateways a write goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// The first that takes it.
    First,
    /// Each; one that takes it is enough.
    All,
}

/// What became of a write: which gateways took it, and which did not, and why. At least one did.
#[derive(Debug)]
pub struct Written<T> {
    /// Who took it, with their answers; never empty.
    pub taken: Vec<(Url, T)>,
    /// Who did not.
    pub refused: Vec<ClientError>,
}

impl<T> Written<T> {
    /// The first answer.
    pub fn first(self) -> Option<(Url, T)> {
        self.taken.into_iter().next()
    }
}

impl GatewayClient {
    /// A client of the configured gateways. Nothing is sent yet.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        let ClientConfig {
            gateways,
            retry,
            connect_timeout,
            stall_timeout,
            call_timeout,
        } = config;
        let gateways = gateways
            .iter()
            .map(|text| base_url(text))
            .collect::<Result<Vec<_>, _>>()?;
        if gateways.is_empty() {
            return Err(ClientError::NoGateway);
        }
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::config()?)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(connect_timeout)
            .read_timeout(stall_timeout)
            .user_agent(concat!("tradewind/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|source| ClientError::Setup {
                reason: error::chain(&source),
            })?;
        Ok(Self {
            http,
            gateways,
            retry,
            call_timeout,
        })
    }

    /// The gateways, in the order in which they are asked.
    pub fn gateways(&self) -> &[Url] {
        &self.gateways
    }

    /// The same client for one gateway alone.
    #[must_use]
    pub fn only(&self, gateway: &Url) -> Self {
        Self {
            gateways: vec![gateway.clone()],
            ..self.clone()
        }
    }

    fn request(&self, gateway: &Url, method: Method, path: &str) -> Result<RequestBuilder, ClientError> {
        let url = gateway
            .join(path.trim_start_matches('/'))
            .map_err(|_| ClientError::Address {
                text: format!("{gateway}{path}"),
            })?;
        Ok(self.http.request(method, url))
    }

    /// Sends one request once; an answer that is not a success is its refusal.
    async fn send(&self, gateway: &Url, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request
            .send()
            .await
            .map_err(|source| ClientError::transport(gateway, &source))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(error::refused(gateway, response).await)
    }

    /// Tries each gateway in turn, each as often as the policy says, until one answers well.
    async fn ask_any<T, F>(&self, mut attempt: impl FnMut(Url) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut last = ClientError::NoGateway;
        for gateway in &self.gateways {
            match self.retry.run(|| attempt(gateway.clone())).await {
                Ok(answer) => return Ok(answer),
                // "Not here" of one gateway must not hide the outage of another.
                Err(error) if last.tells_more_than(&error) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Writes to the gateways that `spread` says.
    async fn to_gateways<T, F>(
        &self,
        spread: Spread,
        mut attempt: impl FnMut(Url) -> F,
    ) -> Result<Written<T>, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut written = Written {
            taken: Vec::new(),
            refused: Vec::new(),
        };
        for gateway in &self.gateways {
            match self.retry.run(|| attempt(gateway.clone())).await {
                Ok(answer) => written.taken.push((gateway.clone(), answer)),
                Err(error) => written.refused.push(error),
            }
            if spread == Spread::First && !written.taken.is_empty() {
                break;
            }
        }
        if written.taken.is_empty() {
            return Err(written.refused.pop().unwrap_or(ClientError::NoGateway));
        }
        Ok(written)
    }
}

/// An absolute http or https address that ends with a slash, so that paths are joined below it.
fn base_url(text: &str) -> Result<Url, ClientError> {
    let bad = || ClientError::Address {
        text: text.to_owned(),
    };
    let url = Url::parse(&format!("{}/", text.trim_end_matches('/'))).map_err(|_| bad())?;
    let usable = matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none();
    if usable { Ok(url) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_absolute_and_keep_their_path() {
        let client = GatewayClient::new(ClientConfig::new([
            "http://gateway:8080",
            "https://host/tradewind/",
        ]))
        .unwrap();
        let of = |at: usize| {
            client
                .request(&client.gateways()[at], Method::GET, "/v1/about")
                .unwrap()
                .build()
                .unwrap()
                .url()
                .to_string()
        };
        assert_eq!(of(0), "http://gateway:8080/v1/about");
        assert_eq!(of(1), "https://host/tradewind/v1/about");
        for bad in ["", "gateway:8080", "ftp://host", "http://", "http://host/?q=1"] {
            let refused = GatewayClient::new(ClientConfig::new([bad]));
            assert!(matches!(refused, Err(ClientError::Address { .. })), "{bad}");
        }
        let none: [&str; 0] = [];
        assert!(matches!(
            GatewayClient::new(ClientConfig::new(none)),
            Err(ClientError::NoGateway)
        ));
    }
}
