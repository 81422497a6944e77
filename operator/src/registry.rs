//! Image references: which bytes a name stands for, on the platform that jobs run on, and how they start.
//!
//! Owns the small part of the OCI distribution API that this needs, anonymous pulls only. What a registry says
//! is believed only where its digest says so. It never downloads layers.

use std::{fmt, str::FromStr, time::Duration};

use futures::StreamExt;
use reqwest::{Response, StatusCode, header};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::http::HttpClient;

/// Manifests and image configurations are a few KiB; this is what container runtimes accept as well.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";
const DEFAULT_REGISTRY: &str = "registry-1.docker.io";

/// An image by name, tag and digest, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<ImageDigest>,
    /// Registry and repository as written, for the pinned form.
    written: String,
}

/// A SHA-256 digest, as container registries write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageDigest(String);

/// What an image reference stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResolvedImage {
    /// `repository@sha256:…` of the manifest for linux/amd64.
    pub(crate) pinned: String,
    /// What the image starts where the job gives no command.
    pub(crate) entrypoint: Vec<String>,
    /// Arguments where the job gives none.
    pub(crate) cmd: Vec<String>,
    /// Environment variables that the image sets, `NAME=value`.
    pub(crate) env: Vec<String>,
    /// Working directory, if the image names one.
    pub(crate) working_dir: Option<String>,
    /// The user that the image names, as it names it.
    pub(crate) user: String,
}

/// Why an image cannot be used, or could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// The reference cannot be read.
    #[error("{reference:?} is not an image reference: {why}")]
    Reference {
        /// As given.
        reference: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The registry could not be spoken to.
    #[error("the registry {registry} could not be reached")]
    Unreachable {
        /// Its host.
        registry: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The registry does not have the image.
    #[error("the registry {registry} has no {what}")]
    Missing {
        /// Its host.
        registry: String,
        /// What was asked for.
        what: String,
    },
    /// The registry does not let us pull without an account.
    #[error("the registry {registry} does not let {what} be pulled anonymously")]
    Forbidden {
        /// Its host.
        registry: String,
        /// What was asked for.
        what: String,
    },
    /// The registry answered with another status.
    #[error("the registry {registry} answered {status}")]
    Status {
        /// Its host.
        registry: String,
        /// The HTTP status.
        status: StatusCode,
    },
    /// The answer is not what it must be.
    #[error("the registry {registry} answered with something that is not {expected}")]
    Malformed {
        /// Its host.
        registry: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// The bytes do not have the digest that names them.
    #[error("the registry {registry} answered with other bytes than {digest}")]
    DigestMismatch {
        /// Its host.
        registry: String,
        /// The digest asked for.
        digest: String,
    },
    /// There is no manifest for the platform.
    #[error("the image has no variant for linux/amd64")]
    Platform,
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegistryDisposition {
    /// Asking again later can help.
    Retry,
    /// Only another image or reference helps; a missing image may still be pushed, so it is asked for again.
    Unsuitable,
}

impl RegistryError {
    /// What to do about it.
    pub(crate) fn disposition(&self) -> RegistryDisposition {
        match self {
            Self::Unreachable { .. }
            | Self::Missing { .. }
            | Self::Forbidden { .. }
            | Self::Status { .. }
            | Self::Malformed { .. }
            | Self::DigestMismatch { .. } => RegistryDisposition::Retry,
            Self::Reference { .. } | Self::Platform => RegistryDisposition::Unsuitable,
        }
    }
}

/// Asks registries. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Registries {
    http: HttpClient,
    plain_http: Vec<String>,
}

impl Registries {
    /// `plain_http` lists hosts, as `host:port`, that are spoken to without TLS.
    pub(crate) fn new(http: HttpClient, plain_http: Vec<String>) -> Self {
        Self { http, plain_http }
    }

    /// Finds out what the reference stands for on linux/amd64.
    pub(crate) async fn resolve(&self, reference: &ImageReference) -> Result<ResolvedImage, RegistryError> {
        let session = Session {
            registries: self,
            reference,
            token: None,
        };
        session.resolve().await
    }
}

/// One resolution: remembers the token that the registry asked us to fetch.
struct Session<'a> {
    registries: &'a Registries,
    reference: &'a ImageReference,
    token: Option<String>,
}

impl Session<'_> {
    async fn resolve(mut self) -> Result<ResolvedImage, RegistryError> {
        let registry = self.reference.registry.clone();
        let malformed = |expected| RegistryError::Malformed {
            registry: registry.clone(),
            expected,
        };
        let asked = match (&self.reference.digest, &self.reference.tag) {
            (Some(digest), _) => digest.0.clone(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        };
        let mut bytes = self.document("manifests", &asked).await?;
        if let Some(digest) = &self.reference.digest {
            self.verify(&bytes, digest)?;
        }
        let mut digest = ImageDigest::of(&bytes);
        let mut manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|_| malformed("an image manifest or index"))?;
        if let Some(variants) = manifest.manifests {
            digest = choose_variant(variants).ok_or(RegistryError::Platform)?;
            bytes = self.document("manifests", &digest.0).await?;
            self.verify(&bytes, &digest)?;
            manifest = serde_json::from_slice(&bytes).map_err(|_| malformed("an image manifest"))?;
        }
        let config = manifest
            .config
            .ok_or_else(|| malformed("an image manifest"))?
            .digest;
        let config: ImageDigest = config.parse().map_err(|_| malformed("an image manifest"))?;
        let bytes = self.document("blobs", &config.0).await?;
        self.verify(&bytes, &config)?;
        let config: ImageConfig =
            serde_json::from_slice(&bytes).map_err(|_| malformed("an image configuration"))?;
        if (config.os.as_str(), config.architecture.as_str()) != ("linux", "amd64") {
            return Err(RegistryError::Platform);
        }
        let RunConfig {
            entrypoint,
            cmd,
            env,
            working_dir,
            user,
        } = config.config.unwrap_or_default();
        Ok(ResolvedImage {
            pinned: format!("{}@{}", self.reference.written, digest.0),
            entrypoint: entrypoint.unwrap_or_default(),
            cmd: cmd.unwrap_or_default(),
            env: env.unwrap_or_default(),
            working_dir: working_dir.filter(|dir| !dir.is_empty()),
            user: user.unwrap_or_default(),
        })
    }

    fn verify(&self, bytes: &[u8], digest: &ImageDigest) -> Result<(), RegistryError> {
        if ImageDigest::of(bytes) == *digest {
            return Ok(());
        }
        Err(RegistryError::DigestMismatch {
            registry: self.reference.registry.clone(),
            digest: digest.0.clone(),
        })
    }

    async fn document(&mut self, kind: &str, name: &str) -> Result<Vec<u8>, RegistryError> {
        let ImageReference {
            registry, repository, ..
        } = self.reference;
        let scheme = if self.registries.plain_http.contains(registry) {
            "http"
        } else {
            "https"
        };
        let url = format!("{scheme}://{registry}/v2/{repository}/{kind}/{name}");
        let what = format!("{repository} {name}");
        let mut response = self.get(&url).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.token.is_none() {
            let challenge = response
                .headers()
                .get(header::WWW_AUTHENTICATE)
                .and_then(|value| value.to_str().ok());
            let Some(challenge) = challenge.and_then(Challenge::read) else {
                return Err(RegistryError::Forbidden {
                    registry: registry.clone(),
                    what,
                });
            };
            self.token = Some(self.fetch_token(&challenge).await?);
            response = self.get(&url).await?;
        }
        match response.status() {
            StatusCode::OK => self.body(response).await,
            StatusCode::NOT_FOUND => Err(RegistryError::Missing {
                registry: registry.clone(),
                what,
            }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(RegistryError::Forbidden {
                registry: registry.clone(),
                what,
            }),
            status => Err(RegistryError::Status {
                registry: registry.clone(),
                status,
            }),
        }
    }

    async fn get(&self, url: &str) -> Result<Response, RegistryError> {
        let mut request = self
            .registries
            .http
            .get(url)
            .header(header::ACCEPT, ACCEPT)
            .timeout(REQUEST_TIMEOUT);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request.send().await.map_err(|source| self.unreachable(source))
    }

    async fn fetch_token(&self, challenge: &Challenge) -> Result<String, RegistryError> {
        let query: Vec<(&str, &str)> = [("service", &challenge.service), ("scope", &challenge.scope)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
            .collect();
        let malformed = || RegistryError::Malformed {
            registry: self.reference.registry.clone(),
            expected: "a token",
        };
        let mut url = reqwest::Url::parse(&challenge.realm).map_err(|_| malformed())?;
        url.query_pairs_mut().extend_pairs(query);
        let response = self.get(url.as_str()).await?;
        if response.status() != StatusCode::OK {
            return Err(RegistryError::Forbidden {
                registry: self.reference.registry.clone(),
                what: self.reference.repository.clone(),
            });
        }
        let token: Token = serde_json::from_slice(&self.body(response).await?).map_err(|_| malformed())?;
        token.token.or(token.access_token).ok_or_else(malformed)
    }

    async fn body(&self, response: Response) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.map_err(|source| self.unreachable(source))?);
            if bytes.len() > DOCUMENT_BYTES_MAX {
                return Err(RegistryError::Malformed {
                    registry: self.reference.registry.clone(),
                    expected: "a document of at most 4 MiB",
                });
            }
        }
        Ok(bytes)
    }

    fn unreachable(&self, source: reqwest::Error) -> RegistryError {
        RegistryError::Unreachable {
            registry: self.reference.registry.clone(),
            source: source.without_url(),
        }
    }
}

#[derive(Deserialize)]
struct Manifest {
    manifests: Option<Vec<Variant>>,
    config: Option<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
}

#[derive(Deserialize)]
struct Variant {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

#[derive(Deserialize)]
struct ImageConfig {
    os: String,
    architecture: String,
    config: Option<RunConfig>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RunConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// Where a registry says that tokens are to be had: `Bearer realm="…",service="…",scope="…"`.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    realm: String,
    service: Option<String>,
    scope: Option<String>,
}

impl Challenge {
    fn read(text: &str) -> Option<Self> {
        let parameters = text
            .strip_prefix("Bearer ")
            .or_else(|| text.strip_prefix("bearer "))?;
        let value = |name: &str| {
            let (_, rest) = parameters.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        Some(Self {
            realm: value("realm")?,
            service: value("service"),
            scope: value("scope"),
        })
    }
}

fn choose_variant(variants: Vec<Variant>) -> Option<ImageDigest> {
    variants
        .into_iter()
        .find(|variant| {
            variant
                .platform
                .as_ref()
                .is_some_and(|platform| platform.os == "linux" && platform.architecture == "amd64")
        })
        .and_then(|variant| variant.digest.parse().ok())
}

impl ImageDigest {
    fn of(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex::encode(Sha256::digest(bytes))))
    }
}

impl FromStr for ImageDigest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text
            .strip_prefix("sha256:")
            .ok_or("only sha256 digests are supported")?;
        let well_formed =
            digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err("a sha256 digest has 64 lower-case hex digits")
        }
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ImageReference {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let refuse = |why| RegistryError::Reference {
            reference: text.to_owned(),
            why,
        };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse().map_err(refuse)?)),
            None => (text, None),
        };
        // A colon after the last slash starts a tag; before it, a port.
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (name, None),
        };
        if name.is_empty() || tag.as_deref() == Some("") {
            return Err(refuse("a name, and a tag after a colon, must not be empty"));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path.to_owned()),
            Some(_) => (DEFAULT_REGISTRY, name.to_owned()),
            None => (DEFAULT_REGISTRY, format!("library/{name}")),
        };
        let registry = if registry == "docker.io" {
            DEFAULT_REGISTRY
        } else {
            registry
        };
        let well_formed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
        if repository.is_empty() || !repository.chars().all(well_formed) || repository.contains("..") {
            return Err(refuse(
                "a repository is lower-case letters, digits, dots, dashes and slashes",
            ));
        }
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
            written: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    #[test]
    fn a_reference_is_taken_apart_as_container_runtimes_do() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let check = |text: &str, registry: &str, repository: &str, tag: Option<&str>, pinned: bool| {
            let found: ImageReference = text.parse().unwrap();
            let parts = (
                found.registry.as_str(),
                found.repository.as_str(),
                found.tag.as_deref(),
            );
            assert_eq!(parts, (registry, repository, tag), "{text}");
            assert_eq!(found.digest.is_some(), pinned, "{text}");
        };
        check(
            "10.88.0.1:5000/povray:lab",
            "10.88.0.1:5000",
            "povray",
            Some("lab"),
            false,
        );
        check("localhost/a/b", "localhost", "a/b", None, false);
        check(&format!("r.example/a/b@{digest}"), "r.example", "a/b", None, true);
        check(
            &format!("r.example/a:1@{digest}"),
            "r.example",
            "a",
            Some("1"),
            true,
        );
        check("busybox", DEFAULT_REGISTRY, "library/busybox", None, false);
        check(
            "docker.io/team/app:2",
            DEFAULT_REGISTRY,
            "team/app",
            Some("2"),
            false,
        );
        for bad in [
            "",
            ":1",
            "a:",
            "r.example/",
            "r.example/A",
            "r.example/a/../b",
            "a@sha256:12",
            "a@md5:00",
        ] {
            let refused = bad.parse::<ImageReference>().unwrap_err();
            assert_eq!(refused.disposition(), RegistryDisposition::Unsuitable, "{bad}");
        }
    }

    #[test]
    fn a_challenge_says_where_tokens_are() {
        let text =
            r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull""#;
        let challenge = Challenge::read(text).unwrap();
        assert_eq!(challenge.realm, "https://auth.example/token");
        assert_eq!(challenge.scope.as_deref(), Some("repository:a/b:pull"));
        assert_eq!(Challenge::read("Basic realm=\"x\""), None);
    }

    /// A registry of fixed documents by path; whatever is not there is answered with 404.
    async fn registry(documents: Vec<(String, Vec<u8>)>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 8192];
                let length = stream.read(&mut request).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                let path = text.split_whitespace().nth(1).unwrap_or_default().to_owned();
                let found = documents.iter().find(|(name, _)| *name == path);
                let (status, body) =
                    found.map_or(("404 Not Found", &[][..]), |(_, body)| ("200 OK", &body[..]));
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                drop(stream.write_all(&[head.as_bytes(), body].concat()).await);
            }
        });
        address
    }

    async fn resolve(documents: Vec<(String, Vec<u8>)>) -> Result<ResolvedImage, RegistryError> {
        let address = registry(documents).await;
        let registries = Registries::new(crate::http::client().unwrap(), vec![address.clone()]);
        registries
            .resolve(&format!("{address}/povray:1").parse().unwrap())
            .await
    }

    #[tokio::test]
    async fn a_tag_is_pinned_to_the_variant_for_our_platform() {
        let config = serde_json::to_vec(&serde_json::json!({
            "os": "linux", "architecture": "amd64",
            "config": {"Entrypoint": ["render"], "User": "1000"},
        }))
        .unwrap();
        let config_digest = ImageDigest::of(&config);
        let manifest =
            serde_json::to_vec(&serde_json::json!({"config": {"digest": config_digest.0}})).unwrap();
        let digest = ImageDigest::of(&manifest);
        let index = serde_json::to_vec(&serde_json::json!({"manifests": [
            {"digest": ImageDigest::of(b"other").0, "platform": {"os": "linux", "architecture": "arm64"}},
            {"digest": digest.0, "platform": {"os": "linux", "architecture": "amd64"}},
        ]}))
        .unwrap();
        let documents = |manifest: Vec<u8>| {
            vec![
                ("/v2/povray/manifests/1".to_owned(), index.clone()),
                (format!("/v2/povray/manifests/{digest}"), manifest),
                (format!("/v2/povray/blobs/{config_digest}"), config.clone()),
            ]
        };
        let resolved = resolve(documents(manifest.clone())).await.unwrap();
        assert!(
            resolved.pinned.ends_with(&format!("/povray@{digest}")),
            "{}",
            resolved.pinned
        );
        assert_eq!(
            (resolved.entrypoint, resolved.user),
            (vec!["render".to_owned()], "1000".to_owned())
        );

        let forged = resolve(documents([manifest, b" ".to_vec()].concat()))
            .await
            .unwrap_err();
        assert!(matches!(forged, RegistryError::DigestMismatch { .. }), "{forged}");
        let missing = resolve(Vec::new()).await.unwrap_err();
        assert!(matches!(missing, RegistryError::Missing { .. }), "{missing}");
    }
}
