//! Which replica acts: a Kubernetes Lease, held by `replace` with a resourceVersion.
//!
//! A Lease is advice, never a fence: every effect is checked again by whoever is written to (the API server by
//! resourceVersion, the journal by its names, the contract by its intents). So no clock of another machine is
//! believed here: a holder is gone when its lease has not changed for a whole lease duration on our own clock.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tradewind_daemon::CancellationToken;

/// The lease's length, and how long a dead holder blocks the others: coordination's customary 15 s.
const DURATION: Duration = Duration::from_secs(15);
/// Between renewals; three of them fit before others may take over.
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// A holder that could not renew for this long stops acting, well before others may start.
const GIVE_UP_AFTER: Duration = Duration::from_secs(11);
/// One request to the API server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Why this replica cannot be, or no longer is, the one that acts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaderError {
    /// The lease could not be renewed in time, or someone else took it.
    #[error("the lease {lease} was lost: {why}")]
    Lost {
        /// Its name.
        lease: String,
        /// What happened.
        why: &'static str,
    },
}

/// Read side: whether this replica may act now. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Leadership {
    until: watch::Receiver<Option<Instant>>,
}

impl Leadership {
    /// Whether the lease is held, by our own clock, at this moment.
    pub(crate) fn holds(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until the lease is held. For ever where it never is; `false` if the election has ended.
    pub(crate) async fn acquired(&mut self) -> bool {
        self.until.wait_for(Option::is_some).await.is_ok()
    }
}

/// Takes part in the election for one lease.
#[derive(Debug)]
pub(crate) struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    until: watch::Sender<Option<Instant>>,
}

/// A lease as this replica has last seen it change.
#[derive(Debug, Clone, PartialEq)]
struct Sighting {
    resource_version: Option<String>,
    since: Instant,
}

#[derive(Debug, PartialEq)]
enum Move {
    Create,
    Take,
    Renew,
    Wait,
}

impl Election {
    /// For the lease `name` in the operator's own namespace; `identity` is unique to this process.
    pub(crate) fn new(client: Client, namespace: &str, name: &str, identity: &str) -> (Self, Leadership) {
        let (until, reader) = watch::channel(None);
        let election = Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            until,
        };
        (election, Leadership { until: reader })
    }

    /// Competes and holds until shutdown, then lets go; an error where the lease was held and lost, which ends
    /// the process: it starts anew as a candidate with nothing left in memory.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), LeaderError> {
        let mut seen: Option<Sighting> = None;
        while !shutdown.is_cancelled() {
            match timeout(REQUEST_TIMEOUT, self.round(&mut seen)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(lease = self.name, %error, "a round of the election failed");
                }
                Err(_) => tracing::debug!(lease = self.name, "a round of the election took too long"),
            }
            self.check_still_held()?;
            tokio::select! {
                () = sleep(RENEW_EVERY) => {}
                () = shutdown.cancelled() => {}
            }
        }
        self.let_go().await;
        Ok(())
    }

    async fn round(&self, seen: &mut Option<Sighting>) -> Result<(), kube::Error> {
        let asked_at = Instant::now();
        let current = self.api.get_opt(&self.name).await?;
        *seen = sight(seen.take(), current.as_ref(), asked_at);
        let quiet_for = seen.as_ref().map(|seen| asked_at.duration_since(seen.since));
        match decide(
            current.as_ref().and_then(|lease| lease.spec.as_ref()),
            &self.identity,
            quiet_for,
        ) {
            Move::Wait => {
                if self.until.borrow().is_some() {
                    // Someone else holds what we thought was ours.
                    self.until.send_replace(Some(asked_at));
                }
                Ok(())
            }
            Move::Create => self.write(None, asked_at).await,
            Move::Take | Move::Renew => self.write(current, asked_at).await,
        }
    }

    async fn write(&self, current: Option<Lease>, asked_at: Instant) -> Result<(), kube::Error> {
        let now = MicroTime(Timestamp::now());
        let old = current
            .as_ref()
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let ours_already = old.holder_identity.as_deref() == Some(&self.identity);
        let transitions = old.lease_transitions.unwrap_or(0);
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if ours_already {
                old.acquire_time
            } else {
                Some(now.clone())
            },
            renew_time: Some(now),
            lease_transitions: Some(if ours_already {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..LeaseSpec::default()
        };
        let parameters = PostParams::default();
        if let Some(lease) = current {
            // At the resourceVersion that was read: of two replicas one is refused.
            self.api
                .replace(
                    &self.name,
                    &parameters,
                    &Lease {
                        spec: Some(spec),
                        ..lease
                    },
                )
                .await?;
        } else {
            let metadata = ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            };
            self.api
                .create(
                    &parameters,
                    &Lease {
                        metadata,
                        spec: Some(spec),
                    },
                )
                .await?;
        }
        if !ours_already {
            tracing::info!(
                lease = self.name,
                identity = self.identity,
                "this replica acts now"
            );
        }
        self.until.send_replace(Some(asked_at + GIVE_UP_AFTER));
        Ok(())
    }

    fn check_still_held(&self) -> Result<(), LeaderError> {
        let lost = self.until.borrow().is_some_and(|until| until <= Instant::now());
        if lost {
            return Err(LeaderError::Lost {
                lease: self.name.clone(),
                why: "it could not be renewed in time, or another replica holds it",
            });
        }
        Ok(())
    }

    /// Clears the holder, so that the next replica need not wait. A failure costs only that wait.
    async fn let_go(&self) {
        if self.until.send_replace(None).is_none() {
            return;
        }
        let release = async {
            let Some(mut lease) = self.api.get_opt(&self.name).await? else {
                return Ok(());
            };
            let holder = lease
                .spec
                .as_ref()
                .and_then(|spec| spec.holder_identity.as_deref());
            if holder != Some(&self.identity) {
                return Ok(());
            }
            if let Some(spec) = lease.spec.as_mut() {
                spec.holder_identity = None;
                spec.renew_time = None;
            }
            self.api
                .replace(&self.name, &PostParams::default(), &lease)
                .await
                .map(|_| ())
        };
        match timeout(REQUEST_TIMEOUT, release).await {
            Ok(Ok::<(), kube::Error>(())) => tracing::info!(lease = self.name, "let go of the lease"),
            Ok(Err(error)) => {
                tracing::info!(lease = self.name, %error, "the lease was not let go of; it will expire");
            }
            Err(_) => tracing::info!(
                lease = self.name,
                "the lease was not let go of in time; it will expire"
            ),
        }
    }
}

/// Since when the lease has looked as it does.
fn sight(before: Option<Sighting>, current: Option<&Lease>, now: Instant) -> Option<Sighting> {
    let resource_version = current?.metadata.resource_version.clone();
    match before {
        Some(before) if before.resource_version == resource_version => Some(before),
        _ => Some(Sighting {
            resource_version,
            since: now,
        }),
    }
}

fn decide(spec: Option<&LeaseSpec>, me: &str, quiet_for: Option<Duration>) -> Move {
    let Some(quiet_for) = quiet_for else {
        return Move::Create;
    };
    let duration = spec
        .and_then(|spec| spec.lease_duration_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(DURATION, Duration::from_secs);
    match spec.and_then(|spec| spec.holder_identity.as_deref()) {
        None | Some("") => Move::Take,
        Some(holder) if holder == me => Move::Renew,
        Some(_) if quiet_for >= duration => Move::Take,
        Some(_) => Move::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: Option<&str>) -> LeaseSpec {
        LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_only_when_free_or_quiet_for_its_whole_length() {
        let check = |spec: Option<&LeaseSpec>, quiet: Option<u64>, expected: Move| {
            assert_eq!(
                decide(spec, "me", quiet.map(Duration::from_secs)),
                expected,
                "{spec:?} quiet {quiet:?}"
            );
        };
        check(None, None, Move::Create);
        check(None, Some(0), Move::Take);
        check(Some(&held_by(None)), Some(0), Move::Take);
        check(Some(&held_by(Some(""))), Some(0), Move::Take);
        check(Some(&held_by(Some("me"))), Some(0), Move::Renew);
        check(Some(&held_by(Some("me"))), Some(600), Move::Renew);
        check(Some(&held_by(Some("other"))), Some(14), Move::Wait);
        check(Some(&held_by(Some("other"))), Some(15), Move::Take);
    }

    #[test]
    fn quiet_is_counted_from_the_last_change_that_was_seen_here() {
        let at = |version: &str| Lease {
            metadata: ObjectMeta {
                resource_version: Some(version.into()),
                ..ObjectMeta::default()
            },
            spec: None,
        };
        let start = Instant::now();
        let first = sight(None, Some(&at("1")), start);
        let same = sight(first.clone(), Some(&at("1")), start + Duration::from_secs(9));
        assert_eq!(same, first, "an unchanged lease keeps its first sighting");
        let changed = sight(same, Some(&at("2")), start + Duration::from_secs(9));
        assert_eq!(changed.unwrap().since, start + Duration::from_secs(9));
        assert_eq!(sight(first, None, start), None, "a deleted lease is created anew");
    }
}
