use tradewind_gateway_api::{
    client::{Download, Fault},
    wire::{OfferFilter, Reason},
};
use tradewind_result::ContentDigest;

use crate::site::{Script, account, content, gateway, http, listening, relay, upload};

const LENGTH: usize = (5 << 20) + 3;

fn all(digest: ContentDigest) -> Download {
    Download {
        digest,
        bytes_max: 1 << 30,
    }
}

#[tokio::test]
async fn many_pods_fetch_a_blob_that_comes_into_the_cluster_once() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (script, provider) = (Script::default(), account(1));
    script.fund(&provider);
    let upstream = gateway(folder.path(), &script).await;
    let bytes = content(LENGTH, 1);
    let digest = ContentDigest::of(&bytes);
    upstream
        .client
        .put_bytes(bytes.clone(), &upload(&provider.grant(|_| {}).await))
        .await
        .unwrap();
    let site = relay(cache.path(), &provider, &[upstream.url()]).await;
    let pods = (0..8).map(|_| site.client.get_bytes(all(digest)));
    for got in futures::future::join_all(pods).await {
        assert_eq!(got.unwrap(), bytes);
    }
    assert_eq!(
        upstream.metric("tradewind_gateway_blob_sent_bytes_total"),
        LENGTH as u64
    );
    assert_eq!(site.metric("tradewind_relay_cache_misses_total"), 1);

    // It outlives its gateway, and a restart of the relay; what was never fetched does not.
    let urls = [upstream.url()];
    drop(upstream);
    let again = relay(cache.path(), &provider, &urls).await;
    assert_eq!(again.client.get_bytes(all(digest)).await.unwrap(), bytes);
    let missing = again
        .client
        .get_bytes(all(ContentDigest::of(b"other")))
        .await
        .unwrap_err();
    assert_eq!(
        (missing.reason(), missing.fault()),
        (Some(Reason::UpstreamFailed), Fault::Passing)
    );
}

#[tokio::test]
async fn what_a_pod_stores_is_at_every_gateway_before_it_is_acknowledged() {
    let (one, other, cache) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let (script, provider) = (Script::default(), account(1));
    script.fund(&provider);
    let (one, other) = (
        gateway(one.path(), &script).await,
        gateway(other.path(), &script).await,
    );
    let site = relay(cache.path(), &provider, &[one.url(), other.url()]).await;
    let bytes = content(LENGTH, 2);
    let digest = ContentDigest::of(&bytes);
    let grant = provider.grant(|grant| grant.max_bytes = LENGTH as u64).await;
    site.client
        .put_bytes(bytes.clone(), &upload(&grant))
        .await
        .unwrap();
    for upstream in [&one, &other] {
        assert_eq!(upstream.client.get_bytes(all(digest)).await.unwrap(), bytes);
    }
    assert_eq!(
        std::fs::read_dir(cache.path()).unwrap().count(),
        1,
        "and nothing is left of the upload"
    );

    let refused = async |bytes, grant| {
        site.client
            .put_bytes(bytes, &upload(grant))
            .await
            .unwrap_err()
            .reason()
            .unwrap()
    };
    let foreign = account(2).grant(|_| {}).await;
    assert_eq!(refused(content(10, 3), &foreign).await, Reason::GrantForeign);
    let wide = provider.grant(|_| {}).await;
    assert_eq!(
        refused(content(10, 3), &grant).await,
        Reason::GrantSpent,
        "the gateway counts"
    );
    drop(other);
    site.client
        .put_bytes(content(10, 4), &upload(&wide))
        .await
        .unwrap();
    drop(one);
    assert_eq!(refused(content(10, 5), &wide).await, Reason::UpstreamFailed);
    assert_eq!(
        site.client
            .stat(ContentDigest::of(&content(10, 4)))
            .await
            .unwrap()
            .unwrap()
            .bytes,
        10
    );
}

#[tokio::test]
async fn nothing_but_blobs_can_be_reached_and_no_lie_gets_through() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (script, provider) = (Script::default(), account(1));
    script.fund(&provider);
    let honest = gateway(folder.path(), &script).await;
    let (liar, _stop) = listening(axum::Router::new().fallback(|| async { "lies" })).await;
    let site = relay(cache.path(), &provider, &[format!("http://{liar}"), honest.url()]).await;
    let bytes = content(100, 1);
    let digest = ContentDigest::of(&bytes);
    let grant = provider.grant(|_| {}).await;
    honest
        .client
        .put_bytes(bytes.clone(), &upload(&grant))
        .await
        .unwrap();
    assert_eq!(site.client.get_bytes(all(digest)).await.unwrap(), bytes);

    let only_liar = relay(
        tempfile::tempdir().unwrap().path(),
        &provider,
        &[format!("http://{liar}")],
    )
    .await;
    assert_eq!(
        only_liar
            .client
            .get_bytes(all(digest))
            .await
            .unwrap_err()
            .reason(),
        Some(Reason::UpstreamFailed)
    );

    let about = site.client.about().await.unwrap_err();
    let offers = site.client.offers(&OfferFilter::default()).await.unwrap_err();
    assert_eq!(
        (about.reason(), offers.reason()),
        (Some(Reason::NotFound), Some(Reason::NotFound))
    );
    let http = http();
    for path in [
        "http://169.254.169.254/latest/meta-data/",
        "/v1/blobs/..%2f..%2fetc%2fpasswd",
        "/metrics",
    ] {
        let url = if path.starts_with("http") {
            site.url()
        } else {
            format!("{}{path}", site.url())
        };
        let answer = http
            .get(url)
            .header("x-forwarded-host", "10.0.0.1")
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_client_error(), "{path}: {}", answer.status());
    }
}
