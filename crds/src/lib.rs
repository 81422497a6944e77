//! The custom resources of tradewind.dev/v1alpha1: what users and operators write down in Kubernetes.
//!
//! Owns the types, their schemas and rules, and the YAML generated from them. It never talks to an API server,
//! never reads a clock, and gives no meaning to money: amounts and addresses are text here.

// KubeSchema copies every public struct into the body of a function, where it can be reached by nobody.
#![allow(unreachable_pub)]
// The columns that kubectl prints are attributes of equal parts.
#![allow(clippy::duplicated_attributes)]

pub mod chain_intent;
pub mod compute_job;
pub mod compute_lease;
pub mod condition;
pub mod generate;
pub mod job_status;
pub mod market_ref;
pub mod provider_offer;
mod rule;
pub mod scalar;
pub mod server_version;
pub mod source;
pub mod spending_limit;
pub mod template;

pub use chain_intent::{ChainIntent, ChainIntentSpec};
pub use compute_job::{ComputeJob, ComputeJobSpec, ComputeJobStatus};
pub use compute_lease::{ComputeLease, ComputeLeaseSpec, ComputeLeaseStatus};
pub use market_ref::MarketRef;
pub use provider_offer::{ProviderOffer, ProviderOfferSpec, ProviderOfferStatus};
pub use spending_limit::{SpendingLimit, SpendingLimitSpec, SpendingLimitStatus};

/// The API group of every resource here.
pub const GROUP: &str = "tradewind.dev";

/// The version of every resource here.
pub const VERSION: &str = "v1alpha1";

/// The label that a ConfigMap, Secret or PersistentVolumeClaim carries (with the value `true`) so that jobs of
/// its namespace may read it as an input or write outputs to it.
pub const ALLOW_LABEL: &str = "tradewind.dev/allow";

/// The annotation of a PersistentVolumeClaim that says as which user and group jobs' files are read and written there,
/// as `UID:GID`.
pub const RUN_AS_ANNOTATION: &str = "tradewind.dev/run-as";
