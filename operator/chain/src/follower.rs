//! Reads the contracts' events in order: each block's once, undone when the chain undoes it, final when it is final.
//!
//! Up to the finalized block by ranges, whose width adapts to what the node answers; above it block by block, logs by
//! block hash, each block's parent checked against the one before. A reorganisation is walked back to the common
//! ancestor. Sequence numbers in a job's events show a withheld log without trusting the node. The follower keeps no
//! effects: whoever folds the updates can be rebuilt by following again from the start.

mod error;
mod history;

use std::fmt;

use tradewind_market::{Address, BlockNumber, Hash32, JobId};

use crate::node::NodeError;
use crate::{BlockId, BlockTag, Finality, Header, Node, RawLog};

pub use error::{DecodeError, FollowerError};
pub use history::Checkpoint;
use history::{History, SequenceBreak};

/// How often logs that break a job's sequence are asked for again before they are reported.
const REFETCHES: u32 = 2;

/// An event that can be followed.
pub trait ChainEvent: Clone + PartialEq + fmt::Debug + Send + Sync {
    /// Reads a log of one of the followed contracts; `None` where it is no event of this kind.
    fn decode(log: &RawLog) -> Result<Option<Self>, DecodeError>;

    /// The job that the event belongs to and its number among that job's events, 1 for the first.
    fn sequence(&self) -> Option<(JobId, u64)>;
}

/// An event and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged<E> {
    /// The event.
    pub event: E,
    /// The contract that wrote it.
    pub contract: Address,
    /// The transaction that caused it.
    pub tx: Hash32,
    /// Its place among its block's logs; with the block's hash, its identity.
    pub log_index: u64,
}

/// One step of the chain's history, for a fold that can be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update<E> {
    /// A block's events, oldest first. Blocks without events are told of only above the finalized block.
    Applied {
        /// The block.
        block: BlockId,
        /// Its events.
        events: Vec<Logged<E>>,
    },
    /// The newest applied block is no longer in the chain: undo its events, newest first.
    Unwound {
        /// The block.
        block: BlockId,
        /// Its events as they were applied, oldest first.
        events: Vec<Logged<E>>,
    },
    /// Everything up to this block stays: no later update undoes it.
    Finalized {
        /// The block.
        block: BlockId,
    },
}

/// What to follow, and how.
#[derive(Debug, Clone)]
pub struct FollowerConfig {
    /// The contracts whose events are read.
    pub contracts: Vec<Address>,
    /// The block of the oldest contract's deployment: sequence numbers start there.
    pub start: BlockNumber,
    /// When a block is final.
    pub finality: Finality,
    /// The widest range of one question below finality. Public nodes allow 1,000 to 10,000 blocks.
    pub range_blocks_max: u64,
    /// How many blocks one step follows above finality, which bounds what a caller holds in memory.
    pub blocks_per_step_max: u32,
}

impl FollowerConfig {
    /// Contracts deployed at `start`, finality by the chain's tag, 10,000 blocks a range, 256 blocks a step.
    pub fn new(contracts: Vec<Address>, start: BlockNumber) -> Self {
        Self {
            contracts,
            start,
            finality: Finality::Tag,
            range_blocks_max: 10_000,
            blocks_per_step_max: 256,
        }
    }
}

/// How far a step came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The node's newest block.
    pub head: Header,
    /// The last final block that was followed.
    pub finalized: Option<BlockId>,
    /// Whether everything that the node knows has been followed; otherwise step again at once.
    pub caught_up: bool,
    /// Whether the node knows less than was followed before: it lags, or a shorter branch won.
    pub node_lags: bool,
}

/// Follows the events `E` of one set of contracts on one chain.
#[derive(Debug)]
pub struct Follower<E> {
    node: Node,
    config: FollowerConfig,
    history: History<E>,
    range_blocks: u64,
    /// The block at which a sequence broke and for whose sake the tail is being followed anew.
    rescanned_for: Option<BlockNumber>,
}

impl<E: ChainEvent> Follower<E> {
    /// Follows from the contracts' deployment.
    pub fn new(node: Node, config: FollowerConfig) -> Self {
        let history = History::new(config.start);
        Self::with_history(node, config, history)
    }

    /// Goes on from a checkpoint, after checking that the chain still has it.
    pub async fn resume(
        node: Node,
        config: FollowerConfig,
        checkpoint: Checkpoint,
    ) -> Result<Self, FollowerError> {
        let stored = checkpoint.block;
        let history = History::resume(config.start, checkpoint);
        let follower = Self::with_history(node, config, history);
        follower.check_final(stored).await?;
        Ok(follower)
    }

    fn with_history(node: Node, config: FollowerConfig, history: History<E>) -> Self {
        let range_blocks = config.range_blocks_max.max(1);
        Self {
            node,
            config,
            history,
            range_blocks,
            rescanned_for: None,
        }
    }

    /// Where a later follower can go on; `None` until something is final.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.history.checkpoint()
    }

    /// Reads what is new and appends it to `updates`, which is whole and in order also after an error and after the
    /// future was dropped: what was appended has been followed, what was not will be.
    pub async fn step(&mut self, updates: &mut Vec<Update<E>>) -> Result<Progress, FollowerError> {
        let Some(head) = self.node.header(BlockTag::Latest).await? else {
            return Err(NodeError::inconsistent("eth_getBlockByNumber", "no newest block").into());
        };
        let finalized = self.node.finalized(self.config.finality).await?;
        let mut behind = false;
        if let Some(finalized) = finalized {
            behind = !self.advance_final(finalized.id, updates).await?;
        }
        let caught_up = !behind && self.follow_tail(updates).await?;
        let node_lags = self.history.tip().is_some_and(|tip| tip.number > head.id.number);
        Ok(Progress {
            head,
            finalized: self.history.finalized(),
            caught_up,
            node_lags,
        })
    }

    /// Brings what was followed up to `newest`, the node's final block; `false` while more final blocks are to come.
    async fn advance_final(
        &mut self,
        newest: BlockId,
        updates: &mut Vec<Update<E>>,
    ) -> Result<bool, FollowerError> {
        if let Some(known) = self.history.finalized() {
            if newest.number < known.number {
                // A node that lags: finality does not go backwards, so nothing follows from it.
                return Ok(true);
            }
            if newest.number == known.number {
                return if newest.hash == known.hash {
                    Ok(true)
                } else {
                    Err(violated(known, newest))
                };
            }
            self.check_final(known).await?;
        }
        self.unwind_to_branch(newest, updates).await?;
        if let Some(block) = self.history.finalize(newest.number) {
            updates.push(Update::Finalized { block });
        }
        if self.history.tail_is_empty() && self.history.next_number() <= newest.number {
            self.backfill(newest, updates).await?;
        }
        Ok(!self.history.tail_is_empty() || self.history.next_number() > newest.number)
    }

    /// A block that was final must be in the chain for ever.
    async fn check_final(&self, known: BlockId) -> Result<(), FollowerError> {
        match self.node.header(BlockTag::Number(known.number)).await? {
            Some(header) if header.id == known => Ok(()),
            Some(header) => Err(violated(known, header.id)),
            None => Err(NodeError::inconsistent(
                "eth_getBlockByNumber",
                format!("no block {known}, which was final"),
            )
            .into()),
        }
    }

    /// Takes blocks off the tail until its part up to `finalized` is on that block's branch. The branch is walked by
    /// hash, which no node that lags can answer wrongly; one too long to walk is not worth keeping the tail for.
    async fn unwind_to_branch(
        &mut self,
        finalized: BlockId,
        updates: &mut Vec<Update<E>>,
    ) -> Result<(), FollowerError> {
        let mut branch = finalized;
        while let Some(block) = self.history.newest_in_tail_upto(branch.number) {
            if block == branch {
                return Ok(());
            }
            let steps = branch.number.get() - block.number.get();
            if steps > u64::from(self.config.blocks_per_step_max) {
                break;
            }
            if block.number == branch.number {
                self.unwind_from(block, updates);
            }
            branch = self.parent_of(branch).await?;
        }
        if let Some(oldest) = self.history.oldest_in_tail()
            && oldest.number <= finalized.number
        {
            self.unwind_from(oldest, updates);
        }
        Ok(())
    }

    async fn parent_of(&self, block: BlockId) -> Result<BlockId, FollowerError> {
        match self.node.header(BlockTag::Hash(block.hash)).await? {
            Some(Header { parent, .. }) => Ok(BlockId {
                number: BlockNumber::new(block.number.get().saturating_sub(1)),
                hash: parent,
            }),
            None => {
                Err(NodeError::inconsistent("eth_getBlockByHash", format!("no final block {block}")).into())
            }
        }
    }

    /// Takes `block` and everything above it off the tail.
    fn unwind_from(&mut self, block: BlockId, updates: &mut Vec<Update<E>>) {
        while self
            .history
            .tail()
            .next_back()
            .is_some_and(|tip| tip.number >= block.number)
        {
            if let Some(applied) = self.history.unwind() {
                updates.push(Update::Unwound {
                    block: applied.block,
                    events: applied.events,
                });
            }
        }
    }

    /// Reads one range of final blocks.
    async fn backfill(&mut self, newest: BlockId, updates: &mut Vec<Update<E>>) -> Result<(), FollowerError> {
        let from = self.history.next_number();
        let mut refetched = 0;
        loop {
            let last = from
                .get()
                .saturating_add(self.range_blocks.saturating_sub(1))
                .min(newest.number.get());
            let upto = BlockNumber::new(last);
            let logs = match self.node.logs_in_range(from, upto, &self.config.contracts).await {
                Ok(logs) => logs,
                Err(NodeError::Rpc(error)) if error.is_about_size() && last > from.get() => {
                    self.range_blocks = (last - from.get()).div_ceil(2);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let upto = self.final_block(upto, newest).await?;
            let blocks = group_by_block::<E>(&logs)?;
            let events: Vec<_> = blocks.iter().flat_map(|(_, events)| events).cloned().collect();
            match self.history.apply_final(upto, &events) {
                Ok(()) => {}
                Err(_) if refetched < REFETCHES => {
                    refetched += 1;
                    continue;
                }
                Err(gap) => return Err(gap_error(gap, upto)),
            }
            updates.extend(
                blocks
                    .into_iter()
                    .map(|(block, events)| Update::Applied { block, events }),
            );
            updates.push(Update::Finalized { block: upto });
            let grown = self.range_blocks.saturating_add(self.range_blocks.div_ceil(2));
            self.range_blocks = grown.min(self.config.range_blocks_max.max(1));
            return Ok(());
        }
    }

    /// The identity of a block at or below the final `newest`.
    async fn final_block(&self, number: BlockNumber, newest: BlockId) -> Result<BlockId, FollowerError> {
        if number == newest.number {
            return Ok(newest);
        }
        match self.node.header(BlockTag::Number(number)).await? {
            Some(header) => Ok(header.id),
            None => Err(NodeError::inconsistent(
                "eth_getBlockByNumber",
                format!("no block {number} below the finalized"),
            )
            .into()),
        }
    }

    /// Follows block by block; `true` once the node knows no more.
    async fn follow_tail(&mut self, updates: &mut Vec<Update<E>>) -> Result<bool, FollowerError> {
        for _ in 0..self.config.blocks_per_step_max {
            let next = self.history.next_number();
            match self.node.header(BlockTag::Number(next)).await? {
                None => {
                    if !self.unwind_replaced(updates).await? {
                        return Ok(true);
                    }
                }
                Some(header) if self.history.is_child_of_tip(header.parent) => {
                    self.follow_block(header.id, updates).await?;
                }
                Some(header) => {
                    if !self.unwind_replaced(updates).await? {
                        return Err(self.orphan_above_tip(header).await);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Finds the newest followed block for which the node has another of the same height, and takes it and everything
    /// above it off. A height that the node does not know says nothing: it may lag. `false` if there is none.
    async fn unwind_replaced(&mut self, updates: &mut Vec<Update<E>>) -> Result<bool, FollowerError> {
        let tail: Vec<BlockId> = self.history.tail().rev().collect();
        for block in tail {
            match self.node.header(BlockTag::Number(block.number)).await? {
                None => {}
                Some(header) if header.id == block => return Ok(false),
                Some(_) => {
                    self.unwind_from(block, updates);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// A block whose parent is not our tip, though the node showed no other block in the tip's place.
    async fn orphan_above_tip(&self, orphan: Header) -> FollowerError {
        if let Some(known) = self.history.finalized()
            && self.history.tail_is_empty()
            && let Err(error) = self.check_final(known).await
        {
            return error;
        }
        let reason = format!(
            "block {} has parent {}, which the node does not show",
            orphan.id, orphan.parent
        );
        NodeError::inconsistent("eth_getBlockByNumber", reason).into()
    }

    async fn follow_block(
        &mut self,
        block: BlockId,
        updates: &mut Vec<Update<E>>,
    ) -> Result<(), FollowerError> {
        let mut gap = None;
        for _ in 0..=REFETCHES {
            let logs = self.node.logs_in_block(block, &self.config.contracts).await?;
            let events = logs
                .iter()
                .filter_map(|log| logged(log).transpose())
                .collect::<Result<Vec<_>, _>>()?;
            match self.history.apply(block, events.clone()) {
                Ok(()) => {
                    updates.push(Update::Applied { block, events });
                    if self.rescanned_for == Some(block.number) {
                        self.rescanned_for = None;
                    }
                    return Ok(());
                }
                Err(found) => gap = Some(found),
            }
        }
        // The missing log may be one of an earlier block: those that can be undone are followed anew, once.
        if self.rescanned_for != Some(block.number)
            && let Some(oldest) = self.history.oldest_in_tail()
        {
            self.rescanned_for = Some(block.number);
            self.unwind_from(oldest, updates);
            return Ok(());
        }
        self.rescanned_for = None;
        gap.map_or(Ok(()), |gap| Err(gap_error(gap, block)))
    }
}

fn violated(known: BlockId, found: BlockId) -> FollowerError {
    FollowerError::FinalityViolated { known, found }
}

fn gap_error(gap: SequenceBreak, block: BlockId) -> FollowerError {
    let SequenceBreak { job, expected, found } = gap;
    FollowerError::Gap {
        job,
        expected,
        found,
        block,
    }
}

fn logged<E: ChainEvent>(log: &RawLog) -> Result<Option<Logged<E>>, DecodeError> {
    let event = E::decode(log)?;
    Ok(event.map(|event| Logged {
        event,
        contract: log.contract,
        tx: log.tx,
        log_index: log.log_index,
    }))
}

type BlockEvents<E> = Vec<(BlockId, Vec<Logged<E>>)>;

/// The events of logs in their order, those of one block together.
fn group_by_block<E: ChainEvent>(logs: &[RawLog]) -> Result<BlockEvents<E>, DecodeError> {
    let mut blocks: BlockEvents<E> = Vec::new();
    for log in logs {
        let Some(event) = logged(log)? else {
            continue;
        };
        match blocks.last_mut() {
            Some((block, events)) if *block == log.block => events.push(event),
            Some(_) | None => blocks.push((log.block, vec![event])),
        }
    }
    Ok(blocks)
}
