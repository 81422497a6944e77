//! What a pass does to the chain: each wish an intent whose id comes from what is wanted, so that wanting it twice,
//! or by two replicas, is wanting it once.

use tradewind_chain::{
    Call, calls,
    calls::{DoesNotFit, Fill},
    sender::{Intent, IntentId, IntentState},
};
use tradewind_market::{Address, GroupIndex, Hash32, JobId, JobNonce, Terms, TokenAmount, keccak256};

use super::Consumer;
use crate::shell::chain::ChainView;

/// A job to be opened.
#[derive(Debug)]
pub(crate) struct Opening<'a> {
    /// The buyer's nonce.
    pub(crate) nonce: JobNonce,
    /// The job that it gives.
    pub(crate) job: JobId,
    /// On what terms.
    pub(crate) terms: &'a Terms,
    /// How much to put in.
    pub(crate) escrow: TokenAmount,
    /// Seats to take at once.
    pub(crate) fills: &'a [Fill],
}

/// Seats to be taken in a job that is open.
#[derive(Debug)]
pub(crate) struct Filling<'a> {
    /// The job.
    pub(crate) job: JobId,
    /// Its terms.
    pub(crate) terms: &'a Terms,
    /// How much to add first.
    pub(crate) top_up: TokenAmount,
    /// Seats to take.
    pub(crate) fills: &'a [Fill],
}

impl Consumer {
    /// Opens the job, fills it, and seals what has its seats, in one transaction: all or nothing.
    pub(crate) fn open(
        &self,
        view: &ChainView,
        id: Hash32,
        opening: &Opening<'_>,
    ) -> Result<IntentState, DoesNotFit> {
        let Opening {
            nonce,
            job,
            terms,
            escrow,
            fills,
        } = opening;
        let market = self.context.market.domain.market;
        let open = calls::open_job(market, *nonce, terms, *escrow, fills)?;
        let seal = calls::seal(market, *job, GroupIndex::ZERO, groups_to_seal(terms));
        let call = calls::multicall(market, &[open, seal]);
        Ok(self.want(view, id, format!("open {job}"), call, false))
    }

    /// Takes further seats and seals what has them, in one transaction.
    pub(crate) fn fill(
        &self,
        view: &ChainView,
        id: Hash32,
        filling: &Filling<'_>,
    ) -> Result<IntentState, DoesNotFit> {
        let Filling {
            job,
            terms,
            top_up,
            fills,
        } = filling;
        let market = self.context.market.domain.market;
        let mut steps = Vec::new();
        if !top_up.is_zero() {
            // The same id for the contract: the money moves once, whatever happens to this transaction.
            steps.push(calls::top_up(market, *job, *top_up, id));
        }
        steps.push(calls::fill(market, *job, terms, fills)?);
        steps.push(calls::seal(
            market,
            *job,
            GroupIndex::ZERO,
            terms.shape.groups().unwrap_or(0),
        ));
        Ok(self.want(
            view,
            id,
            format!("fill {job}"),
            calls::multicall(market, &steps),
            false,
        ))
    }

    /// Allows the market to take an amount out of the account, for a job whose claim stands in the spending limit.
    /// Allowing the same again for the same job is the same wish: only what another job's wish overwrote is repeated.
    pub(crate) fn approve(
        &self,
        view: &ChainView,
        job: JobId,
        token: Address,
        amount: TokenAmount,
    ) -> IntentState {
        let amount_bytes = amount.base_units().to_be_bytes();
        let id = intent_id(job, "approve", &[token.as_bytes(), &amount_bytes], 0);
        let call = calls::approve(token, self.context.market.domain.market, amount);
        self.want(
            view,
            id,
            format!("approve {amount} of {token} for {job}"),
            call,
            false,
        )
    }

    /// A call to the market that may share a transaction with others.
    pub(crate) fn poke(&self, view: &ChainView, id: Hash32, label: String, call: Call) -> IntentState {
        self.want(view, id, label, call, true)
    }

    fn want(&self, view: &ChainView, id: Hash32, label: String, call: Call, shareable: bool) -> IntentState {
        let intent = Intent {
            id: IntentId::new(id),
            label,
            call,
            shareable,
            gas_max: None,
        };
        self.context.chain.submit(intent, view)
    }
}

/// A canary goes ahead alone; the market passes over what lacks seats.
fn groups_to_seal(terms: &Terms) -> u32 {
    if terms.redundancy.canary {
        1
    } else {
        terms.shape.groups().unwrap_or(0)
    }
}

/// The id of a wish: which job, what, about what, and at which point of the job's events, so that the same call
/// after something changed is another wish.
pub(crate) fn intent_id(job: JobId, what: &str, about: &[&[u8]], sequence: u32) -> Hash32 {
    let sequence = sequence.to_be_bytes();
    let mut parts: Vec<&[u8]> = vec![
        b"tradewind consumer intent v1",
        job.as_bytes(),
        what.as_bytes(),
        &[0],
    ];
    parts.extend(about);
    parts.push(&sequence);
    keccak256(&parts)
}

/// Groups as bytes, for an id.
pub(crate) fn group_bytes(groups: &[GroupIndex]) -> Vec<u8> {
    groups
        .iter()
        .flat_map(|group| group.get().to_be_bytes())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_the_same_only_about_the_same_thing_at_the_same_point() {
        let job = JobId::from_bytes([1; 32]);
        let id = |what: &str, about: u8, sequence: u32| intent_id(job, what, &[&[about]], sequence);
        assert_eq!(id("judge", 1, 7), id("judge", 1, 7));
        for other in [id("settle", 1, 7), id("judge", 2, 7), id("judge", 1, 8)] {
            assert_ne!(other, id("judge", 1, 7));
        }
    }
}
