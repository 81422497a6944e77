//! Offers: a provider's signed, standing, partially fillable limit order, and the document that describes it.
//!
//! Owns the structs of PROTOCOL.md T-2, their hash (I-3), and how a document is bound to the signed offer.
//! Whether an offer suits a job is decided in [`crate::matching`].

use serde::{Deserialize, Serialize};

use crate::amount::{Bps, PricePerSlotSecond};
use crate::class::{Class, region_id};
use crate::egress::HostPattern;
use crate::eip712::{Encoder, StructHash};
use crate::ids::{Address, ClassId, Hash32, OfferHash, RegionId, keccak256};
use crate::quantity::{Nonce, Seconds, Slots, UnixSeconds};

const SALE: &str = "Sale(uint32 series,uint64 nonce,uint64 validFrom,uint64 validUntil,\
    uint96 pricePerSlotSecond,uint32 slots,uint16 minChargeBps)";
const BOUNDS: &str = "Bounds(uint32 maxSecondsPerUnit,uint32 maxLockSeconds,uint32 minCommitGrace,\
    uint32 minRevealWindow,uint32 maxRetention,uint24 maxBondBps,uint16 maxNoShowBps,\
    uint16 minInconclusiveBps,uint8 policies)";
const OFFER: &str = "Offer(address provider,address allowedBuyer,address token,bytes32 classId,\
    bytes32 region,bytes32 details,bytes32 recipient,Sale sale,Bounds bounds,address[] gateways,\
    address[] verifiers)";

/// What an offer sells, for how much, and until when (T-2a).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sale {
    /// Offers of one series share their slots, and a higher nonce supersedes a lower.
    pub series: u32,
    /// Orders the offers of a series.
    pub nonce: Nonce,
    /// Fills are taken from then on.
    pub valid_from: UnixSeconds,
    /// Fills are taken until then.
    pub valid_until: UnixSeconds,
    /// What one slot costs for one second.
    pub price_per_slot_second: PricePerSlotSecond,
    /// Slots of the series that may be awarded at once.
    pub slots: Slots,
    /// Share of pay kept when the buyer leaves the seat hanging.
    pub min_charge_bps: Bps,
}

/// What terms the provider will work under (T-2b).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bounds {
    /// Longest hard limit of a unit.
    pub max_seconds_per_unit: Seconds,
    /// From the fill to the latest moment at which the bond is free again.
    pub max_lock_seconds: Seconds,
    /// Shortest commit grace.
    pub min_commit_grace: Seconds,
    /// Shortest reveal window.
    pub min_reveal_window: Seconds,
    /// Longest storage that is promised.
    pub max_retention: Seconds,
    /// Largest bond as a share of pay.
    pub max_bond_bps: Bps,
    /// Largest no-show burn as a share of pay.
    pub max_no_show_bps: Bps,
    /// Smallest share for an inconclusive group.
    pub min_inconclusive_bps: Bps,
    /// The bit of every policy accepted ([`crate::terms::Policy::bit`]).
    pub policies: u8,
}

/// A provider's standing offer for slots of one class (T-2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Offer {
    /// Who sells, and signs.
    pub provider: Address,
    /// The only buyer that may fill it; zero for anyone.
    pub allowed_buyer: Address,
    /// The token of price and bond.
    pub token: Address,
    /// The class of its slots.
    pub class_id: ClassId,
    /// The region as the provider declares it.
    pub region: RegionId,
    /// Digest of the exact bytes of the offer document ([`details_digest`]).
    pub details: Hash32,
    /// Commitment to the key that job keys are encrypted to ([`recipient_commitment`]).
    pub recipient: Hash32,
    /// What is sold.
    pub sale: Sale,
    /// On what terms.
    pub bounds: Bounds,
    /// Gateways that the provider stores at.
    pub gateways: Vec<Address>,
    /// Verifiers that the provider accepts.
    pub verifiers: Vec<Address>,
}

impl StructHash for Sale {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(SALE, &[])
            .uint(self.series)
            .uint(self.nonce.get())
            .uint(self.valid_from.get())
            .uint(self.valid_until.get())
            .uint(self.price_per_slot_second.base_units())
            .uint(self.slots.get())
            .uint(self.min_charge_bps.get())
            .finish()
    }
}

impl StructHash for Bounds {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(BOUNDS, &[])
            .uint(self.max_seconds_per_unit.get())
            .uint(self.max_lock_seconds.get())
            .uint(self.min_commit_grace.get())
            .uint(self.min_reveal_window.get())
            .uint(self.max_retention.get())
            .uint(self.max_bond_bps.get())
            .uint(self.max_no_show_bps.get())
            .uint(self.min_inconclusive_bps.get())
            .uint(self.policies)
            .finish()
    }
}

impl StructHash for Offer {
    fn struct_hash(&self) -> Hash32 {
        Encoder::new(OFFER, &[BOUNDS, SALE])
            .address(self.provider)
            .address(self.allowed_buyer)
            .address(self.token)
            .hash(self.class_id)
            .hash(self.region)
            .hash(self.details)
            .hash(self.recipient)
            .structure(&self.sale)
            .structure(&self.bounds)
            .addresses(&self.gateways)
            .addresses(&self.verifiers)
            .finish()
    }
}

impl Offer {
    /// I-3: the hash that awards name it by.
    pub fn hash(&self) -> OfferHash {
        self.struct_hash().into()
    }
}

/// The digest that `Offer.details` holds: Keccak-256 of the document's bytes as published.
pub fn details_digest(document: &[u8]) -> Hash32 {
    keccak256(&[document])
}

/// The commitment that `Offer.recipient` holds: Keccak-256 of the recipient's text, such as `age1…`.
pub fn recipient_commitment(recipient: &str) -> Hash32 {
    keccak256(&[recipient.as_bytes()])
}

/// One slot's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlotSize {
    /// Thousandths of a CPU.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of disk for scratch and outputs.
    pub disk_bytes: u64,
    /// GPUs.
    pub gpus: u32,
    /// Bytes of memory of each GPU; zero without GPU.
    pub gpu_memory_bytes: u64,
}

/// The document beside a signed offer: in words what the offer holds as hashes, and what no contract needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OfferDetails {
    /// The class in words.
    pub class: Class,
    /// One slot's size.
    pub slot: SlotSize,
    /// The region's name; empty where nothing is declared.
    pub region: String,
    /// Recipient that job keys are encrypted to, as text.
    pub recipient: String,
    /// Base URLs at which the named gateways are reached, in the order of `Offer.gateways`.
    pub gateway_urls: Vec<String>,
    /// Hosts that jobs may ask to reach, through the provider's relay; none if empty.
    pub egress: Vec<HostPattern>,
    /// Registries and repositories that images may come from; `*` for any.
    pub registries: Vec<String>,
    /// Isolation in the provider's words, such as `gvisor`; empty for the cluster's default.
    pub runtime_class: String,
    /// Whether pods have a user namespace of their own.
    pub user_namespaces: bool,
    /// Guarantees that the enrollment check found missing, as the provider must admit to buyers; empty if none.
    pub missing_isolation: Vec<String>,
    /// Shortest hard limit of a unit that is worth the provider's while.
    pub min_seconds_per_unit: Seconds,
}

/// What of a document contradicts the signed offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum DetailsMismatch {
    /// Its bytes are not those that were signed.
    #[error("the document's digest is not the one that the offer holds")]
    Digest,
    /// Another class.
    #[error("the document's class is not the offer's")]
    Class,
    /// Another region.
    #[error("the document's region is not the offer's")]
    Region,
    /// Another recipient.
    #[error("the document's recipient is not the offer's")]
    Recipient,
    /// Not one URL a gateway.
    #[error("the document does not give one URL for each gateway")]
    Gateways,
    /// The class says another number of GPUs than the slot.
    #[error("the document's slot does not have its class's number of GPUs")]
    Gpus,
}

impl OfferDetails {
    /// Checks that the document, read from `bytes`, says in words what the offer holds as hashes.
    pub fn check(&self, bytes: &[u8], offer: &Offer) -> Result<(), DetailsMismatch> {
        let checks = [
            (details_digest(bytes) == offer.details, DetailsMismatch::Digest),
            (self.class.id() == offer.class_id, DetailsMismatch::Class),
            (region_id(&self.region) == offer.region, DetailsMismatch::Region),
            (
                recipient_commitment(&self.recipient) == offer.recipient,
                DetailsMismatch::Recipient,
            ),
            (
                self.gateway_urls.len() == offer.gateways.len(),
                DetailsMismatch::Gateways,
            ),
            (self.class.gpu_count() == self.slot.gpus, DetailsMismatch::Gpus),
        ];
        checks
            .into_iter()
            .find(|(holds, _)| !holds)
            .map_or(Ok(()), |(_, mismatch)| Err(mismatch))
    }
}
