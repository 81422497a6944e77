//! The chain edge against chains: a simulated one that does what development nodes do not, and a real EVM node with the
//! real contracts.

mod anvil;
mod faulty;
mod follower_simulation;
mod market;
mod random;
mod sender_simulation;
mod simulated;
