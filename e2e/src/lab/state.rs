//! What the lab wrote down about itself: its shape, how far it got, and every process it started. Written
//! whole and renamed into place, so that a reader never sees half of it.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd as _;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::error::LabError;
use super::places::LabPlaces;
use super::process::Record;
use super::spec::LabSpec;

/// How far a lab is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Being raised, or left half-way by a driver that died.
    Raising,
    /// Everything was ready once.
    Up,
    /// Being lowered, or left half-way.
    Lowering,
}

/// A lab's record of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) spec: LabSpec,
    pub(crate) processes: Vec<Record>,
}

impl State {
    /// The record, if there is one.
    pub(crate) fn read(lab: &LabPlaces) -> Result<Option<Self>, LabError> {
        let path = lab.state();
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| LabError::Malformed {
                    path,
                    what: "a lab's state",
                    source,
                }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LabError::io(format!("read {}", path.display()))(error)),
        }
    }

    pub(crate) fn write(&self, lab: &LabPlaces) -> Result<(), LabError> {
        let path = lab.state();
        let bytes = serde_json::to_vec_pretty(self).map_err(|source| LabError::Malformed {
            path: path.clone(),
            what: "a lab's state",
            source,
        })?;
        let doing = || format!("write {}", path.display());
        let mut file = tempfile::NamedTempFile::new_in(lab.run()).map_err(LabError::io(doing()))?;
        file.write_all(&bytes).map_err(LabError::io(doing()))?;
        file.persist(&path)
            .map_err(|error| LabError::io(doing())(error.error))?;
        Ok(())
    }
}

/// Held while a lab is raised, lowered, or has its processes changed. The kernel lets go of it when its
/// holder dies, however that happens.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: fs::File,
}

impl Lock {
    /// Takes the lock, or says that another has it.
    pub(crate) fn take(lab: &LabPlaces) -> Result<Self, LabError> {
        Self::with(lab, FlockOperation::NonBlockingLockExclusive)
    }

    /// Waits for the lock; for changes that are over in a moment.
    pub(crate) fn wait(lab: &LabPlaces) -> Result<Self, LabError> {
        Self::with(lab, FlockOperation::LockExclusive)
    }

    fn with(lab: &LabPlaces, operation: FlockOperation) -> Result<Self, LabError> {
        let path = lab.lock();
        let doing = format!("lock {}", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(LabError::io(doing.clone()))?;
        }
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(LabError::io(doing.clone()))?;
        match flock(file.as_fd(), operation) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LabError::Busy(lab.name().to_owned())),
            Err(error) => Err(LabError::Io {
                doing,
                source: error.into(),
            }),
        }
    }
}
