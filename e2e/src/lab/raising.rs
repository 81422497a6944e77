//! What every part of a lab needs while it is raised, and how the parts wait for one another.

use std::future::Future;
use std::time::{Duration, Instant};

use super::cgroups::Cgroups;
use super::error::LabError;
use super::places::LabPlaces;
use super::process::Record;
use super::progress::Progress;
use super::roster::Roster;
use super::toolchain::Toolchain;

/// How often a condition that gives no event is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The tools, the roster and the progress of one raising.
#[derive(Debug)]
pub(crate) struct Raising<'a> {
    pub(crate) places: &'a LabPlaces,
    pub(crate) toolchain: &'a Toolchain,
    pub(crate) cgroups: &'a Cgroups,
    pub(crate) roster: &'a Roster,
    pub(crate) progress: &'a Progress,
}

impl Raising<'_> {
    /// The cgroup of registry and EVM node.
    pub(crate) fn services_cgroup(&self) -> String {
        format!("{}/services", self.places.cgroup())
    }

    /// Waits until `ready`, for as long as all of `needed` run and the limit has not passed.
    pub(crate) async fn wait<F>(
        &self,
        waiting_for: &str,
        limit: Duration,
        needed: &[&Record],
        ready: impl Fn() -> F,
    ) -> Result<(), LabError>
    where
        F: Future<Output = bool>,
    {
        let started = Instant::now();
        while !ready().await {
            if let Some(gone) = needed.iter().find(|record| !record.alive()) {
                return Err(gone.ended(waiting_for));
            }
            if started.elapsed() > limit {
                return Err(LabError::Late {
                    waiting_for: waiting_for.to_owned(),
                    seconds: limit.as_secs(),
                    logs: self.places.logs(),
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}
