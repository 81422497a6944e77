//! Whatever the node does, the followed history is the chain's: reorganisations, lost and old answers, withheld logs,
//! ranges that are refused. The oracle is the simulated chain itself.

use std::sync::Arc;

use tradewind_chain::follower::{
    ChainEvent, DecodeError, Follower, FollowerConfig, FollowerError, Progress, Update,
};
use tradewind_chain::{BlockId, Node, RawLog};
use tradewind_market::{Address, BlockNumber, Hash32, JobId};

use super::faulty::{Faults, FaultyNode, Rates};
use super::random::{Random, for_seeds};
use super::simulated::{CHAIN_ID, CONTRACT, Id, SimulatedChain, job_of};

/// The simulated contract's event.
#[derive(Debug, Clone, PartialEq)]
struct Effect {
    id: Id,
    sequence: u64,
}

impl ChainEvent for Effect {
    fn decode(log: &RawLog) -> Result<Option<Self>, DecodeError> {
        if log.topics[0] != tradewind_market::keccak256(&[b"Effect"]) {
            return Ok(None);
        }
        let sequence = u64::from_be_bytes(log.data.as_slice().try_into().unwrap());
        Ok(Some(Self {
            id: *log.topics[1].as_bytes(),
            sequence,
        }))
    }

    fn sequence(&self) -> Option<(JobId, u64)> {
        Some((JobId::from_bytes(job_of(&self.id)), self.sequence))
    }
}

/// What an operator folds: every effect with its block, and what is final of it.
#[derive(Debug, Default)]
struct Index {
    effects: Vec<(BlockId, Id)>,
    finalized: Option<BlockId>,
}

impl Index {
    fn fold(&mut self, updates: Vec<Update<Effect>>) {
        for update in updates {
            match update {
                Update::Applied { block, events } => {
                    self.effects
                        .extend(events.into_iter().map(|logged| (block, logged.event.id)));
                }
                Update::Unwound { block, events } => {
                    assert!(
                        self.finalized
                            .is_none_or(|finalized| block.number > finalized.number),
                        "final is final"
                    );
                    for undone in events.into_iter().rev() {
                        assert_eq!(
                            self.effects.pop(),
                            Some((block, undone.event.id)),
                            "undone in reverse"
                        );
                    }
                }
                Update::Finalized { block } => {
                    assert!(
                        self.finalized.is_none_or(|before| before.number < block.number),
                        "finality only grows"
                    );
                    self.finalized = Some(block);
                }
            }
        }
    }
}

struct World {
    chain: Arc<SimulatedChain>,
    faults: Faults,
    follower: Follower<Effect>,
    index: Index,
}

fn config() -> FollowerConfig {
    FollowerConfig {
        range_blocks_max: 40,
        blocks_per_step_max: 16,
        ..FollowerConfig::new(vec![CONTRACT], BlockNumber::new(1))
    }
}

impl World {
    fn new(seed: u64, rates: Rates) -> Self {
        let chain = Arc::new(SimulatedChain::new(Address::from_bytes([1; 20]), false));
        let faults = Faults::new(seed, rates);
        let transport = FaultyNode {
            inner: chain.clone(),
            faults: faults.clone(),
        };
        let node = Node::assume_chain(Arc::new(transport), CHAIN_ID);
        Self {
            chain,
            faults,
            follower: Follower::new(node, config()),
            index: Index::default(),
        }
    }

    fn node(&self) -> Node {
        Node::assume_chain(
            Arc::new(FaultyNode {
                inner: self.chain.clone(),
                faults: self.faults.clone(),
            }),
            CHAIN_ID,
        )
    }

    fn emit(&self, random: &mut Random) {
        let mut id = ethers::utils::keccak256(random.next().to_be_bytes());
        id[31] %= 5;
        self.chain.emit(id);
    }

    async fn step(&mut self) -> Result<Progress, FollowerError> {
        let mut updates = Vec::new();
        let progress = self.follower.step(&mut updates).await;
        self.index.fold(updates);
        progress
    }

    /// Steps until nothing is new, and compares with the chain.
    async fn catch_up_and_compare(&mut self) {
        for _ in 0..100 {
            if self.step().await.unwrap().caught_up {
                break;
            }
        }
        let followed: Vec<_> = self
            .index
            .effects
            .iter()
            .map(|(block, id)| (*block, *id))
            .collect();
        let expected: Vec<_> = self
            .chain
            .effects()
            .into_iter()
            .map(|(number, hash, id)| (block(number, hash), id))
            .collect();
        assert_eq!(followed, expected);
    }
}

fn block(number: u64, hash: [u8; 32]) -> BlockId {
    BlockId {
        number: BlockNumber::new(number),
        hash: Hash32::from_bytes(hash),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

async fn run(seed: u64, rates: Rates) {
    let mut random = Random::new(seed);
    let mut world = World::new(seed, rates);
    world.chain.limit_logs(12);
    for _ in 0..80 {
        match random.below(6) {
            0 => world.chain.reorganise(1 + random.below(4), random.percent(50)),
            1 => (0..random.below(30)).for_each(|_| world.chain.mine(2)),
            2 => {
                let heights =
                    (0..random.below(3)).map(|_| world.chain.hash_of(random.below(world.chain.head() + 1)));
                let hashes: Vec<_> = heights.collect();
                world.chain.withhold(hashes);
            }
            _ => {
                (0..random.below(4)).for_each(|_| world.emit(&mut random));
                world.chain.mine(8);
            }
        }
        if random.percent(70) {
            // An answer may be wrong in many ways; what was folded so far stays consistent, as the fold checks.
            drop(world.step().await);
        }
        if random.percent(5)
            && let Some(checkpoint) = world.follower.checkpoint()
        {
            world.restart_from(checkpoint).await;
        }
    }
    world.faults.stop();
    world.chain.withhold([]);
    // A log that was withheld from what is final by now is noticed with the job's next event: then all is read anew.
    for _ in 0..3 {
        (0..5).for_each(|_| world.emit(&mut random));
        world.chain.mine(8);
    }
    if world.ends_in_a_gap().await {
        world.follower = Follower::new(world.node(), config());
        world.index = Index::default();
    }
    world.catch_up_and_compare().await;
}

impl World {
    /// A process that was stopped goes on from its checkpoint, with the effects that it stored along.
    async fn restart_from(&mut self, checkpoint: tradewind_chain::follower::Checkpoint) {
        let stored = checkpoint.block.number;
        if let Ok(follower) = Follower::resume(self.node(), config(), checkpoint).await {
            self.follower = follower;
            self.index.effects.retain(|(block, _)| block.number <= stored);
        }
    }

    async fn ends_in_a_gap(&mut self) -> bool {
        for _ in 0..50 {
            match self.step().await {
                Ok(progress) if progress.caught_up => return !self.is_whole(),
                Ok(_) => {}
                Err(FollowerError::Gap { .. }) => return true,
                Err(error) => panic!("in the calm: {error}"),
            }
        }
        false
    }

    /// A log withheld from a job that has had no event since cannot be noticed by following alone.
    fn is_whole(&self) -> bool {
        self.index.effects.len() == self.chain.effects().len()
    }
}

#[test]
fn the_followed_history_is_the_chains_whatever_the_node_does() {
    let rates = Rates {
        dropped: 4,
        reply_lost: 4,
        doubled: 4,
        ..Rates::default()
    };
    for_seeds(
        "the_followed_history_is_the_chains_whatever_the_node_does",
        60,
        |seed| block_on(run(seed, rates)),
    );
}

#[test]
fn a_violated_finality_stops_the_follower() {
    block_on(async {
        let mut world = World::new(1, Rates::default());
        let mut random = Random::new(1);
        for _ in 0..10 {
            world.emit(&mut random);
            world.chain.mine(1);
        }
        world.catch_up_and_compare().await;
        world.chain.reorganise_final(6);
        world.emit(&mut random);
        (0..4).for_each(|_| world.chain.mine(1));
        let error = world.step().await.unwrap_err();
        assert!(matches!(error, FollowerError::FinalityViolated { .. }), "{error}");
    });
}

#[test]
fn a_withheld_log_is_named_by_job_and_sequence_and_followed_once_it_is_shown() {
    block_on(async {
        let mut world = World::new(1, Rates::default());
        let mut random = Random::new(7);
        world.emit(&mut random);
        world.chain.mine(1);
        world.catch_up_and_compare().await;
        let job = job_of(&world.chain.effects()[0].2);
        let again = |tag: u8| {
            let mut id = [tag; 32];
            id[31] = job[31];
            id
        };
        world.chain.emit(again(2));
        world.chain.mine(1);
        world.chain.withhold([world.chain.hash_of(2)]);
        world.chain.emit(again(3));
        world.chain.mine(1);
        let mut found = Vec::new();
        for _ in 0..4 {
            found.extend(world.step().await.err());
        }
        let named = FollowerError::Gap {
            job: JobId::from_bytes(job),
            expected: 2,
            found: 3,
            block: block(3, world.chain.hash_of(3)),
        };
        assert!(
            !found.is_empty() && found.iter().all(|error| *error == named),
            "{found:?}"
        );
        world.chain.withhold([]);
        // What can still be undone is followed anew, and the log is there.
        let mut follower_heals = false;
        for _ in 0..4 {
            follower_heals |= world.step().await.is_ok_and(|progress| progress.caught_up);
        }
        assert!(follower_heals);
        world.catch_up_and_compare().await;
    });
}
