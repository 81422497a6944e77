use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tradewind_gateway::{
    limits::{Limits, Rate},
    openapi,
};
use tradewind_gateway_api::wire::{Reason, Refusal};

use crate::site::{Hands, Script, Site, gateway, gateway_with};

/// Sends raw bytes and returns status and body.
async fn raw(site: &Site, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is the server's right where it did not take all that was sent.
    let ended = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(ended.is_ok() || !answer.is_empty(), "no answer to {request}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

async fn refusal(site: &Site, line: &str, body: &str) -> (u16, Reason) {
    let request = format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (status, answer) = raw(site, &request).await;
    let refusal: Refusal = serde_json::from_str(&answer).unwrap();
    assert!(!refusal.message.is_empty() && !refusal.remedy.is_empty());
    assert_eq!(status, refusal.reason.status());
    (status, refusal.reason)
}

#[tokio::test]
async fn no_path_leads_out_of_the_store() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let site = gateway(folder.path(), &Script::default()).await;
    let secret = outside.path().join("secret").display().to_string();
    let name = "a".repeat(64);
    for path in [
        format!("/v1/blobs/../../../..{secret}"),
        format!("/v1/blobs/%2e%2e%2f%2e%2e{}", secret.replace('/', "%2f")),
        "/v1/blobs/..".to_owned(),
        format!("/v1/blobs/{name}%2f.."),
        format!("/v1/blobs/{}", name.to_uppercase()),
        "/v1/jobs/..%2f..%2fblobs/bundle".to_owned(),
        "/v1/jobs/0x/messages".to_owned(),
        "/v1/rounds/%00/0x00/index".to_owned(),
        format!("//{secret}"),
    ] {
        let (status, reason) = refusal(&site, &format!("GET {path}"), "").await;
        assert!(
            matches!(reason, Reason::Malformed | Reason::NotFound),
            "{path}: {status} {reason:?}"
        );
    }
}

#[tokio::test]
async fn nonsense_is_refused_in_the_one_form() {
    let folder = tempfile::tempdir().unwrap();
    let site = gateway(folder.path(), &Script::default()).await;
    let job = format!("/v1/jobs/0x{}", "0b".repeat(32));
    assert_eq!(refusal(&site, "GET /v2", "").await.1, Reason::NotFound);
    assert_eq!(
        refusal(&site, "DELETE /v1/offers", "").await.1,
        Reason::MethodUnknown
    );
    assert_eq!(refusal(&site, "POST /v1/offers", "{").await.1, Reason::Malformed);
    assert_eq!(
        refusal(&site, "POST /v1/offers", &"[".repeat(60_000)).await.1,
        Reason::Malformed
    );
    assert_eq!(
        refusal(&site, "POST /v1/offers", &" ".repeat(70_000)).await.1,
        Reason::TooLarge
    );
    assert_eq!(
        refusal(&site, "GET /v1/offers?class=cpu", "").await.1,
        Reason::Malformed
    );
    assert_eq!(
        refusal(&site, "GET /v1/offers?colour=red", "").await.1,
        Reason::Malformed
    );
    assert_eq!(
        refusal(&site, &format!("POST {job}/messages"), r#"{"bribe":{}}"#)
            .await
            .1,
        Reason::Malformed
    );
    assert_eq!(
        refusal(&site, &format!("PUT {job}/bundle"), "null").await.1,
        Reason::Malformed
    );
    assert_eq!(
        refusal(&site, "POST /v1/receipts", "{}").await.1,
        Reason::GrantMissing
    );

    let huge = format!(
        "GET /v1/about HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n",
        "a".repeat(100_000)
    );
    assert_eq!(raw(&site, &huge).await.0, 431);
    let many = "X-Many: y\r\n".repeat(500);
    assert_eq!(
        raw(&site, &format!("GET /v1/about HTTP/1.1\r\nHost: x\r\n{many}\r\n"))
            .await
            .0,
        431
    );
}

#[tokio::test]
async fn one_address_cannot_flood() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        rate: Rate {
            per_second: 1,
            burst: 3,
        },
        ..Limits::default()
    };
    let site = gateway_with(folder.path(), &Script::default(), &Hands::now(), limits).await;
    for _ in 0..3 {
        site.client.about().await.unwrap();
    }
    let error = site.client.about().await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::RateLimited));
    assert!(error.passes());
}

/// What clients are told is what was committed.
#[tokio::test]
async fn the_description_is_the_committed_one_and_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let site = gateway(folder.path(), &Script::default()).await;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let mut made = openapi::description().to_pretty_json().unwrap();
    made.push('\n');
    if std::env::var_os("TRADEWIND_WRITE_GOLDEN").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == made,
        "gateway/openapi.json is not what the handlers say: run this test with TRADEWIND_WRITE_GOLDEN=1"
    );
    let (status, served) = raw(
        &site,
        "GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(status, 200);
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(parse(&served), parse(&committed));
    for path in [
        "/v1/blobs/{digest}",
        "/v1/offers",
        "/v1/receipts",
        "/v1/jobs/{job}/messages",
    ] {
        assert!(parse(&served)["paths"][path].is_object(), "{path}");
    }
}
