//! The operator's own metrics. Labels are closed sets of names: never objects, addresses or error texts.

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Every metric of the shell and of the reconcilers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// `tradewind_reconciles_total{kind,outcome}`.
    pub(crate) reconciles: IntCounterVec,
    /// `tradewind_reconcile_seconds{kind}`.
    pub(crate) reconcile_seconds: HistogramVec,
    /// `tradewind_findings_total{kind,condition,status,reason}`: changes of conditions.
    pub(crate) findings: IntCounterVec,
    /// `tradewind_status_writes_total{kind}`.
    pub(crate) status_writes: IntCounterVec,
    /// `tradewind_invalid_objects_total{kind}`: objects seen that cannot be read as their kind.
    pub(crate) invalid_objects: IntCounterVec,
    /// `tradewind_event_failures_total`: Events that could not be written.
    pub(crate) event_failures: IntCounter,
    /// `tradewind_leader`: 1 while this replica acts.
    pub(crate) leader: IntGauge,
    /// What is known of the chain.
    pub(crate) chain: ChainMetrics,
}

/// Metrics of following the chain and of sending to it.
#[derive(Clone, Debug)]
pub(crate) struct ChainMetrics {
    /// `tradewind_chain_head_block`.
    pub(crate) head: IntGauge,
    /// `tradewind_chain_final_block`.
    pub(crate) finalized: IntGauge,
    /// `tradewind_chain_unwound_blocks_total`.
    pub(crate) unwound: IntCounter,
    /// `tradewind_chain_errors_total{task,error}`.
    pub(crate) errors: IntCounterVec,
    /// `tradewind_chain_alerts_total{alert}`.
    pub(crate) alerts: IntCounterVec,
    /// `tradewind_chain_intents_total{state}`: changes of state of intents.
    pub(crate) intents: IntCounterVec,
    /// `tradewind_chain_transactions_in_flight`.
    pub(crate) in_flight: IntGauge,
    /// `tradewind_chain_step_seconds{task}`.
    pub(crate) step_seconds: HistogramVec,
}

impl Metrics {
    /// Makes and registers all.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            reconciles: counters(
                registry,
                "tradewind_reconciles_total",
                "Reconciliations by kind of object and by how they ended.",
                &["kind", "outcome"],
            )?,
            reconcile_seconds: histograms(
                registry,
                "tradewind_reconcile_seconds",
                "How long reconciliations take.",
                &["kind"],
            )?,
            findings: counters(
                registry,
                "tradewind_findings_total",
                "Changes of conditions of objects, with the reason given.",
                &["kind", "condition", "status", "reason"],
            )?,
            status_writes: counters(
                registry,
                "tradewind_status_writes_total",
                "Statuses written.",
                &["kind"],
            )?,
            invalid_objects: counters(
                registry,
                "tradewind_invalid_objects_total",
                "Objects seen that cannot be read as what they say they are.",
                &["kind"],
            )?,
            event_failures: register(
                registry,
                IntCounter::new(
                    "tradewind_event_failures_total",
                    "Events that the API server did not take.",
                )?,
            )?,
            leader: register(
                registry,
                IntGauge::new("tradewind_leader", "1 while this replica is the one that acts.")?,
            )?,
            chain: ChainMetrics::register(registry)?,
        })
    }

    /// Counts a reconciliation that took this long and ended this way.
    pub(crate) fn reconciled(&self, kind: &'static str, outcome: &'static str, seconds: f64) {
        self.reconciles.with_label_values(&[kind, outcome]).inc();
        self.reconcile_seconds.with_label_values(&[kind]).observe(seconds);
    }
}

impl ChainMetrics {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            head: register(
                registry,
                IntGauge::new(
                    "tradewind_chain_head_block",
                    "Number of the newest block that was read.",
                )?,
            )?,
            finalized: register(
                registry,
                IntGauge::new(
                    "tradewind_chain_final_block",
                    "Number of the newest block that is final.",
                )?,
            )?,
            unwound: register(
                registry,
                IntCounter::new(
                    "tradewind_chain_unwound_blocks_total",
                    "Blocks that were read and then replaced by the chain.",
                )?,
            )?,
            errors: counters(
                registry,
                "tradewind_chain_errors_total",
                "Errors of the tasks that follow the chain and send to it.",
                &["task", "error"],
            )?,
            alerts: counters(
                registry,
                "tradewind_chain_alerts_total",
                "Things about our account that a human must look at.",
                &["alert"],
            )?,
            intents: counters(
                registry,
                "tradewind_chain_intents_total",
                "Changes of state of what we want to happen on chain.",
                &["state"],
            )?,
            in_flight: register(
                registry,
                IntGauge::new(
                    "tradewind_chain_transactions_in_flight",
                    "Transactions that are signed and not yet final.",
                )?,
            )?,
            step_seconds: histograms(
                registry,
                "tradewind_chain_step_seconds",
                "How long steps of the tasks that follow the chain and send to it take.",
                &["task"],
            )?,
        })
    }
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<HistogramVec, prometheus::Error> {
    // From a cache hit to an upload: 1 ms to about 17 minutes.
    let buckets = prometheus::exponential_buckets(0.001, 4.0, 11)?;
    register(
        registry,
        HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels)?,
    )
}

/// Registers a collector and hands it back.
pub(crate) fn register<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
