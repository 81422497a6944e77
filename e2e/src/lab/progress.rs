//! Tells a person what the lab is doing, on standard error. It decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long something may take in silence, at most.
const SILENCE: Duration = Duration::from_secs(5);

/// Prints one line for each step, with the time since the start.
#[derive(Clone, Debug)]
pub struct Progress {
    started: Instant,
    quiet: bool,
}

impl Progress {
    /// Progress that is printed.
    pub fn shown() -> Self {
        Self {
            started: Instant::now(),
            quiet: false,
        }
    }

    /// Progress that is not printed.
    pub fn hidden() -> Self {
        Self {
            started: Instant::now(),
            quiet: true,
        }
    }

    /// Prints a line.
    pub fn say(&self, line: impl AsRef<str>) {
        if !self.quiet {
            eprintln!(
                "[{:6.1} s] {}",
                self.started.elapsed().as_secs_f64(),
                line.as_ref()
            );
        }
    }

    /// Says `what` at once, and again every few seconds for as long as `work` lasts.
    pub fn during<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        self.say(what);
        let done = Arc::new(AtomicBool::new(false));
        let (progress, label, watched) = (self.clone(), what.to_owned(), Arc::clone(&done));
        let ticker = std::thread::spawn(move || {
            let since = Instant::now();
            loop {
                std::thread::park_timeout(SILENCE);
                if watched.load(Ordering::Acquire) {
                    return;
                }
                progress.say(format!("{label} (still, {} s)", since.elapsed().as_secs()));
            }
        });
        let outcome = work();
        done.store(true, Ordering::Release);
        ticker.thread().unpark();
        // A ticker that panicked has nothing to hand over: the work's outcome stands.
        drop(ticker.join());
        outcome
    }
}
