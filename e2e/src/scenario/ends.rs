//! The ends that a group can come to where its seats, its buyer or its offers are not what they should be. In each the
//! money goes where PROTOCOL.md says, and the job's conditions say why.

use futures::future::try_join_all;
use tradewind_chain::{BlockTag, calls};
use tradewind_crds::condition::ConditionStatus::True;
use tradewind_crds::condition::Name as _;
use tradewind_crds::job_status::{JobCondition, JobReason};
use tradewind_market::event::{GroupStatus, SeatStatus};
use tradewind_market::message::AbstainReason;
use tradewind_market::{Address, GroupIndex, JobId, Seconds};

use crate::market::{GATEWAY_PORT, JobBooks, Market, Party, Purchase, Role, Stall};

use super::ScenarioError;
use super::books::{self, number, require};
use super::faults;
use super::hands::{self, FIRST, group_is, id, job_for, root, seat_is, seated};
use super::job::{Job, JobSpec};
use super::logs::{self, Expected};
use super::outages::{self, OPERATOR};
use super::time::{self, jump, while_held};

/// Before a deadline: less than half of the time that an operator leaves itself.
const LITTLE_TIME: Seconds = Seconds::new(15);

/// All seats stay silent: each loses what silence costs, and the buyer has back what did not go for charges.
pub(super) async fn all_silent(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let parties = hands::all(market).await?;
    let spec = job_for(&parties.each_ref().map(Party::address));
    let (mut job, _) = seated(market, namespace, &parties, spec).await?;
    let [one, ..] = &parties;
    let group = one.reader().group_of(id(&job)?, FIRST, BlockTag::Latest).await;
    let deadline = group.map_err(hands::unread)?.deadline;
    jump(market, deadline.saturating_add(Seconds::new(1))).await?;
    let books = ended_for(market, &mut job, JobReason::NotAgreed).await?;
    books::all_seats(&books, "NoShow", None)?;
    for seat in books::seats(&books) {
        let burned = number(&seat.burned)?;
        require(burned > 0 && seat.released, || format!("silence cost {burned}"))?;
    }
    require(number(&books.sunk)? > 0, || "the charges are sunk".to_owned())
}

/// Two seats show different results and the third gives its seat back: there is no quorum and nobody to ask. The two
/// keep their charges, half of the rest is burned, and half comes back.
pub(super) async fn no_quorum(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let parties = hands::all(market).await?;
    let spec = job_for(&parties.each_ref().map(Party::address));
    let (mut job, seats) = seated(market, namespace, &parties, spec).await?;
    let [one, two, three] = &parties;
    let calls = [
        (one, one.commit(&seats[0], root("one"))),
        (two, two.commit(&seats[1], root("another"))),
        (three, three.abstain(&seats[2], AbstainReason::Hardware)),
    ];
    hands::each(&calls).await?;
    let calls = [
        (one, one.reveal(&seats[0], root("one"), true).await?),
        (two, two.reveal(&seats[1], root("another"), true).await?),
    ];
    hands::each(&calls).await?;
    let books = ended_for(market, &mut job, JobReason::NotAgreed).await?;
    group_states(&books, &["Inconclusive"])?;
    for (party, state) in [(one, "Unresolved"), (two, "Unresolved"), (three, "Abstained")] {
        seat_states(&books, party.address(), &[state])?;
    }
    let (mut kept, mut asked) = (0, 0);
    for seat in books::seats(&books).filter(|seat| seat.state == "Unresolved") {
        kept += number(&seat.paid)?;
        asked += number(&seat.pay)?;
    }
    let sunk = number(&books.sunk)?;
    require(kept > 0 && sunk == (asked - kept).div_ceil(2), || {
        format!("of {asked}, {kept} is kept, and half of the rest is sunk ({sunk})")
    })
}

/// One seat does something else in each group: it commits and shows nothing, shows another result, gives the seat
/// back, shows another result without a receipt. The other two agree each time, and are paid.
pub(super) async fn misbehaving_seat(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let [odd, ..] = hands::all(market).await?;
    let honest = [Role::Provider(0), Role::Provider(1)].map(|role| role.account().address.to_owned());
    let mut spec = JobSpec {
        completions: 4,
        slice: 1,
        slices_per_group: 1,
        ..job_for(&[odd.address()])
    };
    spec.seconds_per_unit = JobSpec::default().seconds_per_unit;
    spec.allow.extend(honest);
    let mut job = Job::apply(market, namespace, &spec).await?;
    job.until(JobCondition::Running, True, None).await?;
    let id = id(&job)?;
    let mut seats = Vec::new();
    for group in (0..4).map(GroupIndex::new) {
        group_is_sealed(&odd, id, group).await?;
        seats.push(odd.seat(id, group).await?);
    }
    let wrong = root("wrong");
    for (index, seat) in seats.iter().enumerate() {
        let call = match index {
            2 => odd.abstain(seat, AbstainReason::Preempted),
            _ => odd.commit(seat, wrong),
        };
        odd.send(&call).await?;
    }
    for (index, with_receipt) in [(1, true), (3, false)] {
        let group = GroupIndex::new(index);
        group_is(&odd, id, group, GroupStatus::Revealing).await?;
        let reveal = odd.reveal(&seats[index as usize], wrong, with_receipt).await?;
        odd.send(&reveal).await?;
    }
    job.complete().await?;
    let books = books::of(market, &job.id()).await?;
    books::add_up(&books)?;
    group_states(&books, &["Credited"; 4])?;
    seat_states(
        &books,
        odd.address(),
        &["Dissent", "Dissent", "Abstained", "Dissent"],
    )?;
    let odd = odd.address().to_string();
    for seat in books::seats(&books) {
        let (paid, burned) = (number(&seat.paid)?, number(&seat.burned)?);
        let right = if seat.provider == odd {
            paid == 0
        } else {
            seat.state == "Agreed" && paid > 0
        };
        require(right && burned == 0 && seat.released, || {
            format!("{} is {} with {paid}", seat.provider, seat.state)
        })?;
    }
    Ok(())
}

/// Three agree, and one of them shows its result without a receipt: it is not paid, and loses nothing.
pub(super) async fn no_receipt(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let parties = hands::all(market).await?;
    let spec = job_for(&parties.each_ref().map(Party::address));
    let (mut job, seats) = seated(market, namespace, &parties, spec).await?;
    let result = root("the result");
    for (party, seat) in parties.iter().zip(&seats) {
        party.send(&party.commit(seat, result)).await?;
    }
    for ((party, seat), with_receipt) in parties.iter().zip(&seats).zip([true, true, false]) {
        let reveal = party.reveal(seat, result, with_receipt).await?;
        party.send(&reveal).await?;
    }
    let [one, two, unstored] = &parties;
    group_is(one, id(&job)?, FIRST, GroupStatus::Credited).await?;
    let books = books::at_the_end(market, &job.id()).await?;
    books::add_up(&books)?;
    for (party, state) in [(one, "Agreed"), (two, "Agreed"), (unstored, "Unstored")] {
        seat_states(&books, party.address(), &[state])?;
    }
    has_lost_nothing(&books, unstored.address())?;
    // What nobody computed cannot be fetched.
    job.delete().await
}

/// A data center that can reach no gateway to have its result kept gives its seat back before it has said anything, and
/// loses nothing.
pub(super) async fn nowhere_to_store(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let mut job = Job::apply(market, namespace, &outages::at_work()).await?;
    job.until(JobCondition::Running, True, None).await?;
    let victim = faults::victim(market)?;
    faults::running_pod(&victim, &job.id()).await?;
    let given_back_seats = Expected::of_operators("seats are given back").about(job.id());
    logs::expect([given_back_seats.in_cluster(&victim)]);
    victim.lose(&[GATEWAY_PORT])?;
    let outcome = given_back(market, id(&job)?).await;
    victim.find()?;
    let provider = outcome?;
    job.complete().await?;
    let books = books::of(market, &job.id()).await?;
    books::add_up(&books)?;
    books::all_seats(&books, "Agreed", Some(Role::Provider(faults::VICTIM)))?;
    has_lost_nothing(&books, provider)
}

/// Waits until the others have committed, then until little time is left and that data center abstains.
async fn given_back(market: &Market<'_>, id: JobId) -> Result<Address, ScenarioError> {
    let victim = Role::Provider(faults::VICTIM);
    let deadline = faults::others_have_committed(market, id, victim).await?;
    let by_then = deadline.saturating_sub(LITTLE_TIME);
    jump(market, by_then).await?;
    let party = Party::new(market, victim).await?;
    seat_is(&party, id, party.address(), &[SeatStatus::Abstained]).await?;
    Ok(party.address())
}

fn has_lost_nothing(books: &JobBooks, provider: Address) -> Result<(), ScenarioError> {
    let account = provider.to_string();
    for seat in books::seats(books).filter(|seat| seat.provider == account) {
        require(seat.paid == "0" && seat.burned == "0" && seat.released, || {
            format!("it has {} and lost {}", seat.paid, seat.burned)
        })?;
    }
    Ok(())
}

/// A program that gives another result each time: the first group finds it out, and the rest is never begun.
pub(super) async fn canary_fails(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let spec = JobSpec {
        script: "head -c 16 /dev/urandom >/out/result".to_owned(),
        canary: true,
        ..JobSpec::default()
    };
    let mut job = Job::apply(market, namespace, &spec).await?;
    let books = ended_for(market, &mut job, JobReason::NotAgreed).await?;
    group_states(&books, &["Inconclusive", "Refunded"])?;
    for (group, state) in books.groups.iter().zip(["Unresolved", "Excused"]) {
        require(group.seats.iter().all(|seat| seat.state == state), || {
            format!("all seats of group {} are {state}", group.group)
        })?;
    }
    Ok(())
}

/// A suspended job's seats that do not commit within the grace are excused, and keep their charge.
pub(super) async fn suspended_in_silence(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let parties = hands::all(market).await?;
    let spec = job_for(&parties.each_ref().map(Party::address));
    let (mut job, _) = seated(market, namespace, &parties, spec).await?;
    job.suspend().await?;
    excused(&ended_for(market, &mut job, JobReason::Suspended).await?)
}

/// A job whose own time is over is cancelled in the same way.
pub(super) async fn out_of_time(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let parties = hands::all(market).await?;
    let spec = JobSpec {
        deadline: "20s",
        ..job_for(&parties.each_ref().map(Party::address))
    };
    let (mut job, _) = seated(market, namespace, &parties, spec).await?;
    excused(&ended_for(market, &mut job, JobReason::DeadlineExceeded).await?)
}

/// What is at work when its job is suspended may finish, and is paid for.
pub(super) async fn suspended_at_work(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let spec = JobSpec {
        script: "sleep 4; echo unit $JOB_COMPLETION_INDEX >/out/result".to_owned(),
        ..JobSpec::default()
    };
    let mut job = Job::apply(market, namespace, &spec).await?;
    job.until(JobCondition::Running, True, None).await?;
    faults::running_pod(&faults::victim(market)?, &job.id()).await?;
    job.suspend().await?;
    job.complete().await?;
    let books = books::of(market, &job.id()).await?;
    books::add_up(&books)?;
    books::all_seats(&books, "Agreed", None)
}

/// A job that is deleted while its seats reveal is judged like any other: who agrees is paid.
pub(super) async fn deleted_while_revealing(
    market: &Market<'_>,
    namespace: &str,
) -> Result<(), ScenarioError> {
    let parties = hands::all(market).await?;
    let spec = job_for(&parties.each_ref().map(Party::address));
    let (mut job, seats) = seated(market, namespace, &parties, spec).await?;
    let [one, two, three] = &parties;
    let same = root("the same");
    let calls = [
        (one, one.commit(&seats[0], same)),
        (two, two.commit(&seats[1], same)),
        (three, three.abstain(&seats[2], AbstainReason::Image)),
    ];
    hands::each(&calls).await?;
    job.delete().await?;
    let calls = [
        (one, one.reveal(&seats[0], same, true).await?),
        (two, two.reveal(&seats[1], same, true).await?),
    ];
    hands::each(&calls).await?;
    let books = books::at_the_end(market, &job.id()).await?;
    books::add_up(&books)?;
    group_states(&books, &["Credited"])?;
    for (party, state) in [(one, "Agreed"), (two, "Agreed"), (three, "Abstained")] {
        seat_states(&books, party.address(), &[state])?;
    }
    Ok(())
}

/// While the transaction that opens a job is on its way, one of its offers is cancelled, one runs out, and the slot of
/// the third goes to somebody else. The market skips all three, and the job finds other seats.
pub(super) async fn offers_gone(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let [withdrawn, expiring, spent] = hands::all(market).await?;
    let rival = Party::new(market, Role::Provider(6)).await?;
    rival.supply("5").await?;
    let cheap = Stall {
        series: 2,
        slots: 1,
        price: Stall::default().price / 10,
        ..Stall::default()
    };
    let first = withdrawn.sell(cheap).await?;
    let short = Stall {
        stands_for: 120,
        ..cheap
    };
    let second = expiring.sell(short).await?;
    let third = spent.sell(cheap).await?;
    let spec = JobSpec {
        cheapest: true,
        ..small()
    };
    let purchase = Purchase {
        name: namespace,
        offers: std::slice::from_ref(&third),
        sealed: false,
        open_for: 600,
    };
    let mut job = while_held(market, async {
        let job = Job::apply(market, namespace, &spec).await?;
        let buyer = Role::Consumer.account().address;
        time::until("the opening is on its way", || time::waits(market, buyer)).await?;
        // It is broadcast again when the others' transactions are in.
        market.lab().evm().forget_pending(buyer).await?;
        let at = second.offer.sale.valid_until.saturating_add(Seconds::new(1));
        let calls = [
            (&withdrawn, withdrawn.withdraw(&first)),
            (&rival, rival.buy(&purchase).await?),
        ];
        time::in_block_at(market, at, &calls).await?;
        Ok(job)
    })
    .await?;
    job.complete().await?;
    let books = books::of(market, &job.id()).await?;
    books::add_up(&books)?;
    books::all_seats(&books, "Agreed", None)?;
    for party in [&withdrawn, &expiring, &spent] {
        seat_states(&books, party.address(), &[])?;
    }
    // No other job shall find it.
    spent.send(&spent.withdraw(&third)).await?;
    let rivals = rival.job(&purchase);
    rival.send(&calls::cancel_job(rival.market(), rivals)).await?;
    rival
        .send(&calls::close_groups(rival.market(), rivals, &[FIRST]))
        .await?;
    let rivals = books::at_the_end(market, &rivals.to_string()).await?;
    books::add_up(&rivals)?;
    seat_states(&rivals, spent.address(), &["Excused"])
}

/// A job of more groups than there are slots is filled, and sealed, as slots become free.
pub(super) async fn larger_than_the_market(
    market: &Market<'_>,
    namespace: &str,
) -> Result<(), ScenarioError> {
    let spec = JobSpec {
        completions: 12,
        slice: 1,
        slices_per_group: 1,
        ..JobSpec::default()
    };
    let mut job = Job::apply(market, namespace, &spec).await?;
    job.complete().await?;
    let books = books::of(market, &job.id()).await?;
    books::add_up(&books)?;
    group_states(&books, &["Credited"; 12])?;
    books::all_seats(&books, "Agreed", None)
}

/// A buyer that takes seats and never seals them, and one that seals and keeps the job's key to itself: the data centers
/// wait, give back, close and judge, and nobody has lost anything.
pub(super) async fn buyer_withholds(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let buyer = Party::new(market, Role::Provider(6)).await?;
    buyer.supply("5").await?;
    let mut offers = buyer.offers().await?;
    let accounts: Vec<String> = (0..3)
        .map(|index| Role::Provider(index).account().address.to_lowercase())
        .collect();
    offers.retain(|signed| accounts.contains(&signed.offer.provider.to_string()));
    require(offers.len() == 3, || format!("three offers ({})", offers.len()))?;
    let names = [format!("{namespace} hanging"), format!("{namespace} keyless")];
    let mut jobs = Vec::new();
    for (name, sealed) in names.iter().zip([false, true]) {
        let purchase = Purchase {
            name,
            offers: &offers,
            sealed,
            open_for: 30,
        };
        let job = buyer.job(&purchase);
        // Whoever sells should hear that a buyer's key cannot be had.
        logs::expect([Expected::of_operators("seats are given back").about(job.to_string())]);
        buyer.send(&buyer.buy(&purchase).await?).await?;
        jobs.push((job, if sealed { "Abstained" } else { "Excused" }));
    }
    for (job, state) in jobs {
        let books = books::at_the_end(market, &job.to_string()).await?;
        books::add_up(&books)?;
        group_states(&books, &["Refunded"])?;
        books::all_seats(&books, state, None)?;
        require(books.refunded == books.deposited, || {
            format!("all of {} comes back ({})", books.deposited, books.refunded)
        })?;
    }
    Ok(())
}

/// A buyer's operator that is gone once the work has begun: the data centers say what they have to say themselves, judge,
/// settle and are paid. When it is back, it finds the job done, and fetches the results.
pub(super) async fn buyer_gone(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let mut job = Job::apply(market, namespace, &outages::at_work()).await?;
    job.until(JobCondition::Running, True, None).await?;
    let (data_centers, id) = (market.providers()?, job.id());
    try_join_all(
        data_centers
            .iter()
            .map(|cluster| faults::running_pod(cluster, &id)),
    )
    .await?;
    let consumer = market.consumer()?;
    outages::scale(&consumer, OPERATOR, 0).await?;
    let ended = books::at_the_end(market, &job.id()).await;
    outages::scale(&consumer, OPERATOR, 1).await?;
    let books = ended?;
    books::add_up(&books)?;
    books::all_seats(&books, "Agreed", None)?;
    job.complete().await
}

/// A job of one group with little in it.
pub(super) fn small() -> JobSpec {
    JobSpec {
        completions: 2,
        slice: 1,
        slices_per_group: 2,
        ..JobSpec::default()
    }
}

/// Waits for the job to fail, for that reason; its books, which add up.
async fn ended_for(
    market: &Market<'_>,
    job: &mut Job<'_, '_>,
    reason: JobReason,
) -> Result<JobBooks, ScenarioError> {
    let failed = job.failed().await?;
    require(failed.reason == reason.as_str(), || {
        format!(
            "it fails for {} ({}: {})",
            reason.as_str(),
            failed.reason,
            failed.message
        )
    })?;
    let books = books::at_the_end(market, &job.id()).await?;
    books::add_up(&books)?;
    Ok(books)
}

/// Every seat is excused, has its charge, and lost nothing.
fn excused(books: &JobBooks) -> Result<(), ScenarioError> {
    group_states(books, &["Refunded"])?;
    books::all_seats(books, "Excused", None)?;
    for seat in books::seats(books) {
        let paid = number(&seat.paid)?;
        require(paid > 0 && seat.burned == "0" && seat.released, || {
            format!("it has {paid} and lost {}", seat.burned)
        })?;
    }
    Ok(())
}

async fn group_is_sealed(
    party: &Party,
    job: tradewind_market::JobId,
    group: GroupIndex,
) -> Result<(), ScenarioError> {
    time::until("the group is sealed", || async move {
        let found = party.reader().group_of(job, group, BlockTag::Latest).await;
        Ok(found.map_err(hands::unread)?.state != GroupStatus::Filling)
    })
    .await
}

fn group_states(books: &JobBooks, wanted: &[&str]) -> Result<(), ScenarioError> {
    let found: Vec<&str> = books.groups.iter().map(|group| group.state.as_str()).collect();
    require(found == wanted, || {
        format!("the groups are {wanted:?} ({found:?})")
    })
}

fn seat_states(books: &JobBooks, provider: Address, wanted: &[&str]) -> Result<(), ScenarioError> {
    let found = hands::states(books, provider);
    require(found == wanted, || {
        format!("the seats of {provider} are {wanted:?} ({found:?})")
    })
}
