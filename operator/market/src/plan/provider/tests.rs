use super::*;
use crate::event::{GroupStatus, JobEvent, SeatStatus};
use crate::fixture::{Script, address, at, terms};
use crate::intervals::GroupSet;
use crate::quantity::{SliceIndex, Slots};

const TIMING: Timing = Timing {
    margin: Seconds::new(5),
    relay_patience: Seconds::new(8),
    settle_patience: Seconds::new(30),
    retry_first: Seconds::new(2),
    retry_max: Seconds::new(6),
    attempts_max: 3,
};

/// What the view borrows.
#[derive(Debug, Clone)]
struct Lease {
    pods: Knowledge<Vec<PodView>>,
    materials: Knowledge<()>,
    unfit: Option<AbstainReason>,
    results: BTreeMap<SliceIndex, SliceResult>,
    indexed: GroupSet,
    receipts: GroupSet,
    posted: BTreeMap<(MessageKind, GroupIndex), UnixSeconds>,
    slots: u32,
}

impl Lease {
    fn new() -> Self {
        Self {
            pods: Knowledge::Known(Vec::new()),
            materials: Knowledge::Known(()),
            unfit: None,
            results: BTreeMap::new(),
            indexed: GroupSet::new(),
            receipts: GroupSet::new(),
            posted: BTreeMap::new(),
            slots: 10,
        }
    }

    fn with_pods(mut self, pods: &[(u32, u32, PodPhase)]) -> Self {
        let view = |(slice, attempt, phase): &(u32, u32, PodPhase)| PodView {
            slice: SliceIndex::new(*slice),
            attempt: *attempt,
            phase: *phase,
        };
        self.pods = Knowledge::Known(pods.iter().map(view).collect());
        self
    }

    fn with_results(mut self, slices: std::ops::Range<u32>, result: SliceResult) -> Self {
        self.results
            .extend(slices.map(|slice| (SliceIndex::new(slice), result)));
        self
    }

    /// With the first group's results, and a gateway's receipt for them.
    fn stored() -> Self {
        let mut lease = Self::new().with_results(0..2, SliceResult::Done);
        lease.receipts.insert(GroupIndex::ZERO);
        lease
    }

    fn plan(&self, finalized: &Script, newest: &Script, now: u64) -> Vec<ProviderStep> {
        let view = LeaseView {
            provider: address(20),
            final_chain: Knowledge::Known(finalized.job()),
            chain: Knowledge::Known(newest.job()),
            materials: self.materials,
            unfit: self.unfit,
            pods: match &self.pods {
                Knowledge::Known(pods) => Knowledge::Known(pods.as_slice()),
                Knowledge::Absent => Knowledge::Absent,
                Knowledge::Unknown => Knowledge::Unknown,
            },
            results: &self.results,
            indexed: &self.indexed,
            receipts: &self.receipts,
            posted: &self.posted,
            slots: Slots::new(self.slots),
        };
        provider_plan(&view, &TIMING, at(now))
    }

    /// Without the waits.
    fn acts(&self, script: &Script, now: u64) -> Vec<ProviderStep> {
        let steps = self.plan(script, script, now);
        steps
            .into_iter()
            .filter(|step| !matches!(step, ProviderStep::Wait { .. }))
            .collect()
    }

    fn waits(&self, script: &Script, now: u64) -> Option<(ProviderWait, Option<UnixSeconds>)> {
        self.plan(script, script, now)
            .into_iter()
            .find_map(|step| match step {
                ProviderStep::Wait { reason, until } => Some((reason, until)),
                _ => None,
            })
    }
}

fn sealed() -> Script {
    Script::opened(terms()).full(0, 1).sealed(0, 1, 550)
}

fn groups() -> Vec<GroupIndex> {
    vec![GroupIndex::ZERO]
}

fn create(slice: u32, attempt: u32) -> ProviderStep {
    ProviderStep::CreatePod {
        slice: SliceIndex::new(slice),
        attempt,
    }
}

fn delete(slice: u32, cause: PodDeletion) -> ProviderStep {
    ProviderStep::DeletePod {
        slice: SliceIndex::new(slice),
        attempt: 1,
        cause,
    }
}

#[test]
fn nothing_is_done_from_what_is_unknown() {
    let script = sealed();
    let (results, none, posted) = (BTreeMap::new(), GroupSet::new(), BTreeMap::new());
    let view = |final_chain, chain| LeaseView {
        provider: address(20),
        final_chain,
        chain,
        materials: Knowledge::Unknown,
        unfit: None,
        pods: Knowledge::Unknown,
        results: &results,
        indexed: &none,
        receipts: &none,
        posted: &posted,
        slots: Slots::new(1),
    };
    let known = Knowledge::Known(script.job());
    let check = |final_chain, chain, reason| {
        let expected = [ProviderStep::Wait { reason, until: None }];
        assert_eq!(
            provider_plan(&view(final_chain, chain), &TIMING, at(510)),
            expected
        );
    };
    check(Knowledge::Unknown, known, ProviderWait::ChainUnknown);
    check(Knowledge::Absent, known, ProviderWait::Finality);
    check(known, Knowledge::Unknown, ProviderWait::ChainUnknown);
    let blind = Lease {
        pods: Knowledge::Unknown,
        ..Lease::new()
    };
    assert_eq!(blind.acts(&script, 510), []);
    assert_eq!(blind.waits(&script, 510), Some((ProviderWait::PodsUnknown, None)));
    let keyless = Lease {
        materials: Knowledge::Unknown,
        ..Lease::new()
    };
    assert_eq!(keyless.acts(&script, 510), []);
    let ended = ended();
    assert_eq!(
        blind.acts(&ended, 700),
        [],
        "pods that cannot be seen are not left behind"
    );
}

#[test]
fn a_sealed_group_gets_its_pods_within_the_slots() {
    let unsealed = Script::opened(terms()).full(0, 1);
    assert_eq!(
        Lease::new().waits(&unsealed, 510),
        Some((ProviderWait::NotSealed, None))
    );
    let script = sealed();
    assert_eq!(Lease::new().acts(&script, 510), [create(0, 1), create(1, 1)]);
    let narrow = Lease {
        slots: 1,
        ..Lease::new()
    };
    assert_eq!(narrow.acts(&script, 510), [create(0, 1)]);
    assert_eq!(
        narrow.with_pods(&[(0, 1, PodPhase::Running)]).acts(&script, 510),
        []
    );
    let keyless = Lease {
        materials: Knowledge::Absent,
        ..Lease::new()
    };
    assert_eq!(keyless.acts(&script, 510), [ProviderStep::FetchBundle]);
}

#[test]
fn failed_pods_are_tried_again_with_growing_pauses_where_that_may_help() {
    let script = sealed();
    let failed = |attempt, cause| {
        let phase = PodPhase::Failed { cause, at: at(510) };
        Lease::new().with_pods(&[(0, attempt, phase), (1, 1, PodPhase::Running)])
    };
    let hardware = AbstainReason::Hardware;
    assert_eq!(failed(1, hardware).acts(&script, 511), []);
    assert_eq!(failed(1, hardware).waits(&script, 511).unwrap().1, Some(at(512)));
    assert_eq!(failed(1, hardware).acts(&script, 512), [create(0, 2)]);
    assert_eq!(failed(2, hardware).acts(&script, 513), []);
    assert_eq!(failed(2, hardware).acts(&script, 514), [create(0, 3)]);
    let abstain = |reason| {
        [ProviderStep::Abstain {
            groups: groups(),
            reason,
            by: Delivery::Relay,
        }]
    };
    assert_eq!(failed(3, hardware).acts(&script, 520), abstain(hardware));
    assert_eq!(
        failed(1, AbstainReason::TimeLimit).acts(&script, 511),
        abstain(AbstainReason::TimeLimit)
    );
}

#[test]
fn a_finished_group_commits_and_a_hopeless_one_abstains() {
    let script = sealed();
    let commit = |by| [ProviderStep::Commit { groups: groups(), by }];
    let done = Lease::stored();
    assert_eq!(done.acts(&script, 520), commit(Delivery::Relay));
    assert_eq!(
        done.acts(&script, 545),
        commit(Delivery::Direct),
        "too late to rely on the buyer"
    );
    let mut posted = done.clone();
    posted
        .posted
        .insert((MessageKind::Commit, GroupIndex::ZERO), at(520));
    assert_eq!(posted.acts(&script, 527), []);
    assert_eq!(
        posted.waits(&script, 527),
        Some((ProviderWait::Relay, Some(at(528))))
    );
    assert_eq!(posted.acts(&script, 528), commit(Delivery::Direct));
    assert_eq!(
        done.acts(&script, 551),
        [],
        "after the deadline nothing can be said"
    );
    let committed = script.clone().committed(0, 0);
    assert_eq!(
        done.plan(&script, &committed, 528),
        [ProviderStep::Wait {
            reason: ProviderWait::Finality,
            until: None
        }],
        "what the newest block has is not said again"
    );

    let abstain = |reason, by| {
        [ProviderStep::Abstain {
            groups: groups(),
            reason,
            by,
        }]
    };
    let oom = AbstainReason::OutOfMemory;
    let stuck = Lease::new().with_results(1..2, SliceResult::Abstain(oom));
    assert_eq!(stuck.acts(&script, 520), abstain(oom, Delivery::Relay));
    let unfit = Lease {
        unfit: Some(AbstainReason::TemplateMismatch),
        ..done.clone()
    };
    assert_eq!(
        unfit.acts(&script, 520),
        abstain(AbstainReason::TemplateMismatch, Delivery::Relay)
    );
    let pulling = PodPhase::Pending {
        cause: AbstainReason::Image,
    };
    let late = Lease::new().with_pods(&[(0, 1, PodPhase::Running), (1, 1, pulling)]);
    assert_eq!(late.acts(&script, 544), []);
    assert_eq!(
        late.acts(&script, 545),
        abstain(AbstainReason::Image, Delivery::Direct)
    );
    let keyless = Lease {
        materials: Knowledge::Absent,
        ..Lease::new()
    };
    assert_eq!(
        keyless.acts(&script, 545),
        abstain(AbstainReason::Key, Delivery::Direct)
    );
}

#[test]
fn nothing_is_committed_to_that_no_gateway_stores() {
    let script = sealed();
    let group = GroupIndex::ZERO;
    let ask = [ProviderStep::RequestReceipt { group }];
    let give_back = [ProviderStep::Abstain {
        groups: groups(),
        reason: AbstainReason::Storage,
        by: Delivery::Direct,
    }];
    let unstored = Lease::new().with_results(0..2, SliceResult::Done);
    let check = |now, expected: &[ProviderStep]| assert_eq!(unstored.acts(&script, now), expected, "{now}");
    check(520, &ask);
    assert_eq!(
        unstored.waits(&script, 520),
        Some((ProviderWait::Storing, Some(at(550))))
    );
    check(546, &ask);
    check(547, &give_back);
    check(550, &give_back);
    check(551, &[]);
    let commit = [ProviderStep::Commit {
        groups: groups(),
        by: Delivery::Direct,
    }];
    assert_eq!(
        Lease::stored().acts(&script, 550),
        commit,
        "what is stored is committed to until the end"
    );
    let published = Lease {
        indexed: [group].into_iter().collect(),
        ..unstored.clone()
    };
    assert_eq!(
        published.acts(&script.committed(0, 0), 520),
        ask,
        "a receipt that a restart forgot is asked for again"
    );
}

#[test]
fn notice_of_cancellation_brings_the_deadline_forward() {
    let noticed = sealed().event(JobEvent::CancelNoticed { grace_until: at(535) });
    let done = Lease::stored();
    let direct = [ProviderStep::Commit {
        groups: groups(),
        by: Delivery::Direct,
    }];
    assert_eq!(done.acts(&noticed, 530), direct);
    assert_eq!(done.acts(&noticed, 536), []);
}

#[test]
fn results_are_shown_only_when_nobody_can_commit_any_more() {
    let done = Lease::new().with_results(0..2, SliceResult::Done);
    let mut stored = done.clone();
    stored.indexed.insert(GroupIndex::ZERO);
    stored.receipts.insert(GroupIndex::ZERO);
    let reveal = |by| [ProviderStep::Reveal { groups: groups(), by }];
    let store = [
        ProviderStep::PublishIndex {
            group: GroupIndex::ZERO,
        },
        ProviderStep::RequestReceipt {
            group: GroupIndex::ZERO,
        },
    ];
    let committed = sealed().committed(0, 0);
    assert_eq!(done.acts(&committed, 520), store);
    assert_eq!(stored.acts(&committed, 520), []);
    assert_eq!(
        stored.waits(&committed, 520),
        Some((ProviderWait::OthersWork, Some(at(550))))
    );
    assert_eq!(
        stored.acts(&committed, 550),
        [],
        "another may still commit in the deadline's second"
    );
    assert_eq!(stored.acts(&committed, 551), reveal(Delivery::Relay));

    let revealing = committed
        .clone()
        .committed(0, 1)
        .committed(0, 2)
        .revealing(0, 545);
    assert_eq!(
        stored.plan(&committed, &revealing, 526).len(),
        1,
        "the others' commitments are not final"
    );
    assert_eq!(stored.acts(&revealing, 526), reveal(Delivery::Relay));
    assert_eq!(stored.acts(&revealing, 540), reveal(Delivery::Direct));
    assert_eq!(stored.acts(&revealing, 546), []);
    // Without a receipt it is unpaid, without an opening it is dissent: so at the last moment it is shown bare.
    assert_eq!(done.acts(&revealing, 539), store);
    assert_eq!(
        done.acts(&revealing, 540),
        [&reveal(Delivery::Direct)[..], &store].concat()
    );
    let bare = revealing.clone().revealed(0, 0, 1, false);
    assert_eq!(
        stored.acts(&bare, 541),
        reveal(Delivery::Direct),
        "the receipt is brought later"
    );
    assert_eq!(
        Lease {
            receipts: GroupSet::new(),
            ..stored.clone()
        }
        .acts(&bare, 541),
        store[1..]
    );
    assert_eq!(stored.acts(&revealing.revealed(0, 0, 1, true), 541), []);
    let lost = Lease {
        results: BTreeMap::new(),
        ..stored
    };
    assert_eq!(lost.waits(&bare, 541), Some((ProviderWait::ResultsUnknown, None)));
}

#[test]
fn what_presses_is_said_before_any_gateway_is_asked() {
    let revealing = sealed()
        .committed(0, 0)
        .committed(0, 1)
        .abstained(0, 2)
        .revealing(0, 600);
    let lease = Lease::new().with_results(0..2, SliceResult::Done);
    let steps = lease.acts(&revealing, 595);
    let reveal = ProviderStep::Reveal {
        groups: groups(),
        by: Delivery::Direct,
    };
    assert_eq!(steps.first(), Some(&reveal), "{steps:?}");
    let (group, index) = (
        GroupIndex::ZERO,
        ProviderStep::PublishIndex {
            group: GroupIndex::ZERO,
        },
    );
    assert_eq!(
        steps.get(1..),
        Some([index, ProviderStep::RequestReceipt { group }].as_slice())
    );

    let check = |script: &Script, now: u64, expected: Option<u64>| {
        let from = presses_from(&script.job(), address(20), &TIMING, at(now));
        assert_eq!(from, expected.map(at), "at {now}");
    };
    check(&sealed(), 500, Some(545));
    check(&sealed(), 550, Some(545));
    check(&sealed(), 551, None);
    check(&sealed().abstained(0, 0), 500, None);
    let window = terms().windows.reveal_window.get();
    check(&sealed().committed(0, 0), 500, Some(545 + window));
    check(&revealing, 500, Some(595));
    check(&revealing, 601, None);
    check(&Script::opened(terms()).full(0, 1), 500, None);
}

fn ended() -> Script {
    let noticed = sealed()
        .event(JobEvent::CancelNoticed { grace_until: at(535) })
        .revealing(0, 555);
    let excused = [SeatStatus::Excused; 3];
    noticed
        .judged(0, GroupStatus::Refunded, excused, 0)
        .ended(0, GroupStatus::Refunded, excused)
}

#[test]
fn pods_go_when_the_final_block_says_that_they_are_for_nothing() {
    let lease = Lease::new().with_pods(&[(0, 1, PodPhase::Running), (1, 1, PodPhase::Succeeded)]);
    assert_eq!(lease.acts(&sealed(), 520), []);
    let abstained = sealed().abstained(0, 0);
    let both = |cause| [delete(0, cause), delete(1, cause)];
    assert_eq!(lease.acts(&abstained, 520), both(PodDeletion::Abstained));
    let unfinal = lease.plan(&sealed(), &abstained, 520);
    assert!(
        !unfinal
            .iter()
            .any(|step| matches!(step, ProviderStep::DeletePod { .. }))
    );
    let silent = sealed().revealing(0, 570);
    assert_eq!(lease.acts(&silent, 560), both(PodDeletion::TooLate));
    assert_eq!(lease.acts(&ended(), 560), both(PodDeletion::GroupOver));
    assert_eq!(Lease::new().acts(&ended(), 560), [ProviderStep::Finish]);
}

#[test]
fn what_the_buyer_leaves_undone_is_done_after_a_while() {
    let lease = Lease::new().with_results(0..2, SliceResult::Done);
    let judge = [ProviderStep::Judge { groups: groups() }];
    let silent = sealed().revealing(0, 570);
    assert_eq!(
        (lease.acts(&silent, 599), lease.acts(&silent, 600)),
        (vec![], judge.to_vec())
    );
    let all = sealed()
        .committed(0, 0)
        .committed(0, 1)
        .committed(0, 2)
        .revealing(0, 570);
    let shown = (0..3).fold(all, |script, seat| script.revealed(0, seat, 1, true));
    assert_eq!(lease.acts(&shown, 600), judge);
    let judged = shown.judged(0, GroupStatus::Agreed, [SeatStatus::Agreed; 3], 585);
    let settle = vec![ProviderStep::Settle { groups: groups() }];
    assert_eq!(
        (lease.acts(&judged, 614), lease.acts(&judged, 615)),
        (vec![], settle)
    );
    let open = Script::opened(terms()).full(0, 1);
    let close = vec![ProviderStep::CloseGroups { groups: groups() }];
    // Of a job that was never sealed nothing is known but what the chain says.
    let blind = Lease {
        pods: Knowledge::Unknown,
        materials: Knowledge::Unknown,
        ..Lease::new()
    };
    for lease in [lease, blind] {
        assert_eq!(
            (lease.acts(&open, 1_030), lease.acts(&open, 1_031)),
            (vec![], close.clone())
        );
    }
}
