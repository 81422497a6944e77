//! How leases are paced: flags, with defaults for chains whose blocks take seconds.

use std::time::Duration;

use clap::Args as ClapArgs;
use tradewind_daemon::args::parse_seconds;
use tradewind_market::{Seconds, plan::provider::Timing};

/// How this cluster works on its leases.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub(crate) struct LeaseArgs {
    /// Seconds to leave before a deadline of the protocol, so that what is sent then is included in time.
    #[arg(long, env = "TRADEWIND_DEADLINE_MARGIN_SECONDS", default_value_t = 30)]
    pub(crate) deadline_margin: u32,

    /// Seconds that the buyer gets to judge and settle before this provider does so itself.
    #[arg(long, env = "TRADEWIND_SETTLE_PATIENCE_SECONDS", default_value_t = 120)]
    pub(crate) settle_patience: u32,

    /// Seconds before a slice is tried again the first time; the wait doubles with each attempt.
    #[arg(long, env = "TRADEWIND_RETRY_FIRST_SECONDS", default_value_t = 10)]
    pub(crate) retry_first: u32,

    /// The longest wait between attempts at a slice, in seconds.
    #[arg(long, env = "TRADEWIND_RETRY_MAX_SECONDS", default_value_t = 300)]
    pub(crate) retry_max: u32,

    /// How often a slice is tried in all.
    #[arg(long, env = "TRADEWIND_SLICE_ATTEMPTS", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) slice_attempts: u32,

    /// Seconds that a slice may take to fetch its inputs.
    #[arg(long, env = "TRADEWIND_FETCH_SECONDS_MAX", default_value_t = 600)]
    pub(crate) fetch_seconds_max: u32,

    /// Seconds that a slice may take to store what it has.
    #[arg(long, env = "TRADEWIND_STORE_SECONDS_MAX", default_value_t = 600)]
    pub(crate) store_seconds_max: u32,

    /// Seconds that a pod may fail to get the job's image before its seat is given back.
    #[arg(long, env = "TRADEWIND_IMAGE_PATIENCE_SECONDS", default_value_t = 300)]
    pub(crate) image_patience: u32,

    /// Least seconds between two writes of a lease's status, or of an offer's counts; what ends something, and what
    /// somebody waits for, is written at once.
    #[arg(long, env = "TRADEWIND_LEASE_STATUS_SECONDS", default_value = "60", value_parser = parse_seconds)]
    pub(crate) lease_status_every: Duration,

    /// Seconds that the record of a finished lease is kept.
    #[arg(long, env = "TRADEWIND_LEASE_KEPT_SECONDS", default_value = "604800", value_parser = parse_seconds)]
    pub(crate) lease_kept: Duration,
}

impl LeaseArgs {
    /// As the planner takes it.
    pub(crate) fn timing(&self, relay_patience: u32) -> Timing {
        let seconds = |seconds: u32| Seconds::new(seconds.into());
        Timing {
            margin: seconds(self.deadline_margin),
            relay_patience: seconds(relay_patience),
            settle_patience: seconds(self.settle_patience),
            retry_first: seconds(self.retry_first),
            retry_max: seconds(self.retry_max),
            attempts_max: self.slice_attempts,
        }
    }
}
