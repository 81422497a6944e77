//! What `step` and `collect` say to each other over their one connection.
//!
//! The first connection after a container's start comes from `step`: no unit runs yet. `collect` stops
//! listening while it lasts, and `step` ends itself and with it every process of its container when it
//! breaks. So no unit can ever speak here. Messages are JSON, each after its length (u32, big-endian).

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tradewind_gateway_api::slice::AbstainCause;
use tradewind_gateway_api::template::{EnvVar, Template, UnitLimits};
use tradewind_result::Outcome;

/// Longest message: a plan holds no more than a template, whose bytes JSON may make six times as long.
pub(crate) const MESSAGE_BYTES_MAX: u32 = 2 << 20;

/// From `step` to `collect`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum FromStep {
    /// The container has started; nothing runs.
    Ready,
    /// The unit has ended, and so has every process that it left.
    Ended(Ended),
}

/// How a unit ended.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ended {
    /// Which unit.
    pub unit: u32,
    /// A result, or why there is none.
    pub ending: Ending,
    /// The end of its stderr.
    pub stderr_tail: String,
}

/// A result, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Ending {
    /// The program ended by itself.
    Finished(Outcome),
    /// It did not, or what it did cannot count.
    Lost {
        /// Why.
        cause: AbstainCause,
        /// For people.
        detail: String,
    },
}

/// From `collect` to `step`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ToStep {
    /// What every unit of the slice runs. Comes once, first.
    Plan(Plan),
    /// Run this unit; the last one's output has been taken.
    Run {
        /// Which unit.
        unit: u32,
    },
    /// Nothing more to do: exit with 0.
    Finish,
}

/// What every unit of the slice runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plan {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment, over the image's own.
    pub env: Vec<EnvVar>,
    /// Hard limit of a unit.
    pub seconds_per_unit: u64,
    /// Where a unit writes its result.
    pub output_path: String,
    /// Further directories that it may write.
    pub writable_paths: Vec<String>,
    /// What it may use and leave.
    pub limits: UnitLimits,
}

impl Plan {
    /// The template's part that `step` needs; keys and addresses stay behind.
    pub(crate) fn of(template: &Template) -> Self {
        Self {
            command: template.command.clone(),
            env: template.env.clone(),
            seconds_per_unit: template.seconds_per_unit.get(),
            output_path: template.output_path.clone(),
            writable_paths: template.writable_paths.clone(),
            limits: template.limits,
        }
    }
}

fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len())
        .ok()
        .filter(|length| *length <= MESSAGE_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
    Ok([&length.to_be_bytes()[..], &json].concat())
}

fn check_length(header: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_be_bytes(header);
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
    }
    usize::try_from(length).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// `step`'s side: sends one message.
pub(crate) fn send(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    stream.write_all(&encode(message)?)
}

/// `step`'s side: waits for one message.
pub(crate) fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    let mut json = vec![0; check_length(header)?];
    stream.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

/// `collect`'s side: sends one message.
pub(crate) async fn send_async(stream: &mut tokio::net::UnixStream, message: &ToStep) -> io::Result<()> {
    stream.write_all(&encode(message)?).await
}

/// `collect`'s side: waits for one message.
pub(crate) async fn receive_async(stream: &mut tokio::net::UnixStream) -> io::Result<FromStep> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let mut json = vec![0; check_length(header)?];
    stream.read_exact(&mut json).await?;
    Ok(serde_json::from_slice(&json)?)
}
