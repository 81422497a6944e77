//! What the awarded providers of a job need beyond the chain: where its template is, and its key, sealed to each.

use serde::{Deserialize, Serialize};
use tradewind_market::{Hash32, derivation, document::JobBundle, message::HexBytes};
use zeroize::Zeroizing;

use crate::{
    seal::{OpeningKey, Recipient, SealError, open_bytes, seal_bytes},
    signed::Signed,
};

/// Envelopes in one bundle: one per provider that holds a seat.
pub const ENVELOPES_MAX: usize = 4096;

/// Bytes of one envelope: an age file around a key and its salt.
pub const ENVELOPE_BYTES_MAX: usize = 4096;

/// A bundle, signed by the job's buyer. Public: of two for one job the later `issued` counts.
pub type SignedBundle = Signed<JobBundle>;

/// What an envelope holds, as JSON: the job's key and the salt of its commitment on chain. `Debug` shows neither.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobKey {
    /// The bytes that the key is made of.
    key: Hash32,
    /// Hides them in the commitment.
    salt: Hash32,
}

/// Why an envelope gives no key.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// It does not open, or could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It holds something else.
    #[error("the envelope holds no job key")]
    Form,
    /// It holds another key than the chain says.
    #[error("the envelope's key is not the one that the job was opened with")]
    OtherKey,
}

impl std::fmt::Debug for JobKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JobKey")
    }
}

impl JobKey {
    /// From its bytes and its salt.
    pub const fn new(key: Hash32, salt: Hash32) -> Self {
        Self { key, salt }
    }

    /// What the chain holds of it.
    pub fn commitment(&self) -> Hash32 {
        derivation::key_commitment(self.key, self.salt)
    }

    /// The key that opens template and inputs.
    pub fn opening_key(&self) -> Result<OpeningKey, SealError> {
        OpeningKey::from_secret(self.key.as_bytes())
    }

    /// An envelope around it that only `reader` opens.
    pub fn seal(&self, reader: &Recipient) -> Result<HexBytes, EnvelopeError> {
        let text = Zeroizing::new(serde_json::to_vec(self).map_err(|_| EnvelopeError::Form)?);
        Ok(HexBytes(seal_bytes(std::slice::from_ref(reader), &text)?))
    }

    /// Opens an envelope and checks it against the commitment on chain.
    pub fn open(key: &OpeningKey, envelope: &HexBytes, commitment: Hash32) -> Result<Self, EnvelopeError> {
        let text = open_bytes(key, &envelope.0, ENVELOPE_BYTES_MAX as u64)?;
        let found: Self = serde_json::from_slice(&text).map_err(|_| EnvelopeError::Form)?;
        if found.commitment() == commitment {
            Ok(found)
        } else {
            Err(EnvelopeError::OtherKey)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_gives_its_reader_the_committed_key_and_nobody_another() {
        let (provider, stranger) = (
            OpeningKey::from_secret(&[1; 32]).unwrap(),
            OpeningKey::from_secret(&[2; 32]).unwrap(),
        );
        let key = JobKey::new(Hash32::from_bytes([3; 32]), Hash32::from_bytes([4; 32]));
        let envelope = key.seal(&provider.recipient()).unwrap();
        assert!(envelope.0.len() <= ENVELOPE_BYTES_MAX);
        let opened = JobKey::open(&provider, &envelope, key.commitment()).unwrap();
        assert_eq!(
            opened.opening_key().unwrap().recipient(),
            key.opening_key().unwrap().recipient()
        );
        assert!(matches!(
            JobKey::open(&stranger, &envelope, key.commitment()),
            Err(EnvelopeError::Seal(SealError::OtherReader))
        ));
        let other = Hash32::from_bytes([9; 32]);
        assert!(matches!(
            JobKey::open(&provider, &envelope, other),
            Err(EnvelopeError::OtherKey)
        ));
        assert!(!format!("{key:?}").contains("03"));
    }
}
