//! `e2e kill`: an operator is killed at a point of a job's life, and what that left and came to is shown.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::lab::{Lab, LabSpec, Progress, Raise};
use crate::market::Market;

use super::restarts::{self, Point};
use super::{CLUSTERS, OFFERS_WITHIN, ScenarioError, WINDOWS};

/// The lab that is raised where none is named.
const LAB: &str = "kill";

/// What is killed, and where.
#[derive(Clone, Debug, Args)]
pub struct KillArguments {
    /// The point of the job's life.
    #[arg(long, value_enum)]
    at: Point,
    /// A lab that is up with a market whose data centers sell; without it, one is raised and lowered again.
    #[arg(long)]
    name: Option<String>,
}

impl KillArguments {
    /// Applies a job, kills whoever acts at that point, and shows journal, chain and pods as they were found and as
    /// they are in the end. Fails where an intent has not exactly one transaction, or a pod was touched.
    pub fn run(&self, call_off: &CancellationToken) -> Result<ExitCode, ScenarioError> {
        let progress = Progress::shown();
        let Some(name) = &self.name else {
            let raise = Raise {
                progress: progress.clone(),
                call_off: call_off.clone(),
                fresh: true,
            };
            let lab = Lab::raise(&LabSpec::market(LAB, CLUSTERS), &raise)?;
            let shown = lab
                .run(async {
                    let market = Market::raise(&lab, WINDOWS, &progress).await?;
                    market.sell(OFFERS_WITHIN).await?;
                    Box::pin(self.show(&lab, &progress, call_off)).await
                })
                .map_err(ScenarioError::from)
                .flatten();
            drop(lab);
            progress.during("lowering the lab", || Lab::down(LAB))?;
            return shown;
        };
        let lab = Lab::attach(name)?;
        lab.run(self.show(&lab, &progress, call_off))?
    }

    async fn show(
        &self,
        lab: &Lab,
        progress: &Progress,
        call_off: &CancellationToken,
    ) -> Result<ExitCode, ScenarioError> {
        let market = Market::attach(lab)?;
        // A namespace of its own for each time that this is run on one lab.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let namespace = format!("kill-{}", since.as_secs());
        let tell = |text: &str| progress.say(text);
        tokio::select! {
            shown = restarts::operator_killed(&market, &namespace, self.at, tell) => shown?,
            () = call_off.cancelled() => return Err(ScenarioError::NotSo("called off".to_owned())),
        }
        progress.say("each intent has one transaction, no pod was touched, and the books balance");
        Ok(ExitCode::SUCCESS)
    }
}
