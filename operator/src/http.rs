//! The HTTP client for registries, with the certificates that the system has (`SSL_CERT_FILE` names others).
//! Without any, addresses with https fail and those with http work.

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// Shared connection pool. Cheap to clone.
pub(crate) type HttpClient = reqwest::Client;

/// Establishing a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two reads: a peer that stalls longer is given up on, however large the body.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The TLS library refused its settings.
    #[error("TLS could not be set up")]
    Tls(#[source] rustls::Error),
    /// The client refused its settings.
    #[error("the HTTP client could not be made")]
    Client(#[source] reqwest::Error),
}

/// Makes the client.
pub(crate) fn client() -> Result<HttpClient, HttpError> {
    let mut roots = RootCertStore::empty();
    // A certificate that cannot be read is one fewer to trust: connections that need it fail by themselves.
    let (_added, _ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(HttpError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .user_agent(concat!("tradewind-operator/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(HttpError::Client)
}
