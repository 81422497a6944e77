//! What is remembered of a lease between passes. Everything in it can be had again from chain, pods and gateways:
//! forgetting costs requests and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use tradewind_crds::{ComputeLease, ComputeLeaseStatus, compute_lease::SeatState};
use tradewind_gateway_api::{
    receipt::SignedReceipt,
    slice::{ReportRef, SliceReport},
};
use tradewind_market::{
    GroupIndex, GroupSet, SliceIndex, UnixSeconds,
    plan::provider::{MessageKind, ProviderWait},
};

use super::{
    materials::{Materials, Unusable},
    messages::GroupResult,
};

/// What is remembered of one lease.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    /// The object as it was last written, while the watch may not show it yet.
    pub(crate) lease: Option<ComputeLease>,
    /// Whether the watch has shown the object.
    pub(crate) shown: bool,
    pub(crate) materials: Option<Arc<Materials>>,
    pub(crate) unusable: Option<Unusable>,
    /// Reports that were fetched, opened and checked, with where they are.
    pub(crate) reports: BTreeMap<SliceIndex, (ReportRef, SliceReport)>,
    /// Attempts whose report is not what it should be.
    pub(crate) bad_reports: BTreeSet<(SliceIndex, u32)>,
    /// Results of whole groups.
    pub(crate) groups: BTreeMap<GroupIndex, Arc<GroupResult>>,
    pub(crate) indexed: GroupSet,
    pub(crate) receipts: BTreeMap<GroupIndex, SignedReceipt>,
    pub(crate) posted: BTreeMap<(MessageKind, GroupIndex), UnixSeconds>,
    /// Messages that were sent directly, so that they are told of once.
    pub(crate) direct: BTreeSet<(MessageKind, Vec<GroupIndex>)>,
    /// Attempts that were created and may not be seen yet.
    pub(crate) created: BTreeSet<(SliceIndex, u32)>,
    /// Whether the Secret is as it should be.
    pub(crate) granted: bool,
    /// The status as it was last derived, written or not: what changed since is told, and keeps its time.
    pub(crate) derived: Option<ComputeLeaseStatus>,
    /// When the status was last written.
    pub(crate) written: Option<Instant>,
    /// What was logged last of each seat, and of the wait.
    pub(crate) told: BTreeMap<GroupIndex, SeatState>,
    pub(crate) waiting: Option<ProviderWait>,
}
