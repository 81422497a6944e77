//! Compares results; the verifier's library and command line.
