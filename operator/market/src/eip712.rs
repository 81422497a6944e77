//! Typed data: the market's domain, and how a struct becomes the hash that is signed.
//!
//! Owns the encoding rules alone. Each struct states its own type string where it is defined; signing and
//! recovering belong to the chain edge.

use crate::ids::{Address, Hash32, keccak256};

const DOMAIN_TYPE: &str =
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
const DOMAIN_NAME: &[u8] = b"Tradewind";
const DOMAIN_VERSION: &[u8] = b"1";

/// The market that signatures are for: one address on one chain, whatever contracts carry its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Domain {
    /// The chain's id.
    pub chain_id: u64,
    /// The market's address.
    pub market: Address,
}

impl Domain {
    /// The domain separator.
    pub fn separator(&self) -> Hash32 {
        Encoder::new(DOMAIN_TYPE, &[])
            .hash(keccak256(&[DOMAIN_NAME]))
            .hash(keccak256(&[DOMAIN_VERSION]))
            .uint(u128::from(self.chain_id))
            .address(self.market)
            .finish()
    }

    /// The digest that is signed: `keccak256(0x1901 ‖ separator ‖ struct hash)`.
    pub fn signing_digest(&self, message: &impl StructHash) -> Hash32 {
        keccak256(&[
            b"\x19\x01",
            self.separator().as_bytes(),
            message.struct_hash().as_bytes(),
        ])
    }
}

/// A struct of PROTOCOL.md's "Typed data", or one of the documents that never reach the chain.
pub trait StructHash {
    /// EIP-712's `hashStruct`.
    fn struct_hash(&self) -> Hash32;
}

/// Joins a type hash and the encoded fields, in the order in which they are given.
#[derive(Debug)]
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    /// `referenced`: the type strings of the structs it names, in alphabetical order.
    pub(crate) fn new(own_type: &str, referenced: &[&str]) -> Self {
        let parts: Vec<&[u8]> = std::iter::once(own_type)
            .chain(referenced.iter().copied())
            .map(str::as_bytes)
            .collect();
        Self(keccak256(&parts).as_bytes().to_vec())
    }

    pub(crate) fn hash(mut self, hash: impl Into<Hash32>) -> Self {
        self.0.extend_from_slice(hash.into().as_bytes());
        self
    }

    pub(crate) fn uint(mut self, number: impl Into<u128>) -> Self {
        self.0.extend_from_slice(&uint_word(number));
        self
    }

    pub(crate) fn boolean(self, value: bool) -> Self {
        self.uint(u8::from(value))
    }

    pub(crate) fn address(mut self, address: Address) -> Self {
        self.0.extend_from_slice(&address_word(address));
        self
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        self.hash(keccak256(&[bytes]))
    }

    pub(crate) fn structure(self, inner: &impl StructHash) -> Self {
        self.hash(inner.struct_hash())
    }

    pub(crate) fn structures<T: StructHash>(self, elements: &[T]) -> Self {
        let joined: Vec<u8> = elements
            .iter()
            .flat_map(|element| *element.struct_hash().as_bytes())
            .collect();
        self.bytes(&joined)
    }

    pub(crate) fn addresses(self, elements: &[Address]) -> Self {
        let joined: Vec<u8> = elements
            .iter()
            .flat_map(|element| address_word(*element))
            .collect();
        self.bytes(&joined)
    }

    pub(crate) fn finish(self) -> Hash32 {
        keccak256(&[&self.0])
    }
}

/// A number as `abi.encode` writes it: big-endian in 32 bytes.
pub(crate) fn uint_word(number: impl Into<u128>) -> [u8; 32] {
    let mut word = [0u8; 32];
    let (_, low) = word.split_at_mut(16);
    low.copy_from_slice(&number.into().to_be_bytes());
    word
}

/// An address as `abi.encode` writes it: right-aligned in 32 bytes.
pub(crate) fn address_word(address: Address) -> [u8; 32] {
    let mut word = [0u8; 32];
    let (_, low) = word.split_at_mut(12);
    low.copy_from_slice(address.as_bytes());
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_differ_by_chain_and_by_market() {
        let domain = Domain {
            chain_id: 31337,
            market: Address::from_bytes([7; 20]),
        };
        assert_ne!(
            domain.separator(),
            Domain {
                chain_id: 1,
                ..domain
            }
            .separator()
        );
        assert_ne!(
            domain.separator(),
            Domain {
                market: Address::ZERO,
                ..domain
            }
            .separator()
        );
    }

    #[test]
    fn words_are_right_aligned() {
        assert_eq!(uint_word(258u32)[30..], [1, 2]);
        assert_eq!(uint_word(u128::MAX)[..16], [0; 16]);
        assert_eq!(address_word(Address::from_bytes([9; 20]))[..12], [0; 12]);
        assert_eq!(address_word(Address::from_bytes([9; 20]))[12..], [9; 20]);
    }
}
