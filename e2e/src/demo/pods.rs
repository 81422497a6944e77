//! The slices' pods in the data centers, counted while they work. It only looks.

use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;

use crate::lab::Progress;
use crate::market::{Market, MarketError};

use super::DemoError;

const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Says how many pods wait, run and are done in each data center, whenever that changed, for as long as it is polled.
pub(super) async fn report(market: &Market<'_>, progress: &Progress) -> Result<Infallible, DemoError> {
    let slices = ListParams::default().labels("tradewind.dev/part=slice");
    let mut data_centers = Vec::new();
    for cluster in market.providers()? {
        data_centers.push((
            cluster.name().to_owned(),
            Api::<Pod>::all(cluster.client().await?),
        ));
    }
    let mut said = String::new();
    loop {
        let mut counts = Vec::new();
        for (name, pods) in &data_centers {
            let pods = pods
                .list(&slices)
                .await
                .map_err(MarketError::kubernetes(format!("{name}: list the pods")))?;
            let are = |phase: &str| {
                let phases = pods
                    .items
                    .iter()
                    .filter_map(|pod| pod.status.as_ref()?.phase.as_deref());
                phases.filter(|found| *found == phase).count()
            };
            counts.push(format!(
                "{name} {} waiting, {} running, {} done",
                are("Pending"),
                are("Running"),
                are("Succeeded")
            ));
        }
        let line = format!("slices: {}", counts.join("; "));
        if line != said {
            progress.say(&line);
            said = line;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
