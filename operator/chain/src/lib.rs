//! The chain edge: everything that Tradewind asks of, and does to, an EVM chain.
//!
//! This is the only crate that names `ethers`, and no type of it is in the public interface: ids, addresses and
//! amounts are the market's. Modules in the order that data flows through them:
//!
//! - [`transport`] sends one JSON-RPC request; [`node`] asks typed questions over it and checks the answers' form.
//! - [`keys`] signs, and says who signed.
//! - [`calls`] writes calls down, [`read`] asks the contracts' views.
//! - [`sender`] makes sure that each intent is on the chain once, whatever the node, this process or a second one do.
//! - [`follower`] reads the chain's events in order, unwinds what was reorganised, and says what is final.
//!
//! It never reads a clock, decides nothing about jobs, and never takes a node's reply to a broadcast for its effect.

mod abi;
mod block;
mod convert;
mod disposition;
mod events;
mod hex_bytes;
mod quantity;
mod struct_abi;

pub mod calls;
pub mod contracts;
pub mod follower;
pub mod keys;
pub mod node;
pub mod read;
pub mod sender;
pub mod transport;

pub use block::{BlockId, BlockTag, Call, Finality, Header, RawLog, Receipt};
pub use disposition::Disposition;
pub use keys::{LocalSigner, Preimage, Signature, Signer, recover};
pub use node::Node;
pub use quantity::{AccountNonce, UnixMillis, Wei};
