use proptest::prelude::*;
use tradewind_market::Address;

use super::*;
use crate::sender::journal::{AccountRef, Attempt, Record, Revision};

const NOW: UnixMillis = UnixMillis::new(1_000_000);
const HEAD: u64 = 100;

fn nonce(nonce: u64) -> AccountNonce {
    AccountNonce::new(nonce)
}

fn tx_of(nonce: u64) -> Hash32 {
    tradewind_market::keccak256(&[&nonce.to_be_bytes()])
}

fn block(number: u64) -> BlockId {
    BlockId {
        number: BlockNumber::new(number),
        hash: Hash32::ZERO,
    }
}

fn included(nonce: u64, at: u64) -> Inclusion {
    Inclusion {
        tx: tx_of(nonce),
        block: block(at),
        succeeded: true,
        failed_steps: BTreeMap::new(),
    }
}

fn slot(number: u64, signed_at: u64, place: Place) -> Slot {
    let signed_at = BlockNumber::new(signed_at);
    let account = AccountRef {
        chain_id: 1,
        account: Address::ZERO,
    };
    let attempt = Attempt {
        tx: tx_of(number),
        raw: Vec::new(),
        signed_at,
    };
    let record = Record {
        account,
        nonce: nonce(number),
        intents: Vec::new(),
        attempts: vec![attempt],
    };
    let payload = Payload {
        to: None,
        data: Vec::new(),
        gas_limit: 21_000,
    };
    let newest_fees = Fees {
        max_fee: Wei::from_gwei(2),
        priority_fee: Wei::from_gwei(1),
    };
    let signed = Some(Signed {
        payload,
        newest: tx_of(number),
        newest_fees,
        at_head: signed_at,
    });
    Slot {
        entry: Entry {
            record,
            revision: Revision("1".to_owned()),
        },
        signed,
        place,
    }
}

fn view(latest: u64, slots: impl IntoIterator<Item = Slot>) -> View {
    let slots = slots
        .into_iter()
        .map(|slot| (slot.entry.record.nonce, slot))
        .collect();
    View {
        latest: nonce(latest),
        pending: nonce(latest),
        head: BlockNumber::new(HEAD),
        slots,
    }
}

fn config() -> SenderConfig {
    SenderConfig::new(Address::ZERO)
}

fn planned(view: &View, queued: usize) -> Plan {
    plan(view, &Broadcasts::new(), queued, &config(), NOW)
}

fn sent_at(nonces: &[u64], at: u64) -> Broadcasts {
    nonces
        .iter()
        .map(|nonce| (tx_of(*nonce), UnixMillis::new(at)))
        .collect()
}

#[test]
fn a_new_account_starts_at_its_first_free_nonce_once_its_pool_is_empty() {
    let mut fresh = view(7, []);
    assert_eq!(planned(&fresh, 0), Plan::default());
    let claim = Action::Claim {
        first: nonce(7),
        transactions_max: config().in_flight_max,
    };
    assert_eq!(planned(&fresh, 1).actions, [claim]);
    fresh.pending = nonce(8);
    assert_eq!(planned(&fresh, 1).waiting, Some(WaitReason::AccountBusy));
}

#[test]
fn final_records_are_removed_but_for_the_newest() {
    let check = |places: [Place; 3], expected: &[u64]| {
        let slots = (5..).zip(places).map(|(nonce, place)| slot(nonce, HEAD, place));
        let removed: Vec<_> = expected
            .iter()
            .map(|number| Action::Remove(nonce(*number)))
            .collect();
        let plan = planned(&view(8, slots), 0);
        assert_eq!(plan.actions, removed);
    };
    let last = |nonce: u64| Place::Final(included(nonce, 90));
    let seen = |nonce: u64| Place::Included(included(nonce, 99));
    check([last(5), last(6), last(7)], &[5, 6]);
    check([last(5), seen(6), seen(7)], &[5]);
    check([seen(5), seen(6), seen(7)], &[]);
    check([last(5), Place::Displaced, seen(7)], &[5]);
}

#[test]
fn a_nonce_used_without_a_record_stops_everything_until_a_person_adopts_it() {
    let check = |view: View, adopt: Option<u64>, expected: Option<u64>| {
        let config = SenderConfig {
            adopt_nonces_below: adopt.map(nonce),
            ..config()
        };
        let plan = plan(&view, &Broadcasts::new(), 1, &config, NOW);
        let alerts: Vec<_> = expected
            .iter()
            .map(|number| Alert::ForeignNonce {
                nonce: nonce(*number),
            })
            .collect();
        assert_eq!(plan.alerts, alerts);
        assert_eq!(plan.actions.is_empty(), expected.is_some(), "{:?}", plan.actions);
    };
    let known = || slot(5, HEAD, Place::Final(included(5, 90)));
    check(view(6, [known()]), None, None);
    check(view(7, [known()]), None, Some(6));
    check(view(7, [known()]), Some(6), Some(6));
    check(view(7, [known()]), Some(7), None);
    check(view(6, [slot(5, HEAD, Place::Lost)]), None, Some(5));
    check(view(6, [slot(5, HEAD, Place::Lost)]), Some(6), None);
    // Not yet final: it may be a node that lags.
    check(view(6, [slot(5, HEAD, Place::Displaced)]), None, None);
}

#[test]
fn adopted_nonces_are_not_claimed_again() {
    let config = SenderConfig {
        adopt_nonces_below: Some(nonce(9)),
        ..config()
    };
    let restored = view(9, [slot(5, HEAD, Place::Final(included(5, 90)))]);
    let plan = plan(&restored, &Broadcasts::new(), 1, &config, NOW);
    assert_eq!(
        plan.actions,
        [Action::Claim {
            first: nonce(9),
            transactions_max: 16
        }]
    );
}

#[test]
fn what_waits_is_sent_then_repeated_then_outbid() {
    let check = |signed_at: u64, broadcasts: Broadcasts, expected: Option<Action>| {
        let waiting = view(5, [slot(5, signed_at, Place::Waiting)]);
        let plan = plan(&waiting, &broadcasts, 0, &config(), NOW);
        assert_eq!(plan.actions, expected.into_iter().collect::<Vec<_>>());
    };
    let broadcast = Some(Action::Broadcast(nonce(5)));
    check(HEAD, Broadcasts::new(), broadcast);
    check(HEAD - 50, Broadcasts::new(), broadcast);
    check(HEAD, sent_at(&[5], NOW.get() - 11_999), None);
    check(HEAD, sent_at(&[5], NOW.get() - 12_000), broadcast);
    check(HEAD - 4, sent_at(&[5], NOW.get()), None);
    check(
        HEAD - 5,
        sent_at(&[5], NOW.get()),
        Some(Action::Replace(nonce(5))),
    );
    // A clock that was set back does not silence the sender.
    check(HEAD, sent_at(&[5], NOW.get() + 5), broadcast);
}

#[test]
fn holes_between_records_are_filled_and_nothing_below_them_is() {
    let waiting = |number| slot(number, HEAD, Place::Waiting);
    let plan = planned(&view(5, [waiting(5), waiting(8)]), 0);
    assert_eq!(
        plan.actions[..2],
        [Action::FillHole(nonce(6)), Action::FillHole(nonce(7))]
    );
    // A node that lags shows nonces as free that were used, and their records removed, long ago.
    let lagging = planned(&view(3, [waiting(8)]), 0);
    assert_eq!(lagging.actions, [Action::Broadcast(nonce(8))]);
    assert_eq!(lagging.alerts, [Alert::EarlierNonceFree { nonce: nonce(3) }]);
}

#[test]
fn no_more_wait_for_inclusion_than_may() {
    let in_flight = |count: u64| view(5, (5..5 + count).map(|number| slot(number, HEAD, Place::Waiting)));
    let sent = sent_at(&(0..40).collect::<Vec<_>>(), NOW.get());
    let claim = |count: u64| plan(&in_flight(count), &sent, 1, &config(), NOW);
    assert_eq!(
        claim(3).actions,
        [Action::Claim {
            first: nonce(8),
            transactions_max: 13
        }]
    );
    assert_eq!(claim(16).waiting, Some(WaitReason::InFlightFull));
}

#[test]
fn a_record_that_cannot_be_read_is_told_of_and_left_alone() {
    let mut corrupt = slot(5, HEAD, Place::Waiting);
    corrupt.signed = None;
    let plan = planned(&view(5, [corrupt, slot(6, HEAD, Place::Waiting)]), 0);
    assert_eq!(plan.alerts, [Alert::CorruptRecord { nonce: nonce(5) }]);
    assert_eq!(plan.actions, [Action::Broadcast(nonce(6))]);
}

proptest! {
    #[test]
    fn whatever_is_seen_no_journaled_nonce_is_claimed_and_no_open_record_removed(
        first in 0u64..20,
        latest in 0u64..40,
        pending in 0u64..40,
        places in proptest::collection::vec(proptest::option::of(0u8..5), 0..20),
        queued in 0usize..3,
        adopt in proptest::option::of(0u64..40),
    ) {
        let place = |number: u64, kind: u8| match kind {
            0 => Place::Waiting,
            1 => Place::Included(included(number, 99)),
            2 => Place::Final(included(number, 90)),
            3 => Place::Displaced,
            _ => Place::Lost,
        };
        let slots = (first..).zip(places).filter_map(|(number, kind)| Some(slot(number, HEAD, place(number, kind?))));
        let mut view = view(latest, slots.collect::<Vec<_>>());
        view.pending = nonce(pending);
        let config = SenderConfig { adopt_nonces_below: adopt.map(nonce), ..config() };
        let plan = plan(&view, &Broadcasts::new(), queued, &config, NOW);
        let newest = view.slots.last_key_value().map(|(nonce, _)| *nonce);
        for action in plan.actions {
            match action {
                Action::Claim { first, .. } => {
                    prop_assert!(newest.is_none_or(|newest| first > newest));
                    prop_assert!(first >= view.latest);
                }
                Action::FillHole(nonce) => {
                    prop_assert!(!view.slots.contains_key(&nonce) && newest.is_some_and(|newest| nonce < newest));
                    prop_assert!(nonce >= view.latest);
                }
                Action::Remove(nonce) => {
                    prop_assert!(matches!(view.slots[&nonce].place, Place::Final(_) | Place::Lost));
                    prop_assert!(Some(nonce) != newest);
                }
                Action::Broadcast(nonce) | Action::Replace(nonce) => {
                    prop_assert_eq!(&view.slots[&nonce].place, &Place::Waiting);
                }
            }
        }
    }
}
