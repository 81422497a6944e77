//! Whether the API server is one that Tradewind works with. It only asks; what is old enough is `crds`' to say.

use kube::Client;
use tradewind_crds::server_version::{self, ServerVersion, UnsupportedServer};

/// Why the operator does not start in this cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VersionError {
    /// The API server did not answer.
    #[error("the API server could not be asked for its version")]
    Ask(#[source] kube::Error),
    /// It is not one to work with.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedServer),
}

/// Asks the API server for its version and refuses one that lacks what Tradewind relies on.
pub(crate) async fn check(client: &Client) -> Result<ServerVersion, VersionError> {
    let info = client.apiserver_version().await.map_err(VersionError::Ask)?;
    Ok(server_version::check(&info)?)
}
