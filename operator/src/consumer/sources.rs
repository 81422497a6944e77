//! Reads what a job names as its inputs out of the job's own namespace, and looks at what it names as its outputs.
//!
//! Only objects that carry the label `tradewind.dev/allow` are touched, so that a job's author reaches nothing
//! through the operator that the namespace's owner did not set out for jobs.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{Api, Client, Resource, ResourceExt};
use tradewind_crds::{ALLOW_LABEL, ComputeJobSpec, source::Input};

/// What an input consists of, as far as it can be known without moving bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Files that were read.
    Files(BTreeMap<String, Vec<u8>>),
}

/// An input by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedSource {
    /// Directory under /in.
    pub(crate) name: String,
    /// What it consists of.
    pub(crate) source: Source,
}

/// Why an input or output cannot be used, or could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// There is no such object.
    #[error("{kind} {name} does not exist in the job's namespace: create it")]
    Missing {
        /// Which kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The object does not carry the label.
    #[error(
        "{kind} {name} is not meant for jobs: label it with {ALLOW_LABEL}=true if jobs of this namespace may use it"
    )]
    NotAllowed {
        /// Which kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The operator has no right to read it.
    #[error(
        "{kind} {name} cannot be read by the operator: bind the secret-reader ClusterRole to its ServiceAccount in this namespace"
    )]
    Forbidden {
        /// Which kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// This kind of source or target is not served by this version.
    #[error("{name}: {what}")]
    Unsupported {
        /// Which input.
        name: String,
        /// What, and what to do instead.
        what: &'static str,
    },
    /// A ConfigMap to write to exists already and is not ours.
    #[error("ConfigMap {name} exists already and is never overwritten: delete it, or name another")]
    Occupied {
        /// Its name.
        name: String,
    },
    /// The API server did not answer.
    #[error("{kind} {name} could not be looked at")]
    Api {
        /// Which kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
}

/// Reads every input that the job names.
pub(crate) async fn observe_inputs(
    client: &Client,
    namespace: &str,
    spec: &ComputeJobSpec,
) -> Result<Vec<NamedSource>, SourceError> {
    let mut sources = Vec::with_capacity(spec.inputs.len());
    for input in &spec.inputs {
        sources.push(NamedSource {
            name: input.name.clone(),
            source: observe_input(client, namespace, input).await?,
        });
    }
    Ok(sources)
}

async fn observe_input(client: &Client, namespace: &str, input: &Input) -> Result<Source, SourceError> {
    if let Some(reference) = &input.config_map {
        let map: ConfigMap = get_allowed(client, namespace, "ConfigMap", &reference.name).await?;
        return Ok(Source::Files(files_of_config_map(map)));
    }
    if let Some(reference) = &input.secret {
        let secret: Secret = get_allowed(client, namespace, "Secret", &reference.name).await?;
        let files = secret.data.unwrap_or_default();
        return Ok(Source::Files(
            files
                .into_iter()
                .map(|(name, ByteString(bytes))| (name, bytes))
                .collect(),
        ));
    }
    let unsupported = |what| SourceError::Unsupported {
        name: input.name.clone(),
        what,
    };
    if input.persistent_volume_claim.is_some() {
        return Err(unsupported(
            "volumes are not served by this version: put the files into a ConfigMap",
        ));
    }
    if input.url.is_some() {
        return Err(unsupported(
            "url is not served by this version: put the file into a ConfigMap",
        ));
    }
    Err(unsupported(
        "blob is not served by this version: put the files into a ConfigMap",
    ))
}

fn files_of_config_map(map: ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(name, text)| (name, text.into_bytes()));
    let binary = map
        .binary_data
        .unwrap_or_default()
        .into_iter()
        .map(|(name, ByteString(bytes))| (name, bytes));
    text.chain(binary).collect()
}

/// Looks whether outputs can go where the job wants them; `job_annotation` marks a ConfigMap that is ours already.
pub(crate) async fn check_outputs(
    client: &Client,
    namespace: &str,
    spec: &ComputeJobSpec,
    is_ours: impl Fn(&ConfigMap) -> bool,
) -> Result<(), SourceError> {
    if spec.outputs.persistent_volume_claim.is_some() {
        let what =
            "volumes are not served by this version: let results stay on the gateway, or name a ConfigMap";
        return Err(SourceError::Unsupported {
            name: "outputs".to_owned(),
            what,
        });
    }
    if let Some(reference) = &spec.outputs.config_map {
        let name = &reference.name;
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let existing = api
            .get_opt(name)
            .await
            .map_err(|source| explain("ConfigMap", name, source))?;
        if existing.is_some_and(|map| !is_ours(&map)) {
            return Err(SourceError::Occupied { name: name.clone() });
        }
    }
    Ok(())
}

async fn get_allowed<K>(
    client: &Client,
    namespace: &str,
    kind: &'static str,
    name: &str,
) -> Result<K, SourceError>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let found = api
        .get_opt(name)
        .await
        .map_err(|source| explain(kind, name, source))?;
    let object = found.ok_or_else(|| SourceError::Missing {
        kind,
        name: name.to_owned(),
    })?;
    if object
        .labels()
        .get(ALLOW_LABEL)
        .is_some_and(|value| value == "true")
    {
        Ok(object)
    } else {
        Err(SourceError::NotAllowed {
            kind,
            name: name.to_owned(),
        })
    }
}

fn explain(kind: &'static str, name: &str, source: kube::Error) -> SourceError {
    let name = name.to_owned();
    match source {
        kube::Error::Api(status) if status.is_forbidden() => SourceError::Forbidden { kind, name },
        source => SourceError::Api { kind, name, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_config_map_becomes_a_file() {
        let map = ConfigMap {
            data: Some([("scene.pov".to_owned(), "sphere {}".to_owned())].into()),
            binary_data: Some([("map.png".to_owned(), ByteString(vec![0x89, 0x50]))].into()),
            ..ConfigMap::default()
        };
        let files = files_of_config_map(map);
        assert_eq!(files["scene.pov"], b"sphere {}");
        assert_eq!(files["map.png"], [0x89, 0x50]);
        assert_eq!(files.len(), 2);
    }
}
