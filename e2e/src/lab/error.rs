//! What can go wrong with a lab, in words that say what to do about it.

use std::path::PathBuf;

use super::ground::Unmet;

/// Why a lab could not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The machine lacks something that every lab needs.
    #[error("this machine cannot run a lab yet:\n{}", list(.0))]
    Ground(Vec<Unmet>),

    /// A lab or cluster name that cannot be used.
    #[error("`{name}` cannot name a {what}: use 1 to 20 of a-z, 0-9 and `-`, beginning with a letter")]
    Name {
        /// `lab` or `cluster`.
        what: &'static str,
        /// What was given.
        name: String,
    },

    /// The specification contradicts itself or asks for more than a lab can give.
    #[error("the lab cannot have this shape: {0}")]
    Shape(String),

    /// No lab of that name is up.
    #[error("no lab `{0}` is up; raise it with `e2e lab up --name {0}`")]
    NotUp(String),

    /// A lab of that name is up, but not as asked for.
    #[error(
        "lab `{0}` is up with another shape; lower it first with `e2e lab down --name {0}`, or pass --fresh"
    )]
    ShapeDiffers(String),

    /// Another process is raising or lowering the lab at this moment.
    #[error("lab `{0}` is being raised or lowered by another process; wait for it, or end it")]
    Busy(String),

    /// A cluster, component, container or pod that the lab does not have.
    #[error("the lab has no {what} `{name}`; it has: {known}")]
    Unknown {
        /// What kind of thing was looked up.
        what: &'static str,
        /// The name that was looked up.
        name: String,
        /// The names there are.
        known: String,
    },

    /// The raising was called off, by Ctrl-C or by the caller.
    #[error("called off before the lab was up")]
    CalledOff,

    /// A call to the operating system failed.
    #[error("{doing}")]
    Io {
        /// What was being done, with its object.
        doing: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },

    /// A tool ran and failed.
    #[error("{doing}: `{program}` ended with {status}\n{output}")]
    Tool {
        /// What was being done.
        doing: String,
        /// The tool.
        program: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The last of what it printed.
        output: String,
    },

    /// A process of the lab ended when it should have been running.
    #[error("{component} ended while the lab waited for {waiting_for}; the last lines of {}:\n{tail}", .log.display())]
    Ended {
        /// The process, as `cluster/component`.
        component: String,
        /// What it was needed for.
        waiting_for: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },

    /// Something did not happen in the time it is given.
    #[error("{waiting_for} did not happen within {seconds} s; look at the logs in {}", .logs.display())]
    Late {
        /// What was awaited.
        waiting_for: String,
        /// How long.
        seconds: u64,
        /// Where the logs are.
        logs: PathBuf,
    },

    /// A file of the lab's own is not what the lab writes there.
    #[error("{}: not readable as {what}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should have been.
        what: &'static str,
        /// Why it is not.
        #[source]
        source: serde_json::Error,
    },

    /// Keys or certificates could not be made.
    #[error("make {what}")]
    Pki {
        /// Which of them.
        what: String,
        /// Why not.
        #[source]
        source: rcgen::Error,
    },

    /// A kubeconfig could not be used.
    #[error("use the kubeconfig of {cluster}")]
    Kubeconfig {
        /// Whose it is.
        cluster: String,
        /// Why not.
        #[source]
        source: kube::config::KubeconfigError,
    },

    /// An API server refused or did not answer.
    #[error("{doing}")]
    Kube {
        /// What was asked of it.
        doing: String,
        /// Its answer.
        #[source]
        source: Box<kube::Error>,
    },

    /// The EVM node answered with an error, or not at all.
    #[error("EVM node, {method}: {reason}")]
    Evm {
        /// The JSON-RPC method.
        method: String,
        /// What it said.
        reason: String,
    },
}

impl LabError {
    /// Wraps an answer of the operating system.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// Wraps an answer of an API server.
    pub(crate) fn kube(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Kube {
            doing,
            source: Box::new(source),
        }
    }
}

fn list(unmet: &[Unmet]) -> String {
    unmet
        .iter()
        .map(|unmet| format!("  - {unmet}"))
        .collect::<Vec<_>>()
        .join("\n")
}
