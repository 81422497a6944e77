//! The lab's processes: each is started detached from the terminal, in the namespaces and the cgroup it
//! belongs to, and identified ever after by its number *and* its start time, so that a number that the
//! kernel gave to another process is never taken for it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::error::LabError;

/// How a process is started, kept so that it can be started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// `cluster/component`, or `services/component`.
    pub(crate) name: String,
    pub(crate) argv: Vec<String>,
    pub(crate) place: Place,
    /// The file that makes its writer a member of the process's cgroup.
    pub(crate) cgroup_members: PathBuf,
    /// Appended to by each start.
    pub(crate) log: PathBuf,
}

/// Which namespaces a process runs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// A named network namespace.
    Network(String),
    /// All namespaces of a process that holds a node.
    Node {
        /// The holder.
        holder: Identity,
    },
}

/// A process, beyond doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks between boot and the start.
    start_ticks: u64,
}

/// A process that the lab started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) launch: Launch,
    pub(crate) identity: Identity,
    /// The kernel's random name for this boot: numbers and ticks start over with the next.
    boot: String,
}

/// Joins the cgroup before anything else, so that there is no moment in which the process runs untracked.
const JOIN_CGROUP: &str = r#"echo 0 > "$1" || exit 125; shift; exec "$@""#;

impl Launch {
    /// Starts the process.
    pub(crate) fn start(self) -> Result<Record, LabError> {
        let doing = format!("start {}", self.name);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(LabError::io(format!("open {}", self.log.display())))?;
        let also_log = log.try_clone().map_err(LabError::io(doing.clone()))?;
        // Each of these programs becomes the next by exec: the child's number is the component's.
        let mut command = Command::new("setsid");
        command
            .args(["sh", "-c", JOIN_CGROUP, "start"])
            .arg(&self.cgroup_members)
            .arg("nsenter");
        match &self.place {
            Place::Network(namespace) => {
                command.arg(format!("--net=/run/netns/{namespace}"));
            }
            Place::Node { holder } => {
                command.args(["--target", &holder.pid.to_string(), "--mount", "--uts", "--net"]);
            }
        }
        let mut child = command
            .arg("--")
            .args(&self.argv)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(also_log)
            .spawn()
            .map_err(LabError::io(doing.clone()))?;
        let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
        let identity = Identity::of(pid);
        // Without someone to wait for it, an ended child would stay in the process table as long as we live.
        std::thread::spawn(move || drop(child.wait()));
        let log = self.log.clone();
        let identity = identity.ok_or_else(|| LabError::Ended {
            component: self.name.clone(),
            waiting_for: "its start".to_owned(),
            tail: super::command::tail(&log),
            log,
        })?;
        Ok(Record {
            launch: self,
            identity,
            boot: boot()?,
        })
    }
}

impl Record {
    pub(crate) fn name(&self) -> &str {
        &self.launch.name
    }

    /// Whether it still runs; a zombie does not.
    pub(crate) fn alive(&self) -> bool {
        boot().is_ok_and(|boot| boot == self.boot) && Identity::of(self.identity.pid) == Some(self.identity)
    }

    /// Sends a signal, if the process still runs.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), LabError> {
        let Some(pid) = Pid::from_raw(self.identity.pid) else {
            return Ok(());
        };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(());
        };
        // Asked after the handle was taken: from here on it cannot come to mean another process.
        if !self.alive() {
            return Ok(());
        }
        match pidfd_send_signal(&handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(LabError::Io {
                doing: format!("signal {}", self.name()),
                source: error.into(),
            }),
        }
    }

    /// Waits until it has ended.
    pub(crate) fn wait_end(&self, limit: Duration) -> Result<(), LabError> {
        self.wait_until("the end", || !self.alive(), limit)
    }

    /// Waits until a signal to stop has reached every thread of it: on a busy machine some run on for a while.
    pub(crate) fn wait_stopped(&self, limit: Duration) -> Result<(), LabError> {
        let stopped = || !self.alive() || all_stopped(self.identity.pid).unwrap_or(false);
        self.wait_until("the standstill", stopped, limit)
    }

    fn wait_until(&self, what: &str, so: impl Fn() -> bool, limit: Duration) -> Result<(), LabError> {
        let deadline = Instant::now() + limit;
        while !so() {
            if Instant::now() > deadline {
                return Err(LabError::Late {
                    waiting_for: format!("{what} of {}", self.name()),
                    seconds: limit.as_secs(),
                    logs: self.launch.log.clone(),
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The error for a process that is gone though something waits for it.
    pub(crate) fn ended(&self, waiting_for: &str) -> LabError {
        LabError::Ended {
            component: self.name().to_owned(),
            waiting_for: waiting_for.to_owned(),
            log: self.launch.log.clone(),
            tail: super::command::tail(&self.launch.log),
        }
    }
}

impl Identity {
    /// Who has that number now, unless it is nobody or a zombie.
    fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in brackets, and may itself hold spaces and brackets.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        if state == "Z" || state == "X" {
            return None;
        }
        // State is field 3, so field 22 is the nineteenth after it.
        Some(Self {
            pid,
            start_ticks: fields.nth(18)?.parse().ok()?,
        })
    }
}

fn all_stopped(pid: i32) -> io::Result<bool> {
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = fs::read_to_string(thread?.path().join("stat"))?;
        if !stat
            .rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn boot() -> Result<String, LabError> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .map_err(LabError::io("read the boot id"))
}
