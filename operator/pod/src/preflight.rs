//! Tries, from inside a pod that is like a slice's, what a slice's pod must not be able to do. For the data center:
//! a cluster whose network enforces nothing is found out before anything is sold.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpStream;

use crate::fetch::isolation::require_isolated;

/// Where a service account's token would be.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Policies take effect some moments after a pod's start, those that open a way too.
const RELAY_PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(500);

/// What to try.
#[derive(Debug, clap::Args)]
pub(crate) struct Trial {
    /// An address that must not accept a connection; repeat for several.
    #[arg(long = "canary", required = true)]
    canaries: Vec<SocketAddr>,
    /// The relay's address, which must accept one.
    #[arg(long)]
    relay: SocketAddr,
    /// The file whose content the kubelet reports when the container ends.
    #[arg(
        long,
        env = "TRADEWIND_TERMINATION_LOG",
        default_value = "/dev/termination-log"
    )]
    termination_log: PathBuf,
}

/// Succeeds if the pod is shut in; otherwise says in the termination message what it could do.
pub(crate) async fn run(trial: Trial) -> anyhow::Result<()> {
    match find_fault(&trial).await {
        None => Ok(()),
        Some(fault) => {
            std::fs::write(&trial.termination_log, &fault)
                .context("the termination message cannot be written")?;
            anyhow::bail!(fault)
        }
    }
}

async fn find_fault(trial: &Trial) -> Option<String> {
    if Path::new(TOKEN).exists() {
        return Some("holds a service account's token".to_owned());
    }
    if let Err(abstention) = require_isolated(&trial.canaries).await {
        return Some(abstention.detail);
    }
    if !reaches(trial.relay).await {
        return Some(format!("cannot reach the relay at {}", trial.relay));
    }
    None
}

async fn reaches(relay: SocketAddr) -> bool {
    let trying = async {
        while TcpStream::connect(relay).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(RELAY_PATIENCE, trying).await.is_ok()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn check(canary_open: bool, expected: Option<&str>) {
        let (relay, canary) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let trial = Trial {
            canaries: vec![canary.local_addr().unwrap()],
            relay: relay.local_addr().unwrap(),
            termination_log: PathBuf::new(),
        };
        let held = canary_open.then_some(canary);
        let fault = find_fault(&trial).await;
        drop(held);
        assert_eq!(fault.is_some(), expected.is_some(), "{fault:?}");
        assert!(fault.unwrap_or_default().contains(expected.unwrap_or_default()));
    }

    #[tokio::test]
    async fn a_pod_that_reaches_only_the_relay_is_shut_in() {
        check(false, None).await;
    }

    #[tokio::test]
    async fn a_pod_that_reaches_a_canary_is_not() {
        check(true, Some("can reach 127.0.0.1")).await;
    }
}
