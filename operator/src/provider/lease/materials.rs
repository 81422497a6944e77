//! What a job's providers need besides the chain: the bundle, the job's key out of it, and the template.
//!
//! Nothing is believed that the buyer did not sign or the chain does not fix.

use tradewind_chain::{Signature, recover};
use tradewind_crds::ProviderOfferSpec;
use tradewind_gateway_api::{
    bundle::{EnvelopeError, JobKey},
    client::{ClientError, Download, Fault},
    seal::{OpeningKey, open_bytes},
    signed::key_signature,
    slice::TemplateRef,
    template::{TEMPLATE_BYTES_MAX, Template},
};
use tradewind_market::{Knowledge, egress::HostPattern, index::Job, message::AbstainReason};
use tradewind_result::ContentDigest;

use crate::shell::context::Context;

/// What sealing adds to a template, with room to spare.
const SEALED_TEMPLATE_BYTES_MAX: u64 = TEMPLATE_BYTES_MAX * 2;

/// The opened materials of a job.
#[derive(Debug)]
pub(crate) struct Materials {
    pub(crate) job_key: OpeningKey,
    pub(crate) template: Template,
    pub(crate) template_ref: TemplateRef,
}

/// Why a job cannot be run here, for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct Unusable {
    pub(crate) reason: AbstainReason,
    pub(crate) detail: String,
}

impl Unusable {
    fn new(reason: AbstainReason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

/// What is known of a job's materials.
pub(crate) type Found = Result<Knowledge<Materials>, Unusable>;

/// Asks the gateways. Absent while the buyer has not published a bundle with an envelope for us.
pub(crate) async fn observe(context: &Context, opening_key: &OpeningKey, job: &Job<'_>) -> Found {
    let bundle = match context.gateways.get_bundle(job.id).await {
        Ok(Some(bundle)) => bundle,
        Ok(None) => return Ok(Knowledge::Absent),
        Err(error) => return Ok(unknown("the bundle", &error)),
    };
    let signer = key_signature(&bundle.signature).and_then(|bytes| {
        recover(
            bundle.digest(&context.market.domain),
            &Signature::from_bytes(bytes),
        )
        .ok()
    });
    if signer != Some(job.buyer) || bundle.statement.job_id != job.id {
        // A gateway can hold anything; only what the buyer signed is the bundle.
        tracing::warn!(job = %job.id, "a gateway gave a bundle that the buyer did not sign");
        return Ok(Knowledge::Absent);
    }
    let account = context.account();
    let Some(envelope) = bundle
        .statement
        .envelopes
        .iter()
        .find(|envelope| envelope.provider == account)
    else {
        return Ok(Knowledge::Absent);
    };
    let fixed = &job.terms.content;
    let job_key = JobKey::open(opening_key, &envelope.sealed, fixed.key_commitment)
        .and_then(|key| key.opening_key().map_err(EnvelopeError::from))
        .map_err(|error| Unusable::new(AbstainReason::Key, error.to_string()))?;
    if bundle.statement.template_address != fixed.template_address {
        return Err(Unusable::new(
            AbstainReason::TemplateMismatch,
            "the bundle names another template than the chain",
        ));
    }
    let template_ref = TemplateRef {
        blob: ContentDigest::from_bytes(*fixed.template_address.as_bytes()),
        digest: ContentDigest::from_bytes(*fixed.template_digest.as_bytes()),
    };
    let download = Download {
        digest: template_ref.blob,
        bytes_max: SEALED_TEMPLATE_BYTES_MAX,
    };
    let sealed = match context.gateways.get_bytes(download).await {
        Ok(sealed) => sealed,
        Err(error) => return Ok(unknown("the template", &error)),
    };
    let plaintext = open_bytes(&job_key, &sealed, TEMPLATE_BYTES_MAX).map_err(|error| {
        Unusable::new(
            AbstainReason::Key,
            format!("the job's key does not open the template: {error}"),
        )
    })?;
    let template = Template::from_bytes(&plaintext, template_ref.digest)
        .map_err(|error| Unusable::new(AbstainReason::TemplateMismatch, error.to_string()))?;
    let shape = &job.terms.shape;
    let same = template.completions == shape.units
        && template.slice == shape.units_per_slice
        && template.seconds_per_unit == shape.seconds_per_unit;
    if !same {
        return Err(Unusable::new(
            AbstainReason::TemplateMismatch,
            "the template divides the work in another way than the chain",
        ));
    }
    Ok(Knowledge::Known(Materials {
        job_key,
        template,
        template_ref,
    }))
}

fn unknown(what: &str, error: &ClientError) -> Knowledge<Materials> {
    match error.fault() {
        Fault::Absent => Knowledge::Absent,
        Fault::Passing | Fault::Request | Fault::Gateway | Fault::Local => {
            tracing::debug!(%error, "{what} cannot be had at the moment");
            Knowledge::Unknown
        }
    }
}

/// Whether the template asks for no more than a slot of the offer gives. Pure.
pub(crate) fn fits(template: &Template, offer: &ProviderOfferSpec) -> Result<(), Unusable> {
    let exceeded = |detail: String| Unusable::new(AbstainReason::TemplateMismatch, detail);
    let unreadable = |field: &str| {
        Unusable::new(
            AbstainReason::Hardware,
            format!("the offer's {field} cannot be read"),
        )
    };
    let cpu = offer
        .class
        .cpu
        .millicores()
        .map_err(|_| unreadable("class.cpu"))?;
    let memory = offer
        .class
        .memory
        .bytes()
        .map_err(|_| unreadable("class.memory"))?;
    let gpus = offer.class.gpu.as_ref().map_or(0, |gpu| gpu.count);
    let resources = &template.resources;
    if resources.cpu_millis > cpu {
        return Err(exceeded(format!(
            "the template asks for {}m CPU, a slot has {cpu}m",
            resources.cpu_millis
        )));
    }
    if resources.memory_bytes > memory {
        return Err(exceeded(format!(
            "the template asks for {} bytes of memory, a slot has {memory}",
            resources.memory_bytes
        )));
    }
    if resources.gpus > gpus {
        return Err(exceeded(format!(
            "the template asks for {} GPUs, a slot has {gpus}",
            resources.gpus
        )));
    }
    if template.user.uid == 0 {
        return Err(exceeded("the template wants to run as root".to_owned()));
    }
    for host in &template.egress {
        let covered = offer
            .terms
            .egress
            .iter()
            .filter_map(|pattern| pattern.as_str().parse::<HostPattern>().ok())
            .any(|pattern| pattern.covers(host));
        if !covered {
            return Err(exceeded(format!(
                "the offer does not allow its jobs to reach {host}"
            )));
        }
    }
    let allowed = offer
        .terms
        .registries
        .iter()
        .any(|registry| is_under(&template.image, registry));
    if !allowed {
        return Err(Unusable::new(
            AbstainReason::Image,
            format!("the offer runs no images of {}", template.image),
        ));
    }
    Ok(())
}

/// Whether an image is of a registry or repository, by whole path segments.
fn is_under(image: &str, registry: &str) -> bool {
    if registry == "*" {
        return true;
    }
    image
        .strip_prefix(registry)
        .is_some_and(|rest| rest.starts_with(['/', '@', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_allowed_by_whole_segments_of_their_name() {
        let image = "registry.example/team/render@sha256:00";
        for (registry, allowed) in [
            ("*", true),
            ("registry.example", true),
            ("registry.example/team", true),
            ("registry.example/team/render", true),
            ("registry.example/tea", false),
            ("registry.example.evil", false),
            ("other.example", false),
        ] {
            assert_eq!(is_under(image, registry), allowed, "{registry}");
        }
    }
}
