//! Image references: which bytes a name stands for, on the platform that jobs run on, and how they start.
//!
//! Owns the small part of the OCI distribution API that this needs, anonymous pulls only. What a registry says
//! is believed only where its digest says so. It never downloads layers.

mod challenge;
mod documents;
mod error;
mod reference;

use std::time::Duration;

use futures::StreamExt;
use reqwest::{Response, StatusCode, header};

use self::{
    challenge::{Challenge, Token},
    documents::{ImageConfig, Manifest, RunConfig, choose_variant},
};
use crate::http::HttpClient;

pub(crate) use self::{
    error::{RegistryDisposition, RegistryError},
    reference::{ImageDigest, ImageReference},
};

/// Manifests and image configurations are a few KiB; this is what container runtimes accept as well.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

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
