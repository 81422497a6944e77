//! The gateway and the relay over real HTTP on loopback, with real folders.
//!
//! Who has standing is scripted here, so that each refusal can be brought about; the chain itself is in `processes`.

mod blobs;
mod documents;
mod hostile;
mod offers;
mod relay;
mod site;
