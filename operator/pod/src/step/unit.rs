//! One unit: started, watched, ended.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitStatus};
use tradewind_gateway_api::slice::{AbstainCause, HOME_PATH, SCRATCH_PATH};
use tradewind_gateway_api::template::{PROXY_VARIABLES, is_reserved_variable};
use tradewind_result::Outcome;

use super::StepError;
use super::processes;
use super::resources::{self, Usage};
use super::tap::Tap;
use crate::handshake::{Ending, Plan};

/// How often processes are counted: a fork bomb makes some hundreds meanwhile.
const TICK: Duration = Duration::from_millis(20);
/// Units give way to us within their container, and to nobody else: without it a fork bomb of thousands
/// leaves us no time to end it.
const UNIT_NICENESS: i32 = 10;
/// How often disk use is measured at most; measuring takes at most a twentieth of the time.
const USAGE_PAUSE: Duration = Duration::from_millis(500);
const USAGE_SHARE: u32 = 20;
const SHARED_MEMORY: [&str; 2] = ["/dev/shm", "/dev/mqueue"];
/// As shells and container runtimes have it.
const EXIT_NOT_FOUND: u8 = 127;
const EXIT_NOT_EXECUTABLE: u8 = 126;

/// Directories that a unit may write besides its output.
pub(super) fn scratch_paths(plan: &Plan) -> impl Iterator<Item = &Path> {
    let fixed = [HOME_PATH, SCRATCH_PATH].into_iter().chain(SHARED_MEMORY);
    fixed
        .chain(plan.writable_paths.iter().map(String::as_str))
        .map(Path::new)
}

/// Runs `unit` to its end and ends whatever it leaves. Directories must be clear already.
pub(super) fn run(plan: &Plan, unit: u32, peer: &UnixStream) -> Result<(Ending, String), StepError> {
    let kills_before = resources::memory_kills();
    let started = Instant::now();
    let mut child = match start(plan, unit) {
        Ok(child) => child,
        Err(error) => return Ok((failed_start(&error), String::new())),
    };
    let mut watch = Watch {
        plan,
        started,
        deadline: started + Duration::from_secs(plan.seconds_per_unit),
        usage_due: started + USAGE_PAUSE,
        disk_was_full: false,
        stdout: Tap::new(child.stdout.take(), io::stdout().as_fd())?,
        stderr: Tap::new(child.stderr.take(), io::stderr().as_fd())?,
    };
    let stopped = watch.until_end(&child, peer);
    // Whatever happened, nothing of the unit lives on.
    processes::end_all().map_err(StepError::End)?;
    let stopped = stopped?;
    watch.stdout.drain();
    watch.stderr.drain();
    let ending = match stopped {
        Stopped::Limit(cause, detail) => Ending::Lost { cause, detail },
        Stopped::Exited(status) => watch.judge(status, kills_before)?,
    };
    Ok((ending, watch.stderr.tail_text()))
}

fn start(plan: &Plan, unit: u32) -> io::Result<Child> {
    let (program, arguments) = plan
        .command
        .split_first()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    let inherited = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        // The runtime's NVIDIA_ variables say which GPUs were allotted; Kubernetes' own would tell the node's
        // cluster apart.
        // So do those that lead to granted hosts.
        name.starts_with("NVIDIA_")
            || PROXY_VARIABLES.contains(&name.as_ref())
            || !(is_reserved_variable(&name) || name.starts_with("KUBERNETES_"))
    });
    command
        .envs(inherited)
        .envs(plan.env.iter().map(|variable| (&variable.name, &variable.value)))
        .env("JOB_COMPLETION_INDEX", unit.to_string())
        .env("HOME", HOME_PATH)
        .env("TMPDIR", SCRATCH_PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    // Niceness is a thread's, is inherited, and cannot be taken back: a thread of its own gives it on.
    let spawning = std::thread::Builder::new().spawn(move || {
        rustix::process::setpriority_process(None, UNIT_NICENESS)?;
        command.spawn()
    })?;
    spawning
        .join()
        .map_err(|_| io::Error::other("the starting thread ended early"))?
}

/// A program that cannot be started because of what image and template are is a result like any other;
/// one that this node cannot start now is none.
fn failed_start(error: &io::Error) -> Ending {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    match errno {
        Some(Errno::NOENT) => Ending::Finished(Outcome::Exit(EXIT_NOT_FOUND)),
        Some(
            Errno::ACCESS
            | Errno::NOEXEC
            | Errno::NOTDIR
            | Errno::ISDIR
            | Errno::LOOP
            | Errno::TOOBIG
            | Errno::NAMETOOLONG,
        ) => Ending::Finished(Outcome::Exit(EXIT_NOT_EXECUTABLE)),
        _ => Ending::Lost {
            cause: AbstainCause::Node,
            detail: format!("the unit could not be started: {error}"),
        },
    }
}

enum Stopped {
    Exited(WaitStatus),
    Limit(AbstainCause, String),
}

struct Watch<'a> {
    plan: &'a Plan,
    started: Instant,
    deadline: Instant,
    usage_due: Instant,
    disk_was_full: bool,
    stdout: Tap<ChildStdout>,
    stderr: Tap<ChildStderr>,
}

impl Watch<'_> {
    /// Until the program ends or meets a limit, or `collect` is gone.
    fn until_end(&mut self, child: &Child, peer: &UnixStream) -> Result<Stopped, StepError> {
        let pid = Pid::from_child(child);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        loop {
            self.wait(pidfd.as_fd(), peer.as_fd())?;
            self.stdout.drain();
            self.stderr.drain();
            if let Some(status) = processes::reap(pid)? {
                return Ok(Stopped::Exited(status));
            }
            if let Some((cause, detail)) = self.met_limit()? {
                return Ok(Stopped::Limit(cause, detail));
            }
        }
    }

    fn wait(&self, pidfd: BorrowedFd<'_>, peer: BorrowedFd<'_>) -> Result<(), StepError> {
        let pause = TICK.min(self.deadline.saturating_duration_since(Instant::now()));
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: pause.subsec_nanos().into(),
        };
        let mut fds = vec![
            PollFd::from_borrowed_fd(peer, PollFlags::IN),
            PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
        ];
        let streams = [self.stdout.source(), self.stderr.source()];
        fds.extend(
            streams
                .into_iter()
                .flatten()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // `collect` says nothing while a unit runs: if there is something, it is the end of the connection.
        match fds.first() {
            Some(peer) if !peer.revents().is_empty() => Err(StepError::CollectGone),
            _ => Ok(()),
        }
    }

    fn met_limit(&mut self) -> Result<Option<(AbstainCause, String)>, StepError> {
        let now = Instant::now();
        if now >= self.deadline {
            let detail = format!("the unit ran for {} s", self.plan.seconds_per_unit);
            return Ok(Some((AbstainCause::TimeLimit, detail)));
        }
        let limits = &self.plan.limits;
        let allowed = u64::from(limits.processes);
        if processes::count(allowed)? > allowed {
            let detail = format!("more than {allowed} processes");
            return Ok(Some((AbstainCause::ProcessLimit, detail)));
        }
        if now < self.usage_due {
            return Ok(None);
        }
        let output_path = Path::new(&self.plan.output_path);
        self.disk_was_full |= resources::disk_is_full(output_path)?;
        let limit = Usage {
            bytes: limits.output_bytes,
            files: limits.output_files,
        };
        let output = resources::measure([output_path].into_iter(), limit);
        let scratch_limit = Usage {
            bytes: limits.scratch_bytes,
            files: limits.scratch_files,
        };
        let scratch = resources::measure(scratch_paths(self.plan), scratch_limit);
        let took = now.elapsed();
        self.usage_due = Instant::now() + USAGE_PAUSE.max(took.saturating_mul(USAGE_SHARE));
        if output.exceeds(limit) {
            let detail = format!("the output passed {} bytes or {} files", limit.bytes, limit.files);
            return Ok(Some((AbstainCause::OutputLimit, detail)));
        }
        if scratch.exceeds(scratch_limit) {
            let detail = format!(
                "scratch passed {} bytes or {} files",
                scratch_limit.bytes, scratch_limit.files
            );
            return Ok(Some((AbstainCause::ScratchLimit, detail)));
        }
        Ok(None)
    }

    /// What the program's end means.
    fn judge(&mut self, status: WaitStatus, kills_before: Option<u64>) -> Result<Ending, StepError> {
        let lost = |cause, detail: &str| {
            Ok(Ending::Lost {
                cause,
                detail: detail.to_owned(),
            })
        };
        let killed = status.terminating_signal() == Some(Signal::KILL.as_raw());
        match (kills_before, resources::memory_kills()) {
            (Some(before), Some(after)) if after > before => {
                return lost(
                    AbstainCause::OutOfMemory,
                    "the kernel ended a process of the unit for want of memory",
                );
            }
            (Some(_), Some(_)) => {}
            // Where the kernel's count cannot be seen, the signal it uses is taken for it.
            _ if killed => {
                return lost(
                    AbstainCause::OutOfMemory,
                    "the unit was killed, probably for want of memory",
                );
            }
            _ => {}
        }
        if status.terminating_signal() == Some(Signal::XFSZ.as_raw()) {
            return lost(AbstainCause::OutputLimit, "a file grew beyond all limits");
        }
        if self.disk_was_full || resources::disk_is_full(Path::new(&self.plan.output_path))? {
            return lost(
                AbstainCause::OutOfDisk,
                "the node's disk was full while the unit ran",
            );
        }
        if self.started.elapsed() > Duration::from_secs(self.plan.seconds_per_unit) {
            return lost(AbstainCause::TimeLimit, "the unit ended after its time");
        }
        let number = |value: i32| u8::try_from(value).ok();
        let outcome = match (
            status.exit_status().and_then(number),
            status.terminating_signal().and_then(number),
        ) {
            (Some(code), _) => Outcome::Exit(code),
            (None, Some(signal)) => Outcome::Signal(signal),
            (None, None) => {
                return lost(
                    AbstainCause::Node,
                    "the unit's end has neither exit code nor signal",
                );
            }
        };
        Ok(Ending::Finished(outcome))
    }
}
