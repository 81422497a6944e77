//! How whoever drives a lab gets into its services namespace: an async runtime all of whose threads live
//! there. The threads of the caller stay where they are.

use std::fs::File;
use std::future::Future;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::{Handle, Runtime};

use super::error::LabError;

/// An async runtime inside a network namespace.
#[derive(Debug)]
pub(crate) struct Driver {
    namespace: PathBuf,
    /// `None` only while being dropped.
    runtime: Option<Runtime>,
}

impl Driver {
    /// Builds the runtime inside the namespace of that name.
    pub(crate) fn enter(namespace: &str) -> Result<Self, LabError> {
        let namespace = Path::new("/run/netns").join(namespace);
        let runtime = inside(&namespace, || {
            let namespace = namespace.clone();
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("lab-driver")
                .enable_all()
                .on_thread_start(move || {
                    // A thread outside the lab could send traffic where none may go: better none at all.
                    if let Err(error) = move_here(&namespace) {
                        eprintln!(
                            "lab driver: a thread cannot enter {}: {error}",
                            namespace.display()
                        );
                        std::process::abort();
                    }
                })
                .build()
                .map_err(LabError::io("build the lab driver's runtime"))
        })??;
        Ok(Self {
            namespace,
            runtime: Some(runtime),
        })
    }

    /// Runs a future to its end, polled and spawning inside the namespace, from any thread.
    pub(crate) fn run<F>(&self, future: F) -> Result<F::Output, LabError>
    where
        F: Future + Send,
        F::Output: Send,
    {
        let handle = self.handle()?;
        inside(&self.namespace, move || handle.block_on(future))
    }

    fn handle(&self) -> Result<Handle, LabError> {
        let runtime = self.runtime.as_ref().map(|runtime| runtime.handle().clone());
        runtime.ok_or_else(|| LabError::Shape("the lab's driver was shut down".to_owned()))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Allowed also where the lab is dropped inside another runtime, which a waiting shutdown is not.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs `work` on a thread of its own inside the namespace, and waits for it.
pub(crate) fn inside<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_here(namespace)
                .map_err(LabError::io(format!(
                    "enter the network namespace {}",
                    namespace.display()
                )))
                .map(|()| work())
        });
        match thread.join() {
            Ok(outcome) => outcome,
            // A failed assertion of a test belongs to the caller, with its message and place.
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn move_here(namespace: &Path) -> std::io::Result<()> {
    let file = File::open(namespace)?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(Into::into)
}
