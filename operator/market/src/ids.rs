//! Addresses and 32-byte ids, each its own type, so that a round cannot be taken for a job.
//!
//! Owns their text form: `0x` and lower-case hex, in JSON too. It never computes an id from its content:
//! that is [`crate::eip712`] and [`crate::class`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha3::{Digest as _, Keccak256};

/// Keccak-256 of the parts, one after another, as Solidity's `keccak256(bytes.concat(..))`.
pub fn keccak256(parts: &[&[u8]]) -> Hash32 {
    let mut hasher = Keccak256::new();
    for part in parts {
        hasher.update(part);
    }
    Hash32(hasher.finalize().into())
}

/// Why a text is not an id or an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// The text does not start with `0x`.
    #[error("expected 0x and {expected} hex digits, found no 0x")]
    NoPrefix {
        /// How many digits the id has.
        expected: usize,
    },
    /// The text is too short or too long.
    #[error("expected {expected} hex digits, found {found}")]
    Length {
        /// How many digits the id has.
        expected: usize,
        /// How many were found.
        found: usize,
    },
    /// A character is no hex digit.
    #[error("expected {expected} hex digits, found a character that is none")]
    Digit {
        /// How many digits the id has.
        expected: usize,
    },
    /// The letters are of both cases, and not as EIP-55 says: a digit was probably mistyped.
    #[error("the address's mixed-case checksum (EIP-55) does not match")]
    Checksum,
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let expected = N.saturating_mul(2);
    let digits = text
        .strip_prefix("0x")
        .ok_or(ParseIdError::NoPrefix { expected })?;
    if digits.len() != expected {
        return Err(ParseIdError::Length {
            expected,
            found: digits.chars().count(),
        });
    }
    let mut bytes = [0u8; N];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| ParseIdError::Digit { expected })?;
    Ok(bytes)
}

macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name([u8; $len]);

        impl $name {
            /// All bytes zero; on chain, "none".
            pub const ZERO: Self = Self([0; $len]);

            /// From its bytes.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Whether all bytes are zero.
            pub fn is_zero(&self) -> bool {
                *self == Self::ZERO
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("0x")?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident) => {
        bytes_id!($(#[$doc])* $name, 32);

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }

        impl From<Hash32> for $name {
            fn from(hash: Hash32) -> Self {
                Self(hash.0)
            }
        }

        impl From<$name> for Hash32 {
            fn from(id: $name) -> Self {
                Self(id.0)
            }
        }
    };
}

bytes_id!(
    /// An account or a contract on chain.
    Address,
    20
);

bytes_id!(
    /// A 32-byte digest of no more particular kind.
    Hash32,
    32
);

impl FromStr for Hash32 {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        parse_hex(text).map(Self)
    }
}

hash_id!(
    /// A job on chain: a hash of chain, contract, buyer and the buyer's nonce.
    JobId
);
hash_id!(
    /// What a buyer derives a job's id from, so that the same run key is never paid for twice.
    JobNonce
);
hash_id!(
    /// One round of one group: the seats that commit together, and the units they run.
    RoundId
);
hash_id!(
    /// A signed offer: the EIP-712 struct hash of its terms.
    OfferHash
);
hash_id!(
    /// A hardware class: the hash of its canonical description.
    ClassId
);
hash_id!(
    /// A region name as providers declare it: the hash of the name.
    RegionId
);

impl Address {
    /// The address with EIP-55's mixed case, as wallets show it.
    pub fn checksummed(&self) -> String {
        let digits = hex::encode(self.0);
        let hash = keccak256(&[digits.as_bytes()]);
        let nibbles = hash.0.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
        let cased = digits.chars().zip(nibbles).map(|(digit, nibble)| {
            if nibble >= 8 {
                digit.to_ascii_uppercase()
            } else {
                digit
            }
        });
        "0x".chars().chain(cased).collect()
    }
}

impl FromStr for Address {
    type Err = ParseIdError;

    /// One case is taken as it is; of mixed case the EIP-55 checksum must hold.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let address = parse_hex(text).map(Self)?;
        let digits = text.trim_start_matches("0x");
        let mixed = digits.contains(|c: char| c.is_ascii_lowercase())
            && digits.contains(|c: char| c.is_ascii_uppercase());
        if mixed && address.checksummed() != text {
            return Err(ParseIdError::Checksum);
        }
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keccak_is_ethereums_not_sha3() {
        assert_eq!(
            keccak256(&[]).to_string(),
            "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
        );
        assert_eq!(keccak256(&[b"ab", b"c"]), keccak256(&[b"abc"]));
    }

    #[test]
    fn ids_go_through_text_and_json_unchanged() {
        let id = JobId::from(keccak256(&[b"job"]));
        assert_eq!(id.to_string().parse::<JobId>(), Ok(id));
        assert_eq!(
            id.to_string().to_uppercase().replace("0X", "0x").parse::<JobId>(),
            Ok(id)
        );
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<JobId>(&json).unwrap(), id);
    }

    #[test]
    fn malformed_ids_are_refused_by_name() {
        let check = |text: &str, expected: ParseIdError| {
            assert_eq!(text.parse::<Address>(), Err(expected), "{text}");
        };
        check("", ParseIdError::NoPrefix { expected: 40 });
        check(
            "f39fd6e51aad88f6f4ce6ab8827279cfffb92266",
            ParseIdError::NoPrefix { expected: 40 },
        );
        check(
            "0xf39f",
            ParseIdError::Length {
                expected: 40,
                found: 4,
            },
        );
        check(
            "0xg39fd6e51aad88f6f4ce6ab8827279cfffb92266",
            ParseIdError::Digit { expected: 40 },
        );
        check(
            "0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
            ParseIdError::Checksum,
        );
        check(
            "0x€39fd6e51aad88f6f4ce6ab8827279cfffb922",
            ParseIdError::Digit { expected: 40 },
        );
    }

    #[test]
    fn addresses_know_their_checksum() {
        let text = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
        let address: Address = text.parse().unwrap();
        assert_eq!(address.checksummed(), text);
        assert_eq!(text.to_lowercase().parse::<Address>(), Ok(address));
        assert_eq!(address.to_string(), text.to_lowercase());
    }
}
