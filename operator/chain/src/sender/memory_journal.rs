//! A journal in memory: for tests, and for tools whose transactions need not outlive them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::journal::{AccountRef, Attempt, Entry, Journal, JournalError, Record, Revision};
use crate::AccountNonce;

/// Records by name, each with the number of its last change.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<(AccountRef, AccountNonce), (Record, u64)>,
    changes: u64,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // A panic elsewhere cannot leave a map half changed.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn next_revision(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    fn current(&mut self, entry: &Entry) -> Result<&mut (Record, u64), JournalError> {
        let nonce = entry.record.nonce;
        self.records
            .get_mut(&(entry.record.account, nonce))
            .filter(|(_, revision)| revision.to_string() == entry.revision.0)
            .ok_or(JournalError::Conflict { nonce })
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn list(&self, account: AccountRef) -> Result<Vec<Entry>, JournalError> {
        let entry = |(record, revision): &(Record, u64)| Entry {
            record: record.clone(),
            revision: Revision(revision.to_string()),
        };
        Ok(self.with(|state| {
            let records = state.records.iter().filter(|((owner, _), _)| *owner == account);
            records.map(|(_, stored)| entry(stored)).collect()
        }))
    }

    async fn claim(&self, record: &Record) -> Result<Revision, JournalError> {
        self.with(|state| {
            let place = (record.account, record.nonce);
            if state.records.contains_key(&place) {
                return Err(JournalError::Claimed { nonce: record.nonce });
            }
            let revision = state.next_revision();
            state.records.insert(place, (record.clone(), revision));
            Ok(Revision(revision.to_string()))
        })
    }

    async fn append(&self, entry: &Entry, attempt: &Attempt) -> Result<Revision, JournalError> {
        self.with(|state| {
            let next = state.next_revision();
            let (record, revision) = state.current(entry)?;
            record.attempts.push(attempt.clone());
            *revision = next;
            Ok(Revision(next.to_string()))
        })
    }

    async fn remove(&self, entry: &Entry) -> Result<(), JournalError> {
        self.with(|state| {
            let place = (entry.record.account, entry.record.nonce);
            if state.records.contains_key(&place) {
                state.current(entry)?;
                state.records.remove(&place);
            }
            Ok(())
        })
    }
}
