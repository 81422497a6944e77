//! The supervised tasks of a process: each has a name, and the end of any of them is known.
//!
//! It never restarts a task: whoever can go on after a failure does so inside the task.

use std::{
    any::Any,
    collections::HashMap,
    error::Error,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::FutureExt;
use tokio::{
    sync::{Notify, mpsc},
    task::AbortHandle,
};

/// Ends that may be waiting to be seen. The first one ends the process; more than a few never matter.
const ENDS_WAITING_MAX: usize = 64;

/// An error of any task.
pub type TaskError = Box<dyn Error + Send + Sync>;

/// How a task ended.
#[derive(Debug)]
pub struct TaskEnd {
    /// The task's name.
    pub task: &'static str,
    /// What became of it.
    pub outcome: TaskOutcome,
}

/// What became of a task.
#[derive(Debug)]
pub enum TaskOutcome {
    /// It returned without an error.
    Finished,
    /// It returned an error.
    Failed(TaskError),
    /// It panicked, with this message.
    Panicked(String),
}

/// A handle on the supervised set, to start tasks in it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tasks {
    inner: Arc<Inner>,
    ends: mpsc::Sender<TaskEnd>,
}

/// The side of the supervisor: sees ends, waits for all, aborts what is left.
#[derive(Debug)]
pub(crate) struct Supervisor {
    inner: Arc<Inner>,
    ends: mpsc::Receiver<TaskEnd>,
}

#[derive(Debug, Default)]
struct Inner {
    running: Mutex<HashMap<u64, (&'static str, AbortHandle)>>,
    next: AtomicU64,
    changed: Notify,
}

impl Tasks {
    pub(crate) fn supervised() -> (Self, Supervisor) {
        let inner = Arc::new(Inner::default());
        let (sender, receiver) = mpsc::channel(ENDS_WAITING_MAX);
        (
            Self {
                inner: Arc::clone(&inner),
                ends: sender,
            },
            Supervisor {
                inner,
                ends: receiver,
            },
        )
    }

    /// Starts a task. Its end, good or bad, ends the process unless that is ending already: a task that is
    /// meant to stop waits for the process's shutdown token.
    pub fn spawn<F, E>(&self, name: &'static str, work: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<TaskError>,
    {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let (inner, ends) = (Arc::clone(&self.inner), self.ends.clone());
        let supervised = async move {
            let outcome = match AssertUnwindSafe(work).catch_unwind().await {
                Ok(Ok(())) => TaskOutcome::Finished,
                Ok(Err(error)) => TaskOutcome::Failed(error.into()),
                Err(panic) => TaskOutcome::Panicked(panic_message(panic.as_ref())),
            };
            inner.forget(id);
            // Full or closed means that the process is ending for an earlier reason.
            if let Err(unseen) = ends.try_send(TaskEnd { task: name, outcome }) {
                tracing::debug!(task = name, %unseen, "a task ended while the process was ending");
            }
        };
        // Held over the spawn, so that a task that ends at once is entered before it is forgotten.
        let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = tokio::spawn(supervised).abort_handle();
        running.insert(id, (name, handle));
    }
}

impl Supervisor {
    /// Waits for the next end of a task; for ever if none is running.
    pub(crate) async fn next_end(&mut self) -> TaskEnd {
        match self.ends.recv().await {
            Some(end) => end,
            None => std::future::pending().await,
        }
    }

    /// An end that has happened already, if there is one.
    pub(crate) fn seen_end(&mut self) -> Option<TaskEnd> {
        self.ends.try_recv().ok()
    }

    /// Waits until no task is running.
    pub(crate) async fn all_ended(&self) {
        loop {
            let changed = self.inner.changed.notified();
            if self
                .inner
                .running
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_empty()
            {
                return;
            }
            changed.await;
        }
    }

    /// Aborts every task that still runs and returns their names, sorted.
    pub(crate) fn abort_rest(&self) -> Vec<&'static str> {
        let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<_> = running
            .drain()
            .map(|(_, (name, handle))| {
                handle.abort();
                name
            })
            .collect();
        names.sort_unstable();
        names
    }
}

impl Inner {
    fn forget(&self, id: u64) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
        self.changed.notify_waiters();
        // A waiter that looked just before the removal finds a stored permit instead of the wake-up.
        self.changed.notify_one();
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a text".to_owned()
    }
}
