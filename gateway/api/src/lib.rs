//! What is exchanged through a gateway: documents, their encryption, the wire and its client.

pub mod archive;
pub mod bundle;
pub mod client;
pub mod exact;
pub mod grant;
pub mod index;
pub mod input;
pub mod message;
pub mod mover;
pub mod offer;
pub mod receipt;
pub mod results;
pub mod seal;
pub mod signed;
pub mod slice;
pub mod template;
pub mod wire;
