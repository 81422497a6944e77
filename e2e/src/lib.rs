//! The lab: real clusters, a registry and an EVM node, and what is proved on them.
//!
//! [`lab`] owns the test equipment and knows nothing of the product.

pub mod lab;
