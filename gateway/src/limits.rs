//! How much of everything: the limits of both roles, and the rate limit that stands before every route.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tradewind_market::Seconds;

/// Bytes that are held in memory for each upload under way. Four MiB, so that 32 uploads take 128.
pub(crate) const SEGMENT_BYTES: usize = 4 << 20;
/// Bytes of a published offer: hashes, and a page of words.
pub(crate) const OFFER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a message: 256 entries of a reveal take about 200,000.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a bundle: 4,096 envelopes of about a thousand characters.
pub(crate) const BUNDLE_BYTES_MAX: usize = 8 << 20;
/// Bytes of a result index or a receipt's request: 100,000 units of about 300 characters.
pub(crate) const INDEX_BYTES_MAX: usize = 32 << 20;
/// Series of one provider that are published at a time.
pub(crate) const SERIES_PER_PROVIDER: usize = 64;
/// Offers that the gateway lists in all; further providers are refused.
pub(crate) const OFFERS_MAX: usize = 20_000;
/// Messages of one provider about one job: three a group for each of 10,000 groups, were each sent alone.
pub(crate) const MESSAGES_PER_PROVIDER: usize = 30_000;
/// Receipts that are worked out at once; each reads at the speed of the disk.
pub(crate) const RECEIPTS_AT_ONCE: usize = 4;
/// Addresses whose rate is remembered. Past this the idle ones are forgotten, which only makes them start anew.
const PEERS_REMEMBERED: usize = 16_384;

/// Limits of a gateway that its owner may set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest blob, in bytes.
    pub blob_bytes: u64,
    /// Bytes that one signer may store.
    pub signer_bytes: u64,
    /// Blobs that one signer may store.
    pub signer_blobs: u64,
    /// Uploads at once.
    pub uploads: usize,
    /// Downloads at once.
    pub downloads: usize,
    /// How long a peer may send nothing in the middle of a body.
    pub body_stall: Duration,
    /// How long a blob is kept where its upload does not say.
    pub retention_default: Seconds,
    /// How long an upload or a receipt may ask for.
    pub retention_max: Seconds,
    /// How far ahead an offer's end may lie.
    pub offer_ahead: Seconds,
    /// How long an unfinished upload is kept after its last byte.
    pub upload_patience: Seconds,
    /// How long what is past is kept still, so that a clock that is slow here or there does no harm.
    pub sweep_margin: Seconds,
    /// Requests a second from one address, and how many at once.
    pub rate: Rate,
}

/// A rate, and how far it may be exceeded for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second.
    pub per_second: u32,
    /// Requests at once.
    pub burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            blob_bytes: 16 << 30,
            signer_bytes: 256 << 30,
            signer_blobs: 200_000,
            uploads: 32,
            downloads: 256,
            body_stall: Duration::from_secs(30),
            retention_default: Seconds::new(7 * 24 * 3600),
            retention_max: Seconds::new(60 * 24 * 3600),
            offer_ahead: Seconds::new(8 * 24 * 3600),
            upload_patience: Seconds::new(24 * 3600),
            sweep_margin: Seconds::new(600),
            rate: Rate {
                per_second: 500,
                burst: 1000,
            },
        }
    }
}

/// How often each address has asked lately.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    rate: Rate,
    peers: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Requests left, in thousandths.
    left: u64,
    since: Instant,
}

impl RateLimiter {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            peers: Mutex::default(),
        }
    }

    /// Whether one more request of this address is within its rate.
    pub(crate) fn admit(&self, peer: IpAddr, now: Instant) -> bool {
        let full = u64::from(self.rate.burst) * 1000;
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= PEERS_REMEMBERED && !peers.contains_key(&peer) {
            let rate = self.rate;
            peers.retain(|_, bucket| bucket.at(now, rate) < full);
            if peers.len() >= PEERS_REMEMBERED {
                return false;
            }
        }
        let bucket = peers.entry(peer).or_insert(Bucket {
            left: full,
            since: now,
        });
        *bucket = Bucket {
            left: bucket.at(now, self.rate),
            since: now,
        };
        match bucket.left.checked_sub(1000) {
            Some(left) => {
                bucket.left = left;
                true
            }
            None => false,
        }
    }
}

impl Bucket {
    fn at(&self, now: Instant, rate: Rate) -> u64 {
        let passed = u64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
        let gained = passed.saturating_mul(u64::from(rate.per_second));
        self.left.saturating_add(gained).min(u64::from(rate.burst) * 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_burst_then_its_rate_and_others_are_not_touched() {
        let limiter = RateLimiter::new(Rate {
            per_second: 10,
            burst: 3,
        });
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let start = Instant::now();
        let admitted = |peer, millis| limiter.admit(peer, start + Duration::from_millis(millis));
        assert_eq!(
            [0, 0, 0, 0].map(|millis| admitted(one, millis)),
            [true, true, true, false]
        );
        assert!(admitted(other, 0));
        assert!(!admitted(one, 99));
        assert!(admitted(one, 200));
        assert!(admitted(one, 200));
        assert!(!admitted(one, 200), "two tenths of a second are two requests");
    }
}
