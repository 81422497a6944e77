//! The pure core of the market: ids, amounts, states, matching, plans.
//!
//! Decisions are functions of their arguments alone. This crate reads no clock, no network and no
//! randomness, and knows no Kubernetes, chain client or device library. Money is only ever added,
//! subtracted and divided in [`amount`], checked and with the direction of rounding named.
//!
//! Modules in the order that data flows through them:
//! [`ids`], [`amount`], [`quantity`] are what everything else is written in.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

pub mod amount;
pub mod ids;
pub mod quantity;

pub use amount::{Bps, Decimals, PricePerSlotSecond, TokenAmount};
pub use ids::{Address, ClassId, Hash32, JobId, JobNonce, OfferHash, RegionId, RoundId, keccak256};
pub use quantity::{
    BlockNumber, GroupIndex, Knowledge, Nonce, SeatIndex, Seconds, SliceIndex, Slots, UnitIndex, Units,
    UnixSeconds,
};
