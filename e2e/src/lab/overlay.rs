//! A container runtime that is not what it says: it lays files of its owner over those of the image, and leaves the
//! rest to runc. What a data center can always do to those who run there, as test equipment.
//!
//! The runtime's shim starts it in place of runc, by its file name, with runc's arguments.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::{Value, json};

use super::error::LabError;
use super::spec::RuntimeSpec;

/// The file name by which the shim starts it.
pub const NAME: &str = "lab-runtime";
/// Beside it: the runtime that does the work, and what is to be laid over what.
const RUNC: &str = "runc";
const SPEC: &str = "overlay.json";
/// Where a container's name in its pod stands.
const CONTAINER_NAME: &str = "io.kubernetes.cri.container-name";

/// Lays out the handler's folder; the path of its program.
pub(crate) fn lay_out(dir: &Path, own: &Path, runc: &Path, spec: &RuntimeSpec) -> Result<PathBuf, LabError> {
    let doing = || format!("lay out {}", dir.display());
    fs::create_dir_all(dir).map_err(LabError::io(doing()))?;
    let text = serde_json::to_string(spec).map_err(|error| LabError::io(doing())(error.into()))?;
    fs::write(dir.join(SPEC), text).map_err(LabError::io(doing()))?;
    symlink(runc, dir.join(RUNC)).map_err(LabError::io(doing()))?;
    let program = dir.join(NAME);
    symlink(own, &program).map_err(LabError::io(doing()))?;
    Ok(program)
}

/// Does it as the shim asks; `program` is the path that it was started by.
pub fn run(program: &Path) -> ExitCode {
    let dir = program.parent().unwrap_or(Path::new("/"));
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let Err(error) = change(dir, &arguments) {
        eprintln!("{NAME}: {error}");
        return ExitCode::FAILURE;
    }
    let error = Command::new(dir.join(RUNC)).args(&arguments).exec();
    eprintln!("{NAME}: runc cannot be started: {error}");
    ExitCode::FAILURE
}

/// Changes the bundle of a container that is about to be created, if it is one of those meant.
fn change(dir: &Path, arguments: &[String]) -> std::io::Result<()> {
    let Some(bundle) = bundle_to_create(arguments) else {
        return Ok(());
    };
    let spec: RuntimeSpec = serde_json::from_slice(&fs::read(dir.join(SPEC))?)?;
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
    if config["annotations"][CONTAINER_NAME] == spec.container.as_str() {
        lay_over(&mut config, &spec.files);
        fs::write(&path, config.to_string())?;
    }
    Ok(())
}

fn bundle_to_create(arguments: &[String]) -> Option<PathBuf> {
    let create = arguments.iter().position(|argument| argument == "create")?;
    let mut rest = arguments[create..].iter();
    while let Some(argument) = rest.next() {
        if let Some(path) = argument.strip_prefix("--bundle=") {
            return Some(path.into());
        }
        if argument == "--bundle" || argument == "-b" {
            return rest.next().map(PathBuf::from);
        }
    }
    None
}

fn lay_over(config: &mut Value, files: &BTreeMap<PathBuf, PathBuf>) {
    let mounts = files.iter().map(|(over, file)| {
        json!({"destination": over, "type": "bind", "source": file, "options": ["bind", "ro", "nosuid", "nodev"]})
    });
    match config["mounts"].as_array_mut() {
        Some(present) => present.extend(mounts),
        None => config["mounts"] = mounts.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_container_meant_is_changed_and_only_when_it_is_created() {
        let dir = tempfile::tempdir().unwrap();
        let spec = RuntimeSpec {
            handler: "cheap".into(),
            container: "run".into(),
            files: [("/usr/bin/work".into(), "/srv/less-work".into())].into(),
        };
        lay_out(dir.path(), Path::new("/own"), Path::new("/runc"), &spec).unwrap();
        let mounts_after = |container: &str, verb: &str| {
            let config =
                json!({"annotations": {CONTAINER_NAME: container}, "mounts": [{"destination": "/proc"}]});
            fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
            let bundle = dir.path().display().to_string();
            change(
                dir.path(),
                &["--root", "/r", verb, "--bundle", &bundle, "id"].map(str::to_owned),
            )
            .unwrap();
            let config: Value =
                serde_json::from_slice(&fs::read(dir.path().join("config.json")).unwrap()).unwrap();
            config["mounts"].as_array().unwrap().len()
        };
        assert_eq!(mounts_after("run", "create"), 2);
        assert_eq!(mounts_after("fetch", "create"), 1);
        assert_eq!(mounts_after("run", "start"), 1);
    }
}
