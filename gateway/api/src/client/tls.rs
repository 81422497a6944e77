//! TLS with the roots that the system has. Without any, addresses with https fail and those with http work.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::ClientError;

/// The settings of a client that trusts the system's roots; `SSL_CERT_FILE` names others.
pub fn config() -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    // A certificate that cannot be read is one fewer to trust: connections that need it fail by themselves.
    let (_added, _ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
        .map_err(|error| ClientError::Setup {
            reason: error.to_string(),
        })
}
