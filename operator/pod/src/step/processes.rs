//! Ending and reaping every process of this container, as its process 1.

use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

/// Processes that were killed and still are there after this long are stuck in the kernel.
const END_PATIENCE: Duration = Duration::from_secs(30);
const END_PAUSE: Duration = Duration::from_millis(1);

/// Whether this is process 1 of a process namespace. If it is not, [`end_all`] would end strangers.
pub(super) fn is_first() -> bool {
    rustix::process::getpid() == Pid::INIT
}

/// Reaps every process that has ended; the status of `main` if it was among them.
pub(super) fn reap(main: Pid) -> io::Result<Option<WaitStatus>> {
    let mut found = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == main => found = Some(status),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(found),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends every other process of the namespace and reaps it, whatever it ignores, forks or hides behind.
///
/// One call to `kill` reaches all of them at one moment: the kernel lets none fork that has the signal
/// pending. Only processes that were just being made escape it, so it is repeated until none is left.
pub(super) fn end_all() -> io::Result<()> {
    if !is_first() {
        return Err(io::Error::other("not process 1 of its namespace"));
    }
    let started = Instant::now();
    loop {
        // `kill_process_group` of 1 is `kill(-1)`: everything but this process.
        match rustix::process::kill_process_group(Pid::INIT, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(Errno::CHILD) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        if started.elapsed() > END_PATIENCE {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "a killed process does not end",
            ));
        }
        std::thread::sleep(END_PAUSE);
    }
}

/// How many other processes there are, zombies included; counted no further than past `limit`.
pub(super) fn count(limit: u64) -> io::Result<u64> {
    let mut count = 0;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) && name != "1" {
            count += 1;
            if count > limit {
                break;
            }
        }
    }
    Ok(count)
}
