//! Taking a unit's output out of `run`'s sight.
//!
//! `run` sees the output directory itself through its mount, wherever it is moved; so what is in it is moved.
//! Until the last rename nothing is taken: a crash before it leaves a partial directory, which is removed.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::volume::Volume;

/// Moves everything in the output directory to the unit's own place.
pub(super) fn take(volume: &Volume, unit: u32) -> io::Result<()> {
    let (taking, taken) = (volume.taking(unit), volume.taken(unit));
    // Of an attempt that was not journalled: its unit has run again since.
    remove_tree(&taking)?;
    remove_tree(&taken)?;
    fs::create_dir(&taking)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let output = volume.output();
    // It belongs to our user, whatever mode a unit gave it.
    rustix::fs::chmod(&output, Mode::RWXU)?;
    let from = rustix::fs::openat(CWD, &output, flags, Mode::empty())?;
    let to = rustix::fs::openat(CWD, &taking, flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&from)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    for name in names {
        let stat = rustix::fs::statat(&from, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            // To move a directory is to write its "..".
            let handle = rustix::fs::openat(
                &from,
                &name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            rustix::fs::chmod(
                format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle)),
                Mode::RWXU,
            )?;
        }
        rustix::fs::renameat(from.as_fd(), &name, to.as_fd(), &name)?;
    }
    fs::rename(&taking, &taken)
}

/// Removes a directory tree that nobody else can reach any more, whatever its modes and depth.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    crate::clear::clear(path)?;
    match rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    #[test]
    fn everything_goes_links_unfollowed_and_the_directory_itself_stays() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let volume = Volume::at(dir.path());
        volume.make_directories(0).unwrap();
        let out = volume.output();
        fs::write(out.join("a"), "1").unwrap();
        fs::create_dir_all(out.join("d/e")).unwrap();
        symlink(outside.path(), out.join("link")).unwrap();
        let inode = fs::metadata(&out).unwrap().ino();
        fs::create_dir(volume.taking(3)).unwrap();
        fs::write(volume.taking(3).join("old"), "from a crash").unwrap();
        take(&volume, 3).unwrap();
        assert_eq!(fs::metadata(&out).unwrap().ino(), inode);
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
        let mut names: Vec<_> = fs::read_dir(volume.taken(3))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["a", "d", "link"]);
        remove_tree(&volume.taken(3)).unwrap();
        assert!(!volume.taken(3).exists() && outside.path().exists());
    }
}
