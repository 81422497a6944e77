//! One intent, one effect: the sender between a faulty node, a faulty journal and a chain that reorganises, over
//! seeded random schedules, with processes that die at any request.

use std::collections::BTreeMap;
use std::sync::Arc;

use tradewind_chain::sender::{
    AccountRef, Alert, FeePolicy, Intent, IntentId, Journal, MemoryJournal, Record, Sender, SenderConfig,
};
use tradewind_chain::{AccountNonce, LocalSigner, Node, Signer, UnixMillis};
use tradewind_market::{BlockNumber, Hash32};

use super::faulty::{Faults, FaultyJournal, FaultyNode, Rates};
use super::random::{Random, for_seeds};
use super::simulated::{CHAIN_ID, CONTRACT, Id, SimulatedChain};

const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
const ROUNDS: u64 = 60;
const INTENTS: u64 = 12;
/// How long everything may take to end once nothing goes wrong any more.
const CALM_ROUNDS: u64 = 60;

struct Schedule {
    leaders: usize,
    rates: Rates,
    /// Whether the contract refuses what it did before. Two leaders, or a node that answers from the past, may put one
    /// intent into two transactions; the effect is then the contract's to guard.
    once_only: bool,
}

struct World {
    chain: Arc<SimulatedChain>,
    journal: Arc<MemoryJournal>,
    signer: Arc<LocalSigner>,
    leaders: Vec<(Faults, Sender)>,
    now: u64,
    /// Shows every step when one seed is replayed.
    verbose: bool,
}

fn ids() -> Vec<Id> {
    (0..INTENTS)
        .map(|number| ethers::utils::keccak256(number.to_be_bytes()))
        .collect()
}

fn intent(id: &Id) -> Intent {
    let call = SimulatedChain::call(id);
    let label = format!("effect {}", hex::encode(&id[..4]));
    Intent {
        id: IntentId::new(Hash32::from_bytes(*id)),
        label,
        call,
        shareable: !id[0].is_multiple_of(3),
        gas_max: None,
    }
}

fn config() -> SenderConfig {
    SenderConfig {
        in_flight_max: 4,
        replace_after_blocks: 2,
        fees: FeePolicy::default(),
        ..SenderConfig::new(CONTRACT)
    }
}

impl World {
    fn new(once_only: bool) -> Self {
        let signer = Arc::new(LocalSigner::from_hex(KEY).unwrap());
        let chain = Arc::new(SimulatedChain::new(signer.address(), once_only));
        Self {
            chain,
            journal: Arc::new(MemoryJournal::new()),
            signer,
            leaders: Vec::new(),
            now: 1_000_000,
            verbose: std::env::var("TRADEWIND_SEED").is_ok(),
        }
    }

    fn start_leader(&self, seed: u64, rates: Rates) -> (Faults, Sender) {
        let faults = Faults::new(seed, rates);
        let node = FaultyNode {
            inner: self.chain.clone(),
            faults: faults.clone(),
        };
        let journal = FaultyJournal {
            inner: self.journal.clone(),
            faults: faults.clone(),
        };
        let node = Node::assume_chain(Arc::new(node), CHAIN_ID);
        (
            faults,
            Sender::new(node, self.signer.clone(), Arc::new(journal), config()),
        )
    }

    /// What an operator does all the time: whatever is not done on chain is asked for.
    fn reconcile(&self, leader: usize, wanted: &[Id]) {
        let effects = self.chain.effects();
        let seen = BlockNumber::new(self.chain.head());
        for id in wanted {
            if !effects.iter().any(|(_, _, done)| done == id) {
                self.leaders[leader].1.submit(intent(id), seen).unwrap();
            }
        }
    }

    async fn step(&mut self, leader: usize) -> Vec<Alert> {
        self.now += 5_000;
        let report = self.leaders[leader].1.step(UnixMillis::new(self.now)).await;
        if self.verbose {
            eprintln!("{} {report:?}", self.chain.head());
        }
        report.map(|report| report.alerts).unwrap_or_default()
    }

    fn disturb(&self, random: &mut Random) {
        match random.below(10) {
            0 => self.chain.reorganise(1 + random.below(3), random.percent(50)),
            1 => self.chain.forget_pool(),
            2 => self
                .chain
                .set_base_fee(1_000_000_000 * (1 + u128::from(random.below(12)))),
            _ => {}
        }
        for _ in 0..random.below(3) {
            self.chain.mine(usize::try_from(random.below(4)).unwrap());
        }
    }

    async fn journaled(&self) -> usize {
        let account = AccountRef {
            chain_id: CHAIN_ID,
            account: self.signer.address(),
        };
        self.journal.list(account).await.unwrap().len()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

async fn run(seed: u64, schedule: &Schedule) {
    let mut random = Random::new(seed);
    let mut world = World::new(schedule.once_only);
    for leader in 0..schedule.leaders {
        let leader = world.start_leader(seed ^ (leader as u64) << 32, schedule.rates);
        world.leaders.push(leader);
    }
    let wanted = ids();
    for round in 0..ROUNDS {
        world.disturb(&mut random);
        let leader = usize::try_from(random.below(schedule.leaders as u64)).unwrap();
        if random.percent(15) {
            // Dies somewhere within its step, and comes back knowing nothing.
            world.leaders[leader].0.dies_after(Some(random.below(40)));
        }
        let so_far = usize::try_from(1 + round * INTENTS / ROUNDS).unwrap();
        world.reconcile(leader, &wanted[..so_far]);
        let alerts = world.step(leader).await;
        if schedule.rates.stale == 0 {
            let foreign = alerts
                .iter()
                .find(|alert| matches!(alert, Alert::ForeignNonce { .. }));
            assert_eq!(foreign, None, "round {round}");
        }
        if random.percent(15) {
            world.leaders[leader] = world.start_leader(random.next(), schedule.rates);
        }
    }
    settle(&mut world, &wanted).await;
    audit(&world, &wanted, schedule).await;
}

/// Nothing goes wrong any more: everything wanted must be done, and every record but one be gone.
async fn settle(world: &mut World, wanted: &[Id]) {
    world.chain.set_base_fee(1_000_000_000);
    for leader in 0..world.leaders.len() {
        world.leaders[leader].0.stop();
    }
    for _ in 0..CALM_ROUNDS {
        for leader in 0..world.leaders.len() {
            world.reconcile(leader, wanted);
            let alerts = world.step(leader).await;
            let foreign = alerts
                .iter()
                .find(|alert| matches!(alert, Alert::ForeignNonce { .. }));
            assert_eq!(foreign, None, "in the calm");
        }
        world.chain.mine(3);
    }
}

async fn audit(world: &World, wanted: &[Id], schedule: &Schedule) {
    let mut effects: BTreeMap<Id, usize> = BTreeMap::new();
    for (_, _, id) in world.chain.effects() {
        *effects.entry(id).or_default() += 1;
    }
    let expected: BTreeMap<Id, usize> = wanted.iter().map(|id| (*id, 1)).collect();
    assert_eq!(effects, expected, "each intent takes effect exactly once");
    assert_eq!(world.journaled().await, 1, "only the high-water mark is left");
    if schedule.leaders == 1 && schedule.rates.stale == 0 {
        let transactions = world.chain.transactions();
        assert!(
            transactions <= INTENTS,
            "{transactions} transactions for {INTENTS} intents: some were wasted"
        );
    }
}

#[test]
fn one_leader_pays_once_though_the_contract_would_pay_twice() {
    let rates = Rates {
        dropped: 4,
        reply_lost: 6,
        doubled: 4,
        late: 10,
        stale: 0,
        journal: 4,
    };
    let schedule = Schedule {
        leaders: 1,
        rates,
        once_only: false,
    };
    for_seeds(
        "one_leader_pays_once_though_the_contract_would_pay_twice",
        30,
        |seed| block_on(run(seed, &schedule)),
    );
}

#[test]
fn two_leaders_and_a_node_that_lives_in_the_past_cause_each_effect_once() {
    let rates = Rates {
        dropped: 3,
        reply_lost: 5,
        doubled: 3,
        late: 8,
        stale: 10,
        journal: 3,
    };
    let schedule = Schedule {
        leaders: 2,
        rates,
        once_only: true,
    };
    for_seeds(
        "two_leaders_and_a_node_that_lives_in_the_past_cause_each_effect_once",
        30,
        |seed| {
            block_on(run(seed, &schedule));
        },
    );
}

/// One sender without faults on a chain that makes a block after each step.
struct Quiet {
    world: World,
}

impl Quiet {
    fn new() -> Self {
        let mut world = World::new(true);
        let leader = world.start_leader(0, Rates::default());
        world.leaders.push(leader);
        Self { world }
    }

    fn replace_sender(&mut self, journal: Arc<MemoryJournal>, config: SenderConfig) {
        self.world.journal = journal;
        let node = Node::assume_chain(self.world.chain.clone(), CHAIN_ID);
        let sender = Sender::new(
            node,
            self.world.signer.clone(),
            self.world.journal.clone(),
            config,
        );
        self.world.leaders[0].1 = sender;
    }

    async fn run(&mut self, rounds: usize) -> Vec<Alert> {
        let mut alerts = Vec::new();
        for _ in 0..rounds {
            alerts = self.world.step(0).await;
            self.world.chain.mine(3);
        }
        alerts
    }

    async fn records(&self) -> Vec<Record> {
        let account = AccountRef {
            chain_id: CHAIN_ID,
            account: self.world.signer.address(),
        };
        self.world
            .journal
            .list(account)
            .await
            .unwrap()
            .into_iter()
            .map(|entry| entry.record)
            .collect()
    }

    fn effects(&self) -> Vec<Id> {
        self.world
            .chain
            .effects()
            .into_iter()
            .map(|(_, _, id)| id)
            .collect()
    }
}

async fn journal_of(records: &[Record]) -> Arc<MemoryJournal> {
    let journal = Arc::new(MemoryJournal::new());
    for record in records {
        journal.claim(record).await.unwrap();
    }
    journal
}

#[test]
fn an_observer_signs_sends_and_writes_nothing() {
    block_on(async {
        let mut quiet = Quiet::new();
        let journal = quiet.world.journal.clone();
        quiet.replace_sender(
            journal,
            SenderConfig {
                observe_only: true,
                ..config()
            },
        );
        quiet.world.reconcile(0, &ids());
        quiet.run(8).await;
        assert_eq!((quiet.effects().len(), quiet.records().await.len()), (0, 0));
        assert_eq!(quiet.world.chain.transactions(), 0);
    });
}

#[test]
fn a_nonce_used_by_another_program_stops_the_sender_until_a_person_adopts_it() {
    block_on(async {
        let mut quiet = Quiet::new();
        let wanted = ids();
        quiet.world.reconcile(0, &wanted[..1]);
        quiet.run(8).await;
        assert_eq!(quiet.effects(), wanted[..1]);
        // The same key in another place, with a journal of its own.
        let ours = quiet.world.journal.clone();
        quiet.replace_sender(Arc::new(MemoryJournal::new()), config());
        quiet.world.reconcile(0, &wanted[..2]);
        quiet.run(8).await;
        let foreign = Alert::ForeignNonce {
            nonce: AccountNonce::new(1),
        };

        quiet.replace_sender(ours.clone(), config());
        quiet.world.reconcile(0, &wanted);
        assert_eq!(quiet.run(8).await, [foreign]);
        assert_eq!(quiet.effects(), wanted[..2], "nothing is sent");
        let adopted = Some(AccountNonce::new(2));
        quiet.replace_sender(
            ours,
            SenderConfig {
                adopt_nonces_below: adopted,
                ..config()
            },
        );
        quiet.world.reconcile(0, &wanted);
        assert_eq!(quiet.run(12).await, []);
        assert_eq!(quiet.effects().len(), wanted.len());
    });
}

#[test]
fn a_journal_restored_from_a_backup_loses_and_repeats_nothing() {
    block_on(async {
        let mut quiet = Quiet::new();
        let wanted = ids();
        quiet.world.reconcile(0, &wanted[..1]);
        quiet.world.step(0).await;
        // The backup holds a transaction that was signed and not yet in a block.
        let backup = quiet.records().await;
        assert_eq!(backup.len(), 1);
        quiet.run(4).await;
        quiet.world.reconcile(0, &wanted[..6]);
        quiet.run(10).await;
        let used = quiet.world.chain.transactions();

        quiet.replace_sender(journal_of(&backup).await, config());
        quiet.world.reconcile(0, &wanted);
        let first_lost = Alert::ForeignNonce {
            nonce: AccountNonce::new(1),
        };
        assert_eq!(quiet.run(4).await, [first_lost]);
        assert_eq!(
            quiet.world.chain.transactions(),
            used,
            "nothing is sent before a person looked"
        );
        let adopted = Some(AccountNonce::new(used));
        quiet.replace_sender(
            journal_of(&backup).await,
            SenderConfig {
                adopt_nonces_below: adopted,
                ..config()
            },
        );
        quiet.world.reconcile(0, &wanted);
        assert_eq!(quiet.run(14).await, []);
        let mut effects = quiet.effects();
        effects.sort_unstable();
        let mut expected = wanted.clone();
        expected.sort_unstable();
        assert_eq!(effects, expected, "each once");
    });
}

#[test]
fn a_lost_record_leaves_a_hole_that_is_filled() {
    block_on(async {
        let mut quiet = Quiet::new();
        let unshared = ids()
            .into_iter()
            .filter(|id| id[0].is_multiple_of(3))
            .take(3)
            .collect::<Vec<_>>();
        quiet.world.reconcile(0, &unshared);
        quiet.world.step(0).await;
        let mut records = quiet.records().await;
        assert_eq!(records.len(), 3);
        quiet.world.chain.forget_pool();
        let lost = records.remove(1);
        quiet.replace_sender(journal_of(&records).await, config());
        quiet.world.reconcile(0, &unshared);
        assert_eq!(quiet.run(14).await, []);
        let mut effects = quiet.effects();
        effects.sort_unstable();
        let mut expected = unshared;
        expected.sort_unstable();
        assert_eq!(
            effects, expected,
            "what the lost record was for is done by another"
        );
        assert_eq!(
            quiet.world.chain.transactions(),
            4,
            "nonce {} went to nobody",
            lost.nonce
        );
    });
}
