//! The `e2e` program: a thin door to the library.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tradewind_e2e::lab::cli::LabCommand;

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
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Lab(command) => Ok(command.run()?),
    }
}
