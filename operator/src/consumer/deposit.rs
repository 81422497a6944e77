//! Keeps the account's balance in the market: before a job's content is stored, the balance covers what the job is
//! about to bind, since gateways store only for those who have money in the market.
//!
//! Nothing is deposited for a namespace whose SpendingLimit has no room, beyond the operator's own bounds, or twice:
//! a deposit is one intent in the journal, with an id that the contract takes once, and the next is thought of only
//! when that one is seen. What jobs leave over stays in the balance, for the next.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tradewind_crds::compute_job::JobReason;
use tradewind_market::{
    Address, Decimals, JobId, Knowledge, TokenAmount,
    plan::deposit::{DepositBounds, DepositStep, DepositView, deposit_plan},
};

use super::{
    Consumer, before_money, chain_unavailable,
    spending::{self, Want},
    status::Stage,
};
use crate::{
    args::{ConsumerArgs, TokenShare},
    shell::{self, chain::ChainView},
    treasury::{Moment, deposit_act},
};

impl Consumer {
    /// Sees to it that the balance covers what a job is about to bind. Until it does: what it waits for.
    pub(super) async fn cover(&self, view: &ChainView, namespace: &str, want: Want) -> Result<(), Stage> {
        let Want {
            job,
            token,
            decimals,
            amount: need,
        } = want;
        let bounds = bounds(&self.context.args.consumer, token, decimals)?;
        let account = self.context.account();
        let balance = view.head().balance(account, token);
        let reservations = &self.memory.reservations;
        let plan = |wallet| {
            let opened = |job| matches!(view.head().job(job), Knowledge::Known(_));
            reservations.admit(job, token, need, opened, |reserved| {
                deposit_plan(&DepositView {
                    wallet,
                    balance,
                    need,
                    reserved,
                    bounds,
                })
            })
        };
        // The wallet costs a request, and matters only where there is something to do.
        if plan(TokenAmount::MAX) == DepositStep::Enough {
            return Ok(());
        }
        let moment = Moment::newest(view).ok_or_else(|| {
            let message = "the chain's newest block is not known yet".to_owned();
            Stage::BeforeMoney(JobReason::ChainUnavailable, message)
        })?;
        let wallet = self.purse.wallet(token, moment).await;
        let wallet = wallet.map_err(|error| chain_unavailable(&error))?;
        let text = |amount: TokenAmount| amount.to_decimal(decimals);
        match plan(wallet) {
            DepositStep::Enough => Ok(()),
            DepositStep::Short { missing } => {
                let message = format!(
                    "the job binds {}; account {account} lacks {} of token {token} to deposit it: send that much to it",
                    text(need),
                    text(missing),
                );
                Err(Stage::BeforeMoney(JobReason::AwaitingDeposit, message))
            }
            DepositStep::Deposit { amount } => {
                // The namespace's room is taken before any money moves on its behalf.
                spending::claim(&self.context.client, namespace, want, shell::now())
                    .await
                    .map_err(|error| before_money(&error))?;
                self.deposit(view, moment, token, amount).await?;
                let message = format!(
                    "{} of token {token} are being deposited in the market from account {account}",
                    text(amount),
                );
                Err(Stage::BeforeMoney(JobReason::Depositing, message))
            }
        }
    }

    /// Takes the next step towards a deposit, where no deposit of the token is on its way.
    async fn deposit(
        &self,
        view: &ChainView,
        moment: Moment,
        token: Address,
        amount: TokenAmount,
    ) -> Result<(), Stage> {
        let count = self.purse.deposits(token, moment).await;
        let count = count.map_err(|error| chain_unavailable(&error))?;
        let allowance = self.purse.allowance(token, moment).await;
        let allowance = allowance.map_err(|error| chain_unavailable(&error))?;
        if self.context.leadership.holds() {
            let market = self.context.market.domain.market;
            let act = deposit_act(market, token, amount, count, allowance);
            self.purse.act(act, view);
        }
        Ok(())
    }
}

/// The bounds that the operator was told for a token.
fn bounds(args: &ConsumerArgs, token: Address, decimals: Decimals) -> Result<DepositBounds, Stage> {
    let told = |flag: &str, shares: &[TokenShare]| {
        let Some(share) = shares.iter().find(|share| share.token == token) else {
            return Ok(None);
        };
        TokenAmount::from_decimal_exact(&share.amount, decimals)
            .map(Some)
            .map_err(|error| {
                let message = format!("the operator's {flag} of token {token}: {error}");
                Stage::BeforeMoney(JobReason::AmountNotRepresentable, message)
            })
    };
    Ok(DepositBounds {
        floor: told("--deposit-floor", &args.deposit_floors)?.unwrap_or(TokenAmount::ZERO),
        max: told("--deposit-max", &args.deposit_max)?.unwrap_or(TokenAmount::MAX),
    })
}

/// What jobs that are covered are about to bind, so that no two count on the same money. Forgotten at a restart: then
/// the market takes from the account what the balance lacks when a job is opened.
#[derive(Debug, Default)]
pub(crate) struct Reservations(Mutex<HashMap<JobId, (Address, TokenAmount)>>);

impl Reservations {
    /// Decides knowing what other jobs hold of the token, and holds this job's need if nothing is missing. Jobs that
    /// are opened have bound theirs.
    fn admit(
        &self,
        job: JobId,
        token: Address,
        need: TokenAmount,
        opened: impl Fn(JobId) -> bool,
        decide: impl FnOnce(TokenAmount) -> DepositStep,
    ) -> DepositStep {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|job, _| !opened(*job));
        let others = held
            .iter()
            .filter(|(other, (of, _))| **other != job && *of == token)
            .map(|(_, (_, amount))| *amount);
        let step = decide(TokenAmount::checked_sum(others).unwrap_or(TokenAmount::MAX));
        if step == DepositStep::Enough {
            held.insert(job, (token, need));
        }
        step
    }

    /// Holds nothing any more for a job.
    pub(crate) fn release(&self, job: JobId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_jobs_count_on_the_same_money() {
        let reservations = Reservations::default();
        let (token, other_token) = (Address::from_bytes([1; 20]), Address::from_bytes([2; 20]));
        let job = |number| JobId::from_bytes([number; 32]);
        let admit = |number: u8, token, need: u128, balance: u128, opened: &[u8]| {
            let need = TokenAmount::from_base_units(need);
            let is_opened = |other| opened.iter().any(|number| job(*number) == other);
            reservations.admit(job(number), token, need, is_opened, |reserved| {
                deposit_plan(&DepositView {
                    wallet: TokenAmount::MAX,
                    balance: TokenAmount::from_base_units(balance),
                    need,
                    reserved,
                    bounds: DepositBounds {
                        floor: TokenAmount::ZERO,
                        max: TokenAmount::MAX,
                    },
                })
            })
        };
        let deposit = |amount| DepositStep::Deposit {
            amount: TokenAmount::from_base_units(amount),
        };
        assert_eq!(admit(1, token, 5, 5, &[]), DepositStep::Enough);
        assert_eq!(
            admit(1, token, 5, 5, &[]),
            DepositStep::Enough,
            "asking again holds it once"
        );
        assert_eq!(admit(2, token, 4, 5, &[]), deposit(4));
        assert_eq!(admit(3, other_token, 4, 4, &[]), DepositStep::Enough);
        assert_eq!(
            admit(2, token, 4, 4, &[1]),
            DepositStep::Enough,
            "what is opened has bound its own"
        );
        reservations.release(job(2));
        assert_eq!(admit(4, token, 3, 3, &[]), DepositStep::Enough);
    }

    #[test]
    fn bounds_are_whole_tokens_and_none_is_no_bound() {
        let token = Address::from_bytes([1; 20]);
        let decimals = Decimals::new(2).unwrap();
        let args = |words: &[&str]| {
            #[derive(clap::Parser)]
            struct Line {
                #[command(flatten)]
                args: ConsumerArgs,
            }
            let words = std::iter::once("x").chain(words.iter().copied());
            <Line as clap::Parser>::try_parse_from(words).map(|line| line.args)
        };
        let unbounded = bounds(&args(&[]).unwrap(), token, decimals).unwrap();
        assert_eq!(
            (unbounded.floor, unbounded.max),
            (TokenAmount::ZERO, TokenAmount::MAX)
        );
        let floor = format!("--deposit-floor={token}=1.5");
        let max = format!("--deposit-max={token}=20");
        let bounded = bounds(&args(&[&floor, &max]).unwrap(), token, decimals).unwrap();
        assert_eq!(
            (bounded.floor, bounded.max),
            (
                TokenAmount::from_base_units(150),
                TokenAmount::from_base_units(2000)
            )
        );
        let fine = format!("--deposit-max={token}=0.001");
        assert!(matches!(
            bounds(&args(&[&fine]).unwrap(), token, decimals),
            Err(Stage::BeforeMoney(JobReason::AmountNotRepresentable, _))
        ));
        assert!(args(&["--deposit-max=20"]).is_err(), "without a token");
        assert!(args(&[&format!("--deposit-max={token}=much")]).is_err());
    }
}
