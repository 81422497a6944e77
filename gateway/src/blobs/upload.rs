//! Taking a blob in, in one request or several.
//!
//! A small blob is checked in memory and written at once. A large one is stored in segments as it comes, so that it
//! can go on after a broken connection, at any replica; when all are there they are put together, hashed on the way,
//! and the blob appears only if the digest is right.

use futures::StreamExt;
use tradewind_gateway_api::wire::{BlobStat, Reason, blob_name};
use tradewind_market::document::StorageGrant;
use tradewind_result::ContentDigest;

use super::{
    Admitted, Segment, UploadHead, blob_path, digest_mismatch,
    holds::{Claim, grant_name},
    is_whole, truncated,
};
use crate::{
    gateway::{Gateway, Inner},
    http::{Incoming, Refused},
    limits::SEGMENT_BYTES,
    store::{Store, StoreError},
};

/// The segments of one upload that are stored: contiguous from the start, possibly overlapping where two requests met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    prefix: String,
    /// Offset and length, ascending.
    parts: Vec<(u64, u64)>,
}

impl Parts {
    pub(crate) async fn load(
        store: &Store,
        grant: &StorageGrant,
        digest: ContentDigest,
    ) -> Result<Self, StoreError> {
        let prefix = format!(
            "parts/{}/{}/{}",
            grant.signer,
            grant_name(grant),
            blob_name(&digest)
        );
        let listed = store.listed(&prefix).await?;
        let parts = listed.iter().filter_map(|listed| {
            let offset = u64::from_str_radix(&listed.name, 16).ok()?;
            Some((offset, listed.bytes))
        });
        Ok(Self {
            parts: parts.collect(),
            prefix,
        })
    }

    /// Bytes that are there from the start without a gap.
    pub(crate) fn covered(&self) -> u64 {
        self.parts.iter().fold(0, |covered, (offset, bytes)| {
            if *offset <= covered {
                covered.max(offset + bytes)
            } else {
                covered
            }
        })
    }

    fn path(&self, offset: u64) -> String {
        format!("{}/{offset:016x}", self.prefix)
    }

    async fn add(&mut self, store: &Store, offset: u64, segment: &mut Segment) -> Result<u64, StoreError> {
        let bytes = segment.len() as u64;
        store.put(&self.path(offset), segment.empty()).await?;
        self.parts.push((offset, bytes));
        Ok(offset + bytes)
    }

    async fn delete(&self, store: &Store) -> Result<(), StoreError> {
        for (offset, _) in &self.parts {
            store.delete(&self.path(*offset)).await?;
        }
        Ok(())
    }
}

/// Takes an admitted upload's body.
pub(super) async fn receive(
    gateway: Gateway,
    admitted: Admitted,
    body: Incoming,
) -> Result<BlobStat, Refused> {
    let Admitted { head, claim, permit } = admitted;
    let gateway = &*gateway.0;
    let path = blob_path(&head.digest);
    let stat = BlobStat {
        digest: head.digest,
        bytes: head.total,
    };
    if is_here(gateway, &head, &claim, &path).await? {
        body.drain().await;
        return Ok(stat);
    }
    if head.offset == 0 && head.total <= SEGMENT_BYTES as u64 {
        small(gateway, &claim, &path, body).await?;
    } else {
        large(gateway, &head, &claim, &path, body).await?;
    }
    drop(permit);
    Ok(stat)
}

/// Whether the blob is here already and stays: it may not be one that the sweeper is about to take, whose claims were
/// all past before ours.
async fn is_here(gateway: &Inner, head: &UploadHead, claim: &Claim, path: &str) -> Result<bool, Refused> {
    let Some(bytes) = gateway.store.size(path).await? else {
        return Ok(false);
    };
    if bytes != head.total {
        return Err(Refused::malformed(format!(
            "the blob with this digest has {bytes} bytes, not {}",
            head.total
        )));
    }
    let now = gateway.clock.now().get();
    let written = gateway.store.written(path).await?.unwrap_or(0);
    let fresh = written.saturating_add(gateway.limits.sweep_margin.get()) > now;
    Ok(fresh || gateway.is_claimed_by_another(claim, now).await?)
}

async fn small(gateway: &Inner, claim: &Claim, path: &str, body: Incoming) -> Result<(), Refused> {
    let content = body.collect(SEGMENT_BYTES).await?;
    gateway.blob_metrics.received.inc_by(content.len() as u64);
    if content.len() as u64 != claim.bytes {
        return Err(truncated(0));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&content);
    if !is_whole(&hasher, claim.digest) {
        gateway.unclaim(claim).await?;
        return Err(digest_mismatch(&hasher, claim.digest));
    }
    Ok(gateway.store.put(path, content).await?)
}

async fn large(
    gateway: &Inner,
    head: &UploadHead,
    claim: &Claim,
    path: &str,
    body: Incoming,
) -> Result<(), Refused> {
    let mut parts = Parts::load(&gateway.store, &claim.grant, head.digest).await?;
    let covered = parts.covered();
    if head.offset != covered {
        body.drain().await;
        let mut refused = Refused::new(
            Reason::OffsetMismatch,
            format!("the upload has come to {covered} bytes and goes on there"),
            "send the rest from the offset on",
        );
        refused.0.offset = Some(covered);
        return Err(refused);
    }
    let received = store_segments(gateway, &mut parts, head, body).await?;
    if received < head.total {
        return Err(truncated(received));
    }
    compose(gateway, claim, &parts, path).await
}

/// Stores what comes in segments and says how far it has come. What came before an error is stored too.
async fn store_segments(
    gateway: &Inner,
    parts: &mut Parts,
    head: &UploadHead,
    mut body: Incoming,
) -> Result<u64, Refused> {
    let mut offset = head.offset;
    let mut segment = Segment::default();
    let ended = loop {
        match body.next().await {
            Ok(Some(mut piece)) => {
                gateway.blob_metrics.received.inc_by(piece.len() as u64);
                if offset + (segment.len() + piece.len()) as u64 > head.total {
                    break Err(Refused::malformed(
                        "the body goes on behind the blob's stated end",
                    ));
                }
                while !piece.is_empty() {
                    piece = segment.take(piece, SEGMENT_BYTES);
                    if segment.len() == SEGMENT_BYTES {
                        offset = parts.add(&gateway.store, offset, &mut segment).await?;
                    }
                }
            }
            Ok(None) => break Ok(()),
            Err(refused) => break Err(refused),
        }
    };
    if segment.len() > 0 {
        offset = parts.add(&gateway.store, offset, &mut segment).await?;
    }
    ended.map(|()| offset).map_err(|mut refused| {
        refused.0.offset = Some(offset);
        refused
    })
}

/// Makes a blob of its parts, if they are the right ones.
async fn compose(gateway: &Inner, claim: &Claim, parts: &Parts, path: &str) -> Result<(), Refused> {
    let mut writer = gateway.store.writer(path).await?;
    let mut hasher = blake3::Hasher::new();
    let mut done = 0_u64;
    for (offset, bytes) in &parts.parts {
        let end = offset + bytes;
        if end <= done {
            continue;
        }
        let from = done.saturating_sub(*offset);
        let Some(mut pieces) = gateway.store.read(&parts.path(*offset), from..*bytes).await? else {
            // Another request of the same upload was faster and has tidied up.
            writer.abort().await?;
            return finished_by_another(gateway, claim, path).await;
        };
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            hasher.update(&piece);
            writer.write(piece).await?;
        }
        done = end;
    }
    if !is_whole(&hasher, claim.digest) {
        writer.abort().await?;
        parts.delete(&gateway.store).await?;
        gateway.unclaim(claim).await?;
        return Err(digest_mismatch(&hasher, claim.digest));
    }
    writer.finish().await?;
    Ok(parts.delete(&gateway.store).await?)
}

async fn finished_by_another(gateway: &Inner, claim: &Claim, path: &str) -> Result<(), Refused> {
    if gateway.store.size(path).await? == Some(claim.bytes) {
        Ok(())
    } else {
        Err(truncated(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_goes_on_at_its_first_gap() {
        let covered = |parts: &[(u64, u64)]| {
            Parts {
                prefix: String::new(),
                parts: parts.to_vec(),
            }
            .covered()
        };
        assert_eq!(covered(&[]), 0);
        assert_eq!(covered(&[(0, 4), (4, 4)]), 8);
        assert_eq!(covered(&[(0, 4), (5, 4)]), 4);
        assert_eq!(
            covered(&[(0, 8), (4, 2), (6, 4)]),
            10,
            "where two requests overlapped"
        );
        assert_eq!(covered(&[(4, 4)]), 0);
    }
}
