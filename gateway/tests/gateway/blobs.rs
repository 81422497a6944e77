use std::time::Duration;

use tokio::{io::AsyncWriteExt, net::TcpStream};
use tradewind_gateway::limits::Limits;
use tradewind_gateway_api::{
    client::{Download, Spread, Upload},
    grant::GrantToken,
    wire::{Reason, Refusal, UploadState, blob_name, path},
};
use tradewind_market::{JobId, Nonce};
use tradewind_result::ContentDigest;

use crate::site::{
    DOMAIN, Hands, JOB, Script, Site, TOKEN, account, client, content, gateway, gateway_with, http, until,
    upload,
};

const SMALL: usize = 1000;
/// More than two segments, and not a whole number of them.
const LARGE: usize = (9 << 20) + 17;

fn all(digest: ContentDigest) -> Download {
    Download {
        digest,
        bytes_max: 1 << 30,
    }
}

async fn put_raw(site: &Site, digest: &ContentDigest, grant: &GrantToken, body: Vec<u8>) -> (u16, Refusal) {
    let response = http()
        .put(format!("{}{}", site.url(), path::blob(digest)))
        .bearer_auth(grant.to_text())
        .body(body)
        .send()
        .await
        .unwrap();
    (
        response.status().as_u16(),
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap(),
    )
}

#[tokio::test]
async fn what_is_stored_is_what_is_fetched_small_large_and_empty() {
    let (folder, script, provider) = (tempfile::tempdir().unwrap(), Script::default(), account(1));
    script.fund(&provider);
    let site = gateway(folder.path(), &script).await;
    let grant = provider.grant(|_| {}).await;
    for (seed, length) in [(1, 0), (2, SMALL), (3, 4 << 20), (4, LARGE)] {
        let bytes = content(length, seed);
        let digest = ContentDigest::of(&bytes);
        assert_eq!(site.client.stat(digest).await.unwrap(), None);
        let (_, stat) = site
            .client
            .put_bytes(bytes.clone(), &upload(&grant))
            .await
            .unwrap()
            .first()
            .unwrap();
        assert_eq!((stat.digest, stat.bytes), (digest, length as u64));
        assert_eq!(site.client.stat(digest).await.unwrap(), Some(stat));
        assert_eq!(site.client.get_bytes(all(digest)).await.unwrap(), bytes);
        let file = folder.path().join("fetched");
        assert_eq!(
            site.client.get_to_file(all(digest), &file).await.unwrap(),
            length as u64
        );
        assert_eq!(std::fs::read(&file).unwrap(), bytes);
        // Storing it again is fine, from a file too, and costs the grant nothing.
        site.client.put_file(&file, &upload(&grant)).await.unwrap();
    }
    let digest = ContentDigest::of(&content(LARGE, 4));
    let too_long = site
        .client
        .get_bytes(Download {
            digest,
            bytes_max: 100,
        })
        .await
        .unwrap_err();
    assert_eq!(too_long.label(), "TooLong");
    let part = http()
        .get(format!("{}{}", site.url(), path::blob(&digest)))
        .header("range", "bytes=4194300-4194309")
        .send()
        .await
        .unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(
        part.headers()["content-range"],
        format!("bytes 4194300-4194309/{LARGE}")
    );
    assert_eq!(
        part.bytes().await.unwrap(),
        content(LARGE, 4).slice(4_194_300..4_194_310)
    );
}

#[tokio::test]
async fn bytes_that_are_not_what_they_are_named_never_appear() {
    let (folder, script, provider) = (tempfile::tempdir().unwrap(), Script::default(), account(1));
    script.fund(&provider);
    let site = gateway(folder.path(), &script).await;
    for (length, nonce) in [(SMALL, 1), (LARGE, 2)] {
        let bytes = content(length, 9);
        let digest = ContentDigest::of(&bytes);
        let grant = provider.grant(|grant| {
            grant.nonce = Nonce::new(nonce);
            grant.max_bytes = length as u64;
        });
        let grant = grant.await;
        let mut wrong = bytes.to_vec();
        wrong[length / 2] ^= 1;
        let (status, refusal) = put_raw(&site, &digest, &grant, wrong).await;
        assert_eq!(
            (status, refusal.reason),
            (422, Reason::DigestMismatch),
            "{refusal:?}"
        );
        assert_eq!(site.client.stat(digest).await.unwrap(), None);
        // The grant has room for the right bytes still.
        site.client
            .put_bytes(bytes.clone(), &upload(&grant))
            .await
            .unwrap();
        assert_eq!(site.client.get_bytes(all(digest)).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_goes_on_at_another_replica() {
    let (folder, script, provider) = (tempfile::tempdir().unwrap(), Script::default(), account(1));
    script.fund(&provider);
    let one = gateway(folder.path(), &script).await;
    let other = gateway(folder.path(), &script).await;
    let grant = provider.grant(|_| {}).await;
    let bytes = content(LARGE, 5);
    let digest = ContentDigest::of(&bytes);

    let mut stream = TcpStream::connect(one.address).await.unwrap();
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {LARGE}\r\n\r\n",
        path::blob(&digest),
        grant.to_text()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&bytes[..5 << 20]).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);

    // Neither replica shows half a blob, and both know how far it has come.
    let state = || async {
        let request = http().get(format!("{}{}", other.url(), path::upload(&digest)));
        let answer = request.bearer_auth(grant.to_text()).send().await.unwrap();
        serde_json::from_slice::<UploadState>(&answer.bytes().await.unwrap()).unwrap()
    };
    until("the first part", || async { state().await.offset == 5 << 20 }).await;
    assert_eq!(other.client.stat(digest).await.unwrap(), None);

    other
        .client
        .put_bytes(bytes.clone(), &upload(&grant))
        .await
        .unwrap();
    let sent_again = other.metric("tradewind_gateway_blob_received_bytes_total");
    assert!(
        sent_again <= (LARGE - (5 << 20)) as u64,
        "{sent_again} bytes were sent again"
    );
    assert_eq!(
        one.client.get_bytes(all(digest)).await.unwrap(),
        bytes,
        "two replicas are one"
    );
    assert!(state().await.complete);
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_and_a_lying_gateway_is_passed_over() {
    let (folder, script, provider) = (tempfile::tempdir().unwrap(), Script::default(), account(1));
    script.fund(&provider);
    let honest = gateway(folder.path(), &script).await;
    let bytes = content(LARGE, 6);
    let digest = ContentDigest::of(&bytes);
    honest
        .client
        .put_bytes(bytes.clone(), &upload(&provider.grant(|_| {}).await))
        .await
        .unwrap();

    let liar = axum::Router::new().fallback(|| async { "these are not the bytes" });
    let (liar, _stop) = crate::site::listening(liar).await;
    let urls = [format!("http://{liar}"), honest.url()];
    assert_eq!(client(&urls).get_bytes(all(digest)).await.unwrap(), bytes);
    let file = folder.path().join("fetched");
    client(&urls).get_to_file(all(digest), &file).await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), bytes);

    // The first gateway sends half and hangs up; the second is asked for the rest alone.
    let half = bytes.slice(..LARGE / 2);
    let breaking = axum::Router::new().fallback(move || {
        let half = half.clone();
        async move {
            let pieces = [Ok(half), Err(std::io::Error::other("gone"))];
            axum::body::Body::from_stream(futures::stream::iter(pieces))
        }
    });
    let (breaking, _stop) = crate::site::listening(breaking).await;
    let before = honest.metric("tradewind_gateway_blob_sent_bytes_total");
    let urls = [format!("http://{breaking}"), honest.url()];
    client(&urls).get_to_file(all(digest), &file).await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    let sent = honest.metric("tradewind_gateway_blob_sent_bytes_total") - before;
    assert!(sent < LARGE as u64, "{sent} bytes came again");

    let nowhere = client(&[format!("http://{liar}")])
        .get_to_file(all(digest), &file)
        .await
        .unwrap_err();
    assert_eq!(nowhere.label(), "OtherBytes");
    let missing = honest
        .client
        .get_bytes(all(ContentDigest::of(b"never stored")))
        .await
        .unwrap_err();
    assert_eq!(missing.reason(), Some(Reason::NotFound));
}

#[tokio::test]
async fn only_grants_of_those_who_have_a_part_in_the_market_count() {
    let (folder, script) = (tempfile::tempdir().unwrap(), Script::default());
    let (buyer, stranger) = (account(1), account(2));
    script.open(JOB, &buyer);
    let hands = Hands::now();
    let site = gateway_with(folder.path(), &script, &hands, Limits::default()).await;
    let bytes = content(SMALL, 1);
    let refused = async |grant: &GrantToken| {
        site.client
            .put_bytes(bytes.clone(), &upload(grant))
            .await
            .unwrap_err()
            .reason()
            .unwrap()
    };

    let expired = buyer.grant(|grant| grant.expires = hands.time());
    let expired = expired.await;
    hands.advance(1);
    assert_eq!(refused(&expired).await, Reason::GrantExpired);
    let forged = {
        let genuine = stranger.grant(|grant| grant.job_id = JOB).await;
        let mut claims = *genuine.grant();
        claims.signer = buyer.address();
        GrantToken::new(claims, genuine.signature().clone()).unwrap()
    };
    assert_eq!(refused(&forged).await, Reason::GrantSignature);
    assert_eq!(refused(&stranger.grant(|_| {}).await).await, Reason::NoStanding);
    assert_eq!(
        refused(&stranger.grant(|grant| grant.job_id = JOB).await).await,
        Reason::NoStanding
    );
    assert_eq!(
        refused(&buyer.grant(|_| {}).await).await,
        Reason::NoStanding,
        "not without naming the job"
    );
    // Content goes in before its job is opened: what is missing then is money, not the job.
    let unopened = stranger.grant(|grant| grant.job_id = JobId::from_bytes([0xee; 32]));
    let (status, refusal) = put_raw(&site, &ContentDigest::of(&bytes), &unopened.await, bytes.to_vec()).await;
    assert_eq!((status, refusal.reason), (403, Reason::NoStanding));
    let remedy = format!("deposit or bond in market {}", DOMAIN.market);
    assert!(refusal.remedy.starts_with(&remedy), "{}", refusal.remedy);
    assert!(refusal.remedy.contains(&TOKEN.to_string()), "{}", refusal.remedy);
    let none = http().put(format!(
        "{}{}",
        site.url(),
        path::blob(&ContentDigest::of(&bytes))
    ));
    let none: Refusal =
        serde_json::from_slice(&none.body("x").send().await.unwrap().bytes().await.unwrap()).unwrap();
    assert_eq!(none.reason, Reason::GrantMissing);

    let good = buyer.grant(|grant| grant.job_id = JOB).await;
    site.client
        .put_bytes(bytes.clone(), &upload(&good))
        .await
        .unwrap();
    script.break_down();
    let known = buyer.grant(|grant| grant.job_id = JOB).await;
    site.client
        .put_bytes(bytes.clone(), &upload(&known))
        .await
        .unwrap();
    let other = account(3).grant(|_| {}).await;
    assert_eq!(
        refused(&other).await,
        Reason::StandingUnknown,
        "what is unknown is not a no"
    );
}

#[tokio::test]
async fn grants_signers_and_blobs_are_limited() {
    let (folder, script, provider, other) = (
        tempfile::tempdir().unwrap(),
        Script::default(),
        account(1),
        account(2),
    );
    script.fund(&provider);
    script.fund(&other);
    let limits = Limits {
        blob_bytes: 5000,
        signer_bytes: 9000,
        signer_blobs: 4,
        ..Limits::default()
    };
    let site = gateway_with(folder.path(), &script, &Hands::now(), limits).await;
    let put = async |grant: &GrantToken, length, seed| {
        let stored = site.client.put_bytes(content(length, seed), &upload(grant)).await;
        stored.map(drop).map_err(|error| error.reason().unwrap())
    };
    let of = async |nonce, bytes| {
        provider
            .grant(|grant| {
                grant.nonce = Nonce::new(nonce);
                grant.max_bytes = bytes;
            })
            .await
    };
    let grant = of(1, 3000).await;
    assert_eq!(put(&grant, 6000, 1).await, Err(Reason::TooLarge));
    assert_eq!(put(&grant, 3001, 1).await, Err(Reason::GrantSpent));
    assert_eq!(put(&grant, 2000, 1).await, Ok(()));
    assert_eq!(put(&grant, 2000, 1).await, Ok(()), "the same blob counts once");
    assert_eq!(put(&grant, 1001, 2).await, Err(Reason::GrantSpent));
    assert_eq!(put(&grant, 1000, 2).await, Ok(()));
    let larger = of(2, 100_000).await;
    assert_eq!(put(&larger, 4000, 3).await, Ok(()));
    assert_eq!(put(&larger, 2001, 4).await, Err(Reason::QuotaReached));
    assert_eq!(put(&larger, 100, 5).await, Ok(()));
    assert_eq!(
        put(&larger, 100, 6).await,
        Err(Reason::QuotaReached),
        "four blobs are enough"
    );
    assert_eq!(
        put(&other.grant(|_| {}).await, 4000, 7).await,
        Ok(()),
        "others are not touched"
    );
}

#[tokio::test]
async fn what_nobody_keeps_any_more_is_swept_and_nothing_else() {
    let (folder, script, provider, other) = (
        tempfile::tempdir().unwrap(),
        Script::default(),
        account(1),
        account(2),
    );
    script.fund(&provider);
    script.fund(&other);
    let hands = Hands::now();
    let site = gateway_with(folder.path(), &script, &hands, Limits::default()).await;
    let keep = async |who: &crate::site::Account, seed, seconds| {
        let grant = who.grant(|_| {}).await;
        let upload = Upload {
            grant: &grant,
            retain_until: Some(hands.after(seconds)),
            spread: Spread::First,
        };
        let stored = site.client.put_bytes(content(SMALL, seed), &upload).await;
        stored.map(drop).map_err(|error| error.reason().unwrap())
    };
    let here = async |seed| {
        site.client
            .stat(ContentDigest::of(&content(SMALL, seed)))
            .await
            .unwrap()
            .is_some()
    };
    assert_eq!(
        keep(&provider, 1, 365 * 86_400).await,
        Err(Reason::RetentionTooLong)
    );
    keep(&provider, 1, 3600).await.unwrap();
    keep(&provider, 2, 3600).await.unwrap();
    keep(&other, 2, 7200).await.unwrap();
    site.sweep().await;
    assert!(here(1).await && here(2).await);
    hands.advance(3600 + 601);
    site.sweep().await;
    assert!(!here(1).await);
    assert!(here(2).await, "another signer keeps it");
    hands.advance(3600);
    site.sweep().await;
    assert!(!here(2).await);
    let files = std::process::Command::new("find")
        .arg(folder.path())
        .args(["-type", "f"])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&files.stdout),
        "",
        "nothing is left of them"
    );
    // And what was swept can be stored anew.
    keep(&provider, 1, 3600).await.unwrap();
    assert!(here(1).await);
}

#[tokio::test]
async fn an_upload_that_stands_still_is_ended() {
    let (folder, script, provider) = (tempfile::tempdir().unwrap(), Script::default(), account(1));
    script.fund(&provider);
    let limits = Limits {
        body_stall: Duration::from_millis(100),
        uploads: 1,
        ..Limits::default()
    };
    let site = gateway_with(folder.path(), &script, &Hands::now(), limits).await;
    let grant = provider.grant(|_| {}).await;
    let bytes = content(SMALL, 1);
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let head = format!(
        "PUT /v1/blobs/{} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {SMALL}\r\n\r\nslow",
        blob_name(&ContentDigest::of(&bytes)),
        grant.to_text()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer)
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 408");
    // Its place is free again.
    site.client.put_bytes(bytes, &upload(&grant)).await.unwrap();
}
