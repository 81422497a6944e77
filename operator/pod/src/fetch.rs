//! `fetch`: everything that must be there before a unit may run, or a reason why none will.
//!
//! It checks that the pod is shut in, brings template and inputs, checks every digest, lays inputs out
//! read-only, and installs the program for `run`. Where that fails for a reason that is the job's or the
//! node's, it journals the abstention and ends well: `collect` then tells it, and `step` runs nothing.

mod inputs;
pub(crate) mod isolation;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::task::JoinError;
use tradewind_gateway_api::client::{ClientConfig, ClientError, GatewayClient};
use tradewind_gateway_api::slice::Abstention;

use crate::config::{self, ConfigError};
use crate::journal::{Journal, Record};
use crate::volume::Volume;
use inputs::{FetchFailure, Fetcher};

/// Where `fetch` finds things.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// The slice's volume.
    pub volume: PathBuf,
    /// The mounted Secret.
    pub grant: PathBuf,
}

/// Why `fetch` ends without even an abstention. The kubelet starts it again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Its own configuration.
    #[error("fetch cannot be configured")]
    Config(#[from] ConfigError),
    /// The relay's client.
    #[error("the relay's client cannot be made")]
    Client(#[from] ClientError),
    /// The volume.
    #[error("cannot prepare {path}")]
    Volume {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A thread ended early.
    #[error("a working thread ended early")]
    Thread(#[from] JoinError),
}

impl FetchError {
    fn volume(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Volume { path, source }
    }
}

/// Prepares the volume, or journals why the slice abstains.
pub(crate) async fn run(paths: Paths, slice_text: &str) -> Result<(), FetchError> {
    let config = config::slice(slice_text)?;
    let lease = config::lease(&paths.grant)?;
    let volume = Volume::at(&paths.volume);
    volume
        .make_directories(0)
        .map_err(FetchError::volume(&paths.volume))?;
    let journal_path = volume.journal();
    let mut journal = Journal::open(&journal_path).map_err(FetchError::volume(&journal_path))?;
    // Always, even where all was fetched before: the pod's sandbox may be another by now.
    install_program(&volume)?;
    let bringer = Fetcher {
        client: GatewayClient::new(ClientConfig::new([lease.grant.relay.as_str()]))?,
        lease: &lease,
        volume: &volume,
        deadline: Instant::now() + Duration::from_secs(config.fetch_seconds_max.into()),
    };
    let (shut, fetched) = tokio::join!(isolation::require_isolated(&config.canaries), bringer.fetch());
    let abstention = match (shut, fetched) {
        (Err(abstention), _) | (Ok(()), Err(FetchFailure::Abstain(abstention))) => Some(abstention),
        (Ok(()), Err(FetchFailure::Fetch(error))) => return Err(error),
        (Ok(()), Ok(())) => None,
    };
    abstention.map_or(Ok(()), |abstention| {
        abstain(&mut journal, &journal_path, abstention)
    })
}

fn abstain(journal: &mut Journal, path: &Path, abstention: Abstention) -> Result<(), FetchError> {
    eprintln!(
        "the slice abstains: {:?}: {}",
        abstention.cause, abstention.detail
    );
    journal
        .append(Record::Abstained(abstention))
        .map_err(FetchError::volume(path))
}

/// Copies this very program to where `run` finds it.
fn install_program(volume: &Volume) -> Result<(), FetchError> {
    let program = volume.step_program();
    let install = || {
        let new = program.with_extension("new");
        fs::copy("/proc/self/exe", &new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o555))?;
        fs::rename(&new, &program)
    };
    install().map_err(FetchError::volume(&program))
}
