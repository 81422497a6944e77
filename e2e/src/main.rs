//! The `e2e` program: a thin door to the library.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tradewind_e2e::bench::BenchArguments;
use tradewind_e2e::demo::DemoArguments;
use tradewind_e2e::lab::cli::{LabCommand, call_off_on_signal};
use tradewind_e2e::lab::enforcer::{self, EnforcerArguments};
use tradewind_e2e::lab::overlay;
use tradewind_e2e::market::cli::MarketCommand;
use tradewind_e2e::scenario::{KillArguments, TestArguments};

/// Raises labs of real clusters, and runs on them what is to be proved.
#[derive(Debug, Parser)]
#[command(name = "e2e", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Raise, look at, use and lower labs.
    #[command(subcommand)]
    Lab(LabCommand),
    /// The product on a lab.
    #[command(subcommand)]
    Market(MarketCommand),
    /// Render a picture on three data centers, of which one cheats; verified, paid, and every claim checked.
    Demo(DemoArguments),
    /// Run the end-to-end tests on a lab of their own.
    Test(TestArguments),
    /// Measure how long a job takes to its first pod, and what it costs the API servers.
    Bench(BenchArguments),
    /// Kill operators at a point of a job's life, and show journal, chain and pods before and after.
    Kill(KillArguments),
    /// Enforce a cluster's NetworkPolicies; started by the lab.
    #[command(hide = true)]
    Enforce(EnforcerArguments),
}

fn main() -> ExitCode {
    // A container runtime starts CNI plugins, and its shim what runs containers, by their file names.
    let name = std::env::args_os().next().map(PathBuf::from);
    match name {
        Some(name) if name.ends_with(enforcer::cni::NAME) => return enforcer::cni::run(),
        Some(name) if name.ends_with(overlay::NAME) => return overlay::run(&name),
        _ => {}
    }
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Lab(command) => Ok(command.run()?),
        Command::Market(command) => {
            command.run()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo(arguments) => {
            arguments.run(&call_off_on_signal()?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Test(arguments) => Ok(arguments.run(&call_off_on_signal()?)?),
        Command::Bench(arguments) => {
            arguments.run(&call_off_on_signal()?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Kill(arguments) => Ok(arguments.run(&call_off_on_signal()?)?),
        Command::Enforce(arguments) => {
            enforcer::run(&arguments)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
