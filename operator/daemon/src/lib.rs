//! The process shell that every long-running binary shares.
