//! Hosts that a job was granted.

use crate::market::Market;

use super::ScenarioError;
use super::books;
use super::job::{Job, JobSpec};

/// A host that the job was granted is reached through the relay; another, on the same address, is not, and neither is
/// without the relay.
pub(super) async fn granted_host(market: &Market<'_>, namespace: &str) -> Result<(), ScenarioError> {
    let (granted, other) = (market.lab().registry(), market.lab().evm().url());
    let script = format!(
        "wget -q -O /out/granted http://{granted}/v2/ || exit 1
         wget -q -O - {other} && exit 2
         wget -Y off -T 2 -q -O - http://{granted}/v2/ && exit 3
         exit 0"
    );
    let spec = JobSpec {
        script,
        completions: 2,
        slices_per_group: 1,
        egress: vec![granted],
        ..JobSpec::default()
    };
    let mut job = Job::apply(market, namespace, &spec).await?;
    job.complete().await?;
    let books = books::of(market, &job.id()).await?;
    books::add_up(&books)?;
    books::all_seats(&books, "Agreed", None)
}
