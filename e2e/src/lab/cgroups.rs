//! The lab's cgroups, on version 1 and version 2 hierarchies: parents for the kubelets, and one place in
//! which every process of the lab stays, so that all of them can be found and ended even when whoever
//! started them died before writing anything down.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::error::LabError;

/// Controllers that a kubelet uses where they are there.
const CONTROLLERS: &[&str] = &["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];
/// How long killed processes may take to be gone: a container with much memory takes a while to unmap.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// The machine's cgroup hierarchies.
#[derive(Clone, Debug)]
pub(crate) enum Cgroups {
    /// One hierarchy for all controllers.
    Unified(PathBuf),
    /// A hierarchy for each group of controllers.
    PerController {
        /// The roots of all of them.
        roots: Vec<PathBuf>,
        /// The one in which processes are tracked: the `pids` controller's.
        tracking: PathBuf,
        /// The `cpuset` controller's, whose groups need their CPUs copied down.
        cpuset: Option<PathBuf>,
        /// The `memory` controller's.
        memory: Option<PathBuf>,
    },
}

impl Cgroups {
    /// Reads what is mounted.
    pub(crate) fn observe() -> Result<Self, LabError> {
        let mounts =
            fs::read_to_string("/proc/self/mounts").map_err(LabError::io("read /proc/self/mounts"))?;
        let mounted = |kind: &str| -> Vec<(PathBuf, String)> {
            mounts
                .lines()
                .filter_map(|line| {
                    let mut fields = line.split(' ').skip(1);
                    let (path, found, options) = (fields.next()?, fields.next()?, fields.next()?);
                    (found == kind).then(|| (PathBuf::from(path), options.to_owned()))
                })
                .collect()
        };
        let hierarchies = mounted("cgroup");
        if hierarchies.is_empty() {
            let root = mounted("cgroup2").into_iter().next().map(|(path, _)| path);
            return root.map(Self::Unified).ok_or_else(|| {
                LabError::Shape("no cgroup hierarchy is mounted; mount cgroup2 on /sys/fs/cgroup".to_owned())
            });
        }
        let with = |controller: &str| {
            let has = |options: &str| options.split(',').any(|option| option == controller);
            hierarchies
                .iter()
                .find(|(_, options)| has(options))
                .map(|(path, _)| path.clone())
        };
        let tracking = with("pids").ok_or_else(|| {
            LabError::Shape(
                "the `pids` cgroup controller is not mounted; processes could not be tracked".to_owned(),
            )
        })?;
        Ok(Self::PerController {
            cpuset: with("cpuset"),
            memory: with("memory"),
            // The runtime makes groups in an additional version 2 hierarchy too.
            roots: hierarchies
                .into_iter()
                .chain(mounted("cgroup2"))
                .map(|(path, _)| path)
                .collect(),
            tracking,
        })
    }

    /// Makes the group in every hierarchy, with all parents. `cpus` of the last level: as in a cpuset's list
    /// format; the parent's where none is given.
    pub(crate) fn make(&self, group: &str, cpus: Option<&str>) -> Result<(), LabError> {
        match self {
            Self::Unified(root) => {
                let mut dir = root.clone();
                for level in Path::new(group) {
                    enable_controllers(&dir)?;
                    dir.push(level);
                    make_dir(&dir)?;
                }
                cpus.map_or(Ok(()), |cpus| write(&dir.join("cpuset.cpus"), cpus))
            }
            Self::PerController { roots, cpuset, .. } => {
                for root in roots {
                    make_dir(&root.join(group))?;
                }
                cpuset
                    .as_ref()
                    .map_or(Ok(()), |root| copy_cpuset(root, group, cpus))
            }
        }
    }

    /// The file whose writers become members of the group in which they are tracked.
    pub(crate) fn members(&self, group: &str) -> PathBuf {
        self.tracking(group).join("cgroup.procs")
    }

    /// The tracked group's folder.
    pub(crate) fn tracking(&self, group: &str) -> PathBuf {
        match self {
            Self::Unified(root) => root.join(group),
            Self::PerController { tracking, .. } => tracking.join(group),
        }
    }

    /// Lets a group, given by its tracked folder, have so much memory and what it has already.
    pub(crate) fn limit_memory(&self, tracked: &Path, more_bytes: u64) -> Result<(), LabError> {
        let (group, used, limit) = match self {
            Self::Unified(_) => (Some(tracked.to_owned()), "memory.current", "memory.max"),
            Self::PerController { tracking, memory, .. } => {
                let path = tracked.strip_prefix(tracking).ok();
                let group = memory.as_ref().zip(path).map(|(root, path)| root.join(path));
                (group, "memory.usage_in_bytes", "memory.limit_in_bytes")
            }
        };
        let group = group.ok_or_else(|| {
            LabError::Shape("the `memory` cgroup controller is not mounted; memory has no limits".to_owned())
        })?;
        let used = group.join(used);
        let text = fs::read_to_string(&used).map_err(LabError::io(format!("read {}", used.display())))?;
        let bytes: u64 = text
            .trim()
            .parse()
            .map_err(|_| LabError::Shape(format!("{} holds no number", used.display())))?;
        write(&group.join(limit), &bytes.saturating_add(more_bytes).to_string())
    }

    /// The version 2 hierarchy forbids processes beside child groups: a kubelet's parent holds none itself.
    pub(crate) fn leaf(group: &str) -> String {
        format!("{group}/system")
    }

    /// Kills every process in the group and below it, and waits until none is left.
    pub(crate) fn kill_all(&self, group: &str) -> Result<(), LabError> {
        let dir = self.tracking(group);
        let deadline = Instant::now() + GONE_WITHIN;
        loop {
            let members = members_below(&dir);
            if members.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(LabError::Late {
                    waiting_for: format!("the end of processes {members:?}"),
                    seconds: GONE_WITHIN.as_secs(),
                    logs: dir,
                });
            }
            for pid in members {
                kill_member(pid, group)?;
            }
            // Forks that raced with the reading are found by reading again.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Removes the emptied group and all below it.
    pub(crate) fn remove(&self, group: &str) -> Result<(), LabError> {
        let roots = match self {
            Self::Unified(root) => std::slice::from_ref(root),
            Self::PerController { roots, .. } => roots.as_slice(),
        };
        roots.iter().try_for_each(|root| remove_tree(&root.join(group)))
    }
}

/// All processes of a group and the groups below it.
pub(crate) fn members_below(dir: &Path) -> Vec<i32> {
    let mut members: Vec<i32> = fs::read_to_string(dir.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    for child in child_groups(dir) {
        members.extend(members_below(&child));
    }
    members
}

/// The groups directly below one.
pub(crate) fn child_groups(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()).filter(|path| path.is_dir()))
        .collect()
}

/// Kills a process if it is still a member of the lab's group: the handle is taken first, so that a number
/// that was given to another process in between is never the one that is killed.
fn kill_member(pid: i32, group: &str) -> Result<(), LabError> {
    let Some(id) = Pid::from_raw(pid) else {
        return Ok(());
    };
    let Ok(handle) = pidfd_open(id, PidfdFlags::empty()) else {
        return Ok(());
    };
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let member = groups.lines().any(|line| {
        line.splitn(3, ':').nth(2).is_some_and(|path| {
            path.split_once(group)
                .is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with('/'))
        })
    });
    if !member {
        return Ok(());
    }
    match pidfd_send_signal(&handle, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(LabError::Io {
            doing: format!("kill process {pid}"),
            source: error.into(),
        }),
    }
}

fn enable_controllers(dir: &Path) -> Result<(), LabError> {
    let available = fs::read_to_string(dir.join("cgroup.controllers"))
        .map_err(LabError::io(format!("read the controllers of {}", dir.display())))?;
    let wanted: Vec<String> = available
        .split_whitespace()
        .filter(|controller| CONTROLLERS.contains(controller))
        .map(|controller| format!("+{controller}"))
        .collect();
    write(&dir.join("cgroup.subtree_control"), &wanted.join(" "))
}

/// A version 1 cpuset begins empty, and takes no process before it has CPUs and memory nodes.
fn copy_cpuset(root: &Path, group: &str, cpus: Option<&str>) -> Result<(), LabError> {
    let mut dir = root.to_path_buf();
    for level in Path::new(group) {
        let parent = dir.clone();
        dir.push(level);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let read = |path: PathBuf| {
                fs::read_to_string(&path).map_err(LabError::io(format!("read {}", path.display())))
            };
            if read(dir.join(file))?.trim().is_empty() {
                write(&dir.join(file), read(parent.join(file))?.trim())?;
            }
        }
    }
    cpus.map_or(Ok(()), |cpus| write(&dir.join("cpuset.cpus"), cpus))
}

fn make_dir(dir: &Path) -> Result<(), LabError> {
    fs::create_dir_all(dir).map_err(LabError::io(format!("make the cgroup {}", dir.display())))
}

fn write(path: &Path, value: &str) -> Result<(), LabError> {
    fs::write(path, value).map_err(LabError::io(format!("write `{value}` to {}", path.display())))
}

fn remove_tree(dir: &Path) -> Result<(), LabError> {
    for child in child_groups(dir) {
        remove_tree(&child)?;
    }
    // The kernel may hold a group for a moment after its last process is gone.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() != std::io::ErrorKind::ResourceBusy || Instant::now() > deadline => {
                return Err(LabError::io(format!("remove the cgroup {}", dir.display()))(
                    error,
                ));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
