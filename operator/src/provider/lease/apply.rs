//! Carries a plan out: Secret and pods, messages to gateways or straight to the chain, indexes, receipts.
//!
//! Every step may be carried out twice: names, messages and calls are functions of the job alone.

mod pods;
mod saying;
mod storing;

use std::{collections::BTreeMap, sync::Arc};

use tradewind_chain::{
    Call, calls,
    sender::{Intent, IntentId},
};
use tradewind_market::{
    Address, GroupIndex, UnixSeconds,
    index::{Job, SeatRecord},
    message::SeatRef,
    plan::provider::ProviderStep,
    state::GroupState,
};

use super::{
    Leases, OfferOf,
    memo::Memo,
    messages::{GroupResult, Place},
    results::SlicePodState,
};
use crate::{provider::ProviderError, shell::chain::ChainView};

/// What steps are carried out on.
pub(crate) struct Target<'a> {
    /// The job at the final block.
    pub(crate) job: &'a Job<'a>,
    pub(crate) view: &'a ChainView,
    pub(crate) offers: &'a BTreeMap<u32, OfferOf>,
    /// All slice pods of the cluster.
    pub(crate) pods: &'a [SlicePodState],
    /// Where the lease's pods run.
    pub(crate) pool: &'a str,
    pub(crate) now: UnixSeconds,
}

impl Target<'_> {
    fn seat(&self, account: Address, group: GroupIndex) -> Option<(SeatRef, &SeatRecord)> {
        let (place, seat) = self.job.group(group)?.seat_of(account)?;
        Some((
            SeatRef {
                group,
                round: 0,
                seat: place,
            },
            seat,
        ))
    }

    /// Until when the group's seats may commit; by the final block.
    fn commit_by(&self, group: GroupIndex) -> UnixSeconds {
        self.job.commit_deadline(group).unwrap_or(UnixSeconds::ZERO)
    }

    /// Until when the group's seats may reveal, at the latest.
    fn reveal_by(&self, group: GroupIndex) -> UnixSeconds {
        match self.job.group(group).map(|record| &record.state) {
            Some(GroupState::Revealing { reveal_by }) => *reveal_by,
            Some(GroupState::Running { commit_by }) => {
                commit_by.saturating_add(self.job.terms.windows.reveal_window)
            }
            Some(
                GroupState::Filling
                | GroupState::Agreed { .. }
                | GroupState::Contested { .. }
                | GroupState::Refunding
                | GroupState::Credited { .. }
                | GroupState::Inconclusive
                | GroupState::Refunded,
            )
            | None => UnixSeconds::ZERO,
        }
    }
}

impl Leases {
    /// Carries one step out. An error leaves the others of the plan as they are.
    pub(crate) async fn apply(
        &self,
        target: &Target<'_>,
        step: &ProviderStep,
        memo: &mut Memo,
    ) -> Result<(), ProviderError> {
        let (job, market) = (target.job.id, self.context.market.domain.market);
        match step {
            // Materials are asked for in each look; what is missing is the buyer's to publish.
            ProviderStep::FetchBundle | ProviderStep::Wait { .. } => Ok(()),
            ProviderStep::CreatePod { slice, attempt } => {
                self.create_pod(target, *slice, *attempt, memo).await
            }
            ProviderStep::DeletePod {
                slice,
                attempt,
                cause,
            } => self.delete_pod(target, *slice, *attempt, *cause).await,
            ProviderStep::Commit { groups, by } => self.commit(target, groups, *by, memo).await,
            ProviderStep::Abstain { groups, reason, by } => {
                self.abstain(target, groups, *reason, *by, memo).await
            }
            ProviderStep::Reveal { groups, by } => self.reveal(target, groups, *by, memo).await,
            ProviderStep::PublishIndex { group } => self.publish_index(target, *group, memo).await,
            ProviderStep::RequestReceipt { group } => self.request_receipt(target, *group, memo).await,
            ProviderStep::Judge { groups } => {
                self.poke(target, "judge", groups, calls::judge(market, job, groups));
                Ok(())
            }
            ProviderStep::Settle { groups } => {
                self.poke(target, "settle", groups, calls::settle(market, job, groups));
                Ok(())
            }
            ProviderStep::CloseGroups { groups } => {
                self.poke(target, "close", groups, calls::close_groups(market, job, groups));
                Ok(())
            }
            ProviderStep::Finish => self.delete_secret(target).await,
        }
    }

    fn poke(&self, target: &Target<'_>, what: &str, groups: &[GroupIndex], call: Call) {
        let job = target.job.id;
        let state = self.submit(target, format!("{what} {} groups of {job}", groups.len()), call);
        tracing::debug!(%job, what, state, "the buyer is late; doing what anyone may");
    }

    fn submit(&self, target: &Target<'_>, label: String, call: Call) -> &'static str {
        let intent = Intent {
            id: IntentId::of_call(&call),
            label,
            call,
            shareable: true,
            gas_max: None,
        };
        self.context.chain.submit(intent, target.view).label()
    }

    /// Our place in a group, and its result, as far as both are known.
    fn done<'m>(
        &self,
        target: &Target<'_>,
        group: GroupIndex,
        memo: &'m Memo,
    ) -> Option<(Place, &'m Arc<GroupResult>)> {
        let (seat, _) = target.seat(self.context.account(), group)?;
        let place = Place {
            domain_separator: self.context.market.domain_separator,
            job: target.job.id,
            terms_hash: target.job.terms_hash,
            group,
            round_number: 0,
            round: target.job.round_id(group)?,
            seat: seat.seat,
            provider: self.context.account(),
        };
        Some((place, memo.groups.get(&group)?))
    }
}
