//! The relay as a proxy: a real client, real hosts on loopback.

use axum::{Router, routing::get};
use tempfile::TempDir;
use tradewind_gateway_api::{grant::HostToken, wire::Reason};
use tradewind_market::{JobId, UnixSeconds, egress::Host};

use crate::site::{Account, Site, account, listening, relay};

struct Ground {
    relay: Site,
    provider: Account,
    /// A host of the open internet, as far as this relay is told.
    host: Host,
    _cache: TempDir,
}

async fn ground() -> Ground {
    let cache = tempfile::tempdir().unwrap();
    let provider = account(1);
    let relay = relay(cache.path(), &provider, &["http://127.0.0.1:1".to_owned()]).await;
    let answers = Router::new().route("/data", get(async || "what the host says"));
    let (address, stop) = listening(answers).await;
    std::mem::forget(stop);
    Ground {
        relay,
        provider,
        host: address.to_string().parse().unwrap(),
        _cache: cache,
    }
}

impl Ground {
    async fn token(&self, hosts: &[&Host]) -> HostToken {
        let hosts = hosts.iter().copied().cloned().collect();
        self.provider.host_grant(|grant| grant.hosts = hosts).await
    }

    fn proxy(&self, token: Option<&HostToken>) -> reqwest::Proxy {
        let user = token.map_or(String::new(), |token| format!("grant:{}@", token.to_text()));
        reqwest::Proxy::all(format!("http://{user}{}", self.relay.address)).unwrap()
    }

    /// A plain request through the proxy: what the host says, or why it is refused.
    async fn ask(&self, token: Option<&HostToken>, host: &Host) -> Result<String, Reason> {
        let client = reqwest::Client::builder()
            .proxy(self.proxy(token))
            .build()
            .unwrap();
        let answer = client.get(format!("http://{host}/data")).send().await.unwrap();
        if answer.status().is_success() {
            return Ok(answer.text().await.unwrap());
        }
        let refusal: tradewind_gateway_api::wire::Refusal = answer.json().await.unwrap();
        Err(refusal.reason)
    }

    /// Opens a tunnel by hand: the status line's code, and the stream behind it.
    async fn connect(&self, token: &HostToken, host: &Host) -> (u16, tokio::net::TcpStream) {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(self.relay.address).await.unwrap();
        let basic = STANDARD.encode(format!("grant:{}", token.to_text()));
        let head =
            format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Basic {basic}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        let code = String::from_utf8(answer[9..12].to_vec()).unwrap();
        (code.parse().unwrap(), stream)
    }
}

#[tokio::test]
async fn a_granted_host_is_reached_and_no_other() {
    let ground = ground().await;
    let host = &ground.host;
    let granted = ground.token(&[host]).await;
    assert_eq!(
        ground.ask(Some(&granted), host).await.as_deref(),
        Ok("what the host says")
    );
    let other: Host = "127.0.0.1:9".parse().unwrap();
    assert_eq!(
        ground.ask(Some(&granted), &other).await,
        Err(Reason::HostNotGranted)
    );
    assert_eq!(ground.ask(None, host).await, Err(Reason::GrantMissing));

    let expired = |grant: &mut tradewind_market::document::HostGrant| {
        grant.hosts.push(host.clone());
        grant.expires = UnixSeconds::new(1);
    };
    let expired = ground.provider.host_grant(expired).await;
    assert_eq!(ground.ask(Some(&expired), host).await, Err(Reason::GrantExpired));
    let foreign = account(2)
        .host_grant(|grant| grant.hosts.push(host.clone()))
        .await;
    assert_eq!(ground.ask(Some(&foreign), host).await, Err(Reason::GrantForeign));
    let mut forged = granted.grant().clone();
    forged.hosts.push(other.clone());
    let forged = HostToken::new(forged, granted.signature().clone()).unwrap();
    assert_eq!(
        ground.ask(Some(&forged), &other).await,
        Err(Reason::GrantSignature)
    );
}

#[tokio::test]
async fn no_grant_leads_into_the_cluster() {
    let ground = ground().await;
    for inside in ["10.96.0.1:443", "169.254.169.254:80", "192.168.0.1:10250"] {
        let inside: Host = inside.parse().unwrap();
        let granted = ground.token(&[&inside]).await;
        assert_eq!(
            ground.ask(Some(&granted), &inside).await,
            Err(Reason::HostNotPublic),
            "{inside}"
        );
        assert_eq!(ground.connect(&granted, &inside).await.0, 403, "{inside}");
    }
    let closed: Host = "127.0.0.1:1".parse().unwrap();
    let granted = ground.token(&[&closed]).await;
    assert_eq!(
        ground.ask(Some(&granted), &closed).await,
        Err(Reason::HostUnreachable)
    );
}

#[tokio::test]
async fn tunnels_carry_bytes_and_one_job_has_only_so_many() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let ground = ground().await;
    let host = &ground.host;
    let granted = ground.token(&[host]).await;
    // Two at once for a job, four for all.
    let (code, mut first) = ground.connect(&granted, host).await;
    let (other_code, _second) = ground.connect(&granted, host).await;
    assert_eq!((code, other_code), (200, 200));
    assert_eq!(ground.connect(&granted, host).await.0, 503);
    let another = |grant: &mut tradewind_market::document::HostGrant| {
        grant.hosts.push(host.clone());
        grant.job_id = JobId::from_bytes([9; 32]);
    };
    let another = ground.provider.host_grant(another).await;
    assert_eq!(ground.connect(&another, host).await.0, 200);

    let request = format!("GET /data HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    first.write_all(request.as_bytes()).await.unwrap();
    let mut said = String::new();
    first.read_to_string(&mut said).await.unwrap();
    assert!(said.ends_with("what the host says"), "{said}");
    drop(first);
    crate::site::until("a place becomes free", async || {
        ground.connect(&granted, host).await.0 == 200
    })
    .await;
}
