//! The state machines of jobs, groups, seats and offers, driven by the chain's events.
//!
//! Each is one enum with data per state and one `next`. What the contract cannot emit in a state is an
//! [`IllegalEvent`]: an event was missed or misread, and whoever folds must not go on with that job.

pub mod group;
pub mod job;
pub mod offer;
pub mod seat;

pub use group::{GroupEvent, GroupState};
pub use job::{JobState, JobStep};
pub use offer::{OfferEvent, OfferState};
pub use seat::{Opening, Payout, SeatEvent, SeatState, SeatVerdict};

/// An event that cannot happen in the state it met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} cannot happen to a {subject} that is {state}")]
pub struct IllegalEvent {
    /// Job, group, seat or offer.
    pub subject: &'static str,
    /// The state's name.
    pub state: &'static str,
    /// The event's name.
    pub event: &'static str,
}
