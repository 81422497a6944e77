//! From a taken output to a stored one: digested, sealed, uploaded, each step journalled, so that a restart
//! goes on where it was. An output is sealed once; what is uploaded again is the same bytes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tradewind_gateway_api::archive::{self, ArchiveError};
use tradewind_gateway_api::client::{ClientError, GatewayClient, Spread, Upload};
use tradewind_gateway_api::grant::GrantToken;
use tradewind_gateway_api::seal::{self, Recipient, SealError, Sealer};
use tradewind_gateway_api::slice::{
    AbstainCause, Abstention, OutputNote, ReportRef, SliceReport, UnitReport,
};
use tradewind_market::UnitIndex;
use tradewind_result::stored::StoredDigest;
use tradewind_result::tree::{Access, Fault, TreeReader};
use tradewind_result::{ContentDigest, Hashing, Limits, TreeError};

use crate::journal::Taken;
use crate::volume::Volume;

const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Why an output or report is not stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// The output is no result.
    #[error("the output is refused")]
    Tree(#[from] TreeError),
    /// The output cannot be packed.
    #[error("the output cannot be packed")]
    Archive(#[from] ArchiveError),
    /// It cannot be sealed.
    #[error("it cannot be sealed")]
    Seal(#[from] SealError),
    /// No gateway took it in time.
    #[error("it cannot be stored")]
    Client(#[from] ClientError),
    /// The relay stored other bytes.
    #[error("the relay stored {found} instead of {expected}")]
    OtherBytes {
        /// What was sent.
        expected: ContentDigest,
        /// What the relay says it has.
        found: ContentDigest,
    },
    /// A document cannot be written.
    #[error("a document cannot be written")]
    Json(#[from] serde_json::Error),
    /// The disk refused.
    #[error("the disk refused")]
    Io(#[from] io::Error),
}

impl StoreError {
    /// What the slice gives up for.
    pub(super) fn abstention(&self, unit: Option<u32>) -> Abstention {
        let cause = match self {
            _ if self.is_disk_full() => AbstainCause::OutOfDisk,
            Self::Tree(error) | Self::Archive(ArchiveError::Tree(error)) => match error.fault() {
                Fault::Content | Fault::Limit => AbstainCause::OutputLimit,
                Fault::Machine => AbstainCause::Node,
            },
            Self::Archive(ArchiveError::ManifestSize { .. }) => AbstainCause::OutputLimit,
            Self::Client(ClientError::File { .. })
            | Self::Archive(_)
            | Self::Seal(_)
            | Self::Json(_)
            | Self::Io(_) => AbstainCause::Node,
            Self::Client(_) | Self::OtherBytes { .. } => AbstainCause::Storage,
        };
        Abstention::new(cause, unit.map(UnitIndex::new), crate::report::chain(self))
    }

    fn is_disk_full(&self) -> bool {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = source {
            let errno = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::raw_os_error);
            if errno == Some(Errno::NOSPC.raw_os_error()) || errno == Some(Errno::DQUOT.raw_os_error()) {
                return true;
            }
            source = error.source();
        }
        false
    }
}

/// Passes sealed bytes on to a file and digests them on the way.
struct Digesting {
    file: BufWriter<File>,
    digest: StoredDigest,
}

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Digests a taken output and seals it into a file. Blocks: for a thread of its own.
pub(super) fn seal_output(
    volume: &Volume,
    taken: &Taken,
    limits: Limits,
    reader: &Recipient,
) -> Result<UnitReport, StoreError> {
    let tree = TreeReader::open(&volume.taken(taken.unit), Access::Repair)?;
    // One thread: the pod's CPUs belong to the unit that runs meanwhile.
    let manifest = tree.manifest(limits, Hashing::Streamed)?;
    let note = OutputNote {
        unit: UnitIndex::new(taken.unit),
        outcome: taken.outcome,
        stderr_tail: if taken.outcome.is_success() {
            String::new()
        } else {
            taken.stderr_tail.clone()
        },
    };
    let file = BufWriter::with_capacity(128 * 1024, File::create(volume.sealed(taken.unit))?);
    let mut sealer = Sealer::new(
        std::slice::from_ref(reader),
        Digesting {
            file,
            digest: StoredDigest::new(),
        },
    )?;
    archive::pack(&tree, &manifest, &serde_json::to_vec(&note)?, &mut sealer)?;
    let Digesting { file, digest } = sealer.finish()?;
    file.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()?;
    let (blob, stored_bytes, chunk_root) = digest
        .finish()
        .ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
    Ok(UnitReport {
        unit: UnitIndex::new(taken.unit),
        outcome: taken.outcome,
        manifest_digest: manifest.digest(),
        blob,
        stored_bytes,
        chunk_root,
        millis: taken.millis,
    })
}

/// Seals the report over all units into a file.
pub(super) fn seal_report(
    volume: &Volume,
    report: &SliceReport,
    reader: &Recipient,
) -> Result<ReportRef, StoreError> {
    let plaintext = serde_json::to_vec(report)?;
    let sealed = seal::seal_bytes(std::slice::from_ref(reader), &plaintext)?;
    fs::write(volume.sealed_report(), &sealed)?;
    Ok(ReportRef {
        blob: ContentDigest::of(&sealed),
        stored_bytes: sealed.len() as u64,
        digest: ContentDigest::of(&plaintext),
    })
}

/// Uploads through the relay.
#[derive(Debug, Clone)]
pub(super) struct Uploader {
    pub(super) client: GatewayClient,
    pub(super) token: GrantToken,
    /// How long one upload may be tried.
    pub(super) patience: Duration,
}

impl Uploader {
    /// Stores a sealed file whose digest is known; tries on until the patience ends.
    pub(super) async fn upload(&self, file: &Path, expected: ContentDigest) -> Result<(), StoreError> {
        let upload = Upload {
            grant: &self.token,
            retain_until: None,
            spread: Spread::First,
        };
        let started = Instant::now();
        loop {
            let error = match self.client.put_file(file, &upload).await {
                Ok(written) => {
                    let found = written.first().map(|(_, stat)| stat.digest);
                    return match found {
                        Some(found) if found == expected => Ok(()),
                        Some(found) => Err(StoreError::OtherBytes { expected, found }),
                        None => Err(ClientError::NoGateway.into()),
                    };
                }
                Err(error) => error,
            };
            if !error.passes() || started.elapsed() >= self.patience {
                return Err(error.into());
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}
