//! The gateway and the relay over real HTTP on loopback, with real folders.
//!
//! Who has standing is scripted here, so that each refusal can be brought about; the chain itself is in `processes`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod blobs;
mod documents;
mod egress;
mod hostile;
mod offers;
mod relay;
mod site;
