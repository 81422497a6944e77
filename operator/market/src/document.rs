//! Signed documents that never reach the chain: grants, job bundles, result indices.
//!
//! They are signed over the market's domain like everything else, so that one key and one rule serve all.
//! Their transport and storage belong to the gateway.

use serde::{Deserialize, Serialize};

use crate::egress::Host;
use crate::eip712::{Encoder, StructHash};
use crate::ids::{Address, Hash32, JobId, RoundId, keccak256};
use crate::message::HexBytes;
use crate::quantity::{Nonce, UnitIndex, UnixSeconds};

const STORAGE_GRANT: &str = "StorageGrant(address signer,bytes32 jobId,bytes32 holder,uint64 maxBytes,\
    uint64 expires,uint64 nonce)";
const HOST_GRANT: &str = "HostGrant(address signer,bytes32 jobId,string[] hosts,uint64 expires)";
const ENVELOPE: &str = "Envelope(address provider,bytes sealed)";
const JOB_BUNDLE: &str =
    "JobBundle(bytes32 jobId,bytes32 templateAddress,uint64 issued,Envelope[] envelopes)";
const STORED_UNIT: &str =
    "StoredUnit(uint32 unit,uint32 outcome,bytes32 blob,uint64 storedBytes,bytes32 chunkRoot)";
const RESULT_INDEX: &str = "ResultIndex(bytes32 jobId,bytes32 roundId,address provider,StoredUnit[] units)";

/// Leave to store bytes at a gateway on the signer's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StorageGrant {
    /// Whose balance, bond or seat stands for it.
    pub signer: Address,
    /// For which job; zero for any of the signer's.
    pub job_id: JobId,
    /// Who may use it: an account, or a hash that names one attempt of a slice.
    pub holder: Hash32,
    /// Bytes that may be stored with it in all.
    pub max_bytes: u64,
    /// It is void after this.
    pub expires: UnixSeconds,
    /// Tells grants of one signer apart, so that each is counted by itself.
    pub nonce: Nonce,
}

/// Leave to reach hosts through the relay of the signer's cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostGrant {
    /// The provider whose cluster it is.
    pub signer: Address,
    /// For which job.
    pub job_id: JobId,
    /// Which hosts.
    pub hosts: Vec<Host>,
    /// It is void after this.
    pub expires: UnixSeconds,
}

/// The job key, sealed to one provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Envelope {
    /// Who can open it.
    pub provider: Address,
    /// The key, encrypted to the provider's recipient.
    pub sealed: HexBytes,
}

/// What a job's providers need besides the chain: where the template is, and the key to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobBundle {
    /// The job.
    pub job_id: JobId,
    /// BLAKE3 digest of the template as stored.
    pub template_address: Hash32,
    /// When it was made; a newer one takes the place of an older.
    pub issued: UnixSeconds,
    /// One a provider.
    pub envelopes: Vec<Envelope>,
}

/// Where one unit's result is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoredUnit {
    /// The unit.
    pub unit: UnitIndex,
    /// I-10.
    pub outcome: u32,
    /// BLAKE3 digest of the bytes as stored.
    pub blob: Hash32,
    /// How many bytes.
    pub stored_bytes: u64,
    /// I-17.
    pub chunk_root: Hash32,
}

/// Where the results of one seat's round are stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResultIndex {
    /// The job.
    pub job_id: JobId,
    /// The round.
    pub round_id: RoundId,
    /// Whose results; also who signs.
    pub provider: Address,
    /// In ascending unit order, one a unit.
    pub units: Vec<StoredUnit>,
}

impl StructHash for StorageGrant {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(STORAGE_GRANT, &[])
            .address(self.signer)
            .hash(self.job_id)
            .hash(self.holder)
            .uint(self.max_bytes)
            .uint(self.expires.get())
            .uint(self.nonce.get())
            .finish()
    }
}

impl StructHash for HostGrant {
    fn struct_hash(&self) -> Hash32 {
        let hosts: Vec<u8> = self
            .hosts
            .iter()
            .flat_map(|host| *keccak256(&[host.to_string().as_bytes()]).as_bytes())
            .collect();
        Encoder::new(HOST_GRANT, &[])
            .address(self.signer)
            .hash(self.job_id)
            .bytes(&hosts)
            .uint(self.expires.get())
            .finish()
    }
}

impl StructHash for Envelope {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(ENVELOPE, &[])
            .address(self.provider)
            .bytes(&self.sealed.0)
            .finish()
    }
}

impl StructHash for JobBundle {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(JOB_BUNDLE, &[ENVELOPE])
            .hash(self.job_id)
            .hash(self.template_address)
            .uint(self.issued.get())
            .structures(&self.envelopes)
            .finish()
    }
}

impl StructHash for StoredUnit {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(STORED_UNIT, &[])
            .uint(self.unit.get())
            .uint(self.outcome)
            .hash(self.blob)
            .uint(self.stored_bytes)
            .hash(self.chunk_root)
            .finish()
    }
}

impl StructHash for ResultIndex {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(RESULT_INDEX, &[STORED_UNIT])
            .hash(self.job_id)
            .hash(self.round_id)
            .address(self.provider)
            .structures(&self.units)
            .finish()
    }
}
