//! A process as whoever runs it sees it: its endpoints, its signals, its exit.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::get};
use prometheus::{IntCounter, Registry};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tradewind_daemon::{
    About, CancellationToken, DaemonArgs, Process, ProcessError, ServeLimits, args::LogFormat, serve,
};

fn args(grace: Duration) -> DaemonArgs {
    let admin_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    DaemonArgs {
        log_format: LogFormat::Human,
        log_filter: "info".to_owned(),
        admin_listen,
        grace,
    }
}

const ABOUT: About = About {
    program: "test",
    version: "1.2.3",
    admin_listen: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0),
};

async fn process(grace: Duration) -> Process {
    Process::start(&args(grace), ABOUT, Registry::new())
        .await
        .unwrap()
}

async fn request(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn fetch(address: SocketAddr, path: &str) -> String {
    request(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    )
    .await
}

#[tokio::test]
async fn tells_its_health_readiness_and_metrics() {
    let process = process(Duration::from_secs(5)).await;
    let counter = IntCounter::new("tradewind_things_total", "Things.").unwrap();
    process.registry().register(Box::new(counter.clone())).unwrap();
    counter.inc_by(7);
    let gate = process.readiness().gate("store");
    let address = process.admin_address();

    assert!(fetch(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    let waiting = fetch(address, "/readyz").await;
    assert!(
        waiting.starts_with("HTTP/1.1 503") && waiting.contains(r#""store":"not started""#),
        "{waiting}"
    );
    gate.open();
    assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = fetch(address, "/metrics").await;
    for line in [
        "tradewind_things_total 7",
        r#"tradewind_build_info{program="test",version="1.2.3"} 1"#,
        "process_open_fds",
    ] {
        assert!(metrics.contains(line), "{line} is missing in {metrics}");
    }
    process.shutdown().cancel();
    process.run().await.unwrap();
}

fn defective() -> Result<(), std::io::Error> {
    panic!("a defect")
}

#[tokio::test]
async fn the_end_of_any_task_ends_the_process_with_that_reason() {
    let process_failed = process(Duration::from_secs(5)).await;
    let shutdown = process_failed.shutdown();
    let (drained, was_drained) = oneshot::channel();
    process_failed.spawn("worker", async move {
        shutdown.cancelled().await;
        drained.send(()).unwrap();
        Ok::<_, std::io::Error>(())
    });
    process_failed.spawn("store", async { Err(std::io::Error::other("disk gone")) });
    let error = process_failed.run().await.unwrap_err();
    assert!(
        matches!(&error, ProcessError::TaskFailed { task: "store", source } if source.to_string() == "disk gone"),
        "{error}"
    );
    was_drained.await.unwrap();

    let process_finished = process(Duration::from_secs(5)).await;
    process_finished.spawn("follower", async { Ok::<_, std::io::Error>(()) });
    let error = process_finished.run().await.unwrap_err();
    assert!(
        matches!(error, ProcessError::TaskFinished { task: "follower" }),
        "{error}"
    );

    let process_panicked = process(Duration::from_secs(5)).await;
    process_panicked.spawn("sweeper", async { defective() });
    let error = process_panicked.run().await.unwrap_err();
    assert!(
        matches!(&error, ProcessError::TaskPanicked { task: "sweeper", message } if message == "a defect"),
        "{error}"
    );
}

#[tokio::test]
async fn what_outlives_the_grace_period_is_named() {
    let process = process(Duration::from_millis(50)).await;
    process.spawn("stubborn", std::future::pending::<Result<(), std::io::Error>>());
    process.shutdown().cancel();
    let error = process.run().await.unwrap_err();
    assert!(
        matches!(&error, ProcessError::GraceExceeded { tasks, .. } if tasks.as_slice() == ["stubborn"]),
        "{error}"
    );
}

#[tokio::test]
async fn work_under_way_is_finished_and_nothing_new_is_accepted_after_shutdown() {
    let (started, was_started) = oneshot::channel::<()>();
    let (finish, may_finish) = oneshot::channel::<()>();
    let gates = std::sync::Arc::new(std::sync::Mutex::new(Some((started, may_finish))));
    let router = Router::new().route(
        "/slow",
        get(move || {
            let (started, may_finish) = gates.lock().unwrap().take().unwrap();
            async move {
                started.send(()).unwrap();
                may_finish.await.unwrap();
                "done"
            }
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve(listener, router, ServeLimits::default(), shutdown.clone()));
    let answer = tokio::spawn(async move { fetch(address, "/slow").await });
    was_started.await.unwrap();
    shutdown.cancel();
    finish.send(()).unwrap();
    assert!(answer.await.unwrap().ends_with("done"));
    server.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn slow_and_huge_heads_are_cut_off_and_hold_up_nobody() {
    let limits = ServeLimits {
        connections: 2,
        header_read: Duration::from_millis(100),
        header_bytes: 8192,
        ..ServeLimits::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let router = Router::new().route("/", get(|| async { "here" }));
    let server = tokio::spawn(serve(listener, router, limits, shutdown.clone()));

    // Both places are taken by peers that never finish (one never starts) their head.
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHos").await.unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert!(
        fetch(address, "/").await.ends_with("here"),
        "a third peer is served once they are cut off"
    );
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await.unwrap();
    silent.read_to_end(&mut rest).await.unwrap();

    let huge = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n",
        "a".repeat(64 * 1024)
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may close before it has taken everything; what counts is its answer.
    let sent = stream.write_all(huge.as_bytes()).await;
    let mut answer = vec![0; 64];
    let got = stream.read(&mut answer).await;
    assert!(
        sent.is_err() || got.is_err() || String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 431"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    shutdown.cancel();
    server.await.unwrap().unwrap();
}
