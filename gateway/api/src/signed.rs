//! Statements with their signatures, as they travel.
//!
//! It never signs and never recovers: whoever holds a key, or the chain crate, does.

use serde::{Deserialize, Serialize};
use tradewind_market::{
    Hash32,
    eip712::{Domain, StructHash},
    message::HexBytes,
};

/// Bytes of a signature: 65 of a key, more of contract accounts.
pub const SIGNATURE_BYTES_MAX: usize = 1024;

/// A statement and its signature over the market's domain. Who signed is found by recovering; who had to sign, the
/// reader must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signed<T> {
    /// What was signed.
    pub statement: T,
    /// r ‖ s ‖ v of a key, or what a contract account takes.
    pub signature: HexBytes,
}

impl<T: StructHash> Signed<T> {
    /// What the signature must be over.
    pub fn digest(&self, domain: &Domain) -> Hash32 {
        domain.signing_digest(&self.statement)
    }
}

/// The 65 bytes of a key's signature, if it is one.
pub fn key_signature(signature: &HexBytes) -> Option<[u8; 65]> {
    signature.0.as_slice().try_into().ok()
}
