//! What has been done in this slice, kept where `run` cannot see it.
//!
//! One JSON line a fact, synced before anything is done because of it. A line that a crash cut off is no
//! fact. Owns the file and the fold over its records; it never decides.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tradewind_gateway_api::slice::{AbstainCause, Abstention, ReportRef, SliceConfig, UnitReport};
use tradewind_result::Outcome;

/// Disk kept back so that the last lines find room on a disk that a unit has filled.
const RESERVE_BYTES: usize = 64 * 1024;
/// Largest journal that is read back: far above a million units' records.
const JOURNAL_BYTES_MAX: u64 = 2 << 30;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Record {
    /// The unit may have run from here on.
    Started {
        /// Which unit.
        unit: u32,
    },
    /// The attempt came to nothing.
    Lost {
        /// Which unit.
        unit: u32,
        /// Why.
        cause: AbstainCause,
        /// For people.
        detail: String,
    },
    /// The unit's output is out of `run`'s sight.
    Taken(Taken),
    /// The output is sealed in a file, and digested.
    Sealed(UnitReport),
    /// The sealed output is stored.
    Stored {
        /// Which unit.
        unit: u32,
    },
    /// The report over all units is stored.
    Reported(ReportRef),
    /// The slice has given up.
    Abstained(Abstention),
}

/// What is known of a unit when its output is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Taken {
    /// Which unit.
    pub unit: u32,
    /// How its program ended.
    pub outcome: Outcome,
    /// How long it ran, in milliseconds.
    pub millis: u64,
    /// The end of its stderr.
    pub stderr_tail: String,
}

/// How far a unit has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Taken, not yet sealed.
    Taken(Taken),
    /// Sealed, not yet stored.
    Sealed(UnitReport),
    /// Stored.
    Stored(UnitReport),
}

/// Everything known of the slice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SliceState {
    /// Units that ended with a result.
    pub units: BTreeMap<u32, Progress>,
    /// Starts of each unit.
    pub starts: BTreeMap<u32, u32>,
    /// The last known cause of a lost attempt.
    pub last_loss: BTreeMap<u32, (AbstainCause, String)>,
    /// The report, once it is stored.
    pub report: Option<ReportRef>,
    /// Why the slice has given up, if it has.
    pub abstained: Option<Abstention>,
}

impl SliceState {
    /// Takes in one fact.
    pub(crate) fn apply(&mut self, record: Record) {
        match record {
            Record::Started { unit } => {
                let starts = self.starts.entry(unit).or_default();
                *starts = starts.saturating_add(1);
            }
            Record::Lost { unit, cause, detail } => {
                self.last_loss.insert(unit, (cause, detail));
            }
            Record::Taken(taken) => {
                self.units.insert(taken.unit, Progress::Taken(taken));
            }
            Record::Sealed(report) => {
                self.units.insert(report.unit.get(), Progress::Sealed(report));
            }
            Record::Stored { unit } => {
                if let Some(progress) = self.units.get_mut(&unit)
                    && let Progress::Sealed(report) = progress
                {
                    *progress = Progress::Stored(*report);
                }
            }
            Record::Reported(report) => self.report = Some(report),
            Record::Abstained(abstention) => {
                self.abstained.get_or_insert(abstention);
            }
        }
    }

    /// The first unit without a result, or `None` if all have one.
    pub(crate) fn next_unit(&self, config: &SliceConfig) -> Option<u32> {
        let end = config.end_unit()?;
        (config.first_unit.get()..end).find(|unit| !self.units.contains_key(unit))
    }

    /// Units with a result that is not yet stored, ascending.
    pub(crate) fn unstored(&self) -> impl Iterator<Item = u32> {
        let pending = self
            .units
            .iter()
            .filter(|(_, progress)| !matches!(progress, Progress::Stored(_)));
        pending.map(|(unit, _)| *unit)
    }

    /// Stored units, ascending.
    pub(crate) fn stored(&self) -> impl Iterator<Item = &UnitReport> {
        self.units.values().filter_map(|progress| match progress {
            Progress::Stored(report) => Some(report),
            Progress::Taken(_) | Progress::Sealed(_) => None,
        })
    }
}

/// The open journal: the one writer of its file.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    reserve: PathBuf,
    state: SliceState,
}

impl Journal {
    /// Opens the journal at `path`, or starts one, and reads what is in it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let mut text = Vec::new();
        Read::by_ref(&mut file)
            .take(JOURNAL_BYTES_MAX)
            .read_to_end(&mut text)?;
        let mut state = SliceState::default();
        let mut whole = 0_u64;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            // Only a line's end makes it whole: a crash can cut a line, and only the last.
            let Some(json) = line.strip_suffix(b"\n") else {
                break;
            };
            state.apply(serde_json::from_slice(json)?);
            whole += line.len() as u64;
        }
        file.set_len(whole)?;
        file.seek(SeekFrom::Start(whole))?;
        let reserve = path.with_extension("reserve");
        if !reserve.exists() {
            std::fs::write(&reserve, vec![1; RESERVE_BYTES])?;
        }
        Ok(Self { file, reserve, state })
    }

    /// Everything known.
    pub(crate) fn state(&self) -> &SliceState {
        &self.state
    }

    /// Writes a fact down for good, then takes it in.
    pub(crate) fn append(&mut self, record: Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        let end = self.file.stream_position()?;
        if let Err(error) = self.write(&line) {
            if error.raw_os_error() != Some(Errno::NOSPC.raw_os_error()) {
                return Err(error);
            }
            std::fs::remove_file(&self.reserve)?;
            self.file.set_len(end)?;
            self.file.seek(SeekFrom::Start(end))?;
            self.write(&line)?;
        }
        self.state.apply(record);
        Ok(())
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.write_all(line)?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(unit: u32) -> Record {
        Record::Taken(Taken {
            unit,
            outcome: Outcome::Exit(0),
            millis: 5,
            stderr_tail: String::new(),
        })
    }

    #[test]
    fn a_line_cut_off_by_a_crash_is_no_fact_and_nothing_after_it_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        journal.append(Record::Started { unit: 0 }).unwrap();
        journal.append(taken(0)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let first_line = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in first_line..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut journal = Journal::open(&path).unwrap();
            assert!(journal.state().units.is_empty(), "cut at {cut}");
            assert_eq!(journal.state().starts[&0], 1);
            journal.append(taken(0)).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
        assert_eq!(Journal::open(&path).unwrap().state().units.len(), 1);
    }

    #[test]
    fn the_first_abstention_stands() {
        let mut state = SliceState::default();
        for cause in [AbstainCause::TimeLimit, AbstainCause::Storage] {
            state.apply(Record::Abstained(Abstention::new(cause, None, "")));
        }
        assert_eq!(state.abstained.unwrap().cause, AbstainCause::TimeLimit);
    }
}
