//! The small static program inside slice pods.
//!
//! Three verbs, one for each container of the pod (the shape is `tradewind_gateway_api::slice`'s):
//! [`fetch`] prepares the volume, [`step`] runs the units, [`collect`] decides what counts and stores it; [`preflight`],
//! which a data center's cluster is tried with before it sells; and `move` ([`mover`]), in a buyer's cluster.
//! In slice pods it talks to nobody but the relay. It knows no chain and no Kubernetes API, and draws no conclusion
//! about money.

mod clear;
mod collect;
mod config;
mod fetch;
mod handshake;
mod journal;
mod mover;
mod preflight;
mod report;
mod step;
mod volume;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tradewind_gateway_api::slice::{CONTROL_PATH, CONTROL_SOCKET, GRANT_PATH, VOLUME_PATH};

/// The program inside Tradewind's slice pods.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Brings template and inputs, checks that the pod is shut in, installs this program for `run`.
    Fetch(Inside),
    /// Runs the slice's units as process 1 of the container with the job's image.
    Step {
        /// Where collect listens.
        #[arg(long, env = "TRADEWIND_SOCKET", default_value_t = format!("{CONTROL_PATH}/{CONTROL_SOCKET}"))]
        socket: String,
    },
    /// Tries what a slice's pod must not be able to do, before anything is sold.
    Preflight(preflight::Trial),
    /// Brings results to a volume of the job's namespace, or an input out of it.
    Move(mover::Places),
    /// Takes, digests, seals and stores what units write; ends on SIGTERM.
    Collect {
        #[command(flatten)]
        inside: Inside,
        /// The file whose content the kubelet reports when the container ends.
        #[arg(
            long,
            env = "TRADEWIND_TERMINATION_LOG",
            default_value = "/dev/termination-log"
        )]
        termination_log: PathBuf,
    },
}

/// What the operator mounts and sets.
#[derive(Debug, clap::Args)]
struct Inside {
    /// The slice's volume.
    #[arg(long, env = "TRADEWIND_VOLUME", default_value = VOLUME_PATH)]
    volume: PathBuf,
    /// The mounted Secret with the lease's grant.
    #[arg(long, env = "TRADEWIND_GRANT", default_value = GRANT_PATH)]
    grant: PathBuf,
    /// Which slice, as JSON.
    #[arg(long, env = "TRADEWIND_SLICE")]
    slice: String,
}

fn main() -> ExitCode {
    match run(Args::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tradewind-pod: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Preflight(trial) => runtime()?.block_on(preflight::run(trial)),
        Verb::Move(places) => runtime()?.block_on(mover::run(places)),
        Verb::Step { socket } => Ok(step::run(socket.as_ref())?),
        Verb::Fetch(Inside { volume, grant, slice }) => {
            Ok(runtime()?.block_on(fetch::run(fetch::Paths { volume, grant }, &slice))?)
        }
        Verb::Collect {
            inside: Inside { volume, grant, slice },
            termination_log,
        } => Ok(runtime()?.block_on(collect::run(
            collect::Paths {
                volume,
                grant,
                termination_log,
            },
            &slice,
        ))?),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")
}
