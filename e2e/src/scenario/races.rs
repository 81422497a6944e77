//! Deadlines, to the second: what comes in the deadline's own second counts, what comes a second later does not, and
//! nothing that anyone may call happens early.

use tradewind_chain::{BlockTag, calls};
use tradewind_crds::condition::Name as _;
use tradewind_crds::job_status::JobReason;
use tradewind_market::event::{GroupStatus, SeatStatus};
use tradewind_market::{JobId, Seconds, UnixSeconds};

use crate::market::{Market, Party, Role};

use super::ScenarioError;
use super::books::{self, require};
use super::hands::{self, FIRST, id, job_for, root, seated};
use super::time::{in_block_at, while_held};

const SECOND: Seconds = Seconds::new(1);

/// One seat commits and reveals in the last second of each, one commits a second too late, and one reveals a second too
/// late. A stranger judges, and settles: a second too early without effect, and then with it.
pub(super) async fn to_the_second(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let parties = hands::all(market).await?;
    let stranger = Party::new(market, Role::Deployer).await?;
    let spec = job_for(&parties.each_ref().map(Party::address));
    let (mut job, seats) = seated(market, namespace, &parties, spec).await?;
    let [punctual, late, slow] = &parties;
    let (id, result) = (id(&job)?, root("a result"));
    slow.send(&slow.commit(&seats[2], result)).await?;
    while_held(market, async {
        let commit_by = deadline(&stranger, id).await?;
        in_block_at(
            market,
            commit_by,
            &[(punctual, punctual.commit(&seats[0], result))],
        )
        .await?;
        let after = commit_by.saturating_add(SECOND);
        in_block_at(market, after, &[(late, late.commit(&seats[1], result))]).await?;
        let spoken = [
            (punctual, SeatStatus::Committed),
            (late, SeatStatus::Awarded),
            (slow, SeatStatus::Committed),
        ];
        seats_are(id, spoken).await?;

        let reveal_by = commit_by.saturating_add(Seconds::new(market.windows().reveal.into()));
        let reveal = punctual.reveal(&seats[0], result, true).await?;
        in_block_at(market, reveal_by, &[(punctual, reveal)]).await?;
        let too_late = slow.reveal(&seats[2], result, true).await?;
        let after = reveal_by.saturating_add(SECOND);
        in_block_at(market, after, &[(slow, too_late)]).await?;
        let shown = [
            (punctual, SeatStatus::Stored),
            (late, SeatStatus::Awarded),
            (slow, SeatStatus::Committed),
        ];
        seats_are(id, shown).await?;

        let buyer = Role::Consumer.account().address;
        // The buyer's operator would do the same: what it sent meanwhile must not be what is seen here.
        market.lab().evm().forget_pending(buyer).await?;
        let judge = calls::judge(stranger.market(), id, &[FIRST]);
        in_block_at(market, after.saturating_add(SECOND), &[(&stranger, judge)]).await?;
        group_is(&stranger, id, GroupStatus::Contested).await?;
        let settle_at = deadline(&stranger, id).await?;
        let settle = calls::settle(stranger.market(), id, &[FIRST]);
        let early = UnixSeconds::new(settle_at.get() - 1);
        in_block_at(market, early, &[(&stranger, settle.clone())]).await?;
        group_is(&stranger, id, GroupStatus::Contested).await?;
        market.lab().evm().forget_pending(buyer).await?;
        in_block_at(market, settle_at, &[(&stranger, settle)]).await?;
        group_is(&stranger, id, GroupStatus::Inconclusive).await
    })
    .await?;

    let failed = job.failed().await?;
    require(failed.reason == JobReason::NotAgreed.as_str(), || {
        format!("it fails for want of agreement ({})", failed.reason)
    })?;
    let books = books::at_the_end(market, &job.id()).await?;
    books::add_up(&books)?;
    for (party, state) in [(punctual, "Unresolved"), (late, "NoShow"), (slow, "Dissent")] {
        let found = hands::states(&books, party.address());
        require(found == [state], || {
            format!("{} is {state} ({found:?})", party.address())
        })?;
    }
    Ok(())
}

/// When anyone may end the group's present state, or when that state's time is over.
async fn deadline(party: &Party, job: JobId) -> Result<UnixSeconds, ScenarioError> {
    let group = party.reader().group_of(job, FIRST, BlockTag::Latest).await;
    Ok(group.map_err(hands::unread)?.deadline)
}

async fn group_is(party: &Party, job: JobId, state: GroupStatus) -> Result<(), ScenarioError> {
    let group = party.reader().group_of(job, FIRST, BlockTag::Latest).await;
    let found = group.map_err(hands::unread)?.state;
    require(found == state, || format!("the group is {state:?} ({found:?})"))
}

async fn seats_are(job: JobId, wanted: [(&Party, SeatStatus); 3]) -> Result<(), ScenarioError> {
    for (party, wanted) in wanted {
        let found = hands::seat_state(party, job, party.address()).await?;
        require(found == Some(wanted), || {
            format!("the seat of {} is {wanted:?} ({found:?})", party.address())
        })?;
    }
    Ok(())
}
