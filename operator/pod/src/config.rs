//! What `fetch` and `collect` are told: which slice, and by which grant.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tradewind_gateway_api::grant::{GrantToken, GrantTokenError};
use tradewind_gateway_api::seal::{OpeningKey, SealError};
use tradewind_gateway_api::slice::{GRANT_KEY, LeaseGrant, SLICE_VARIABLE, SliceConfig};

/// Largest grant document.
const GRANT_BYTES_MAX: u64 = 64 * 1024;

/// Why the pod's own configuration cannot be used. It is the operator's fault or ours, never the job's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The slice's variable is not a slice.
    #[error("{SLICE_VARIABLE} is not a slice's configuration")]
    Slice(#[source] serde_json::Error),
    /// The slice has no units, or more than there are numbers.
    #[error("{SLICE_VARIABLE} names no units, or too many")]
    Units,
    /// The grant cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The grant is no grant.
    #[error("the lease's grant is not of the expected form")]
    Grant(#[source] serde_json::Error),
    /// The token is no token.
    #[error("the lease's token is not of the expected form")]
    Token(#[from] GrantTokenError),
    /// The job's key is no key.
    #[error("the lease's job key is not of the expected form")]
    Key(#[from] SealError),
}

/// The grant, its secrets parsed.
#[derive(Debug)]
pub(crate) struct Lease {
    /// As the operator wrote it.
    pub grant: LeaseGrant,
    /// For what is stored.
    pub token: GrantToken,
    /// Opens template and inputs.
    pub job_key: OpeningKey,
}

/// Reads the slice's configuration from its text.
pub(crate) fn slice(text: &str) -> Result<SliceConfig, ConfigError> {
    let config: SliceConfig = serde_json::from_str(text).map_err(ConfigError::Slice)?;
    if config.units.get() == 0 || config.end_unit().is_none() {
        return Err(ConfigError::Units);
    }
    Ok(config)
}

/// Reads the lease's grant from the Secret mounted at `directory`.
pub(crate) fn lease(directory: &Path) -> Result<Lease, ConfigError> {
    let path = directory.join(GRANT_KEY);
    let read = |path: &Path| {
        let length = fs::metadata(path)?.len();
        if length > GRANT_BYTES_MAX {
            Err(io::ErrorKind::FileTooLarge.into())
        } else {
            fs::read(path)
        }
    };
    let bytes = read(&path).map_err(|source| ConfigError::Read { path, source })?;
    let grant: LeaseGrant = serde_json::from_slice(&bytes).map_err(ConfigError::Grant)?;
    let token = GrantToken::parse(grant.token.expose())?;
    let job_key = OpeningKey::from_text(grant.job_key.expose())?;
    Ok(Lease {
        grant,
        token,
        job_key,
    })
}
