//! The real contracts on a real node: a job from opening to its end, with a reorganisation of the block that opened it,
//! and deposits through a node that loses half of what is said.

use std::sync::Arc;
use std::time::Duration;

use tradewind_chain::calls::{self, Fill, Voucher};
use tradewind_chain::contracts::{self, Deployment};
use tradewind_chain::follower::{Follower, FollowerConfig, Logged, Update};
use tradewind_chain::read::{Parameters, Reader};
use tradewind_chain::sender::{
    Alert, Intent, IntentId, IntentState, MemoryJournal, Sender, SenderConfig, StepReport,
};
use tradewind_chain::{BlockTag, Call, LocalSigner, Node, Preimage, Signer, UnixMillis};
use tradewind_market::derivation::{self, CommitmentContext};
use tradewind_market::eip712::{Domain, StructHash};
use tradewind_market::event::{GroupStatus, JobEvent, LedgerEvent, MarketEvent, SeatStatus};
use tradewind_market::message::{Commit, CommitEntry, HexBytes, Receipt, Reveal, RevealEntry, SeatRef};
use tradewind_market::offer::{Bounds, Offer, Sale};
use tradewind_market::terms::{Content, Policy, Pricing, Redundancy, Shape, Terms, Windows};
use tradewind_market::{
    Address, BlockNumber, Bps, ClassId, GroupIndex, Hash32, JobId, JobNonce, Nonce, PricePerSlotSecond,
    RegionId, SeatIndex, Seconds, Slots, TokenAmount, Units, UnixSeconds, keccak256,
};

use super::anvil::{Anvil, CHAIN_ID, contracts, key};
use super::faulty::{Faults, FaultyJournal, FaultyNode, Rates};
use super::random::{Random, for_seeds};

const BUYER: usize = 1;
const PROVIDERS: [usize; 3] = [2, 3, 4];
const GATEWAY: usize = 5;
const CLASS: ClassId = ClassId::from_bytes([0xaa; 32]);
const GROUP: GroupIndex = GroupIndex::ZERO;

/// A market with a token on a fresh node, everyone supplied.
struct Scene {
    anvil: Anvil,
    node: Node,
    deployment: Deployment,
    token: Address,
    reader: Reader,
}

fn tokens(base_units: u128) -> TokenAmount {
    TokenAmount::from_base_units(base_units)
}

impl Scene {
    async fn new() -> Self {
        let anvil = Anvil::start();
        let node = anvil.node().await;
        let deployer = key(0);
        let parameters = Parameters {
            fee_bps: Bps::new(150),
            unbond_delay: Seconds::new(60),
        };
        let deployment = contracts::deploy_market(&node, deployer.as_ref(), &contracts(), &parameters)
            .await
            .unwrap();
        let token = contracts::deploy_lab_token(&node, deployer.as_ref(), &contracts())
            .await
            .unwrap();
        let reader = Reader::new(node.clone(), deployment.market);
        let scene = Self {
            anvil,
            node,
            deployment,
            token,
            reader,
        };
        assert_eq!(scene.reader.parameters(BlockTag::Latest).await, Ok(parameters));
        assert_eq!(
            scene.reader.domain_separator(BlockTag::Latest).await,
            Ok(scene.domain().separator())
        );
        for account in [BUYER].into_iter().chain(PROVIDERS) {
            let signer = key(account);
            let (market, plenty) = (scene.deployment.market, tokens(1_000_000));
            for call in [
                calls::mint(token, signer.address(), plenty),
                calls::approve(token, market, plenty),
            ] {
                contracts::send(&scene.node, signer.as_ref(), &call)
                    .await
                    .unwrap();
            }
        }
        scene
    }

    fn domain(&self) -> Domain {
        Domain {
            chain_id: CHAIN_ID,
            market: self.deployment.market,
        }
    }

    fn follower(&self) -> Follower<MarketEvent> {
        let config = FollowerConfig::new(vec![self.deployment.market], self.deployment.start);
        Follower::new(self.node.clone(), config)
    }

    fn sender(&self, account: usize) -> Sender {
        let config = sender_config(self.deployment.market);
        Sender::new(
            self.node.clone(),
            key(account),
            Arc::new(MemoryJournal::new()),
            config,
        )
    }

    async fn sign(&self, account: usize, message: &impl StructHash) -> tradewind_chain::Signature {
        key(account)
            .sign(&Preimage::message(&self.domain(), message))
            .await
            .unwrap()
    }

    async fn now(&self) -> UnixSeconds {
        self.node
            .header(BlockTag::Latest)
            .await
            .unwrap()
            .unwrap()
            .timestamp
    }
}

fn sender_config(market: Address) -> SenderConfig {
    SenderConfig {
        rebroadcast_after: Duration::ZERO,
        ..SenderConfig::new(market)
    }
}

fn intent(label: &str, call: Call, shareable: bool) -> Intent {
    Intent {
        id: IntentId::of_call(&call),
        label: label.to_owned(),
        call,
        shareable,
        gas_max: None,
    }
}

fn terms(token: Address, now: UnixSeconds) -> Terms {
    Terms {
        shape: Shape {
            units: Units::new(8),
            units_per_slice: Units::new(4),
            slices_per_group: 2,
            slots_per_seat: Slots::new(1),
            seconds_per_unit: Seconds::new(2),
            class_id: CLASS,
        },
        redundancy: Redundancy {
            policy: Policy::Quorum,
            quorum: 2,
            picked: 3,
            max_seats: 3,
            drawn: 0,
            max_rounds: 1,
            canary: false,
            entropy: 0,
            audit_floor_ppm: 0,
            collusion_bps: Bps::ZERO,
        },
        windows: Windows {
            open_until: UnixSeconds::new(now.get() + 1_000),
            commit_grace: Seconds::new(600),
            reveal_window: Seconds::new(600),
            appeal_window: Seconds::new(20),
            availability_window: Seconds::new(10),
            cancel_grace: Seconds::new(60),
            retention: Seconds::new(3_600),
        },
        pricing: Pricing {
            token,
            picked_cap: tokens(1_000),
            drawn_cap: TokenAmount::ZERO,
            bond_bps: Bps::new(15_000),
            no_show_bps: Bps::new(2_000),
            fee_bps: Bps::new(150),
            inconclusive_bps: Bps::new(5_000),
            unresolved_burn_bps: Bps::new(5_000),
        },
        content: Content {
            template_digest: keccak256(&[b"template"]),
            template_address: keccak256(&[b"stored template"]),
            key_commitment: keccak256(&[b"key"]),
            secrets_root: Hash32::ZERO,
            spot_checks_root: Hash32::ZERO,
            comparator: Hash32::ZERO,
            verifier: Address::ZERO,
        },
        gateways: vec![key(GATEWAY).address()],
    }
}

fn offer(provider: Address, token: Address) -> Offer {
    Offer {
        provider,
        allowed_buyer: Address::ZERO,
        token,
        class_id: CLASS,
        region: RegionId::ZERO,
        details: Hash32::ZERO,
        recipient: Hash32::ZERO,
        sale: Sale {
            series: 1,
            nonce: Nonce::new(1),
            valid_from: UnixSeconds::ZERO,
            valid_until: UnixSeconds::new(u64::from(u32::MAX)),
            price_per_slot_second: PricePerSlotSecond::from_base_units(50),
            slots: Slots::new(4),
            min_charge_bps: Bps::new(100),
        },
        bounds: Bounds {
            max_seconds_per_unit: Seconds::new(3_600),
            max_lock_seconds: Seconds::new(100_000),
            min_commit_grace: Seconds::new(1),
            min_reveal_window: Seconds::new(1),
            max_retention: Seconds::new(100_000),
            max_bond_bps: Bps::new(20_000),
            max_no_show_bps: Bps::new(5_000),
            min_inconclusive_bps: Bps::ZERO,
            policies: Policy::Quorum.bit(),
        },
        gateways: vec![key(GATEWAY).address()],
        verifiers: Vec::new(),
    }
}

/// The buyer's operator in small: a sender, and the followed events as a list.
struct Buyer {
    sender: Sender,
    follower: Follower<MarketEvent>,
    events: Vec<(BlockNumber, MarketEvent)>,
    unwound: usize,
    now: u64,
}

impl Buyer {
    fn new(scene: &Scene) -> Self {
        let (sender, follower) = (scene.sender(BUYER), scene.follower());
        Self {
            sender,
            follower,
            events: Vec::new(),
            unwound: 0,
            now: 0,
        }
    }

    async fn step(&mut self) -> StepReport {
        self.now += 1_000;
        let report = self.sender.step(UnixMillis::new(self.now)).await.unwrap();
        assert_eq!(report.alerts, []);
        report
    }

    async fn follow(&mut self) {
        let mut updates = Vec::new();
        while !self.follower.step(&mut updates).await.unwrap().caught_up {}
        for update in updates {
            match update {
                Update::Applied { block, events } => {
                    self.events.extend(
                        events
                            .into_iter()
                            .map(|Logged { event, .. }| (block.number, event)),
                    );
                }
                Update::Unwound { events, .. } => {
                    self.unwound += events.len();
                    self.events.truncate(self.events.len() - events.len());
                }
                Update::Finalized { .. } => {}
            }
        }
    }

    /// Asks for an intent, and makes blocks until it is final.
    async fn do_finally(&mut self, scene: &Scene, intents: Vec<Intent>) {
        let ids: Vec<IntentId> = intents.iter().map(|intent| intent.id).collect();
        for intent in intents {
            self.sender.submit(intent, BlockNumber::ZERO).unwrap();
        }
        let is_final =
            |sender: &Sender, id: &IntentId| matches!(sender.state(*id), Some(IntentState::Final { .. }));
        for _ in 0..8 {
            self.step().await;
            scene.anvil.mine(1).await;
        }
        for id in &ids {
            assert!(is_final(&self.sender, id), "{:?}", self.sender.state(*id));
        }
        self.follow().await;
    }

    fn job_events(&self, job: JobId) -> Vec<&JobEvent> {
        self.events
            .iter()
            .filter_map(|(_, event)| match event {
                MarketEvent::Job {
                    job: found, event, ..
                } if *found == job => Some(event),
                MarketEvent::Job { .. } | MarketEvent::Ledger(_) | MarketEvent::Notice(_) => None,
            })
            .collect()
    }
}

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

#[tokio::test]
async fn a_job_is_opened_through_a_reorganisation_judged_and_settled_once() {
    let scene = Scene::new().await;
    let opened = open_job(&scene).await;
    scene.anvil.mine(3).await;
    scene.anvil.automine(false).await;
    let mut buyer = Buyer::new(&scene);

    // The block that opens the job is replaced by an empty one, and the node forgets the transaction.
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
    buyer.do_finally(&scene, vec![opened.open.clone()]).await;
    let Some(IntentState::Final { tx, .. }) = buyer.sender.state(opened.open.id) else {
        unreachable!()
    };
    assert_eq!(tx, first_tx, "the same bytes were sent again");
    assert_eq!(buyer.job_events(opened.job).len(), first_count);

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
    let Some(IntentState::Refused(tradewind_chain::sender::Refusal::Reverts { data })) = state else {
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

/// Deposits that the contract would take twice if they came twice, so that nothing but the sender guards them.
async fn deposit_through_faults(seed: u64) {
    const DEPOSITS: u64 = 8;
    let scene = Scene::new().await;
    scene.anvil.mine(3).await;
    scene.anvil.automine(false).await;
    let mut random = Random::new(seed);
    let journal = Arc::new(MemoryJournal::new());
    let rates = Rates {
        dropped: 5,
        reply_lost: 8,
        doubled: 5,
        late: 15,
        stale: 0,
        journal: 5,
    };
    let start = |seed: u64| {
        let faults = Faults::new(seed, rates);
        let node = FaultyNode {
            inner: scene.anvil.transport.clone(),
            faults: faults.clone(),
        };
        let journal = FaultyJournal {
            inner: journal.clone(),
            faults: faults.clone(),
        };
        let config = sender_config(scene.deployment.market);
        let node = Node::assume_chain(Arc::new(node), CHAIN_ID);
        (
            Sender::new(node, key(BUYER) as Arc<LocalSigner>, Arc::new(journal), config),
            faults,
        )
    };
    let deposits: Vec<Intent> = (0..DEPOSITS)
        .map(|number| {
            let amount = tokens(1 << number);
            let call = calls::deposit(scene.deployment.market, scene.token, amount, Hash32::ZERO);
            intent("deposit", call, random.percent(50))
        })
        .collect();
    let mut follower = scene.follower();
    let mut events: Vec<MarketEvent> = Vec::new();
    let (mut sender, mut faults) = start(seed);
    for round in 0..60u64 {
        let calm = round >= 36;
        if calm {
            faults.stop();
        } else if random.percent(20) {
            (sender, faults) = start(random.next());
        } else if random.percent(10) {
            faults.dies_after(Some(random.below(30)));
        }
        follow(&mut follower, &mut events).await;
        let done: Vec<TokenAmount> = events
            .iter()
            .filter_map(|event| deposited(event, key(BUYER).address()))
            .collect();
        let head = scene
            .node
            .header(BlockTag::Latest)
            .await
            .unwrap()
            .unwrap()
            .id
            .number;
        for (number, intent) in (0u64..)
            .zip(&deposits)
            .take(usize::try_from(1 + round / 3).unwrap())
        {
            if !done.contains(&tokens(1 << number)) {
                sender.submit(intent.clone(), head).unwrap();
            }
        }
        let report = sender.step(UnixMillis::new(round * 1_000)).await;
        let alerts = report.map(|report| report.alerts).unwrap_or_default();
        assert!(
            !alerts
                .iter()
                .any(|alert| matches!(alert, Alert::ForeignNonce { .. })),
            "{alerts:?}"
        );
        if calm || random.percent(60) {
            scene.anvil.mine(1).await;
        }
        if !calm && random.percent(15) {
            scene.anvil.reorganise(1).await;
        }
    }
    follow(&mut follower, &mut events).await;
    let balance = scene
        .reader
        .balance_of(key(BUYER).address(), scene.token, BlockTag::Latest)
        .await;
    assert_eq!(balance, Ok(tokens((1 << DEPOSITS) - 1)), "each deposit once");
    let done: Vec<_> = events
        .iter()
        .filter_map(|event| deposited(event, key(BUYER).address()))
        .collect();
    assert_eq!(
        done.len(),
        deposits.len(),
        "and the follower saw each once: {done:?}"
    );
}

async fn follow(follower: &mut Follower<MarketEvent>, events: &mut Vec<MarketEvent>) {
    let mut updates = Vec::new();
    while !follower.step(&mut updates).await.unwrap().caught_up {}
    for update in updates {
        match update {
            Update::Applied { events: applied, .. } => {
                events.extend(applied.into_iter().map(|logged| logged.event));
            }
            Update::Unwound { events: undone, .. } => events.truncate(events.len() - undone.len()),
            Update::Finalized { .. } => {}
        }
    }
}

fn deposited(event: &MarketEvent, by: Address) -> Option<TokenAmount> {
    match event {
        MarketEvent::Ledger(LedgerEvent::Deposited { account, amount, .. }) if *account == by => {
            Some(*amount)
        }
        MarketEvent::Ledger(_) | MarketEvent::Job { .. } | MarketEvent::Notice(_) => None,
    }
}

#[test]
fn deposits_through_a_node_that_loses_what_is_said_are_made_once() {
    for_seeds(
        "deposits_through_a_node_that_loses_what_is_said_are_made_once",
        4,
        |seed| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(deposit_through_faults(seed));
        },
    );
}
