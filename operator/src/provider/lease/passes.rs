//! Passes under way: one at a time for a job, as many at once as configured, and pauses after those that failed.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::BoxFuture, stream::FuturesUnordered};
use tradewind_chain::Disposition;
use tradewind_market::JobId;

use super::{KIND, Leases};
use crate::{
    provider::ProviderError,
    shell::{chain::ChainView, context::Context},
};

/// Pauses after a pass that did not come to its end.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// Shorter than the least margin before a deadline.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Passes under way, at most one for a job.
#[derive(Default)]
pub(super) struct Passes {
    pub(super) running: FuturesUnordered<BoxFuture<'static, (JobId, Result<(), ProviderError>)>>,
    busy: BTreeSet<JobId>,
    /// Jobs that wait after an error: until when, and how long the next wait is.
    paused: HashMap<JobId, (Instant, Duration)>,
}

impl Passes {
    pub(super) fn start(&mut self, leases: &Arc<Leases>, view: &Arc<ChainView>) {
        let room = usize::from(leases.context.args.concurrency);
        for job in leases.jobs(view) {
            if self.running.len() >= room {
                return;
            }
            let paused = self
                .paused
                .get(&job)
                .is_some_and(|(until, _)| *until > Instant::now());
            if paused || !self.busy.insert(job) {
                continue;
            }
            let (leases, view) = (Arc::clone(leases), Arc::clone(view));
            self.running
                .push(async move { (job, leases.timely_pass(job, &view).await) }.boxed());
        }
    }

    /// Clears up beside the passes, once at a time. No job has the id zero.
    pub(super) fn start_sweep(&mut self, leases: &Arc<Leases>, view: &Arc<ChainView>) {
        if self.busy.insert(JobId::ZERO) {
            let (leases, view) = (Arc::clone(leases), Arc::clone(view));
            self.running
                .push(async move { (JobId::ZERO, leases.sweep(&view).await) }.boxed());
        }
    }

    pub(super) fn ended(&mut self, context: &Context, job: JobId, done: Result<(), ProviderError>) {
        self.busy.remove(&job);
        match done {
            Ok(()) => {
                self.paused.remove(&job);
            }
            Err(error) => {
                let pause = self.paused.get(&job).map_or(PAUSE_FIRST, |(_, pause)| *pause);
                let source = std::error::Error::source(&error).map(ToString::to_string);
                match error.disposition() {
                    Disposition::Retry => {
                        tracing::warn!(%job, %error, source, "a lease's pass failed; trying again");
                    }
                    Disposition::AwaitChange | Disposition::Halt => {
                        tracing::error!(%job, %error, source, "a lease's pass failed; something must change");
                    }
                }
                context
                    .metrics
                    .reconciles
                    .with_label_values(&[KIND, error.label()])
                    .inc();
                self.paused.insert(
                    job,
                    (Instant::now() + pause, pause.saturating_mul(2).min(PAUSE_MAX)),
                );
            }
        }
    }
}
