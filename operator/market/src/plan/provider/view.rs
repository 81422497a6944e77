//! What is known of a provider's seats of one job, and how long it waits: what a plan is made from.

use std::collections::BTreeMap;

use crate::ids::Address;
use crate::index::Job;
use crate::intervals::GroupSet;
use crate::message::AbstainReason;
use crate::quantity::{GroupIndex, Knowledge, Seconds, SliceIndex, Slots, UnixSeconds};

/// How long things are waited for: configuration of the provider, since block times differ from chain to chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Before a deadline, so that what is sent then is still included in time.
    pub margin: Seconds,
    /// For the buyer to carry a message, before it is sent directly.
    pub relay_patience: Seconds,
    /// For the buyer to judge, settle or close, before that is done here.
    pub settle_patience: Seconds,
    /// Before a slice is tried again the first time; doubles with each attempt.
    pub retry_first: Seconds,
    /// Between attempts at most.
    pub retry_max: Seconds,
    /// How often a slice is tried in all.
    pub attempts_max: u32,
}

/// What kind of message was posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageKind {
    /// A commitment.
    Commit,
    /// An abstention.
    Abstain,
    /// An opening.
    Reveal,
}

/// How a message gets to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Delivery {
    /// Posted at the job's gateways, for the buyer to carry.
    Relay,
    /// Sent by the provider itself.
    Direct,
}

/// What a slice's pods came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SliceResult {
    /// All its units have results, and the report is at hand.
    Done,
    /// A unit has no result, and trying again would not help.
    Abstain(AbstainReason),
}

/// One attempt at a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PodView {
    /// Which slice.
    pub slice: SliceIndex,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// What it is at.
    pub phase: PodPhase,
}

/// What a pod is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PodPhase {
    /// Not running yet; what it waits for is what the seat abstains for, should it wait too long.
    Pending {
        /// Why not, as far as it can be told.
        cause: AbstainReason,
    },
    /// Running, or about to be deleted.
    Running,
    /// Ended with a report.
    Succeeded,
    /// Ended without one.
    Failed {
        /// Why, as far as it can be told.
        cause: AbstainReason,
        /// When.
        at: UnixSeconds,
    },
}

/// Everything that is known of a provider's seats of one job.
#[derive(Debug, Clone, Copy)]
pub struct LeaseView<'a> {
    /// Whose seats.
    pub provider: Address,
    /// The job at the final block.
    pub final_chain: Knowledge<Job<'a>>,
    /// The job at the newest block.
    pub chain: Knowledge<Job<'a>>,
    /// Whether key, template and grant are at hand, so that pods can be made.
    pub materials: Knowledge<()>,
    /// Why the job cannot be run here, where its key or template showed that.
    pub unfit: Option<AbstainReason>,
    /// All pods of the lease, finished ones too.
    pub pods: Knowledge<&'a [PodView]>,
    /// What finished slices came to.
    pub results: &'a BTreeMap<SliceIndex, SliceResult>,
    /// Groups whose result index is published.
    pub indexed: &'a GroupSet,
    /// Groups whose receipt is at hand.
    pub receipts: &'a GroupSet,
    /// When each message was posted at a gateway.
    pub posted: &'a BTreeMap<(MessageKind, GroupIndex), UnixSeconds>,
    /// How many pods may run at once.
    pub slots: Slots,
}
