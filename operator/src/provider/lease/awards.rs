//! The ComputeLease as the chain gives it: which seats this provider holds in a job, for good. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tradewind_crds::{
    ComputeLease, ComputeLeaseSpec, MarketRef,
    compute_lease::{Award, LeaseDivision, OfferRef},
    scalar::{AddressText, BaseUnitsText, DigestText, HashText},
};
use tradewind_market::{
    Address, GroupIndex, RoundId, SeatIndex, TokenAmount,
    eip712::Domain,
    index::{Job, SeatRecord},
    state::{GroupState, JobState},
};
use tradewind_result::ContentDigest;

use super::pod::{LEASE_LABEL, MANAGED_LABEL, lease_name};

/// Annotation of a lease: the namespace that its pods run in, chosen once.
pub(crate) const POOL_ANNOTATION: &str = "tradewind.dev/pool-namespace";
/// The schema's bounds on a lease.
const AWARDS_MAX: usize = 256;
const ROUNDS_PER_AWARD_MAX: usize = 1024;

/// A sealed seat of ours.
#[derive(Clone, Debug)]
pub(crate) struct SealedSeat<'a> {
    pub(crate) group: GroupIndex,
    pub(crate) place: SeatIndex,
    pub(crate) round: RoundId,
    pub(crate) record: &'a SeatRecord,
    /// When its group's results must be committed by, while that is still open.
    pub(crate) commit_by: Option<u64>,
}

/// Our seats in groups that were sealed, in order.
pub(crate) fn sealed_seats<'a>(job: &Job<'a>, provider: Address) -> Vec<SealedSeat<'a>> {
    let seats = job.seats_of(provider).filter_map(|(group, place, record, of)| {
        let commit_by = match of.state {
            GroupState::Running { commit_by } => Some(commit_by.get()),
            GroupState::Filling
            | GroupState::Revealing { .. }
            | GroupState::Agreed { .. }
            | GroupState::Contested { .. }
            | GroupState::Refunding
            | GroupState::Credited { .. }
            | GroupState::Inconclusive
            | GroupState::Refunded => None,
        };
        Some(SealedSeat {
            group,
            place,
            round: job.round_id(group)?,
            record,
            commit_by,
        })
    });
    seats.collect()
}

/// Whether the chain still wants something of us in the job, or we of it.
pub(crate) fn is_live(job: &Job<'_>, provider: Address) -> bool {
    match job.state {
        JobState::Ended { .. } => false,
        JobState::Open | JobState::Cancelling { .. } => job
            .seats_of(provider)
            .any(|(_, _, _, group)| !group.state.is_ended()),
    }
}

/// The lease object for these seats; `None` where none is sealed yet, or no offer of ours is known for them.
pub(crate) fn lease(
    job: &Job<'_>,
    domain: &Domain,
    provider: Address,
    offers: &BTreeMap<u32, OfferRef>,
    namespace: &str,
    pool_namespace: &str,
) -> Option<ComputeLease> {
    let seats = sealed_seats(job, provider);
    let offer = seats
        .iter()
        .find_map(|seat| offers.get(&seat.record.series))?
        .clone();
    let shape = &job.terms.shape;
    let spec = ComputeLeaseSpec {
        job_id: HashText(job.id.to_string()),
        market: MarketRef {
            chain_id: domain.chain_id,
            contract: AddressText(domain.market.to_string()),
        },
        buyer: AddressText(job.buyer.to_string()),
        provider: AddressText(provider.to_string()),
        offer,
        template_digest: HashText(job.terms.content.template_digest.to_string()),
        template_blob: Some(digest(ContentDigest::from_bytes(
            *job.terms.content.template_address.as_bytes(),
        ))),
        gateways: seats.first().map_or_else(Vec::new, |seat| {
            common_gateways(job, seat.record)
                .iter()
                .map(Address::to_string)
                .collect()
        }),
        division: LeaseDivision {
            units: shape.units.get(),
            slice: shape.units_per_slice.get(),
            slices_per_group: shape.slices_per_group,
            seconds_per_unit: u32::try_from(shape.seconds_per_unit.get()).unwrap_or(u32::MAX),
        },
        awards: awards(&seats, job.terms.pricing.token, job.opened_in.get()),
    };
    let mut object = ComputeLease::new(&lease_name(job.id), spec);
    object.metadata.namespace = Some(namespace.to_owned());
    let labels = [
        (MANAGED_LABEL.0, MANAGED_LABEL.1.to_owned()),
        (LEASE_LABEL, lease_name(job.id)),
    ];
    object.metadata.labels = Some(labels.map(|(key, value)| (key.to_owned(), value)).into());
    object.metadata.annotations = Some([(POOL_ANNOTATION.to_owned(), pool_namespace.to_owned())].into());
    Some(object)
}

/// The gateways that offer and job both name, by their accounts: whose receipts count.
pub(crate) fn common_gateways(job: &Job<'_>, seat: &SeatRecord) -> Vec<Address> {
    let named = job.terms.gateways.iter().enumerate();
    named
        .filter(|(bit, _)| seat.gateways >> bit & 1 == 1)
        .map(|(_, gateway)| *gateway)
        .collect()
}

/// A digest as custom resources write it.
pub(crate) fn digest(digest: ContentDigest) -> DigestText {
    DigestText(format!("blake3:{}", hex::encode(digest.as_bytes())))
}

/// Neighbouring groups on equal terms become one award.
fn awards(seats: &[SealedSeat<'_>], token: Address, block: u64) -> Vec<Award> {
    let mut awards: Vec<(Award, TokenAmount)> = Vec::new();
    for seat in seats {
        let group = seat.group.get();
        let round_id = HashText(seat.round.to_string());
        let offer_hash = HashText(seat.record.offer_hash.to_string());
        if let Some((last, price)) = awards.last_mut()
            && last.last_group.checked_add(1) == Some(group)
            && last.seat == u32::from(seat.place.get())
            && last.offer_hash == offer_hash
            && *price == seat.record.price_per_unit
            && last.round_ids.len() < ROUNDS_PER_AWARD_MAX
        {
            last.last_group = group;
            last.round_ids.push(round_id);
            continue;
        }
        if awards.len() == AWARDS_MAX {
            // The chain knows the rest; this is a record for people.
            break;
        }
        awards.push((
            Award {
                round: 0,
                first_group: group,
                last_group: group,
                seat: seat.place.get().into(),
                round_ids: vec![round_id],
                offer_hash,
                price_per_unit: BaseUnitsText(seat.record.price_per_unit.to_string()),
                token: AddressText(token.to_string()),
                commit_by: Time(time(seat.commit_by.unwrap_or_default())),
                block,
            },
            seat.record.price_per_unit,
        ));
    }
    awards.into_iter().map(|(award, _)| award).collect()
}

/// The awards that a lease lacks, added to those that it has: what stands there is never changed.
pub(crate) fn add_awards(stored: &[Award], found: &[Award]) -> Option<Vec<Award>> {
    let has = |group: u32| {
        stored
            .iter()
            .any(|award| (award.first_group..=award.last_group).contains(&group))
    };
    let mut all = stored.to_vec();
    for award in found {
        // An award that continues a stored one is cut to the groups that are new.
        let new: Vec<(u32, &HashText)> = (award.first_group..=award.last_group)
            .zip(&award.round_ids)
            .filter(|(group, _)| !has(*group))
            .collect();
        let mut runs: Vec<Award> = Vec::new();
        for (group, round) in new {
            match runs.last_mut() {
                Some(run) if run.last_group.checked_add(1) == Some(group) => {
                    run.last_group = group;
                    run.round_ids.push(round.clone());
                }
                Some(_) | None => runs.push(Award {
                    first_group: group,
                    last_group: group,
                    round_ids: vec![round.clone()],
                    ..award.clone()
                }),
            }
        }
        all.extend(runs);
    }
    all.truncate(AWARDS_MAX);
    (all.len() > stored.len()).then_some(all)
}

fn time(seconds: u64) -> Timestamp {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn award(first: u32, last: u32) -> Award {
        Award {
            round: 0,
            first_group: first,
            last_group: last,
            seat: 1,
            round_ids: (first..=last)
                .map(|group| HashText(format!("round {group}")))
                .collect(),
            offer_hash: HashText("offer".to_owned()),
            price_per_unit: BaseUnitsText("5".to_owned()),
            token: AddressText("token".to_owned()),
            commit_by: Time(time(1_800_000_000)),
            block: 3,
        }
    }

    #[track_caller]
    fn check(stored: &[(u32, u32)], found: &[(u32, u32)], want: Option<&[(u32, u32)]>) {
        let awards =
            |runs: &[(u32, u32)]| -> Vec<Award> { runs.iter().map(|(a, b)| award(*a, *b)).collect() };
        let added = add_awards(&awards(stored), &awards(found));
        let runs = added.as_ref().map(|all| {
            all.iter()
                .map(|a| (a.first_group, a.last_group))
                .collect::<Vec<_>>()
        });
        assert_eq!(runs.as_deref(), want);
        for award in added.into_iter().flatten() {
            let groups = usize::try_from(award.last_group - award.first_group).unwrap() + 1;
            assert_eq!(award.round_ids.len(), groups);
            assert_eq!(award.round_ids[0].0, format!("round {}", award.first_group));
        }
    }

    #[test]
    fn awards_are_added_and_never_widened() {
        check(&[(0, 0)], &[(0, 0)], None);
        check(&[(0, 0)], &[(0, 3)], Some(&[(0, 0), (1, 3)]));
        check(&[(2, 2)], &[(0, 4)], Some(&[(2, 2), (0, 1), (3, 4)]));
        check(
            &[(0, 1), (5, 6)],
            &[(0, 1), (5, 6), (9, 9)],
            Some(&[(0, 1), (5, 6), (9, 9)]),
        );
    }
}
