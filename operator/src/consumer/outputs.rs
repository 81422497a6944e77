//! Fetches the results of an agreed group and checks them against the root that was agreed on.
//!
//! A provider's index only says where to look: nothing is believed but bytes that open with the output key and whose
//! leaves give the agreed root. What is checked is handed on; where it goes is [`super::delivery`]'s.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use tradewind_chain::{Signature, recover};
use tradewind_gateway_api::{
    archive::{ArchiveError, Unpacker},
    client::{ClientError, Download, GatewayClient},
    index::SignedIndex,
    seal::{Opener, OpeningKey, SealError},
    signed::key_signature,
};
use tradewind_market::{
    Address, Hash32, JobId, RoundId, UnitIndex, document::StoredUnit, eip712::Domain, geometry::UnitRange,
};
use tradewind_result::{
    ContentDigest, Limits, Outcome, Root, UnitResult,
    leaf::{RootError, Tree, result_root},
    outcome::OutcomeError,
};

/// What sealing and the archive's own head may add to an output: a manifest of the files, and 16 bytes for each 64 KiB.
const OVERHEAD_BYTES_PER_FILE: u64 = 8 << 10;
const OVERHEAD_BYTES: u64 = 1 << 20;

/// Why a group's results could not be had from one provider.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// The gateways do not answer, or do not have something.
    #[error(transparent)]
    Gateway(#[from] ClientError),
    /// No index was published.
    #[error("provider {provider} has published no index of its results")]
    NoIndex {
        /// Whose.
        provider: Address,
    },
    /// The index is not the provider's, or not of this round's units.
    #[error("the index of provider {provider} is not what it must be: {what}")]
    Index {
        /// Whose.
        provider: Address,
        /// What is wrong.
        what: &'static str,
    },
    /// An output does not open.
    #[error("the output of unit {unit} does not open")]
    Seal {
        /// Which.
        unit: UnitIndex,
        /// Why.
        #[source]
        source: SealError,
    },
    /// An output is no archive within the limits.
    #[error("the output of unit {unit} cannot be read")]
    Archive {
        /// Which.
        unit: UnitIndex,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// An outcome has no meaning.
    #[error(transparent)]
    Outcome(#[from] OutcomeError),
    /// The results have no root.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The results are not those that were agreed on.
    #[error("the results of provider {provider} are not those that were agreed on")]
    OtherRoot {
        /// Whose.
        provider: Address,
    },
    /// A file of our own could not be written or read.
    #[error("a temporary file failed: {}", path.display())]
    Scratch {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A task of ours was ended: the process is ending.
    #[error("the work was interrupted")]
    Interrupted,
}

/// What is to be fetched.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The job.
    pub(crate) job: JobId,
    /// Its round.
    pub(crate) round: RoundId,
    /// Its units.
    pub(crate) units: UnitRange,
    /// What was agreed on.
    pub(crate) root: Hash32,
    /// The job's salt.
    pub(crate) salt: Hash32,
    /// What one unit may write.
    pub(crate) limits: Limits,
}

/// One unit's checked result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FetchedUnit {
    /// Which.
    pub(crate) unit: UnitIndex,
    /// How its program ended.
    pub(crate) outcome: Outcome,
    /// What it wrote.
    pub(crate) manifest_digest: ContentDigest,
    /// Where the sealed output is.
    pub(crate) blob: ContentDigest,
    /// Its length.
    pub(crate) stored_bytes: u64,
}

/// A group's checked results: the directories of its units are below `folder`, named by unit, where it is kept.
#[derive(Debug)]
pub(crate) struct FetchedGroup {
    /// In ascending order.
    pub(crate) units: Vec<FetchedUnit>,
    /// Holds the unpacked directories; removed when dropped.
    folder: tempfile::TempDir,
}

impl FetchedGroup {
    /// The directory that the unit wrote.
    pub(crate) fn directory(&self, unit: UnitIndex) -> PathBuf {
        unit_directory(self.folder.path(), unit)
    }
}

fn unit_directory(folder: &Path, unit: UnitIndex) -> PathBuf {
    folder.join(unit.to_string())
}

/// Fetches the group's results from one provider and checks them.
pub(crate) async fn fetch(
    gateways: &GatewayClient,
    domain: &Domain,
    key: &OpeningKey,
    wanted: &Wanted,
    provider: Address,
) -> Result<FetchedGroup, OutputError> {
    let index = gateways
        .get_index(wanted.round, provider)
        .await?
        .ok_or(OutputError::NoIndex { provider })?;
    check_index(&index, domain, wanted, provider)?;
    let folder = tempfile::tempdir().map_err(|source| scratch(&std::env::temp_dir(), source))?;
    let mut units = Vec::with_capacity(index.statement.units.len());
    for stored in &index.statement.units {
        units.push(fetch_unit(gateways, key, wanted.limits, stored, folder.path()).await?);
    }
    let results: Vec<UnitResult> = units
        .iter()
        .map(|unit| UnitResult {
            unit: unit.unit.get(),
            outcome: unit.outcome,
            digest: unit.manifest_digest,
        })
        .collect();
    let root = result_root(Tree::A, wanted.job.as_bytes(), wanted.salt.as_bytes(), &results)?;
    if root != Root::from_bytes(*wanted.root.as_bytes()) {
        return Err(OutputError::OtherRoot { provider });
    }
    Ok(FetchedGroup { units, folder })
}

fn check_index(
    index: &SignedIndex,
    domain: &Domain,
    wanted: &Wanted,
    provider: Address,
) -> Result<(), OutputError> {
    let statement = &index.statement;
    let refuse = |what| Err(OutputError::Index { provider, what });
    let signer = key_signature(&index.signature)
        .and_then(|bytes| recover(index.digest(domain), &Signature::from_bytes(bytes)).ok());
    if signer != Some(provider) || statement.provider != provider {
        return refuse("it is signed by another");
    }
    if statement.job_id != wanted.job || statement.round_id != wanted.round {
        return refuse("it is of another round");
    }
    if !statement
        .units
        .iter()
        .map(|stored| stored.unit)
        .eq(wanted.units.iter())
    {
        return refuse("it does not list the round's units in order");
    }
    Ok(())
}

async fn fetch_unit(
    gateways: &GatewayClient,
    key: &OpeningKey,
    limits: Limits,
    stored: &StoredUnit,
    folder: &Path,
) -> Result<FetchedUnit, OutputError> {
    let unit = stored.unit;
    let blob = ContentDigest::from_bytes(*stored.blob.as_bytes());
    let sealed = folder.join(format!("{unit}.sealed"));
    let overhead = limits
        .files
        .saturating_mul(OVERHEAD_BYTES_PER_FILE)
        .saturating_add(OVERHEAD_BYTES);
    let bytes_max = limits
        .bytes
        .saturating_add(limits.bytes / 1024)
        .saturating_add(overhead);
    let stored_bytes = gateways
        .get_to_file(
            Download {
                digest: blob,
                bytes_max,
            },
            &sealed,
        )
        .await?;
    let (key, target) = (key.clone(), unit_directory(folder, unit));
    let manifest_digest =
        tokio::task::spawn_blocking(move || open_output(&key, limits, unit, &sealed, &target))
            .await
            .map_err(|_| OutputError::Interrupted)??;
    Ok(FetchedUnit {
        unit,
        outcome: Outcome::from_code(stored.outcome)?,
        manifest_digest,
        blob,
        stored_bytes,
    })
}

/// Opens and unpacks one output, and removes the sealed file: disk holds each result once.
fn open_output(
    key: &OpeningKey,
    limits: Limits,
    unit: UnitIndex,
    sealed: &Path,
    target: &Path,
) -> Result<ContentDigest, OutputError> {
    let file = File::open(sealed).map_err(|source| scratch(sealed, source))?;
    std::fs::create_dir(target).map_err(|source| scratch(target, source))?;
    let opener = Opener::new(key, file).map_err(|source| OutputError::Seal { unit, source })?;
    let archive = |source| OutputError::Archive { unit, source };
    let manifest = Unpacker::new(opener, limits, None)
        .map_err(archive)?
        .unpack(target)
        .map_err(archive)?;
    std::fs::remove_file(sealed).map_err(|source| scratch(sealed, source))?;
    Ok(manifest.digest())
}

fn scratch(path: &Path, source: std::io::Error) -> OutputError {
    OutputError::Scratch {
        path: path.to_owned(),
        source,
    }
}
