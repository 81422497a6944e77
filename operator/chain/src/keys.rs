//! Keys: who signs, over what, and who signed.
//!
//! A [`Signer`] is handed the text to sign, never a bare hash, so that a key cannot be made to sign what nobody can
//! read, and so that external signers, which hash for themselves, fit the same trait. Secrets are read from files,
//! wiped after use and never printed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use async_trait::async_trait;
use ethers::core::k256::ecdsa::{RecoveryId, Signature as EcdsaSignature, SigningKey, VerifyingKey};
use ethers::core::utils::{public_key_to_address, secret_key_to_address};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tradewind_market::eip712::{Domain, StructHash};
use tradewind_market::{Address, Hash32, keccak256};
use zeroize::Zeroizing;

use crate::Disposition;
use crate::convert::to_address;

/// Bytes whose Keccak-256 hash is what gets signed. The first byte tells kinds apart: 0x19 for messages and typed
/// data, 0x02 for transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preimage(Vec<u8>);

impl Preimage {
    /// EIP-712: a struct in a domain.
    pub fn typed_data(domain_separator: Hash32, struct_hash: Hash32) -> Self {
        Self(
            [
                &[0x19, 0x01],
                domain_separator.as_bytes().as_slice(),
                struct_hash.as_bytes(),
            ]
            .concat(),
        )
    }

    /// EIP-712: a struct of the protocol, for one market.
    pub fn message(domain: &Domain, message: &impl StructHash) -> Self {
        Self::typed_data(domain.separator(), message.struct_hash())
    }

    /// EIP-191: a message for people, which cannot be a transaction.
    pub fn personal_message(message: &[u8]) -> Self {
        let head = format!("\x19Ethereum Signed Message:\n{}", message.len());
        Self([head.as_bytes(), message].concat())
    }

    pub(crate) fn transaction(unsigned: Vec<u8>) -> Self {
        Self(unsigned)
    }

    /// The bytes themselves.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What the signature is over.
    pub fn digest(&self) -> Hash32 {
        keccak256(&[&self.0])
    }
}

/// A recoverable ECDSA signature over secp256k1: r, s (the lower of two), and v as 27 or 28. In JSON `0x` and hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; 65]);

/// Why bytes are no signature, or a signature has no signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not `0x` and 130 hex digits.
    #[error("a signature is 0x and 130 hex digits")]
    Form,
    /// v is neither 27 nor 28.
    #[error("a signature ends with 27 or 28, not {0}")]
    RecoveryByte(u8),
    /// s is the higher of the two that would verify: contracts refuse it, since it makes signatures malleable.
    #[error("the signature's s is in the upper half of the curve's order")]
    HighS,
    /// r and s are no point on the curve, or recover to none.
    #[error("the signature belongs to no key")]
    NoSigner,
}

impl Signature {
    /// From r ‖ s ‖ v as contracts take it.
    pub const fn from_bytes(bytes: [u8; 65]) -> Self {
        Self(bytes)
    }

    /// r ‖ s ‖ v.
    pub const fn as_bytes(&self) -> &[u8; 65] {
        &self.0
    }

    /// r, s and v.
    pub(crate) fn parts(&self) -> ([u8; 32], [u8; 32], u8) {
        let (mut r, mut s) = ([0; 32], [0; 32]);
        r.copy_from_slice(&self.0[..32]);
        s.copy_from_slice(&self.0[32..64]);
        (r, s, self.0[64])
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

impl FromStr for Signature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let mut bytes = [0; 65];
        let digits = text.strip_prefix("0x").ok_or(SignatureError::Form)?;
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| SignatureError::Form)?;
        Ok(Self(bytes))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Whose key signed `digest`. As strict as the contracts, so that what passes here passes there.
pub fn recover(digest: Hash32, signature: &Signature) -> Result<Address, SignatureError> {
    let (r, s, v) = signature.parts();
    let odd = match v {
        27 => false,
        28 => true,
        other => return Err(SignatureError::RecoveryByte(other)),
    };
    let parsed = EcdsaSignature::from_scalars(r, s).map_err(|_| SignatureError::NoSigner)?;
    if parsed.normalize_s().is_some() {
        return Err(SignatureError::HighS);
    }
    let key = VerifyingKey::recover_from_prehash(digest.as_bytes(), &parsed, RecoveryId::new(odd, false))
        .map_err(|_| SignatureError::NoSigner)?;
    Ok(to_address(public_key_to_address(&key)))
}

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// The key file cannot be read.
    #[error("the key file {path} cannot be read: {reason}")]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// It holds no key.
    #[error("{origin} is not a private key: expected 64 hex digits, with or without 0x")]
    NotAKey {
        /// Where the text came from, never the text.
        origin: String,
    },
    /// The key refused to sign.
    #[error("signing failed: {reason}")]
    Refused {
        /// The signer's reason.
        reason: String,
    },
}

impl SignerError {
    /// What to do about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Unreadable { .. } | Self::NotAKey { .. } => Disposition::AwaitChange,
            Self::Refused { .. } => Disposition::Retry,
        }
    }

    /// The variant's name, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "Unreadable",
            Self::NotAKey { .. } => "NotAKey",
            Self::Refused { .. } => "Refused",
        }
    }
}

/// Who signs for one account, wherever the key is.
#[async_trait]
pub trait Signer: Send + Sync + fmt::Debug {
    /// The account.
    fn address(&self) -> Address;

    /// Signs the hash of `preimage`. The same preimage always gives the same signature.
    async fn sign(&self, preimage: &Preimage) -> Result<Signature, SignerError>;
}

/// A key in this process's memory, wiped when dropped.
pub struct LocalSigner {
    key: SigningKey,
    address: Address,
}

impl fmt::Debug for LocalSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSigner")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl LocalSigner {
    /// From a file that holds the key as hex, as a mounted Secret does.
    pub fn from_secret_file(path: &Path) -> Result<Self, SignerError> {
        let text = std::fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|error| SignerError::Unreadable {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// From 64 hex digits, with or without `0x`.
    pub fn from_hex(text: &str) -> Result<Self, SignerError> {
        Self::parse(text, "the text")
    }

    fn parse(text: &str, origin: &str) -> Result<Self, SignerError> {
        let not_a_key = || SignerError::NotAKey {
            origin: origin.to_owned(),
        };
        let digits = text.trim();
        let digits = digits.strip_prefix("0x").unwrap_or(digits);
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(digits, bytes.as_mut_slice()).map_err(|_| not_a_key())?;
        let key = SigningKey::from_slice(bytes.as_slice()).map_err(|_| not_a_key())?;
        let address = to_address(secret_key_to_address(&key));
        Ok(Self { key, address })
    }
}

#[async_trait]
impl Signer for LocalSigner {
    fn address(&self) -> Address {
        self.address
    }

    async fn sign(&self, preimage: &Preimage) -> Result<Signature, SignerError> {
        let digest = preimage.digest();
        let (signature, recovery) =
            self.key
                .sign_prehash_recoverable(digest.as_bytes())
                .map_err(|error| SignerError::Refused {
                    reason: error.to_string(),
                })?;
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = 27 + recovery.to_byte();
        Ok(Signature(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first of the development accounts that every local EVM node funds.
    const KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

    #[tokio::test]
    async fn a_signature_recovers_to_its_signer_and_to_nobody_else() {
        let signer = LocalSigner::from_hex(KEY).unwrap();
        assert_eq!(
            signer.address().checksummed(),
            "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
        );
        let preimage = Preimage::typed_data(keccak256(&[b"domain"]), keccak256(&[b"struct"]));
        let signature = signer.sign(&preimage).await.unwrap();
        assert_eq!(recover(preimage.digest(), &signature), Ok(signer.address()));
        assert_ne!(recover(keccak256(&[b"other"]), &signature), Ok(signer.address()));
        let json = serde_json::to_string(&signature).unwrap();
        assert_eq!(serde_json::from_str::<Signature>(&json).unwrap(), signature);
    }

    #[test]
    fn a_personal_message_is_hashed_as_wallets_do() {
        // "hello world" under EIP-191, as in the examples of common wallets.
        let digest = Preimage::personal_message(b"hello world").digest();
        assert_eq!(
            digest.to_string(),
            "0xd9eba16ed0ecae432b71fe008c98cc872bb4cc214d3220a36f365326cf807d68"
        );
    }

    #[tokio::test]
    async fn malleable_and_malformed_signatures_are_refused_as_the_contracts_do() {
        let signer = LocalSigner::from_hex(KEY).unwrap();
        let preimage = Preimage::personal_message(b"hello");
        let good = signer.sign(&preimage).await.unwrap();
        let check = |change: fn(&mut [u8; 65]), expected: SignatureError| {
            let mut bytes = *good.as_bytes();
            change(&mut bytes);
            assert_eq!(
                recover(preimage.digest(), &Signature::from_bytes(bytes)),
                Err(expected)
            );
        };
        check(|bytes| bytes[64] = 0, SignatureError::RecoveryByte(0));
        check(|bytes| bytes[64] = 29, SignatureError::RecoveryByte(29));
        check(|bytes| bytes[..32].fill(0), SignatureError::NoSigner);
        check(|bytes| bytes[32..64].fill(0xff), SignatureError::NoSigner);
        // The other s that verifies: the curve's order minus s.
        let order = hex::decode("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141").unwrap();
        let mut twin = *good.as_bytes();
        let mut borrow = 0i16;
        for at in (0..32).rev() {
            let difference = i16::from(order[at]) - i16::from(good.as_bytes()[32 + at]) - borrow;
            borrow = i16::from(difference < 0);
            twin[32 + at] = u8::try_from(difference.rem_euclid(256)).unwrap();
        }
        twin[64] = 27 + 28 - twin[64];
        assert_eq!(
            recover(preimage.digest(), &Signature::from_bytes(twin)),
            Err(SignatureError::HighS)
        );
        assert_eq!("0x12".parse::<Signature>(), Err(SignatureError::Form));
    }

    #[test]
    fn key_files_are_read_and_bad_ones_named_without_their_content() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let good = LocalSigner::from_secret_file(&write("good", &format!("{KEY}\n"))).unwrap();
        assert!(!format!("{good:?}").contains("ac0974"));
        let zero = "0".repeat(64);
        for text in ["", "0xac0974", "secretsecret", zero.as_str()] {
            let error = LocalSigner::from_secret_file(&write("bad", text)).unwrap_err();
            assert_eq!(error.label(), "NotAKey", "{text}");
            assert!(text.is_empty() || !error.to_string().contains(text));
        }
        assert_eq!(
            LocalSigner::from_secret_file(&folder.path().join("none"))
                .unwrap_err()
                .label(),
            "Unreadable"
        );
    }
}
