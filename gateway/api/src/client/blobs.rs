//! Blobs: sent and fetched in streams, resumed where they broke off, and hashed on arrival.

use std::{
    io::SeekFrom,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use reqwest::{Body, Method, RequestBuilder, StatusCode, Url, header as http_header};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt},
};
use tokio_util::io::ReaderStream;
use tradewind_market::UnixSeconds;
use tradewind_result::ContentDigest;

use super::{
    ClientError, GatewayClient, Spread, Written,
    error::{self, read_bounded},
};
use crate::{
    grant::GrantToken,
    wire::{BlobStat, Reason, UploadState, header, path},
};

/// Bytes read from a file at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// From this size on a gateway is asked before a blob is sent: it may have it, or refuse it.
const ASK_FIRST_BYTES: u64 = 1 << 20;

/// A blob to store.
#[derive(Clone, Debug)]
pub struct Upload<'a> {
    /// In whose name.
    pub grant: &'a GrantToken,
    /// Until when it is to be kept; nothing for the gateway's default.
    pub retain_until: Option<UnixSeconds>,
    /// To which gateways.
    pub spread: Spread,
}

/// A blob to fetch.
#[derive(Clone, Copy, Debug)]
pub struct Download {
    /// Which.
    pub digest: ContentDigest,
    /// More bytes than this are not taken.
    pub bytes_max: u64,
}

#[derive(Clone, Debug)]
enum Source {
    Memory(Bytes),
    File(PathBuf),
}

#[derive(Clone, Copy, Debug)]
struct Whole {
    digest: ContentDigest,
    bytes: u64,
}

impl GatewayClient {
    /// Stores bytes that are in memory.
    pub async fn put_bytes(
        &self,
        content: Bytes,
        upload: &Upload<'_>,
    ) -> Result<Written<BlobStat>, ClientError> {
        let whole = Whole {
            digest: ContentDigest::of(&content),
            bytes: content.len() as u64,
        };
        self.put(whole, Source::Memory(content), upload).await
    }

    /// Stores a file, which must not change meanwhile.
    pub async fn put_file(&self, file: &Path, upload: &Upload<'_>) -> Result<Written<BlobStat>, ClientError> {
        let (digest, bytes) = hash_file(file).await?;
        self.put(Whole { digest, bytes }, Source::File(file.to_owned()), upload)
            .await
    }

    async fn put(
        &self,
        whole: Whole,
        source: Source,
        upload: &Upload<'_>,
    ) -> Result<Written<BlobStat>, ClientError> {
        // Of a small blob it is asked only once something went wrong: the first try costs one request.
        let resuming = std::sync::atomic::AtomicBool::new(whole.bytes >= ASK_FIRST_BYTES);
        let resuming = &resuming;
        self.to_gateways(upload.spread, |gateway| {
            let source = source.clone();
            async move {
                let resume = resuming.swap(true, std::sync::atomic::Ordering::Relaxed);
                self.put_once(&gateway, whole, source, upload, resume).await
            }
        })
        .await
    }

    async fn put_once(
        &self,
        gateway: &Url,
        whole: Whole,
        source: Source,
        upload: &Upload<'_>,
        resume: bool,
    ) -> Result<BlobStat, ClientError> {
        let mut offset = if resume {
            self.upload_state(gateway, whole.digest, upload.grant)
                .await?
                .offset
        } else {
            0
        };
        // Another writer of the same blob may move the offset once under our feet; more often is an error.
        for _ in 0..2 {
            match self
                .put_from(gateway, whole, &source, upload, offset.min(whole.bytes))
                .await
            {
                Err(ClientError::Refused { refusal, .. })
                    if refusal.reason == Reason::OffsetMismatch
                        && refusal.offset.is_some_and(|at| at != offset) =>
                {
                    offset = refusal.offset.unwrap_or_default();
                }
                other => return other,
            }
        }
        self.put_from(gateway, whole, &source, upload, offset.min(whole.bytes))
            .await
    }

    async fn put_from(
        &self,
        gateway: &Url,
        whole: Whole,
        source: &Source,
        upload: &Upload<'_>,
        offset: u64,
    ) -> Result<BlobStat, ClientError> {
        let mut request = self
            .request(gateway, Method::PUT, &path::blob(&whole.digest))?
            .bearer_auth(upload.grant.to_text())
            .header(header::UPLOAD_OFFSET, offset)
            .header(header::UPLOAD_LENGTH, whole.bytes)
            .header(http_header::CONTENT_LENGTH, whole.bytes - offset)
            .header(http_header::CONTENT_TYPE, "application/octet-stream");
        if let Some(until) = upload.retain_until {
            request = request.header(header::RETAIN_UNTIL, until.get());
        }
        self.call(gateway, request.body(source.body(offset).await?), None)
            .await
    }

    async fn upload_state(
        &self,
        gateway: &Url,
        digest: ContentDigest,
        grant: &GrantToken,
    ) -> Result<UploadState, ClientError> {
        let request = self
            .request(gateway, Method::GET, &path::upload(&digest))?
            .bearer_auth(grant.to_text());
        self.call(gateway, request, Some(self.call_timeout)).await
    }

    /// Whether any gateway has a blob, and how long it is.
    pub async fn stat(&self, digest: ContentDigest) -> Result<Option<BlobStat>, ClientError> {
        let found = self
            .ask_any(|gateway| async move {
                let request = self
                    .request(&gateway, Method::HEAD, &path::blob(&digest))?
                    .timeout(self.call_timeout);
                let response = self.send(&gateway, request).await?;
                let length = response.headers().get(http_header::CONTENT_LENGTH);
                let bytes = length
                    .and_then(|value| value.to_str().ok())
                    .and_then(|text| text.parse().ok());
                let status = response.status().as_u16();
                let reason = "a blob without a length".to_owned();
                bytes
                    .map(|bytes| BlobStat { digest, bytes })
                    .ok_or(ClientError::Answer {
                        gateway: gateway.to_string(),
                        status,
                        reason,
                    })
            })
            .await;
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.fault() == error::Fault::Absent => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fetches a small blob into memory, from whichever gateway has it.
    pub async fn get_bytes(&self, download: Download) -> Result<Bytes, ClientError> {
        let Download { digest, bytes_max } = download;
        self.ask_any(|gateway| async move {
            let request = self.request(&gateway, Method::GET, &path::blob(&digest))?;
            let response = self.send(&gateway, request).await?;
            let body = read_bounded(&gateway, response, bytes_max).await?;
            let found = ContentDigest::of(&body);
            if found != digest {
                return Err(ClientError::OtherBytes {
                    gateway: gateway.to_string(),
                    expected: digest,
                    found,
                });
            }
            Ok(Bytes::from(body))
        })
        .await
    }

    /// Fetches a blob into a new file, resuming where a connection broke, and returns its length. The file appears
    /// whole and checked, or not at all; meanwhile a file beside it, named with `.part` at the end, is used.
    pub async fn get_to_file(&self, download: Download, target: &Path) -> Result<u64, ClientError> {
        let mut name = target.as_os_str().to_owned();
        name.push(".part");
        let part = PathBuf::from(name);
        let (part, result) = (&part, &Fetched::begin(&part).await?);
        let fetched = self
            .ask_any(|gateway| async move { result.fetch(self, &gateway, download).await })
            .await;
        let finished = match fetched {
            Ok(bytes) => tokio::fs::rename(part, target)
                .await
                .map(|()| bytes)
                .map_err(|source| ClientError::File {
                    path: target.to_owned(),
                    source,
                }),
            Err(error) => Err(error),
        };
        if finished.is_err() {
            // The first error is the one to tell; what stays behind is overwritten by the next try.
            drop(tokio::fs::remove_file(part).await);
        }
        finished
    }

    /// One JSON call: sent once, its answer read within `timeout` and [`super::documents::ANSWER_BYTES_MAX`].
    pub(super) async fn call<T: serde::de::DeserializeOwned>(
        &self,
        gateway: &Url,
        request: RequestBuilder,
        timeout: Option<std::time::Duration>,
    ) -> Result<T, ClientError> {
        let request = match timeout {
            Some(timeout) => request.timeout(timeout),
            None => request,
        };
        let response = self.send(gateway, request).await?;
        let status = response.status().as_u16();
        let body = read_bounded(gateway, response, super::documents::ANSWER_BYTES_MAX).await?;
        serde_json::from_slice(&body).map_err(|error| ClientError::Answer {
            gateway: gateway.to_string(),
            status,
            reason: error.to_string(),
        })
    }
}

impl Source {
    async fn body(&self, offset: u64) -> Result<Body, ClientError> {
        match self {
            Self::Memory(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(Body::from(bytes.slice(from..)))
            }
            Self::File(path) => {
                let failed = |source| ClientError::File {
                    path: path.clone(),
                    source,
                };
                let mut file = File::open(path).await.map_err(failed)?;
                file.seek(SeekFrom::Start(offset)).await.map_err(failed)?;
                Ok(Body::wrap_stream(ReaderStream::with_capacity(file, PIECE_BYTES)))
            }
        }
    }
}

/// A download under way: what has come so far, hashed as it came.
struct Fetched<'a> {
    path: &'a Path,
    state: tokio::sync::Mutex<FetchedState>,
}

struct FetchedState {
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<'a> Fetched<'a> {
    async fn begin(path: &'a Path) -> Result<Self, ClientError> {
        let failed = |source| ClientError::File {
            path: path.to_owned(),
            source,
        };
        let file = File::create(path).await.map_err(failed)?;
        let state = FetchedState {
            file,
            hasher: blake3::Hasher::new(),
            bytes: 0,
        };
        Ok(Self {
            path,
            state: tokio::sync::Mutex::new(state),
        })
    }

    /// Fetches what is missing from one gateway and checks the whole.
    async fn fetch(
        &self,
        client: &GatewayClient,
        gateway: &Url,
        download: Download,
    ) -> Result<u64, ClientError> {
        let mut state = self.state.lock().await;
        let mut request = client.request(gateway, Method::GET, &path::blob(&download.digest))?;
        if state.bytes > 0 {
            request = request.header(http_header::RANGE, format!("bytes={}-", state.bytes));
        }
        let mut response = client.send(gateway, request).await?;
        if state.bytes > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            self.restart(&mut state).await?;
        }
        while let Some(piece) = response
            .chunk()
            .await
            .map_err(|source| ClientError::transport(gateway, &source))?
        {
            if state.bytes + piece.len() as u64 > download.bytes_max {
                self.restart(&mut state).await?;
                return Err(ClientError::TooLong {
                    gateway: gateway.to_string(),
                    limit: download.bytes_max,
                });
            }
            state
                .file
                .write_all(&piece)
                .await
                .map_err(|source| self.failed(source))?;
            state.hasher.update(&piece);
            state.bytes += piece.len() as u64;
        }
        let found = ContentDigest::from(state.hasher.finalize());
        if found != download.digest {
            // Nothing of it can be kept: which bytes are wrong is not known.
            self.restart(&mut state).await?;
            return Err(ClientError::OtherBytes {
                gateway: gateway.to_string(),
                expected: download.digest,
                found,
            });
        }
        state
            .file
            .sync_all()
            .await
            .map_err(|source| self.failed(source))?;
        Ok(state.bytes)
    }

    async fn restart(&self, state: &mut FetchedState) -> Result<(), ClientError> {
        state
            .file
            .set_len(0)
            .await
            .map_err(|source| self.failed(source))?;
        state.file.rewind().await.map_err(|source| self.failed(source))?;
        state.hasher.reset();
        state.bytes = 0;
        Ok(())
    }

    fn failed(&self, source: std::io::Error) -> ClientError {
        ClientError::File {
            path: self.path.to_owned(),
            source,
        }
    }
}

async fn hash_file(path: &Path) -> Result<(ContentDigest, u64), ClientError> {
    let failed = |source| ClientError::File {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).await.map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut piece).await.map_err(failed)?;
        if count == 0 {
            return Ok((hasher.finalize().into(), bytes));
        }
        hasher.update(&piece[..count]);
        bytes += count as u64;
    }
}
