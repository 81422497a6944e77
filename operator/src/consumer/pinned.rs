//! What was stored for a job, as its status keeps it: whoever takes the job over stores nothing again.

use tradewind_crds::{
    ComputeJob,
    compute_job::{ComputeJobStatus, StoredInput},
    scalar::{DigestText, HashText},
};
use tradewind_gateway_api::template::Input;
use tradewind_market::Hash32;
use tradewind_result::ContentDigest;

use super::{content::StoredTemplate, memory::Memo, preparing::Prepared};

/// What was stored for the job, by its status or by an earlier pass.
pub(super) fn pinned(object: &ComputeJob, memo: &Memo) -> Option<Prepared> {
    let of_status = || {
        let status = object.status.as_ref()?;
        let template = status.template.as_ref()?;
        let digest: Hash32 = template.digest.as_str().parse().ok()?;
        Some(Prepared {
            image: status.image.clone()?,
            template: StoredTemplate {
                blob: digest_of(&template.blob)?,
                digest: ContentDigest::from_bytes(*digest.as_bytes()),
            },
            inputs: stored_inputs(status),
        })
    };
    memo.prepared.clone().or_else(of_status)
}

/// The inputs that a job's status says it stored.
pub(super) fn stored_inputs(status: &ComputeJobStatus) -> Vec<Input> {
    let inputs = status.template.iter().flat_map(|template| &template.inputs);
    inputs
        .filter_map(|input| {
            Some(Input {
                name: input.name.clone(),
                blob: digest_of(&input.blob)?,
                stored_bytes: input.stored_bytes,
                manifest_digest: digest_of(&input.manifest)?,
            })
        })
        .collect()
}

/// As the status holds it.
pub(crate) fn written_template(prepared: &Prepared) -> tradewind_crds::compute_job::StoredTemplate {
    let stored = &prepared.template;
    tradewind_crds::compute_job::StoredTemplate {
        blob: digest_text(stored.blob),
        digest: HashText(Hash32::from_bytes(*stored.digest.as_bytes()).to_string()),
        inputs: prepared
            .inputs
            .iter()
            .map(|input| StoredInput {
                name: input.name.clone(),
                blob: digest_text(input.blob),
                stored_bytes: input.stored_bytes,
                manifest: digest_text(input.manifest_digest),
            })
            .collect(),
    }
}

/// A digest as objects hold it.
fn digest_text(digest: ContentDigest) -> DigestText {
    DigestText(format!("blake3:{}", hex::encode(digest.as_bytes())))
}

/// A digest from how objects hold it.
pub(super) fn digest_of(text: &DigestText) -> Option<ContentDigest> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.hex().ok()?, &mut bytes).ok()?;
    Some(ContentDigest::from_bytes(bytes))
}
