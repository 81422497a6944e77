//! What a directory holds, in one canonical form: sorted relative paths, sizes and BLAKE3 digests.
//!
//! Owns the manifest's rules and its bytes; the digest of those bytes is the digest of the directory.
//! It never touches a file: [`crate::tree`] reads directories.
//!
//! Names of empty directories, modes, owners and times are no part of a result: they differ between
//! honest machines.

use std::fmt;

use serde::{Deserialize, Serialize};

/// First bytes of every encoded manifest; the version is part of the digest.
pub const MANIFEST_MAGIC: &[u8] = b"tradewind manifest v1\n";
/// Longest relative path, in bytes. With a mount point before it, it stays far below Linux's `PATH_MAX`.
pub const PATH_BYTES_MAX: usize = 1024;
/// Deepest path, in components. Bounds how many directories are open while a tree is read.
pub const PATH_DEPTH_MAX: usize = 64;
/// Longest component, in bytes: Linux's `NAME_MAX`.
pub const NAME_BYTES_MAX: usize = 255;

/// A 32-byte digest of content, shown as `0x` and lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The BLAKE3 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl From<blake3::Hash> for ContentDigest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ContentDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        crate::digits::parse(&text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

impl std::str::FromStr for ContentDigest {
    type Err = crate::digits::DigitsError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        crate::digits::parse(text).map(Self)
    }
}

/// Why a text is not a path of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing, or nothing between two slashes, or a slash at an end.
    #[error("it has an empty component")]
    EmptyComponent,
    /// A component is `.` or `..`.
    #[error("it has a component that is . or ..")]
    DotComponent,
    /// A component is longer than [`NAME_BYTES_MAX`].
    #[error("a component is longer than {NAME_BYTES_MAX} bytes")]
    LongComponent,
    /// The path is longer than [`PATH_BYTES_MAX`].
    #[error("it is longer than {PATH_BYTES_MAX} bytes")]
    Long,
    /// The path has more than [`PATH_DEPTH_MAX`] components.
    #[error("it is deeper than {PATH_DEPTH_MAX} components")]
    Deep,
    /// A NUL byte.
    #[error("it has a NUL byte")]
    Nul,
}

/// A relative path that stays inside its directory: `/`-separated UTF-8 components, none of them empty,
/// `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RelativePath(String);

impl RelativePath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path's components, the file's name last.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// Every directory that the path goes through, outermost first.
    fn ancestors(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| self.0.split_at(at).0)
    }
}

impl TryFrom<String> for RelativePath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        if text.len() > PATH_BYTES_MAX {
            return Err(PathError::Long);
        }
        if text.contains('\0') {
            return Err(PathError::Nul);
        }
        let mut depth = 0_usize;
        for component in text.split('/') {
            depth += 1;
            match component {
                "" => return Err(PathError::EmptyComponent),
                "." | ".." => return Err(PathError::DotComponent),
                long if long.len() > NAME_BYTES_MAX => return Err(PathError::LongComponent),
                _ => {}
            }
        }
        if depth > PATH_DEPTH_MAX {
            return Err(PathError::Deep);
        }
        Ok(Self(text))
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.escape_debug(), f)
    }
}

impl<'de> Deserialize<'de> for RelativePath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// One regular file of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it is, from the directory.
    pub path: RelativePath,
    /// How long it is, in bytes.
    pub size: u64,
    /// BLAKE3 of its content.
    pub digest: ContentDigest,
}

/// Why entries or bytes are not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The bytes do not start with [`MANIFEST_MAGIC`].
    #[error("not a manifest of a known version")]
    Magic,
    /// The bytes end inside an entry.
    #[error("the manifest ends inside entry {entry}")]
    Truncated {
        /// The entry's index.
        entry: u64,
    },
    /// A path is not UTF-8.
    #[error("the path of entry {entry} is not UTF-8")]
    PathText {
        /// The entry's index.
        entry: u64,
    },
    /// A path breaks a rule.
    #[error("the path of entry {entry} is refused")]
    Path {
        /// The entry's index.
        entry: u64,
        /// Which rule.
        #[source]
        source: PathError,
    },
    /// Paths do not strictly ascend, byte by byte: out of order, or one twice.
    #[error("{path} is out of order or there twice")]
    Order {
        /// The later of the two.
        path: RelativePath,
    },
    /// A path is a file and a directory.
    #[error("{path} is a file, and another path goes through it")]
    FileAndDirectory {
        /// The file.
        path: RelativePath,
    },
    /// More files than the limit.
    #[error("more than {limit} files")]
    Files {
        /// The limit.
        limit: u64,
    },
    /// More bytes than the limit.
    #[error("more than {limit} bytes")]
    Bytes {
        /// The limit.
        limit: u64,
    },
}

/// How much a directory may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Regular files; while a directory is read, directories count too.
    pub files: u64,
    /// Content bytes of all files together.
    pub bytes: u64,
}

/// What a directory holds. Paths strictly ascend, and none is both file and directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Manifest {
    entries: Vec<Entry>,
}

impl Manifest {
    /// From entries in any order.
    pub fn from_entries(mut entries: Vec<Entry>) -> Result<Self, ManifestError> {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Self::from_sorted(entries)
    }

    fn from_sorted(entries: Vec<Entry>) -> Result<Self, ManifestError> {
        for pair in entries.windows(2) {
            if let [before, after] = pair
                && before.path >= after.path
            {
                return Err(ManifestError::Order {
                    path: after.path.clone(),
                });
            }
        }
        for entry in &entries {
            for ancestor in entry.path.ancestors() {
                if let Ok(file) = entries.binary_search_by(|other| other.path.as_str().cmp(ancestor)) {
                    return Err(ManifestError::FileAndDirectory {
                        path: entries[file].path.clone(),
                    });
                }
            }
        }
        Ok(Self { entries })
    }

    /// The files, paths ascending.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Content bytes of all files together, or `None` if they do not fit.
    pub fn content_bytes(&self) -> Option<u64> {
        self.entries
            .iter()
            .try_fold(0_u64, |sum, entry| sum.checked_add(entry.size))
    }

    /// Refuses a manifest of more than `limits`.
    pub fn check(&self, limits: Limits) -> Result<(), ManifestError> {
        if u64::try_from(self.entries.len()).is_ok_and(|files| files > limits.files) {
            return Err(ManifestError::Files { limit: limits.files });
        }
        match self.content_bytes() {
            Some(bytes) if bytes <= limits.bytes => Ok(()),
            _ => Err(ManifestError::Bytes { limit: limits.bytes }),
        }
    }

    /// The canonical bytes: [`MANIFEST_MAGIC`], then per file the path's length (u16), the path, the size
    /// (u64) and the digest, integers big-endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MANIFEST_MAGIC.to_vec();
        for entry in &self.entries {
            let path = entry.path.as_str().as_bytes();
            // A path is at most PATH_BYTES_MAX long, which fits.
            let length = u16::try_from(path.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(path);
            bytes.extend_from_slice(&entry.size.to_be_bytes());
            bytes.extend_from_slice(entry.digest.as_bytes());
        }
        bytes
    }

    /// From canonical bytes; anything that [`Manifest::encode`] would not have written is refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut rest = bytes.strip_prefix(MANIFEST_MAGIC).ok_or(ManifestError::Magic)?;
        let mut entries = Vec::new();
        let mut index = 0_u64;
        while !rest.is_empty() {
            let truncated = ManifestError::Truncated { entry: index };
            let (entry, after) = decode_entry(rest, index)?.ok_or(truncated)?;
            entries.push(entry);
            rest = after;
            index += 1;
        }
        Self::from_sorted(entries)
    }

    /// BLAKE3 of the canonical bytes: the digest of the directory.
    pub fn digest(&self) -> ContentDigest {
        ContentDigest::of(&self.encode())
    }
}

/// One entry and the bytes after it, or `None` if the bytes end inside it.
fn decode_entry(bytes: &[u8], index: u64) -> Result<Option<(Entry, &[u8])>, ManifestError> {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else {
        return Ok(None);
    };
    let Some((path, rest)) = rest.split_at_checked(u16::from_be_bytes(*length).into()) else {
        return Ok(None);
    };
    let Some((size, rest)) = rest.split_first_chunk::<8>() else {
        return Ok(None);
    };
    let Some((digest, rest)) = rest.split_first_chunk::<32>() else {
        return Ok(None);
    };
    let path = std::str::from_utf8(path).map_err(|_| ManifestError::PathText { entry: index })?;
    let path = RelativePath::try_from(path.to_owned())
        .map_err(|source| ManifestError::Path { entry: index, source })?;
    let entry = Entry {
        path,
        size: u64::from_be_bytes(*size),
        digest: ContentDigest::from_bytes(*digest),
    };
    Ok(Some((entry, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(path: &str, content: &[u8]) -> Entry {
        Entry {
            path: path.to_owned().try_into().unwrap(),
            size: content.len() as u64,
            digest: ContentDigest::of(content),
        }
    }

    #[test]
    fn paths_that_could_leave_the_directory_are_refused() {
        let check = |text: &str, expected: PathError| {
            assert_eq!(RelativePath::try_from(text.to_owned()), Err(expected), "{text}");
        };
        check("", PathError::EmptyComponent);
        check("/etc/passwd", PathError::EmptyComponent);
        check("a//b", PathError::EmptyComponent);
        check("a/", PathError::EmptyComponent);
        check(".", PathError::DotComponent);
        check("..", PathError::DotComponent);
        check("a/../../b", PathError::DotComponent);
        check("a\0b", PathError::Nul);
        check(&"n".repeat(256), PathError::LongComponent);
        check(&"n/".repeat(600), PathError::Long);
        check(&format!("{}n", "n/".repeat(64)), PathError::Deep);
        for fine in [
            "...",
            "a b",
            "a\nb",
            "ünï/cödé",
            "-rf",
            &format!("{}n", "n/".repeat(63)),
        ] {
            assert!(RelativePath::try_from(fine.to_owned()).is_ok(), "{fine}");
        }
    }

    #[test]
    fn a_name_cannot_be_file_and_directory() {
        let entries = vec![entry("a", b"1"), entry("a-b", b"2"), entry("a/b", b"3")];
        let path = RelativePath("a".to_owned());
        assert_eq!(
            Manifest::from_entries(entries),
            Err(ManifestError::FileAndDirectory { path })
        );
    }

    #[test]
    fn only_the_canonical_order_is_decoded() {
        let good = Manifest::from_entries(vec![entry("b", b"2"), entry("a", b"1")]).unwrap();
        assert_eq!(Manifest::decode(&good.encode()), Ok(good.clone()));
        let swapped = Manifest {
            entries: good.entries.iter().rev().cloned().collect(),
        };
        assert!(matches!(
            Manifest::decode(&swapped.encode()),
            Err(ManifestError::Order { .. })
        ));
        let twice = Manifest {
            entries: vec![entry("a", b"1"), entry("a", b"1")],
        };
        assert!(matches!(
            Manifest::decode(&twice.encode()),
            Err(ManifestError::Order { .. })
        ));
    }

    #[test]
    fn sizes_that_overflow_are_over_any_limit() {
        let mut huge = vec![entry("a", b"1"), entry("b", b"2")];
        for entry in &mut huge {
            entry.size = u64::MAX;
        }
        let manifest = Manifest::from_entries(huge).unwrap();
        let limits = Limits {
            files: 2,
            bytes: u64::MAX,
        };
        assert_eq!(
            manifest.check(limits),
            Err(ManifestError::Bytes { limit: u64::MAX })
        );
        let limits = Limits {
            files: 1,
            bytes: u64::MAX,
        };
        assert_eq!(manifest.check(limits), Err(ManifestError::Files { limit: 1 }));
    }

    proptest! {
        #[test]
        fn encoding_is_a_bijection(names in prop::collection::btree_set("[a-c]{1,3}(/[a-c]{1,2}){0,2}", 0..12)) {
            let entries: Vec<_> = names.iter().map(|name| entry(name, name.as_bytes())).collect();
            if let Ok(manifest) = Manifest::from_entries(entries) {
                let bytes = manifest.encode();
                prop_assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
                if bytes.len() > MANIFEST_MAGIC.len() {
                    prop_assert!(Manifest::decode(&bytes[..bytes.len() - 1]).is_err());
                }
            }
        }

        #[test]
        fn hostile_bytes_never_panic_and_never_alias(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut encoded = MANIFEST_MAGIC.to_vec();
            encoded.extend_from_slice(&bytes);
            if let Ok(manifest) = Manifest::decode(&encoded) {
                prop_assert_eq!(manifest.encode(), encoded);
            }
        }
    }
}
