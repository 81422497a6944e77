//! Readiness: what a process still waits for before it should get work, and why.
//!
//! It never ends anything: a process that is not ready is left alone, one that cannot go on ends itself.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;

/// All conditions for readiness of one process. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<&'static str, Option<String>>,
    draining: bool,
}

/// One condition for readiness, held by the part of the process that knows about it.
#[derive(Clone, Debug)]
pub struct Gate {
    name: &'static str,
    readiness: Readiness,
}

/// What /readyz answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadyReport {
    /// Whether work may be sent.
    pub ready: bool,
    /// Whether the process is ending.
    pub draining: bool,
    /// For each gate: nothing if it is open, else what it waits for.
    pub gates: BTreeMap<&'static str, Option<String>>,
}

impl Readiness {
    /// Adds a condition that is unmet until its gate says otherwise.
    pub fn gate(&self, name: &'static str) -> Gate {
        self.with(|state| state.waiting.insert(name, Some("not started".to_owned())));
        Gate {
            name,
            readiness: self.clone(),
        }
    }

    /// Says that the process is ending: never ready again.
    pub fn drain(&self) {
        self.with(|state| state.draining = true);
    }

    /// Everything there is to know, at this moment.
    pub fn report(&self) -> ReadyReport {
        self.with(|state| ReadyReport {
            ready: !state.draining && state.waiting.values().all(Option::is_none),
            draining: state.draining,
            gates: state.waiting.clone(),
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // Every change under the lock is one assignment: a panic elsewhere cannot leave it half done.
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Gate {
    /// The condition holds.
    pub fn open(&self) {
        self.readiness.with(|state| state.waiting.insert(self.name, None));
    }

    /// The condition does not hold, and why.
    pub fn wait(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.readiness
            .with(|state| state.waiting.insert(self.name, Some(reason)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_while_all_gates_are_open_and_nothing_drains() {
        let readiness = Readiness::default();
        assert!(readiness.report().ready, "nothing to wait for");
        let (chain, store) = (readiness.gate("chain"), readiness.gate("store"));
        assert!(!readiness.report().ready);
        chain.open();
        store.wait("disk is full");
        let report = readiness.report();
        assert!(!report.ready);
        assert_eq!(report.gates["chain"], None);
        assert_eq!(report.gates["store"].as_deref(), Some("disk is full"));
        store.open();
        assert!(readiness.report().ready);
        readiness.drain();
        assert!(!readiness.report().ready && readiness.report().draining);
    }
}
