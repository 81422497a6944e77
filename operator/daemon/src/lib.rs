//! The process shell that every long-running binary shares.
//!
//! It owns what a process is apart from its work: how it logs ([`log`]), how it serves HTTP without being
//! held up by slow or hostile peers ([`serve`]), what it tells about itself ([`admin`]: health, readiness,
//! metrics), which tasks it consists of ([`tasks`]), and how it starts and ends ([`process`]).
//!
//! It never knows what the work is: no Kubernetes, no chain, no money.

pub mod admin;
pub mod args;
pub mod log;
pub mod process;
pub mod ready;
pub mod serve;
mod stall;
pub mod tasks;

pub use args::DaemonArgs;
pub use process::{About, Process, ProcessError};
pub use ready::{Gate, Readiness};
pub use serve::{Peer, ServeError, ServeLimits, serve};
pub use tasks::{TaskEnd, Tasks};
pub use tokio_util::sync::CancellationToken;
