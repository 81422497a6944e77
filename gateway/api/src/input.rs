//! Makes an input out of a directory: its manifest, and one file of sealed bytes that only the job's seats open.
//!
//! It stores nothing anywhere; that is for whoever holds the grant.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use tradewind_result::{
    ContentDigest, Limits, TreeError,
    tree::{Hashing, TreeReader},
};

use crate::{
    archive::{self, ArchiveError},
    seal::{Recipient, SealError, Sealer},
};

/// Why a directory makes no input.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The directory cannot be read, or holds what no input may hold.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// It cannot be packed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The file of sealed bytes cannot be written.
    #[error("the file {} cannot be written", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// An input as it lies in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedInput {
    /// Length of the sealed bytes.
    pub bytes: u64,
    /// Digest of the directory's manifest.
    pub manifest_digest: ContentDigest,
}

/// Packs the directory within `limits` and seals it to `reader`, into a new file. Blocks: for a thread of its own.
pub fn seal_directory(
    directory: &TreeReader,
    limits: Limits,
    reader: &Recipient,
    file: &Path,
) -> Result<SealedInput, InputError> {
    let write = |source| InputError::File {
        path: file.to_owned(),
        source,
    };
    let manifest = directory.manifest(limits, Hashing::Streamed)?;
    let output = File::create(file).map_err(write)?;
    let mut sealer = Sealer::new(std::slice::from_ref(reader), BufWriter::new(output))?;
    archive::pack(directory, &manifest, &[], &mut sealer)?;
    let mut output = sealer.finish()?;
    output.flush().map_err(write)?;
    let bytes = output.get_ref().metadata().map_err(write)?.len();
    Ok(SealedInput {
        bytes,
        manifest_digest: manifest.digest(),
    })
}
