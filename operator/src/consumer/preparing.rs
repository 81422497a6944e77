//! From an object to content on the gateways: everything is checked by name before a byte is stored, and nothing is
//! stored before it could be paid for.

use k8s_openapi::api::core::v1::ConfigMap;
use tradewind_crds::{ComputeJob, compute_job::JobReason};
use tradewind_gateway_api::{template::Input, wire::Reason};
use tradewind_market::{Decimals, JobId, Seconds, Units, UnixSeconds};

use super::{
    Consumer,
    content::{self, ContentError, StoredTemplate, Storing},
    delivery,
    driving::Subject,
    rights::Rights,
    sources::{self, NamedSource, Source, SourceError},
    spending,
    status::Stage,
    template::{self, Ingredients},
    terms::{self, Asked, SpecRefusal},
};
use crate::registry::{ImageReference, RegistryDisposition, RegistryError, ResolvedImage};

/// Beyond the job's end: for judging, settling and fetching.
const KEEP_AFTER_DEADLINE: Seconds = Seconds::new(7 * 86_400);

/// What a job's content is once it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    /// The image as pinned.
    pub(crate) image: String,
    /// The template as stored.
    pub(crate) template: StoredTemplate,
    /// Its inputs as stored.
    pub(crate) inputs: Vec<Input>,
}

/// What a spec asks for in money and place, with the token's decimals; or why it cannot be carried out.
pub(crate) async fn ask(consumer: &Consumer, object: &ComputeJob) -> Result<(Asked, Decimals), Stage> {
    let token = terms::token(&object.spec).map_err(|error| refuse_spec(&error))?;
    if !consumer.context.args.consumer.tokens.contains(&token) {
        let message = format!("token {token} is not one that the operator accepts");
        return Err(Stage::Refused(JobReason::TokenNotAllowed, message));
    }
    let decimals = consumer.decimals(token).await.map_err(|error| {
        Stage::BeforeMoney(
            JobReason::ChainUnavailable,
            format!("the token cannot be asked for its decimals: {error}"),
        )
    })?;
    let asked = terms::parse(&object.spec, decimals).map_err(|error| refuse_spec(&error))?;
    Ok((asked, decimals))
}

pub(crate) fn refuse_spec(error: &SpecRefusal) -> Stage {
    let reason = match error {
        SpecRefusal::Amount { .. } => JobReason::AmountNotRepresentable,
        SpecRefusal::Quantity(_)
        | SpecRefusal::Address { .. }
        | SpecRefusal::Host(_)
        | SpecRefusal::Division(_)
        | SpecRefusal::Terms(_)
        | SpecRefusal::TooLarge { .. } => JobReason::InvalidSpec,
    };
    Stage::Refused(reason, error.to_string())
}

/// Resolves the image, reads inputs, and, once `covered` finds nothing missing that storing costs, stores them and the
/// template.
pub(crate) async fn prepare(
    consumer: &Consumer,
    subject: Subject<'_>,
    asked: &Asked,
    now: UnixSeconds,
    covered: impl AsyncFnOnce() -> Result<(), Stage>,
) -> Result<Prepared, Stage> {
    let Subject {
        object,
        namespace,
        identity,
    } = subject;
    let context = &consumer.context;
    let rights = Rights::new(&context.args);
    let image = resolve(consumer, &object.spec.template.image).await?;
    let inputs = sources::observe_inputs(&context.client, rights, namespace, &object.spec)
        .await
        .map_err(|error| refuse_source(&error))?;
    let is_ours = |map: &ConfigMap| delivery::is_of(map, identity.id);
    sources::check_outputs(&context.client, rights, namespace, &object.spec, is_ours)
        .await
        .map_err(|error| refuse_source(&error))?;
    let limited = spending::has_limit(&context.client, namespace, asked.token).await;
    limited.map_err(|error| super::before_money(&error))?;

    // Checked with the inputs' names alone first, so that nothing is stored for a spec that will be refused.
    let build = |inputs: Vec<Input>| {
        let ingredients = Ingredients {
            salt: identity.salt,
            image: &image,
            units_per_slice: asked.units_per_slice,
            inputs,
            output_recipient: identity.output_key.recipient(),
        };
        template::build(&object.spec, ingredients).map_err(|error| {
            let reason = if error.is_of_image() {
                JobReason::ImageUnsuitable
            } else {
                JobReason::InvalidSpec
            };
            Stage::Refused(reason, error.to_string())
        })
    };
    build(Vec::new())?;
    covered().await?;
    let storing = storing(consumer, identity.id, asked, now);
    // First what takes several passes: what is stored here would be stored again at each of them.
    let mut stored = consumer.import(subject, &inputs, &storing, now).await?;
    for (place, NamedSource { name, source }) in inputs.into_iter().enumerate() {
        if let Source::Files(files) = source {
            let reader = identity.job_key.recipient();
            let input = content::store_files(&context.gateways, &storing, &name, files, reader).await;
            stored.push((place, input.map_err(|error| refuse_content(&error))?));
        }
    }
    stored.sort_by_key(|(place, _)| *place);
    let stored: Vec<Input> = stored.into_iter().map(|(_, input)| input).collect();
    let template = build(stored.clone())?;
    let template = content::store_template(
        &context.gateways,
        &storing,
        &template,
        identity.job_key.recipient(),
    )
    .await
    .map_err(|error| refuse_content(&error))?;
    Ok(Prepared {
        image: image.pinned,
        template,
        inputs: stored,
    })
}

/// In whose name, and for how long, a job's content is stored.
pub(crate) fn storing<'a>(
    consumer: &'a Consumer,
    job: JobId,
    asked: &Asked,
    now: UnixSeconds,
) -> Storing<'a> {
    Storing {
        signer: consumer.context.signer.as_ref(),
        domain: consumer.context.market.domain,
        job,
        now,
        until: now
            .saturating_add(Seconds::new(consumer.context.args.consumer.windows.open_for))
            .saturating_add(asked.deadline)
            .saturating_add(KEEP_AFTER_DEADLINE),
    }
}

async fn resolve(consumer: &Consumer, image: &str) -> Result<ResolvedImage, Stage> {
    let explain = |error: RegistryError| {
        let reason = match error.disposition() {
            RegistryDisposition::Retry => JobReason::ImageUnavailable,
            RegistryDisposition::Unsuitable => JobReason::ImageUnsuitable,
        };
        Stage::Refused(reason, error.to_string())
    };
    let reference: ImageReference = image.parse().map_err(explain)?;
    consumer.registries.resolve(&reference).await.map_err(explain)
}

pub(super) fn refuse_source(error: &SourceError) -> Stage {
    let reason = match error {
        SourceError::Missing { .. } => JobReason::SourceMissing,
        SourceError::NotAllowed { .. }
        | SourceError::Forbidden { .. }
        | SourceError::ReadOnly { .. }
        | SourceError::RunAs { .. }
        | SourceError::ForeignBlob { .. }
        | SourceError::Occupied { .. } => JobReason::SourceNotAllowed,
        SourceError::Digest { .. } => JobReason::InvalidSpec,
        SourceError::Api { .. } => JobReason::Waiting,
    };
    Stage::Refused(reason, error.to_string())
}

fn refuse_content(error: &ContentError) -> Stage {
    match error {
        // The gateway looks at the chain by itself, and may be a block behind; or deposits are left to a person.
        ContentError::Gateway(gateway) if gateway.reason() == Some(Reason::NoStanding) => {
            Stage::BeforeMoney(JobReason::AwaitingDeposit, gateway.to_string())
        }
        ContentError::Gateway(gateway) => {
            Stage::BeforeMoney(JobReason::GatewayUnavailable, gateway.to_string())
        }
        ContentError::Template(error) => Stage::Refused(JobReason::InvalidSpec, error.to_string()),
        ContentError::Tree(_) | ContentError::Input(_) => {
            Stage::Refused(JobReason::SourceTooLarge, error.to_string())
        }
        ContentError::Sign(_)
        | ContentError::Token(_)
        | ContentError::Seal(_)
        | ContentError::Scratch { .. }
        | ContentError::Interrupted => Stage::BeforeMoney(JobReason::Uploading, error.to_string()),
    }
}

/// Whether a template that is on chain already runs what the object says: an object that was made anew with the run
/// key of another job must not be given that job's results.
pub(crate) fn is_same_work(
    object: &ComputeJob,
    template: &tradewind_gateway_api::template::Template,
) -> bool {
    let spec = &object.spec;
    let env_is_same = spec.template.env.len() == template.env.len()
        && spec
            .template
            .env
            .iter()
            .zip(&template.env)
            .all(|(a, b)| (&a.name, &a.value) == (&b.name, &b.value));
    let command_is_same =
        spec.template.command.is_empty() || template.command.starts_with(&spec.template.command);
    let inputs_are_same = spec
        .inputs
        .iter()
        .map(|input| &input.name)
        .eq(template.inputs.iter().map(|input| &input.name));
    let image_is_same = terms::repository(&template.image) == terms::repository(&spec.template.image);
    Units::new(spec.completions) == template.completions
        && Seconds::new(spec.template.seconds_per_unit.into()) == template.seconds_per_unit
        && env_is_same
        && command_is_same
        && template.command.ends_with(&spec.template.args)
        && inputs_are_same
        && image_is_same
}
