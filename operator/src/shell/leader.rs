//! Which replica acts: a Kubernetes Lease, held by `replace` with a resourceVersion.
//!
//! A Lease is advice, never a fence: every effect is checked again by whoever is written to (the API server by
//! resourceVersion, the journal by its names, the contract by its intents). So no clock of another machine is
//! believed here: a holder is gone when its lease has not changed for a whole lease duration on our own clock.

use std::time::Duration;

use clap::Args as ClapArgs;
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
use tradewind_daemon::{CancellationToken, args::parse_seconds};

/// The election's pace. Names and defaults are those of Kubernetes' own components.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ClapArgs)]
pub(crate) struct LeaderArgs {
    /// Seconds that the leader's lease lasts: so long a leader that died keeps the others waiting.
    #[arg(
        long = "leader-elect-lease-duration",
        env = "TRADEWIND_LEADER_ELECT_LEASE_DURATION_SECONDS",
        default_value = "15",
        value_parser = parse_seconds
    )]
    pub(crate) lease_duration: Duration,

    /// Seconds without a renewal after which a leader stops acting and ends its process, to start anew as a
    /// candidate. Less than the lease's duration: nobody else acts before.
    #[arg(
        long = "leader-elect-renew-deadline",
        env = "TRADEWIND_LEADER_ELECT_RENEW_DEADLINE_SECONDS",
        default_value = "10",
        value_parser = parse_seconds
    )]
    pub(crate) renew_deadline: Duration,

    /// Seconds between two looks at the lease, and between renewals.
    #[arg(
        long = "leader-elect-retry-period",
        env = "TRADEWIND_LEADER_ELECT_RETRY_PERIOD_SECONDS",
        default_value = "2",
        value_parser = parse_seconds
    )]
    pub(crate) retry_period: Duration,
}

impl LeaderArgs {
    /// Refuses durations with which two replicas could act at once, or none for long.
    fn check(&self) -> Result<(), LeaderError> {
        let Self {
            lease_duration,
            renew_deadline,
            retry_period,
        } = *self;
        let fit = lease_duration > renew_deadline
            && renew_deadline >= retry_period.saturating_mul(2)
            && !retry_period.is_zero();
        if fit {
            Ok(())
        } else {
            Err(LeaderError::Durations {
                lease: lease_duration.as_secs(),
                deadline: renew_deadline.as_secs(),
                retry: retry_period.as_secs(),
            })
        }
    }

    /// One round: as long as Kubernetes' own components give a request, so that a second one fits before the deadline.
    fn round_within(&self) -> Duration {
        self.renew_deadline / 2
    }
}

/// Why this replica cannot be, or no longer is, the one that acts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaderError {
    /// The lease could not be renewed in time, or someone else took it.
    #[error("the lease {lease} was lost: {why}")]
    Lost {
        /// Its name.
        lease: String,
        /// What happened.
        why: String,
    },
    /// Durations that do not fit each other.
    #[error(
        "leader election cannot work so: the lease ({lease} s) must outlast the renew deadline ({deadline} s), and \
         that two retry periods ({retry} s) of at least a second each"
    )]
    Durations {
        /// The lease's duration.
        lease: u64,
        /// The renew deadline.
        deadline: u64,
        /// The retry period.
        retry: u64,
    },
}

/// Why a round of the election came to nothing.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("another replica holds it")]
    Taken,
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
    pace: LeaderArgs,
    until: watch::Sender<Option<Instant>>,
}

/// A lease as this replica has last seen it change.
#[derive(Debug, Clone, PartialEq)]
struct Sighting {
    resource_version: Option<String>,
    since: Instant,
}

/// What one round leaves to the next.
#[derive(Debug, Default)]
struct Seen {
    sighting: Option<Sighting>,
    /// The lease as we wrote it last. While it is ours nobody else writes it, so that renewing need not read it.
    ours: Option<Lease>,
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
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
        pace: LeaderArgs,
    ) -> Result<(Self, Leadership), LeaderError> {
        pace.check()?;
        let (until, reader) = watch::channel(None);
        let election = Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            pace,
            until,
        };
        Ok((election, Leadership { until: reader }))
    }

    /// Competes and holds until shutdown, then lets go; an error where the lease was held and lost, which ends
    /// the process: it starts anew as a candidate with nothing left in memory.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), LeaderError> {
        let (mut seen, mut trouble) = (Seen::default(), String::new());
        while !shutdown.is_cancelled() {
            match timeout(self.pace.round_within(), self.round(&mut seen)).await {
                Ok(Ok(())) => {}
                Ok(Err(error @ RoundError::Taken)) => return Err(self.lost(error.to_string())),
                Ok(Err(RoundError::Api(error))) => trouble = error.to_string(),
                Err(_) => {
                    let within = self.pace.round_within().as_secs_f32();
                    trouble = format!("no answer from the API server within {within} s");
                }
            }
            if !trouble.is_empty() {
                tracing::debug!(lease = self.name, trouble, "a round of the election failed");
            }
            self.check_still_held(&trouble)?;
            trouble.clear();
            tokio::select! {
                () = sleep(self.pace.retry_period) => {}
                () = shutdown.cancelled() => {}
            }
        }
        self.let_go().await;
        Ok(())
    }

    async fn round(&self, seen: &mut Seen) -> Result<(), RoundError> {
        let asked_at = Instant::now();
        if let Some(ours) = seen.ours.take() {
            match self.write(Some(ours), asked_at).await {
                Ok(written) => {
                    seen.ours = Some(written);
                    return Ok(());
                }
                // Somebody wrote or removed it: read on to learn who.
                Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let current = self.api.get_opt(&self.name).await?;
        seen.sighting = sight(seen.sighting.take(), current.as_ref(), asked_at);
        let quiet_for = seen
            .sighting
            .as_ref()
            .map(|sighting| asked_at.duration_since(sighting.since));
        let spec = current.as_ref().and_then(|lease| lease.spec.as_ref());
        match decide(spec, &self.identity, quiet_for, self.pace.lease_duration) {
            Move::Wait => {
                if self.until.borrow().is_some() {
                    // Someone else holds what we thought was ours.
                    self.until.send_replace(Some(asked_at));
                    return Err(RoundError::Taken);
                }
            }
            Move::Create => seen.ours = Some(self.write(None, asked_at).await?),
            Move::Take | Move::Renew => seen.ours = Some(self.write(current, asked_at).await?),
        }
        Ok(())
    }

    async fn write(&self, current: Option<Lease>, asked_at: Instant) -> Result<Lease, kube::Error> {
        let now = MicroTime(Timestamp::now());
        let old = current
            .as_ref()
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let ours_already = old.holder_identity.as_deref() == Some(&self.identity);
        let transitions = old.lease_transitions.unwrap_or(0);
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.pace.lease_duration.as_secs()).ok(),
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
        let written = if let Some(lease) = current {
            let lease = Lease {
                spec: Some(spec),
                ..lease
            };
            // At the resourceVersion that was read: of two replicas one is refused.
            self.api.replace(&self.name, &parameters, &lease).await?
        } else {
            let metadata = ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            };
            let lease = Lease {
                metadata,
                spec: Some(spec),
            };
            self.api.create(&parameters, &lease).await?
        };
        if !ours_already {
            tracing::info!(
                lease = self.name,
                identity = self.identity,
                "this replica acts now"
            );
        }
        self.until.send_replace(Some(asked_at + self.pace.renew_deadline));
        Ok(written)
    }

    fn lost(&self, why: String) -> LeaderError {
        LeaderError::Lost {
            lease: self.name.clone(),
            why,
        }
    }

    fn check_still_held(&self, trouble: &str) -> Result<(), LeaderError> {
        let lost = self.until.borrow().is_some_and(|until| until <= Instant::now());
        if lost {
            let seconds = self.pace.renew_deadline.as_secs();
            return Err(self.lost(format!("it could not be renewed for {seconds} s ({trouble})")));
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
        match timeout(self.pace.round_within(), release).await {
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

/// What to do about the lease; `ours` is the duration of one that does not tell its own.
fn decide(spec: Option<&LeaseSpec>, me: &str, quiet_for: Option<Duration>, ours: Duration) -> Move {
    let Some(quiet_for) = quiet_for else {
        return Move::Create;
    };
    let duration = spec
        .and_then(|spec| spec.lease_duration_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(ours, Duration::from_secs);
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
                decide(
                    spec,
                    "me",
                    quiet.map(Duration::from_secs),
                    Duration::from_secs(15)
                ),
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
    fn durations_with_which_two_could_act_at_once_are_refused() {
        let check = |lease: u64, deadline: u64, retry: u64, fit: bool| {
            let pace = LeaderArgs {
                lease_duration: Duration::from_secs(lease),
                renew_deadline: Duration::from_secs(deadline),
                retry_period: Duration::from_secs(retry),
            };
            assert_eq!(pace.check().is_ok(), fit, "{lease}/{deadline}/{retry}");
        };
        check(15, 10, 2, true);
        check(60, 40, 2, true);
        check(10, 10, 2, false);
        check(15, 20, 2, false);
        check(15, 3, 2, false);
        check(15, 10, 0, false);
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
