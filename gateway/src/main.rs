//! The gateway: content-addressed blobs, receipts, signed offers; and its role as a relay.

fn main() {}
