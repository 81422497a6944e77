//! `move`: brings more bytes than an object of the API holds to a volume of a job's namespace, or out of it.
//!
//! Why this is safe to run beside a user's own pods: it has no API token, no rights on the node, and is told by its
//! task alone what to do. The task's secrets open nothing that is not of this namespace: the key to this one job's
//! results (or to one input that an earlier job of the namespace stored), which end up in the namespace anyway, or a
//! grant to store one input, bounded in size and time. The operator's seed and account never come here. Whoever can
//! read Secrets in the namespace could read the task; it goes with the pod. What is written to a volume was compared
//! with the agreed root before it gets its name; what others put there is never overwritten; and no path is followed
//! through a link, so that a volume's content cannot lead the mover out of it.
//!
//! Doing a task twice is doing it once. The outcome goes into the termination message.

mod claim;
mod export;
mod import;
mod web;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::io::Errno;
use tradewind_gateway_api::client::{ClientConfig, ClientError, Fault, GatewayClient};
use tradewind_gateway_api::mover::{
    CLAIM_PATH, MoverCause, MoverReport, MoverTask, PASSAGE_PATH, TASK_KEY, TASK_PATH,
};

use crate::report::chain;

/// Largest task: 256 groups of about 500 bytes, with room to spare.
const TASK_BYTES_MAX: u64 = 1 << 20;

/// What the operator mounts.
#[derive(Debug, clap::Args)]
pub(crate) struct Places {
    /// The mounted Secret with the task.
    #[arg(long, env = "TRADEWIND_TASK", default_value = TASK_PATH)]
    task: PathBuf,
    /// The claim's volume.
    #[arg(long, env = "TRADEWIND_CLAIM", default_value = CLAIM_PATH)]
    claim: PathBuf,
    /// Where sealed bytes lie on their way.
    #[arg(long, env = "TRADEWIND_PASSAGE", default_value = PASSAGE_PATH)]
    passage: PathBuf,
    /// The file whose content the kubelet reports when the container ends.
    #[arg(
        long,
        env = "TRADEWIND_TERMINATION_LOG",
        default_value = "/dev/termination-log"
    )]
    termination_log: PathBuf,
}

/// Why a task is not done.
#[derive(Debug)]
struct Failure {
    cause: MoverCause,
    detail: String,
}

impl Failure {
    fn new(cause: MoverCause, detail: impl Into<String>) -> Self {
        Self {
            cause,
            detail: detail.into(),
        }
    }

    /// The volume refused something at `path`.
    fn of_volume(path: &str, error: &io::Error) -> Self {
        let cause = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => MoverCause::VolumeFull,
            Some(Errno::ROFS) => MoverCause::VolumeReadOnly,
            Some(Errno::ACCESS | Errno::PERM) => MoverCause::VolumeDenied,
            Some(Errno::LOOP | Errno::NOTDIR) => MoverCause::PathRefused,
            Some(Errno::NOENT) => MoverCause::Missing,
            _ => MoverCause::Node,
        };
        Self::new(cause, format!("{path} in the volume: {error}"))
    }

    /// The pod's own disk refused.
    fn of_node(path: &Path, error: &io::Error) -> Self {
        Self::new(MoverCause::Node, format!("{}: {error}", path.display()))
    }

    /// The gateways refused, or this pod's disk while it spoke with them.
    fn of_gateway(error: &ClientError) -> Self {
        let cause = match error.fault() {
            Fault::Local => MoverCause::Node,
            Fault::Passing | Fault::Absent | Fault::Request | Fault::Gateway => MoverCause::Gateway,
        };
        Self::new(cause, chain(error))
    }
}

/// Does the task, and says what came of it.
pub(crate) async fn run(places: Places) -> anyhow::Result<()> {
    let report = match work(&places).await {
        Ok(report) => report,
        Err(Failure { cause, detail }) => MoverReport::failed(cause, detail),
    };
    fs::write(&places.termination_log, report.to_text()?)
        .context("the termination message cannot be written")?;
    match report {
        MoverReport::Exported { .. } | MoverReport::Imported { .. } => Ok(()),
        MoverReport::Failed { cause, detail } => anyhow::bail!("{cause:?}: {detail}"),
    }
}

async fn work(places: &Places) -> Result<MoverReport, Failure> {
    match read_task(&places.task)? {
        MoverTask::Export(task) => export::run(&task, places).await,
        MoverTask::Import(task) => import::run(&task, places).await,
    }
}

fn read_task(directory: &Path) -> Result<MoverTask, Failure> {
    let path = directory.join(TASK_KEY);
    let bytes = fs::metadata(&path)
        .and_then(|file| {
            if file.len() > TASK_BYTES_MAX {
                Err(io::ErrorKind::FileTooLarge.into())
            } else {
                fs::read(&path)
            }
        })
        .map_err(|error| Failure::of_node(&path, &error))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(MoverCause::Node, format!("the task cannot be read: {error}")))
}

fn gateways(addresses: &[String]) -> Result<GatewayClient, Failure> {
    GatewayClient::new(ClientConfig::new(addresses)).map_err(|error| Failure::of_gateway(&error))
}
