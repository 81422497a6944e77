//! Reads what a job names as its inputs out of the job's own namespace, and looks at what it names as its outputs. What
//! has to be moved ([`super::importing`], [`super::exporting`]) is only looked at here.
//!
//! Only objects that carry the label `tradewind.dev/allow` are touched, so that a job's author reaches nothing
//! through the operator that the namespace's owner did not set out for jobs.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret},
};
use kube::{Api, Client, Resource, ResourceExt};
use tradewind_crds::{
    ALLOW_LABEL, ComputeJobSpec, RUN_AS_ANNOTATION,
    source::{ClaimPath, Input},
};
use tradewind_result::ContentDigest;

use super::{
    pinned::digest_of,
    rights::{Right, Rights},
};

const CONFIG_MAP: &str = "ConfigMap";
const SECRET: &str = "Secret";
const CLAIM: &str = "PersistentVolumeClaim";

/// What an input consists of, as far as it can be known without moving bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Files that were read.
    Files(BTreeMap<String, Vec<u8>>),
    /// A directory of a claim.
    Claim(ClaimPath),
    /// A file on the web.
    Web {
        /// Where.
        url: String,
        /// What it must be.
        digest: ContentDigest,
    },
    /// An input that an earlier job stored.
    Blob(ContentDigest),
}

impl Source {
    /// Whether a mover brings it.
    pub(crate) fn is_moved(&self) -> bool {
        match self {
            Self::Files(_) => false,
            Self::Claim(_) | Self::Web { .. } | Self::Blob(_) => true,
        }
    }
}

/// User and group that a mover runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunAs {
    /// Numeric, never 0.
    pub(crate) user: u32,
    /// Numeric, never 0.
    pub(crate) group: u32,
}

impl Default for RunAs {
    /// The user that the program's image names.
    fn default() -> Self {
        Self {
            user: 65532,
            group: 65532,
        }
    }
}

impl RunAs {
    /// From `UID:GID`.
    fn parse(text: &str) -> Option<Self> {
        let (user, group) = text.split_once(':')?;
        let number = |text: &str| text.parse().ok().filter(|number| *number != 0);
        Some(Self {
            user: number(user)?,
            group: number(group)?,
        })
    }
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
    #[error("{kind} {name} cannot be read by the operator: {remedy}")]
    Forbidden {
        /// Which kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What gives it the right.
        remedy: String,
    },
    /// A claim that results are to go to can only be read.
    #[error(
        "PersistentVolumeClaim {name} can only be read (accessModes: ReadOnlyMany): name one that can be written"
    )]
    ReadOnly {
        /// Its name.
        name: String,
    },
    /// A claim's annotation cannot be read.
    #[error(
        "PersistentVolumeClaim {name} says {RUN_AS_ANNOTATION}: {text:?}; it must be UID:GID, two numbers other than 0, such as 1000:1000"
    )]
    RunAs {
        /// Its name.
        name: String,
        /// What it says.
        text: String,
    },
    /// A digest cannot be read.
    #[error("input {name}: {text:?} is no digest")]
    Digest {
        /// Which input.
        name: String,
        /// What it says.
        text: String,
    },
    /// The blob is not one of this namespace.
    #[error(
        "no job of this namespace has stored the blob {blob} as an input: name one of status.template.inputs of a job that is still there"
    )]
    ForeignBlob {
        /// Its digest.
        blob: String,
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
    rights: Rights<'_>,
    namespace: &str,
    spec: &ComputeJobSpec,
) -> Result<Vec<NamedSource>, SourceError> {
    let mut sources = Vec::with_capacity(spec.inputs.len());
    for input in &spec.inputs {
        sources.push(NamedSource {
            name: input.name.clone(),
            source: observe_input(client, rights, namespace, input).await?,
        });
    }
    Ok(sources)
}

async fn observe_input(
    client: &Client,
    rights: Rights<'_>,
    namespace: &str,
    input: &Input,
) -> Result<Source, SourceError> {
    if let Some(reference) = &input.config_map {
        let map: ConfigMap = get_allowed(client, rights, namespace, CONFIG_MAP, &reference.name).await?;
        return Ok(Source::Files(files_of_config_map(map)));
    }
    if let Some(reference) = &input.secret {
        let secret: Secret = get_allowed(client, rights, namespace, SECRET, &reference.name).await?;
        let files = secret.data.unwrap_or_default();
        return Ok(Source::Files(
            files
                .into_iter()
                .map(|(name, ByteString(bytes))| (name, bytes))
                .collect(),
        ));
    }
    if let Some(path) = &input.persistent_volume_claim {
        observe_claim(client, rights, namespace, &path.claim_name, true).await?;
        return Ok(Source::Claim(path.clone()));
    }
    let digest = input.digest.as_ref().or(input.blob.as_ref());
    let text = digest
        .map(|digest| digest.as_str().to_owned())
        .unwrap_or_default();
    let digest = digest.and_then(digest_of).ok_or_else(|| SourceError::Digest {
        name: input.name.clone(),
        text,
    })?;
    Ok(match &input.url {
        Some(url) => Source::Web {
            url: url.clone(),
            digest,
        },
        None => Source::Blob(digest),
    })
}

/// Whether the claim may be used so, and as whom a mover uses it.
pub(crate) async fn observe_claim(
    client: &Client,
    rights: Rights<'_>,
    namespace: &str,
    name: &str,
    read_only: bool,
) -> Result<RunAs, SourceError> {
    let claim: PersistentVolumeClaim = get_allowed(client, rights, namespace, CLAIM, name).await?;
    check_claim(&claim, name, read_only)
}

fn check_claim(claim: &PersistentVolumeClaim, name: &str, read_only: bool) -> Result<RunAs, SourceError> {
    let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    let is_written = modes.is_none_or(|modes| modes.iter().any(|mode| mode != "ReadOnlyMany"));
    if !read_only && !is_written {
        return Err(SourceError::ReadOnly {
            name: name.to_owned(),
        });
    }
    match claim.annotations().get(RUN_AS_ANNOTATION) {
        None => Ok(RunAs::default()),
        Some(text) => RunAs::parse(text).ok_or_else(|| SourceError::RunAs {
            name: name.to_owned(),
            text: text.clone(),
        }),
    }
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
    rights: Rights<'_>,
    namespace: &str,
    spec: &ComputeJobSpec,
    is_ours: impl Fn(&ConfigMap) -> bool,
) -> Result<(), SourceError> {
    if let Some(path) = &spec.outputs.persistent_volume_claim {
        observe_claim(client, rights, namespace, &path.claim_name, false).await?;
    }
    if let Some(reference) = &spec.outputs.config_map {
        let name = &reference.name;
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let existing = api
            .get_opt(name)
            .await
            .map_err(|source| explain(rights, namespace, CONFIG_MAP, name, source))?;
        if existing.is_some_and(|map| !is_ours(&map)) {
            return Err(SourceError::Occupied { name: name.clone() });
        }
    }
    Ok(())
}

async fn get_allowed<K>(
    client: &Client,
    rights: Rights<'_>,
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
        .map_err(|source| explain(rights, namespace, kind, name, source))?;
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

fn explain(
    rights: Rights<'_>,
    namespace: &str,
    kind: &'static str,
    name: &str,
    source: kube::Error,
) -> SourceError {
    let name = name.to_owned();
    match source {
        kube::Error::Api(status) if status.is_forbidden() => {
            let remedy = match kind {
                SECRET => rights.command(Right::ReadSecrets, namespace),
                CLAIM => rights.command(Right::Move, namespace),
                _ => "add the namespace to the chart's consumer.namespaces".to_owned(),
            };
            SourceError::Forbidden { kind, name, remedy }
        }
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

    fn check(annotation: Option<&str>, modes: &[&str], read_only: bool) -> Result<RunAs, String> {
        let claim = PersistentVolumeClaim {
            metadata: kube::api::ObjectMeta {
                annotations: annotation.map(|text| [(RUN_AS_ANNOTATION.to_owned(), text.to_owned())].into()),
                ..kube::api::ObjectMeta::default()
            },
            spec: Some(k8s_openapi::api::core::v1::PersistentVolumeClaimSpec {
                access_modes: Some(modes.iter().map(ToString::to_string).collect()),
                ..k8s_openapi::api::core::v1::PersistentVolumeClaimSpec::default()
            }),
            ..PersistentVolumeClaim::default()
        };
        check_claim(&claim, "renders", read_only).map_err(|error| error.to_string())
    }

    #[test]
    fn a_claim_says_as_whom_it_is_used_and_never_as_root() {
        let of = |user, group| Ok(RunAs { user, group });
        assert_eq!(check(None, &["ReadWriteOnce"], false), of(65532, 65532));
        assert_eq!(check(Some("1000:100"), &["ReadWriteOnce"], false), of(1000, 100));
        for wrong in ["0:0", "0:1000", "1000:0", "1000", "", "me:us", "-1:5", "1:2:3"] {
            let refused = check(Some(wrong), &["ReadWriteOnce"], false).unwrap_err();
            assert!(refused.contains("UID:GID"), "{wrong}: {refused}");
        }
    }

    #[test]
    fn a_claim_that_can_only_be_read_takes_no_results() {
        assert!(check(None, &["ReadOnlyMany"], true).is_ok());
        assert!(check(None, &["ReadOnlyMany", "ReadWriteMany"], false).is_ok());
        let refused = check(None, &["ReadOnlyMany"], false).unwrap_err();
        assert!(refused.contains("can only be read"), "{refused}");
    }
}
