//! Seats that a job's groups lack: searched for among the offers, paid for within what is allowed, and taken.

use std::time::Duration;

use tokio::time::Instant;
use tradewind_crds::compute_job::JobReason;
use tradewind_market::{TokenAmount, index::Job, matching::Want};

use super::{
    Consumer,
    acting::{Filling, intent_id},
    before_money,
    driving::Subject,
    memory::Memo,
    placing::{self, Search},
    preparing,
    quoting::no_match,
    spending::{self, Want as SpendingWant},
    status::Stage,
    terms,
};
use crate::shell::{self, chain::ChainView};

/// Between two searches for seats: offers do not change faster.
const SEEK_EVERY: Duration = Duration::from_secs(5);

impl Consumer {
    /// Looks for the seats that groups lack, and takes them.
    pub(super) async fn seek(
        &self,
        view: &ChainView,
        subject: Subject<'_>,
        memo: &mut Memo,
        job: &Job<'_>,
        wants: Vec<Want>,
    ) -> Result<(), (JobReason, String)> {
        if memo.filling.is_some_and(|id| self.is_under_way(id)) {
            return Ok(());
        }
        if memo.sought.is_some_and(|at| at.elapsed() < SEEK_EVERY) {
            return memo.seek_blocked.clone().map_or(Ok(()), Err);
        }
        memo.sought = Some(Instant::now());
        let result = self.seek_now(view, subject, memo, job, wants).await;
        memo.seek_blocked = result.as_ref().err().cloned();
        result
    }

    async fn seek_now(
        &self,
        view: &ChainView,
        subject: Subject<'_>,
        memo: &mut Memo,
        job: &Job<'_>,
        wants: Vec<Want>,
    ) -> Result<(), (JobReason, String)> {
        let flat = |stage| match stage {
            Stage::Refused(reason, message)
            | Stage::BeforeMoney(reason, message)
            | Stage::Failed(reason, message) => (reason, message),
            Stage::OnChain(Some(blocked)) => blocked,
            Stage::OnChain(None) | Stage::Complete => (JobReason::Matching, String::new()),
        };
        let (asked, decimals) = preparing::ask(self, subject.object).await.map_err(flat)?;
        let spare = job
            .record
            .escrow
            .checked_sub(job.record.allocated)
            .unwrap_or_default();
        let addable = asked.budget.checked_sub(job.record.funded).unwrap_or_default();
        let budget = spare.checked_add(addable).unwrap_or(TokenAmount::MAX);
        let search = Search {
            job: job.record.id,
            terms: &job.terms,
            asked: &asked,
            image: terms::repository(&subject.object.spec.template.image),
            wants: &wants,
            budget,
        };
        let matching = placing::search(self, view, memo, search)
            .await
            .map_err(|error| (JobReason::GatewayUnavailable, error.to_string()))?;
        if matching.fills.is_empty() {
            return Err(flat(no_match(memo)));
        }
        let cost = matching.cost.total().unwrap_or(TokenAmount::MAX);
        let top_up = cost.checked_sub(spare).unwrap_or_default();
        if !top_up.is_zero() {
            let amount = job.record.funded.checked_add(top_up).unwrap_or(TokenAmount::MAX);
            let to_approve = self
                .check_funds(view, asked.token, top_up, decimals)
                .await
                .map_err(flat)?;
            let want = SpendingWant {
                job: job.record.id,
                token: asked.token,
                decimals,
                amount,
            };
            spending::claim(&self.context.client, subject.namespace, want, shell::now())
                .await
                .map_err(|error| flat(before_money(&error)))?;
            if let Some(amount) = to_approve {
                self.approve(view, job.record.id, asked.token, amount);
                memo.sought = None;
                return Ok(());
            }
        }
        if !self.context.leadership.holds() || self.context.args.observe_only {
            return Ok(());
        }
        let fills = placing::requests(memo, &matching.fills);
        let hashes: Vec<u8> = matching
            .fills
            .iter()
            .flat_map(|fill| {
                let place = [fill.first_group.get().to_be_bytes(), fill.groups.to_be_bytes()].concat();
                [fill.offer_hash.as_bytes().as_slice(), &place].concat()
            })
            .collect();
        let id = intent_id(job.record.id, "fill", &[&hashes], job.record.sequence);
        memo.filling = Some(id);
        let filling = Filling {
            job: job.record.id,
            terms: &job.terms,
            top_up,
            fills: &fills,
        };
        self.fill(view, id, &filling)
            .map_err(|error| (JobReason::InvalidSpec, error.to_string()))?;
        Ok(())
    }
}
