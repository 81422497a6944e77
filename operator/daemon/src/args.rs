//! The flags of the process shell, to be flattened into a binary's own arguments.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, ValueEnum};

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line, for collectors.
    #[default]
    Json,
    /// Short lines for a person at a terminal.
    Human,
}

/// Flags and environment of the process shell: `#[command(flatten)] daemon: DaemonArgs`.
#[derive(Clone, Debug, Args)]
pub struct DaemonArgs {
    /// How log lines are written to standard error.
    #[arg(long, env = "TRADEWIND_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,

    /// Which log lines are written, as `level` or `target=level,…`.
    #[arg(long, env = "TRADEWIND_LOG", default_value = "info")]
    pub log_filter: String,

    /// Address for /healthz, /readyz and /metrics [default: 0.0.0.0:8080 for the operator, 0.0.0.0:9090 for
    /// the gateway].
    #[arg(long, env = "TRADEWIND_ADMIN_LISTEN")]
    pub admin_listen: Option<SocketAddr>,

    /// Seconds that running work gets to finish after SIGTERM or SIGINT. Keep it below the pod's
    /// terminationGracePeriodSeconds.
    #[arg(long, env = "TRADEWIND_GRACE_SECONDS", default_value = "25", value_parser = parse_seconds)]
    pub grace: Duration,
}

/// Reads a whole number of seconds, for duration flags in any binary.
///
/// # Errors
/// A sentence for clap where the text is not a whole number.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    text.parse::<u64>()
        .map(Duration::from_secs)
        .map_err(|_| "expected a whole number of seconds".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        daemon: DaemonArgs,
    }

    #[test]
    fn defaults_fit_a_pod_and_flags_override_them() {
        let defaults = Cli::try_parse_from(["x"]).unwrap().daemon;
        assert_eq!(defaults.log_format, LogFormat::Json);
        assert_eq!(defaults.grace, Duration::from_secs(25));
        assert_eq!(defaults.admin_listen, None);

        let given = Cli::try_parse_from([
            "x",
            "--log-format",
            "human",
            "--grace",
            "3",
            "--admin-listen",
            "127.0.0.1:0",
        ])
        .unwrap()
        .daemon;
        assert_eq!(given.log_format, LogFormat::Human);
        assert_eq!(given.grace, Duration::from_secs(3));
        assert_eq!(given.admin_listen, Some(SocketAddr::from(([127, 0, 0, 1], 0))));

        let refused = Cli::try_parse_from(["x", "--grace", "soon"])
            .unwrap_err()
            .to_string();
        assert!(refused.contains("whole number of seconds"), "{refused}");
    }
}
