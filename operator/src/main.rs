//! The operator: the controllers of one cluster's part in the market, for jobs it places, capacity it sells, or
//! both.
//!
//! Data flows from [`args`] and [`keys`] into the [`shell`], which owns the process, the leader's lease, the
//! journal, and the one task that follows the chain; [`consumer`] and [`provider`] reconcile objects against what
//! these know, and move the account's money by the [`treasury`].
//! The binary decides nothing about money by itself: decisions are `market`'s, made from what is observed here.

mod args;
mod consumer;
mod http;
mod keys;
mod provider;
mod registry;
mod shell;
mod treasury;

use std::process::ExitCode;

use clap::Parser;

use crate::{args::Args, shell::leader::LeaderError};

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = tradewind_daemon::log::init(&args.daemon) {
        // There is no log to say it in.
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if lost_its_lease(&error) => {
            tracing::warn!(
                error = format!("{error:#}"),
                "another replica may act now; starting anew as a candidate"
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the operator ended");
            ExitCode::FAILURE
        }
    }
}

/// What a replica is restarted after, and nobody has to look at: every effect is fenced apart from the lease.
fn lost_its_lease(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(
            cause.downcast_ref::<LeaderError>(),
            Some(LeaderError::Lost { .. })
        )
    })
}

fn start(args: Args) -> anyhow::Result<()> {
    if let Some(why) = args.contradiction() {
        anyhow::bail!(why);
    }
    // One provider for every TLS connection of the process, chosen before the first of them.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        anyhow::bail!("another TLS provider is installed already");
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(shell::run(args))
}
