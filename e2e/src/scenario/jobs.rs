//! Jobs that go well, jobs that go wrong by themselves, and jobs that may not be paid for.

use tradewind_crds::condition::ConditionStatus::{False, True};
use tradewind_crds::job_status::JobCondition;

use crate::lab::ImageSource;
use crate::market::Market;

use super::ScenarioError;
use super::books::{self, require};
use super::faults;
use super::job::{Job, JobSpec};
use super::logs::{self, Expected};

/// The repository of an image that does not live long.
const SHORT_LIVED: &str = "short-lived";

/// Three of three agree, and all are paid.
pub(super) async fn first_job(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let spec = JobSpec {
        canary: true,
        ..JobSpec::default()
    };
    let mut job = Job::apply(market, namespace, &spec).await?;
    job.complete().await?;
    let books = books::of(market, &job.id()).await?;
    books::add_up(&books)?;
    books::all_seats(&books, "Agreed", None)
}

/// An exit status is part of the result: where all agree on it, it is verified and paid like any other.
pub(super) async fn failing_unit(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let script = "echo no luck with unit $JOB_COMPLETION_INDEX >&2; exit 3".to_owned();
    let mut job = Job::apply(
        market,
        namespace,
        &JobSpec {
            script,
            ..JobSpec::default()
        },
    )
    .await?;
    job.until(JobCondition::Settled, True, None).await?;
    let books = books::at_the_end(market, &job.id()).await?;
    books::add_up(&books)?;
    books::all_seats(&books, "Agreed", None)
}

/// A unit beyond its limit is a reason to abstain: nobody is paid, nobody is hurt, and the buyer has the money back.
pub(super) async fn hanging_unit(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let script = "sleep 1000".to_owned();
    let spec = JobSpec {
        script,
        seconds_per_unit: 3,
        completions: 2,
        slices_per_group: 1,
        ..JobSpec::default()
    };
    let mut job = Job::apply(market, namespace, &spec).await?;
    given_back(market, &mut job, "TimeLimit").await
}

/// An image that is there when it is looked up and is not when it is pulled: the seats are given back, and the job
/// says why.
pub(super) async fn lost_image(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let image = market.lab().push_as(&ImageSource::busybox(), SHORT_LIVED)?;
    let spec = JobSpec {
        image: Some(image.tagged()),
        completions: 2,
        slices_per_group: 1,
        ..JobSpec::default()
    };
    let mut job = Job::apply(market, namespace, &spec).await?;
    job.until(JobCondition::Accepted, True, None).await?;
    market.lab().lose_image(SHORT_LIVED)?;
    // Whoever sells should hear that images cannot be had.
    let given_back_seats = Expected::of_operators("seats are given back");
    logs::expect([given_back_seats.about(job.id())]);
    given_back(market, &mut job, "Image").await
}

/// The job fails because all its seats abstained for that reason: it says so, nobody is paid, nobody is hurt, and the
/// buyer has the money back.
async fn given_back(market: &Market<'_>, job: &mut Job<'_, '_>, reason: &str) -> Result<(), ScenarioError> {
    let failed = job.failed().await?;
    require(
        failed.reason == "NotAgreed" && failed.message.contains(&format!("{reason} 3")),
        || format!("the job says that three seats abstained for {reason} ({failed:?})"),
    )?;
    let books = books::at_the_end(market, &job.id()).await?;
    books::add_up(&books)?;
    books::all_seats(&books, "Abstained", None)?;
    for seat in books::seats(&books) {
        require(
            seat.abstained.as_deref() == Some(reason) && seat.burned == "0",
            || format!("{seat:?} abstained for {reason} and lost nothing"),
        )?;
    }
    require(books.refunded == books.deposited, || {
        format!("all of {} is refunded ({})", books.deposited, books.refunded)
    })
}

/// An image is looked up before anything is bought.
pub(super) async fn missing_image(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let image = Some(format!("{}/there-is-no-such-image:1", market.lab().registry()));
    let mut job = Job::apply(
        market,
        namespace,
        &JobSpec {
            image,
            ..JobSpec::default()
        },
    )
    .await?;
    job.until(JobCondition::Accepted, False, Some("ImageUnavailable"))
        .await?;
    not_opened(market, &job.id()).await
}

/// What is offered costs more than the job may: it says so, and spends nothing.
pub(super) async fn no_matching_offer(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let spec = JobSpec {
        max_price_per_unit: "0.0001",
        ..JobSpec::default()
    };
    let mut job = Job::apply(market, namespace, &spec).await?;
    let found = job
        .until(JobCondition::Funded, False, Some("NoMatchingOffer"))
        .await?;
    require(found.message.contains("PriceTooHigh"), || {
        format!("`{}` says PriceTooHigh", found.message)
    })?;
    not_opened(market, &job.id()).await
}

/// A job that the namespace's limit does not cover waits, and goes on when the limit is raised.
pub(super) async fn spending_limit(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let mut job = Job::apply(
        market,
        namespace,
        &JobSpec {
            limit: "0.001",
            ..JobSpec::default()
        },
    )
    .await?;
    job.until(JobCondition::Funded, False, Some("SpendingLimitReached"))
        .await?;
    not_opened(market, &job.id()).await?;
    job.allow("5").await?;
    job.complete().await?;
    books::add_up(&books::of(market, &job.id()).await?)
}

/// The object is gone at once; on chain the job ends, and what is left comes back.
pub(super) async fn deleted_midway(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let script = "sleep 6; echo late >/out/result".to_owned();
    let mut job = Job::apply(
        market,
        namespace,
        &JobSpec {
            script,
            ..JobSpec::default()
        },
    )
    .await?;
    job.until(JobCondition::Accepted, True, None).await?;
    let seller = &market.providers()?[0];
    faults::running_pod(seller, &job.id()).await?;
    // Whoever has not had the key by then never gets it.
    logs::expect([Expected::of_operators("seats are given back").about(job.id())]);
    job.delete().await?;
    let books = books::at_the_end(market, &job.id()).await?;
    books::add_up(&books)
}

async fn not_opened(market: &Market<'_>, job: &str) -> Result<(), ScenarioError> {
    let books = market.audit().await?;
    require(!books.jobs.contains_key(job), || {
        "the job is not on the chain".to_owned()
    })
}
