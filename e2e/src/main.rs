//! The `e2e` program: a thin door to the library.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tradewind_e2e::lab::cli::LabCommand;
use tradewind_e2e::lab::enforcer::{self, EnforcerArguments};

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
    /// Enforce a cluster's NetworkPolicies; started by the lab.
    #[command(hide = true)]
    Enforce(EnforcerArguments),
}

fn main() -> ExitCode {
    // A container runtime starts CNI plugins by their file names.
    let name = std::env::args_os().next().map(PathBuf::from);
    if name.is_some_and(|name| name.ends_with(enforcer::cni::NAME)) {
        return enforcer::cni::run();
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
        Command::Enforce(arguments) => {
            enforcer::run(&arguments)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
