//! Who runs in the lab: starts processes, writes each down, and ends or restarts them by their record.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use super::error::LabError;
use super::places::LabPlaces;
use super::process::{Launch, Record};
use super::state::{Lock, Phase, State};

/// How long a process may take to end after it was asked to.
const END_WITHIN: Duration = Duration::from_secs(20);

/// The lab's record of itself, kept in step with its file.
#[derive(Debug)]
pub(crate) struct Roster {
    places: LabPlaces,
    state: Mutex<State>,
    /// Held by whoever raises the lab, for as long as that takes.
    raising: Mutex<Option<Lock>>,
}

impl Roster {
    /// The roster of a lab that is about to be raised by us alone.
    pub(crate) fn begin(places: LabPlaces, state: State, lock: Lock) -> Result<Self, LabError> {
        state.write(&places)?;
        Ok(Self {
            places,
            state: Mutex::new(state),
            raising: Mutex::new(Some(lock)),
        })
    }

    /// The roster of a lab that is up.
    pub(crate) fn open(places: LabPlaces, state: State) -> Self {
        Self {
            places,
            state: Mutex::new(state),
            raising: Mutex::new(None),
        }
    }

    /// Marks the lab as up and lets others change it.
    pub(crate) fn finish(&self) -> Result<(), LabError> {
        self.change(|state| {
            state.phase = Phase::Up;
            Ok(())
        })?;
        held(&self.raising).take();
        Ok(())
    }

    /// Starts a process that is not in the roster yet.
    pub(crate) fn start(&self, launch: Launch) -> Result<Record, LabError> {
        self.change(|state| {
            let record = launch.start()?;
            state.processes.push(record.clone());
            Ok(record)
        })
    }

    /// Starts again, as before, a process that has ended.
    pub(crate) fn start_again(&self, name: &str) -> Result<Record, LabError> {
        self.change(|state| {
            let record = find_mut(state, name)?;
            if !record.alive() {
                *record = record.launch.clone().start()?;
            }
            Ok(record.clone())
        })
    }

    /// Sends a process a signal that ends it, and waits until it has.
    pub(crate) fn end(&self, name: &str, signal: Signal) -> Result<(), LabError> {
        let record = self.find(name)?;
        record.signal(signal)?;
        record.wait_end(END_WITHIN)
    }

    /// The newest record of a process.
    pub(crate) fn find(&self, name: &str) -> Result<Record, LabError> {
        self.change(|state| find_mut(state, name).cloned())
    }

    fn change<T>(&self, with: impl FnOnce(&mut State) -> Result<T, LabError>) -> Result<T, LabError> {
        let mut state = held(&self.state);
        let alone = held(&self.raising).is_some();
        let _lock = if alone {
            None
        } else {
            Some(Lock::wait(&self.places)?)
        };
        if !alone {
            // Another process may have restarted something since we looked.
            *state =
                State::read(&self.places)?.ok_or_else(|| LabError::NotUp(self.places.name().to_owned()))?;
        }
        let before = state.clone();
        let outcome = with(&mut state);
        if *state != before {
            state.write(&self.places)?;
        }
        outcome
    }
}

fn find_mut<'a>(state: &'a mut State, name: &str) -> Result<&'a mut Record, LabError> {
    let known = || {
        state
            .processes
            .iter()
            .map(Record::name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let Some(index) = state.processes.iter().position(|record| record.name() == name) else {
        return Err(LabError::Unknown {
            what: "process",
            name: name.to_owned(),
            known: known(),
        });
    };
    Ok(&mut state.processes[index])
}

/// A roster outlives a panic of one of its users: each change is written whole or not at all.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
