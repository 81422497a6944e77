//! Where everything lies on the slice's volume.
//!
//! `run` mounts single directories of it; everything below `private` it never sees. Owns names, and the
//! making of directories; what is in them belongs to the modules that write them.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tradewind_gateway_api::slice::{
    BIN_SUBPATH, CONTROL_SOCKET, CONTROL_SUBPATH, HOME_SUBPATH, INPUTS_SUBPATH, OUTPUT_SUBPATH,
    SCRATCH_SUBPATH, STEP_PROGRAM, writable_subpath,
};

/// The slice's volume, as `fetch` and `collect` see it.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    root: PathBuf,
}

impl Volume {
    /// The volume mounted at `root`.
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where `run` writes a unit's result.
    pub(crate) fn output(&self) -> PathBuf {
        self.root.join(OUTPUT_SUBPATH)
    }

    /// Where inputs are laid out.
    pub(crate) fn inputs(&self) -> PathBuf {
        self.root.join(INPUTS_SUBPATH)
    }

    /// The program for `run`.
    pub(crate) fn step_program(&self) -> PathBuf {
        let name = Path::new(STEP_PROGRAM).file_name().unwrap_or_default();
        self.root.join(BIN_SUBPATH).join(name)
    }

    /// Where `step` finds `collect`.
    pub(crate) fn socket(&self) -> PathBuf {
        self.root.join(CONTROL_SUBPATH).join(CONTROL_SOCKET)
    }

    /// The opened template.
    pub(crate) fn template(&self) -> PathBuf {
        self.private().join("template.json")
    }

    /// Says that inputs are complete.
    pub(crate) fn fetched_mark(&self) -> PathBuf {
        self.private().join("fetched")
    }

    /// Downloads on their way.
    pub(crate) fn downloads(&self) -> PathBuf {
        self.private().join("downloads")
    }

    /// What was done.
    pub(crate) fn journal(&self) -> PathBuf {
        self.private().join("journal")
    }

    /// A unit's output after `run` lost sight of it.
    pub(crate) fn taken(&self, unit: u32) -> PathBuf {
        self.private().join("taken").join(unit.to_string())
    }

    /// A unit's output while it is being taken.
    pub(crate) fn taking(&self, unit: u32) -> PathBuf {
        self.private().join("taken").join(format!("{unit}.partial"))
    }

    /// A unit's sealed output on its way to storage.
    pub(crate) fn sealed(&self, unit: u32) -> PathBuf {
        self.private().join("sealed").join(format!("{unit}.age"))
    }

    /// The sealed report on its way to storage.
    pub(crate) fn sealed_report(&self) -> PathBuf {
        self.private().join("sealed").join("report.age")
    }

    /// The private part's root.
    pub(crate) fn private(&self) -> PathBuf {
        self.root.join("private")
    }

    /// Makes all directories that are not there; `writables` is how many paths the template names.
    pub(crate) fn make_directories(&self, writables: usize) -> io::Result<()> {
        let shared = [
            CONTROL_SUBPATH,
            INPUTS_SUBPATH,
            BIN_SUBPATH,
            OUTPUT_SUBPATH,
            HOME_SUBPATH,
            SCRATCH_SUBPATH,
        ]
        .map(|name| self.root.join(name));
        let writables = (0..writables).map(|index| self.root.join(writable_subpath(index)));
        let private = ["taken", "sealed", "downloads"].map(|name| self.private().join(name));
        for directory in shared
            .into_iter()
            .chain(writables)
            .chain([self.private()])
            .chain(private)
        {
            match fs::DirBuilder::new().mode(0o700).create(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?,
            }
        }
        Ok(())
    }
}
