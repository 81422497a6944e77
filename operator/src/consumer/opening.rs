//! From content that is stored to a job that is open: seats are looked for, room in the limit is claimed, and one
//! transaction pays, fills and seals. Every reason not to is said by name, and nothing is spent before all are gone.

use std::{collections::BTreeSet, time::Duration};

use tradewind_chain::BlockTag;
use tradewind_crds::compute_job::{Division, JobReason};
use tradewind_market::{Address, Decimals, TokenAmount, UnixSeconds};

use super::{
    Consumer,
    acting::{Opening, intent_id},
    before_money, chain_unavailable,
    content::StoredTemplate,
    driving::{Outcome, Subject},
    memory::Memo,
    pinned::pinned,
    placing,
    preparing::{self, Prepared, refuse_spec},
    quoting::Quote,
    reconcile::{is_held, must_be_pinned},
    spending,
    spending::Want as SpendingWant,
    status::Stage,
    terms::Asked,
};
use crate::shell::{self, chain::ChainView};

/// What only a person, or time, changes.
const WAIT: Duration = Duration::from_secs(10);

impl Consumer {
    /// A job that is not on chain yet.
    pub(super) async fn begin(
        &self,
        view: &ChainView,
        subject: Subject<'_>,
        memo: &mut Memo,
        now: UnixSeconds,
    ) -> Outcome {
        let Subject { object, .. } = subject;
        if object.spec.suspend {
            let message = "the job is suspended; nothing is spent".to_owned();
            return Outcome::at(
                Stage::BeforeMoney(JobReason::Suspended, message),
                self.context.args.resync,
            );
        }
        if self.context.args.observe_only {
            let message = "the operator only observes and signs nothing".to_owned();
            return Outcome::at(
                Stage::BeforeMoney(JobReason::ObserveOnly, message),
                self.context.args.resync,
            );
        }
        let (asked, decimals) = match preparing::ask(self, object).await {
            Ok(asked) => asked,
            Err(stage) => return Outcome::at(stage, WAIT),
        };
        let prepared = match pinned(object, memo) {
            Some(prepared) => prepared,
            None => match self.store(view, subject, memo, &asked, decimals, now).await {
                Ok(prepared) => prepared,
                Err(stage) => {
                    let again = self.wait_after(&stage);
                    return Outcome {
                        decimals: Some(decimals),
                        ..Outcome::at(stage, again)
                    };
                }
            },
        };
        let pinned_in_status = object
            .status
            .as_ref()
            .is_some_and(|status| status.template.is_some());
        memo.prepared = Some(prepared.clone());
        let groups = u64::from(object.spec.completions)
            .div_ceil(u64::from(asked.units_per_slice.get()) * u64::from(asked.slices_per_group));
        let outcome = |stage, again| Outcome {
            stage,
            again,
            prepared: Some(prepared.clone()),
            division: Some(Division {
                slice: asked.units_per_slice.get(),
                slices_per_group: asked.slices_per_group,
                groups: u32::try_from(groups).unwrap_or(u32::MAX),
            }),
            decimals: Some(decimals),
        };
        if !is_held(object) || must_be_pinned(object) && !pinned_in_status {
            // The finalizer, and what was stored, stand in the object before anything on chain names it.
            let message = "inputs and template are stored; looking for offers".to_owned();
            return outcome(Stage::BeforeMoney(JobReason::Matching, message), self.pace());
        }
        if !memo.swept {
            // The status holds what they brought.
            self.sweep_movers(subject).await;
            memo.swept = true;
        }
        let opening = self
            .open_job(view, subject, memo, &asked, decimals, prepared.template, now)
            .await;
        match opening {
            Ok(message) => outcome(Stage::BeforeMoney(JobReason::Opening, message), self.pace()),
            Err(stage) => outcome(stage, WAIT.min(self.context.args.resync)),
        }
    }

    /// Checks everything by name, sees to it that the job is covered by the balance, and only then stores its content.
    async fn store(
        &self,
        view: &ChainView,
        subject: Subject<'_>,
        memo: &mut Memo,
        asked: &Asked,
        decimals: Decimals,
        now: UnixSeconds,
    ) -> Result<Prepared, Stage> {
        let Subject {
            namespace, identity, ..
        } = subject;
        let covered = async || {
            let quote = self.quote(view, subject, memo, asked, None, now).await?;
            let want = SpendingWant {
                job: identity.id,
                token: asked.token,
                decimals,
                amount: quote.escrow,
            };
            self.cover(view, namespace, want).await
        };
        preparing::prepare(self, subject, asked, shell::now(), covered).await
    }

    /// What is on its way is looked at again soon; movers, too, tell nobody when they are done.
    fn wait_after(&self, stage: &Stage) -> Duration {
        match stage {
            Stage::BeforeMoney(JobReason::Depositing | JobReason::Uploading, _) => self.pace(),
            Stage::BeforeMoney(..)
            | Stage::Refused(..)
            | Stage::OnChain(_)
            | Stage::Complete
            | Stage::Failed(..) => WAIT,
        }
    }

    /// Matches, claims room in the limit, and opens the job. Says what is on its way, or why nothing is.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is a different kind of knowledge, used once"
    )]
    async fn open_job(
        &self,
        view: &ChainView,
        subject: Subject<'_>,
        memo: &mut Memo,
        asked: &Asked,
        decimals: Decimals,
        template: StoredTemplate,
        now: UnixSeconds,
    ) -> Result<String, Stage> {
        let Subject {
            namespace, identity, ..
        } = subject;
        let id = intent_id(identity.id, "open", &[template.digest.as_bytes()], 0);
        if self.is_under_way(id) {
            return Ok("the transaction that opens the job is on its way".to_owned());
        }
        let Quote {
            terms,
            matching,
            escrow,
        } = self
            .quote(view, subject, memo, asked, Some(template), now)
            .await?;
        terms
            .validate(terms.pricing.fee_bps, now)
            .map_err(|error| refuse_spec(&error.into()))?;
        let to_approve = self.check_funds(view, asked.token, escrow, decimals).await?;
        let want = SpendingWant {
            job: identity.id,
            token: asked.token,
            decimals,
            amount: escrow,
        };
        spending::claim(&self.context.client, namespace, want, shell::now())
            .await
            .map_err(|error| before_money(&error))?;
        if !self.context.leadership.holds() {
            return Ok("another replica acts".to_owned());
        }
        if let Some(amount) = to_approve {
            self.approve(view, identity.id, asked.token, amount);
            return Ok("the market is being allowed to take what the job binds".to_owned());
        }
        let fills = placing::requests(memo, &matching.fills);
        let opening = Opening {
            nonce: identity.nonce,
            job: identity.id,
            terms: &terms,
            escrow,
            fills: &fills,
        };
        self.open(view, id, &opening)
            .map_err(|error| Stage::Refused(JobReason::InvalidSpec, error.to_string()))?;
        let providers: BTreeSet<Address> = matching.fills.iter().map(|fill| fill.provider).collect();
        Ok(format!(
            "{} of {} groups go to {} providers for {}",
            matching.filled.count(),
            terms.shape.groups().unwrap_or(0),
            providers.len(),
            matching.cost.total().unwrap_or_default().to_decimal(decimals),
        ))
    }

    /// Whether the balance on the market and the account's own tokens cover the amount; what the market has to be
    /// allowed to take first, if anything.
    pub(super) async fn check_funds(
        &self,
        view: &ChainView,
        token: Address,
        amount: TokenAmount,
        decimals: Decimals,
    ) -> Result<Option<TokenAmount>, Stage> {
        let account = self.context.account();
        let balance = view.head().balance(account, token);
        let Some(missing) = amount.checked_sub(balance).filter(|missing| !missing.is_zero()) else {
            return Ok(None);
        };
        let tag = BlockTag::Latest;
        let wallet = self
            .reader
            .token_balance(token, account, tag)
            .await
            .map_err(|error| chain_unavailable(&error))?;
        if wallet < missing {
            let available = balance.checked_add(wallet).unwrap_or(TokenAmount::MAX);
            let message = format!(
                "the job binds {}, account {account} has {}: send more of the token to it",
                amount.to_decimal(decimals),
                available.to_decimal(decimals),
            );
            return Err(Stage::BeforeMoney(JobReason::AwaitingDeposit, message));
        }
        let allowance = self
            .reader
            .token_allowance(token, account, tag)
            .await
            .map_err(|error| chain_unavailable(&error))?;
        Ok((allowance < missing).then_some(missing))
    }
}
