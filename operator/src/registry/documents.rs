//! The parts of OCI manifests, indexes and image configurations that say what an image is here. Pure.

use serde::Deserialize;

use super::ImageDigest;

#[derive(Deserialize)]
pub(super) struct Manifest {
    pub(super) manifests: Option<Vec<Variant>>,
    pub(super) config: Option<Descriptor>,
}

#[derive(Deserialize)]
pub(super) struct Descriptor {
    pub(super) digest: String,
}

#[derive(Deserialize)]
pub(super) struct Variant {
    pub(super) digest: String,
    pub(super) platform: Option<Platform>,
}

#[derive(Deserialize)]
pub(super) struct Platform {
    pub(super) os: String,
    pub(super) architecture: String,
}

#[derive(Deserialize)]
pub(super) struct ImageConfig {
    pub(super) os: String,
    pub(super) architecture: String,
    pub(super) config: Option<RunConfig>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RunConfig {
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) cmd: Option<Vec<String>>,
    pub(super) env: Option<Vec<String>>,
    pub(super) working_dir: Option<String>,
    pub(super) user: Option<String>,
}

/// The variant for linux/amd64, if there is one.
pub(super) fn choose_variant(variants: Vec<Variant>) -> Option<ImageDigest> {
    variants
        .into_iter()
        .find(|variant| {
            variant
                .platform
                .as_ref()
                .is_some_and(|platform| platform.os == "linux" && platform.architecture == "amd64")
        })
        .and_then(|variant| variant.digest.parse().ok())
}
