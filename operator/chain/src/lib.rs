//! The chain edge: bindings, transport, durable sender, follower.
