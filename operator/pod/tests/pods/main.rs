//! Whole slice pods, without Kubernetes: the program's three verbs as processes in real namespaces.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)]

mod hostile;
mod mover;
mod pod;
mod slices;
mod store;
