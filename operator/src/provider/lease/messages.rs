//! What a provider says about its results: commitments, abstentions and reveals, and the roots in them. Pure.
//!
//! The salts are derived from the seed and the round, so a restart commits to the same and can open it.

use tradewind_gateway_api::slice::UnitReport;
use tradewind_market::{
    Address, GroupIndex, Hash32, JobId, RoundId, SeatIndex, UnixSeconds,
    derivation::{CommitmentContext, commitment, hash_b},
    document::{ResultIndex, StoredUnit},
    message::{CommitEntry, HexBytes, Receipt, RevealEntry, SeatRef},
};
use tradewind_result::{
    leaf::{RootError, Tree, result_root},
    stored_root,
};

use crate::keys::{Keys, Secret};

/// A group's results, as far as commitments and reveals are made from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupResult {
    pub(crate) root_a: Hash32,
    pub(crate) root_b: Hash32,
    pub(crate) stored_root: Hash32,
    /// Bytes stored, in all.
    pub(crate) size: u64,
    pub(crate) units: Vec<UnitReport>,
}

/// Where a result stands: which seat of which round of which job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) domain_separator: Hash32,
    pub(crate) job: JobId,
    pub(crate) terms_hash: Hash32,
    pub(crate) group: GroupIndex,
    pub(crate) round_number: u8,
    pub(crate) round: RoundId,
    pub(crate) seat: SeatIndex,
    pub(crate) provider: Address,
}

impl Place {
    fn seat_ref(&self) -> SeatRef {
        SeatRef {
            group: self.group,
            round: self.round_number,
            seat: self.seat,
        }
    }
}

impl GroupResult {
    /// From the reports of the group's slices, in order.
    pub(crate) fn new(job: JobId, job_salt: Hash32, units: Vec<UnitReport>) -> Result<Self, RootError> {
        let results: Vec<_> = units.iter().map(UnitReport::result).collect();
        let stored: Vec<_> = units.iter().map(UnitReport::stored).collect();
        let root = |tree| {
            result_root(tree, job.as_bytes(), job_salt.as_bytes(), &results)
                .map(|root| Hash32::from_bytes(*root.as_bytes()))
        };
        Ok(Self {
            root_a: root(Tree::A)?,
            root_b: root(Tree::B)?,
            stored_root: Hash32::from_bytes(*stored_root(&stored)?.as_bytes()),
            size: units
                .iter()
                .fold(0_u64, |sum, unit| sum.saturating_add(unit.stored_bytes)),
            units,
        })
    }

    /// The commitment to it.
    pub(crate) fn commit(&self, keys: &Keys, place: &Place) -> CommitEntry {
        let context = CommitmentContext {
            domain_separator: place.domain_separator,
            job: place.job,
            terms_hash: place.terms_hash,
            round: place.round,
            provider: place.provider,
        };
        let hash_b = self.hash_b(keys, place);
        CommitEntry {
            seat: place.seat_ref(),
            commitment: commitment(
                &context,
                self.root_a,
                salt(keys, place.round, "round salt A"),
                hash_b,
            ),
        }
    }

    /// The opening of the commitment, with the gateway's receipt where there is one.
    pub(crate) fn reveal(
        &self,
        keys: &Keys,
        place: &Place,
        receipt: Option<(&Receipt, &HexBytes)>,
    ) -> RevealEntry {
        let (gateway, until, signature) = receipt.map_or(
            (Address::ZERO, UnixSeconds::ZERO, HexBytes::default()),
            |(receipt, signature)| (receipt.gateway, receipt.until, signature.clone()),
        );
        RevealEntry {
            seat: place.seat_ref(),
            root_a: self.root_a,
            salt_a: salt(keys, place.round, "round salt A"),
            hash_b: self.hash_b(keys, place),
            gateway,
            stored_root: self.stored_root,
            size: self.size,
            until,
            receipt: signature,
        }
    }

    /// Where the buyer finds each unit's output.
    pub(crate) fn index(&self, place: &Place) -> ResultIndex {
        let units = self.units.iter().map(|unit| StoredUnit {
            unit: unit.unit,
            outcome: unit.outcome.code(),
            blob: Hash32::from_bytes(*unit.blob.as_bytes()),
            stored_bytes: unit.stored_bytes,
            chunk_root: Hash32::from_bytes(*unit.chunk_root.as_bytes()),
        });
        ResultIndex {
            job_id: place.job,
            round_id: place.round,
            provider: place.provider,
            units: units.collect(),
        }
    }

    fn hash_b(&self, keys: &Keys, place: &Place) -> Hash32 {
        hash_b(
            place.round,
            place.provider,
            self.root_b,
            salt(keys, place.round, "round salt B"),
        )
    }
}

fn salt(keys: &Keys, round: RoundId, info: &str) -> Hash32 {
    let secret: Secret = keys.derive(round.as_bytes(), info);
    Hash32::from_bytes(*secret)
}

#[cfg(test)]
mod tests {
    use tradewind_market::{UnitIndex, Units};
    use tradewind_result::{ChunkRoot, ContentDigest, Outcome};

    use super::*;

    fn unit(index: u32, digest: u8) -> UnitReport {
        UnitReport {
            unit: UnitIndex::new(index),
            outcome: Outcome::Exit(0),
            manifest_digest: ContentDigest::from_bytes([digest; 32]),
            blob: ContentDigest::from_bytes([index.to_le_bytes()[0]; 32]),
            stored_bytes: 1000,
            chunk_root: ChunkRoot::from_bytes([9; 32]),
            millis: 5,
        }
    }

    fn result(digest: u8) -> GroupResult {
        GroupResult::new(
            JobId::from_bytes([1; 32]),
            Hash32::from_bytes([2; 32]),
            vec![unit(0, 7), unit(1, digest)],
        )
        .unwrap()
    }

    fn place() -> Place {
        Place {
            domain_separator: Hash32::from_bytes([3; 32]),
            job: JobId::from_bytes([1; 32]),
            terms_hash: Hash32::from_bytes([4; 32]),
            group: GroupIndex::new(5),
            round_number: 0,
            round: RoundId::from_bytes([6; 32]),
            seat: SeatIndex::new(1),
            provider: Address::from_bytes([8; 20]),
        }
    }

    #[test]
    fn a_reveal_opens_the_commitment_that_was_made_before_a_restart() {
        let committed = result(7).commit(&Keys::for_tests(), &place());
        let reveal = result(7).reveal(&Keys::for_tests(), &place(), None);
        let context = CommitmentContext {
            domain_separator: place().domain_separator,
            job: place().job,
            terms_hash: place().terms_hash,
            round: place().round,
            provider: place().provider,
        };
        assert_eq!(
            commitment(&context, reveal.root_a, reveal.salt_a, reveal.hash_b),
            committed.commitment
        );
        assert_eq!(reveal.seat, committed.seat);
    }

    #[test]
    fn seats_agree_on_root_a_and_hide_it_from_each_other_until_the_reveal() {
        let (ours, other) = (
            place(),
            Place {
                provider: Address::from_bytes([9; 20]),
                seat: SeatIndex::new(2),
                ..place()
            },
        );
        let keys = Keys::for_tests();
        assert_eq!(result(7).root_a, result(7).root_a);
        assert_ne!(
            result(7).commit(&keys, &ours).commitment,
            result(7).commit(&keys, &other).commitment
        );
        assert_ne!(result(7).root_a, result(8).root_a, "one unit's digest is enough");
    }

    #[test]
    fn the_index_says_where_each_unit_is() {
        let index = result(7).index(&place());
        let units: Vec<_> = index
            .units
            .iter()
            .map(|unit| (unit.unit, unit.stored_bytes))
            .collect();
        assert_eq!(units, [(UnitIndex::new(0), 1000), (UnitIndex::new(1), 1000)]);
        assert_eq!(result(7).size, u64::from(Units::new(2).get()) * 1000);
    }
}
