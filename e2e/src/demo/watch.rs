//! The job as it goes on: one line for each change that a person would want to hear of.

use std::fmt::Write as _;
use std::time::Duration;

use tradewind_crds::compute_job::ComputeJob;
use tradewind_crds::condition;
use tradewind_crds::job_status::JobCondition;

use crate::lab::Progress;
use crate::market::watch::{Found, Watched};
use crate::market::{Market, MarketError};

use super::DemoError;

/// A job that is watched.
#[derive(Debug)]
pub(super) struct Watch {
    watched: Watched<ComputeJob>,
    names: Vec<(String, String)>,
    progress: Progress,
    said: String,
}

impl Watch {
    pub(super) async fn start(
        market: &Market<'_>,
        namespace: &str,
        name: &str,
        names: Vec<(String, String)>,
        progress: Progress,
    ) -> Result<Self, DemoError> {
        let client = market.consumer()?.client().await?;
        Ok(Self {
            watched: Watched::start(client, namespace, name),
            names,
            progress,
            said: String::new(),
        })
    }

    /// Waits until the condition holds; a job that failed never comes there.
    pub(super) async fn until(&mut self, wanted: JobCondition, limit: Duration) -> Result<(), DemoError> {
        let Self {
            watched,
            names,
            progress,
            said,
        } = self;
        let mut failed = None;
        let what = format!("the job's condition {wanted:?}");
        watched
            .until(&what, limit, |job| {
                let Some(status) = &job.status else {
                    return Found::NotYet("no status yet".to_owned());
                };
                let line = describe(job, names);
                if *said != line {
                    progress.say(&line);
                    said.clone_from(&line);
                }
                if condition::is_true(&status.conditions, JobCondition::Failed) {
                    failed = Some(line);
                    return Found::Wanted;
                }
                if condition::is_true(&status.conditions, wanted) {
                    Found::Wanted
                } else {
                    Found::NotYet(line)
                }
            })
            .await?;
        failed.map_or(Ok(()), |line| Err(DemoError::Job(line)))
    }

    pub(super) fn job(&self) -> Option<&ComputeJob> {
        self.watched.last()
    }

    pub(super) fn job_id(&self) -> Result<&str, DemoError> {
        let id = self.job().and_then(|job| job.status.as_ref()?.job_id.as_ref());
        Ok(id
            .ok_or_else(|| MarketError::Chain("the job has no id on chain".to_owned()))?
            .as_str())
    }
}

fn describe(job: &ComputeJob, names: &[(String, String)]) -> String {
    let Some(status) = &job.status else {
        return String::new();
    };
    let mut line = match &status.phase {
        Some(phase) => format!("{phase:?}"),
        None => "new".to_owned(),
    };
    if let Some(reason) = &status.reason {
        // Writing to a String cannot fail, here and below.
        let _ = write!(line, " ({reason})");
    }
    if let Some(units) = &status.units {
        let _ = write!(line, ": {} committed, {} verified", units.summary, units.verified);
    }
    for provider in &status.providers {
        let address = provider.address.as_str().to_lowercase();
        let name = names
            .iter()
            .find(|(account, _)| *account == address)
            .map_or(address.as_str(), |(_, name)| name);
        let _ = write!(line, "; {name} {}/{} agreed", provider.agreed, provider.seats);
        for (count, what) in [
            (provider.dissented, "dissented"),
            (provider.abstained, "abstained"),
            (provider.no_show, "silent"),
        ] {
            if count > 0 {
                let _ = write!(line, ", {count} {what}");
            }
        }
    }
    line
}
