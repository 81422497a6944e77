//! The chain edge against chains: a simulated one that does what development nodes do not, and a real EVM node with the
//! real contracts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets what it does not expect has failed"
)]

mod anvil;
mod faulty;
mod follower_simulation;
mod market_deposits;
mod market_job;
mod random;
mod scene;
mod sender_simulation;
mod simulated;
