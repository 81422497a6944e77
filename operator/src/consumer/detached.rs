//! Jobs whose objects are gone: cancelled, judged and settled until no money is in them, then forgotten.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tradewind_daemon::CancellationToken;
use tradewind_market::{
    Knowledge,
    plan::consumer::{Desire, Situation, Step, consumer_plan},
    state::JobState,
};

use super::{Consumer, cancel::Record, memory::Memo};
use crate::shell;

/// Between two looks at the records themselves.
const LIST_EVERY: Duration = Duration::from_secs(5);

/// Runs until shutdown.
pub(crate) async fn run(consumer: &Consumer, shutdown: &CancellationToken) {
    let pace = Duration::from_millis(consumer.context.args.chain.poll_ms.max(250));
    let mut records = Vec::new();
    let mut listed: Option<Instant> = None;
    while !shutdown.is_cancelled() {
        if listed.is_none_or(|at| at.elapsed() >= LIST_EVERY) {
            match consumer.records.list().await {
                Ok(found) => {
                    records = found;
                    listed = Some(Instant::now());
                }
                Err(error) => tracing::warn!(%error, "the records of cancelled jobs could not be read"),
            }
        }
        for record in &records {
            if consumer.see_to_its_end(*record).await {
                // Listed anew before the next look, so that it is not seen to again.
                listed = None;
            }
        }
        tokio::select! {
            () = sleep(pace) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

impl Consumer {
    /// Whether the record is done with.
    async fn see_to_its_end(&self, record: Record) -> bool {
        let view = self.context.chain.view();
        let Some(now) = view
            .now()
            .filter(|_| view.caught_up && self.context.leadership.holds())
        else {
            return false;
        };
        let finalized = match view.finalized().job(record.job) {
            Knowledge::Known(job) => Some(job),
            Knowledge::Absent | Knowledge::Unknown => None,
        };
        let over = match view.head().job(record.job) {
            Knowledge::Known(head) => {
                let memo = self.memory.of(record.job);
                let mut memo = memo.lock().await;
                self.read_messages(&mut memo, record).await;
                let steps = consumer_plan(&Situation {
                    desire: Desire::Cancel,
                    not_after: None,
                    head,
                    finalized,
                    bundled: None,
                    messages: memo.mailbox.messages(),
                    delivered: None,
                    now,
                });
                for step in &steps {
                    match step {
                        Step::Cancel(_)
                        | Step::Relay(_)
                        | Step::Judge(_)
                        | Step::Settle(_)
                        | Step::Close(_) => {
                            self.send(&view, &memo, &head, step);
                        }
                        // Nothing new is started, and nobody wants the results.
                        Step::Seek(_)
                        | Step::Seal { .. }
                        | Step::PublishBundle(_)
                        | Step::Fetch { .. }
                        | Step::Finish(_) => {}
                    }
                }
                finalized.is_some_and(|job| matches!(job.state, JobState::Ended { .. }))
            }
            Knowledge::Absent => finalized.is_none() && shell::now() > record.forget_after,
            Knowledge::Unknown => false,
        };
        if over {
            self.memory.forget(record.job);
            if let Err(error) = self.records.forget(record.job).await {
                tracing::warn!(%error, job = %record.job, "the record of a job that is over could not be removed");
                return false;
            }
            tracing::info!(job = %record.job, "a cancelled job is over; its record is removed");
        }
        over
    }

    async fn read_messages(&self, memo: &mut Memo, record: Record) {
        let (gateways, domain) = (&self.context.gateways, &self.context.market.domain);
        if let Err(error) = memo.mailbox.refresh(gateways, domain, record.job).await {
            tracing::debug!(%error, job = %record.job, "messages of a cancelled job could not be read");
        }
    }
}
