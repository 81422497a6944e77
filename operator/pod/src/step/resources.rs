//! What a unit uses, and what the container noticed of it: disk, memory kills, leftovers.
//!
//! Reads only. A unit can hide use from the looks taken while it runs (behind closed directories); the
//! volume's size limit and `collect`'s own count are what it cannot hide from.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// With less than this free, writes fail for reasons that are not the unit's.
const DISK_FREE_BYTES_MIN: u64 = 4 << 20;
const INODES_FREE_MIN: u64 = 16;

/// Disk used by some directories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Content that takes space: neither holes nor the rest of a file's last block.
    pub(super) bytes: u64,
    /// Files and directories.
    pub(super) files: u64,
}

impl Usage {
    /// Whether it is more than allowed.
    pub(super) fn exceeds(self, limit: Usage) -> bool {
        self.bytes > limit.bytes || self.files > limit.files
    }
}

/// What the directories use, as far as can be seen; counts no further than past `limit`.
pub(super) fn measure<'a>(directories: impl Iterator<Item = &'a Path>, limit: Usage) -> Usage {
    let mut usage = Usage::default();
    let mut open: Vec<PathBuf> = directories.map(Path::to_owned).collect();
    while let Some(directory) = open.pop() {
        // Gone, closed or too deep: not seen.
        let Ok(entries) = fs::read_dir(directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            usage.files += 1;
            if metadata.is_file() {
                let allocated = metadata.blocks().saturating_mul(512);
                usage.bytes = usage.bytes.saturating_add(allocated.min(metadata.len()));
            }
            if usage.exceeds(limit) {
                return usage;
            }
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    usage
}

/// Whether the file system below `path` is as good as full.
pub(super) fn disk_is_full(path: &Path) -> io::Result<bool> {
    let stat = rustix::fs::statvfs(path)?;
    // File systems without a fixed number of inodes report none at all.
    let inodes_short = stat.f_files > 0 && stat.f_favail < INODES_FREE_MIN;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize) < DISK_FREE_BYTES_MIN || inodes_short)
}

/// How often the kernel has ended a process of this container for want of memory; `None` where the
/// container cannot see it.
pub(super) fn memory_kills() -> Option<u64> {
    let files = [
        "/sys/fs/cgroup/memory.events",
        "/sys/fs/cgroup/memory/memory.oom_control",
    ];
    files
        .iter()
        .find_map(|file| parse_kills(&fs::read_to_string(file).ok()?))
}

fn parse_kills(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Names System V objects that outlive their processes and that the next unit could read.
pub(super) fn ipc_leftovers() -> Option<&'static str> {
    ["shm", "msg", "sem"].into_iter().find(|kind| {
        // One line of headings; kernels without System V IPC have no such file.
        fs::read_to_string(format!("/proc/sysvipc/{kind}")).is_ok_and(|text| text.lines().count() > 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_read_from_both_kinds_of_cgroups() {
        assert_eq!(
            parse_kills("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n"),
            Some(2)
        );
        assert_eq!(
            parse_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"),
            Some(7)
        );
        assert_eq!(parse_kills("oom_kill_disable 0\n"), None);
    }

    #[test]
    fn use_is_counted_no_further_than_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        (0..50).for_each(|i| fs::write(dir.path().join(i.to_string()), vec![1; 4000]).unwrap());
        fs::File::create(dir.path().join("0"))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        let all = measure(
            [dir.path()].into_iter(),
            Usage {
                bytes: u64::MAX,
                files: u64::MAX,
            },
        );
        assert_eq!((all.files, all.bytes), (50, 49 * 4000));
        let limit = Usage {
            bytes: u64::MAX,
            files: 10,
        };
        let some = measure([dir.path()].into_iter(), limit);
        assert!(some.exceeds(limit) && some.files == 11);
    }
}
