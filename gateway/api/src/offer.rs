//! Signed offers with the document that says in words what they hold as hashes.

use serde::{Deserialize, Serialize};
use tradewind_market::{
    Hash32, Offer,
    eip712::Domain,
    message::HexBytes,
    offer::{DetailsMismatch, OfferDetails},
};

use crate::exact::Exact;

/// An offer as it is published: signed by its provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedOffer {
    /// What the chain sees.
    pub offer: Offer,
    /// The provider's signature over the offer in the market's domain.
    pub signature: HexBytes,
    /// What the offer's `details` is the digest of, byte for byte.
    pub details: Exact<OfferDetails>,
}

impl SignedOffer {
    /// What the signature must be over.
    pub fn digest(&self, domain: &Domain) -> Hash32 {
        domain.signing_digest(&self.offer)
    }

    /// Checks that the document is the one that was signed and says the same as the offer.
    pub fn check_details(&self) -> Result<(), DetailsMismatch> {
        self.details
            .value()
            .check(self.details.text().as_bytes(), &self.offer)
    }
}
