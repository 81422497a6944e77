//! The plan at each point of a job's life, from the events that lead there.

use std::collections::{BTreeMap, BTreeSet};

use tradewind_gateway_api::{message::SignedMessage, signed::Signed};
use tradewind_market::{
    Address, BlockNumber, Bps, ClassId, GroupIndex, Hash32, JobId, JobNonce, Knowledge, OfferHash, SeatIndex,
    Seconds, Slots, Terms, TokenAmount, UnitIndex, UnitSet, Units, UnixSeconds,
    eip712::StructHash,
    event::{
        GroupStatus, JobEvent, LedgerEvent, MarketEvent, PackedSeatStates, SeatKind, SeatStatus, StoredAt,
    },
    index::{BlockRef, MarketIndex},
    message::{Commit, CommitEntry, HexBytes, Reveal, RevealEntry, SeatRef},
    plan::consumer::CancelCause,
    terms::{Content, Policy, Pricing, Redundancy, Shape, Windows},
};

use super::*;

const JOB: JobId = JobId::from_bytes([5; 32]);
const BUYER: Address = Address::from_bytes([1; 20]);
const TOKEN: Address = Address::from_bytes([2; 20]);
const GATEWAY: Address = Address::from_bytes([3; 20]);
const ROOT: Hash32 = Hash32::from_bytes([7; 32]);

fn provider(number: u8) -> Address {
    Address::from_bytes([0x10 + number; 20])
}

fn at(second: u64) -> UnixSeconds {
    UnixSeconds::new(second)
}

fn group(number: u32) -> GroupIndex {
    GroupIndex::new(number)
}

/// Two groups of one unit, two of three seats, open until 1,000.
fn terms(canary: bool) -> Terms {
    Terms {
        shape: Shape {
            units: Units::new(2),
            units_per_slice: Units::new(1),
            slices_per_group: 1,
            slots_per_seat: Slots::new(1),
            seconds_per_unit: Seconds::new(10),
            class_id: ClassId::from_bytes([4; 32]),
        },
        redundancy: Redundancy {
            policy: Policy::Quorum,
            quorum: 2,
            picked: 3,
            max_seats: 3,
            drawn: 0,
            max_rounds: 1,
            canary,
            entropy: 0,
            audit_floor_ppm: 0,
            collusion_bps: Bps::ZERO,
        },
        windows: Windows {
            open_until: at(1_000),
            commit_grace: Seconds::new(30),
            reveal_window: Seconds::new(20),
            appeal_window: Seconds::new(15),
            availability_window: Seconds::new(10),
            cancel_grace: Seconds::new(25),
            retention: Seconds::new(1_000),
        },
        pricing: Pricing {
            token: TOKEN,
            picked_cap: TokenAmount::from_base_units(100),
            drawn_cap: TokenAmount::ZERO,
            bond_bps: Bps::ZERO,
            no_show_bps: Bps::ZERO,
            fee_bps: Bps::ZERO,
            inconclusive_bps: Bps::new(5_000),
            unresolved_burn_bps: Bps::new(5_000),
        },
        content: Content {
            template_digest: ROOT,
            template_address: ROOT,
            key_commitment: ROOT,
            secrets_root: Hash32::ZERO,
            spot_checks_root: Hash32::ZERO,
            comparator: Hash32::ZERO,
            verifier: Address::ZERO,
        },
        gateways: vec![GATEWAY],
    }
}

/// A market in which one job lives.
struct Life {
    index: MarketIndex,
    sequence: u32,
    block: u64,
}

impl Life {
    fn opened(canary: bool) -> Self {
        let mut life = Self {
            index: MarketIndex::new(),
            sequence: 0,
            block: 0,
        };
        let amount = TokenAmount::from_base_units(1_000);
        let deposit = LedgerEvent::Deposited {
            account: BUYER,
            token: TOKEN,
            amount,
            intent: Hash32::ZERO,
        };
        life.apply(MarketEvent::Ledger(deposit));
        let terms = Box::new(terms(canary));
        life.happens(JobEvent::Opened {
            buyer: BUYER,
            token: TOKEN,
            nonce: JobNonce::ZERO,
            escrow: amount,
            terms_hash: terms.struct_hash(),
            terms,
        });
        life
    }

    fn apply(&mut self, event: MarketEvent) {
        self.block += 1;
        let block = BlockRef {
            number: BlockNumber::new(self.block),
            hash: Hash32::ZERO,
        };
        let anomalies = self.index.apply(block, &[event]).unwrap();
        assert!(anomalies.is_empty(), "{anomalies:?}");
    }

    fn happens(&mut self, event: JobEvent) {
        self.sequence += 1;
        self.apply(MarketEvent::Job {
            job: JOB,
            sequence: self.sequence,
            event,
        });
    }

    fn filled(mut self, groups: u32) -> Self {
        for seat in 0..3 {
            self.happens(JobEvent::SeatsFilled {
                provider: provider(seat),
                offer_hash: OfferHash::from_bytes([seat; 32]),
                kind: SeatKind::Picked,
                round: 0,
                seat: SeatIndex::new(seat),
                first_group: group(0),
                groups,
                price_per_unit: TokenAmount::from_base_units(10),
                series: 1,
                charge_bps: Bps::ZERO,
                gateways: 1,
            });
        }
        self
    }

    fn sealed(mut self, first: u32, groups: u32) -> Self {
        self.happens(JobEvent::GroupsSealed {
            first_group: group(first),
            groups,
            commit_by: at(100),
        });
        self
    }

    fn committed(mut self, of: u32, seats: std::ops::Range<u8>) -> Self {
        for seat in seats {
            self.happens(JobEvent::SeatCommitted {
                provider: provider(seat),
                group: group(of),
                round: 0,
                seat: SeatIndex::new(seat),
                commitment: ROOT,
            });
        }
        self
    }

    fn revealing(mut self, of: u32) -> Self {
        self.happens(JobEvent::RevealStarted {
            group: group(of),
            round: 0,
            reveal_by: at(150),
        });
        self
    }

    fn revealed(mut self, of: u32, seat: u8, root: Hash32, with_receipt: bool) -> Self {
        let stored = StoredAt {
            gateway: GATEWAY,
            stored_root: ROOT,
            size: 1,
            until: at(9_000),
        };
        self.happens(JobEvent::SeatRevealed {
            provider: provider(seat),
            group: group(of),
            round: 0,
            seat: SeatIndex::new(seat),
            root_a: root,
            hash_b: ROOT,
            stored: with_receipt.then_some(stored),
        });
        self
    }

    /// Seats 0 and 1 agree, seat 2 dissents.
    fn agreed(self, of: u32) -> Self {
        let mut life = self.committed(of, 0..3).revealing(of).revealed(of, 0, ROOT, true);
        life = life
            .revealed(of, 1, ROOT, true)
            .revealed(of, 2, Hash32::ZERO, true);
        let states = [SeatStatus::Agreed, SeatStatus::Agreed, SeatStatus::Dissent];
        life.happens(JobEvent::GroupJudged {
            group: group(of),
            round: 0,
            state: GroupStatus::Agreed,
            root: ROOT,
            agreed: 2,
            seat_states: PackedSeatStates::pack(states),
            settle_at: at(200),
        });
        life
    }

    fn plan_at(&self, now: u64, change: impl FnOnce(&mut Beside)) -> Vec<Step> {
        let Knowledge::Known(head) = self.index.job(JOB) else {
            panic!("the job is known")
        };
        let mut beside = Beside::default();
        change(&mut beside);
        plan(&Situation {
            desire: beside.desire,
            not_after: beside.not_after,
            head,
            finalized: beside.is_final.then_some(head),
            bundled: beside.bundled.as_ref(),
            messages: &beside.messages,
            delivered: Some(&beside.delivered),
            now: at(now),
        })
    }
}

/// What a plan depends on besides the chain.
struct Beside {
    desire: Desire,
    not_after: Option<UnixSeconds>,
    is_final: bool,
    bundled: Option<BTreeSet<Address>>,
    messages: BTreeMap<Hash32, SignedMessage>,
    delivered: UnitSet,
}

impl Default for Beside {
    fn default() -> Self {
        Self {
            desire: Desire::Run,
            not_after: None,
            is_final: true,
            bundled: Some([0, 1, 2].map(provider).into()),
            messages: BTreeMap::new(),
            delivered: UnitSet::new(),
        }
    }
}

fn seat_ref(of: u32, seat: u8) -> SeatRef {
    SeatRef {
        group: group(of),
        round: 0,
        seat: SeatIndex::new(seat),
    }
}

fn commit(seat: u8) -> (Hash32, SignedMessage) {
    let statement = Commit {
        provider: provider(seat),
        job_id: JOB,
        deadline: at(100),
        entries: vec![CommitEntry {
            seat: seat_ref(0, seat),
            commitment: ROOT,
        }],
    };
    (
        statement.struct_hash(),
        SignedMessage::Commit(Signed {
            statement,
            signature: HexBytes::default(),
        }),
    )
}

fn reveal(seat: u8, with_receipt: bool) -> (Hash32, SignedMessage) {
    let entry = RevealEntry {
        seat: seat_ref(0, seat),
        root_a: ROOT,
        salt_a: ROOT,
        hash_b: ROOT,
        gateway: GATEWAY,
        stored_root: ROOT,
        size: 1,
        until: at(9_000),
        receipt: HexBytes(if with_receipt { vec![1] } else { vec![] }),
    };
    let statement = Reveal {
        provider: provider(seat),
        job_id: JOB,
        deadline: at(150),
        entries: vec![entry],
    };
    (
        statement.struct_hash(),
        SignedMessage::Reveal(Signed {
            statement,
            signature: HexBytes::default(),
        }),
    )
}

#[test]
fn seats_that_lack_are_sought_while_the_job_is_open() {
    let life = Life::opened(false);
    let Step::Seek(wants) = &life.plan_at(10, |_| {})[0] else {
        panic!("seats are sought")
    };
    assert_eq!(
        wants
            .iter()
            .map(|want| (want.group, want.seats))
            .collect::<Vec<_>>(),
        [(group(0), 3), (group(1), 3)]
    );
    let late = life.plan_at(1_001, |_| {});
    assert_eq!(late, [Step::Close(vec![group(0), group(1)])]);
}

#[test]
fn a_canary_is_sealed_alone_and_the_rest_when_it_is_agreed_on() {
    let all = [Step::Seal {
        first: group(0),
        groups: 2,
    }];
    assert_eq!(Life::opened(false).filled(2).plan_at(10, |_| {}), all);
    let canary = Life::opened(true).filled(2);
    assert_eq!(
        canary.plan_at(10, |_| {}),
        [Step::Seal {
            first: group(0),
            groups: 1
        }]
    );
    let agreed = canary.sealed(0, 1).agreed(0);
    assert!(agreed.plan_at(160, |_| {}).contains(&Step::Seal {
        first: group(1),
        groups: 1
    }));
}

#[test]
fn the_key_goes_to_seats_that_are_final_and_to_nobody_twice() {
    let life = Life::opened(false).filled(2).sealed(0, 2);
    let everyone: BTreeSet<Address> = [0, 1, 2].map(provider).into();
    let publishes = |steps: Vec<Step>| steps.contains(&Step::PublishBundle(everyone.clone()));
    assert!(publishes(
        life.plan_at(10, |beside| beside.bundled = Some(BTreeSet::new()))
    ));
    assert!(publishes(life.plan_at(10, |beside| beside.bundled = None)));
    assert!(!publishes(life.plan_at(10, |_| {})), "it is published already");
    assert!(!publishes(
        life.plan_at(10, |beside| (beside.is_final, beside.bundled) = (false, None))
    ));
}

#[test]
fn messages_are_carried_only_while_they_change_something() {
    let check = |life: &Life, now: u64, message: &(Hash32, SignedMessage), expected: bool| {
        let steps = life.plan_at(now, |beside| beside.messages = [message.clone()].into());
        let relays = steps.iter().any(|step| matches!(step, Step::Relay(_)));
        assert_eq!(relays, expected, "at {now}: {message:?}");
    };
    let running = Life::opened(false).filled(2).sealed(0, 2);
    check(&running, 50, &commit(0), true);
    check(&running, 101, &commit(0), false);
    check(&running, 50, &reveal(0, true), false);
    let running = running.committed(0, 0..1);
    check(&running, 50, &commit(0), false);
    check(&running, 50, &commit(1), true);
    let revealing = running.committed(0, 1..3).revealing(0);
    check(&revealing, 50, &reveal(0, true), true);
    check(&revealing, 151, &reveal(0, true), false);
    let without_receipt = revealing.revealed(0, 0, ROOT, false);
    check(&without_receipt, 60, &reveal(0, false), false);
    check(&without_receipt, 60, &reveal(0, true), true);
}

#[test]
fn a_group_is_judged_when_all_is_there_or_the_time_is_over() {
    let judges = |life: &Life, now: u64| {
        let judged = |step: &Step| matches!(step, Step::Judge(groups) if groups.contains(&group(0)));
        life.plan_at(now, |_| {}).iter().any(judged)
    };
    let revealing = Life::opened(false)
        .filled(2)
        .sealed(0, 2)
        .committed(0, 0..3)
        .revealing(0);
    assert!(!judges(&revealing, 60));
    assert!(judges(&revealing, 151), "the reveal window is over");
    let two = revealing.revealed(0, 0, ROOT, true).revealed(0, 1, ROOT, true);
    assert!(!judges(&two, 60), "one has not revealed");
    let waiting = two.revealed(0, 2, ROOT, false);
    assert!(
        !judges(&waiting, 60),
        "a receipt may still come, and be worth its pay"
    );

    let silent = Life::opened(false).filled(1).sealed(0, 1);
    assert!(!judges(&silent, 100));
    assert!(judges(&silent, 101), "nobody committed");
    let half = silent.committed(0, 0..1);
    assert!(!judges(&half, 110), "the one that committed may reveal");
    assert!(judges(&half, 121));
}

#[test]
fn agreed_results_are_fetched_from_those_who_hold_them_and_settled_in_time() {
    let life = Life::opened(false).filled(2).sealed(0, 2).agreed(0);
    let steps = life.plan_at(160, |_| {});
    assert!(
        steps.contains(&Step::Fetch {
            group: group(0),
            providers: vec![provider(0), provider(1)]
        }),
        "{steps:?}"
    );
    assert!(!steps.iter().any(|step| matches!(step, Step::Settle(_))));
    assert!(life.plan_at(200, |_| {}).contains(&Step::Settle(vec![group(0)])));
    let steps = life.plan_at(160, |beside| beside.delivered.insert(UnitIndex::new(0)));
    assert!(!steps.iter().any(|step| matches!(step, Step::Fetch { .. })));
}

#[test]
fn notice_is_given_for_a_reason_and_only_while_something_can_still_be_stopped() {
    let cancels = |steps: Vec<Step>| {
        steps.into_iter().find_map(|step| {
            if let Step::Cancel(cause) = step {
                Some(cause)
            } else {
                None
            }
        })
    };
    let life = Life::opened(false).filled(2);
    assert_eq!(cancels(life.plan_at(10, |_| {})), None);
    let asked = life.plan_at(10, |beside| beside.desire = Desire::Cancel);
    assert!(
        !asked
            .iter()
            .any(|step| matches!(step, Step::Seal { .. } | Step::Seek(_))),
        "{asked:?}"
    );
    assert_eq!(cancels(asked), Some(CancelCause::Asked));
    let late = life.plan_at(51, |beside| beside.not_after = Some(at(50)));
    assert_eq!(cancels(late), Some(CancelCause::Deadline));
    let mut noticed = life;
    noticed.happens(JobEvent::CancelNoticed { grace_until: at(60) });
    let after = noticed.plan_at(20, |beside| beside.desire = Desire::Cancel);
    assert_eq!(after, [Step::Close(vec![group(0), group(1)])]);
}

#[test]
fn every_step_leads_on_when_it_is_taken_twice() {
    // A plan depends on how things stand alone: the same situation gives the same steps.
    let life = Life::opened(true).filled(2).sealed(0, 1).agreed(0);
    assert_eq!(life.plan_at(300, |_| {}), life.plan_at(300, |_| {}));
}
