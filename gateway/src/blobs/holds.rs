//! Who keeps which blob until when, and how much that is for each signer and grant.
//!
//! Two small objects for each claim, whose names say everything: one by blob, for the sweeper; one by signer, for the
//! limits. A claim is written before its upload begins, so that of two that together are too much at least one is
//! refused, on whichever replicas they meet.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tradewind_gateway_api::wire::{Reason, blob_name};
use tradewind_market::{Address, UnixSeconds, document::StorageGrant, eip712::StructHash};
use tradewind_result::ContentDigest;

use crate::{
    gateway::Inner,
    http::Refused,
    store::{Listed, StoreError},
};

/// How long a signer's sum is believed before its claims are listed again. What other replicas took meanwhile may
/// exceed the signer's limit by as much as they take in this time.
const TOTAL_FOR: Duration = Duration::from_secs(5);
/// Signers whose sums are remembered.
const SIGNERS_REMEMBERED: usize = 10_000;

/// A wish to keep a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) grant: StorageGrant,
    pub(crate) digest: ContentDigest,
    pub(crate) bytes: u64,
    pub(crate) until: UnixSeconds,
}

/// A grant's short name in paths.
pub(crate) fn grant_name(grant: &StorageGrant) -> String {
    hex::encode(&grant.struct_hash().as_bytes()[..16])
}

impl Claim {
    pub(crate) fn hold_path(&self) -> String {
        let Self {
            grant,
            digest,
            bytes,
            until,
        } = self;
        let (blob, owner, name) = (blob_name(digest), grant.signer, grant_name(grant));
        format!("holds/{blob}/{:016x}-{bytes:016x}-{owner}-{name}", until.get())
    }

    pub(crate) fn usage_path(&self) -> String {
        let Self {
            grant,
            digest,
            bytes,
            until,
        } = self;
        let (blob, owner, name) = (blob_name(digest), grant.signer, grant_name(grant));
        format!("usage/{owner}/{name}/{blob}-{bytes:016x}-{:016x}", until.get())
    }
}

/// One claim by blob, as a path below `holds/` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) blob: String,
    pub(crate) until: u64,
    pub(crate) usage_path: String,
}

impl Hold {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (blob, rest) = name.split_once('/')?;
        let mut parts = rest.split('-');
        let (until, bytes) = (parts.next()?, parts.next()?);
        let (owner, grant) = (parts.next()?, parts.next()?);
        let usage_path = format!("usage/{owner}/{grant}/{blob}-{bytes}-{until}");
        Some(Self {
            blob: blob.to_owned(),
            until: u64::from_str_radix(until, 16).ok()?,
            usage_path,
        })
    }
}

/// One claim by signer, as a path below `usage/SIGNER/` says it.
fn parse_usage(listed: &Listed) -> Option<(&str, &str, u64)> {
    let (grant, rest) = listed.name.split_once('/')?;
    let mut parts = rest.split('-');
    let (blob, bytes) = (parts.next()?, parts.next()?);
    Some((grant, blob, u64::from_str_radix(bytes, 16).ok()?))
}

/// Blobs and bytes; each blob counts once, however often it is claimed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    blobs: u64,
    bytes: u64,
}

fn sum<'a>(claims: impl Iterator<Item = (&'a str, u64)>) -> Sum {
    let distinct: HashMap<&str, u64> = claims.collect();
    let bytes = distinct
        .values()
        .fold(0_u64, |all, bytes| all.saturating_add(*bytes));
    Sum {
        blobs: distinct.len() as u64,
        bytes,
    }
}

/// Signers' sums, kept for a moment.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    kept: Mutex<HashMap<Address, (Sum, Instant)>>,
}

impl Totals {
    /// The sum with one more blob, if it is known and fresh.
    fn add(&self, signer: Address, bytes: u64) -> Option<Sum> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (sum, since) = kept.get_mut(&signer)?;
        if since.elapsed() > TOTAL_FOR {
            return None;
        }
        sum.blobs = sum.blobs.saturating_add(1);
        sum.bytes = sum.bytes.saturating_add(bytes);
        Some(*sum)
    }

    fn set(&self, signer: Address, sum: Sum) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= SIGNERS_REMEMBERED {
            kept.clear();
        }
        kept.insert(signer, (sum, Instant::now()));
    }
}

impl Inner {
    /// Writes a claim, if grant and signer have room for it. The same claim again is fine.
    pub(crate) async fn claim(&self, claim: &Claim) -> Result<(), Refused> {
        let grant = grant_name(&claim.grant);
        let of_grant = format!("usage/{}/{grant}", claim.grant.signer);
        let blob = blob_name(&claim.digest);
        self.store.put(&claim.usage_path(), Bytes::new()).await?;
        self.store.put(&claim.hold_path(), Bytes::new()).await?;

        let listed = self.store.listed(&of_grant).await?;
        let names: Vec<String> = listed
            .iter()
            .map(|listed| format!("{grant}/{}", listed.name))
            .collect();
        let with_grant: Vec<Listed> = listed
            .iter()
            .zip(names)
            .map(|(listed, name)| Listed {
                name,
                ..listed.clone()
            })
            .collect();
        let claims = || {
            with_grant
                .iter()
                .filter_map(parse_usage)
                .map(|(_, blob, bytes)| (blob, bytes))
        };
        let first_of_blob = claims().filter(|(other, _)| *other == blob).count() == 1;
        if sum(claims()).bytes > claim.grant.max_bytes {
            self.unclaim_if(claim, first_of_blob).await?;
            return Err(Refused::new(
                Reason::GrantSpent,
                format!(
                    "the grant is for {} bytes in all, and this would be more",
                    claim.grant.max_bytes
                ),
                "get a grant for more bytes from its signer",
            ));
        }
        let of_signer = self.signer_sum(claim).await?;
        let limits = &self.limits;
        if of_signer.bytes > limits.signer_bytes || of_signer.blobs > limits.signer_blobs {
            self.unclaim_if(claim, first_of_blob).await?;
            return Err(Refused::new(
                Reason::QuotaReached,
                format!(
                    "{} may store {} bytes in {} blobs here, and this would be more",
                    claim.grant.signer, limits.signer_bytes, limits.signer_blobs
                ),
                "wait until what is stored expires, or use another gateway",
            ));
        }
        Ok(())
    }

    /// Takes a claim back.
    pub(crate) async fn unclaim(&self, claim: &Claim) -> Result<(), StoreError> {
        self.store.delete(&claim.hold_path()).await?;
        self.store.delete(&claim.usage_path()).await
    }

    /// Whether another claim keeps the same blob.
    pub(crate) async fn is_claimed_by_another(&self, claim: &Claim, now: u64) -> Result<bool, StoreError> {
        let blob = blob_name(&claim.digest);
        let own = claim.hold_path();
        let listed = self.store.listed(&format!("holds/{blob}")).await?;
        let others = listed
            .iter()
            .map(|listed| format!("{blob}/{}", listed.name))
            .filter(|name| !own.ends_with(name));
        Ok(others
            .filter_map(|name| Hold::parse(&name))
            .any(|hold| hold.until > now))
    }

    /// Takes a refused claim back, unless it only repeats one that was granted before.
    async fn unclaim_if(&self, claim: &Claim, first_of_blob: bool) -> Result<(), StoreError> {
        if first_of_blob {
            self.unclaim(claim).await
        } else {
            Ok(())
        }
    }

    async fn signer_sum(&self, claim: &Claim) -> Result<Sum, StoreError> {
        let signer = claim.grant.signer;
        if let Some(sum) = self.totals.add(signer, claim.bytes) {
            let near = |used: u64, limit: u64| used >= limit - limit / 10;
            if !near(sum.bytes, self.limits.signer_bytes) && !near(sum.blobs, self.limits.signer_blobs) {
                return Ok(sum);
            }
        }
        let listed = self.store.listed(&format!("usage/{signer}")).await?;
        let total = sum(listed
            .iter()
            .filter_map(parse_usage)
            .map(|(_, blob, bytes)| (blob, bytes)));
        self.totals.set(signer, total);
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use tradewind_market::{Hash32, JobId, Nonce};

    use super::*;

    #[test]
    fn names_say_everything_that_the_sweeper_and_the_limits_need() {
        let grant = StorageGrant {
            signer: Address::from_bytes([0xab; 20]),
            job_id: JobId::ZERO,
            holder: Hash32::ZERO,
            max_bytes: 100,
            expires: UnixSeconds::new(5),
            nonce: Nonce::new(1),
        };
        let claim = Claim {
            grant,
            digest: ContentDigest::of(b"x"),
            bytes: 77,
            until: UnixSeconds::new(0x1234),
        };
        let hold = Hold::parse(claim.hold_path().strip_prefix("holds/").unwrap()).unwrap();
        assert_eq!(hold.blob, blob_name(&claim.digest));
        assert_eq!(hold.until, 0x1234);
        assert_eq!(hold.usage_path, claim.usage_path());
        let usage = claim.usage_path();
        let name = usage
            .strip_prefix(&format!("usage/{}/", grant.signer))
            .unwrap()
            .to_owned();
        let listed = Listed {
            name,
            bytes: 0,
            written: 0,
        };
        let blob = blob_name(&claim.digest);
        assert_eq!(
            parse_usage(&listed),
            Some((grant_name(&grant).as_str(), blob.as_str(), 77))
        );
        assert_eq!(Hold::parse("strange"), None);
        assert_eq!(
            sum([("a", 5), ("b", 6), ("a", 5)].into_iter()),
            Sum { blobs: 2, bytes: 11 }
        );
    }
}
