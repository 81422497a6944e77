//! Emptying directories that a unit could write, whatever it left there.
//!
//! Works on what nobody else can reach or run beside. Needs two open directories and one batch of names, however deep and
//! wide the tree is: what lies deeper than two levels is moved up first.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

const NAMES_BATCH: usize = 4096;

/// Removes everything in the directory at `path`, and what else of it could carry a message: mode and
/// extended attributes. A directory that is not there is empty.
pub(crate) fn clear(path: &Path) -> io::Result<()> {
    let root = match open(CWD, path) {
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ACCESS) => {
            rustix::fs::chmod(path, Mode::RWXU)?;
            open(CWD, path)?
        }
        other => other?,
    };
    if rustix::fs::fstat(&root)?.st_uid == rustix::process::geteuid().as_raw() {
        rustix::fs::fchmod(&root, Mode::RWXU)?;
        remove_attributes(root.as_fd())?;
    }
    empty(root.as_fd())
}

fn open<P: rustix::path::Arg>(at: BorrowedFd<'_>, name: P) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// An access list would even change how the next unit's files are made.
fn remove_attributes(directory: BorrowedFd<'_>) -> io::Result<()> {
    let mut list = vec![0_u8; 64 * 1024];
    let length = match rustix::fs::flistxattr(directory, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let names = list.get(..length).unwrap_or_default().split(|byte| *byte == 0);
    let ours = names.filter(|name| name.starts_with(b"user.") || name.starts_with(b"system.posix_acl"));
    for name in ours {
        match rustix::fs::fremovexattr(directory, name) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn names(directory: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
        if names.len() == NAMES_BATCH {
            break;
        }
    }
    Ok(names)
}

fn empty(root: BorrowedFd<'_>) -> io::Result<()> {
    let mut moved = 0_u64;
    loop {
        let batch = names(root)?;
        if batch.is_empty() {
            return Ok(());
        }
        for name in batch {
            if remove(root, &name)? {
                continue;
            }
            let directory = open(root, &*name)?;
            loop {
                let batch = names(directory.as_fd())?;
                if batch.is_empty() {
                    break;
                }
                for inner in batch {
                    if !remove(directory.as_fd(), &inner)? {
                        move_up(directory.as_fd(), &inner, root, &mut moved)?;
                    }
                }
            }
            rustix::fs::unlinkat(root, &*name, AtFlags::REMOVEDIR)?;
        }
    }
}

/// Removes a file or an empty directory; `false` of a directory that holds something, now accessible.
fn remove(at: BorrowedFd<'_>, name: &CString) -> io::Result<bool> {
    let stat = match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(true),
        other => other?,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        rustix::fs::unlinkat(at, name, AtFlags::empty())?;
        return Ok(true);
    }
    match rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {
            rustix::fs::chmodat(at, name, Mode::RWXU, AtFlags::empty())?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn move_up(from: BorrowedFd<'_>, name: &CString, root: BorrowedFd<'_>, moved: &mut u64) -> io::Result<()> {
    loop {
        *moved += 1;
        match rustix::fs::renameat(from, name, root, format!(".cleared-{moved}")) {
            Ok(()) => return Ok(()),
            // The unit had the same idea for a name.
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn is_empty(path: &Path) -> bool {
        fs::read_dir(path).unwrap().next().is_none()
    }

    #[test]
    fn deep_wide_and_closed_trees_go_and_what_links_lead_to_stays() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        symlink(outside.path(), root.join("link")).unwrap();
        fs::write(root.join(".cleared-1"), "a name that is taken").unwrap();
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        symlink(outside.path(), root.join("a/b/link")).unwrap();
        fs::write(root.join("a/b/c/file"), "x").unwrap();
        fs::set_permissions(root.join("a/b"), fs::Permissions::from_mode(0o000)).unwrap();
        for i in 0..5000 {
            fs::create_dir(root.join(format!("a/{i}"))).unwrap();
        }
        // Deeper than any path the system would take.
        let mut at = open(CWD, root).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "ddddddd", Mode::RWXU).unwrap();
            at = open(at.as_fd(), "ddddddd").unwrap();
        }
        clear(root).unwrap();
        assert!(is_empty(root));
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn a_directory_that_is_not_there_is_empty() {
        clear(Path::new("/nonexistent/directory")).unwrap();
    }
}
