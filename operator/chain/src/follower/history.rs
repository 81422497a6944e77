//! What was followed so far: the final block, the blocks above it that may still be undone, and each job's last
//! sequence number. Pure: the follower asks the node, this decides what fits.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use tradewind_market::{BlockNumber, Hash32, JobId};

use super::{ChainEvent, Logged};
use crate::BlockId;

/// The first event of a job has this number; each later one the next.
pub(super) const FIRST_SEQUENCE: u64 = 1;

/// Where following can go on after a restart: final, so it is never undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The last block whose events are in the effects that are stored with this.
    pub block: BlockId,
    /// Each job's last sequence number up to there.
    pub sequences: BTreeMap<JobId, u64>,
}

/// A job's events do not continue where they left off: at least one log was withheld, or one is told twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SequenceBreak {
    pub(super) job: JobId,
    pub(super) expected: u64,
    pub(super) found: u64,
}

#[derive(Debug)]
pub(super) struct Applied<E> {
    pub(super) block: BlockId,
    pub(super) events: Vec<Logged<E>>,
}

#[derive(Debug)]
pub(super) struct History<E> {
    start: BlockNumber,
    finalized: Option<BlockId>,
    tail: VecDeque<Applied<E>>,
    sequences: BTreeMap<JobId, u64>,
}

impl<E: ChainEvent> History<E> {
    pub(super) fn new(start: BlockNumber) -> Self {
        Self {
            start,
            finalized: None,
            tail: VecDeque::new(),
            sequences: BTreeMap::new(),
        }
    }

    pub(super) fn resume(start: BlockNumber, checkpoint: Checkpoint) -> Self {
        let Checkpoint { block, sequences } = checkpoint;
        Self {
            start,
            finalized: Some(block),
            tail: VecDeque::new(),
            sequences,
        }
    }

    /// The last block that cannot be undone.
    pub(super) fn finalized(&self) -> Option<BlockId> {
        self.finalized
    }

    /// The blocks above it, oldest first.
    pub(super) fn tail(&self) -> impl DoubleEndedIterator<Item = BlockId> {
        self.tail.iter().map(|applied| applied.block)
    }

    /// The oldest block that can be undone.
    pub(super) fn oldest_in_tail(&self) -> Option<BlockId> {
        self.tail.front().map(|applied| applied.block)
    }

    /// The newest block that can be undone and is not above `number`.
    pub(super) fn newest_in_tail_upto(&self, number: BlockNumber) -> Option<BlockId> {
        self.tail().rev().find(|block| block.number <= number)
    }

    /// The last block that was followed.
    pub(super) fn tip(&self) -> Option<BlockId> {
        self.tail.back().map(|applied| applied.block).or(self.finalized)
    }

    pub(super) fn tail_is_empty(&self) -> bool {
        self.tail.is_empty()
    }

    /// The block to follow next.
    pub(super) fn next_number(&self) -> BlockNumber {
        self.tip().map_or(self.start, |tip| {
            BlockNumber::new(tip.number.get().saturating_add(1))
        })
    }

    /// Whether a block with this parent follows the tip.
    pub(super) fn is_child_of_tip(&self, parent: Hash32) -> bool {
        self.tip().is_none_or(|tip| tip.hash == parent)
    }

    /// Adds a block above the tip, or leaves everything as it was.
    pub(super) fn apply(&mut self, block: BlockId, events: Vec<Logged<E>>) -> Result<(), SequenceBreak> {
        self.advance_sequences(&events)?;
        self.tail.push_back(Applied { block, events });
        Ok(())
    }

    /// Counts events of blocks that are final already, or leaves everything as it was.
    pub(super) fn apply_final(&mut self, upto: BlockId, events: &[Logged<E>]) -> Result<(), SequenceBreak> {
        self.advance_sequences(events)?;
        self.finalized = Some(upto);
        Ok(())
    }

    fn advance_sequences(&mut self, events: &[Logged<E>]) -> Result<(), SequenceBreak> {
        let mut advanced: BTreeMap<JobId, u64> = BTreeMap::new();
        for (job, found) in events.iter().filter_map(|logged| logged.event.sequence()) {
            let last = advanced.get(&job).or_else(|| self.sequences.get(&job));
            let expected = last.map_or(FIRST_SEQUENCE, |last| last.saturating_add(1));
            if found != expected {
                return Err(SequenceBreak { job, expected, found });
            }
            advanced.insert(job, found);
        }
        self.sequences.extend(advanced);
        Ok(())
    }

    /// Takes the newest block off, unless it is final.
    pub(super) fn unwind(&mut self) -> Option<Applied<E>> {
        let applied = self.tail.pop_back()?;
        step_back(&mut self.sequences, &applied.events);
        Some(applied)
    }

    /// Makes the followed blocks up to `number` final; says which is the newest of them, if any became so.
    pub(super) fn finalize(&mut self, number: BlockNumber) -> Option<BlockId> {
        let mut newest = None;
        while self
            .tail
            .front()
            .is_some_and(|applied| applied.block.number <= number)
        {
            newest = self.tail.pop_front().map(|applied| applied.block);
        }
        if newest.is_some() {
            self.finalized = newest;
        }
        newest
    }

    pub(super) fn checkpoint(&self) -> Option<Checkpoint> {
        let block = self.finalized?;
        let mut sequences = self.sequences.clone();
        for applied in self.tail.iter().rev() {
            step_back(&mut sequences, &applied.events);
        }
        Some(Checkpoint { block, sequences })
    }
}

fn step_back<E: ChainEvent>(sequences: &mut BTreeMap<JobId, u64>, events: &[Logged<E>]) {
    for (job, sequence) in events.iter().rev().filter_map(|logged| logged.event.sequence()) {
        if sequence <= FIRST_SEQUENCE {
            sequences.remove(&job);
        } else {
            sequences.insert(job, sequence.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use tradewind_market::Address;

    use super::*;
    use crate::RawLog;
    use crate::follower::DecodeError;

    #[derive(Debug, Clone, PartialEq)]
    struct Event(u8, u64);

    impl ChainEvent for Event {
        fn decode(_: &RawLog) -> Result<Option<Self>, DecodeError> {
            Ok(None)
        }

        fn sequence(&self) -> Option<(JobId, u64)> {
            Some((JobId::from_bytes([self.0; 32]), self.1))
        }
    }

    fn block(number: u64) -> BlockId {
        BlockId {
            number: BlockNumber::new(number),
            hash: tradewind_market::keccak256(&[&number.to_be_bytes()]),
        }
    }

    fn events(events: &[(u8, u64)]) -> Vec<Logged<Event>> {
        let logged = |(job, sequence): &(u8, u64)| Logged {
            event: Event(*job, *sequence),
            contract: Address::ZERO,
            tx: Hash32::ZERO,
            log_index: 0,
        };
        events.iter().map(logged).collect()
    }

    #[test]
    fn a_missing_or_doubled_event_is_noticed_and_nothing_is_applied() {
        let check = |found: &[(u8, u64)], expected: Option<(u64, u64)>| {
            let mut history = History::new(BlockNumber::new(1));
            history
                .apply(block(1), events(&[(1, 1), (2, 1), (1, 2)]))
                .unwrap();
            let applied = history.apply(block(2), events(found));
            assert_eq!(
                applied.err().map(|gap| (gap.expected, gap.found)),
                expected,
                "{found:?}"
            );
            let tip = if expected.is_some() { 1 } else { 2 };
            assert_eq!(history.tip(), Some(block(tip)));
            // Whatever was refused, the right continuation still fits.
            history.apply(block(tip + 1), events(&[(9, 1)])).unwrap();
        };
        check(&[(1, 3), (2, 2), (3, 1)], None);
        check(&[], None);
        check(&[(1, 4)], Some((3, 4)));
        check(&[(1, 2)], Some((3, 2)));
        check(&[(3, 2)], Some((1, 2)));
        check(&[(2, 2), (1, 3), (1, 5)], Some((4, 5)));
    }

    #[test]
    fn what_is_unwound_can_be_applied_again_and_checkpoints_hold_what_is_final() {
        let mut history = History::new(BlockNumber::new(1));
        history.apply(block(1), events(&[(1, 1)])).unwrap();
        assert_eq!(history.checkpoint(), None);
        history.apply(block(2), events(&[(1, 2), (2, 1)])).unwrap();
        history.apply(block(3), events(&[(1, 3), (1, 4)])).unwrap();
        assert_eq!(history.finalize(BlockNumber::new(1)), Some(block(1)));
        let checkpoint = history.checkpoint().unwrap();
        assert_eq!(checkpoint.block, block(1));
        assert_eq!(
            checkpoint.sequences,
            BTreeMap::from([(JobId::from_bytes([1; 32]), 1)])
        );
        assert_eq!(history.unwind().unwrap().block, block(3));
        assert_eq!(history.unwind().unwrap().block, block(2));
        assert!(history.unwind().is_none(), "a final block stays");
        history.apply(block(2), events(&[(1, 2), (2, 1)])).unwrap();
        let mut resumed = History::resume(BlockNumber::new(1), checkpoint);
        resumed.apply(block(2), events(&[(1, 2), (2, 1)])).unwrap();
        assert_eq!(resumed.next_number(), BlockNumber::new(3));
    }
}
