//! The operator's secrets: an account and a seed out of files, and everything derived from the seed.
//!
//! Nothing that can be derived is stored, so a restart, or another replica, has the same secrets again.
//! It never prints a secret and never sends one anywhere; the account's key itself stays with the chain's signer.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use hkdf::Hkdf;
use sha2::Sha256;
use tradewind_market::{JobNonce, keccak256};
use zeroize::Zeroizing;

/// Length of the seed and of every derived secret.
pub(crate) const SECRET_BYTES: usize = 32;

/// A derived secret; cleared from memory when dropped.
pub(crate) type Secret = Zeroizing<[u8; SECRET_BYTES]>;

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// The file could not be read.
    #[error("the key file {} could not be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The seed is not 32 bytes in hex.
    #[error("the seed in {} is not 32 bytes in hex", path.display())]
    Seed {
        /// Which file.
        path: PathBuf,
    },
}

/// The seed that all other secrets are derived from.
pub(crate) struct Keys {
    seed: Secret,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// What is derived for a job of ours; each purpose has its own secret, so that one that is handed out opens
/// nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobSecret {
    /// Salts the leaves of results and stands in the template.
    Salt,
    /// The identity that template and inputs are sealed to; given to providers with a seat.
    JobKey,
    /// Hides the job key in its commitment on chain.
    KeySalt,
    /// The identity that outputs are sealed to.
    OutputKey,
}

impl JobSecret {
    fn info(self) -> &'static str {
        match self {
            Self::Salt => "job salt",
            Self::JobKey => "job key",
            Self::KeySalt => "job key salt",
            Self::OutputKey => "output key",
        }
    }
}

impl Keys {
    /// The path of the account's private key within the keys folder.
    pub(crate) fn account_file(folder: &Path) -> PathBuf {
        folder.join("account")
    }

    /// Reads the seed.
    pub(crate) fn read(folder: &Path) -> Result<Self, KeysError> {
        let path = folder.join("seed");
        let text = std::fs::read_to_string(&path)
            .map(Zeroizing::new)
            .map_err(|source| KeysError::Read {
                path: path.clone(),
                source,
            })?;
        let mut seed = Zeroizing::new([0; SECRET_BYTES]);
        let digits = text.trim();
        hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), seed.as_mut_slice())
            .map_err(|_| KeysError::Seed { path })?;
        Ok(Self { seed })
    }

    /// The secret of one job of ours for one purpose.
    pub(crate) fn job(&self, nonce: JobNonce, purpose: JobSecret) -> Secret {
        self.derive(nonce.as_bytes(), purpose.info())
    }

    /// Any other secret: HKDF-SHA256 of the seed, with `salt` for what it is bound to and `info` for its purpose.
    pub(crate) fn derive(&self, salt: &[u8], info: &str) -> Secret {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        let expanded = Hkdf::<Sha256>::new(Some(salt), self.seed.as_slice())
            .expand(info.as_bytes(), secret.as_mut_slice());
        // HKDF refuses only lengths above 255 blocks; this is one block.
        debug_assert!(expanded.is_ok(), "one block is always to be had");
        secret
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self {
            seed: Zeroizing::new([7; SECRET_BYTES]),
        }
    }
}

/// What makes a job the same job: its namespace, and its run key or else its object's UID. Length-prefixed, so
/// that no two pairs run together.
pub(crate) fn job_nonce(namespace: &str, run_key_or_uid: &str) -> JobNonce {
    let length = |text: &str| u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes();
    JobNonce::from(keccak256(&[
        b"tradewind job nonce v1",
        &length(namespace),
        namespace.as_bytes(),
        &length(run_key_or_uid),
        run_key_or_uid.as_bytes(),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_and_purpose_has_a_secret_of_its_own_and_always_the_same() {
        let keys = Keys::for_tests();
        let (one, other) = (job_nonce("studio", "flyby-v3"), job_nonce("studio", "flyby-v4"));
        let all: Vec<Secret> = [one, other]
            .into_iter()
            .flat_map(|nonce| {
                [
                    JobSecret::Salt,
                    JobSecret::JobKey,
                    JobSecret::KeySalt,
                    JobSecret::OutputKey,
                ]
                .map(|purpose| keys.job(nonce, purpose))
            })
            .collect();
        for (i, secret) in all.iter().enumerate() {
            assert!(!all[..i].contains(secret), "secret {i} is another's");
        }
        assert_eq!(keys.job(one, JobSecret::Salt), keys.job(one, JobSecret::Salt));
        assert_ne!(**all.first().unwrap(), [7; SECRET_BYTES]);
    }

    #[test]
    fn a_name_cannot_be_moved_between_namespace_and_run_key() {
        assert_ne!(job_nonce("a", "bc"), job_nonce("ab", "c"));
        assert_eq!(job_nonce("a", "bc"), job_nonce("a", "bc"));
    }

    #[test]
    fn a_seed_that_is_not_32_bytes_is_refused_without_being_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("seed"), "abcdef").unwrap();
        let refused = Keys::read(folder.path()).unwrap_err();
        assert!(matches!(refused, KeysError::Seed { .. }));
        assert!(!refused.to_string().contains("abcdef"));
        std::fs::write(folder.path().join("seed"), format!("0x{}\n", "07".repeat(32))).unwrap();
        let keys = Keys::read(folder.path()).unwrap();
        assert_eq!(keys.derive(b"x", "y"), Keys::for_tests().derive(b"x", "y"));
        assert_eq!(format!("{keys:?}"), "Keys(…)");
    }
}
