//! What scenarios ask of the auditor's books.

use std::time::Duration;

use crate::market::{JobBooks, Market, Role, SeatBooks};

use super::ScenarioError;

/// How long a job may take to end on chain after its last message.
const ENDS_WITHIN: Duration = Duration::from_secs(400);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The job's books; an error where the books do not balance or do not know it.
pub(super) async fn of(market: &Market<'_>, job: &str) -> Result<JobBooks, ScenarioError> {
    let mut books = market.audit().await?;
    books
        .jobs
        .remove(job)
        .ok_or_else(|| ScenarioError::NotSo(format!("the books know the job `{job}`")))
}

/// The job's books once it has ended on chain. The chain tells nobody: it is asked again and again.
pub(super) async fn at_the_end(market: &Market<'_>, job: &str) -> Result<JobBooks, ScenarioError> {
    let asked = async {
        loop {
            let books = of(market, job).await?;
            if books.ended {
                return Ok(books);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let late = |_| {
        ScenarioError::NotSo(format!(
            "job {job} ends on chain within {} s",
            ENDS_WITHIN.as_secs()
        ))
    };
    tokio::time::timeout(ENDS_WITHIN, asked).await.map_err(late)?
}

/// Everything that was deposited has gone somewhere, and nothing else has. What a silent seat loses comes from its
/// bond, not from the job.
pub(super) fn add_up(books: &JobBooks) -> Result<(), ScenarioError> {
    let paid: u128 = seats(books)
        .map(|seat| number(&seat.paid))
        .sum::<Result<u128, _>>()?;
    let (deposited, refunded) = (number(&books.deposited)?, number(&books.refunded)?);
    let (fee, sunk) = (number(&books.fee)?, number(&books.sunk)?);
    require(books.ended && deposited == paid + fee + sunk + refunded, || {
        format!("deposited {deposited} = paid {paid} + fee {fee} + sunk {sunk} + refunded {refunded}")
    })
}

/// Whichever event of a job a node withholds, the auditor misses it by job and sequence number: the first, one in
/// the middle, and the last, after which nothing tells of a gap but the market itself.
pub(super) async fn withheld_events_are_missed(market: &Market<'_>) -> Result<(), ScenarioError> {
    let books = market.audit().await?;
    let longest = books.jobs.iter().max_by_key(|(_, job)| job.events);
    // Of the scenarios that were selected, none may have opened a job.
    let Some((id, job)) = longest else {
        return Ok(());
    };
    for sequence in [1, job.events / 2, job.events] {
        let found = market.audit_withholding(id, sequence).await?;
        let named = format!("job {id}: sequence number {sequence} ");
        require(
            found.as_ref().is_some_and(|finding| finding.contains(&named)),
            || format!("the auditor misses {named}(it says {found:?})"),
        )?;
    }
    Ok(())
}

pub(super) fn seats(books: &JobBooks) -> impl Iterator<Item = &SeatBooks> {
    books.groups.iter().flat_map(|group| &group.seats)
}

/// Every seat ended so, except that provider's.
pub(super) fn all_seats(books: &JobBooks, state: &str, except: Option<Role>) -> Result<(), ScenarioError> {
    let except = except.map(|role| role.account().address.to_lowercase());
    let mut judged = 0;
    for seat in seats(books).filter(|seat| Some(&seat.provider) != except.as_ref()) {
        judged += 1;
        require(seat.state == state, || {
            format!("the seat of {} is {state} (it is {})", seat.provider, seat.state)
        })?;
    }
    require(judged > 0, || "the job has seats".to_owned())
}

pub(super) fn number(text: &str) -> Result<u128, ScenarioError> {
    text.parse()
        .map_err(|_| ScenarioError::NotSo(format!("`{text}` is an amount")))
}

pub(super) fn require(holds: bool, what: impl FnOnce() -> String) -> Result<(), ScenarioError> {
    if holds {
        Ok(())
    } else {
        Err(ScenarioError::NotSo(what()))
    }
}
