use super::*;
use crate::event::{GroupStatus, JobEvent, SeatStatus};
use crate::fixture::{Script, address, at, terms};
use crate::quantity::SeatIndex;
use crate::terms::Terms;

const AGREED: [SeatStatus; 3] = [SeatStatus::Agreed, SeatStatus::Agreed, SeatStatus::Dissent];

fn with_canary() -> Terms {
    let mut terms = terms();
    terms.redundancy.canary = true;
    terms
}

fn group(index: u32) -> GroupIndex {
    GroupIndex::new(index)
}

fn providers() -> BTreeSet<Address> {
    (20..23).map(address).collect()
}

#[derive(Debug, Clone)]
struct Note {
    provider: Address,
    deadline: UnixSeconds,
    sayings: Vec<(SeatRef, Saying)>,
}

impl Letter for Note {
    fn provider(&self) -> Address {
        self.provider
    }

    fn deadline(&self) -> UnixSeconds {
        self.deadline
    }

    fn sayings(&self) -> Vec<(SeatRef, Saying)> {
        self.sayings.clone()
    }
}

/// What a situation borrows.
struct Facts {
    desire: Desire,
    not_after: Option<UnixSeconds>,
    finalized: Option<Script>,
    bundled: Option<BTreeSet<Address>>,
    messages: BTreeMap<Hash32, Note>,
    delivered: Option<UnitSet>,
}

/// A plan for a job whose newest block is final, whose keys are published and whose results are delivered.
fn plan(script: &Script, now: u64, change: impl FnOnce(&mut Facts)) -> Vec<Step> {
    let mut facts = Facts {
        desire: Desire::Run,
        not_after: None,
        finalized: Some(script.clone()),
        bundled: Some(providers()),
        messages: BTreeMap::new(),
        delivered: Some("0-4".parse().unwrap()),
    };
    change(&mut facts);
    consumer_plan(&Situation {
        desire: facts.desire,
        not_after: facts.not_after,
        head: script.job(),
        finalized: facts.finalized.as_ref().map(Script::job),
        bundled: facts.bundled.as_ref(),
        messages: &facts.messages,
        delivered: facts.delivered.as_ref(),
        now: at(now),
    })
}

fn as_is(_: &mut Facts) {}

#[test]
fn groups_that_lack_seats_are_sought_for_and_full_ones_sealed() {
    let script = Script::opened(terms()).full(0, 1).filled(0, 1, 1);
    let want = |index, seats, seated: &[u8]| Want {
        group: group(index),
        seats,
        seated: seated.iter().copied().map(address).collect(),
    };
    let seek = Step::Seek(vec![want(1, 2, &[20]), want(2, 3, &[])]);
    assert_eq!(
        plan(&script, 500, as_is),
        [
            Step::Seal {
                first: group(0),
                groups: 1
            },
            seek
        ]
    );
    assert_eq!(plan(&script, 500, |now| now.desire = Desire::Suspend), []);
    assert_eq!(plan(&script, 1_000, as_is).len(), 2, "the last second is in time");
    assert_eq!(
        plan(&script, 1_001, as_is),
        [Step::Close(vec![group(0), group(1), group(2)])]
    );
}

#[test]
fn a_canary_goes_ahead_and_the_rest_follows_or_is_cancelled() {
    let script = Script::opened(with_canary()).full(0, 3);
    assert_eq!(
        plan(&script, 500, as_is),
        [Step::Seal {
            first: group(0),
            groups: 1
        }]
    );
    let revealed = script
        .sealed(0, 1, 550)
        .committed(0, 0)
        .committed(0, 1)
        .committed(0, 2)
        .revealing(0, 600)
        .revealed(0, 0, 1, true)
        .revealed(0, 1, 1, true);
    assert_eq!(
        plan(&revealed, 560, as_is),
        [],
        "nothing is risked while the first group runs"
    );
    let agreed = revealed
        .clone()
        .revealed(0, 2, 2, true)
        .judged(0, GroupStatus::Agreed, AGREED, 650);
    assert_eq!(
        plan(&agreed, 610, as_is),
        [Step::Seal {
            first: group(1),
            groups: 2
        }]
    );
    let seats = [
        SeatStatus::Unresolved,
        SeatStatus::Unresolved,
        SeatStatus::Dissent,
    ];
    let contested = revealed.judged(0, GroupStatus::Contested, seats, 650);
    assert_eq!(plan(&contested, 610, as_is), [Step::Cancel(CancelCause::Canary)]);
}

#[test]
fn notice_is_given_once_and_then_what_was_not_sealed_is_closed() {
    let script = Script::opened(terms()).full(0, 3).sealed(0, 2, 550);
    assert_eq!(
        plan(&script, 510, |now| now.desire = Desire::Cancel),
        [Step::Cancel(CancelCause::Asked)]
    );
    let late = plan(&script, 510, |now| now.not_after = Some(at(509)));
    assert_eq!(late, [Step::Cancel(CancelCause::Deadline)]);
    let noticed = script.event(JobEvent::CancelNoticed { grace_until: at(535) });
    assert_eq!(
        plan(&noticed, 511, |now| now.desire = Desire::Cancel),
        [Step::Close(vec![group(2)])]
    );
    // Nobody committed: at the end of the grace there is nothing to wait for.
    assert_eq!(plan(&noticed, 535, as_is), [Step::Close(vec![group(2)])]);
    let after = [Step::Judge(vec![group(0), group(1)]), Step::Close(vec![group(2)])];
    assert_eq!(plan(&noticed, 536, as_is), after);
}

#[test]
fn keys_go_to_final_seats_only() {
    let none = BTreeSet::new();
    let awarded = Script::opened(terms()).full(0, 3).sealed(0, 3, 550);
    let published = [Step::PublishBundle(providers())];
    assert_eq!(
        plan(&awarded, 510, |now| now.bundled = Some(none.clone())),
        published
    );
    assert_eq!(plan(&awarded, 510, |now| now.bundled = None), published);
    assert_eq!(plan(&awarded, 510, as_is), []);
    let not_final = plan(&awarded, 510, |now| (now.bundled, now.finalized) = (None, None));
    assert_eq!(not_final, []);
}

#[test]
fn only_messages_that_change_something_are_carried() {
    let letter = |seat: u8, saying| Note {
        provider: address(20 + seat),
        deadline: at(590),
        sayings: vec![(
            SeatRef {
                group: group(0),
                round: 0,
                seat: SeatIndex::new(seat),
            },
            saying,
        )],
    };
    let bare = Saying::Reveals { with_receipt: false };
    let full = Saying::Reveals { with_receipt: true };
    let mut strangers = letter(0, Saying::Speaks);
    strangers.provider = address(21);
    let id = |number: u8| Hash32::from_bytes([number; 32]);
    let messages = BTreeMap::from([
        (id(0), letter(0, Saying::Speaks)),
        (id(1), letter(1, Saying::Speaks)),
        (id(2), letter(0, bare)),
        (id(3), letter(1, bare)),
        (id(4), letter(1, full)),
        (id(5), strangers),
    ]);
    let check = |script: &Script, now: u64, expected: &[u8]| {
        let carried = plan(script, now, |situation| situation.messages.clone_from(&messages))
            .into_iter()
            .find_map(|step| {
                if let Step::Relay(ids) = step {
                    Some(ids)
                } else {
                    None
                }
            });
        let expected: Vec<_> = expected.iter().copied().map(id).collect();
        assert_eq!(carried.unwrap_or_default(), expected, "at {now}");
    };
    let script = Script::opened(terms()).full(0, 1).sealed(0, 1, 550);
    check(&script, 550, &[0, 1]);
    let one = script.committed(0, 0);
    check(&one, 550, &[1]);
    check(&one, 551, &[2]);
    let revealing = one.committed(0, 1).abstained(0, 2).revealing(0, 600);
    check(&revealing, 560, &[2, 3, 4]);
    check(&revealing, 591, &[]);
    check(&revealing.clone().revealed(0, 1, 1, false), 560, &[2, 4]);
    check(
        &revealing.revealed(0, 0, 1, true).revealed(0, 1, 1, true),
        560,
        &[],
    );
}

#[test]
fn judging_waits_for_openings_and_receipts_as_long_as_they_can_come() {
    let script = Script::opened(terms())
        .full(0, 1)
        .sealed(0, 1, 550)
        .committed(0, 0)
        .committed(0, 1)
        .abstained(0, 2);
    let judge = [Step::Judge(vec![group(0)])];
    let is_judged = |script: &Script, now: u64| {
        plan(script, now, |situation| situation.desire = Desire::Suspend) == judge
    };
    let revealing = script.revealing(0, 600);
    let bare = revealing.clone().revealed(0, 0, 1, true).revealed(0, 1, 1, false);
    assert!(!is_judged(&revealing, 600) && is_judged(&revealing, 601));
    assert!(!is_judged(&bare, 600) && is_judged(&bare, 601));
    assert!(is_judged(
        &revealing.revealed(0, 0, 1, true).revealed(0, 1, 1, true),
        560
    ));
    // Nobody said that the commit deadline is over: the window counts from it all the same.
    let silent = Script::opened(terms())
        .full(0, 1)
        .sealed(0, 1, 550)
        .committed(0, 0);
    assert!(!is_judged(&silent, 570) && is_judged(&silent, 571));
    let empty = Script::opened(terms()).full(0, 1).sealed(0, 1, 550);
    assert!(!is_judged(&empty, 550) && is_judged(&empty, 551));
}

#[test]
fn agreed_groups_are_fetched_settled_and_end_the_job() {
    let none = UnitSet::new();
    let mut script = Script::opened(terms()).full(0, 3).sealed(0, 3, 550);
    for group in 0..3 {
        script = (0..3)
            .fold(script, |script, seat| script.committed(group, seat))
            .revealing(group, 600);
        script = (0..3).fold(script, |script, seat| {
            script.revealed(group, seat, 1 + seat / 2, seat != 1)
        });
        let seats = [SeatStatus::Agreed, SeatStatus::Unstored, SeatStatus::Dissent];
        script = script.judged(group, GroupStatus::Agreed, seats, 650);
    }
    let fetch = |index| Step::Fetch {
        group: group(index),
        providers: vec![address(20)],
    };
    let some: UnitSet = "0-1".parse().unwrap();
    assert_eq!(
        plan(&script, 610, |now| now.delivered = Some(some)),
        [fetch(1), fetch(2)]
    );
    assert_eq!(plan(&script, 610, |now| now.delivered = None), []);
    assert_eq!(
        plan(&script, 650, as_is),
        [Step::Settle(vec![group(0), group(1), group(2)])]
    );
    for group in 0..3 {
        let seats = [SeatStatus::Agreed, SeatStatus::Unstored, SeatStatus::Dissent];
        script = script.ended(group, GroupStatus::Credited, seats);
    }
    let ended = script.clone().event(JobEvent::Ended {
        refunded: script.job().escrow,
    });
    assert_eq!(plan(&ended, 660, as_is), [Step::Finish(End::Complete)]);
    assert_eq!(
        plan(&ended, 660, |now| now.finalized = Some(script.clone())),
        [],
        "the end is not final"
    );
    let fetches = plan(&ended, 660, |now| now.delivered = Some(none.clone()));
    assert_eq!(
        fetches,
        [fetch(0), fetch(1), fetch(2)],
        "a job is not over before its results are there"
    );
}

#[test]
fn a_job_that_lost_groups_says_how_many() {
    let noticed = Script::opened(terms())
        .full(0, 3)
        .event(JobEvent::CancelNoticed { grace_until: at(535) });
    let excused = [SeatStatus::Excused; 3];
    let closed = (0..3).fold(noticed, |script, group| {
        script.ended(group, GroupStatus::Refunded, excused)
    });
    let ended = closed.clone().event(JobEvent::Ended {
        refunded: closed.job().escrow,
    });
    assert_eq!(
        plan(&ended, 540, as_is),
        [Step::Finish(End::Incomplete { groups: 3 })]
    );
}
