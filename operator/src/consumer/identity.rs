//! What a job is called and what its secrets are. All of it is derived, so a restart, another replica, or an object
//! that GitOps made anew with the same run key has the same again.

use kube::ResourceExt;
use tradewind_crds::ComputeJob;
use tradewind_gateway_api::{
    bundle::JobKey,
    seal::{OpeningKey, SealError},
};
use tradewind_market::{Address, Hash32, JobId, JobNonce, derivation, eip712::Domain};

use crate::keys::{JobSecret, Keys, Secret, job_nonce};

/// A job's names and secrets.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The buyer's nonce on chain.
    pub(crate) nonce: JobNonce,
    /// The job on chain.
    pub(crate) id: JobId,
    /// Salts the leaves of its results.
    pub(crate) salt: Hash32,
    /// Opens template and inputs; given to seated providers.
    pub(crate) job_key: OpeningKey,
    /// The job key as envelopes hold it, with the salt of its commitment on chain.
    pub(crate) key_document: JobKey,
    /// Opens outputs; never leaves the operator but to a mover in the job's namespace.
    pub(crate) output_key: OpeningKey,
}

impl Identity {
    /// Of an object that the API server has stored.
    pub(crate) fn of(
        job: &ComputeJob,
        keys: &Keys,
        domain: &Domain,
        buyer: Address,
    ) -> Result<Self, SealError> {
        let namespace = job.namespace().unwrap_or_default();
        let uid = job.uid().unwrap_or_default();
        let nonce = job_nonce(&namespace, job.spec.run_key.as_deref().unwrap_or(&uid));
        Self::of_nonce(nonce, keys, domain, buyer)
    }

    /// Of a nonce that was derived before.
    pub(crate) fn of_nonce(
        nonce: JobNonce,
        keys: &Keys,
        domain: &Domain,
        buyer: Address,
    ) -> Result<Self, SealError> {
        let hash = |secret: &Secret| Hash32::from_bytes(**secret);
        let key_bytes = keys.job(nonce, JobSecret::JobKey);
        let key_salt = keys.job(nonce, JobSecret::KeySalt);
        Ok(Self {
            nonce,
            id: derivation::job_id(domain, buyer, nonce),
            salt: hash(&keys.job(nonce, JobSecret::Salt)),
            job_key: OpeningKey::from_secret(&key_bytes)?,
            key_document: JobKey::new(hash(&key_bytes), hash(&key_salt)),
            output_key: OpeningKey::from_secret(&keys.job(nonce, JobSecret::OutputKey))?,
        })
    }
}
