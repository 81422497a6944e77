//! Whether the pod is shut in: what it must not reach, it cannot.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tradewind_gateway_api::slice::{AbstainCause, Abstention};

/// Long enough for a lost first packet to be sent again.
const CONNECT_PATIENCE: Duration = Duration::from_millis(1500);
/// Network policies take effect some moments after a pod's start: it may be reachable for so long.
const ISOLATION_PATIENCE: Duration = Duration::from_secs(10);
const ISOLATION_PAUSE: Duration = Duration::from_millis(500);

/// Returns once none of the canaries accepts a connection; gives up if one still does after a while.
pub(crate) async fn require_isolated(canaries: &[SocketAddr]) -> Result<(), Abstention> {
    if canaries.is_empty() {
        return Err(Abstention::new(
            AbstainCause::NotIsolated,
            None,
            "no canary was named, so nothing was tried",
        ));
    }
    let started = Instant::now();
    loop {
        let Some(reached) = first_reached(canaries).await else {
            return Ok(());
        };
        if started.elapsed() >= ISOLATION_PATIENCE {
            let detail = format!("the pod can reach {reached}");
            return Err(Abstention::new(AbstainCause::NotIsolated, None, detail));
        }
        tokio::time::sleep(ISOLATION_PAUSE).await;
    }
}

async fn first_reached(canaries: &[SocketAddr]) -> Option<SocketAddr> {
    let mut attempts = tokio::task::JoinSet::new();
    for canary in canaries.iter().copied() {
        attempts.spawn(async move {
            // A refusal or silence is what we want; only an open connection is none.
            match tokio::time::timeout(CONNECT_PATIENCE, TcpStream::connect(canary)).await {
                Ok(Ok(_)) => Some(canary),
                Ok(Err(_)) | Err(_) => None,
            }
        });
    }
    let mut reached = None;
    while let Some(attempt) = attempts.join_next().await {
        // An attempt that could not even be made to its end has shown nothing.
        reached = reached.or(attempt.ok().flatten());
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pod_that_reaches_a_canary_is_not_isolated() {
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        assert_eq!(
            first_reached(&[closed, open.local_addr().unwrap()]).await,
            Some(open.local_addr().unwrap())
        );
        assert!(require_isolated(&[closed]).await.is_ok());
        assert_eq!(
            require_isolated(&[]).await.unwrap_err().cause,
            AbstainCause::NotIsolated
        );
    }
}
