//! The provider's side: offers that are kept signed and published, and leases that are run.

pub(crate) mod args;
mod error;
mod lease;
mod offer;

use std::sync::Arc;

use tradewind_daemon::CancellationToken;

pub(crate) use error::ProviderError;

use crate::shell::context::Context;

/// Reconciles offers and leases until shutdown.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) -> Result<(), ProviderError> {
    tokio::try_join!(
        offer::run(Arc::clone(&context), shutdown.clone()),
        lease::run(Arc::clone(&context), shutdown),
    )
    .map(drop)
}
