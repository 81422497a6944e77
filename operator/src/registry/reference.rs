//! Image references and digests, as people write them and container runtimes read them. Pure.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

use super::RegistryError;

const DEFAULT_REGISTRY: &str = "registry-1.docker.io";

/// An image by name, tag and digest, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageReference {
    pub(super) registry: String,
    pub(super) repository: String,
    pub(super) tag: Option<String>,
    pub(super) digest: Option<ImageDigest>,
    /// Registry and repository as written, for the pinned form.
    pub(super) written: String,
}

/// A SHA-256 digest, as container registries write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageDigest(pub(super) String);

impl ImageDigest {
    /// Of these bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex::encode(Sha256::digest(bytes))))
    }
}

impl FromStr for ImageDigest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text
            .strip_prefix("sha256:")
            .ok_or("only sha256 digests are supported")?;
        let well_formed =
            digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err("a sha256 digest has 64 lower-case hex digits")
        }
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ImageReference {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let refuse = |why| RegistryError::Reference {
            reference: text.to_owned(),
            why,
        };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse().map_err(refuse)?)),
            None => (text, None),
        };
        // A colon after the last slash starts a tag; before it, a port.
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (name, None),
        };
        if name.is_empty() || tag.as_deref() == Some("") {
            return Err(refuse("a name, and a tag after a colon, must not be empty"));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path.to_owned()),
            Some(_) => (DEFAULT_REGISTRY, name.to_owned()),
            None => (DEFAULT_REGISTRY, format!("library/{name}")),
        };
        let registry = if registry == "docker.io" {
            DEFAULT_REGISTRY
        } else {
            registry
        };
        let well_formed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
        if repository.is_empty() || !repository.chars().all(well_formed) || repository.contains("..") {
            return Err(refuse(
                "a repository is lower-case letters, digits, dots, dashes and slashes",
            ));
        }
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
            written: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::RegistryDisposition;

    #[test]
    fn a_reference_is_taken_apart_as_container_runtimes_do() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let check = |text: &str, registry: &str, repository: &str, tag: Option<&str>, pinned: bool| {
            let found: ImageReference = text.parse().unwrap();
            let parts = (
                found.registry.as_str(),
                found.repository.as_str(),
                found.tag.as_deref(),
            );
            assert_eq!(parts, (registry, repository, tag), "{text}");
            assert_eq!(found.digest.is_some(), pinned, "{text}");
        };
        check(
            "10.88.0.1:5000/povray:lab",
            "10.88.0.1:5000",
            "povray",
            Some("lab"),
            false,
        );
        check("localhost/a/b", "localhost", "a/b", None, false);
        check(&format!("r.example/a/b@{digest}"), "r.example", "a/b", None, true);
        check(
            &format!("r.example/a:1@{digest}"),
            "r.example",
            "a",
            Some("1"),
            true,
        );
        check("busybox", DEFAULT_REGISTRY, "library/busybox", None, false);
        check(
            "docker.io/team/app:2",
            DEFAULT_REGISTRY,
            "team/app",
            Some("2"),
            false,
        );
        for bad in [
            "",
            ":1",
            "a:",
            "r.example/",
            "r.example/A",
            "r.example/a/../b",
            "a@sha256:12",
            "a@md5:00",
        ] {
            let refused = bad.parse::<ImageReference>().unwrap_err();
            assert_eq!(refused.disposition(), RegistryDisposition::Unsuitable, "{bad}");
        }
    }
}
