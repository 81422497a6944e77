//! The claim's volume: opened directory by directory, following no link, because anybody in the namespace may have
//! written there. Owns the way in; what is done inside belongs to export and import.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::Failure;

/// What is done about a directory that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// It is made.
    Make,
    /// It is an error.
    Refuse,
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The directory that the job names, or the volume's root.
pub(super) fn open(root: &Path, sub_path: Option<&str>, absent: Absent) -> Result<OwnedFd, Failure> {
    let at = |path: &str, error: Errno| Failure::of_volume(path, &error.into());
    let mut directory =
        rustix::fs::openat(CWD, root, DIRECTORY, Mode::empty()).map_err(|error| at("/", error))?;
    let sub_path = sub_path.unwrap_or_default();
    for component in sub_path.split('/').filter(|component| !component.is_empty()) {
        if matches!(component, "." | "..") {
            return Err(at(sub_path, Errno::NOTDIR));
        }
        if absent == Absent::Make {
            make(directory.as_fd(), component).map_err(|error| at(sub_path, error))?;
        }
        directory = open_at(directory.as_fd(), component).map_err(|error| at(sub_path, error))?;
    }
    Ok(directory)
}

/// Opens a directory of the directory, unless it is a link.
pub(super) fn open_at(directory: BorrowedFd<'_>, name: impl AsRef<OsStr>) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(directory, name.as_ref(), DIRECTORY, Mode::empty())
}

/// Makes a directory, or finds that there is something of its name.
pub(super) fn make(directory: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    match rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A path to the open directory itself, whatever has become of its name.
pub(super) fn path_of(directory: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", directory.as_raw_fd()).into()
}
