//! The gateway: where consumers and providers leave things for each other. And the relay, its smaller role inside a
//! provider's cluster.
//!
//! It holds no authority: all that is in it is addressed by its content or signed by its author, so a gateway that
//! lies can only withhold. Its state is in one object store and nowhere else, so that any number of replicas over one
//! store behave as one.
//!
//! Modules in the order that a request meets them: [`args`] and [`limits`] are settings; [`http`] reads and refuses;
//! [`authorise`] and [`standing`] say who may; [`blobs`], [`offers`], [`bundles`], [`indexes`], [`messages`] and
//! [`receipts`] are what there is, over [`store`]; [`sweep`] removes what is past; [`gateway`] and [`relay`] put the two
//! roles together.

pub mod args;
mod authorise;
mod blobs;
mod bundles;
pub mod gateway;
mod http;
mod indexes;
pub mod limits;
mod messages;
mod metrics;
mod offers;
pub mod openapi;
mod receipts;
pub mod relay;
pub mod standing;
pub mod store;
mod sweep;
