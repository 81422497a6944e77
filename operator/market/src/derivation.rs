//! Ids and commitments that are hashes of what they stand for (PROTOCOL.md section 2).

use crate::eip712::{Domain, address_word, uint_word};
use crate::geometry::UnitRange;
use crate::ids::{Address, Hash32, JobId, JobNonce, RoundId, keccak256};
use crate::quantity::GroupIndex;

fn tag(name: &str) -> Hash32 {
    keccak256(&[name.as_bytes()])
}

/// I-1: the id that a buyer's nonce gives its job.
pub fn job_id(domain: &Domain, buyer: Address, nonce: JobNonce) -> JobId {
    keccak256(&[
        tag("tradewind/job/1").as_bytes(),
        &uint_word(domain.chain_id),
        &address_word(domain.market),
        &address_word(buyer),
        nonce.as_bytes(),
    ])
    .into()
}

/// I-4: the round's providers in ascending seat number.
pub fn seats_hash(providers: impl IntoIterator<Item = Address>) -> Hash32 {
    let joined: Vec<u8> = providers.into_iter().flat_map(address_word).collect();
    keccak256(&[&joined])
}

/// I-5 for a whole group.
pub fn units_hash(units: UnitRange) -> Hash32 {
    keccak256(&[
        tag("tradewind/units/range/1").as_bytes(),
        &uint_word(units.first.get()),
        &uint_word(units.count.get()),
    ])
}

/// I-6: defined from sealing on, because before it seats may still come.
pub fn round_id(job: JobId, group: GroupIndex, round: u8, seats_hash: Hash32, units_hash: Hash32) -> RoundId {
    keccak256(&[
        tag("tradewind/round/1").as_bytes(),
        job.as_bytes(),
        &uint_word(group.get()),
        &uint_word(round),
        seats_hash.as_bytes(),
        units_hash.as_bytes(),
    ])
    .into()
}

/// I-7: hides root B until it has to be shown.
pub fn hash_b(round: RoundId, provider: Address, root_b: Hash32, salt_b: Hash32) -> Hash32 {
    keccak256(&[
        tag("tradewind/root-b/1").as_bytes(),
        round.as_bytes(),
        &address_word(provider),
        root_b.as_bytes(),
        salt_b.as_bytes(),
    ])
}

/// What a commitment binds its provider's result to, besides the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitmentContext {
    /// The market's domain separator.
    pub domain_separator: Hash32,
    /// The job.
    pub job: JobId,
    /// The hash of its terms.
    pub terms_hash: Hash32,
    /// The round.
    pub round: RoundId,
    /// Who commits.
    pub provider: Address,
}

/// I-8: binds a provider to its result without showing it.
pub fn commitment(context: &CommitmentContext, root_a: Hash32, salt_a: Hash32, hash_b: Hash32) -> Hash32 {
    keccak256(&[
        tag("tradewind/commit/1").as_bytes(),
        context.domain_separator.as_bytes(),
        context.job.as_bytes(),
        context.terms_hash.as_bytes(),
        context.round.as_bytes(),
        &address_word(context.provider),
        root_a.as_bytes(),
        salt_a.as_bytes(),
        hash_b.as_bytes(),
    ])
}

/// I-21: binds a buyer to the key that template and inputs are encrypted to.
pub fn key_commitment(job_key: Hash32, key_salt: Hash32) -> Hash32 {
    keccak256(&[
        tag("tradewind/job-key/1").as_bytes(),
        job_key.as_bytes(),
        key_salt.as_bytes(),
    ])
}
