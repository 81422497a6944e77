//! What the sender remembers between steps: intents that wait, and how far each intent is. All of it can be lost: who
//! wants something asks again, and the rest is read from journal and chain.

use std::collections::{BTreeMap, VecDeque};

use tradewind_market::BlockNumber;

use super::error::SubmitError;
use super::intent::{Intent, IntentId, IntentState, Refusal};
use super::plan::{Inclusion, Place, Slot, View};

/// How many intents that are at an end are remembered, so that asking again for what is final but not yet seen by the
/// caller costs nothing. Beyond it the oldest are forgotten, and the contract refuses what it has done already.
const ENDED_MAX: usize = 10_000;

#[derive(Debug)]
pub(super) struct Memory {
    queue: VecDeque<Intent>,
    queue_max: usize,
    states: BTreeMap<IntentId, IntentState>,
    /// Ids in the order in which they ended.
    ended: VecDeque<IntentId>,
    changes: Vec<(IntentId, IntentState)>,
}

impl Memory {
    pub(super) fn new(queue_max: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            queue_max,
            states: BTreeMap::new(),
            ended: VecDeque::new(),
            changes: Vec::new(),
        }
    }

    pub(super) fn submit(&mut self, intent: Intent, seen: BlockNumber) -> Result<IntentState, SubmitError> {
        if let Some(state) = self.states.get(&intent.id)
            && !state.may_be_asked_again(seen)
        {
            return Ok(state.clone());
        }
        if self.queue.len() >= self.queue_max {
            return Err(SubmitError::QueueFull {
                queued: self.queue.len(),
            });
        }
        self.set(intent.id, IntentState::Intended);
        self.queue.push_back(intent);
        Ok(IntentState::Intended)
    }

    pub(super) fn withdraw(&mut self, id: IntentId) -> bool {
        let before = self.queue.len();
        self.queue.retain(|intent| intent.id != id);
        let withdrawn = self.queue.len() < before;
        if withdrawn {
            self.states.remove(&id);
        }
        withdrawn
    }

    pub(super) fn state(&self, id: IntentId) -> Option<IntentState> {
        self.states.get(&id).cloned()
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The intents that wait, oldest first.
    pub(super) fn waiting(&self) -> Vec<Intent> {
        self.queue.iter().cloned().collect()
    }

    pub(super) fn refuse(&mut self, id: IntentId, refusal: Refusal) {
        self.queue.retain(|intent| intent.id != id);
        self.set(id, IntentState::Refused(refusal));
    }

    /// The intents are in a journal record now.
    pub(super) fn journaled(&mut self, ids: &[IntentId], state: &IntentState) {
        self.queue.retain(|intent| !ids.contains(&intent.id));
        for id in ids {
            self.set(*id, state.clone());
        }
    }

    pub(super) fn take_changes(&mut self) -> Vec<(IntentId, IntentState)> {
        std::mem::take(&mut self.changes)
    }

    /// Takes over what journal and chain say. An intent that another process journaled no longer waits here; one that
    /// no record names is forgotten unless it waits or is at an end.
    pub(super) fn absorb(&mut self, view: &View) {
        let mut found: BTreeMap<IntentId, IntentState> = BTreeMap::new();
        for slot in view.slots.values() {
            for (step, intent) in slot.entry.record.intents.iter().enumerate() {
                let Some(state) = state_of_step(slot, step) else {
                    continue;
                };
                // Of two records for one intent the one that took effect counts, else the newer.
                let settled = matches!(found.get(&intent.id), Some(IntentState::Final { .. }));
                if !settled {
                    found.insert(intent.id, state);
                }
            }
        }
        self.queue
            .retain(|intent| found.get(&intent.id).is_none_or(IntentState::is_at_an_end));
        let queued: std::collections::BTreeSet<IntentId> =
            self.queue.iter().map(|intent| intent.id).collect();
        let forgotten = |id: &IntentId, state: &IntentState| {
            !found.contains_key(id) && !queued.contains(id) && !state.is_at_an_end()
        };
        self.states.retain(|id, state| !forgotten(id, state));
        for (id, state) in found {
            if !queued.contains(&id) {
                self.set(id, state);
            }
        }
    }

    fn set(&mut self, id: IntentId, state: IntentState) {
        if self.states.get(&id) == Some(&state) {
            return;
        }
        if state.is_at_an_end() {
            self.ended.push_back(id);
        }
        self.states.insert(id, state.clone());
        self.changes.push((id, state));
        while self.ended.len() > ENDED_MAX {
            let oldest = self.ended.pop_front();
            if let Some(id) = oldest.filter(|id| !self.ended.contains(id))
                && self.states.get(&id).is_some_and(IntentState::is_at_an_end)
            {
                self.states.remove(&id);
            }
        }
    }
}

/// How far a record's step is; `None` where the record says nothing about it any more.
fn state_of_step(slot: &Slot, step: usize) -> Option<IntentState> {
    let nonce = slot.entry.record.nonce;
    match &slot.place {
        Place::Waiting | Place::Displaced => {
            let tx = slot.entry.record.attempts.last()?.tx;
            Some(IntentState::Submitted { tx, nonce })
        }
        Place::Included(Inclusion { tx, block, .. }) => Some(IntentState::Included {
            tx: *tx,
            block: *block,
        }),
        Place::Final(Inclusion {
            tx,
            block,
            succeeded,
            failed_steps,
        }) => {
            let failed = failed_steps.get(&step).cloned();
            let (tx, block) = (*tx, *block);
            Some(match (succeeded, failed) {
                (true, None) => IntentState::Final { tx, block },
                (true, Some(reason)) => IntentState::Reverted { tx, block, reason },
                // A receipt does not carry the reason of a whole transaction's revert.
                (false, _) => IntentState::Reverted {
                    tx,
                    block,
                    reason: Vec::new(),
                },
            })
        }
        Place::Lost => None,
    }
}
