//! shim
mod identity; mod template; mod sources;
use std::sync::Arc;
use crate::shell::context::Context;
pub(crate) async fn run(_c: Arc<Context>, s: tradewind_daemon::CancellationToken) -> Result<(), std::convert::Infallible> { s.cancelled().await; Ok(()) }
