//! Counts, indices and times, each its own type with its unit in the name.
//!
//! It never reads a clock: a time is always an argument. Operations are checked; durations that only
//! bound a wait may saturate, and say so in their names.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $repr:ty) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name($repr);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);
            /// The largest.
            pub const MAX: Self = Self(<$repr>::MAX);

            /// From the bare number.
            pub const fn new(number: $repr) -> Self {
                Self(number)
            }

            /// The bare number.
            pub const fn get(self) -> $repr {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;
            fn from_str(text: &str) -> Result<Self, ParseIntError> {
                text.parse().map(Self)
            }
        }

        impl From<$repr> for $name {
            fn from(number: $repr) -> Self {
                Self(number)
            }
        }

        impl From<$name> for $repr {
            fn from(number: $name) -> Self {
                number.0
            }
        }
    };
}

macro_rules! checked {
    ($name:ident) => {
        impl $name {
            /// The sum, or `None` if it does not fit.
            pub fn checked_add(self, other: Self) -> Option<Self> {
                self.0.checked_add(other.0).map(Self)
            }

            /// The difference, or `None` if `other` is larger.
            pub fn checked_sub(self, other: Self) -> Option<Self> {
                self.0.checked_sub(other.0).map(Self)
            }

            /// The product with a bare number, or `None` if it does not fit.
            pub fn checked_mul(self, factor: impl Into<Self>) -> Option<Self> {
                self.0.checked_mul(factor.into().0).map(Self)
            }
        }
    };
}

number!(
    /// A duration in whole seconds.
    Seconds,
    u64
);
checked!(Seconds);
number!(
    /// A point in time: seconds since 1970-01-01 UTC, as block timestamps are.
    UnixSeconds,
    u64
);
number!(
    /// How many slots of an offer: one slot runs one slice at a time.
    Slots,
    u32
);
checked!(Slots);
number!(
    /// How many work units.
    Units,
    u32
);
checked!(Units);
number!(
    /// A work unit's index within its job, 0-based: `JOB_COMPLETION_INDEX`.
    UnitIndex,
    u32
);
number!(
    /// A slice's index within its job, 0-based.
    SliceIndex,
    u32
);
number!(
    /// A group's index within its job, 0-based.
    GroupIndex,
    u32
);
number!(
    /// A seat's index within its round, 0-based.
    SeatIndex,
    u8
);
number!(
    /// A counter by which a newer statement of one signer replaces an older one.
    Nonce,
    u64
);
number!(
    /// A block's number.
    BlockNumber,
    u64
);

impl UnixSeconds {
    /// The time `duration` later, or `None` if it does not fit.
    pub fn checked_add(self, duration: Seconds) -> Option<Self> {
        self.0.checked_add(duration.0).map(Self)
    }

    /// The time `duration` later, at most the end of time.
    #[must_use]
    pub fn saturating_add(self, duration: Seconds) -> Self {
        Self(self.0.saturating_add(duration.0))
    }

    /// The time `duration` earlier, at least 1970.
    #[must_use]
    pub fn saturating_sub(self, duration: Seconds) -> Self {
        Self(self.0.saturating_sub(duration.0))
    }

    /// How long after `earlier` this is, or `None` if it is before.
    pub fn checked_since(self, earlier: Self) -> Option<Seconds> {
        self.0.checked_sub(earlier.0).map(Seconds)
    }

    /// How long after `earlier` this is; zero if it is before.
    pub fn saturating_since(self, earlier: Self) -> Seconds {
        Seconds(self.0.saturating_sub(earlier.0))
    }
}

impl BlockNumber {
    /// The next block's number, or `None` at the end.
    pub fn checked_next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

/// What is known of a thing that lives elsewhere. From `Unknown` nothing is deleted, paid or slashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Knowledge<T> {
    /// It was seen, and this is it.
    Known(T),
    /// It was looked for where it would be, and is not there.
    Absent,
    /// It could not be looked at.
    Unknown,
}

impl<T> Knowledge<T> {
    /// The same knowledge of a borrowed thing.
    pub const fn as_ref(&self) -> Knowledge<&T> {
        match self {
            Self::Known(value) => Knowledge::Known(value),
            Self::Absent => Knowledge::Absent,
            Self::Unknown => Knowledge::Unknown,
        }
    }

    /// The thing, if it was seen.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unknown => None,
        }
    }

    /// What a successful look-up says: a thing or its absence.
    pub fn from_lookup(found: Option<T>) -> Self {
        found.map_or(Self::Absent, Self::Known)
    }
}
