//! A directory as one stream of bytes, the same bytes for the same content.
//!
//! Layout, integers big-endian: [`ARCHIVE_MAGIC`]; length (u32) and bytes of a note; length (u64) and bytes
//! of the manifest; the files' bytes in the manifest's order. The note carries what belongs to the
//! directory but not to its digest (a failed unit's last words).
//!
//! Packing and unpacking stream: memory is bounded by the manifest. Packing checks that every file still is
//! what the manifest says; unpacking writes nothing before the manifest is checked and keeps no file whose
//! digest is wrong. It never follows a link, on either side, and knows nothing of encryption.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use tradewind_result::tree::TreeReader;
use tradewind_result::{ContentDigest, Entry, Limits, Manifest, ManifestError, RelativePath, TreeError};

/// First bytes of every archive.
pub const ARCHIVE_MAGIC: &[u8] = b"tradewind archive v1\n";
/// Longest note.
pub const NOTE_BYTES_MAX: u32 = 64 * 1024;
/// Longest manifest: a million files with paths of 80 bytes.
pub const MANIFEST_BYTES_MAX: u64 = 128 << 20;

const COPY_BYTES: usize = 128 * 1024;

/// Why a directory could not be packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes are no archive of a known version.
    #[error("not an archive of a known version")]
    Magic,
    /// The note is longer than [`NOTE_BYTES_MAX`].
    #[error("the archive's note has {bytes} bytes")]
    Note {
        /// How long it says it is.
        bytes: u64,
    },
    /// The manifest is longer than [`MANIFEST_BYTES_MAX`].
    #[error("the archive's manifest has {bytes} bytes")]
    ManifestSize {
        /// How long it says it is.
        bytes: u64,
    },
    /// The manifest breaks a rule or a limit.
    #[error("the archive's manifest is refused")]
    Manifest(#[from] ManifestError),
    /// Not the directory that was asked for.
    #[error("the archive holds {found}, not {expected}")]
    OtherDirectory {
        /// Digest of the directory that was asked for.
        expected: ContentDigest,
        /// Digest of the directory in the archive.
        found: ContentDigest,
    },
    /// A file's bytes are not what the manifest says.
    #[error("{path} is not what the manifest says")]
    Content {
        /// Which file.
        path: RelativePath,
    },
    /// The bytes end early.
    #[error("the archive ends early")]
    Truncated,
    /// There are bytes after the last file.
    #[error("the archive goes on after its last file")]
    Trailing,
    /// A directory to pack cannot be read.
    #[error("the directory cannot be packed")]
    Tree(#[from] TreeError),
    /// A directory or file to unpack cannot be made.
    #[error("cannot write {path}")]
    Write {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The stream that the archive goes to or comes from failed.
    #[error("the archive's stream failed")]
    Stream(#[source] io::Error),
}

impl ArchiveError {
    fn from_read(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Truncated
        } else {
            Self::Stream(error)
        }
    }

    fn write(path: &RelativePath, error: impl Into<io::Error>) -> Self {
        Self::Write {
            path: path.to_string(),
            source: error.into(),
        }
    }
}

/// Writes the directory that `manifest` was made of. A file that has changed since is an error; what was
/// written by then is no archive.
pub fn pack(
    directory: &TreeReader,
    manifest: &Manifest,
    note: &[u8],
    output: &mut impl Write,
) -> Result<(), ArchiveError> {
    let note_length = u32::try_from(note.len())
        .ok()
        .filter(|length| *length <= NOTE_BYTES_MAX);
    let note_length = note_length.ok_or(ArchiveError::Note {
        bytes: note.len() as u64,
    })?;
    let encoded = manifest.encode();
    let manifest_length = encoded.len() as u64;
    if manifest_length > MANIFEST_BYTES_MAX {
        return Err(ArchiveError::ManifestSize {
            bytes: manifest_length,
        });
    }
    let head: [&[u8]; 5] = [
        ARCHIVE_MAGIC,
        &note_length.to_be_bytes(),
        note,
        &manifest_length.to_be_bytes(),
        &encoded,
    ];
    for part in head {
        output.write_all(part).map_err(ArchiveError::Stream)?;
    }
    let mut buffer = vec![0; COPY_BYTES];
    for entry in manifest.entries() {
        let mut file = directory.open_file(&entry.path)?;
        copy_exactly(&mut file, output, entry, &mut buffer, &mut |error| {
            error.into_read(entry)
        })?;
        let mut more = [0];
        if file.read(&mut more).map_err(ArchiveError::Stream)? != 0 {
            return Err(ArchiveError::Content {
                path: entry.path.clone(),
            });
        }
    }
    Ok(())
}

/// Which side of a copy failed.
enum CopyError {
    Source(io::Error),
    Target(io::Error),
    Early,
}

impl CopyError {
    /// When a file goes into an archive.
    fn into_read(self, entry: &Entry) -> ArchiveError {
        match self {
            Self::Source(source) => TreeError::Io {
                path: entry.path.to_string(),
                source,
            }
            .into(),
            Self::Target(error) => ArchiveError::Stream(error),
            Self::Early => ArchiveError::Content {
                path: entry.path.clone(),
            },
        }
    }

    /// When a file comes out of an archive.
    fn into_write(self, entry: &Entry) -> ArchiveError {
        match self {
            Self::Source(error) => ArchiveError::from_read(error),
            Self::Target(error) => ArchiveError::write(&entry.path, error),
            Self::Early => ArchiveError::Truncated,
        }
    }
}

/// Copies an entry's bytes and checks them on the way.
fn copy_exactly(
    source: &mut impl Read,
    target: &mut impl Write,
    entry: &Entry,
    buffer: &mut [u8],
    explain: &mut dyn FnMut(CopyError) -> ArchiveError,
) -> Result<(), ArchiveError> {
    let mut hasher = blake3::Hasher::new();
    let mut left = entry.size;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let part = buffer.get_mut(..most).unwrap_or_default();
        let read = match source.read(part) {
            Ok(0) => return Err(explain(CopyError::Early)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(explain(CopyError::Source(error))),
        };
        let part = part.get(..read).unwrap_or_default();
        hasher.update(part);
        target
            .write_all(part)
            .map_err(|error| explain(CopyError::Target(error)))?;
        left -= read as u64;
    }
    if ContentDigest::from(hasher.finalize()) != entry.digest {
        return Err(ArchiveError::Content {
            path: entry.path.clone(),
        });
    }
    Ok(())
}

/// What an archive says of itself, checked, before any file is read.
#[derive(Debug)]
pub struct Unpacker<R> {
    input: R,
    note: Vec<u8>,
    manifest: Manifest,
}

impl<R: Read> Unpacker<R> {
    /// Reads note and manifest; refuses a manifest over `limits` or, where one is `expected`, another
    /// directory than that.
    pub fn new(mut input: R, limits: Limits, expected: Option<ContentDigest>) -> Result<Self, ArchiveError> {
        let magic = read_bytes(&mut input, ARCHIVE_MAGIC.len() as u64)?;
        if magic != ARCHIVE_MAGIC {
            return Err(ArchiveError::Magic);
        }
        let mut length = [0; 4];
        input.read_exact(&mut length).map_err(ArchiveError::from_read)?;
        let note_length = u32::from_be_bytes(length);
        if note_length > NOTE_BYTES_MAX {
            return Err(ArchiveError::Note {
                bytes: note_length.into(),
            });
        }
        let note = read_bytes(&mut input, note_length.into())?;
        let mut length = [0; 8];
        input.read_exact(&mut length).map_err(ArchiveError::from_read)?;
        let manifest_length = u64::from_be_bytes(length);
        if manifest_length > MANIFEST_BYTES_MAX {
            return Err(ArchiveError::ManifestSize {
                bytes: manifest_length,
            });
        }
        let encoded = read_bytes(&mut input, manifest_length)?;
        let found = ContentDigest::of(&encoded);
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(ArchiveError::OtherDirectory { expected, found });
        }
        let manifest = Manifest::decode(&encoded)?;
        manifest.check(limits)?;
        Ok(Self {
            input,
            note,
            manifest,
        })
    }

    /// What the directory holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The note.
    pub fn note(&self) -> &[u8] {
        &self.note
    }

    /// Writes the files into `directory`, which must exist, be no link, and hold none of their names. Every file and
    /// directory gets its mode once it is whole.
    pub fn unpack(mut self, directory: &Path, modes: Modes) -> Result<Manifest, ArchiveError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, directory, flags, Mode::empty()).map_err(|error| {
            ArchiveError::Write {
                path: directory.display().to_string(),
                source: error.into(),
            }
        })?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut target = Target {
            root,
            modes,
            directories: Vec::new(),
        };
        for entry in self.manifest.entries() {
            let mut file = target.create(&entry.path)?;
            copy_exactly(&mut self.input, &mut file, entry, &mut buffer, &mut |error| {
                error.into_write(entry)
            })?;
            rustix::fs::fchmod(&file, modes.of_files())
                .map_err(|error| ArchiveError::write(&entry.path, error))?;
        }
        target.close()?;
        self.require_end()?;
        Ok(self.manifest)
    }

    /// Reads on to the end and checks every file's digest, keeping nothing.
    pub fn check(mut self) -> Result<Manifest, ArchiveError> {
        let mut buffer = vec![0; COPY_BYTES];
        for entry in self.manifest.entries() {
            copy_exactly(
                &mut self.input,
                &mut io::sink(),
                entry,
                &mut buffer,
                &mut |error| error.into_write(entry),
            )?;
        }
        self.require_end()?;
        Ok(self.manifest)
    }

    fn require_end(&mut self) -> Result<(), ArchiveError> {
        let mut more = [0];
        match self.input.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(ArchiveError::Trailing),
            Err(error) => Err(ArchiveError::from_read(error)),
        }
    }
}

/// Who may do what with the files that are unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modes {
    /// r-xr-xr-x for all: inputs are read-only, and a script among them can be run.
    ReadOnly,
    /// rw-r--r-- for files and rwxr-xr-x for directories, as files of a user's own are.
    OwnersOwn,
}

impl Modes {
    fn of_files(self) -> Mode {
        match self {
            Self::ReadOnly => READ_AND_RUN,
            Self::OwnersOwn => Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH,
        }
    }

    fn of_directories(self) -> Mode {
        match self {
            Self::ReadOnly => READ_AND_RUN,
            Self::OwnersOwn => READ_AND_RUN | Mode::WUSR,
        }
    }
}

const READ_AND_RUN: Mode = Mode::RUSR
    .union(Mode::XUSR)
    .union(Mode::RGRP)
    .union(Mode::XGRP)
    .union(Mode::ROTH)
    .union(Mode::XOTH);

/// Exactly `length` bytes, in memory that grows only as they arrive.
fn read_bytes(input: &mut impl Read, length: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::new();
    input
        .take(length)
        .read_to_end(&mut bytes)
        .map_err(ArchiveError::from_read)?;
    if bytes.len() as u64 != length {
        return Err(ArchiveError::Truncated);
    }
    Ok(bytes)
}

/// The directory being filled. Paths ascend, so the open directories are always those above the last file.
struct Target {
    root: OwnedFd,
    modes: Modes,
    directories: Vec<(String, OwnedFd)>,
}

impl Target {
    /// Creates a file that was not there, and the directories above it.
    fn create(&mut self, path: &RelativePath) -> Result<File, ArchiveError> {
        let components: Vec<&str> = path.components().collect();
        let Some((name, above)) = components.split_last() else {
            return Err(ArchiveError::write(path, Errno::INVAL));
        };
        let shared = self
            .directories
            .iter()
            .zip(above)
            .take_while(|((open, _), wanted)| open == *wanted)
            .count();
        self.leave(shared)?;
        for component in above.iter().skip(shared) {
            let at = self.current();
            match rustix::fs::mkdirat(at, *component, Mode::RWXU) {
                // A directory that an earlier path went through: paths ascend, but "a/b" and "a/c" may have
                // "a-b" between them.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(ArchiveError::write(path, error)),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(at, *component, flags, Mode::empty())
                .and_then(|opened| rustix::fs::fchmod(&opened, Mode::RWXU).map(|()| opened))
                .map_err(|error| ArchiveError::write(path, error))?;
            self.directories.push(((*component).to_owned(), opened));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(self.current(), *name, flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(|error| ArchiveError::write(path, error))
    }

    fn current(&self) -> std::os::fd::BorrowedFd<'_> {
        self.directories
            .last()
            .map_or(self.root.as_fd(), |(_, fd)| fd.as_fd())
    }

    /// Closes all but the first `keep` directories, now with their final modes.
    fn leave(&mut self, keep: usize) -> Result<(), ArchiveError> {
        for (name, directory) in self.directories.drain(keep..).rev() {
            rustix::fs::fchmod(&directory, self.modes.of_directories()).map_err(|error| {
                ArchiveError::Write {
                    path: name,
                    source: error.into(),
                }
            })?;
        }
        Ok(())
    }

    fn close(mut self) -> Result<(), ArchiveError> {
        self.leave(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use tradewind_result::Hashing;
    use tradewind_result::tree::Access;

    const LIMITS: Limits = Limits {
        files: 1000,
        bytes: 1 << 24,
    };

    fn packed(files: &BTreeMap<String, Vec<u8>>, note: &[u8]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            fs::write(dir.path().join(path), content).unwrap();
        }
        let reader = TreeReader::open(dir.path(), Access::AsIs).unwrap();
        let manifest = reader.manifest(LIMITS, Hashing::Streamed).unwrap();
        let mut archive = Vec::new();
        pack(&reader, &manifest, note, &mut archive).unwrap();
        archive
    }

    fn one_file() -> BTreeMap<String, Vec<u8>> {
        BTreeMap::from([("a".to_owned(), b"content".to_vec())])
    }

    #[test]
    fn a_file_that_changed_after_its_manifest_is_not_packed() {
        let check = |change: fn(&Path)| {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("a"), "content").unwrap();
            let reader = TreeReader::open(dir.path(), Access::AsIs).unwrap();
            let manifest = reader.manifest(LIMITS, Hashing::Streamed).unwrap();
            change(&dir.path().join("a"));
            assert!(pack(&reader, &manifest, b"", &mut io::sink()).is_err());
        };
        check(|a| fs::write(a, "CONTENT").unwrap());
        check(|a| fs::write(a, "cont").unwrap());
        check(|a| fs::write(a, "content and more").unwrap());
        check(|a| fs::remove_file(a).unwrap());
        check(|a| {
            fs::rename(a, a.with_file_name("b")).unwrap();
            symlink("b", a).unwrap();
        });
    }

    #[test]
    fn hostile_archives_are_refused_before_a_file_is_written() {
        let good = packed(&one_file(), b"note");
        let check = |bytes: &[u8], limits: Limits, expected: fn(&ArchiveError) -> bool| {
            let error = Unpacker::new(bytes, limits, None).unwrap_err();
            assert!(expected(&error), "{error:?}");
        };
        check(b"PK\x03\x04", LIMITS, |e| matches!(e, ArchiveError::Truncated));
        check(&b"x".repeat(100), LIMITS, |e| matches!(e, ArchiveError::Magic));
        check(&good, Limits { files: 0, bytes: 100 }, |e| {
            matches!(e, ArchiveError::Manifest(_))
        });
        check(&good, Limits { files: 1, bytes: 6 }, |e| {
            matches!(e, ArchiveError::Manifest(_))
        });
        let huge = [ARCHIVE_MAGIC, &u32::MAX.to_be_bytes()].concat();
        check(&huge, LIMITS, |e| matches!(e, ArchiveError::Note { .. }));
        let huge = [ARCHIVE_MAGIC, &[0; 4], &u64::MAX.to_be_bytes()].concat();
        check(&huge, LIMITS, |e| matches!(e, ArchiveError::ManifestSize { .. }));
        let other = Unpacker::new(&good[..], LIMITS, Some(ContentDigest::of(b"other"))).unwrap_err();
        assert!(matches!(other, ArchiveError::OtherDirectory { .. }));
    }

    #[test]
    fn files_never_go_through_a_link_or_over_another_file() {
        let archive = packed(&BTreeMap::from([("d/a".to_owned(), b"new".to_vec())]), b"");
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("d")).unwrap();
        let unpacker = Unpacker::new(&archive[..], LIMITS, None).unwrap();
        assert!(matches!(
            unpacker.unpack(dir.path(), Modes::ReadOnly),
            Err(ArchiveError::Write { .. })
        ));
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn bytes_after_the_last_file_are_refused() {
        let mut archive = packed(&one_file(), b"");
        archive.push(0);
        assert!(matches!(
            Unpacker::new(&archive[..], LIMITS, None).unwrap().check(),
            Err(ArchiveError::Trailing)
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_was_packed_comes_out_and_any_damage_is_noticed(
            files in prop::collection::btree_map("([a-c-]{1,2}/){0,3}[a-c]{1,2}\\.f", prop::collection::vec(any::<u8>(), 0..3000), 0..10),
            note in prop::collection::vec(any::<u8>(), 0..50), at in any::<prop::sample::Index>(), cut in any::<bool>()
        ) {
            let archive = packed(&files, &note);
            prop_assert_eq!(&archive, &packed(&files, &note));
            let dir = tempfile::tempdir().unwrap();
            let unpacker = Unpacker::new(&archive[..], LIMITS, None).unwrap();
            prop_assert_eq!(unpacker.note(), &note[..]);
            let manifest = unpacker.unpack(dir.path(), Modes::ReadOnly).unwrap();
            prop_assert_eq!(manifest.entries().len(), files.len());
            for (path, content) in &files {
                let path = dir.path().join(path);
                prop_assert_eq!(&fs::read(&path).unwrap(), content);
                prop_assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o222, 0);
            }
            let mut damaged = archive.clone();
            if cut {
                damaged.truncate(at.index(archive.len()));
            } else {
                damaged[at.index(archive.len())] ^= 1;
            }
            // A changed note is the one thing the digests do not cover: encryption does.
            let noticed = match Unpacker::new(&damaged[..], LIMITS, Some(manifest.digest())) {
                Ok(unpacker) => unpacker.note() != note || unpacker.check().is_err(),
                Err(_) => true,
            };
            prop_assert!(noticed);
        }
    }
}
