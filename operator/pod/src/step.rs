//! `step`: process 1 of the container that runs a stranger's image.
//!
//! It runs the units that `collect` names, one after another, each in empty directories, within its limits,
//! and ends everything a unit leaves before it says that the unit has ended. It holds no key, no grant and no
//! address, decides nothing about results, and takes no signal: as process 1 without handlers it cannot be
//! signalled from inside, and the kubelet's SIGKILL loses nothing.

mod processes;
mod resources;
mod tap;
mod unit;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use tradewind_gateway_api::slice::AbstainCause;

use crate::clear;
use crate::handshake::{self, Ended, Ending, FromStep, Plan, ToStep};

/// How long `collect` may take to start listening; its container is started before ours.
const CONNECT_PATIENCE: Duration = Duration::from_mins(1);
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
/// More than honest neighbours on one node use, less than a node's process numbers (32,768 by default).
const PROCESSES_OF_NEIGHBOURS: u64 = 8192;
/// The kubelet mounts it into every container: a unit could leave a note for the next in it.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Why `step` ends before `collect` says that it may. The kubelet starts the container again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// It would end processes that are not its own.
    #[error("step must be process 1 of its container")]
    NotFirst,
    /// No connection.
    #[error("collect cannot be reached")]
    Connect(#[source] io::Error),
    /// The connection broke, or said what it must not.
    #[error("the connection to collect broke")]
    Connection(#[source] io::Error),
    /// The connection broke while a unit ran.
    #[error("collect is gone while a unit runs")]
    CollectGone,
    /// Processes cannot be ended.
    #[error("the unit's processes cannot be ended")]
    End(#[source] io::Error),
    /// The system refused.
    #[error("the system refused")]
    System(#[from] io::Error),
}

impl From<rustix::io::Errno> for StepError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::System(errno.into())
    }
}

/// Runs units until `collect` says that it is enough.
pub(crate) fn run(socket: &Path) -> Result<(), StepError> {
    if !processes::is_first() {
        return Err(StepError::NotFirst);
    }
    protect_self()?;
    let mut peer = connect(socket)?;
    handshake::send(&mut peer, &FromStep::Ready).map_err(StepError::Connection)?;
    let plan = match handshake::receive(&mut peer).map_err(StepError::Connection)? {
        ToStep::Plan(plan) => plan,
        ToStep::Finish => return Ok(()),
        ToStep::Run { .. } => return Err(StepError::Connection(io::ErrorKind::InvalidData.into())),
    };
    bound_units(&plan)?;
    loop {
        match handshake::receive(&mut peer).map_err(StepError::Connection)? {
            ToStep::Run { unit } => {
                let ended = run_unit(&plan, unit, &peer)?;
                handshake::send(&mut peer, &FromStep::Ended(ended)).map_err(StepError::Connection)?;
            }
            ToStep::Finish => return Ok(()),
            ToStep::Plan(_) => return Err(StepError::Connection(io::ErrorKind::InvalidData.into())),
        }
    }
}

/// Units have the same user as we do: without this they could read our memory and use our connection.
fn protect_self() -> Result<(), StepError> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    // Modes are no part of a result, but programs may look at them.
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    Ok(())
}

/// What the kernel itself holds units to, as they inherit it: no file grows beyond what all files together
/// may hold; and a fork bomb that is faster than our counting meets an end. The kernel counts processes per
/// user and node, so that limit leaves room for honest neighbours with the same user.
fn bound_units(plan: &Plan) -> Result<(), StepError> {
    let bytes = plan.limits.output_bytes.max(plan.limits.scratch_bytes);
    let processes = u64::from(plan.limits.processes).saturating_add(PROCESSES_OF_NEIGHBOURS);
    for (resource, wanted) in [(Resource::Fsize, bytes), (Resource::Nproc, processes)] {
        let now = rustix::process::getrlimit(resource);
        let allowed = Some(now.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        rustix::process::setrlimit(
            resource,
            Rlimit {
                current: allowed,
                maximum: allowed,
            },
        )?;
    }
    Ok(())
}

fn connect(socket: &Path) -> Result<UnixStream, StepError> {
    let started = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) if started.elapsed() > CONNECT_PATIENCE => return Err(StepError::Connect(error)),
            Err(_) => std::thread::sleep(CONNECT_PAUSE),
        }
    }
}

fn run_unit(plan: &Plan, unit: u32, peer: &UnixStream) -> Result<Ended, StepError> {
    let output = Path::new(&plan.output_path);
    // A container that died may have left anything.
    if let Err(error) = unit::scratch_paths(plan)
        .chain([output])
        .try_for_each(clear::clear)
    {
        return Ok(lost(
            unit,
            AbstainCause::Node,
            format!("directories cannot be cleared: {error}"),
        ));
    }
    let (mut ending, stderr_tail) = unit::run(plan, unit, peer)?;
    // Before the hand-over: it frees the disk that taking and sealing need.
    if let Err(error) = unit::scratch_paths(plan)
        .try_for_each(clear::clear)
        .and_then(|()| clear_termination_log())
    {
        return Ok(lost(
            unit,
            AbstainCause::Leftovers,
            format!("what the unit left cannot be cleared: {error}"),
        ));
    }
    if let (Some(kind), Ending::Finished(_)) = (resources::ipc_leftovers(), &ending) {
        let detail = format!("the unit left System V objects ({kind}), which later units could read");
        ending = Ending::Lost {
            cause: AbstainCause::Leftovers,
            detail,
        };
    }
    Ok(Ended {
        unit,
        ending,
        stderr_tail,
    })
}

fn lost(unit: u32, cause: AbstainCause, detail: String) -> Ended {
    Ended {
        unit,
        ending: Ending::Lost { cause, detail },
        stderr_tail: String::new(),
    }
}

fn clear_termination_log() -> io::Result<()> {
    match OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(TERMINATION_LOG)
    {
        Ok(_) => Ok(()),
        // Not there, or nobody of this user can write it.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}
