//! Blobs on the relay's disk: each is fetched by one of those who ask for it, checked, and kept until room is needed
//! for others; the one that was not asked for the longest goes first.
//!
//! Files are named by digest and appear whole. An evicted file that is being read stays readable until it is closed.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::SystemTime,
};

use tokio::fs::File;
use tradewind_gateway_api::wire::{blob_name, parse_blob_name};
use tradewind_result::ContentDigest;

use crate::metrics::CacheMetrics;

/// The cache. All changes to what it holds go through its one lock, which is never held over waiting.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    bytes_max: u64,
    held: Mutex<Held>,
    /// One lock for each blob that is being fetched.
    flights: Mutex<HashMap<ContentDigest, Weak<tokio::sync::Mutex<()>>>>,
    metrics: CacheMetrics,
}

#[derive(Debug, Default)]
struct Held {
    blobs: HashMap<ContentDigest, Entry>,
    bytes: u64,
    clock: u64,
    named: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    bytes: u64,
    used: u64,
}

impl Cache {
    /// Takes over what the folder holds from before; what was unfinished is removed.
    pub(super) fn open(folder: &Path, bytes_max: u64, metrics: CacheMetrics) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut found: Vec<(SystemTime, ContentDigest, u64)> = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            match entry.file_name().to_str().and_then(parse_blob_name) {
                Some(digest) if meta.is_file() => found.push((meta.modified()?, digest, meta.len())),
                _ if meta.is_file() => fs::remove_file(entry.path())?,
                _ => {}
            }
        }
        found.sort_unstable_by_key(|(written, _, _)| *written);
        let cache = Self {
            folder: folder.to_owned(),
            bytes_max,
            held: Mutex::default(),
            flights: Mutex::default(),
            metrics,
        };
        for (_, digest, bytes) in found {
            cache.enter(digest, bytes)?;
        }
        Ok(cache)
    }

    fn path(&self, digest: &ContentDigest) -> PathBuf {
        self.folder.join(blob_name(digest))
    }

    /// A name that nothing else uses, for a file on its way into the cache.
    pub(super) fn fresh_path(&self) -> PathBuf {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.named += 1;
        self.folder
            .join(format!("incoming-{}-{}", std::process::id(), held.named))
    }

    /// A blob that is here, and its length.
    pub(super) async fn open_blob(&self, digest: &ContentDigest) -> io::Result<Option<(File, u64)>> {
        let bytes = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.clock += 1;
            let used = held.clock;
            let Some(entry) = held.blobs.get_mut(digest) else {
                return Ok(None);
            };
            entry.used = used;
            entry.bytes
        };
        match File::open(self.path(digest)).await {
            Ok(file) => {
                self.metrics.hits.inc();
                Ok(Some((file, bytes)))
            }
            // Evicted since, or removed by someone else.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget(digest);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The lock of whoever fetches this blob.
    pub(super) fn flight(&self, digest: ContentDigest) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&digest).and_then(Weak::upgrade) {
            return flight;
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::new(tokio::sync::Mutex::new(()));
        flights.insert(digest, Arc::downgrade(&flight));
        flight
    }

    pub(super) fn missed(&self) {
        self.metrics.misses.inc();
    }

    /// Takes a checked file in under its digest. It may be too large to be kept for long, but it is there now.
    pub(super) async fn adopt(&self, file: &Path, digest: ContentDigest, bytes: u64) -> io::Result<()> {
        tokio::fs::rename(file, self.path(&digest)).await?;
        self.enter(digest, bytes)
    }

    fn enter(&self, digest: ContentDigest, bytes: u64) -> io::Result<()> {
        let evicted = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.clock += 1;
            let used = held.clock;
            if let Some(before) = held.blobs.insert(digest, Entry { bytes, used }) {
                held.bytes = held.bytes.saturating_sub(before.bytes);
            }
            held.bytes = held.bytes.saturating_add(bytes);
            held.evict(self.bytes_max, digest)
        };
        for (digest, bytes) in evicted {
            self.metrics.evicted_bytes.inc_by(bytes);
            match fs::remove_file(self.path(&digest)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn forget(&self, digest: &ContentDigest) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = held.blobs.remove(digest) {
            held.bytes = held.bytes.saturating_sub(entry.bytes);
        }
    }
}

impl Held {
    /// Makes room by what was not used the longest, but never by `newest`, which somebody is about to read.
    fn evict(&mut self, bytes_max: u64, newest: ContentDigest) -> Vec<(ContentDigest, u64)> {
        let mut evicted = Vec::new();
        while self.bytes > bytes_max {
            let others = self.blobs.iter().filter(|(digest, _)| **digest != newest);
            let Some(oldest) = others
                .min_by_key(|(_, entry)| entry.used)
                .map(|(digest, _)| *digest)
            else {
                break;
            };
            if let Some(entry) = self.blobs.remove(&oldest) {
                self.bytes = self.bytes.saturating_sub(entry.bytes);
                evicted.push((oldest, entry.bytes));
            }
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    async fn add(cache: &Cache, content: &[u8]) -> ContentDigest {
        let digest = ContentDigest::of(content);
        let file = cache.fresh_path();
        tokio::fs::write(&file, content).await.unwrap();
        cache.adopt(&file, digest, content.len() as u64).await.unwrap();
        digest
    }

    #[tokio::test]
    async fn the_least_recently_used_goes_first_and_a_restart_finds_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = || CacheMetrics::register(&Registry::new()).unwrap();
        let cache = Cache::open(folder.path(), 10, metrics()).unwrap();
        let (a, b) = (add(&cache, b"aaaa").await, add(&cache, b"bbbb").await);
        assert!(cache.open_blob(&a).await.unwrap().is_some());
        let c = add(&cache, b"cccc").await;
        assert!(
            cache.open_blob(&b).await.unwrap().is_none(),
            "b was used the longest ago"
        );
        assert_eq!(cache.metrics.evicted_bytes.get(), 4);
        // Too large for the cache, but there for whoever fetched it.
        let large = add(&cache, b"0123456789abcdef").await;
        assert!(cache.open_blob(&large).await.unwrap().is_some());
        assert!(cache.open_blob(&a).await.unwrap().is_none());
        assert!(cache.open_blob(&c).await.unwrap().is_none());

        fs::write(folder.path().join("incoming-1-1"), "half").unwrap();
        let again = Cache::open(folder.path(), 100, metrics()).unwrap();
        assert!(again.open_blob(&large).await.unwrap().is_some());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
