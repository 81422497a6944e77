//! Three parties by hand who sell what only jobs of scenarios that mean them buy, and what they do with their seats.

use tradewind_chain::{BlockTag, Call};
use tradewind_crds::condition::ConditionStatus::True;
use tradewind_crds::job_status::JobCondition;
use tradewind_market::event::{GroupStatus, SeatStatus};
use tradewind_market::{Address, GroupIndex, Hash32, JobId, SeatIndex, keccak256};

use crate::market::{HeldSeat, Market, Party, Role, Stall};

use super::ScenarioError;
use super::books;
use super::job::{Job, JobSpec};
use super::time::until;

pub(super) const FIRST: GroupIndex = GroupIndex::ZERO;
/// They have less disk than the data centers: jobs that ask for more pass them by.
const DISK_BYTES: u64 = 48 << 20;
/// What jobs ask for that mean them.
pub(super) const DISK: &str = "32Mi";
/// After the data centers of the market.
const ROLES: [Role; 3] = [Role::Provider(3), Role::Provider(4), Role::Provider(5)];

/// Has them sell, once for all scenarios.
pub(super) async fn set_up(market: &Market<'_>) -> Result<(), ScenarioError> {
    for party in all(market).await? {
        party.supply("100").await?;
        party.post_bond("50").await?;
        party
            .sell(Stall {
                disk_bytes: Some(DISK_BYTES),
                ..Stall::default()
            })
            .await?;
    }
    Ok(())
}

/// The three.
pub(super) async fn all(market: &Market<'_>) -> Result<[Party; 3], ScenarioError> {
    let [one, two, three] = ROLES;
    Ok([
        Party::new(market, one).await?,
        Party::new(market, two).await?,
        Party::new(market, three).await?,
    ])
}

/// A job that only these may run: one group of two short units.
pub(super) fn job_for(providers: &[Address]) -> JobSpec {
    JobSpec {
        completions: 2,
        slice: 1,
        slices_per_group: 2,
        seconds_per_unit: 2,
        disk: DISK,
        allow: providers.iter().map(Address::to_string).collect(),
        ..JobSpec::default()
    }
}

/// Applies a job that the three run, and waits until their seats in its group are sealed.
pub(super) async fn seated<'m, 'lab>(
    market: &'m Market<'lab>,
    namespace: &str,
    parties: &[Party; 3],
    spec: JobSpec,
) -> Result<(Job<'m, 'lab>, [HeldSeat; 3]), ScenarioError> {
    let mut job = Job::apply(market, namespace, &spec).await?;
    job.until(JobCondition::Running, True, None).await?;
    let id = id(&job)?;
    let [one, two, three] = parties;
    let seats = [
        one.seat(id, FIRST).await?,
        two.seat(id, FIRST).await?,
        three.seat(id, FIRST).await?,
    ];
    Ok((job, seats))
}

/// The job's id on chain.
pub(super) fn id(job: &Job<'_, '_>) -> Result<JobId, ScenarioError> {
    let text = job.id();
    text.parse()
        .map_err(|_| ScenarioError::NotSo(format!("`{text}` is the job's id")))
}

/// What a party might have computed.
pub(super) fn root(word: &str) -> Hash32 {
    keccak256(&[word.as_bytes()])
}

/// Waits until the group is in this state.
pub(super) async fn group_is(
    party: &Party,
    job: JobId,
    group: GroupIndex,
    state: GroupStatus,
) -> Result<(), ScenarioError> {
    until(&format!("group {group} of {job} is {state:?}"), || async move {
        let found = party.reader().group_of(job, group, BlockTag::Latest).await;
        Ok(found.map_err(unread)?.state == state)
    })
    .await
}

/// Waits until that provider's seat in the group is in one of these states.
pub(super) async fn seat_is(
    party: &Party,
    job: JobId,
    provider: Address,
    states: &[SeatStatus],
) -> Result<(), ScenarioError> {
    until(&format!("the seat of {provider} is {states:?}"), || async move {
        let found = seat_state(party, job, provider).await?;
        Ok(found.is_some_and(|found| states.contains(&found)))
    })
    .await
}

/// The state of that provider's seat in the job's first group, if it has one.
pub(super) async fn seat_state(
    party: &Party,
    job: JobId,
    provider: Address,
) -> Result<Option<SeatStatus>, ScenarioError> {
    for seat in (0..3).map(SeatIndex::new) {
        let found = party.reader().seat_of(job, FIRST, seat, BlockTag::Latest).await;
        if let Some(found) = found.map_err(unread)?
            && found.provider == provider
        {
            return Ok(Some(found.state));
        }
    }
    Ok(None)
}

/// Makes the calls, one after another.
pub(super) async fn each(calls: &[(&Party, Call)]) -> Result<(), ScenarioError> {
    for (party, call) in calls {
        party.send(call).await?;
    }
    Ok(())
}

/// The states of that provider's seats, group by group.
pub(super) fn states(books: &crate::market::JobBooks, provider: Address) -> Vec<&str> {
    let account = provider.to_string();
    books::seats(books)
        .filter(|seat| seat.provider == account)
        .map(|seat| seat.state.as_str())
        .collect()
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
pub(super) fn unread(error: tradewind_chain::read::ReadError) -> ScenarioError {
    ScenarioError::NotSo(format!("the market can be read: {error}"))
}
