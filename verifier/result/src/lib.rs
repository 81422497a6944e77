//! Result manifests, digests and Merkle trees.
