//! The account's own money: what it has outside the market, and how it moves into the market and out of it.
//!
//! Both roles move it, so their steps share one row of ids: of two wishes for the next effect one is carried out, and
//! the other is thought over when that is seen. How much to move is decided in the core.

mod acts;
mod purse;

pub(crate) use acts::{Accounts, Act, Counts, deposit_act, next_act};
pub(crate) use purse::{Moment, Purse};
