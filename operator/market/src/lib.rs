//! The pure core of the market: ids, amounts, states, matching, plans.
//!
//! Decisions are functions of their arguments alone. This crate reads no clock, no network and no
//! randomness, and knows no Kubernetes, chain client or device library. Money is only ever added,
//! subtracted and divided in [`amount`], checked and with the direction of rounding named.
//!
//! Modules in the order that data flows through them:
//! [`ids`], [`amount`], [`quantity`], [`intervals`] are what everything else is written in;
//! [`class`], [`egress`], [`offer`], [`terms`], [`geometry`], [`money`] say what is bought and what it costs;
//! [`eip712`], [`derivation`], [`message`], [`document`] are what is hashed and signed;
//! [`event`] is what the chain says, [`state`] what an event makes of a job, group, seat or offer, and
//! [`index`] the sum of all events;
//! [`matching`] chooses offers, and [`plan`] says what to do next.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
// An oracle in a test computes plainly, and its overflow fails the test.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

pub mod amount;
pub mod class;
pub mod derivation;
pub mod document;
pub mod egress;
pub mod eip712;
pub mod event;
#[cfg(test)]
mod fixture;
pub mod geometry;
pub mod ids;
pub mod index;
pub mod intervals;
pub mod matching;
pub mod message;
pub mod money;
pub mod offer;
pub mod plan;
pub mod quantity;
pub mod state;
pub mod terms;

pub use amount::{Bps, Decimals, PricePerSlotSecond, TokenAmount};
pub use ids::{Address, ClassId, Hash32, JobId, JobNonce, OfferHash, RegionId, RoundId, keccak256};
pub use intervals::{GroupSet, IndexSet, SliceSet, UnitSet};
pub use offer::Offer;
pub use quantity::{
    BlockNumber, GroupIndex, Knowledge, Nonce, SeatIndex, Seconds, SliceIndex, Slots, UnitIndex, Units,
    UnixSeconds,
};
pub use terms::Terms;
