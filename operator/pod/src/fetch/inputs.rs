//! Template and inputs: downloaded through the relay, opened with the job's key, checked, laid out.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use tradewind_gateway_api::archive::{ArchiveError, Modes, Unpacker};
use tradewind_gateway_api::client::{ClientError, Download, Fault, GatewayClient};
use tradewind_gateway_api::seal::{self, Opener, OpeningKey, SEALING_OVERHEAD_BYTES, SealError};
use tradewind_gateway_api::slice::{AbstainCause, Abstention, INPUT_LIMITS};
use tradewind_gateway_api::template::{Input, TEMPLATE_BYTES_MAX, Template};

use super::FetchError;
use crate::config::Lease;
use crate::report::chain;
use crate::volume::Volume;

const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Why template and inputs are not there.
#[derive(Debug)]
pub(super) enum FetchFailure {
    /// The slice cannot be run: said so on chain.
    Abstain(Abstention),
    /// Ours to try again.
    Fetch(FetchError),
}

impl From<Abstention> for FetchFailure {
    fn from(abstention: Abstention) -> Self {
        Self::Abstain(abstention)
    }
}

impl From<FetchError> for FetchFailure {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

/// Brings what a slice needs.
#[derive(Debug)]
pub(super) struct Fetcher<'a> {
    pub(super) client: GatewayClient,
    pub(super) lease: &'a Lease,
    pub(super) volume: &'a Volume,
    pub(super) deadline: Instant,
}

impl Fetcher<'_> {
    /// Brings template and inputs, unless they are there already.
    pub(super) async fn fetch(&self) -> Result<(), FetchFailure> {
        let mark = self.volume.fetched_mark();
        if mark.exists() {
            return Ok(());
        }
        let (template, bytes) = self.template().await?;
        self.volume
            .make_directories(template.writable_paths.len())
            .map_err(FetchError::volume(&self.volume.inputs()))?;
        // Of a fetch that was cut off.
        crate::clear::clear(&self.volume.inputs()).map_err(FetchError::volume(&self.volume.inputs()))?;
        for input in &template.inputs {
            self.input(input).await?;
        }
        let path = self.volume.template();
        fs::write(&path, bytes).map_err(FetchError::volume(&path))?;
        fs::write(&mark, b"").map_err(FetchError::volume(&mark))?;
        Ok(())
    }

    async fn template(&self) -> Result<(Template, Vec<u8>), FetchFailure> {
        let reference = &self.lease.grant.template;
        let bytes_max = TEMPLATE_BYTES_MAX + TEMPLATE_BYTES_MAX / 1024 + SEALING_OVERHEAD_BYTES;
        let download = Download {
            digest: reference.blob,
            bytes_max,
        };
        let path = self.volume.downloads().join("template.age");
        self.download(download, &path, AbstainCause::TemplateMismatch)
            .await?;
        let sealed = fs::read(&path).map_err(FetchError::volume(&path))?;
        let bytes = seal::open_bytes(&self.lease.job_key, &sealed, TEMPLATE_BYTES_MAX)
            .map_err(|error| seal_abstention(&error, AbstainCause::TemplateMismatch, "the template"))?;
        let template = Template::from_bytes(&bytes, reference.digest)
            .map_err(|error| Abstention::new(AbstainCause::TemplateMismatch, None, chain(&error)))?;
        fs::remove_file(&path).map_err(FetchError::volume(&path))?;
        Ok((template, bytes.to_vec()))
    }

    async fn input(&self, input: &Input) -> Result<(), FetchFailure> {
        let path = self.volume.downloads().join(format!("{}.age", input.name));
        let download = Download {
            digest: input.blob,
            bytes_max: input.stored_bytes,
        };
        self.download(download, &path, AbstainCause::Inputs).await?;
        let target = self.volume.inputs().join(&input.name);
        fs::create_dir(&target).map_err(FetchError::volume(&target))?;
        let (key, expected, from) = (self.lease.job_key.clone(), input.clone(), path.clone());
        let unpacking = move || unpack(&key, &expected, &from, &target);
        tokio::task::spawn_blocking(unpacking)
            .await
            .map_err(FetchError::from)??;
        fs::remove_file(&path).map_err(FetchError::volume(&path))?;
        Ok(())
    }

    /// Downloads to a file; tries on until the deadline, also for what no gateway has yet.
    async fn download(
        &self,
        download: Download,
        path: &Path,
        cause: AbstainCause,
    ) -> Result<(), FetchFailure> {
        loop {
            let Err(error) = self.client.get_to_file(download, path).await else {
                return Ok(());
            };
            if let ClientError::File { path, source } = error {
                return Err(FetchError::Volume { path, source }.into());
            }
            let may_pass = matches!(error.fault(), Fault::Passing | Fault::Absent);
            if !may_pass || Instant::now() >= self.deadline {
                return Err(Abstention::new(cause, None, chain(&error)).into());
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

/// Opens and unpacks one input. Blocks: for a thread of its own.
fn unpack(key: &OpeningKey, input: &Input, sealed: &Path, target: &Path) -> Result<(), FetchFailure> {
    let what = format!("input {}", input.name);
    let file = File::open(sealed).map_err(FetchError::volume(sealed))?;
    let opener =
        Opener::new(key, file).map_err(|error| seal_abstention(&error, AbstainCause::Inputs, &what))?;
    let unpacked = Unpacker::new(opener, INPUT_LIMITS, Some(input.manifest_digest))
        .and_then(|archive| archive.unpack(target, Modes::ReadOnly));
    match unpacked {
        Ok(_) => Ok(()),
        Err(ArchiveError::Write { path, source }) => Err(FetchError::Volume {
            path: path.into(),
            source,
        }
        .into()),
        Err(error) => {
            Err(Abstention::new(AbstainCause::Inputs, None, format!("{what}: {}", chain(&error))).into())
        }
    }
}

fn seal_abstention(error: &SealError, damaged: AbstainCause, what: &str) -> Abstention {
    let cause = match error {
        SealError::OtherReader => AbstainCause::Key,
        _ => damaged,
    };
    Abstention::new(cause, None, format!("{what}: {}", chain(error)))
}
