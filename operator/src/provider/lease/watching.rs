//! What wakes the passes: watches of pods, leases and offers, the chain, and a timer. It decides nothing.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube_runtime::{WatchStreamExt as _, reflector, reflector::Store, watcher};
use tradewind_daemon::CancellationToken;

use super::{GuardedLease, GuardedOffer, Leases, passes::Passes, pod::PART_LABEL};
use crate::{
    provider::{ProviderError, args::ProviderArgs},
    shell::context::Context,
};

type PodChanges = futures::stream::BoxStream<'static, Result<Pod, watcher::Error>>;

/// Reconciles until shutdown.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) -> Result<(), ProviderError> {
    let gate = context.readiness.gate("leases");
    gate.wait("leases and pods are not listed yet");
    check_relay(&context.args.provider.relay_url)?;
    let watches = pool(&context.args.provider).map(|namespace| watch_pods(&context.client, &namespace));
    let (pods, streams): (Vec<_>, Vec<_>) = watches.unzip();
    let mut pod_changes = futures::stream::select_all(streams);
    let (leases, mut lease_changes) = {
        let (store, writer) = reflector::store::<GuardedLease>();
        let api: Api<GuardedLease> = Api::namespaced(context.client.clone(), &context.args.namespace);
        let changes = watcher(api, watcher::Config::default())
            .default_backoff()
            .reflect(writer)
            .touched_objects();
        (store, changes.boxed())
    };
    let (offers, mut offer_changes) = {
        let (store, writer) = reflector::store::<GuardedOffer>();
        let api: Api<GuardedOffer> = Api::all(context.client.clone());
        let changes = watcher(api, watcher::Config::default())
            .default_backoff()
            .reflect(writer)
            .touched_objects();
        (store, changes.boxed())
    };
    let this = Arc::new(Leases::new(Arc::clone(&context), pods, leases, offers)?);
    let mut leadership = context.leadership.clone();
    let mut chain = context.chain.subscribe();
    let mut resync = tokio::time::interval(context.args.resync);
    // Pods report many changes in bursts; what they mean is looked at a few times a second.
    let mut beat = tokio::time::interval(Duration::from_millis(250));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut passes = Passes::default();
    let (mut leads, mut dirty, mut sweep) = (false, false, false);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            held = leadership.acquired(), if !leads => leads = held,
            change = pod_changes.next() => dirty |= seen("pods", change)?,
            change = lease_changes.next() => dirty |= seen("leases", change)?,
            change = offer_changes.next() => dirty |= seen("offers", change)?,
            new_view = chain.changed() => {
                if new_view.is_err() {
                    return Ok(());
                }
                dirty = true;
            }
            _ = resync.tick() => (dirty, sweep) = (true, true),
            Some((job, done)) = passes.running.next() => passes.ended(&context, job, done),
            _ = beat.tick(), if dirty => {
                if !this.listed() {
                    continue;
                }
                gate.open();
                dirty = false;
                let view = context.chain.view();
                if leads && context.leadership.holds() && view.caught_up {
                    passes.start(&this, &view);
                    if std::mem::take(&mut sweep) {
                        passes.start_sweep(&this, &view);
                    }
                }
            }
        }
    }
}

/// The slice pods of one namespace of the pool, without what takes room and is not looked at.
fn watch_pods(client: &kube::Client, namespace: &str) -> (Store<Pod>, PodChanges) {
    let (store, writer) = reflector::store::<Pod>();
    let config = watcher::Config::default().labels(&format!("{}={}", PART_LABEL.0, PART_LABEL.1));
    let changes = watcher(Api::<Pod>::namespaced(client.clone(), namespace), config)
        .default_backoff()
        .modify(|pod| {
            pod.spec = None;
            pod.metadata.managed_fields = None;
        })
        .reflect(writer)
        .touched_objects();
    (store, changes.boxed())
}

/// The namespaces that job pods run in.
fn pool(args: &ProviderArgs) -> impl Iterator<Item = String> {
    (0..args.pool_size).map(|number| format!("{}-{number}", args.pool_prefix))
}

fn seen<K>(what: &'static str, change: Option<Result<K, watcher::Error>>) -> Result<bool, ProviderError> {
    match change {
        Some(Ok(_)) => Ok(true),
        Some(Err(error)) => {
            tracing::warn!(%error, what, "a watch failed; trying again");
            Ok(false)
        }
        None => Err(ProviderError::WatchEnded(what)),
    }
}

/// Job pods have no DNS, so the relay must be named by its address.
fn check_relay(url: &str) -> Result<(), ProviderError> {
    let host = reqwest::Url::parse(url).ok().and_then(|url| {
        let host = url
            .host_str()?
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        host.parse::<IpAddr>().ok()
    });
    if host.is_some() {
        Ok(())
    } else {
        Err(ProviderError::RelayNotByAddress(url.to_owned()))
    }
}

impl Leases {
    fn listed(&self) -> bool {
        let ready = |done: Option<bool>| done == Some(true);
        let listed =
            |store: &Store<Pod>| ready(store.wait_until_ready().now_or_never().map(|done| done.is_ok()));
        self.pods.iter().all(listed)
            && ready(
                self.records
                    .wait_until_ready()
                    .now_or_never()
                    .map(|done| done.is_ok()),
            )
            && ready(
                self.offers
                    .wait_until_ready()
                    .now_or_never()
                    .map(|done| done.is_ok()),
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_is_named_by_its_address() {
        for (url, good) in [
            ("http://10.96.0.40:8080", true),
            ("http://[fd00::1]:8080", true),
            ("http://tradewind-relay.tradewind.svc:8080", false),
            ("10.96.0.40:8080", false),
            ("", false),
        ] {
            assert_eq!(check_relay(url).is_ok(), good, "{url}");
        }
    }
}
