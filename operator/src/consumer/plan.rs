//! What is to be done next for a job that is on chain: the core's plan, made from messages as gateways hold them.

pub(crate) use tradewind_market::plan::consumer::{Desire, End, Situation, Step, consumer_plan as plan};

#[cfg(test)]
mod tests;
