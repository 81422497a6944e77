//! What a provider's operator is to do for its seats of one job, and why nothing more is done now.

use super::view::Delivery;
use crate::message::AbstainReason;
use crate::quantity::{GroupIndex, SliceIndex, UnixSeconds};

/// Why a pod is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PodDeletion {
    /// Its group needs nothing of it any more.
    GroupOver,
    /// Its seat can no longer commit.
    TooLate,
    /// Its seat has abstained.
    Abstained,
    /// The provider has no seat in its group.
    NoSeat,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderStep {
    /// Get the bundle, check it, and make key, template and grant ready for pods.
    FetchBundle,
    /// Create a slice's pod.
    CreatePod {
        /// Which slice.
        slice: SliceIndex,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// Delete a pod.
    DeletePod {
        /// Which slice.
        slice: SliceIndex,
        /// Which attempt.
        attempt: u32,
        /// Why.
        cause: PodDeletion,
    },
    /// Commit to results.
    Commit {
        /// In which groups.
        groups: Vec<GroupIndex>,
        /// How.
        by: Delivery,
    },
    /// Abstain.
    Abstain {
        /// In which groups.
        groups: Vec<GroupIndex>,
        /// Why.
        reason: AbstainReason,
        /// How.
        by: Delivery,
    },
    /// Open commitments, with receipts where they are at hand.
    Reveal {
        /// In which groups.
        groups: Vec<GroupIndex>,
        /// How.
        by: Delivery,
    },
    /// Publish where the results of a group are stored.
    PublishIndex {
        /// Which group.
        group: GroupIndex,
    },
    /// Ask a gateway for its receipt.
    RequestReceipt {
        /// For which group.
        group: GroupIndex,
    },
    /// Judge groups that the buyer leaves unjudged.
    Judge {
        /// Which.
        groups: Vec<GroupIndex>,
    },
    /// Settle groups that the buyer leaves unsettled.
    Settle {
        /// Which.
        groups: Vec<GroupIndex>,
    },
    /// End groups that the buyer never sealed.
    CloseGroups {
        /// Which.
        groups: Vec<GroupIndex>,
    },
    /// Nothing is left to do.
    Finish,
    /// Come back later.
    Wait {
        /// Why.
        reason: ProviderWait,
        /// When at the latest, if it is known.
        until: Option<UnixSeconds>,
    },
}

/// Why nothing more is done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProviderWait {
    /// The chain could not be read, or the job's events do not fit.
    ChainUnknown,
    /// The awards are not final yet.
    Finality,
    /// Whether key and template are to be had could not be found out.
    MaterialsUnknown,
    /// The pods could not be listed.
    PodsUnknown,
    /// The buyer has not sealed the groups.
    NotSealed,
    /// Pods are at work, or their reports are being read.
    PodsWork,
    /// No gateway that counts has signed yet that it stores the results.
    Storing,
    /// All slots are taken.
    SlotsTaken,
    /// A slice is tried again after a pause.
    Backoff,
    /// A message waits to be carried by the buyer.
    Relay,
    /// The reports that were committed to have not been read again yet.
    ResultsUnknown,
    /// Other seats have not spoken.
    OthersWork,
    /// Seats reveal.
    Revealing,
    /// The group is judged and settled by the buyer, or after a while by us.
    Settlement,
}

impl ProviderWait {
    /// A word for conditions and metrics.
    pub fn label(self) -> String {
        format!("{self:?}")
    }
}
