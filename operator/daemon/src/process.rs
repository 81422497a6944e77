//! A process from start to end: its admin server, its tasks, its signals, its last seconds.
//!
//! It never decides what to do about a failure but one thing: a task that ended ends the process, with that
//! as the reason, so that whoever runs it starts it anew.

use std::{future::Future, net::SocketAddr, time::Duration};

use prometheus::Registry;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    admin,
    args::DaemonArgs,
    ready::Readiness,
    serve::{self, ServeError, ServeLimits},
    tasks::{Supervisor, TaskEnd, TaskError, TaskOutcome, Tasks},
};

/// Connections to the admin server: a few probes and scrapers.
const ADMIN_CONNECTIONS: usize = 64;

/// Which program this is.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its name, as in `tradewind-gateway`.
    pub program: &'static str,
    /// Its version: `env!("CARGO_PKG_VERSION")`.
    pub version: &'static str,
    /// Where health and metrics are served when no flag says so.
    pub admin_listen: SocketAddr,
}

/// A running process: what its parts are handed, and how it is waited for.
#[derive(Debug)]
pub struct Process {
    registry: Registry,
    readiness: Readiness,
    tasks: Tasks,
    supervisor: Supervisor,
    shutdown: CancellationToken,
    admin: Admin,
    signals: Signals,
    grace: Duration,
}

#[derive(Debug)]
struct Admin {
    address: SocketAddr,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<Result<(), ServeError>>,
}

#[derive(Debug)]
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// Why a process could not start, or how it ended if not by request.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The admin address could not be listened on.
    #[error("the health and metrics server could not start")]
    Admin(#[source] ServeError),
    /// The process's own metrics could not be registered.
    #[error("the process's own metrics could not be registered")]
    Metrics(#[source] prometheus::Error),
    /// The system refused to deliver signals.
    #[error("signals could not be listened for")]
    Signals(#[source] std::io::Error),
    /// A task that should run as long as the process does returned.
    #[error("the task {task} ended while the process was meant to run")]
    TaskFinished {
        /// Its name.
        task: &'static str,
    },
    /// A task failed.
    #[error("the task {task} failed")]
    TaskFailed {
        /// Its name.
        task: &'static str,
        /// Its error.
        #[source]
        source: TaskError,
    },
    /// A task panicked: a defect.
    #[error("the task {task} panicked: {message}")]
    TaskPanicked {
        /// Its name.
        task: &'static str,
        /// What it said.
        message: String,
    },
    /// Tasks were still running when the grace period was over.
    #[error("still running after the grace period of {} s: {}", grace.as_secs(), tasks.join(", "))]
    GraceExceeded {
        /// The period.
        grace: Duration,
        /// Their names.
        tasks: Vec<&'static str>,
    },
}

impl Process {
    /// Registers the process's metrics, listens for signals, and serves health, readiness and metrics from
    /// here on. Logging is apart: [`crate::log::init`].
    pub async fn start(args: &DaemonArgs, about: About, registry: Registry) -> Result<Self, ProcessError> {
        let DaemonArgs {
            log_format: _,
            log_filter: _,
            admin_listen,
            grace,
        } = args;
        admin::register_process(&registry, &about).map_err(ProcessError::Metrics)?;
        let signals = Signals::listen().map_err(ProcessError::Signals)?;
        let readiness = Readiness::default();
        let listener = serve::listen(admin_listen.unwrap_or(about.admin_listen))
            .await
            .map_err(ProcessError::Admin)?;
        let address = listener.local_addr().map_err(|source| {
            ProcessError::Admin(ServeError::Listen {
                address: about.admin_listen,
                source,
            })
        })?;
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve::serve(
            listener,
            admin::router(registry.clone(), readiness.clone()),
            ServeLimits {
                connections: ADMIN_CONNECTIONS,
                ..ServeLimits::default()
            },
            stop.clone(),
        ));
        let (tasks, supervisor) = Tasks::supervised();
        tracing::info!(program = about.program, version = about.version, %address, "started");
        Ok(Self {
            registry,
            readiness,
            tasks,
            supervisor,
            shutdown: CancellationToken::new(),
            admin: Admin {
                address,
                stop,
                server,
            },
            signals,
            grace: *grace,
        })
    }

    /// The registry whose content /metrics shows.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What /readyz shows; parts add their gates.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Where health and metrics are served.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address
    }

    /// Cancelled when the process should end. Whoever cancels it ends the process.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// A handle to start tasks from inside other tasks.
    pub fn tasks(&self) -> Tasks {
        self.tasks.clone()
    }

    /// Starts a supervised task; see [`Tasks::spawn`].
    pub fn spawn<F, E>(&self, name: &'static str, work: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<TaskError>,
    {
        self.tasks.spawn(name, work);
    }

    /// Waits until a signal, a cancelled shutdown token or an ended task, then for the tasks to finish
    /// within the grace period. `Ok` only where the end was asked for and everything finished well.
    pub async fn run(mut self) -> Result<(), ProcessError> {
        let first_end = tokio::select! {
            name = self.signals.next() => {
                tracing::info!(signal = name, "ending on request");
                None
            }
            () = self.shutdown.cancelled() => None,
            end = self.supervisor.next_end() => Some(end),
        };
        // The end that caused the token to be cancelled tells more than the token.
        let mut verdict = match first_end {
            Some(end) if self.shutdown.is_cancelled() => after_request(end),
            Some(end) => Err(unasked(end)),
            None => Ok(()),
        };
        self.readiness.drain();
        self.shutdown.cancel();
        if tokio::time::timeout(self.grace, self.supervisor.all_ended())
            .await
            .is_err()
        {
            let tasks = self.supervisor.abort_rest();
            verdict = verdict.and(Err(ProcessError::GraceExceeded {
                grace: self.grace,
                tasks,
            }));
        }
        while let Some(end) = self.supervisor.seen_end() {
            verdict = verdict.and(after_request(end));
        }
        // Last, so that health and metrics could be read while the rest was ending.
        self.admin.stop.cancel();
        if tokio::time::timeout(self.grace, &mut self.admin.server)
            .await
            .is_err()
        {
            self.admin.server.abort();
        }
        verdict
    }
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// An end that nobody asked for.
fn unasked(TaskEnd { task, outcome }: TaskEnd) -> ProcessError {
    match outcome {
        TaskOutcome::Finished => ProcessError::TaskFinished { task },
        TaskOutcome::Failed(source) => ProcessError::TaskFailed { task, source },
        TaskOutcome::Panicked(message) => ProcessError::TaskPanicked { task, message },
    }
}

/// An end after the process was asked to end: only a failure counts.
fn after_request(end: TaskEnd) -> Result<(), ProcessError> {
    match end.outcome {
        TaskOutcome::Finished => Ok(()),
        TaskOutcome::Failed(_) | TaskOutcome::Panicked(_) => Err(unasked(end)),
    }
}
