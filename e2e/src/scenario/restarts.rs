//! Operators that are killed at the worst moments, and a chain that takes a block back.

use clap::ValueEnum;
use tradewind_crds::chain_intent::ChainIntent;
use tradewind_crds::condition::ConditionStatus::True;
use tradewind_crds::job_status::JobCondition;

use crate::lab::Cluster;
use crate::market::{Market, Role};

use super::ScenarioError;
use super::books;
use super::job::{Job, JobSpec};
use super::strike::{Sign, journal, strike};
use super::witness::Witness;

/// The data center whose operator is killed with the consumer's: the first one.
const KILLED: Role = Role::Provider(0);

/// A moment in a job's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Point {
    /// The transaction that opens the job is signed and in the journal, and the chain knows nothing of it.
    Signed,
    /// A transaction is on its way to a block.
    Broadcast,
    /// Seats are taken, and data centers begin.
    Awarded,
    /// A data center has committed.
    Committed,
    /// It has revealed.
    Revealed,
}

impl Point {
    /// Whoever acts at that moment.
    fn killed<'lab>(self, market: &Market<'lab>) -> Result<Vec<Cluster<'lab>>, ScenarioError> {
        let mut clusters = Vec::new();
        if self != Self::Committed {
            clusters.push(market.consumer()?);
        }
        if matches!(self, Self::Awarded | Self::Committed | Self::Revealed) {
            clusters.push(market.cluster_of(KILLED)?);
        }
        Ok(clusters)
    }

    /// How it is known. `before` is the consumer's journal before the job was; `job` its id, where it is on the chain
    /// by then.
    fn sign(self, before: Vec<ChainIntent>, job: String) -> Sign {
        let seat = |job, states| Sign::Seat {
            provider: KILLED,
            job,
            states,
        };
        match self {
            Self::Signed => Sign::Journaled { before },
            Self::Broadcast => Sign::Pending,
            Self::Awarded => seat(job, &["Awarded", "Committed"]),
            Self::Committed => seat(job, &["Committed"]),
            Self::Revealed => seat(job, &["Revealed", "Stored"]),
        }
    }
}

/// Whoever acts at that moment is killed. The job ends as if nothing had been: nothing is paid twice, each intent has
/// one transaction, and no pod of it is killed or begun again. What was seen is told also where it is not so.
pub(super) async fn operator_killed(
    market: &Market<'_>,
    namespace: &str,
    at: Point,
    tell: impl Fn(&str),
) -> Result<(), ScenarioError> {
    let killed = at.killed(market)?;
    let mut witness = Witness::begin(market, &killed).await?;
    let script = "sleep 3; echo unit $JOB_COMPLETION_INDEX >/out/result".to_owned();
    let spec = JobSpec {
        script,
        completions: 4,
        slices_per_group: 2,
        ..JobSpec::default()
    };
    let before = journal(&market.consumer()?).await?;
    let mut job = Job::apply(market, namespace, &spec).await?;
    let early = matches!(at, Point::Signed | Point::Broadcast);
    if !early {
        witness
            .during(job.until(JobCondition::Accepted, True, None))
            .await?;
    }
    let struck = witness
        .during(strike(market, &at.sign(before, job.id()), &killed))
        .await?;
    witness.look(at == Point::Signed).await?;
    if !early {
        witness.look_at_pods(&job.id()).await?;
    }
    tell(&format!("{at:?}: killed; waiting for recovery and the job's end"));
    witness.during(Box::pin(struck.recovered())).await?;
    if early {
        witness
            .during(job.until(JobCondition::Accepted, True, None))
            .await?;
        witness.look_at_pods(&job.id()).await?;
    }
    witness.during(job.complete()).await?;
    let checked = witness.check().await;
    tell(&witness.table());
    checked?;
    let books = books::of(market, &job.id()).await?;
    books::add_up(&books)?;
    books::all_seats(&books, "Agreed", None)
}
