//! Signs what a provider says: messages, result indexes, grants.

use tradewind_chain::{Preimage, keys::SignerError};
use tradewind_gateway_api::{
    grant::{GrantToken, HostToken},
    signed::Signed,
};
use tradewind_market::{
    Hash32, Nonce, Seconds, UnixSeconds,
    document::{HostGrant, StorageGrant},
    egress::Host,
    eip712::StructHash,
    index::Job,
    message::HexBytes,
};

use super::{Leases, materials::Materials};
use crate::provider::ProviderError;

/// Grants live a little longer than anything that is stored with them.
const GRANT_SLACK: Seconds = Seconds::new(3600);
/// What sealing and packing add to a unit's output at most.
const UNIT_OVERHEAD_BYTES: u64 = 1 << 20;
/// What a slice's report takes at most, and then some.
const REPORT_ALLOWANCE_BYTES: u64 = 64 << 20;

impl Leases {
    pub(crate) async fn sign<T: StructHash>(&self, statement: T) -> Result<Signed<T>, SignerError> {
        let preimage = Preimage::message(&self.context.market.domain, &statement);
        let signature = self.context.signer.sign(&preimage).await?;
        Ok(Signed {
            statement,
            signature: HexBytes(signature.as_bytes().to_vec()),
        })
    }

    /// What lets the lease's pods store through the relay, and us at the gateways. The same job gives the same grant.
    pub(crate) async fn grant(
        &self,
        job: &Job<'_>,
        materials: &Materials,
    ) -> Result<GrantToken, ProviderError> {
        let attempts = u64::from(self.context.args.provider.lease.slice_attempts);
        let limits = &materials.template.limits;
        let per_unit = limits.output_bytes.saturating_add(UNIT_OVERHEAD_BYTES);
        let slices = u64::from(job.terms.shape.slices().unwrap_or_default());
        let bytes = per_unit
            .saturating_mul(job.terms.shape.units.get().into())
            .saturating_add(slices.saturating_mul(REPORT_ALLOWANCE_BYTES))
            .saturating_mul(attempts);
        let signed = self
            .sign(StorageGrant {
                signer: self.context.account(),
                job_id: job.id,
                holder: Hash32::from_bytes(*job.id.as_bytes()),
                max_bytes: bytes,
                expires: last_use(job),
                nonce: Nonce::new(1),
            })
            .await?;
        GrantToken::new(signed.statement, signed.signature).map_err(ProviderError::Grant)
    }

    /// The relay as a proxy that leads to these hosts; empty where there are none.
    pub(crate) async fn proxy(&self, job: &Job<'_>, hosts: &[Host]) -> Result<String, ProviderError> {
        if hosts.is_empty() {
            return Ok(String::new());
        }
        let signed = self
            .sign(HostGrant {
                signer: self.context.account(),
                job_id: job.id,
                hosts: hosts.to_vec(),
                expires: last_use(job),
            })
            .await?;
        let token = HostToken::new(signed.statement, signed.signature).map_err(ProviderError::Grant)?;
        let relay = &self.context.args.provider.relay_url;
        // The token's characters are all a URL's own.
        Ok(relay.replacen("://", &format!("://grant:{}@", token.to_text()), 1))
    }
}

/// When the last reveal of the job can be at the latest.
fn last_use(job: &Job<'_>) -> UnixSeconds {
    let windows = &job.terms.windows;
    let run = job.terms.shape.run_time().unwrap_or_default();
    windows
        .open_until
        .saturating_add(run)
        .saturating_add(windows.commit_grace)
        .saturating_add(windows.reveal_window)
        .saturating_add(GRANT_SLACK)
}
