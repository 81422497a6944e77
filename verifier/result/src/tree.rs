//! Reading a directory that a stranger wrote.
//!
//! Every step goes from an open directory to a name in it, never following a link, so that a tree that
//! changes while it is read can make the reading fail, but can never make it leave the directory. Refused:
//! symlinks, devices, sockets, pipes, names that are not UTF-8, paths over the manifest's bounds, files that
//! have a further name outside the directory, and more than the limits.
//!
//! It never follows a link, never opens anything but directories and regular files, and writes nothing,
//! except modes where [`Access::Repair`] asks for it.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::manifest::{ContentDigest, Entry, Limits, Manifest, ManifestError, PathError, RelativePath};

/// Files from this size on are mapped: below it, reading is faster. It is where b3sum's own code draws the line.
const MAP_BYTES_MIN: u64 = 16 * 1024;
/// Read at a time when a file is not mapped; small enough for the L2 cache, large enough for BLAKE3's widest kernel.
const READ_BYTES: usize = 256 * 1024;

/// How file content is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hashing {
    /// Mapped into memory, by all cores. Only where nobody can cut a file short meanwhile: that would end
    /// the process with SIGBUS.
    Mapped,
    /// Read in pieces, by this thread. Safe whatever happens to the files.
    Streamed,
}

/// What is done about a mode that keeps the owner from reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It is an error.
    AsIs,
    /// The mode is changed so that the owner can read. Only for trees that we own and will delete.
    Repair,
}

/// Why a directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A symbolic link.
    #[error("{path} is a symbolic link")]
    Symlink {
        /// Where, for people: not always a valid path of a manifest.
        path: String,
    },
    /// A device, socket or pipe.
    #[error("{path} is neither a file nor a directory")]
    Special {
        /// Where.
        path: String,
    },
    /// A file that has a name outside the directory, too: it could change through that.
    #[error("{path} has another name outside the directory")]
    HardLink {
        /// Where.
        path: String,
    },
    /// A name that is not UTF-8.
    #[error("{path} is not UTF-8")]
    NameText {
        /// Where, with replacement characters.
        path: String,
    },
    /// A path that no manifest may hold.
    #[error("{path} is refused")]
    Path {
        /// Where.
        path: String,
        /// Which rule it breaks.
        #[source]
        source: PathError,
    },
    /// More files and directories than the limit.
    #[error("more than {limit} files and directories")]
    Files {
        /// The limit.
        limit: u64,
    },
    /// More content than the limit.
    #[error("more than {limit} bytes")]
    Bytes {
        /// The limit.
        limit: u64,
    },
    /// The file was not the same at the end of its reading as at the start.
    #[error("{path} changed while it was read")]
    Changed {
        /// Where.
        path: String,
    },
    /// The paths read make no manifest.
    #[error("the directory makes no manifest")]
    Manifest(#[from] ManifestError),
    /// The system refused.
    #[error("cannot read {path}")]
    Io {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The content breaks a rule: on every machine alike.
    Content,
    /// The content is more than was allowed: on every machine alike.
    Limit,
    /// This machine could not read it, or something wrote to it meanwhile.
    Machine,
}

impl TreeError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Symlink { .. }
            | Self::Special { .. }
            | Self::HardLink { .. }
            | Self::NameText { .. }
            | Self::Path { .. }
            | Self::Manifest(_) => Fault::Content,
            Self::Files { .. } | Self::Bytes { .. } => Fault::Limit,
            Self::Changed { .. } | Self::Io { .. } => Fault::Machine,
        }
    }

    fn io(path: &str, source: impl Into<io::Error>) -> Self {
        Self::Io {
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

/// An open directory that is read as a tree.
#[derive(Debug)]
pub struct TreeReader {
    root: OwnedFd,
    access: Access,
}

/// The manifest of the directory at `path`, within `limits`.
pub fn read_tree(path: &Path, limits: Limits, hashing: Hashing) -> Result<Manifest, TreeError> {
    TreeReader::open(path, Access::AsIs)?.manifest(limits, hashing)
}

impl TreeReader {
    /// Opens the directory. A link at `path` itself is followed: it is the caller's choice of directory.
    pub fn open(path: &Path, access: Access) -> Result<Self, TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|error| TreeError::io(&path.display().to_string(), error))?;
        Ok(Self { root, access })
    }

    /// Reads the whole directory.
    pub fn manifest(&self, limits: Limits, hashing: Hashing) -> Result<Manifest, TreeError> {
        let mut walk = Walk {
            limits,
            hashing,
            access: self.access,
            seen: 0,
            bytes: 0,
            entries: Vec::new(),
            links: HashMap::new(),
            buffer: Vec::new(),
        };
        walk.run(self.root.as_fd())?;
        Ok(Manifest::from_entries(walk.entries)?)
    }

    /// Opens one file of the directory, component by component, following no link.
    pub fn open_file(&self, path: &RelativePath) -> Result<File, TreeError> {
        let mut directory: Option<OwnedFd> = None;
        let mut components = path.components().peekable();
        while let Some(component) = components.next() {
            let at = directory.as_ref().map_or(self.root.as_fd(), |fd| fd.as_fd());
            let flags = if components.peek().is_some() {
                OFlags::DIRECTORY
            } else {
                OFlags::NONBLOCK
            };
            let opened = open_repaired(at, component, flags, self.access)
                .map_err(|error| open_error(path.as_str(), error))?;
            directory = Some(opened);
        }
        let file = directory.ok_or_else(|| TreeError::io(path.as_str(), Errno::NOENT))?;
        let stat = rustix::fs::fstat(&file).map_err(|error| TreeError::io(path.as_str(), error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(TreeError::Special {
                path: path.to_string(),
            });
        }
        Ok(File::from(file))
    }
}

fn open_error(path: &str, error: Errno) -> TreeError {
    match error {
        Errno::LOOP => TreeError::Symlink {
            path: path.to_owned(),
        },
        other => TreeError::io(path, other),
    }
}

/// Opens `name` in `at` for reading without following a link; mends its mode if asked to.
fn open_repaired<Name: rustix::path::Arg + Copy>(
    at: BorrowedFd<'_>,
    name: Name,
    flags: OFlags,
    access: Access,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(at, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) if access == Access::Repair => {
            let handle = rustix::fs::openat(
                at,
                name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            match FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode) {
                FileType::RegularFile | FileType::Directory => {
                    rustix::fs::chmod(proc_path(handle.as_fd()), Mode::RWXU)?;
                    rustix::fs::openat(at, name, flags, Mode::empty())
                }
                _ => Err(Errno::ACCESS),
            }
        }
        other => other,
    }
}

/// A path that names the open file itself, whatever has become of its name.
fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// One directory on the way down.
struct Level {
    directory: OwnedFd,
    /// Path from the root, empty for the root.
    prefix: String,
    names: std::vec::IntoIter<CString>,
}

fn path_of(prefix: &str, name: &CStr) -> Result<RelativePath, TreeError> {
    let name = name.to_str().map_err(|_| TreeError::NameText {
        path: format!("{prefix}/{}", name.to_string_lossy())
            .escape_debug()
            .to_string(),
    })?;
    let text = if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}/{name}")
    };
    RelativePath::try_from(text.clone()).map_err(|source| TreeError::Path {
        path: text.escape_debug().to_string(),
        source,
    })
}

struct Walk {
    limits: Limits,
    hashing: Hashing,
    access: Access,
    seen: u64,
    bytes: u64,
    entries: Vec<Entry>,
    /// Files with several names: how many the file system counts, how many were met, and one of them.
    links: HashMap<(u64, u64), (u64, u64, String)>,
    buffer: Vec<u8>,
}

impl Walk {
    fn run(&mut self, root: BorrowedFd<'_>) -> Result<(), TreeError> {
        let directory = rustix::fs::openat(
            root,
            ".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| TreeError::io(".", error))?;
        let mut levels = vec![self.enter(directory, String::new())?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            let path = path_of(&level.prefix, &name)?;
            let stat = rustix::fs::statat(&level.directory, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| TreeError::io(path.as_str(), error))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let opened =
                        open_repaired(level.directory.as_fd(), &*name, OFlags::DIRECTORY, self.access)
                            .map_err(|error| open_error(path.as_str(), error))?;
                    levels.push(self.enter(opened, path.as_str().to_owned())?);
                }
                FileType::RegularFile => {
                    // Checked again on the open file: the name may have been given to another meanwhile.
                    let opened =
                        open_repaired(level.directory.as_fd(), &*name, OFlags::NONBLOCK, self.access)
                            .map_err(|error| open_error(path.as_str(), error))?;
                    self.file(path, opened)?;
                }
                FileType::Symlink => {
                    return Err(TreeError::Symlink {
                        path: path.to_string(),
                    });
                }
                _ => {
                    return Err(TreeError::Special {
                        path: path.to_string(),
                    });
                }
            }
        }
        self.require_all_links_inside()
    }

    fn enter(&mut self, directory: OwnedFd, prefix: String) -> Result<Level, TreeError> {
        let mut names = Vec::new();
        let entries = Dir::read_from(&directory).map_err(|error| TreeError::io(&prefix, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| TreeError::io(&prefix, error))?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            self.seen += 1;
            if self.seen > self.limits.files {
                return Err(TreeError::Files {
                    limit: self.limits.files,
                });
            }
            names.push(entry.file_name().to_owned());
        }
        Ok(Level {
            directory,
            prefix,
            names: names.into_iter(),
        })
    }

    fn file(&mut self, path: RelativePath, opened: OwnedFd) -> Result<(), TreeError> {
        let stat = rustix::fs::fstat(&opened).map_err(|error| TreeError::io(path.as_str(), error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(TreeError::Special {
                path: path.to_string(),
            });
        }
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        // Before any byte is read: a sparse file costs its writer nothing.
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.bytes {
            return Err(TreeError::Bytes {
                limit: self.limits.bytes,
            });
        }
        self.note_links(&path, &stat);
        let digest = self.hash(&path, opened, size)?;
        self.entries.push(Entry { path, size, digest });
        Ok(())
    }

    fn note_links(&mut self, path: &RelativePath, stat: &Stat) {
        let names = stat.st_nlink;
        if names > 1 {
            let met = self
                .links
                .entry((stat.st_dev, stat.st_ino))
                .or_insert((names, 0, path.to_string()));
            met.1 += 1;
        }
    }

    fn require_all_links_inside(&self) -> Result<(), TreeError> {
        match self.links.values().find(|(names, met, _)| names != met) {
            Some((_, _, path)) => Err(TreeError::HardLink { path: path.clone() }),
            None => Ok(()),
        }
    }

    fn hash(&mut self, path: &RelativePath, opened: OwnedFd, size: u64) -> Result<ContentDigest, TreeError> {
        let mut hasher = blake3::Hasher::new();
        if self.hashing == Hashing::Mapped && size >= MAP_BYTES_MIN {
            hasher
                .update_mmap_rayon(proc_path(opened.as_fd()))
                .map_err(|error| TreeError::io(path.as_str(), error))?;
        } else {
            // One byte more than the size is asked for, so that a file that grew is noticed.
            let mut file = File::from(opened).take(size.saturating_add(1));
            self.buffer.resize(READ_BYTES, 0);
            loop {
                match file.read(&mut self.buffer) {
                    Ok(0) => break,
                    Ok(read) => hasher.update(self.buffer.get(..read).unwrap_or_default()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(TreeError::io(path.as_str(), error)),
                };
            }
        }
        if hasher.count() != size {
            return Err(TreeError::Changed {
                path: path.to_string(),
            });
        }
        Ok(hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    const LIMITS: Limits = Limits {
        files: 100,
        bytes: 1 << 20,
    };

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn check_refused(limits: Limits, build: impl Fn(&Path), expected: impl Fn(&TreeError) -> bool) {
        let dir = directory();
        build(dir.path());
        for hashing in [Hashing::Streamed, Hashing::Mapped] {
            let error = read_tree(dir.path(), limits, hashing).unwrap_err();
            assert!(expected(&error), "{error:?}");
        }
    }

    #[test]
    fn whatever_could_lead_out_of_the_directory_is_refused() {
        use TreeError as E;
        let secret = directory();
        fs::write(secret.path().join("grant"), "secret").unwrap();
        let grant = secret.path().join("grant");
        check_refused(
            LIMITS,
            |d| symlink(&grant, d.join("a")).unwrap(),
            |e| matches!(e, E::Symlink { .. }),
        );
        check_refused(
            LIMITS,
            |d| symlink(secret.path(), d.join("a")).unwrap(),
            |e| matches!(e, E::Symlink { .. }),
        );
        check_refused(
            LIMITS,
            |d| symlink("nowhere", d.join("a")).unwrap(),
            |e| matches!(e, E::Symlink { .. }),
        );
        check_refused(
            LIMITS,
            |d| fs::hard_link(&grant, d.join("a")).unwrap(),
            |e| matches!(e, E::HardLink { .. }),
        );
        let fifo = |d: &Path| {
            rustix::fs::mknodat(CWD, d.join("a"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        };
        check_refused(LIMITS, fifo, |e| matches!(e, E::Special { .. }));
        let socket = |d: &Path| drop(std::os::unix::net::UnixListener::bind(d.join("a")).unwrap());
        check_refused(LIMITS, socket, |e| matches!(e, E::Special { .. }));
    }

    #[test]
    fn limits_hold_before_anything_is_read() {
        use TreeError as E;
        let sparse = |d: &Path| fs::File::create(d.join("a")).unwrap().set_len(1 << 40).unwrap();
        check_refused(LIMITS, sparse, |e| matches!(e, E::Bytes { .. }));
        let many = |d: &Path| (0..101).for_each(|i| fs::create_dir(d.join(i.to_string())).unwrap());
        check_refused(LIMITS, many, |e| matches!(e, E::Files { limit: 100 }));
        let deep = |d: &Path| fs::create_dir_all(d.join("a/".repeat(65))).unwrap();
        check_refused(LIMITS, deep, |e| {
            matches!(
                e,
                E::Path {
                    source: PathError::Deep,
                    ..
                }
            )
        });
        let bytes = |d: &Path| {
            use std::os::unix::ffi::OsStrExt as _;
            fs::write(d.join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        };
        check_refused(LIMITS, bytes, |e| matches!(e, E::NameText { .. }));
    }

    #[test]
    fn hard_links_that_stay_inside_are_two_files() {
        let dir = directory();
        fs::write(dir.path().join("a"), "same").unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        let manifest = read_tree(dir.path(), LIMITS, Hashing::Streamed).unwrap();
        assert_eq!(manifest.entries().len(), 2);
    }

    #[test]
    fn empty_directories_modes_and_times_are_no_part_of_a_result() {
        let (one, two) = (directory(), directory());
        fs::write(one.path().join("a"), "x").unwrap();
        fs::write(two.path().join("a"), "x").unwrap();
        fs::create_dir(two.path().join("empty")).unwrap();
        fs::set_permissions(two.path().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        let digest = |d: &tempfile::TempDir| read_tree(d.path(), LIMITS, Hashing::Streamed).unwrap().digest();
        assert_eq!(digest(&one), digest(&two));
    }

    #[test]
    fn files_are_opened_without_following_links() {
        let dir = directory();
        fs::create_dir(dir.path().join("real")).unwrap();
        fs::write(dir.path().join("real/a"), "x").unwrap();
        symlink("real", dir.path().join("link")).unwrap();
        let reader = TreeReader::open(dir.path(), Access::AsIs).unwrap();
        let open = |path: &str| reader.open_file(&path.to_owned().try_into().unwrap());
        assert!(open("real/a").is_ok());
        assert!(open("link/a").is_err());
        assert!(open("real").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_digest_depends_on_content_alone(
            files in prop::collection::btree_map("([a-d]{1,2}/){0,2}[a-d]{1,2}\\.f", prop::collection::vec(any::<u8>(), 0..40_000), 0..8),
            seed in any::<u64>()
        ) {
            let mut order: Vec<_> = files.iter().collect();
            let rotate = usize::try_from(seed % 8).unwrap();
            let (one, two) = (directory(), directory());
            let write = |root: &Path, order: &[(&String, &Vec<u8>)]| {
                for (path, content) in order {
                    fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
                    fs::write(root.join(path), content).unwrap();
                }
            };
            write(one.path(), &order);
            order.reverse();
            let middle = rotate.min(order.len());
            order.rotate_left(middle);
            write(two.path(), &order);
            let limits = Limits { files: 1000, bytes: 1 << 30 };
            let streamed = read_tree(one.path(), limits, Hashing::Streamed).unwrap();
            prop_assert_eq!(&streamed, &read_tree(two.path(), limits, Hashing::Mapped).unwrap());
            for (path, content) in &files {
                let entry = streamed.entries().iter().find(|entry| entry.path.as_str() == path).unwrap();
                prop_assert_eq!((entry.size, entry.digest), (content.len() as u64, ContentDigest::of(content)));
            }
        }
    }
}
