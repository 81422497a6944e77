//! A unit's output streams: passed on to the container's log up to a bound, the end of each kept.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use tradewind_gateway_api::slice::STDERR_TAIL_BYTES;

/// What a unit may write into the container's log, per stream. The log is on the provider's disk.
const LOG_BYTES_MAX: usize = 64 * 1024;
/// A pipe that can be written at all takes this much without blocking (`PIPE_BUF`).
const PIECE_BYTES: usize = 4096;
/// Pieces read at a time, so that a unit that never stops writing does not keep us from its limits. It is
/// more than a pipe holds at most (1 MiB), so after the unit's end one time reads all.
const PIECES_MAX: usize = 257;

/// One stream of a unit.
#[derive(Debug)]
pub(super) struct Tap<R> {
    source: Option<R>,
    log: OwnedFd,
    log_left: usize,
    tail: Vec<u8>,
}

impl<R: Read + AsFd> Tap<R> {
    /// Reads from `source`, passes on to `log`.
    pub(super) fn new(source: Option<R>, log: BorrowedFd<'_>) -> io::Result<Self> {
        if let Some(source) = &source {
            rustix::io::ioctl_fionbio(source, true)?;
        }
        Ok(Self {
            source,
            log: log.try_clone_to_owned()?,
            log_left: LOG_BYTES_MAX,
            tail: Vec::new(),
        })
    }

    /// What to wait for; `None` once the stream has ended.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.source.as_ref().map(AsFd::as_fd)
    }

    /// Takes what is there, without waiting.
    pub(super) fn drain(&mut self) {
        let mut piece = [0; PIECE_BYTES];
        for _ in 0..PIECES_MAX {
            let Some(source) = &mut self.source else { return };
            match source.read(&mut piece) {
                Ok(read) if read > 0 => self.take(piece.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Ended; a pipe knows no other errors.
                Ok(_) | Err(_) => self.source = None,
            }
        }
    }

    fn take(&mut self, piece: &[u8]) {
        self.tail.extend_from_slice(piece);
        self.tail
            .drain(..self.tail.len().saturating_sub(STDERR_TAIL_BYTES));
        let logged = piece.get(..piece.len().min(self.log_left)).unwrap_or_default();
        if !logged.is_empty() && self.log_is_ready() {
            // The log is for people: what it does not take is not worth stopping for.
            let written = rustix::io::write(&self.log, logged).unwrap_or(0);
            self.log_left = self.log_left.saturating_sub(written);
        }
    }

    fn log_is_ready(&self) -> bool {
        let mut fds = [PollFd::new(&self.log, PollFlags::OUT)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready == 1)
    }

    /// The stream's last bytes as text.
    pub(super) fn tail_text(&self) -> String {
        String::from_utf8_lossy(&self.tail).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_end_is_kept_and_the_log_is_bounded() {
        let log = tempfile::tempfile().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let mut tap = Tap::new(Some(reader), log.as_fd()).unwrap();
        for i in 0..40_000 {
            writeln!(writer, "line {i}").unwrap();
            tap.drain();
        }
        drop(writer);
        tap.drain();
        assert!(tap.source().is_none());
        assert!(tap.tail_text().ends_with("line 39998\nline 39999\n"));
        assert_eq!(tap.tail_text().len(), STDERR_TAIL_BYTES);
        assert_eq!(log.metadata().unwrap().len(), LOG_BYTES_MAX as u64);
    }
}
