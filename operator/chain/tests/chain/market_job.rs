//! A job from opening to its end: the block that opened it is reorganised away, three seats commit and reveal, one
//! differs, the other two are paid.

use tradewind_chain::calls::{self, Fill, Voucher};
use tradewind_chain::sender::{Intent, IntentState, Refusal};
use tradewind_chain::{BlockTag, Signer, contracts};
use tradewind_market::derivation::{self, CommitmentContext};
use tradewind_market::eip712::StructHash;
use tradewind_market::event::{GroupStatus, JobEvent, SeatStatus};
use tradewind_market::message::{Commit, CommitEntry, HexBytes, Receipt, Reveal, RevealEntry, SeatRef};
use tradewind_market::{BlockNumber, Hash32, JobId, JobNonce, SeatIndex, UnixSeconds, keccak256};

use super::anvil::key;
use super::scene::{BUYER, Buyer, GATEWAY, GROUP, PROVIDERS, Scene, intent, offer, terms, tokens};

/// What each provider computed: the third differs.
fn root_of(provider: usize) -> Hash32 {
    keccak256(&[if provider == PROVIDERS[2] {
        b"wrong"
    } else {
        b"right"
    }])
}

fn seat(number: usize) -> SeatRef {
    SeatRef {
        group: GROUP,
        round: 0,
        seat: SeatIndex::new(u8::try_from(number).unwrap()),
    }
}

struct Opened {
    job: JobId,
    open: Intent,
    terms_hash: Hash32,
}

async fn open_job(scene: &Scene) -> Opened {
    let market = scene.deployment.market;
    for provider in PROVIDERS {
        let signer = key(provider);
        let calls = [
            calls::deposit(market, scene.token, tokens(50_000), Hash32::ZERO),
            calls::post_bond(market, scene.token, tokens(40_000), Hash32::ZERO),
        ];
        contracts::send(&scene.node, signer.as_ref(), &calls::multicall(market, &calls))
            .await
            .unwrap();
    }
    let terms = terms(scene.token, scene.now().await);
    let mut fills = Vec::new();
    for provider in PROVIDERS {
        let offer = offer(key(provider).address(), scene.token);
        let signature = HexBytes(scene.sign(provider, &offer).await.as_bytes().to_vec());
        fills.push(Fill {
            offer,
            signature,
            first_group: GROUP,
            groups: 1,
        });
    }
    let nonce = JobNonce::from(keccak256(&[b"job"]));
    let job = derivation::job_id(&scene.domain(), key(BUYER).address(), nonce);
    let open = calls::open_job(market, nonce, &terms, tokens(5_000), &fills).unwrap();
    let open = calls::multicall(market, &[open, calls::seal(market, job, GROUP, 1)]);
    Opened {
        job,
        open: intent("open", open, false),
        terms_hash: terms.struct_hash(),
    }
}

/// Commitments and openings of all seats, each signed by its provider, to be carried by the buyer.
async fn messages(scene: &Scene, opened: &Opened) -> (Vec<Intent>, Vec<Intent>) {
    let market = scene.deployment.market;
    let round = scene
        .reader
        .round_id_of(opened.job, GROUP, 0, BlockTag::Latest)
        .await
        .unwrap();
    let until = UnixSeconds::new(scene.now().await.get() + 50_000);
    let (mut commits, mut reveals) = (Vec::new(), Vec::new());
    for (number, account) in PROVIDERS.into_iter().enumerate() {
        let provider = key(account).address();
        let context = CommitmentContext {
            domain_separator: scene.domain().separator(),
            job: opened.job,
            terms_hash: opened.terms_hash,
            round,
            provider,
        };
        let (root_a, salt_a) = (root_of(account), keccak256(&[b"salt", provider.as_bytes()]));
        let hash_b = derivation::hash_b(round, provider, root_of(account), salt_a);
        let commitment = derivation::commitment(&context, root_a, salt_a, hash_b);
        let entries = vec![CommitEntry {
            seat: seat(number),
            commitment,
        }];
        let commit = Commit {
            provider,
            job_id: opened.job,
            deadline: until,
            entries,
        };
        let voucher = Voucher::Signed(scene.sign(account, &commit).await);
        commits.push(intent("commit", calls::commit(market, &commit, &voucher), true));

        let (gateway, stored_root, size) = (key(GATEWAY).address(), keccak256(&[b"stored"]), 17);
        let receipt = Receipt {
            gateway,
            round_id: round,
            provider,
            stored_root,
            size,
            until,
        };
        let receipt = HexBytes(scene.sign(GATEWAY, &receipt).await.as_bytes().to_vec());
        let seat = seat(number);
        let entries = vec![RevealEntry {
            seat,
            root_a,
            salt_a,
            hash_b,
            gateway,
            stored_root,
            size,
            until,
            receipt,
        }];
        let reveal = Reveal {
            provider,
            job_id: opened.job,
            deadline: until,
            entries,
        };
        let voucher = Voucher::Signed(scene.sign(account, &reveal).await);
        reveals.push(intent("reveal", calls::reveal(market, &reveal, &voucher), true));
    }
    (commits, reveals)
}

/// The block that opens the job is replaced by an empty one, and the node forgets the transaction.
async fn open_through_a_reorganisation(scene: &Scene, buyer: &mut Buyer, opened: &Opened) {
    buyer
        .sender
        .submit(opened.open.clone(), BlockNumber::ZERO)
        .unwrap();
    buyer.step().await;
    scene.anvil.mine(1).await;
    buyer.step().await;
    buyer.follow().await;
    let Some(IntentState::Included { tx: first_tx, .. }) = buyer.sender.state(opened.open.id) else {
        panic!("{:?}", buyer.sender.state(opened.open.id));
    };
    let first_count = buyer.job_events(opened.job).len();
    assert!(matches!(buyer.job_events(opened.job)[0], JobEvent::Opened { .. }));
    scene.anvil.reorganise(1).await;
    buyer.follow().await;
    assert_eq!(
        buyer.job_events(opened.job),
        Vec::<&JobEvent>::new(),
        "the job is undone"
    );
    assert!(buyer.unwound >= first_count);
    buyer.do_finally(scene, vec![opened.open.clone()]).await;
    let Some(IntentState::Final { tx, .. }) = buyer.sender.state(opened.open.id) else {
        unreachable!()
    };
    assert_eq!(tx, first_tx, "the same bytes were sent again");
    assert_eq!(buyer.job_events(opened.job).len(), first_count);
}

async fn check_the_end(scene: &Scene, buyer: &Buyer, opened: &Opened) {
    let group = scene
        .reader
        .group_of(opened.job, GROUP, BlockTag::Finalized)
        .await
        .unwrap();
    assert_eq!(group.state, GroupStatus::Credited);
    // 8 units at 2 s at 50 a slot-second: 800 a seat, 12 of fee.
    let balance = |account: usize| {
        scene
            .reader
            .balance_of(key(account).address(), scene.token, BlockTag::Finalized)
    };
    assert_eq!(balance(PROVIDERS[0]).await, Ok(tokens(10_800)));
    assert_eq!(balance(PROVIDERS[1]).await, Ok(tokens(10_800)));
    assert_eq!(
        balance(PROVIDERS[2]).await,
        Ok(tokens(10_000)),
        "who differs is not paid"
    );
    assert_eq!(balance(BUYER).await, Ok(tokens(5_000 - 2 * 812)));
    let third = scene
        .reader
        .seat_of(opened.job, GROUP, SeatIndex::new(2), BlockTag::Finalized)
        .await
        .unwrap();
    assert_eq!(third.map(|seat| seat.state), Some(SeatStatus::Dissent));

    let job = scene
        .reader
        .job_of(opened.job, BlockTag::Finalized)
        .await
        .unwrap()
        .unwrap();
    let events = buyer.job_events(opened.job);
    assert_eq!(
        events.len(),
        usize::try_from(job.sequence).unwrap(),
        "the follower has every event of the job"
    );
    assert!(
        matches!(events.last(), Some(JobEvent::Ended { refunded }) if *refunded == tokens(5_000 - 2 * 812))
    );
}

#[tokio::test]
async fn a_job_is_opened_through_a_reorganisation_judged_and_settled_once() {
    let scene = Scene::new().await;
    let opened = open_job(&scene).await;
    scene.anvil.mine(3).await;
    scene.anvil.automine(false).await;
    let mut buyer = Buyer::new(&scene);
    open_through_a_reorganisation(&scene, &mut buyer, &opened).await;

    let before = scene
        .node
        .nonce(key(BUYER).address(), BlockTag::Latest)
        .await
        .unwrap();
    let (commits, reveals) = messages(&scene, &opened).await;
    buyer.do_finally(&scene, commits).await;
    buyer.do_finally(&scene, reveals).await;
    let after = scene
        .node
        .nonce(key(BUYER).address(), BlockTag::Latest)
        .await
        .unwrap();
    assert_eq!(
        after.get() - before.get(),
        2,
        "three messages share a transaction"
    );
    let market = scene.deployment.market;
    buyer
        .do_finally(
            &scene,
            vec![intent("judge", calls::judge(market, opened.job, &[GROUP]), true)],
        )
        .await;
    scene.anvil.pass_time(30).await;
    buyer
        .do_finally(
            &scene,
            vec![intent(
                "settle",
                calls::settle(market, opened.job, &[GROUP]),
                true,
            )],
        )
        .await;
    check_the_end(&scene, &buyer, &opened).await;
}

#[tokio::test]
async fn what_would_revert_is_refused_with_the_contracts_reason_and_no_nonce_is_used() {
    let scene = Scene::new().await;
    let mut buyer = Buyer::new(&scene);
    let market = scene.deployment.market;
    let unknown = JobId::from(keccak256(&[b"no such job"]));
    let hopeless = intent("cancel", calls::cancel_job(market, unknown), true);
    let deposit = intent(
        "deposit",
        calls::deposit(market, scene.token, tokens(7), keccak256(&[b"once"])),
        true,
    );
    buyer.sender.submit(hopeless.clone(), BlockNumber::ZERO).unwrap();
    let before = scene
        .node
        .nonce(key(BUYER).address(), BlockTag::Latest)
        .await
        .unwrap();
    buyer.do_finally(&scene, vec![deposit]).await;
    let state = buyer.sender.state(hopeless.id);
    let Some(IntentState::Refused(Refusal::Reverts { data })) = state else {
        panic!("{state:?}");
    };
    assert!(
        calls::describe_revert(&data).starts_with("JobUnknown(0x"),
        "{}",
        calls::describe_revert(&data)
    );
    let after = scene
        .node
        .nonce(key(BUYER).address(), BlockTag::Latest)
        .await
        .unwrap();
    assert_eq!(after.get(), before.get() + 1);
}
