//! Fetches the results of one seat's round and checks them against the root that was agreed on.
//!
//! An index only says where to look: nothing is believed but bytes that open with the output key and whose leaves give
//! the agreed root. Who signed the index is for the caller to ask; where the files go, too.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use tradewind_market::{
    Address, Hash32, JobId, RoundId, UnitIndex, document::StoredUnit, geometry::UnitRange,
};
use tradewind_result::{
    ContentDigest, Limits, Outcome, Root, UnitResult,
    leaf::{RootError, Tree, result_root},
    outcome::OutcomeError,
};

use crate::{
    archive::{ArchiveError, Modes, Unpacker},
    client::{ClientError, Download, GatewayClient},
    index::SignedIndex,
    seal::{Opener, OpeningKey, SealError},
};

/// What sealing and the archive's own head may add to an output: a manifest of the files, and 16 bytes for each 64 KiB.
const OVERHEAD_BYTES_PER_FILE: u64 = 8 << 10;
const OVERHEAD_BYTES: u64 = 1 << 20;

/// Why a group's results could not be had from one provider.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
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
    /// An output is no archive within the limits, or could not be written where it goes.
    #[error("the output of unit {unit} cannot be unpacked")]
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
pub struct Wanted {
    /// The job.
    pub job: JobId,
    /// Its round.
    pub round: RoundId,
    /// Its units.
    pub units: UnitRange,
    /// What was agreed on.
    pub root: Hash32,
    /// The job's salt.
    pub salt: Hash32,
    /// What one unit may write.
    pub limits: Limits,
}

/// Where fetched results go.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// Sealed bytes, one unit's at a time, removed again.
    pub scratch: &'a Path,
    /// A directory for each unit, named by its index; none of them may be there.
    pub target: &'a Path,
    /// What may be done with the files.
    pub modes: Modes,
}

/// One unit's checked result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchedUnit {
    /// Which.
    pub unit: UnitIndex,
    /// How its program ended.
    pub outcome: Outcome,
    /// What it wrote.
    pub manifest_digest: ContentDigest,
}

impl FetchedUnit {
    fn result(&self) -> UnitResult {
        UnitResult {
            unit: self.unit.get(),
            outcome: self.outcome,
            digest: self.manifest_digest,
        }
    }
}

/// The directory below `folder` that a unit's files are in.
pub fn unit_directory(folder: &Path, unit: UnitIndex) -> PathBuf {
    folder.join(unit.to_string())
}

/// The most bytes that an output within the limits has when it is sealed.
pub fn sealed_bytes_max(limits: Limits) -> u64 {
    let overhead = limits
        .files
        .saturating_mul(OVERHEAD_BYTES_PER_FILE)
        .saturating_add(OVERHEAD_BYTES);
    limits
        .bytes
        .saturating_add(limits.bytes / 1024)
        .saturating_add(overhead)
}

/// The provider's index of the round. Its signature is not looked at here.
pub async fn get_index(
    gateways: &GatewayClient,
    wanted: &Wanted,
    provider: Address,
) -> Result<SignedIndex, ResultsError> {
    let index = gateways
        .get_index(wanted.round, provider)
        .await?
        .ok_or(ResultsError::NoIndex { provider })?;
    let statement = &index.statement;
    let refuse = |what| Err(ResultsError::Index { provider, what });
    if statement.job_id != wanted.job || statement.round_id != wanted.round || statement.provider != provider
    {
        return refuse("it is of another round or seat");
    }
    if !statement
        .units
        .iter()
        .map(|stored| stored.unit)
        .eq(wanted.units.iter())
    {
        return refuse("it does not list the round's units in order");
    }
    Ok(index)
}

/// Fetches what the index lists. The units are below [`Places::target`] also where their root turns out to be another:
/// they are for the caller to remove then.
pub async fn fetch(
    gateways: &GatewayClient,
    key: &OpeningKey,
    wanted: &Wanted,
    index: &SignedIndex,
    places: Places<'_>,
) -> Result<Vec<FetchedUnit>, ResultsError> {
    let mut units = Vec::with_capacity(index.statement.units.len());
    for stored in &index.statement.units {
        units.push(fetch_unit(gateways, key, wanted.limits, stored, places).await?);
    }
    if is_agreed(wanted, &units)? {
        Ok(units)
    } else {
        Err(ResultsError::OtherRoot {
            provider: index.statement.provider,
        })
    }
}

/// Whether these results, in ascending order, are those that were agreed on.
pub fn is_agreed(wanted: &Wanted, units: &[FetchedUnit]) -> Result<bool, RootError> {
    let results: Vec<UnitResult> = units.iter().map(FetchedUnit::result).collect();
    let root = result_root(Tree::A, wanted.job.as_bytes(), wanted.salt.as_bytes(), &results)?;
    Ok(root == Root::from_bytes(*wanted.root.as_bytes()))
}

async fn fetch_unit(
    gateways: &GatewayClient,
    key: &OpeningKey,
    limits: Limits,
    stored: &StoredUnit,
    places: Places<'_>,
) -> Result<FetchedUnit, ResultsError> {
    let unit = stored.unit;
    let sealed = places.scratch.join(format!("{unit}.sealed"));
    let download = Download {
        digest: ContentDigest::from_bytes(*stored.blob.as_bytes()),
        bytes_max: sealed_bytes_max(limits),
    };
    gateways.get_to_file(download, &sealed).await?;
    let (key, target, modes) = (key.clone(), unit_directory(places.target, unit), places.modes);
    let manifest_digest =
        tokio::task::spawn_blocking(move || open_output(&key, limits, unit, &sealed, &target, modes))
            .await
            .map_err(|_| ResultsError::Interrupted)??;
    Ok(FetchedUnit {
        unit,
        outcome: Outcome::from_code(stored.outcome)?,
        manifest_digest,
    })
}

/// Opens and unpacks one output, and removes the sealed file: disk holds each result once.
fn open_output(
    key: &OpeningKey,
    limits: Limits,
    unit: UnitIndex,
    sealed: &Path,
    target: &Path,
    modes: Modes,
) -> Result<ContentDigest, ResultsError> {
    let archive = |source| ResultsError::Archive { unit, source };
    let file = File::open(sealed).map_err(|source| scratch(sealed, source))?;
    std::fs::create_dir(target).map_err(|source| {
        archive(ArchiveError::Write {
            path: unit.to_string(),
            source,
        })
    })?;
    let opener = Opener::new(key, file).map_err(|source| ResultsError::Seal { unit, source })?;
    let manifest = Unpacker::new(opener, limits, None)
        .map_err(archive)?
        .unpack(target, modes)
        .map_err(archive)?;
    std::fs::remove_file(sealed).map_err(|source| scratch(sealed, source))?;
    Ok(manifest.digest())
}

fn scratch(path: &Path, source: std::io::Error) -> ResultsError {
    ResultsError::Scratch {
        path: path.to_owned(),
        source,
    }
}
