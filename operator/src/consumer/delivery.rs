//! Puts checked results where the job wants them.
//!
//! A ConfigMap is only ever created: one that exists is ours, by its annotation, or in the way. What stays on the
//! gateway needs nothing but having been checked.

use std::{collections::BTreeMap, fs, path::Path};

use k8s_openapi::{ByteString, api::core::v1::ConfigMap};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tradewind_market::{JobId, UnitIndex};

/// Says which job a ConfigMap holds the outputs of.
pub(crate) const JOB_ANNOTATION: &str = "tradewind.dev/job-id";
/// What the field's documentation promises: half of what the API server takes, for base64 and keys.
const CONFIG_MAP_BYTES_MAX: usize = 512 << 10;
/// The API server's bound on a key.
const KEY_CHARS_MAX: usize = 253;

/// Why results are not where the job wants them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// More than a ConfigMap holds.
    #[error(
        "the results have more than {CONFIG_MAP_BYTES_MAX} bytes in all: let them stay on the gateway, or name a PersistentVolumeClaim"
    )]
    TooLarge,
    /// A file's path is no key.
    #[error(
        "the file {path} of unit {unit} cannot be a key of a ConfigMap: only letters, digits, dots, dashes and underscores, at most {KEY_CHARS_MAX}"
    )]
    Key {
        /// Which unit.
        unit: UnitIndex,
        /// Its path.
        path: String,
    },
    /// The ConfigMap exists and is not ours.
    #[error("ConfigMap {name} exists already and is never overwritten: delete it")]
    Occupied {
        /// Its name.
        name: String,
    },
    /// The file could not be read back.
    #[error("a fetched result could not be read")]
    Read(#[source] std::io::Error),
    /// The API server did not take it.
    #[error("ConfigMap {name} could not be created")]
    Api {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
}

/// Adds a unit's files to what goes into the ConfigMap, as `UNIT.PATH` with dots for slashes.
pub(crate) fn collect_small(
    files: &mut BTreeMap<String, Vec<u8>>,
    unit: UnitIndex,
    directory: &Path,
) -> Result<(), DeliveryError> {
    let mut found = Vec::new();
    walk(directory, "", &mut found).map_err(DeliveryError::Read)?;
    for (path, content) in found {
        let key = format!("{unit}.{}", path.replace('/', "."));
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if key.len() > KEY_CHARS_MAX || !key.chars().all(allowed) || files.contains_key(&key) {
            return Err(DeliveryError::Key { unit, path });
        }
        files.insert(key, content);
    }
    let total: usize = files.iter().map(|(key, content)| key.len() + content.len()).sum();
    if total > CONFIG_MAP_BYTES_MAX {
        Err(DeliveryError::TooLarge)
    } else {
        Ok(())
    }
}

/// Reads small files only: what is larger than the whole may be ends it.
fn walk(directory: &Path, prefix: &str, found: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let path = format!("{prefix}{}", name.to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), &format!("{path}/"), found)?;
        } else if entry.metadata()?.len() > CONFIG_MAP_BYTES_MAX as u64 {
            // Its length alone says that it does not fit; its bytes need not be read to say so.
            found.push((path, vec![0; CONFIG_MAP_BYTES_MAX + 1]));
        } else {
            found.push((path, fs::read(entry.path())?));
        }
    }
    Ok(())
}

/// Whether the ConfigMap holds the outputs of the job.
pub(crate) fn is_of(map: &ConfigMap, job: JobId) -> bool {
    let annotations = map.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get(JOB_ANNOTATION))
        .is_some_and(|id| *id == job.to_string())
}

/// Whether the ConfigMap was created before: nothing needs to be fetched again then.
pub(crate) async fn is_delivered(
    client: &Client,
    namespace: &str,
    name: &str,
    job: JobId,
) -> Result<bool, DeliveryError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    match api.get_opt(name).await {
        Ok(Some(map)) if is_of(&map, job) => Ok(true),
        Ok(Some(_)) => Err(DeliveryError::Occupied {
            name: name.to_owned(),
        }),
        Ok(None) => Ok(false),
        Err(source) => Err(DeliveryError::Api {
            name: name.to_owned(),
            source,
        }),
    }
}

/// Creates the ConfigMap, or finds that we did.
pub(crate) async fn create_config_map(
    client: &Client,
    namespace: &str,
    name: &str,
    job: JobId,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<(), DeliveryError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            annotations: Some([(JOB_ANNOTATION.to_owned(), job.to_string())].into()),
            ..ObjectMeta::default()
        },
        binary_data: Some(
            files
                .iter()
                .map(|(key, bytes)| (key.clone(), ByteString(bytes.clone())))
                .collect(),
        ),
        ..ConfigMap::default()
    };
    match api.create(&PostParams::default(), &map).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            if is_delivered(client, namespace, name, job).await? {
                Ok(())
            } else {
                Err(DeliveryError::Occupied {
                    name: name.to_owned(),
                })
            }
        }
        Err(source) => Err(DeliveryError::Api {
            name: name.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    #[test]
    fn files_of_units_become_keys_that_do_not_meet() {
        let mut files = BTreeMap::new();
        let (first, second) = (
            unit(&[("strip.bmp", b"a"), ("log/out.txt", b"b")]),
            unit(&[("strip.bmp", b"c")]),
        );
        collect_small(&mut files, UnitIndex::new(0), first.path()).unwrap();
        collect_small(&mut files, UnitIndex::new(1), second.path()).unwrap();
        let keys: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(keys, ["0.log.out.txt", "0.strip.bmp", "1.strip.bmp"]);
    }

    #[test]
    fn what_does_not_fit_a_config_map_is_refused() {
        let large = vec![0; CONFIG_MAP_BYTES_MAX + 1];
        let refused = collect_small(
            &mut BTreeMap::new(),
            UnitIndex::new(0),
            unit(&[("big", &large)]).path(),
        );
        assert!(matches!(refused, Err(DeliveryError::TooLarge)), "{refused:?}");
        let refused = collect_small(
            &mut BTreeMap::new(),
            UnitIndex::new(0),
            unit(&[("a b", b"")]).path(),
        );
        assert!(matches!(refused, Err(DeliveryError::Key { .. })), "{refused:?}");
        let meet = unit(&[("a/b", b""), ("a.b", b"")]);
        let refused = collect_small(&mut BTreeMap::new(), UnitIndex::new(0), meet.path());
        assert!(matches!(refused, Err(DeliveryError::Key { .. })), "{refused:?}");
    }
}
