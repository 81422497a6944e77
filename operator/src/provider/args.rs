//! The provider role's flags.

use std::time::Duration;

use clap::Args as ClapArgs;
use tradewind_daemon::args::parse_seconds;
use tradewind_market::{Address, Bps, Seconds, offer::Bounds};

use super::lease::settings::LeaseArgs;

/// How this cluster sells.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct ProviderArgs {
    /// First part of the names of the namespaces that job pods run in; they are numbered from 0.
    #[arg(long, env = "TRADEWIND_POOL_PREFIX", default_value = "tradewind-jobs")]
    pub(crate) pool_prefix: String,

    /// How many such namespaces there are.
    #[arg(long, env = "TRADEWIND_POOL_SIZE", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) pool_size: u16,

    /// Base URL of the relay, by IP address, since job pods have no DNS.
    #[arg(long, env = "TRADEWIND_RELAY_URL", default_value = "")]
    pub(crate) relay_url: String,

    /// Account that earnings are withdrawn to; left out, they stay in the market's balance.
    #[arg(long, env = "TRADEWIND_PAYOUT")]
    pub(crate) payout: Option<Address>,

    /// Seconds that an offer is signed for at a time. It is renewed at half of that.
    #[arg(long, env = "TRADEWIND_OFFER_SECONDS", default_value = "7200", value_parser = parse_seconds)]
    pub(crate) offer_validity: Duration,

    /// Seconds between trials of the isolation of job pods.
    #[arg(long, env = "TRADEWIND_PREFLIGHT_SECONDS", default_value = "86400", value_parser = parse_seconds)]
    pub(crate) preflight_every: Duration,

    /// Seconds after which a provider sends a message itself that the buyer has not brought to the chain.
    #[arg(long, env = "TRADEWIND_RELAY_PATIENCE_SECONDS", default_value_t = 60)]
    pub(crate) relay_patience: u32,

    #[command(flatten)]
    pub(crate) bounds: BoundArgs,

    #[command(flatten)]
    pub(crate) lease: LeaseArgs,
}

/// Bounds on the terms of jobs that this provider takes; PROTOCOL.md T-2b says what each bounds.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub(crate) struct BoundArgs {
    /// The longest that a bond may stay locked for one award, in seconds.
    #[arg(long, env = "TRADEWIND_LOCK_SECONDS_MAX", default_value_t = 2_592_000)]
    pub(crate) lock_seconds_max: u32,
    /// The least time, beyond the run time, to commit in, in seconds.
    #[arg(long, env = "TRADEWIND_COMMIT_GRACE_SECONDS_MIN", default_value_t = 60)]
    pub(crate) commit_grace_min: u32,
    /// The least time to reveal in, in seconds.
    #[arg(long, env = "TRADEWIND_REVEAL_SECONDS_MIN", default_value_t = 30)]
    pub(crate) reveal_window_min: u32,
    /// The longest that results must stay stored, in seconds.
    #[arg(long, env = "TRADEWIND_RETENTION_SECONDS_MAX", default_value_t = 2_592_000)]
    pub(crate) retention_max: u32,
    /// The largest bond for one award, as a share of its pay, in hundredths of a percent.
    #[arg(long, env = "TRADEWIND_BOND_BPS_MAX", default_value_t = 20_000)]
    pub(crate) bond_bps_max: u32,
    /// The most to lose for staying silent, as a share of pay, in hundredths of a percent.
    #[arg(long, env = "TRADEWIND_NO_SHOW_BPS_MAX", default_value_t = 10_000)]
    pub(crate) no_show_bps_max: u32,
    /// The least share of pay where drawn seats contradict each other, in hundredths of a percent.
    #[arg(long, env = "TRADEWIND_INCONCLUSIVE_BPS_MIN", default_value_t = 0)]
    pub(crate) inconclusive_bps_min: u32,
}

/// Bit of the policy `Quorum`, the only one of this version.
const POLICY_QUORUM: u8 = 1;

impl BoundArgs {
    /// The bounds as offers sign them.
    pub(crate) fn bounds(&self, max_seconds_per_unit: Seconds) -> Bounds {
        Bounds {
            max_seconds_per_unit,
            max_lock_seconds: Seconds::new(self.lock_seconds_max.into()),
            min_commit_grace: Seconds::new(self.commit_grace_min.into()),
            min_reveal_window: Seconds::new(self.reveal_window_min.into()),
            max_retention: Seconds::new(self.retention_max.into()),
            max_bond_bps: Bps::new(self.bond_bps_max),
            max_no_show_bps: Bps::new(self.no_show_bps_max),
            min_inconclusive_bps: Bps::new(self.inconclusive_bps_min),
            policies: POLICY_QUORUM,
        }
    }
}
