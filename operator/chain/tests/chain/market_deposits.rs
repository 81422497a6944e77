//! Deposits through a node that drops, loses, doubles and delays what is said, a journal that fails, processes that die,
//! and reorganisations. The contract would take each deposit twice: nothing but the sender guards them.

use std::sync::Arc;

use tradewind_chain::calls;
use tradewind_chain::follower::{Follower, Update};
use tradewind_chain::sender::{Alert, Intent, MemoryJournal, Sender};
use tradewind_chain::{BlockTag, Node, Signer, UnixMillis};
use tradewind_market::event::{LedgerEvent, MarketEvent};
use tradewind_market::{Address, BlockNumber, Hash32, TokenAmount};

use super::anvil::{CHAIN_ID, key};
use super::faulty::{Faults, FaultyJournal, FaultyNode, Rates};
use super::random::{Random, for_seeds};
use super::scene::{BUYER, Scene, intent, sender_config, tokens};

const DEPOSITS: u64 = 8;
const ROUNDS: u64 = 60;
/// From here on nothing goes wrong any more.
const CALM: u64 = 36;
const RATES: Rates = Rates {
    dropped: 5,
    reply_lost: 8,
    doubled: 5,
    late: 15,
    stale: 0,
    journal: 5,
};

/// A process that may die, with the journal that outlives it.
struct Process {
    journal: Arc<MemoryJournal>,
    sender: Sender,
    faults: Faults,
}

impl Process {
    fn start(scene: &Scene, journal: Arc<MemoryJournal>, seed: u64) -> Self {
        let faults = Faults::new(seed, RATES);
        let node = FaultyNode {
            inner: scene.anvil.transport.clone(),
            faults: faults.clone(),
        };
        let faulty_journal = FaultyJournal {
            inner: journal.clone(),
            faults: faults.clone(),
        };
        let config = sender_config(scene.deployment.market);
        let node = Node::assume_chain(Arc::new(node), CHAIN_ID);
        let sender = Sender::new(node, key(BUYER), Arc::new(faulty_journal), config);
        Self {
            journal,
            sender,
            faults,
        }
    }

    /// Asks for the deposits that are not done, and steps once.
    async fn pursue(&self, wanted: &[Intent], done: &[TokenAmount], head: BlockNumber, round: u64) {
        for (number, intent) in (0u64..).zip(wanted) {
            if !done.contains(&tokens(1 << number)) {
                self.sender.submit(intent.clone(), head).unwrap();
            }
        }
        let report = self.sender.step(UnixMillis::new(round * 1_000)).await;
        let alerts = report.map(|report| report.alerts).unwrap_or_default();
        let foreign = alerts
            .iter()
            .find(|alert| matches!(alert, Alert::ForeignNonce { .. }));
        assert_eq!(foreign, None);
    }
}

async fn deposit_through_faults(seed: u64) {
    let scene = Scene::new().await;
    scene.anvil.mine(3).await;
    scene.anvil.automine(false).await;
    let mut random = Random::new(seed);
    let deposit = |number: u64| {
        let amount = tokens(1 << number);
        let call = calls::deposit(scene.deployment.market, scene.token, amount, Hash32::ZERO);
        intent("deposit", call, number.is_multiple_of(2))
    };
    let wanted: Vec<Intent> = (0..DEPOSITS).map(deposit).collect();
    let mut follower = scene.follower();
    let mut events: Vec<MarketEvent> = Vec::new();
    let mut process = Process::start(&scene, Arc::new(MemoryJournal::new()), seed);
    for round in 0..ROUNDS {
        let calm = round >= CALM;
        if calm {
            process.faults.stop();
        } else if random.percent(20) {
            process = Process::start(&scene, process.journal, random.next());
        } else if random.percent(10) {
            process.faults.dies_after(Some(random.below(30)));
        }
        follow(&mut follower, &mut events).await;
        let head = scene
            .node
            .header(BlockTag::Latest)
            .await
            .unwrap()
            .unwrap()
            .id
            .number;
        let so_far = usize::try_from(1 + round / 3).unwrap().min(wanted.len());
        process
            .pursue(&wanted[..so_far], &deposits(&events), head, round)
            .await;
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
    let done = deposits(&events);
    assert_eq!(
        done.len(),
        wanted.len(),
        "and the follower saw each once: {done:?}"
    );
}

fn deposits(events: &[MarketEvent]) -> Vec<TokenAmount> {
    events
        .iter()
        .filter_map(|event| deposited(event, key(BUYER).address()))
        .collect()
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
