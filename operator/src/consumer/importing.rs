//! Inputs that are too large for an object of the API, or lie elsewhere: a mover pod each, in the job's own namespace,
//! so that a job's author reaches nothing through the operator that a pod of the namespace could not.
//!
//! A blob may be used again by jobs of the namespace that stored it. That it did is known from the status of the job
//! that did, and held by encryption: the blob opens only with that job's key, which is derived from its namespace.

use tradewind_crds::{ComputeJob, compute_job::JobReason};
use tradewind_gateway_api::{
    mover::{ImportSource, ImportTask, MoverCause, MoverReport, MoverTask},
    results::sealed_bytes_max,
    slice::{INPUT_LIMITS, SecretText},
    template::Input,
};
use tradewind_market::UnixSeconds;
use tradewind_result::{ContentDigest, Limits};

use super::{
    Consumer,
    content::Storing,
    driving::Subject,
    identity::Identity,
    movers::{Errand, MOVER_SECONDS_MAX, Mount, MoverError, Standing, standing},
    pinned::stored_inputs,
    preparing::refuse_source,
    rights::Rights,
    sources::{self, NamedSource, Source, SourceError},
    status::Stage,
};

/// What is moved, where from, and how much room it takes on its way.
struct Move {
    source: ImportSource,
    mount: Option<Mount>,
    passage_bytes_max: u64,
}

impl Consumer {
    /// Brings the inputs that movers bring, and gives them as stored, by their places in the job's list. Until all are
    /// there it says what is under way.
    pub(super) async fn import(
        &self,
        subject: Subject<'_>,
        sources: &[NamedSource],
        storing: &Storing<'_>,
        now: UnixSeconds,
    ) -> Result<Vec<(usize, Input)>, Stage> {
        let moved: Vec<(usize, &NamedSource)> = sources
            .iter()
            .enumerate()
            .filter(|(_, named)| named.source.is_moved())
            .collect();
        if moved.is_empty() {
            return Ok(Vec::new());
        }
        let movers = self.movers(subject);
        let pods = movers.observe().await.map_err(|error| of_mover(&error))?;
        let (mut inputs, mut under_way) = (Vec::new(), None);
        for (place, named) in moved {
            let errand = Errand::In(place);
            match standing(&pods, errand, now) {
                Standing::Done(MoverReport::Imported {
                    blob,
                    stored_bytes,
                    manifest_digest,
                }) => inputs.push((
                    place,
                    Input {
                        name: named.name.clone(),
                        blob,
                        stored_bytes,
                        manifest_digest,
                    },
                )),
                Standing::Done(other) => {
                    let message = format!("a mover did what it was not asked: {other:?}");
                    return Err(Stage::BeforeMoney(JobReason::Uploading, message));
                }
                Standing::Failed(cause, message) => {
                    let message = format!("input {}: {message}", named.name);
                    return Err(Stage::Refused(reason(cause), message));
                }
                Standing::UnderWay(what) => under_way = Some(what),
                Standing::Untold(pod) => {
                    let Move { source, .. } = self.plan_move(subject, &named.source).await?;
                    let task = self.import_task(subject.identity, source, storing).await?;
                    movers.tell(&pod, &task).await.map_err(|error| of_mover(&error))?;
                    under_way = Some(format!("input {} waits for its mover", named.name));
                }
                Standing::Due(attempt) => {
                    if self.may_act() {
                        let planned = self.plan_move(subject, &named.source).await?;
                        let task = self
                            .import_task(subject.identity, planned.source, storing)
                            .await?;
                        let (mount, room) = (planned.mount.as_ref(), planned.passage_bytes_max);
                        movers
                            .start(&pods, errand, attempt, mount, room, &task)
                            .await
                            .map_err(|error| of_mover(&error))?;
                    }
                    under_way = Some(format!("input {} is being moved", named.name));
                }
            }
        }
        if let Some(what) = under_way {
            return Err(Stage::BeforeMoney(JobReason::Uploading, what));
        }
        let bytes = inputs
            .iter()
            .fold(0_u64, |sum, (_, input)| sum.saturating_add(input.stored_bytes));
        let most = sealed_bytes_max(self.input_limits());
        if bytes > most {
            let message =
                format!("the inputs have {bytes} bytes in all, more than the {most} that are moved");
            return Err(Stage::Refused(JobReason::SourceTooLarge, message));
        }
        Ok(inputs)
    }

    fn input_limits(&self) -> Limits {
        Limits {
            files: INPUT_LIMITS.files,
            bytes: self.context.args.consumer.input_bytes_max.min(INPUT_LIMITS.bytes),
        }
    }

    async fn plan_move(&self, subject: Subject<'_>, source: &Source) -> Result<Move, Stage> {
        let most = sealed_bytes_max(self.input_limits());
        match source {
            Source::Claim(path) => {
                let (client, rights) = (&self.context.client, Rights::new(&self.context.args));
                let run_as =
                    sources::observe_claim(client, rights, subject.namespace, &path.claim_name, true)
                        .await
                        .map_err(|error| refuse_source(&error))?;
                Ok(Move {
                    source: ImportSource::Claim {
                        sub_path: path.sub_path.clone(),
                    },
                    mount: Some(Mount {
                        claim: path.claim_name.clone(),
                        read_only: true,
                        run_as,
                    }),
                    passage_bytes_max: most,
                })
            }
            Source::Web { url, digest } => Ok(Move {
                source: ImportSource::Web {
                    url: url.clone(),
                    digest: *digest,
                    hosts: self.context.args.consumer.url_hosts.clone(),
                },
                mount: None,
                passage_bytes_max: most.saturating_mul(2),
            }),
            Source::Blob(blob) => {
                let (identity, input) = self.earlier_input(subject, *blob)?;
                Ok(Move {
                    source: ImportSource::Blob {
                        blob: input.blob,
                        stored_bytes: input.stored_bytes,
                        manifest_digest: input.manifest_digest,
                        key: SecretText::new(identity.job_key.to_text().to_string()),
                    },
                    mount: None,
                    passage_bytes_max: sealed_bytes_max(Limits {
                        files: INPUT_LIMITS.files,
                        bytes: input.stored_bytes.saturating_mul(2),
                    }),
                })
            }
            Source::Files(_) => Err(Stage::Refused(
                JobReason::InvalidSpec,
                "files of an object are not moved".to_owned(),
            )),
        }
    }

    /// The job of the namespace that stored the blob as an input, and what it stored.
    fn earlier_input(&self, subject: Subject<'_>, blob: ContentDigest) -> Result<(Identity, Input), Stage> {
        let stored = |job: &ComputeJob| {
            let inputs = job.status.as_ref().map(stored_inputs).unwrap_or_default();
            inputs.into_iter().find(|input| input.blob == blob)
        };
        let is_it = |other: &super::Guarded| match &other.0 {
            Ok(job) => job.metadata.namespace.as_deref() == Some(subject.namespace) && stored(job).is_some(),
            Err(_) => false,
        };
        let found = self
            .stores
            .get()
            .into_iter()
            .flatten()
            .find_map(|store| store.find(is_it));
        let missing = || {
            refuse_source(&SourceError::ForeignBlob {
                blob: blob.to_string(),
            })
        };
        let found = found.ok_or_else(missing)?;
        let job = found.0.as_ref().map_err(|_| missing())?;
        let input = stored(job).ok_or_else(missing)?;
        let context = &self.context;
        let identity = Identity::of(job, &context.keys, &context.market.domain, context.account())
            .map_err(|error| Stage::BeforeMoney(JobReason::Uploading, error.to_string()))?;
        Ok((identity, input))
    }

    async fn import_task(
        &self,
        identity: &Identity,
        source: ImportSource,
        storing: &Storing<'_>,
    ) -> Result<MoverTask, Stage> {
        let limits = self.input_limits();
        let token = storing
            .grant_for(sealed_bytes_max(limits), MOVER_SECONDS_MAX)
            .await
            .map_err(|error| Stage::BeforeMoney(JobReason::Uploading, error.to_string()))?;
        Ok(MoverTask::Import(ImportTask {
            gateways: self.context.args.gateways.clone(),
            token: SecretText::new(token.to_text()),
            reader: identity.job_key.recipient(),
            retain_until: storing.until,
            limits,
            source,
        }))
    }
}

fn of_mover(error: &MoverError) -> Stage {
    match error {
        MoverError::Forbidden { .. } => Stage::Refused(JobReason::MoverNotAllowed, error.to_string()),
        MoverError::Api { .. } | MoverError::Document(_) | MoverError::Roots { .. } => {
            Stage::BeforeMoney(JobReason::Uploading, error.to_string())
        }
    }
}

fn reason(cause: Option<MoverCause>) -> JobReason {
    match cause {
        Some(MoverCause::Missing) => JobReason::SourceMissing,
        Some(MoverCause::TooLarge) => JobReason::SourceTooLarge,
        Some(MoverCause::OtherContent) => JobReason::SourceChanged,
        Some(
            MoverCause::VolumeDenied
            | MoverCause::VolumeReadOnly
            | MoverCause::PathRefused
            | MoverCause::ContentRefused
            | MoverCause::AddressRefused
            | MoverCause::Occupied,
        ) => JobReason::SourceNotAllowed,
        Some(MoverCause::Gateway) => JobReason::GatewayUnavailable,
        Some(MoverCause::VolumeFull | MoverCause::Web | MoverCause::Node) | None => {
            JobReason::SourceUnavailable
        }
    }
}
