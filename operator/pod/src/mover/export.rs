//! Results to a volume: each group is fetched beside its place, compared with the agreed root, and only then given the
//! names that users see. A directory that is there already stays as it is: it holds the same, or the task fails.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;
use tradewind_gateway_api::archive::{ArchiveError, Modes};
use tradewind_gateway_api::client::{ClientError, GatewayClient};
use tradewind_gateway_api::index::SignedIndex;
use tradewind_gateway_api::mover::{ExportGroup, ExportTask, MoverCause, MoverReport};
use tradewind_gateway_api::results::{self, FetchedUnit, ResultsError, Wanted};
use tradewind_gateway_api::seal::OpeningKey;
use tradewind_market::{Address, UnitIndex, UnitSet, Units};
use tradewind_result::tree::{Access, TreeReader};
use tradewind_result::{ContentDigest, Hashing, Outcome};

use super::claim::{self, Absent};
use super::{Failure, Places, gateways};
use crate::clear::clear;
use crate::report::chain;

pub(super) async fn run(task: &ExportTask, places: &Places) -> Result<MoverReport, Failure> {
    let key = OpeningKey::from_text(task.output_key.expose())
        .map_err(|error| Failure::new(MoverCause::Node, chain(&error)))?;
    let exporter = Exporter {
        task,
        places,
        key,
        client: gateways(&task.gateways)?,
        target: claim::open(&places.claim, task.sub_path.as_deref(), Absent::Make)?,
    };
    let (mut count, mut exited_badly) = (0_u32, UnitSet::new());
    for group in &task.groups {
        let units = exporter.bring(group).await?;
        count = count.saturating_add(group.units.count.get());
        for unit in units.iter().filter(|unit| !unit.outcome.is_success()) {
            exited_badly.insert(unit.unit);
        }
    }
    Ok(MoverReport::exported(Units::new(count), &exited_badly))
}

struct Exporter<'a> {
    task: &'a ExportTask,
    places: &'a Places,
    key: OpeningKey,
    client: GatewayClient,
    /// Where the units' directories go.
    target: OwnedFd,
}

impl Exporter<'_> {
    /// Brings a group from the first provider that has what was agreed on.
    async fn bring(&self, group: &ExportGroup) -> Result<Vec<FetchedUnit>, Failure> {
        let wanted = Wanted {
            job: self.task.job,
            round: group.round,
            units: group.units,
            root: group.root,
            salt: self.task.salt,
            limits: self.task.limits,
        };
        let mut failure = Failure::new(MoverCause::Gateway, "no seat stored the agreed result");
        for provider in &group.providers {
            match self.bring_from(&wanted, *provider).await {
                Ok(units) => return Ok(units),
                Err(error) if error.cause == MoverCause::Gateway => {
                    eprintln!("provider {provider}: {}", error.detail);
                    failure = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(failure)
    }

    async fn bring_from(&self, wanted: &Wanted, provider: Address) -> Result<Vec<FetchedUnit>, Failure> {
        let index = results::get_index(&self.client, wanted, provider)
            .await
            .map_err(|error| of_results(&error))?;
        if let Some(units) = self.present(wanted, &index) {
            return Ok(units);
        }
        // Named by the round: no other mover works there, and one that was cut off left it for us to clear.
        let name = format!(".tradewind-{}", wanted.round);
        let staging = self.stage(&name)?;
        let places = results::Places {
            scratch: &self.places.passage,
            target: &claim::path_of(staging.as_fd()),
            modes: Modes::OwnersOwn,
        };
        let fetched = results::fetch(&self.client, &self.key, wanted, &index, places).await;
        let outcome = fetched
            .map_err(|error| of_results(&error))
            .and_then(|units| self.place(&staging, &units).map(|()| units));
        let cleared = self.unstage(&name);
        let units = outcome?;
        cleared?;
        rustix::fs::syncfs(&self.target).map_err(|error| Failure::of_volume("/", &error.into()))?;
        Ok(units)
    }

    /// The group's units, where all are on the volume already: then nothing is fetched.
    fn present(&self, wanted: &Wanted, index: &SignedIndex) -> Option<Vec<FetchedUnit>> {
        let units = index.statement.units.iter().map(|stored| {
            Some(FetchedUnit {
                unit: stored.unit,
                outcome: Outcome::from_code(stored.outcome).ok()?,
                manifest_digest: self.digest_of(stored.unit)?,
            })
        });
        let units: Vec<FetchedUnit> = units.collect::<Option<_>>()?;
        results::is_agreed(wanted, &units).ok()?.then_some(units)
    }

    /// What is at the unit's place, if it could be a result.
    fn digest_of(&self, unit: UnitIndex) -> Option<ContentDigest> {
        let directory = claim::open_at(self.target.as_fd(), unit.to_string()).ok()?;
        let tree = TreeReader::open(&claim::path_of(directory.as_fd()), Access::AsIs).ok()?;
        let manifest = tree.manifest(self.task.limits, Hashing::Streamed).ok()?;
        Some(manifest.digest())
    }

    /// An empty directory beside the units' own.
    fn stage(&self, name: &str) -> Result<OwnedFd, Failure> {
        let refused = |error: Errno| Failure::of_volume(name, &error.into());
        claim::make(self.target.as_fd(), name).map_err(refused)?;
        let staging = claim::open_at(self.target.as_fd(), name).map_err(refused)?;
        self.clear(name)?;
        Ok(staging)
    }

    fn unstage(&self, name: &str) -> Result<(), Failure> {
        self.clear(name)?;
        rustix::fs::unlinkat(&self.target, name, rustix::fs::AtFlags::REMOVEDIR)
            .map_err(|error| Failure::of_volume(name, &error.into()))
    }

    fn clear(&self, name: &str) -> Result<(), Failure> {
        let path = claim::path_of(self.target.as_fd()).join(name);
        clear(&path).map_err(|error| Failure::of_volume(name, &error))
    }

    /// Gives the units' directories their names. A rename of a directory replaces nothing but an empty one.
    fn place(&self, staging: &OwnedFd, units: &[FetchedUnit]) -> Result<(), Failure> {
        for fetched in units {
            let name = fetched.unit.to_string();
            match rustix::fs::renameat(staging, &*name, &self.target, &*name) {
                Ok(()) => {}
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {
                    if self.digest_of(fetched.unit) != Some(fetched.manifest_digest) {
                        let detail = format!("{name} holds something else and is never overwritten");
                        return Err(Failure::new(MoverCause::Occupied, detail));
                    }
                }
                Err(error) => return Err(Failure::of_volume(&name, &error.into())),
            }
        }
        Ok(())
    }
}

fn of_results(error: &ResultsError) -> Failure {
    match error {
        ResultsError::Archive {
            unit,
            source: ArchiveError::Write { path, source },
        } => Failure::of_volume(&format!("{unit}/{path}"), source),
        ResultsError::Scratch { path, source }
        | ResultsError::Gateway(ClientError::File { path, source }) => Failure::of_node(path, source),
        ResultsError::Interrupted => Failure::new(MoverCause::Node, error.to_string()),
        ResultsError::Gateway(_)
        | ResultsError::NoIndex { .. }
        | ResultsError::Index { .. }
        | ResultsError::Seal { .. }
        | ResultsError::Archive { .. }
        | ResultsError::Outcome(_)
        | ResultsError::Root(_)
        | ResultsError::OtherRoot { .. } => Failure::new(MoverCause::Gateway, chain(error)),
    }
}
