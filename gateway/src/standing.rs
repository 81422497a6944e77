//! Who has a part in the market: an account with a balance or a bond, a job's buyer, a seat's provider.
//!
//! It only reads the chain. Answers are kept for a short while, so that a flood of requests is not a flood of chain
//! reads; what is unknown is never taken for an answer.

mod chain;

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tradewind_gateway_api::wire::Reason;
use tradewind_market::{Address, GroupIndex, JobId, SeatIndex};

use crate::http::Refused;

pub use chain::ChainMarket;

/// The chain could not be asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the chain could not be asked: {reason}")]
pub struct StandingError {
    /// Why.
    pub reason: String,
}

/// A job as the chain has it, as far as the gateway cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobFacts {
    /// Who opened it.
    pub buyer: Address,
    /// What it pays in.
    pub token: Address,
}

/// What the gateway asks the chain.
#[async_trait]
pub trait Market: Send + Sync + std::fmt::Debug {
    /// A job, if the chain knows it.
    async fn job(&self, job: JobId) -> Result<Option<JobFacts>, StandingError>;
    /// Whether an account has a balance or a bond in a token.
    async fn has_funds(&self, account: Address, token: Address) -> Result<bool, StandingError>;
    /// Who holds a seat, if anyone does.
    async fn seat(
        &self,
        job: JobId,
        group: GroupIndex,
        seat: SeatIndex,
    ) -> Result<Option<Address>, StandingError>;
}

/// How long a good answer is believed.
const GOOD_FOR: Duration = Duration::from_mins(1);
/// How long a bad one is: a deposit or a fill may be on its way.
const BAD_FOR: Duration = Duration::from_secs(2);
/// Answers that are kept of each kind. When they are too many, all are forgotten.
const ANSWERS_MAX: usize = 50_000;

/// Answers of the chain, kept for a while.
#[derive(Debug)]
pub struct Standings {
    market: Box<dyn Market>,
    contract: Address,
    tokens: Vec<Address>,
    jobs: Answers<JobId, JobFacts>,
    funds: Answers<(Address, Address), ()>,
    seats: Answers<(JobId, GroupIndex, SeatIndex), Address>,
}

impl Standings {
    /// Over the chain, with the market's contract and the tokens in which a balance or a bond counts.
    pub fn new(market: Box<dyn Market>, contract: Address, tokens: Vec<Address>) -> Self {
        Self {
            market,
            contract,
            tokens,
            jobs: Answers::default(),
            funds: Answers::default(),
            seats: Answers::default(),
        }
    }

    /// A job's facts, or that the chain does not know it.
    pub(crate) async fn job(&self, job: JobId) -> Result<JobFacts, Refused> {
        self.facts(job).await?.ok_or_else(|| {
            Refused::new(
                Reason::JobUnknown,
                format!("the chain does not know the job {job}"),
                "wait until the block that opens it is seen here, or check chain and market",
            )
        })
    }

    /// Whether an account may store and publish: it has funds in a token that counts here, or a part in the job. A
    /// job that the chain does not know gives no part: content is stored before its job is opened, and what such an
    /// account lacks is money in the market.
    pub(crate) async fn require(&self, account: Address, job: JobId) -> Result<(), Refused> {
        for token in &self.tokens {
            if self.has_funds(account, *token).await? {
                return Ok(());
            }
        }
        if !job.is_zero()
            && let Some(facts) = self.facts(job).await?
        {
            let other_token = !self.tokens.contains(&facts.token);
            if facts.buyer == account || (other_token && self.has_funds(account, facts.token).await?) {
                return Ok(());
            }
        }
        let tokens: Vec<String> = self.tokens.iter().map(ToString::to_string).collect();
        let counted = if tokens.is_empty() {
            "the token of a job that is on chain".to_owned()
        } else {
            tokens.join(", ")
        };
        Err(Refused::new(
            Reason::NoStanding,
            format!("{account} has neither balance nor bond here, nor a part in the job"),
            format!(
                "deposit or bond in market {} (counted here: {counted}), or name a job of the account's that is on chain",
                self.contract,
            ),
        ))
    }

    async fn facts(&self, job: JobId) -> Result<Option<JobFacts>, Refused> {
        self.jobs.get(job, || self.market.job(job)).await.map_err(unknown)
    }

    /// Whether an account has funds in one token.
    pub(crate) async fn require_funds(&self, account: Address, token: Address) -> Result<(), Refused> {
        if self.has_funds(account, token).await? {
            return Ok(());
        }
        Err(Refused::new(
            Reason::NoStanding,
            format!("{account} has neither balance nor bond in {token}"),
            "post a bond in the offer's token first",
        ))
    }

    /// Whether a seat is this provider's.
    pub(crate) async fn require_seat(
        &self,
        provider: Address,
        job: JobId,
        group: GroupIndex,
        seat: SeatIndex,
    ) -> Result<(), Refused> {
        let key = (job, group, seat);
        let holder = self
            .seats
            .get(key, || self.market.seat(job, group, seat))
            .await
            .map_err(unknown)?;
        if holder == Some(provider) {
            return Ok(());
        }
        Err(Refused::new(
            Reason::NoStanding,
            format!("{provider} does not hold seat {seat} of group {group} in this job"),
            "wait until the block that fills the seat is seen here, or correct the entry",
        ))
    }

    async fn has_funds(&self, account: Address, token: Address) -> Result<bool, Refused> {
        let ask = || async {
            let funded = self.market.has_funds(account, token).await?;
            Ok(funded.then_some(()))
        };
        Ok(self
            .funds
            .get((account, token), ask)
            .await
            .map_err(unknown)?
            .is_some())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn unknown(error: StandingError) -> Refused {
    tracing::warn!(%error, "a signer's standing is unknown");
    Refused::new(
        Reason::StandingUnknown,
        "the chain cannot be asked about the signer",
        "try again later",
    )
}

#[derive(Debug)]
struct Answers<K, V> {
    kept: Mutex<HashMap<K, (Option<V>, Instant)>>,
}

impl<K, V> Default for Answers<K, V> {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash + Copy, V: Copy> Answers<K, V> {
    async fn get<F>(&self, key: K, ask: impl FnOnce() -> F) -> Result<Option<V>, StandingError>
    where
        F: Future<Output = Result<Option<V>, StandingError>>,
    {
        if let Some((answer, until)) = self.lock().get(&key).copied()
            && Instant::now() < until
        {
            return Ok(answer);
        }
        let answer = ask().await?;
        let until = Instant::now() + if answer.is_some() { GOOD_FOR } else { BAD_FOR };
        let mut kept = self.lock();
        if kept.len() >= ANSWERS_MAX {
            kept.clear();
        }
        kept.insert(key, (answer, until));
        Ok(answer)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, (Option<V>, Instant)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
