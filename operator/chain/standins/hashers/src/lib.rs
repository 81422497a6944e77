//! Stand-in for the `hashers` crate (1.0), which `ethers-providers` names for its IPC transport only.
//!
//! This project opens no IPC connection, so the hasher is never run; std's keeps the types whole.
#![forbid(unsafe_code)]

/// The one module that `ethers-providers` imports.
pub mod fx_hash {
    /// Named by a map type in the IPC transport.
    pub type FxHasher64 = std::collections::hash_map::DefaultHasher;
}
