//! `collect`: the native sidecar that decides what counts.
//!
//! It names the units to run, takes each output out of `run`'s sight, digests, seals and stores it while the
//! next unit runs, keeps the time in case `step` does not, journals every fact before it acts on it, and
//! leaves report or abstention in its termination message. It believes of a unit only what `step` says over
//! the one connection, and of files only what it reads itself. It never runs anything of a stranger's.

mod store;
mod take;

use std::cell::RefCell;
use std::fs;
use std::future::pending;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinError;
use tradewind_gateway_api::client::{ClientConfig, ClientError, GatewayClient};
use tradewind_gateway_api::slice::{
    AbstainCause, Abstention, PENDING_UNITS_MAX, SliceConfig, SliceReport, TerminationError,
    TerminationMessage, UNIT_ATTEMPTS_MAX,
};
use tradewind_gateway_api::template::{Template, TemplateError};
use tradewind_market::{UnitIndex, Units};

use crate::config::{self, ConfigError, Lease};
use crate::handshake::{self, Ended, Ending, FromStep, Plan, ToStep};
use crate::journal::{Journal, Progress, Record, Taken};
use crate::volume::Volume;
use store::{StoreError, Uploader};

/// Beyond a unit's limit, for ending its processes and clearing what it left, before `step` counts as hung.
const HANDOVER_PATIENCE: Duration = Duration::from_mins(2);
/// How long `step` may take to say that it is ready.
const READY_PATIENCE: Duration = Duration::from_secs(10);
/// After a connection broke, nothing is believed for this long. The kernel closes the files of a dying
/// process 1 a moment before it ends the others of its namespace; in that moment one could connect.
const SETTLE: Duration = Duration::from_secs(1);

/// Where `collect` finds things.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// The slice's volume.
    pub volume: PathBuf,
    /// The mounted Secret.
    pub grant: PathBuf,
    /// What the kubelet reads when the container ends.
    pub termination_log: PathBuf,
}

/// Why `collect` ends before it is told to. The kubelet starts it again, and it goes on from the journal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError {
    /// Its own configuration.
    #[error("collect cannot be configured")]
    Config(#[from] ConfigError),
    /// The journal.
    #[error("the journal failed")]
    Journal(#[source] io::Error),
    /// The template that `fetch` laid down.
    #[error("the template that fetch left cannot be used")]
    Template(#[from] TemplateError),
    /// The template is not there.
    #[error("the template that fetch left cannot be read")]
    TemplateFile(#[source] io::Error),
    /// The relay's client.
    #[error("the relay's client cannot be made")]
    Client(#[from] ClientError),
    /// The socket.
    #[error("the socket for step failed")]
    Socket(#[source] io::Error),
    /// An output.
    #[error("the output of unit {unit} cannot be taken")]
    Take {
        /// Whose.
        unit: u32,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The termination message.
    #[error("the termination message cannot be written")]
    Termination(#[source] io::Error),
    /// The termination message's text.
    #[error("the termination message is malformed")]
    Message(#[from] TerminationError),
    /// A thread ended early.
    #[error("a working thread ended early")]
    Thread(#[from] JoinError),
    /// Signals cannot be awaited.
    #[error("signals cannot be awaited")]
    Signal(#[source] io::Error),
}

/// Collects until SIGTERM.
pub(crate) async fn run(paths: Paths, slice_text: &str) -> Result<(), CollectError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(CollectError::Signal)?;
    let config = config::slice(slice_text)?;
    let volume = Volume::at(&paths.volume);
    let journal = Journal::open(&volume.journal()).map_err(CollectError::Journal)?;
    let restarted = !journal.state().starts.is_empty();
    let job = match journal.state().abstained {
        // `fetch` gave up: there is no template.
        Some(_) => None,
        None => Some(Job::open(&paths, &volume, &config)?),
    };
    let collect = Collect {
        config,
        volume,
        termination_log: paths.termination_log,
        job,
        journal: RefCell::new(journal),
        changes: watch::Sender::new(()),
    };
    collect.leave_message_if_ended()?;
    let ended: Result<(), CollectError> = tokio::select! {
        result = collect.serve(restarted) => result,
        result = collect.store_units() => result,
        _ = terminate.recv() => Ok(()),
    };
    ended?;
    collect.leave_message()
}

/// What the slice runs, and how its results are stored.
struct Job {
    lease: Lease,
    template: Template,
    uploader: Uploader,
}

impl Job {
    fn open(paths: &Paths, volume: &Volume, config: &SliceConfig) -> Result<Self, CollectError> {
        let lease = config::lease(&paths.grant)?;
        let bytes = fs::read(volume.template()).map_err(CollectError::TemplateFile)?;
        let template = Template::from_bytes(&bytes, lease.grant.template.digest)?;
        let uploader = Uploader {
            client: GatewayClient::new(ClientConfig::new([lease.grant.relay.as_str()]))?,
            token: lease.token.clone(),
            patience: Duration::from_secs(config.store_seconds_max.into()),
        };
        Ok(Self {
            lease,
            template,
            uploader,
        })
    }
}

/// How a connection with `step` ended.
enum Served {
    /// `step` was told to finish.
    Finished,
    /// The connection broke, or `step` said what it must not.
    Broken,
}

struct Collect {
    config: SliceConfig,
    volume: Volume,
    termination_log: PathBuf,
    job: Option<Job>,
    journal: RefCell<Journal>,
    changes: watch::Sender<()>,
}

impl Collect {
    fn record(&self, record: Record) -> Result<(), CollectError> {
        self.journal
            .borrow_mut()
            .append(record)
            .map_err(CollectError::Journal)?;
        self.changes.send_replace(());
        self.leave_message_if_ended()
    }

    fn abstain(&self, abstention: Abstention) -> Result<(), CollectError> {
        self.record(Record::Abstained(abstention))
    }

    fn has_ended(&self) -> bool {
        let journal = self.journal.borrow();
        journal.state().report.is_some() || journal.state().abstained.is_some()
    }

    /// Waits until `condition` holds for what is journalled.
    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let mut changes = self.changes.subscribe();
        while !condition(self) {
            // The sender lives as long as we do.
            if changes.changed().await.is_err() {
                pending::<()>().await;
            }
        }
    }

    /// Serves one `step` after another, each on the only connection there can be.
    async fn serve(&self, restarted: bool) -> Result<(), CollectError> {
        let socket = self.volume.socket();
        let mut settle = restarted;
        loop {
            if settle {
                tokio::time::sleep(SETTLE).await;
            }
            let stream = accept_one(&socket).await.map_err(CollectError::Socket)?;
            settle = match self.serve_step(stream).await? {
                Served::Finished => false,
                Served::Broken => true,
            };
        }
    }

    async fn serve_step(&self, mut stream: UnixStream) -> Result<Served, CollectError> {
        let ready = tokio::time::timeout(READY_PATIENCE, handshake::receive_async(&mut stream)).await;
        if !matches!(ready, Ok(Ok(FromStep::Ready))) {
            return Ok(Served::Broken);
        }
        if let (Some(job), false) = (&self.job, self.has_ended()) {
            let plan = ToStep::Plan(Plan::of(&job.template));
            if handshake::send_async(&mut stream, &plan).await.is_err() {
                return Ok(Served::Broken);
            }
            while let Some(unit) = self.next_start().await? {
                if let Served::Broken = self.run_unit(&mut stream, job, unit).await? {
                    return Ok(Served::Broken);
                }
            }
            self.until(Self::has_ended).await;
        }
        match handshake::send_async(&mut stream, &ToStep::Finish).await {
            Ok(()) => Ok(Served::Finished),
            Err(_) => Ok(Served::Broken),
        }
    }

    /// The unit to run next, once there is room for its output; `None` when there is none, or no reason to.
    async fn next_start(&self) -> Result<Option<u32>, CollectError> {
        self.until(|this| {
            this.has_ended() || this.journal.borrow().state().unstored().count() <= PENDING_UNITS_MAX
        })
        .await;
        if self.has_ended() {
            return Ok(None);
        }
        let next = {
            let journal = self.journal.borrow();
            let state = journal.state();
            state.next_unit(&self.config).map(|unit| {
                let starts = state.starts.get(&unit).copied().unwrap_or_default();
                (unit, starts, state.last_loss.get(&unit).cloned())
            })
        };
        let Some((unit, starts, last_loss)) = next else {
            return Ok(None);
        };
        if starts < UNIT_ATTEMPTS_MAX {
            return Ok(Some(unit));
        }
        let (cause, detail) = last_loss.unwrap_or((
            AbstainCause::Interrupted,
            "the container ended while the unit ran".to_owned(),
        ));
        let detail = format!("{starts} attempts, the last: {detail}");
        self.abstain(Abstention::new(cause, Some(UnitIndex::new(unit)), detail))?;
        Ok(None)
    }

    async fn run_unit(&self, stream: &mut UnixStream, job: &Job, unit: u32) -> Result<Served, CollectError> {
        self.record(Record::Started { unit })?;
        if handshake::send_async(stream, &ToStep::Run { unit })
            .await
            .is_err()
        {
            return Ok(Served::Broken);
        }
        let started = Instant::now();
        let limit =
            Duration::from_secs(job.template.seconds_per_unit.get()).saturating_add(HANDOVER_PATIENCE);
        let Ok(answer) = tokio::time::timeout(limit, handshake::receive_async(stream)).await else {
            let detail = format!("nothing was heard of the unit for {} s", limit.as_secs());
            self.abstain(Abstention::new(
                AbstainCause::TimeLimit,
                Some(UnitIndex::new(unit)),
                detail,
            ))?;
            return Ok(Served::Broken);
        };
        let ended = match answer {
            Ok(FromStep::Ended(ended)) if ended.unit == unit => ended,
            _ => {
                let detail = "the container ended while the unit ran".to_owned();
                self.record(Record::Lost {
                    unit,
                    cause: AbstainCause::Interrupted,
                    detail,
                })?;
                return Ok(Served::Broken);
            }
        };
        let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.take_in(ended, millis).await?;
        Ok(Served::Finished)
    }

    /// Every process of the unit has ended: what it left is what it is.
    async fn take_in(&self, ended: Ended, millis: u64) -> Result<(), CollectError> {
        let Ended {
            unit,
            ending,
            stderr_tail,
        } = ended;
        match ending {
            Ending::Finished(outcome) => {
                let volume = self.volume.clone();
                tokio::task::spawn_blocking(move || take::take(&volume, unit))
                    .await?
                    .map_err(|source| CollectError::Take { unit, source })?;
                self.record(Record::Taken(Taken {
                    unit,
                    outcome,
                    millis,
                    stderr_tail,
                }))
            }
            Ending::Lost { cause, detail } => {
                self.record(Record::Lost {
                    unit,
                    cause,
                    detail: detail.clone(),
                })?;
                if may_pass(cause) {
                    return Ok(());
                }
                self.abstain(Abstention::new(cause, Some(UnitIndex::new(unit)), detail))
            }
        }
    }

    /// Stores units as they are taken, then the report. Ends only with an error of our own.
    async fn store_units(&self) -> Result<(), CollectError> {
        let Some(job) = &self.job else {
            return pending().await;
        };
        loop {
            self.until(|this| this.has_ended() || this.has_work()).await;
            if self.has_ended() {
                return pending().await;
            }
            let next = {
                let journal = self.journal.borrow();
                let unit = journal.state().unstored().next();
                unit.and_then(|unit| Some((unit, journal.state().units.get(&unit)?.clone())))
            };
            let stored = match &next {
                Some((unit, progress)) => self.store_unit(job, *unit, progress).await,
                None => self.store_report(job).await,
            };
            match stored {
                Ok(records) => records.into_iter().try_for_each(|record| self.record(record))?,
                Err(StoreFailure::Store(error)) => {
                    self.abstain(error.abstention(next.map(|(unit, _)| unit)))?;
                }
                Err(StoreFailure::Collect(error)) => return Err(error),
            }
        }
    }

    fn has_work(&self) -> bool {
        let journal = self.journal.borrow();
        let state = journal.state();
        state.unstored().next().is_some() || state.next_unit(&self.config).is_none()
    }

    async fn store_unit(
        &self,
        job: &Job,
        unit: u32,
        progress: &Progress,
    ) -> Result<Option<Record>, StoreFailure> {
        match progress {
            Progress::Taken(taken) => {
                let (volume, taken) = (self.volume.clone(), taken.clone());
                let limits = job.template.limits.output();
                let reader = job.template.output_recipient.clone();
                let sealing = move || store::seal_output(&volume, &taken, limits, &reader);
                let report = tokio::task::spawn_blocking(sealing)
                    .await
                    .map_err(CollectError::from)??;
                Ok(Some(Record::Sealed(report)))
            }
            Progress::Sealed(report) => {
                // No sooner: what is in the journal is what a restart goes by.
                let volume = self.volume.clone();
                let removing = move || take::remove_tree(&volume.taken(unit));
                tokio::task::spawn_blocking(removing)
                    .await
                    .map_err(CollectError::from)?
                    .map_err(StoreError::from)?;
                let sealed = self.volume.sealed(unit);
                job.uploader.upload(&sealed, report.blob).await?;
                self.record(Record::Stored { unit })?;
                fs::remove_file(sealed).map_err(StoreError::from)?;
                Ok(None)
            }
            Progress::Stored(_) => Ok(None),
        }
    }

    async fn store_report(&self, job: &Job) -> Result<Option<Record>, StoreFailure> {
        let report = SliceReport {
            job: self.config.job,
            units: self.journal.borrow().state().stored().copied().collect(),
        };
        let reference = store::seal_report(&self.volume, &report, &job.lease.grant.report_recipient)?;
        job.uploader
            .upload(&self.volume.sealed_report(), reference.blob)
            .await?;
        Ok(Some(Record::Reported(reference)))
    }

    fn leave_message_if_ended(&self) -> Result<(), CollectError> {
        if self.has_ended() {
            self.leave_message()
        } else {
            Ok(())
        }
    }

    fn leave_message(&self) -> Result<(), CollectError> {
        let journal = self.journal.borrow();
        let state = journal.state();
        let count = |count: usize| Units::new(u32::try_from(count).unwrap_or(u32::MAX));
        let abstain = match (&state.report, &state.abstained) {
            (Some(_), _) => None,
            (None, Some(abstention)) => Some(abstention.clone()),
            (None, None) => Some(Abstention::new(
                AbstainCause::Interrupted,
                None,
                "the pod was ended before its slice",
            )),
        };
        let message = TerminationMessage {
            first_unit: self.config.first_unit,
            units: count(state.stored().count()),
            failed: count(
                state
                    .stored()
                    .filter(|report| !report.outcome.is_success())
                    .count(),
            ),
            report: state.report,
            abstain,
        };
        // In place: the kubelet mounts the one file.
        fs::write(&self.termination_log, message.to_text()?).map_err(CollectError::Termination)
    }
}

/// An output's or report's own failure makes the slice abstain; a failure of ours ends the process.
enum StoreFailure {
    Store(StoreError),
    Collect(CollectError),
}

impl From<StoreError> for StoreFailure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<CollectError> for StoreFailure {
    fn from(error: CollectError) -> Self {
        Self::Collect(error)
    }
}

/// Whether another attempt on the same node may end otherwise.
fn may_pass(cause: AbstainCause) -> bool {
    match cause {
        AbstainCause::OutOfMemory
        | AbstainCause::OutOfDisk
        | AbstainCause::Interrupted
        | AbstainCause::Node => true,
        AbstainCause::Inputs
        | AbstainCause::Key
        | AbstainCause::TemplateMismatch
        | AbstainCause::TimeLimit
        | AbstainCause::OutputLimit
        | AbstainCause::ScratchLimit
        | AbstainCause::ProcessLimit
        | AbstainCause::Leftovers
        | AbstainCause::NotIsolated
        | AbstainCause::Storage => false,
    }
}

/// Listens for one connection and stops listening: a socket that nobody listens on cannot even hold what a
/// unit sends into it.
async fn accept_one(socket: &Path) -> io::Result<UnixStream> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    let (stream, _) = listener.accept().await?;
    drop(listener);
    fs::remove_file(socket)?;
    Ok(stream)
}
