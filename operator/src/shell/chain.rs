//! The chain as the whole operator sees it: one follower and one sender for every role.
//!
//! It publishes what the market's index says as snapshots that readers keep as long as they like, and steps the
//! sender while this replica leads. It decides nothing about jobs.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tradewind_chain::{
    BlockId, Disposition, Header, Node, UnixMillis,
    follower::{Follower, FollowerConfig, FollowerError, Logged, Progress, Update},
    sender::{Alert, Intent, IntentId, IntentState, Sender, StepReport},
};
use tradewind_daemon::{CancellationToken, Gate};
use tradewind_market::{
    UnixSeconds,
    event::MarketEvent,
    index::{BlockRef, ChainView as Folded, IndexError, MarketIndex},
};

use crate::shell::{leader::Leadership, metrics::ChainMetrics};

/// The longest wait between tries after errors.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// What is known of the market, as of one moment.
#[derive(Clone, Debug)]
pub(crate) struct ChainView {
    folded: Arc<Folded>,
    /// The newest block; its timestamp is the time that the protocol's deadlines are compared with.
    pub(crate) head_block: Option<Header>,
    /// The final block.
    pub(crate) finalized_block: Option<BlockId>,
    /// Whether everything that the node knows has been followed, and the node does not lag.
    pub(crate) caught_up: bool,
}

impl ChainView {
    fn nothing() -> Self {
        Self {
            folded: Arc::default(),
            head_block: None,
            finalized_block: None,
            caught_up: false,
        }
    }

    /// The market as of the newest block, which may still be undone: for telling how things stand, and for calls
    /// that anyone may repeat.
    pub(crate) fn head(&self) -> &MarketIndex {
        self.folded.newest()
    }

    /// The market as of the final block: for everything that spends, runs or gives something away.
    pub(crate) fn finalized(&self) -> &MarketIndex {
        self.folded.finalized()
    }

    /// The chain's clock, with which the protocol's deadlines are compared; `None` before anything was read.
    pub(crate) fn now(&self) -> Option<UnixSeconds> {
        self.head_block.map(|head| head.timestamp)
    }
}

/// What is known of the chain, and what is wanted of it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    node: Node,
    view: watch::Receiver<Arc<ChainView>>,
    sender: Arc<Sender>,
    wanted: Arc<Notify>,
}

impl Chain {
    /// The newest view. Never waits.
    pub(crate) fn view(&self) -> Arc<ChainView> {
        Arc::clone(&self.view.borrow())
    }

    /// Wakes at every change of the view.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<ChainView>> {
        self.view.clone()
    }

    /// The node, for questions that events do not answer.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Asks for an intent that was concluded to be wanted from `view`, and says how far it is. Asking again changes
    /// nothing while it is under way. A full queue leaves it for the next pass.
    pub(crate) fn submit(&self, intent: Intent, view: &ChainView) -> IntentState {
        let seen = view.head_block.map(|head| head.id.number).unwrap_or_default();
        match self.sender.submit(intent, seen) {
            Ok(state) => {
                self.wanted.notify_one();
                state
            }
            Err(error) => {
                tracing::warn!(
                    error = error.label(),
                    "an intent has to wait for room in the queue"
                );
                IntentState::Intended
            }
        }
    }

    /// How far an intent is; `None` where it is not known.
    pub(crate) fn state(&self, id: IntentId) -> Option<IntentState> {
        self.sender.state(id)
    }
}

/// Follows the chain, publishes views, and steps the sender.
#[derive(Debug)]
pub(crate) struct ChainTasks {
    node: Node,
    config: FollowerConfig,
    poll: Duration,
    view: watch::Sender<Arc<ChainView>>,
    sender: Arc<Sender>,
    wanted: Arc<Notify>,
    metrics: ChainMetrics,
}

impl ChainTasks {
    /// The tasks, still to be spawned, and the handle to them.
    pub(crate) fn new(
        node: Node,
        config: FollowerConfig,
        sender: Sender,
        poll: Duration,
        metrics: ChainMetrics,
    ) -> (Arc<Self>, Chain) {
        let (view, reader) = watch::channel(Arc::new(ChainView::nothing()));
        let (sender, wanted) = (Arc::new(sender), Arc::new(Notify::new()));
        let chain = Chain {
            node: node.clone(),
            view: reader,
            sender: Arc::clone(&sender),
            wanted: Arc::clone(&wanted),
        };
        (
            Arc::new(Self {
                node,
                config,
                poll,
                view,
                sender,
                wanted,
                metrics,
            }),
            chain,
        )
    }

    /// Follows until shutdown; an error only where going on would show a false history.
    pub(crate) async fn follow(
        self: Arc<Self>,
        gate: Gate,
        shutdown: CancellationToken,
    ) -> Result<(), FollowerError> {
        gate.wait("the chain is not followed to its newest block yet");
        let mut follower: Follower<MarketEvent> = Follower::new(self.node.clone(), self.config.clone());
        let mut fold = Fold::default();
        let mut backoff = Backoff::new(self.poll);
        while !shutdown.is_cancelled() {
            let mut updates = Vec::new();
            let timer = self
                .metrics
                .step_seconds
                .with_label_values(&["follow"])
                .start_timer();
            let stepped = follower.step(&mut updates).await;
            timer.observe_duration();
            if let Err(error) = fold.absorb(updates, &self.metrics) {
                // What was folded cannot be trusted; the old view stands until all is read anew.
                self.metrics.errors.with_label_values(&["fold", "Index"]).inc();
                tracing::error!(%error, "the chain is read again from the start");
                self.lose_sight();
                follower = Follower::new(self.node.clone(), self.config.clone());
                fold = Fold::default();
                sleep(backoff.next()).await;
                continue;
            }
            let wait = match stepped {
                Ok(progress) => {
                    self.publish(&mut fold, progress);
                    if progress.caught_up && !progress.node_lags {
                        gate.open();
                    }
                    backoff.reset();
                    if progress.caught_up {
                        self.poll
                    } else {
                        Duration::ZERO
                    }
                }
                Err(error) => {
                    self.metrics
                        .errors
                        .with_label_values(&["follow", error.label()])
                        .inc();
                    match error.disposition() {
                        Disposition::Halt => return Err(error),
                        Disposition::Retry | Disposition::AwaitChange => {}
                    }
                    tracing::warn!(%error, "the chain could not be followed; trying again");
                    gate.wait("the chain cannot be followed at the moment");
                    self.lose_sight();
                    if matches!(error, FollowerError::Gap { .. }) {
                        // What was read cannot be trusted; the old view stands until all is read anew.
                        follower = Follower::new(self.node.clone(), self.config.clone());
                        fold = Fold::default();
                    }
                    backoff.next()
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = shutdown.cancelled() => {}
            }
        }
        Ok(())
    }

    fn publish(&self, fold: &mut Fold, progress: Progress) {
        self.metrics.head.set(metric(progress.head.id.number.get()));
        if let Some(finalized) = progress.finalized {
            self.metrics.finalized.set(metric(finalized.number.get()));
        }
        let caught_up = progress.caught_up && !progress.node_lags;
        self.view.send_if_modified(|view| {
            let same_block =
                view.head_block == Some(progress.head) && view.finalized_block == progress.finalized;
            if !fold.unpublished && same_block && view.caught_up == caught_up {
                return false;
            }
            // Until all that is new is read, an older and complete view is worth more than a newer half.
            if !progress.caught_up && view.caught_up {
                return false;
            }
            let folded = if std::mem::take(&mut fold.unpublished) {
                Arc::new(fold.folded.clone())
            } else {
                Arc::clone(&view.folded)
            };
            *view = Arc::new(ChainView {
                folded,
                head_block: Some(progress.head),
                finalized_block: progress.finalized,
                caught_up,
            });
            true
        });
        // The sender looks at every new block.
        self.wanted.notify_one();
    }

    fn lose_sight(&self) {
        self.view.send_if_modified(|view| {
            let changed = view.caught_up;
            if changed {
                *view = Arc::new(ChainView {
                    caught_up: false,
                    ..ChainView::clone(view)
                });
            }
            changed
        });
    }

    /// Steps the sender on every new block, every wish, and a timer, while this replica leads.
    pub(crate) async fn send(
        self: Arc<Self>,
        mut leadership: Leadership,
        shutdown: CancellationToken,
    ) -> Result<(), std::convert::Infallible> {
        tokio::select! {
            held = leadership.acquired() => if !held { return Ok(()) },
            () = shutdown.cancelled() => return Ok(()),
        }
        let (mut backoff, mut alerted) = (Backoff::new(self.poll), BTreeSet::new());
        while !shutdown.is_cancelled() {
            let mut wait = self.poll.max(Duration::from_millis(500));
            if leadership.holds() {
                let timer = self
                    .metrics
                    .step_seconds
                    .with_label_values(&["send"])
                    .start_timer();
                let stepped = self.sender.step(now_millis()).await;
                timer.observe_duration();
                match stepped {
                    Ok(report) => {
                        self.tell(report, &mut alerted);
                        backoff.reset();
                    }
                    Err(error) => {
                        self.metrics
                            .errors
                            .with_label_values(&["send", error.label()])
                            .inc();
                        // Even Halt stops only sending: the process goes on observing, and says so.
                        match error.disposition() {
                            Disposition::Halt => tracing::error!(%error, "nothing can be sent to the chain"),
                            Disposition::Retry | Disposition::AwaitChange => {
                                tracing::warn!(%error, "nothing was sent to the chain; trying again");
                            }
                        }
                        wait = backoff.next();
                    }
                }
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = self.wanted.notified() => {}
                () = shutdown.cancelled() => {}
            }
        }
        Ok(())
    }

    /// `alerted` holds what was said already and is still so.
    fn tell(&self, report: StepReport, alerted: &mut BTreeSet<&'static str>) {
        let StepReport {
            changes,
            alerts,
            waiting,
            queued: _,
            in_flight,
            journaled: _,
            rejections,
        } = report;
        self.metrics
            .in_flight
            .set(metric(u64::try_from(in_flight).unwrap_or(u64::MAX)));
        for (id, state) in changes {
            self.metrics.intents.with_label_values(&[state.label()]).inc();
            tracing::info!(%id, state = state.label(), "an intent changed");
        }
        let current: BTreeSet<&'static str> = alerts.iter().map(Alert::label).collect();
        for alert in alerts
            .into_iter()
            .filter(|alert| !alerted.contains(alert.label()))
        {
            self.metrics.alerts.with_label_values(&[alert.label()]).inc();
            tracing::error!(?alert, "the account needs a look");
        }
        *alerted = current;
        if let Some(reason) = waiting {
            tracing::debug!(?reason, "intents wait");
        }
        for (nonce, error) in rejections {
            tracing::debug!(%nonce, %error, "the node did not take a broadcast");
        }
    }
}

/// The market as folded so far, which only the follower changes.
#[derive(Debug, Default)]
struct Fold {
    folded: Folded,
    /// Whether it changed since it was published.
    unpublished: bool,
}

impl Fold {
    fn absorb(
        &mut self,
        updates: Vec<Update<MarketEvent>>,
        metrics: &ChainMetrics,
    ) -> Result<(), IndexError> {
        for update in updates {
            match update {
                Update::Applied { block, events } => {
                    let events: Vec<MarketEvent> =
                        events.into_iter().map(|Logged { event, .. }| event).collect();
                    self.unpublished |= !events.is_empty();
                    for anomaly in self.folded.apply(reference(block), events)? {
                        // The index sets the job aside: one bad job stops only itself.
                        metrics.errors.with_label_values(&["fold", "Anomaly"]).inc();
                        tracing::error!(%block, %anomaly, "an event does not fit what is known of its job");
                    }
                }
                Update::Unwound { block, events } => {
                    metrics.unwound.inc();
                    tracing::warn!(%block, events = events.len(), "the chain undid a block");
                    self.unpublished |= !events.is_empty();
                    self.folded.unwind(reference(block))?;
                }
                Update::Finalized { block } => {
                    self.unpublished = true;
                    self.folded.finalize(block.number)?;
                }
            }
        }
        Ok(())
    }
}

fn reference(block: BlockId) -> BlockRef {
    BlockRef {
        number: block.number,
        hash: block.hash,
    }
}

/// Doubling waits with a cap, from the poll interval on.
#[derive(Debug)]
struct Backoff {
    first: Duration,
    next: Duration,
}

impl Backoff {
    fn new(first: Duration) -> Self {
        Self { first, next: first }
    }

    fn reset(&mut self) {
        self.next = self.first;
    }

    fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(BACKOFF_MAX);
        wait
    }
}

fn metric(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn now_millis() -> UnixMillis {
    let now = jiff::Timestamp::now().as_millisecond();
    UnixMillis::new(u64::try_from(now).unwrap_or_default())
}
