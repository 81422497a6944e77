//! SIGTERM, in a test binary of its own: a signal reaches the whole process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::{net::SocketAddr, process::Command, time::Duration};

use prometheus::Registry;
use tradewind_daemon::{About, DaemonArgs, Process, args::LogFormat};

#[tokio::test]
async fn sigterm_drains_and_ends_well() {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let args = DaemonArgs {
        log_format: LogFormat::Json,
        log_filter: "info".to_owned(),
        admin_listen: None,
        grace: Duration::from_secs(5),
    };
    let about = About {
        program: "test",
        version: "0",
        admin_listen: loopback,
    };
    let process = Process::start(&args, about, Registry::new()).await.unwrap();
    let (shutdown, readiness) = (process.shutdown(), process.readiness().clone());
    let seen = readiness.clone();
    process.spawn("worker", async move {
        shutdown.cancelled().await;
        assert!(seen.report().draining);
        Ok::<_, std::io::Error>(())
    });
    assert!(readiness.report().ready);
    let own = std::process::id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &own])
            .status()
            .unwrap()
            .success()
    );
    process.run().await.unwrap();
    assert!(!readiness.report().ready);
}
