//! The lab: real clusters, a registry and an EVM node, and what is proved on them.
