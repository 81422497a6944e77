//! The lab: real clusters, a registry and an EVM node, and what is proved on them.
//!
//! [`lab`] owns the test equipment and knows nothing of the product; [`market`] installs the product on a lab; [`demo`]
//! shows it at work, [`scenario`] holds it to what it promises, and [`bench`] measures it.

pub mod bench;
pub mod demo;
pub mod lab;
pub mod market;
pub mod scenario;
