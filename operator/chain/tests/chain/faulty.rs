//! Faults, by seed, between the code under test and a node or a journal: requests that are dropped, replies that are
//! lost after the effect, requests done twice or late, answers from the past, and a process that dies anywhere.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use serde_json::value::RawValue;
use tradewind_chain::sender::{AccountRef, Attempt, Entry, Journal, JournalError, Record, Revision};
use tradewind_chain::transport::{RpcError, Transport};

use super::random::Random;

/// Which faults there are, each in percent of the requests.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    pub(crate) dropped: u64,
    pub(crate) reply_lost: u64,
    pub(crate) doubled: u64,
    /// Broadcasts that arrive later, after others.
    pub(crate) late: u64,
    /// Answers to the same question from before.
    pub(crate) stale: u64,
    pub(crate) journal: u64,
}

#[derive(Debug)]
struct State {
    random: Random,
    rates: Rates,
    /// How many more requests the process makes before it dies.
    lives: Option<u64>,
    late: Vec<Value>,
    past: BTreeMap<String, Box<RawValue>>,
}

/// One process's luck. Shared by its connections to node and journal.
#[derive(Debug, Clone)]
pub(crate) struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    Dropped,
    ReplyLost,
    Doubled,
    Late,
    Stale,
}

impl Faults {
    pub(crate) fn new(seed: u64, rates: Rates) -> Self {
        let random = Random::new(seed);
        Self(Arc::new(Mutex::new(State {
            random,
            rates,
            lives: None,
            late: Vec::new(),
            past: BTreeMap::new(),
        })))
    }

    /// The process dies after this many more requests; `None`: it lives.
    pub(crate) fn dies_after(&self, requests: Option<u64>) {
        self.0.lock().unwrap().lives = requests;
    }

    pub(crate) fn stop(&self) {
        let mut state = self.0.lock().unwrap();
        state.rates = Rates::default();
        state.lives = None;
        state.past.clear();
    }

    fn is_dead(&self) -> bool {
        let mut state = self.0.lock().unwrap();
        match &mut state.lives {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    fn fate(&self, method: &str) -> Fate {
        let mut state = self.0.lock().unwrap();
        let Rates {
            dropped,
            reply_lost,
            doubled,
            late,
            stale,
            ..
        } = state.rates;
        let broadcast = method == "eth_sendRawTransaction";
        let late = if broadcast { late } else { 0 };
        let past = if broadcast { 0 } else { stale };
        let fates = [
            (dropped, Fate::Dropped),
            (reply_lost, Fate::ReplyLost),
            (doubled, Fate::Doubled),
            (late, Fate::Late),
            (past, Fate::Stale),
        ];
        let mut roll = state.random.below(100);
        for (rate, fate) in fates {
            if roll < rate {
                return fate;
            }
            roll -= rate;
        }
        Fate::Well
    }

    fn journal_fails(&self) -> (bool, bool) {
        let mut state = self.0.lock().unwrap();
        let rate = state.rates.journal;
        (state.random.percent(rate), state.random.percent(rate))
    }
}

/// A node behind faults.
#[derive(Debug)]
pub(crate) struct FaultyNode {
    pub(crate) inner: Arc<dyn Transport>,
    pub(crate) faults: Faults,
}

fn lost(method: &str) -> RpcError {
    RpcError::Timeout {
        method: method.to_owned(),
        after: Duration::ZERO,
    }
}

#[async_trait]
impl Transport for FaultyNode {
    async fn request(&self, method: &str, params: Value) -> Result<Box<RawValue>, RpcError> {
        if self.faults.is_dead() {
            return Err(RpcError::Connection {
                method: method.to_owned(),
                reason: "the process died".to_owned(),
            });
        }
        let fate = self.faults.fate(method);
        let overdue: Vec<Value> = std::mem::take(&mut self.faults.0.lock().unwrap().late);
        if fate == Fate::Late {
            let mut state = self.faults.0.lock().unwrap();
            state.late = overdue;
            state.late.insert(0, params);
            return Err(lost(method));
        }
        for params in overdue {
            // Its sender has long stopped waiting for the answer.
            drop(self.inner.request("eth_sendRawTransaction", params).await);
        }
        let question = format!("{method} {params}");
        if fate == Fate::Stale
            && let Some(answer) = self.faults.0.lock().unwrap().past.get(&question)
        {
            return Ok(answer.clone());
        }
        match fate {
            Fate::Dropped => return Err(lost(method)),
            Fate::Doubled => drop(self.inner.request(method, params.clone()).await),
            Fate::Well | Fate::ReplyLost | Fate::Late | Fate::Stale => {}
        }
        let reply = self.inner.request(method, params).await;
        if let Ok(answer) = &reply {
            let mut state = self.faults.0.lock().unwrap();
            // Old answers are kept for a while, so that the past is really past.
            if !state.past.contains_key(&question) || state.random.percent(15) {
                state.past.insert(question, answer.clone());
            }
        }
        if fate == Fate::ReplyLost {
            Err(lost(method))
        } else {
            reply
        }
    }
}

/// A journal behind faults: each operation may fail before or after its effect.
#[derive(Debug)]
pub(crate) struct FaultyJournal {
    pub(crate) inner: Arc<dyn Journal>,
    pub(crate) faults: Faults,
}

impl FaultyJournal {
    async fn through<T>(
        &self,
        operation: &'static str,
        effect: impl Future<Output = Result<T, JournalError>> + Send,
    ) -> Result<T, JournalError> {
        let failure = |reason: &str| JournalError::Store {
            operation,
            reason: reason.to_owned(),
        };
        if self.faults.is_dead() {
            return Err(failure("the process died"));
        }
        let (before, after) = self.faults.journal_fails();
        if before {
            return Err(failure("the request was dropped"));
        }
        let result = effect.await;
        if after {
            Err(failure("the reply was lost"))
        } else {
            result
        }
    }
}

#[async_trait]
impl Journal for FaultyJournal {
    async fn list(&self, account: AccountRef) -> Result<Vec<Entry>, JournalError> {
        self.through("list", self.inner.list(account)).await
    }

    async fn claim(&self, record: &Record) -> Result<Revision, JournalError> {
        self.through("claim", self.inner.claim(record)).await
    }

    async fn append(&self, entry: &Entry, attempt: &Attempt) -> Result<Revision, JournalError> {
        self.through("append", self.inner.append(entry, attempt)).await
    }

    async fn remove(&self, entry: &Entry) -> Result<(), JournalError> {
        self.through("remove", self.inner.remove(entry)).await
    }
}
