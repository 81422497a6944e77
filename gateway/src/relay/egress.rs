//! The gate for hosts that a job was granted: an HTTP proxy whose password is the provider's host grant.
//!
//! It takes `CONNECT` (anything, TLS above all) and plain `http://` requests. Names are resolved here, and the
//! connection is made to the very address that was checked, so that a name cannot lead to one place while it is
//! looked at and to another afterwards. What passes through is not looked into.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, uri::Scheme},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit, sync::Semaphore};
use tradewind_gateway_api::{grant::HostToken, wire::Reason};
use tradewind_market::{
    JobId,
    egress::{Host, is_public},
};

use super::{Inner, Relay};
use crate::{authorise::verify_grant, http::Refused};

/// For a name to be resolved, and for each address to answer.
const DIAL_WITHIN: Duration = Duration::from_secs(10);
/// For a host to begin its answer to a plain request.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);
/// Headers that speak of one connection, not of the request (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("proxy-connection"),
];

/// What the owner of the cluster lets out.
#[derive(Clone, Debug)]
pub struct EgressRules {
    /// Networks that may be reached though they are not the open internet's, such as a mirror's.
    pub private: Vec<IpNet>,
    /// Connections at once, of all jobs.
    pub connections: usize,
    /// Connections at once of one job.
    pub connections_per_job: usize,
}

impl Default for EgressRules {
    fn default() -> Self {
        Self {
            private: Vec::new(),
            connections: 256,
            connections_per_job: 64,
        }
    }
}

/// Rules, and the connections under way.
#[derive(Debug)]
pub(super) struct Egress {
    rules: EgressRules,
    places: Arc<Semaphore>,
    jobs: Arc<Mutex<HashMap<JobId, usize>>>,
}

/// A connection's place among those of all jobs and of its own; given back when dropped.
#[derive(Debug)]
struct Place {
    _of_all: OwnedSemaphorePermit,
    job: JobId,
    jobs: Arc<Mutex<HashMap<JobId, usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = jobs.get_mut(&self.job) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                jobs.remove(&self.job);
            }
        }
    }
}

impl Egress {
    pub(super) fn new(rules: EgressRules) -> Self {
        Self {
            places: Arc::new(Semaphore::new(rules.connections)),
            jobs: Arc::default(),
            rules,
        }
    }

    fn enter(&self, job: JobId) -> Result<Place, Refused> {
        let of_all = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Refused::busy("connections to hosts"))?;
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let count = jobs.entry(job).or_default();
        if *count >= self.rules.connections_per_job {
            return Err(Refused::busy("connections to hosts by this job"));
        }
        *count += 1;
        drop(jobs);
        Ok(Place {
            _of_all: of_all,
            job,
            jobs: Arc::clone(&self.jobs),
        })
    }

    fn may_reach(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address)
            || self
                .rules
                .private
                .iter()
                .any(|network| network.contains(&address))
    }

    /// A connection to the first address of the host that answers, of those that may be reached.
    async fn dial(&self, host: &Host) -> Result<TcpStream, Refused> {
        let unreachable = |what: String| {
            Refused::new(
                Reason::HostUnreachable,
                format!("{host} {what}"),
                "try again later, and see that the host exists and answers",
            )
        };
        let resolved = tokio::time::timeout(DIAL_WITHIN, tokio::net::lookup_host((host.name(), host.port())));
        let found: Vec<SocketAddr> = match resolved.await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Err(unreachable(format!("could not be resolved: {error}"))),
            Err(_) => return Err(unreachable("could not be resolved in time".to_owned())),
        };
        let mut allowed = found
            .into_iter()
            .filter(|address| self.may_reach(address.ip()))
            .peekable();
        if allowed.peek().is_none() {
            return Err(Refused::new(
                Reason::HostNotPublic,
                format!("{host} has no address on the open internet"),
                "ask for another host; the cluster's owner can name networks in the relay's --egress-private",
            ));
        }
        let mut last = "did not answer".to_owned();
        for address in allowed {
            match tokio::time::timeout(DIAL_WITHIN, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = format!("could not be connected to: {error}"),
                Err(_) => "did not answer in time".clone_into(&mut last),
            }
        }
        Err(unreachable(last))
    }
}

/// Requests to a proxy are served here, all others go on to the relay's routes.
pub(super) async fn gate(State(relay): State<Relay>, request: Request, next: Next) -> Response {
    let to_proxy = request.method() == Method::CONNECT || request.uri().authority().is_some();
    if !to_proxy {
        return next.run(request).await;
    }
    match proxy(&relay.0, request).await {
        Ok(response) => response,
        Err(refused) if refused.0.reason == Reason::GrantMissing => {
            let mut response = refused.into_response();
            *response.status_mut() = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
            let challenge = HeaderValue::from_static("Basic realm=\"tradewind\"");
            response
                .headers_mut()
                .insert(header::PROXY_AUTHENTICATE, challenge);
            response
        }
        Err(refused) => refused.into_response(),
    }
}

async fn proxy(relay: &Inner, mut request: Request) -> Result<Response, Refused> {
    let host = target(request.method(), request.uri())?;
    let (token, now) = (password(request.headers())?, relay.clock.now());
    let grant = token.grant();
    verify_grant(&token, grant.signer, grant.expires, &relay.domain, now)?;
    if grant.signer != relay.provider {
        return Err(Refused::new(
            Reason::GrantForeign,
            format!(
                "the host grant is {}'s, this relay is {}'s",
                grant.signer, relay.provider
            ),
            "use the proxy that the pod's environment names",
        ));
    }
    if !grant.hosts.contains(&host) {
        return Err(Refused::new(
            Reason::HostNotGranted,
            format!("the job was not granted {host}"),
            "list the host, with its port if it is not 443, in the job's template.egress",
        ));
    }
    let egress = &relay.egress;
    let place = egress.enter(grant.job_id)?;
    let stream = egress.dial(&host).await?;
    if request.method() != Method::CONNECT {
        return forward(request, &host, stream, place).await;
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let lifetime = grant.expires.checked_since(now).unwrap_or_default();
    tokio::spawn(async move {
        // A peer that does not go on after the answer has gone away; so has its place.
        if let Ok(upgraded) = upgrade.await {
            tunnel(
                TokioIo::new(upgraded),
                stream,
                Duration::from_secs(lifetime.get()),
            )
            .await;
        }
        drop(place);
    });
    Ok(StatusCode::OK.into_response())
}

/// Carries bytes both ways until either side ends or the grant does.
async fn tunnel(
    mut pod: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    mut host: TcpStream,
    lifetime: Duration,
) {
    let carried = tokio::io::copy_bidirectional(&mut pod, &mut host);
    match tokio::time::timeout(lifetime, carried).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a tunnel ended early"),
        Err(_) => tracing::debug!("a tunnel outlived its grant"),
    }
}

/// A plain request, as its host would have had it from the pod itself.
async fn forward(
    mut request: Request,
    host: &Host,
    stream: TcpStream,
    place: Place,
) -> Result<Response, Refused> {
    let failed = |error: &dyn std::fmt::Display| {
        Refused::new(
            Reason::HostUnreachable,
            format!("{host} did not answer as HTTP does: {error}"),
            "try again later",
        )
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a forwarded request's connection ended early");
        }
        drop(place);
    });
    let authority = request.uri().authority().map(ToString::to_string);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri = path.parse::<Uri>().map_err(|error| failed(&error))?;
    *request.uri_mut() = uri;
    strip(request.headers_mut());
    if let Some(value) = authority.and_then(|authority| HeaderValue::from_str(&authority).ok()) {
        request.headers_mut().insert(header::HOST, value);
    }
    let mut response = tokio::time::timeout(ANSWER_WITHIN, sender.send_request(request))
        .await
        .map_err(|error| failed(&error))?
        .map_err(|error| failed(&error))?;
    strip(response.headers_mut());
    Ok(response.map(Body::new))
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Which host a request to a proxy is for.
fn target(method: &Method, uri: &Uri) -> Result<Host, Refused> {
    let named = uri.authority().and_then(|authority| {
        let port = match (method, uri.scheme()) {
            (&Method::CONNECT, _) => authority.port_u16()?,
            (_, Some(scheme)) if *scheme == Scheme::HTTP => authority.port_u16().unwrap_or(80),
            _ => return None,
        };
        format!("{}:{port}", authority.host().to_ascii_lowercase())
            .parse()
            .ok()
    });
    named.ok_or_else(|| {
        Refused::new(
            Reason::Malformed,
            "a proxy takes CONNECT host:port, or http://host/…",
            "let the program speak TLS through CONNECT, as proxies are used",
        )
    })
}

/// The grant's token out of `Proxy-Authorization: Basic`, whose user name means nothing.
fn password(headers: &HeaderMap) -> Result<HostToken, Refused> {
    let ask = "use the proxy with the user and password that the pod's environment names";
    let value = headers
        .get(header::PROXY_AUTHORIZATION)
        .ok_or_else(|| Refused::new(Reason::GrantMissing, "a proxied request needs a host grant", ask))?;
    let malformed = |why: String| Refused::new(Reason::GrantMalformed, why, ask);
    let credentials = value
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("Basic "))
        .and_then(|encoded| STANDARD.decode(encoded).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| malformed("the proxy's authorization is not Basic".to_owned()))?;
    let (_, token) = credentials
        .split_once(':')
        .ok_or_else(|| malformed("the proxy's authorization has no password".to_owned()))?;
    HostToken::parse(token).map_err(|error| malformed(error.to_string()))
}
