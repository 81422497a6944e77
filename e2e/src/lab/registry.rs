//! The lab's image registry: Debian's docker-registry, plain HTTP, in the services namespace. Pods pull from
//! it for real, by digest.

use std::fs;
use std::time::Duration;

use super::error::LabError;
use super::places::{LabPlaces, SERVICES_ADDRESS};
use super::process::{Launch, Place};
use super::raising::Raising;

pub(crate) const REGISTRY_PORT: u16 = 5000;
pub(crate) const COMPONENT: &str = "services/registry";
/// Its folder among the services' data.
const STORE: &str = "registry";
const READY_WITHIN: Duration = Duration::from_secs(20);

/// Its address, as it stands in image references.
pub(crate) fn address() -> String {
    format!("{SERVICES_ADDRESS}:{REGISTRY_PORT}")
}

/// Forgets a repository: what was resolved before can no longer be pulled.
pub(super) fn forget(places: &LabPlaces, repository: &str) -> Result<(), LabError> {
    let repositories = "docker/registry/v2/repositories";
    let dir = places
        .data()
        .join("services")
        .join(STORE)
        .join(repositories)
        .join(repository);
    fs::remove_dir_all(&dir).map_err(LabError::io(format!("remove {}", dir.display())))
}

/// Starts it, and waits until it answers.
pub(super) async fn raise(raising: &Raising<'_>) -> Result<(), LabError> {
    let data = raising.places.data().join("services");
    fs::create_dir_all(&data).map_err(LabError::io(format!("make {}", data.display())))?;
    let config = data.join("registry.yaml");
    let content = format!(
        "version: 0.1\n\
         log: {{level: warn}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: '{}'}}\n",
        data.join(STORE).display(),
        address(),
    );
    fs::write(&config, content).map_err(LabError::io(format!("write {}", config.display())))?;
    let record = raising.roster.start(Launch {
        name: COMPONENT.to_owned(),
        argv: vec![
            "docker-registry".to_owned(),
            "serve".to_owned(),
            config.display().to_string(),
        ],
        place: Place::Network(raising.places.services_namespace()),
        cgroup_members: raising.cgroups.members(&raising.services_cgroup()),
        log: raising.places.log(COMPONENT),
    })?;
    raising
        .wait("the image registry", READY_WITHIN, &[&record], || async {
            tokio::net::TcpStream::connect(address()).await.is_ok()
        })
        .await?;
    raising
        .progress
        .say(format!("image registry ready at {}", address()));
    Ok(())
}
