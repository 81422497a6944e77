//! Labs: several real single-node clusters, an image registry and an EVM node on one machine, in network
//! namespaces that lead nowhere else.
//!
//! In the order in which a lab comes about: [`ground`] checks the machine, `toolchain` builds what Debian
//! does not carry, `network` lays the wires, `registry`, `evm` and `cluster` start what runs, `state` and
//! `roster` write down what was started, and `driver` takes tests inside. Nothing here knows the product
//! that is tested.

mod cgroups;
pub mod cli;
mod cluster;
mod command;
mod cpus;
mod driver;
pub mod enforcer;
mod error;
mod evm;
pub mod ground;
mod images;
mod network;
pub mod overlay;
mod pki;
mod places;
mod process;
mod progress;
mod raising;
mod registry;
mod roster;
mod spec;
mod state;
mod toolchain;

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};

use futures::future::try_join_all;
use tokio_util::sync::CancellationToken;

pub use cluster::{Cluster, Target};
pub use error::LabError;
pub use evm::{DEV_ACCOUNTS, DevAccount, Evm, quantity};
pub use images::{Image, ImageReference, ImageSource, LaidFile};
pub use progress::Progress;
pub use spec::{ClusterSpec, EvmSpec, LabSpec, RuntimeSpec};
pub use state::Phase;
pub use toolchain::{cache_root, source_root};

use cgroups::Cgroups;
use driver::Driver;
use places::{LabPlaces, SERVICES_ADDRESS};
use raising::Raising;
use roster::Roster;
use state::{Lock, State};
use toolchain::Toolchain;

/// A lab that is up. Dropping it leaves the lab as it is; [`Lab::down`] takes it away.
#[derive(Debug)]
pub struct Lab {
    places: LabPlaces,
    spec: LabSpec,
    roster: Roster,
    driver: Driver,
    toolchain: Toolchain,
    progress: Progress,
}

/// How a lab is raised.
#[derive(Clone, Debug)]
pub struct Raise {
    /// Who is told.
    pub progress: Progress,
    /// Calls the raising off.
    pub call_off: CancellationToken,
    /// Lowers a lab of the same name first, even one that is up as asked for.
    pub fresh: bool,
}

impl Default for Raise {
    fn default() -> Self {
        Self {
            progress: Progress::shown(),
            call_off: CancellationToken::new(),
            fresh: false,
        }
    }
}

impl Lab {
    /// Raises a lab, or attaches to it where it is up in the same shape. What a dead driver left of a lab of
    /// this name is cleaned away first.
    pub fn up(spec: &LabSpec) -> Result<Self, LabError> {
        Self::raise(spec, &Raise::default())
    }

    /// [`Lab::up`], with choices.
    pub fn raise(spec: &LabSpec, how: &Raise) -> Result<Self, LabError> {
        let places = spec.check()?;
        ground::check()?;
        let toolchain = Toolchain::ensure(&how.progress)?;
        let lock = Lock::take(&places)?;
        match State::read(&places) {
            Ok(Some(state)) if !how.fresh && is_up(&state) => {
                if state.spec != *spec {
                    return Err(LabError::ShapeDiffers(spec.name.clone()));
                }
                how.progress.say(format!("lab {} is up already", spec.name));
                drop(lock);
                return Self::attach(&spec.name);
            }
            // A record that cannot be read is no reason to leave behind what it recorded.
            Ok(None) if !has_traces(&places) => {}
            _ => {
                how.progress
                    .say(format!("cleaning away what is left of lab {}", spec.name));
                clean(&places)?;
                remove_dir(&places.data())?;
            }
        }
        let raised = Self::raise_cleaned(spec, places.clone(), lock, toolchain, how);
        if raised.is_err() {
            how.progress.say(format!(
                "cleaning up; the logs stay in {}",
                places.logs().display()
            ));
            clean(&places)?;
        }
        raised
    }

    fn raise_cleaned(
        spec: &LabSpec,
        places: LabPlaces,
        lock: Lock,
        toolchain: Toolchain,
        how: &Raise,
    ) -> Result<Self, LabError> {
        let progress = how.progress.clone();
        for dir in [places.run(), places.logs()] {
            make_private_dir(&dir)?;
        }
        let program = places.own_program();
        make_private_dir(program.parent().unwrap_or(&program))?;
        fs::copy(toolchain::built_program("e2e")?, &program).map_err(LabError::io(format!(
            "copy the e2e program to {}",
            program.display()
        )))?;
        let state = State {
            phase: Phase::Raising,
            spec: spec.clone(),
            processes: Vec::new(),
        };
        let roster = Roster::begin(places.clone(), state, lock)?;
        let cgroups = Cgroups::observe()?;
        network::make_services(&places)?;
        let driver = Driver::enter(&places.services_namespace())?;
        let raising = Raising {
            places: &places,
            toolchain: &toolchain,
            cgroups: &cgroups,
            roster: &roster,
            progress: &progress,
        };
        cgroups.make(&raising.services_cgroup(), None)?;
        driver.run(async {
            tokio::select! {
                raised = raise_parts(&raising, spec) => raised,
                () = how.call_off.cancelled() => Err(LabError::CalledOff),
            }
        })??;
        roster.finish()?;
        progress.say(format!("lab {} is up", spec.name));
        Ok(Self {
            places,
            spec: spec.clone(),
            roster,
            driver,
            toolchain,
            progress,
        })
    }

    /// Attaches to a lab that is up.
    pub fn attach(name: &str) -> Result<Self, LabError> {
        let places = LabPlaces::new(name)?;
        let state = State::read(&places)?
            .filter(|state| state.phase == Phase::Up)
            .ok_or_else(|| LabError::NotUp(name.to_owned()))?;
        let driver = Driver::enter(&places.services_namespace())?;
        let progress = Progress::shown();
        let toolchain = Toolchain::ensure(&progress)?;
        let spec = state.spec.clone();
        let roster = Roster::open(places.clone(), state);
        Ok(Self {
            places,
            spec,
            roster,
            driver,
            toolchain,
            progress,
        })
    }

    /// Lowers a lab, whatever state it is in, and removes everything of it.
    pub fn down(name: &str) -> Result<(), LabError> {
        let places = LabPlaces::new(name)?;
        let _lock = Lock::take(&places)?;
        clean(&places)?;
        remove_dir(&places.data())
    }

    /// Attaches to the lab that `TRADEWIND_LAB` names, as `e2e lab with` sets it.
    pub fn from_environment() -> Result<Self, LabError> {
        let name = std::env::var("TRADEWIND_LAB").map_err(|_| {
            LabError::Shape("TRADEWIND_LAB names no lab; run this under `e2e lab with`".to_owned())
        })?;
        Self::attach(&name)
    }

    /// Runs a future inside the lab's services namespace, from where everything of the lab is reachable.
    pub fn run<F>(&self, future: F) -> Result<F::Output, LabError>
    where
        F: Future + Send,
        F::Output: Send,
    {
        self.driver.run(future)
    }

    /// How far the lab is, by its own record.
    pub fn phase(&self) -> Result<Phase, LabError> {
        let state = State::read(&self.places)?;
        state
            .map(|state| state.phase)
            .ok_or_else(|| LabError::NotUp(self.spec.name.clone()))
    }

    /// The lab's shape.
    pub fn spec(&self) -> &LabSpec {
        &self.spec
    }

    /// One of its clusters.
    pub fn cluster(&self, name: &str) -> Result<Cluster<'_>, LabError> {
        let index = self.spec.clusters.iter().position(|cluster| cluster.name == name);
        let index = index.ok_or_else(|| LabError::Unknown {
            what: "cluster",
            name: name.to_owned(),
            known: self.spec.cluster_names(),
        })?;
        Ok(Cluster {
            lab: self,
            places: self.places.cluster(name, index)?,
        })
    }

    /// All of its clusters.
    pub fn clusters(&self) -> Result<Vec<Cluster<'_>>, LabError> {
        self.spec
            .clusters
            .iter()
            .map(|cluster| self.cluster(&cluster.name))
            .collect()
    }

    /// Its EVM node.
    pub fn evm(&self) -> Evm<'_> {
        Evm { lab: self }
    }

    /// The image registry's `host:port`, for drivers, kubelets and pods alike; plain HTTP.
    pub fn registry(&self) -> String {
        registry::address()
    }

    /// The network that its services' one address is, such as `10.88.0.1/32`.
    pub fn services(&self) -> String {
        format!("{SERVICES_ADDRESS}/32")
    }

    /// Builds an image where it is not in the cache, and pushes it into the lab's registry.
    pub fn push(&self, source: &ImageSource) -> Result<ImageReference, LabError> {
        source.build(&self.progress)?.push(&self.places)
    }

    /// The same under another name: an image that only one test uses, so that it may be taken away.
    pub fn push_as(&self, source: &ImageSource, name: &str) -> Result<ImageReference, LabError> {
        source.build(&self.progress)?.renamed(name).push(&self.places)
    }

    /// Takes an image that was pushed under this name out of the registry.
    pub fn lose_image(&self, name: &str) -> Result<(), LabError> {
        registry::forget(&self.places, name)
    }

    /// A command that will run inside the lab's services namespace, with the lab's own kubectl and helm.
    pub fn command(&self, program: &str) -> Result<std::process::Command, LabError> {
        let mut command = network::inside(&self.places.services_namespace(), program);
        command
            .env("PATH", self.tools_path()?)
            .env("TRADEWIND_LAB", &self.spec.name);
        Ok(command)
    }

    /// A `PATH` in which `kubectl` and `helm` are the lab's own.
    fn tools_path(&self) -> Result<std::ffi::OsString, LabError> {
        let bin = self.places.data().join("bin");
        let doing = format!("lay out {}", bin.display());
        fs::create_dir_all(&bin).map_err(LabError::io(doing.clone()))?;
        for (name, program) in [
            ("kubectl", self.toolchain.kubernetes()),
            ("helm", self.toolchain.helm()),
        ] {
            match std::os::unix::fs::symlink(program, bin.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(LabError::io(doing)(error));
                }
                _ => {}
            }
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let entries = std::iter::once(bin).chain(std::env::split_paths(&path));
        std::env::join_paths(entries).map_err(|error| LabError::Shape(format!("PATH: {error}")))
    }

    /// The folder with what lives as long as the lab.
    pub fn data(&self) -> PathBuf {
        self.places.data()
    }

    /// The folder with the logs of all of the lab's processes.
    pub fn logs(&self) -> PathBuf {
        self.places.logs()
    }
}

async fn raise_parts(raising: &Raising<'_>, spec: &LabSpec) -> Result<(), LabError> {
    let mut clusters = Vec::new();
    for (index, cluster) in spec.clusters.iter().enumerate() {
        clusters.push((raising.places.cluster(&cluster.name, index)?, cluster));
    }
    let services = async {
        let evm = evm::raise(raising, &spec.evm);
        let registry = async {
            registry::raise(raising).await?;
            push_pause(raising).await
        };
        tokio::try_join!(evm, registry).map(drop)
    };
    let clusters = try_join_all(
        clusters
            .iter()
            .map(|(places, spec)| cluster::raise(raising, places, spec)),
    );
    tokio::try_join!(services, clusters).map(drop)
}

/// Every pod needs this image. Building and pushing block, and the other parts must not wait meanwhile.
async fn push_pause(raising: &Raising<'_>) -> Result<(), LabError> {
    let source = ImageSource::pause(raising.toolchain);
    let (progress, places) = (raising.progress.clone(), raising.places.clone());
    let pushed = tokio::task::spawn_blocking(move || source.build(&progress)?.push(&places)).await;
    pushed
        .map_err(|error| LabError::Io {
            doing: "push the image pause".to_owned(),
            source: error.into(),
        })?
        .map(drop)
}

/// Whether a lab was ready and all that it started still runs.
fn is_up(state: &State) -> bool {
    state.phase == Phase::Up && state.processes.iter().all(process::Record::alive)
}

fn has_traces(places: &LabPlaces) -> bool {
    places.run().exists() || places.data().exists() || !network::namespaces(places).is_empty()
}

/// Ends and removes everything of a lab but its data. Finds it by the lab's name alone, since the record of
/// a driver that was killed may lack its last step.
fn clean(places: &LabPlaces) -> Result<(), LabError> {
    let cgroups = Cgroups::observe()?;
    let group = places.cgroup();
    cgroups.kill_all(&group)?;
    cgroups.remove(&group)?;
    network::remove(places)?;
    remove_dir(&places.run())
}

/// Keys lie below these folders.
fn make_private_dir(dir: &Path) -> Result<(), LabError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let doing = format!("make {}", dir.display());
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(LabError::io(doing.clone()))?;
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(LabError::io(doing))
}

fn remove_dir(dir: &Path) -> Result<(), LabError> {
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(LabError::io(format!("remove {}", dir.display()))(error)),
    }
}
