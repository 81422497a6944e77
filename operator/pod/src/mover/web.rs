//! A file from the web, for a URL that a job's author wrote.
//!
//! Only http and https; only public addresses, or hosts that the installation names; each redirect by the same rules. A
//! name is resolved once, and the connection goes to the very address that was checked. The file counts only by its
//! digest.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Response, StatusCode, Url, header, redirect};
use tokio::io::AsyncWriteExt as _;
use tradewind_gateway_api::client::tls;
use tradewind_gateway_api::mover::MoverCause;
use tradewind_market::egress::is_public;
use tradewind_result::stored::StoredDigest;
use tradewind_result::{ContentDigest, RelativePath};

use super::Failure;
use crate::report::chain;

const REDIRECTS_MAX: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two reads: a server that stalls longer is given up on, however large the file.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// What is wanted of the web.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Where it is.
    pub(super) url: &'a str,
    /// What it is.
    pub(super) digest: ContentDigest,
    /// More bytes than this are not taken.
    pub(super) bytes_max: u64,
    /// Hosts whose addresses need not be public.
    pub(super) hosts: &'a [String],
}

/// Fetches the file into `directory`, named by the last part of the URL's path.
pub(super) async fn fetch(wanted: &Wanted<'_>, directory: &Path) -> Result<(), Failure> {
    let mut url = parse(wanted.url)?;
    let name = url.path().rsplit('/').next().unwrap_or_default();
    let name = RelativePath::try_from(name.to_owned())
        .map_err(|error| Failure::new(MoverCause::ContentRefused, format!("{url}: {}", chain(&error))))?;
    for _ in 0..=REDIRECTS_MAX {
        let response = get(&url, wanted.hosts).await?;
        let status = response.status();
        if status.is_success() {
            return save(wanted, &url, response, &directory.join(name.as_str())).await;
        }
        if !status.is_redirection() {
            let cause = match status {
                StatusCode::NOT_FOUND | StatusCode::GONE => MoverCause::Missing,
                _ => MoverCause::Web,
            };
            return Err(Failure::new(cause, format!("{url} answers {status}")));
        }
        let to = response.headers().get(header::LOCATION);
        let to = to.and_then(|to| url.join(to.to_str().ok()?).ok());
        let to =
            to.ok_or_else(|| Failure::new(MoverCause::Web, format!("{url} leads nowhere ({status})")))?;
        url = parse(to.as_str())?;
    }
    let detail = format!("{} leads on and on: more than {REDIRECTS_MAX} times", wanted.url);
    Err(Failure::new(MoverCause::Web, detail))
}

fn parse(text: &str) -> Result<Url, Failure> {
    let refuse = |why: &str| Failure::new(MoverCause::AddressRefused, format!("{text}: {why}"));
    let url = Url::parse(text).map_err(|error| refuse(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("only http and https are fetched"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("a user name in a URL is refused"));
    }
    Ok(url)
}

/// Asks the URL's host, at an address that was checked.
async fn get(url: &Url, hosts: &[String]) -> Result<Response, Failure> {
    let web =
        |error: &dyn std::error::Error| Failure::new(MoverCause::Web, format!("{url}: {}", chain(error)));
    let (host, addresses) = addresses(url, hosts).await?;
    let roots = tls::config().map_err(|error| Failure::new(MoverCause::Node, chain(&error)))?;
    let client = Client::builder()
        .tls_backend_preconfigured(roots)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .resolve_to_addrs(&host, &addresses)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .user_agent(concat!("tradewind/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| web(&error))?;
    client.get(url.clone()).send().await.map_err(|error| web(&error))
}

/// The host, and those of its addresses that may be reached.
async fn addresses(url: &Url, hosts: &[String]) -> Result<(String, Vec<SocketAddr>), Failure> {
    let refuse = |why: &str| Failure::new(MoverCause::AddressRefused, format!("{url}: {why}"));
    let host = url.host_str().ok_or_else(|| refuse("names no host"))?.to_owned();
    let port = url
        .port_or_known_default()
        .ok_or_else(|| refuse("names no port"))?;
    let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let found: Vec<SocketAddr> = match literal {
        Ok(address) => vec![(address, port).into()],
        Err(_) => tokio::net::lookup_host((host.as_str(), port))
            .await
            .map_err(|error| Failure::new(MoverCause::Web, format!("{host} is not found: {error}")))?
            .collect(),
    };
    let named = is_named(&host, port, hosts);
    let reachable: Vec<SocketAddr> = found
        .into_iter()
        .filter(|address| named || is_public(address.ip()))
        .collect();
    if reachable.is_empty() {
        return Err(refuse("its address is not public"));
    }
    Ok((host, reachable))
}

/// Whether the installation names the host, alone or with this port.
fn is_named(host: &str, port: u16, hosts: &[String]) -> bool {
    let with_port = format!("{host}:{port}");
    hosts
        .iter()
        .any(|named| named.eq_ignore_ascii_case(host) || named.eq_ignore_ascii_case(&with_port))
}

async fn save(wanted: &Wanted<'_>, url: &Url, mut response: Response, file: &Path) -> Result<(), Failure> {
    let node = |error: std::io::Error| Failure::of_node(file, &error);
    let bytes_max = wanted.bytes_max;
    let too_large = || {
        Failure::new(
            MoverCause::TooLarge,
            format!("{url} has more than {bytes_max} bytes"),
        )
    };
    if response.content_length().is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    let mut output = tokio::fs::File::create(file).await.map_err(node)?;
    let (mut digest, mut bytes) = (StoredDigest::new(), 0_u64);
    loop {
        let piece = response.chunk().await;
        let piece =
            piece.map_err(|error| Failure::new(MoverCause::Web, format!("{url}: {}", chain(&error))))?;
        let Some(piece) = piece else { break };
        bytes = bytes.saturating_add(piece.len() as u64);
        if bytes > bytes_max {
            return Err(too_large());
        }
        digest.update(&piece);
        output.write_all(&piece).await.map_err(node)?;
    }
    output.flush().await.map_err(node)?;
    let (found, ..) = digest.finish().ok_or_else(too_large)?;
    if found == wanted.digest {
        Ok(())
    } else {
        let expected = wanted.digest;
        Err(Failure::new(
            MoverCause::OtherContent,
            format!("{url} has the digest {found}, not {expected}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(url: &str, hosts: &[&str], expected: Option<MoverCause>) {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let found = match parse(url) {
            Ok(url) => addresses(&url, &hosts).await.map(drop),
            Err(failure) => Err(failure),
        };
        assert_eq!(found.err().map(|failure| failure.cause), expected, "{url}");
    }

    #[tokio::test]
    async fn only_public_addresses_and_named_hosts_are_asked() {
        let refused = Some(MoverCause::AddressRefused);
        check("http://1.1.1.1/x", &[], None).await;
        check("https://[2606:4700::1111]/x", &[], None).await;
        check("http://127.0.0.1/x", &[], refused).await;
        check("http://localhost/x", &[], refused).await;
        check("http://[::1]:8080/x", &[], refused).await;
        check("http://[::ffff:169.254.169.254]/latest", &[], refused).await;
        // Other ways to write 127.0.0.1.
        check("http://2130706433/x", &[], refused).await;
        check("http://0x7f.1/x", &[], refused).await;
        check("http://10.1.2.3:8080/x", &["10.1.2.3"], None).await;
        check("http://10.1.2.3:8080/x", &["10.1.2.3:8080"], None).await;
        check("http://10.1.2.3:9090/x", &["10.1.2.3:8080"], refused).await;
        check("ftp://1.1.1.1/x", &[], refused).await;
        check("http://user@1.1.1.1/x", &[], refused).await;
        check("file:///etc/passwd", &[], refused).await;
    }
}
