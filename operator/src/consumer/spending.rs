//! What the jobs of a namespace may cost: reads its SpendingLimit, and claims room in it before money is bound.
//!
//! A claim is written at a resourceVersion before the transaction that spends it, so two jobs never take the same
//! room. Without a limit there is no room. What a claim is for stays claimed until its period is over, whatever
//! becomes of the job.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{Api, Client, api::PostParams};
use tradewind_crds::{
    SpendingLimit, SpendingLimitStatus,
    scalar::{AddressText, AmountText, HashText, MalformedText},
    spending_limit::{SpendingClaim, TokenLimit, TokenSpending},
};
use tradewind_market::{Address, Decimals, JobId, TokenAmount, UnixSeconds, amount::ParseAmountError};

/// The only name that a SpendingLimit can have.
const LIMIT_NAME: &str = "default";
/// The schema's bound on claims of one token and period.
const CLAIMS_MAX: usize = 1000;
/// Writers that may be faster than us before the pass is given up.
const ATTEMPTS: usize = 5;

/// Why there is no room.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpendingError {
    /// The namespace has no limit for the token.
    #[error(
        "the namespace has no SpendingLimit that lists token {token}: ask those who answer for the money to make one"
    )]
    NoLimit {
        /// The token.
        token: Address,
    },
    /// The job costs more than one job may.
    #[error("the job binds {cost}, the SpendingLimit allows {limit} for one job")]
    JobTooLarge {
        /// In whole tokens.
        cost: String,
        /// In whole tokens.
        limit: String,
    },
    /// The period's room is taken.
    #[error("the job binds {cost}, the SpendingLimit has {left} left until {until}")]
    Reached {
        /// In whole tokens.
        cost: String,
        /// In whole tokens.
        left: String,
        /// When the next period begins.
        until: Timestamp,
    },
    /// The limit cannot be applied as it is written.
    #[error("the SpendingLimit cannot be applied: {0}")]
    Unusable(String),
    /// The API server did not answer, or others were faster each time.
    #[error("the SpendingLimit could not be read or written")]
    Api(#[source] kube::Error),
    /// Others were faster each time.
    #[error("the SpendingLimit is being written by others; trying again")]
    Contended,
}

impl From<MalformedText> for SpendingError {
    fn from(error: MalformedText) -> Self {
        Self::Unusable(error.to_string())
    }
}

impl From<ParseAmountError> for SpendingError {
    fn from(error: ParseAmountError) -> Self {
        Self::Unusable(error.to_string())
    }
}

/// What one job wants to bind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    /// The job.
    pub(crate) job: JobId,
    /// The token.
    pub(crate) token: Address,
    /// Its decimals.
    pub(crate) decimals: Decimals,
    /// How much.
    pub(crate) amount: TokenAmount,
}

/// Claims room, or finds that it is claimed already. Doing it twice is doing it once.
pub(crate) async fn claim(
    client: &Client,
    namespace: &str,
    want: Want,
    now: UnixSeconds,
) -> Result<(), SpendingError> {
    let api: Api<SpendingLimit> = Api::namespaced(client.clone(), namespace);
    for _ in 0..ATTEMPTS {
        let Some(mut limit) = api.get_opt(LIMIT_NAME).await.map_err(SpendingError::Api)? else {
            return Err(SpendingError::NoLimit { token: want.token });
        };
        let Some(status) = decide(&limit, want, now)? else {
            return Ok(());
        };
        limit.status = Some(status);
        match api
            .replace_status(LIMIT_NAME, &PostParams::default(), &limit)
            .await
        {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(refusal)) if refusal.is_conflict() => {}
            Err(error) => return Err(SpendingError::Api(error)),
        }
    }
    Err(SpendingError::Contended)
}

/// Whether the namespace may spend the token at all: nothing is stored for a job that it may not.
pub(crate) async fn has_limit(client: &Client, namespace: &str, token: Address) -> Result<(), SpendingError> {
    let api: Api<SpendingLimit> = Api::namespaced(client.clone(), namespace);
    let limit = api.get_opt(LIMIT_NAME).await.map_err(SpendingError::Api)?;
    let listed = limit.is_some_and(|limit| {
        limit.spec.tokens.iter().any(|entry| {
            entry
                .token
                .as_str()
                .parse::<Address>()
                .is_ok_and(|listed| listed == token)
        })
    });
    if listed {
        Ok(())
    } else {
        Err(SpendingError::NoLimit { token })
    }
}

/// The status with the claim in it; `None` where it is there already.
fn decide(
    limit: &SpendingLimit,
    want: Want,
    now: UnixSeconds,
) -> Result<Option<SpendingLimitStatus>, SpendingError> {
    let Want {
        job,
        token,
        decimals,
        amount,
    } = want;
    let of_token = |text: &AddressText| {
        text.as_str()
            .parse::<Address>()
            .is_ok_and(|address| address == token)
    };
    let allowed: &TokenLimit = limit
        .spec
        .tokens
        .iter()
        .find(|entry| of_token(&entry.token))
        .ok_or(SpendingError::NoLimit { token })?;
    let whole = |text: &AmountText| TokenAmount::from_decimal_exact(text.as_str(), decimals);
    let (start, end) = period(limit.spec.period.seconds()?, now)?;

    let mut status = limit.status.clone().unwrap_or_default();
    let known = status
        .tokens
        .iter()
        .position(|spending| of_token(&spending.token));
    let mut spending = match known.map(|at| status.tokens.remove(at)) {
        Some(spending) if spending.period_start == start => spending,
        Some(_) | None => TokenSpending {
            token: AddressText(token.to_string()),
            period_start: start,
            spent: AmountText("0".to_owned()),
            claims: Vec::new(),
        },
    };
    let id = HashText(job.to_string());
    if let Some(own) = spending.claims.iter().position(|claim| claim.job_id == id) {
        if amount <= whole(&spending.claims[own].amount)? {
            return Ok(None);
        }
        // Matched again, and dearer: the larger claim takes the place of the smaller.
        spending.claims.remove(own);
    }
    let claimed = spending
        .claims
        .iter()
        .map(|claim| whole(&claim.amount))
        .collect::<Result<Vec<_>, _>>()?;
    let overflow = || SpendingError::Unusable("the claims of the period do not add up".to_owned());
    let spent = TokenAmount::checked_sum(claimed).ok_or_else(overflow)?;
    let left = whole(&allowed.amount)?
        .checked_sub(spent)
        .unwrap_or(TokenAmount::ZERO);
    let text = |amount: TokenAmount| amount.to_decimal(decimals);
    if let Some(per_job) = &allowed.amount_per_job {
        let most = whole(per_job)?;
        if amount > most {
            return Err(SpendingError::JobTooLarge {
                cost: text(amount),
                limit: text(most),
            });
        }
    }
    if amount > left || spending.claims.len() >= CLAIMS_MAX {
        return Err(SpendingError::Reached {
            cost: text(amount),
            left: text(left),
            until: end.0,
        });
    }
    spending.claims.push(SpendingClaim {
        job_id: id,
        amount: AmountText(text(amount)),
    });
    spending.spent = AmountText(text(spent.checked_add(amount).ok_or_else(overflow)?));
    status.tokens.push(spending);
    status.observed_generation = limit.metadata.generation;
    Ok(Some(status))
}

/// The period that `now` is in; periods follow each other from 1970 on.
fn period(length_seconds: u64, now: UnixSeconds) -> Result<(Time, Time), SpendingError> {
    let bad = || SpendingError::Unusable("period is too short or too long".to_owned());
    let number = now.get().checked_div(length_seconds).ok_or_else(bad)?;
    let at = |number: u64| {
        let seconds = number.checked_mul(length_seconds)?;
        Timestamp::from_second(i64::try_from(seconds).ok()?)
            .ok()
            .map(Time)
    };
    Ok((
        at(number).ok_or_else(bad)?,
        at(number.saturating_add(1)).ok_or_else(bad)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn token() -> Address {
        Address::from_bytes([0x11; 20])
    }

    fn limit(amount: &str, per_job: Option<&str>) -> SpendingLimit {
        let tokens = serde_json::json!([{
            "token": token().to_string(), "amount": amount, "amountPerJob": per_job,
        }]);
        serde_json::from_value(serde_json::json!({
            "apiVersion": "tradewind.dev/v1alpha1",
            "kind": "SpendingLimit",
            "metadata": {"name": "default", "namespace": "studio"},
            "spec": {"tokens": tokens},
        }))
        .unwrap()
    }

    fn want(job: u8, amount: u128) -> Want {
        Want {
            job: JobId::from_bytes([job; 32]),
            token: token(),
            decimals: Decimals::new(2).unwrap(),
            amount: TokenAmount::from_base_units(amount),
        }
    }

    /// Claims in turn, as the API server would store them.
    fn claim_all(limit: &mut SpendingLimit, wants: &[(Want, u64)]) -> Vec<Result<bool, &'static str>> {
        let mut results = Vec::new();
        for (want, now) in wants {
            results.push(match decide(limit, *want, UnixSeconds::new(*now)) {
                Ok(Some(status)) => {
                    limit.status = Some(status);
                    Ok(true)
                }
                Ok(None) => Ok(false),
                Err(SpendingError::NoLimit { .. }) => Err("NoLimit"),
                Err(SpendingError::JobTooLarge { .. }) => Err("JobTooLarge"),
                Err(SpendingError::Reached { .. }) => Err("Reached"),
                Err(error) => panic!("{error}"),
            });
        }
        results
    }

    #[test]
    fn claims_fill_the_period_once_each_and_the_next_period_is_empty() {
        let mut limit = limit("8.00", None);
        let results = claim_all(
            &mut limit,
            &[
                (want(1, 400), DAY),
                (want(1, 500), DAY + 4),
                (want(1, 500), DAY + 5),
                (want(2, 301), DAY + 6),
                (want(3, 300), DAY + 7),
                (want(4, 1), 2 * DAY - 1),
                (want(4, 1), 2 * DAY),
            ],
        );
        let expected = [
            Ok(true),
            Ok(true),
            Ok(false),
            Err("Reached"),
            Ok(true),
            Err("Reached"),
            Ok(true),
        ];
        assert_eq!(results, expected);
        let spending = &limit.status.unwrap().tokens[0];
        assert_eq!(spending.spent.as_str(), "0.01");
        assert_eq!(spending.claims.len(), 1);
    }

    #[test]
    fn one_job_may_be_bounded_and_other_tokens_have_no_room() {
        let mut bounded = limit("8.00", Some("2"));
        let other = Want {
            token: Address::from_bytes([0x22; 20]),
            ..want(9, 1)
        };
        let results = claim_all(
            &mut bounded,
            &[(want(1, 201), DAY), (want(1, 200), DAY), (other, DAY)],
        );
        assert_eq!(results, [Err("JobTooLarge"), Ok(true), Err("NoLimit")]);
    }
}
