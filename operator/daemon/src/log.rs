//! Logging: one subscriber for the process, to standard error, as JSON or for a person.
//!
//! It never decides what is worth a line; a failure is logged once, where it is consumed.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::args::{DaemonArgs, LogFormat};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter text is not one that tracing understands.
    #[error("the log filter {filter:?} is not of the form `level` or `target=level,…`")]
    Filter {
        /// The text as given.
        filter: String,
        /// What was wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// A subscriber stands already.
    #[error("logging was set up twice in one process")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Sets up logging for the whole process. To be called once, first of all.
pub fn init(args: &DaemonArgs) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(&args.log_filter).map_err(|source| LogError::Filter {
        filter: args.log_filter.clone(),
        source,
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let installed = match args.log_format {
        LogFormat::Json => {
            let layer = fmt::layer()
                .json()
                .flatten_event(true)
                .with_writer(std::io::stderr);
            registry.with(layer).try_init()
        }
        LogFormat::Human => {
            let colours = std::io::stderr().is_terminal();
            registry
                .with(fmt::layer().with_ansi(colours).with_writer(std::io::stderr))
                .try_init()
        }
    };
    installed.map_err(LogError::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bad_filter_is_refused_by_name() {
        let args = DaemonArgs {
            log_format: LogFormat::Json,
            log_filter: "loud=very".to_owned(),
            admin_listen: None,
            grace: Duration::ZERO,
        };
        let error = init(&args).unwrap_err();
        assert!(
            matches!(&error, LogError::Filter { filter, .. } if filter == "loud=very"),
            "{error}"
        );
    }
}
