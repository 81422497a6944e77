//! The chain's own quantities: its native coin, the nonces of accounts, and the moments between steps.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount of the chain's native coin in its smallest unit, or of it per unit of gas. In JSON a decimal string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wei(u128);

impl Wei {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From the smallest unit.
    pub const fn new(wei: u128) -> Self {
        Self(wei)
    }

    /// From billionths of the coin, in which gas prices are spoken of.
    pub const fn from_gwei(gwei: u64) -> Self {
        Self(gwei as u128 * 1_000_000_000)
    }

    /// In the smallest unit.
    pub const fn get(self) -> u128 {
        self.0
    }

    /// The sum, or `None` if it does not fit.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The product with a number (of units of gas), or `None` if it does not fit.
    pub fn checked_mul(self, factor: u64) -> Option<Self> {
        self.0.checked_mul(u128::from(factor)).map(Self)
    }
}

impl fmt::Display for Wei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wei", self.0)
    }
}

impl Serialize for Wei {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Wei {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// A transaction's place in its account's order, 0-based. An account's nonce "at" a block is the number of its
/// transactions up to there: the first place that is still free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountNonce(u64);

impl AccountNonce {
    /// From the bare number.
    pub const fn new(nonce: u64) -> Self {
        Self(nonce)
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The place after this one. Saturates at a number that EIP-2681 forbids anyway.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for AccountNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A moment by the caller's clock: milliseconds since 1970-01-01 UTC. Only spaces repetitions; decides nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(u64);

impl UnixMillis {
    /// From the bare number.
    pub const fn new(millis: u64) -> Self {
        Self(millis)
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether at least `wait` has passed since `earlier`. A clock that was set back counts as if it had.
    pub(crate) fn has_waited(self, earlier: Self, wait: std::time::Duration) -> bool {
        self.0
            .checked_sub(earlier.0)
            .is_none_or(|elapsed| u128::from(elapsed) >= wait.as_millis())
    }
}
