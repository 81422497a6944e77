//! Removing what is past: blobs that nobody keeps any more, uploads that were given up, offers, documents and messages
//! whose time is over.
//!
//! Every replica sweeps; doing it twice is doing it once. What is not understood is left alone.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    convert::Infallible,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    blobs::holds::Hold,
    gateway::{Gateway, Inner},
    offers::OfferKey,
    store::StoreError,
};

impl Gateway {
    /// Sweeps from time to time until `shutdown`.
    pub async fn sweep_until(self, every: Duration, shutdown: CancellationToken) -> Result<(), Infallible> {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(every) => {}
            }
            let swept = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                swept = self.sweep() => swept,
            };
            match swept {
                Ok(()) => self.0.sweep_metrics.sweeps.inc(),
                Err(error) => {
                    self.0.sweep_metrics.failures.inc();
                    tracing::warn!(error = &error as &dyn std::error::Error, "a sweep was broken off");
                }
            }
        }
    }

    /// Sweeps once.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let now = self.0.clock.now().get();
        self.0.sweep_uploads(now).await?;
        self.0.sweep_blobs(now).await?;
        self.0.sweep_offers(now).await?;
        for (prefix, kind) in [
            ("bundles", "bundle"),
            ("indexes", "index"),
            ("messages", "message"),
        ] {
            self.0.sweep_older(prefix, kind, now).await?;
        }
        Ok(())
    }
}

impl Inner {
    fn is_past(&self, until: u64, now: u64) -> bool {
        until.saturating_add(self.limits.sweep_margin.get()) < now
    }

    async fn remove(&self, path: &str, kind: &'static str) -> Result<(), StoreError> {
        self.store.delete(path).await?;
        self.sweep_metrics.removed.with_label_values(&[kind]).inc();
        Ok(())
    }

    /// Segments of uploads in which nothing has come for long.
    async fn sweep_uploads(&self, now: u64) -> Result<(), StoreError> {
        let listed = self.store.listed("parts").await?;
        let mut latest: BTreeMap<&str, u64> = BTreeMap::new();
        for part in &listed {
            if let Some((upload, _)) = part.name.rsplit_once('/') {
                let written = latest.entry(upload).or_default();
                *written = part.written.max(*written);
            }
        }
        let patience = self.limits.upload_patience.get();
        for part in &listed {
            let given_up = part
                .name
                .rsplit_once('/')
                .and_then(|(upload, _)| latest.get(upload));
            if given_up.is_some_and(|written| written.saturating_add(patience) < now) {
                self.remove(&format!("parts/{}", part.name), "part").await?;
            }
        }
        Ok(())
    }

    /// Claims whose time is over or whose upload never came, and blobs that no claim keeps.
    async fn sweep_blobs(&self, now: u64) -> Result<(), StoreError> {
        let blobs = self.store.listed("blobs").await?;
        let here: HashSet<&str> = blobs
            .iter()
            .filter_map(|blob| blob.name.rsplit('/').next())
            .collect();
        let mut kept: HashMap<String, u64> = HashMap::new();
        for listed in self.store.listed("holds").await? {
            let Some(hold) = Hold::parse(&listed.name) else {
                continue;
            };
            let patience = self.limits.upload_patience.get();
            let never_came =
                !here.contains(hold.blob.as_str()) && listed.written.saturating_add(patience) < now;
            if self.is_past(hold.until, now) || never_came {
                // The one by signer first: should the other stay, the next sweep finds it.
                self.remove(&hold.usage_path, "usage").await?;
                self.remove(&format!("holds/{}", listed.name), "hold").await?;
            } else {
                let until = kept.entry(hold.blob).or_default();
                *until = hold.until.max(*until);
            }
        }
        let margin = self.limits.sweep_margin.get();
        for blob in &blobs {
            let Some(name) = blob.name.rsplit('/').next() else {
                continue;
            };
            if kept.contains_key(name) || blob.written.saturating_add(margin) >= now {
                continue;
            }
            // Somebody may have claimed it, or stored it anew, since the listing.
            let path = format!("blobs/{}", blob.name);
            let claimed = !self.store.listed(&format!("holds/{name}")).await?.is_empty();
            let fresh = self
                .store
                .written(&path)
                .await?
                .is_none_or(|written| written != blob.written);
            if !claimed && !fresh {
                self.remove(&format!("roots/{name}"), "root").await?;
                self.remove(&path, "blob").await?;
            }
        }
        Ok(())
    }

    async fn sweep_offers(&self, now: u64) -> Result<(), StoreError> {
        let listed = self.store.listed("offers").await?;
        let mut newest: HashMap<String, u64> = HashMap::new();
        let keys: Vec<(String, OfferKey)> = listed
            .into_iter()
            .filter_map(|listed| Some((OfferKey::parse(&listed.name)?, listed.name)))
            .map(|(key, name)| (name, key))
            .collect();
        for (_, key) in &keys {
            let nonce = newest.entry(key.series_name()).or_default();
            *nonce = key.nonce.max(*nonce);
        }
        for (name, key) in &keys {
            let superseded = newest
                .get(&key.series_name())
                .is_some_and(|newest| *newest > key.nonce);
            if superseded || self.is_past(key.valid_until, now) {
                self.remove(&format!("offers/{name}"), "offer").await?;
            }
        }
        Ok(())
    }

    /// What is kept for as long as anything is.
    async fn sweep_older(&self, prefix: &str, kind: &'static str, now: u64) -> Result<(), StoreError> {
        for listed in self.store.listed(prefix).await? {
            let until = listed.written.saturating_add(self.limits.retention_max.get());
            if self.is_past(until, now) {
                self.remove(&format!("{prefix}/{}", listed.name), kind).await?;
            }
        }
        Ok(())
    }
}
