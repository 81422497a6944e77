//! The unit template: what every seat of a job runs, byte for byte the same.
//!
//! Owns the document, its canonical bytes (whose BLAKE3 digest is fixed on chain) and the rules by which
//! both sides refuse a bad one. It knows no Kubernetes types: amounts are plain integers, so that two
//! operators never read one text differently.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tradewind_market::{
    Hash32, Seconds, Units,
    egress::{self, Host},
};
use tradewind_result::{ContentDigest, Limits};

use crate::seal::Recipient;
use crate::slice::{HOME_PATH, INPUTS_PATH, MOUNT_ROOT, SCRATCH_PATH};

/// Largest template, as plaintext bytes. A ConfigMap holds 1 MiB; a command line 128 KiB.
pub const TEMPLATE_BYTES_MAX: u64 = 256 * 1024;
/// Most inputs, environment variables and writable paths of a template.
pub const LIST_ITEMS_MAX: usize = 64;
/// What programs look for a proxy in; set where a job may reach hosts. No two agree on the case.
pub const PROXY_VARIABLES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];
/// Most units of a job.
pub const COMPLETIONS_MAX: u32 = 1_000_000;

/// What every seat runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Template {
    /// The job's salt, which every leaf mixes in. Only readers of the template know it.
    pub job_salt: Hash32,
    /// Image with the digest of the platform's manifest: `repository@sha256:…`.
    pub image: String,
    /// Numeric user and group, never root.
    pub user: User,
    /// Program and arguments: the job's command or the image's entrypoint, then the arguments.
    pub command: Vec<String>,
    /// Environment, besides what the image sets. Order is kept; names are unique.
    pub env: Vec<EnvVar>,
    /// Requests and limits of the slice's pod.
    pub resources: Resources,
    /// Units of the job.
    pub completions: Units,
    /// Units that one pod runs, one after another.
    pub slice: Units,
    /// Hard limit of one unit.
    pub seconds_per_unit: Seconds,
    /// Where a unit writes its result.
    pub output_path: String,
    /// Further directories that a unit may write, empty at its start.
    pub writable_paths: Vec<String>,
    /// Hosts that a unit may reach, through the provider's relay; none if empty.
    pub egress: Vec<Host>,
    /// Directories that a unit reads at `/in/NAME`.
    pub inputs: Vec<Input>,
    /// Whom outputs are sealed to.
    pub output_recipient: Recipient,
    /// What a unit may use and leave.
    pub limits: UnitLimits,
}

/// Who the program runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct User {
    /// Numeric user id.
    pub uid: u32,
    /// Numeric group id.
    pub gid: u32,
}

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value, as it is: nothing is expanded.
    pub value: String,
}

/// What a slice's pod gets, no more and no less: requests equal limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Whole GPUs (or MIG slices of the class).
    pub gpus: u32,
}

/// One input directory, stored sealed to the job's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Input {
    /// Its name below `/in`.
    pub name: String,
    /// Address: BLAKE3 of the bytes as stored.
    pub blob: ContentDigest,
    /// Length of the bytes as stored.
    pub stored_bytes: u64,
    /// Digest of the directory's manifest.
    pub manifest_digest: ContentDigest,
}

/// Limits of one unit. Reaching one is no result: the seat abstains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct UnitLimits {
    /// Content bytes of the output directory.
    pub output_bytes: u64,
    /// Files and directories of the output directory.
    pub output_files: u64,
    /// Bytes in HOME, TMPDIR, shared memory and writable paths together.
    pub scratch_bytes: u64,
    /// Files and directories there.
    pub scratch_files: u64,
    /// Processes and zombies at one time.
    pub processes: u32,
}

impl UnitLimits {
    /// The output directory's limits.
    pub fn output(&self) -> Limits {
        Limits {
            files: self.output_files,
            bytes: self.output_bytes,
        }
    }
}

impl Default for UnitLimits {
    /// 1 GiB and 10,000 files out, 4 GiB and 100,000 files of scratch, 1,024 processes.
    fn default() -> Self {
        Self {
            output_bytes: 1 << 30,
            output_files: 10_000,
            scratch_bytes: 4 << 30,
            scratch_files: 100_000,
            processes: 1024,
        }
    }
}

/// Why a template is refused. The field is named as in the document.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Larger than [`TEMPLATE_BYTES_MAX`].
    #[error("the template has {bytes} bytes, more than {TEMPLATE_BYTES_MAX}")]
    Size {
        /// How many it has.
        bytes: u64,
    },
    /// Not a template's JSON.
    #[error("the template is not of the expected form")]
    Json(#[from] serde_json::Error),
    /// Not the bytes that were fixed on chain.
    #[error("the template's digest is {found}, not {expected}")]
    Digest {
        /// The digest fixed on chain.
        expected: ContentDigest,
        /// The digest of the bytes.
        found: ContentDigest,
    },
    /// A field breaks a rule.
    #[error("{field}: {rule}")]
    Field {
        /// Which field.
        field: &'static str,
        /// Which rule.
        rule: &'static str,
    },
}

fn refuse(field: &'static str, rule: &'static str) -> Result<(), TemplateError> {
    Err(TemplateError::Field { field, rule })
}

impl Template {
    /// The canonical bytes: compact JSON, fields in the order of the type.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TemplateError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// The digest of the canonical bytes, as fixed on chain.
    pub fn digest(&self) -> Result<ContentDigest, TemplateError> {
        Ok(ContentDigest::of(&self.to_bytes()?))
    }

    /// From bytes whose digest was fixed on chain; checks the digest before it reads them, then every rule.
    pub fn from_bytes(bytes: &[u8], expected: ContentDigest) -> Result<Self, TemplateError> {
        let size = bytes.len() as u64;
        if size > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::Size { bytes: size });
        }
        let found = ContentDigest::of(bytes);
        if found != expected {
            return Err(TemplateError::Digest { expected, found });
        }
        let template: Self = serde_json::from_slice(bytes)?;
        template.validate()?;
        Ok(template)
    }

    /// Checks every rule. The buyer's operator calls it before it funds, the provider's before it runs.
    pub fn validate(&self) -> Result<(), TemplateError> {
        validate_image(&self.image)?;
        if self.user.uid == 0 || self.user.gid == 0 {
            return refuse("user", "root is not allowed");
        }
        if self.command.first().is_none_or(String::is_empty) {
            return refuse("command", "there is no program to run");
        }
        if self.command.len() > 1024 || self.command.iter().any(|word| word.contains('\0')) {
            return refuse("command", "more than 1024 words, or one with a NUL byte");
        }
        self.validate_env()?;
        self.validate_sizes()?;
        self.validate_paths()?;
        if self.egress.len() > egress::HOSTS_MAX {
            return refuse("egress", "more than 16 hosts");
        }
        self.validate_inputs()
    }

    fn validate_env(&self) -> Result<(), TemplateError> {
        if self.env.len() > LIST_ITEMS_MAX {
            return refuse("env", "more than 64 variables");
        }
        let mut names = BTreeSet::new();
        for EnvVar { name, value } in &self.env {
            let mut letters = name.chars();
            let identifier = letters
                .next()
                .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
                && letters.all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !identifier || name.len() > 256 {
                return refuse("env", "a name is not letters, digits and _, or longer than 256");
            }
            if value.contains('\0') {
                return refuse("env", "a value has a NUL byte");
            }
            if is_reserved_variable(name) {
                return refuse(
                    "env",
                    "HOME, TMPDIR, JOB_COMPLETION_INDEX, the proxies, NVIDIA_… and TRADEWIND_… are set by the pod",
                );
            }
            if !names.insert(name) {
                return refuse("env", "a name is there twice");
            }
        }
        Ok(())
    }

    fn validate_sizes(&self) -> Result<(), TemplateError> {
        let completions = self.completions.get();
        if completions == 0 || completions > COMPLETIONS_MAX {
            return refuse("completions", "must be between 1 and 1,000,000");
        }
        if self.slice.get() == 0 || self.slice > self.completions {
            return refuse("slice", "must be between 1 and completions");
        }
        if self.seconds_per_unit.get() == 0 || self.seconds_per_unit.get() > 7 * 24 * 3600 {
            return refuse("secondsPerUnit", "must be between a second and a week");
        }
        if self.resources.cpu_millis == 0 || self.resources.memory_bytes < 1 << 20 {
            return refuse("resources", "no CPU, or less than 1 MiB of memory");
        }
        let limits = self.limits;
        if limits.processes == 0 || limits.output_files == 0 || limits.scratch_files == 0 {
            return refuse("limits", "a limit of zero runs nothing");
        }
        if limits.output_files > 100_000 || limits.scratch_files > 10_000_000 {
            return refuse("limits", "more than 100,000 files out, or ten million of scratch");
        }
        Ok(())
    }

    fn validate_paths(&self) -> Result<(), TemplateError> {
        if self.writable_paths.len() > LIST_ITEMS_MAX {
            return refuse("writablePaths", "more than 64 paths");
        }
        let mut taken: Vec<&str> = vec![
            MOUNT_ROOT,
            HOME_PATH,
            SCRATCH_PATH,
            INPUTS_PATH,
            "/proc",
            "/sys",
            "/dev",
            "/etc",
        ];
        let outputs = std::iter::once(("outputPath", &self.output_path));
        let writables = self.writable_paths.iter().map(|path| ("writablePaths", path));
        for (field, path) in outputs.chain(writables) {
            if !is_normal_absolute(path) {
                return refuse(field, "not an absolute path without empty, . or .. components");
            }
            if taken
                .iter()
                .any(|other| contains(other, path) || contains(path, other))
            {
                return refuse(
                    field,
                    "lies in or around another path that the pod mounts, or in a system directory",
                );
            }
            taken.push(path);
        }
        Ok(())
    }

    fn validate_inputs(&self) -> Result<(), TemplateError> {
        if self.inputs.len() > LIST_ITEMS_MAX {
            return refuse("inputs", "more than 64 inputs");
        }
        let mut names = BTreeSet::new();
        for input in &self.inputs {
            if !is_dns_label(&input.name) {
                return refuse("inputs", "a name is not a DNS label");
            }
            if !names.insert(&input.name) {
                return refuse("inputs", "a name is there twice");
            }
        }
        Ok(())
    }
}

/// Whether the pod sets this variable itself, so that neither image nor template may.
pub fn is_reserved_variable(name: &str) -> bool {
    matches!(name, "HOME" | "TMPDIR" | "JOB_COMPLETION_INDEX")
        || PROXY_VARIABLES.contains(&name)
        || name.starts_with("NVIDIA_")
        || name.starts_with("TRADEWIND_")
}

fn validate_image(image: &str) -> Result<(), TemplateError> {
    let pinned = image.split_once("@sha256:").is_some_and(|(repository, digest)| {
        !repository.is_empty()
            && digest.len() == 64
            && digest
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    });
    if !pinned || image.len() > 512 || !image.bytes().all(|b| b.is_ascii_graphic()) {
        return refuse("image", "not pinned as repository@sha256:digest");
    }
    Ok(())
}

fn is_normal_absolute(path: &str) -> bool {
    let Some(relative) = path.strip_prefix('/') else {
        return false;
    };
    path.len() <= 512
        && !path.contains(['\0', ':'])
        && relative
            .split('/')
            .all(|component| !matches!(component, "" | "." | ".."))
}

/// Whether `inner` is `outer` or lies below it.
fn contains(outer: &str, inner: &str) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_dns_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::OpeningKey;

    fn template() -> Template {
        Template {
            job_salt: Hash32::from_bytes([7; 32]),
            image: format!("registry.lab:5000/povray@sha256:{}", "ab".repeat(32)),
            user: User { uid: 1000, gid: 1000 },
            command: vec!["render-strip".into()],
            env: vec![EnvVar {
                name: "WIDTH".into(),
                value: "1920".into(),
            }],
            resources: Resources {
                cpu_millis: 2000,
                memory_bytes: 2 << 30,
                gpus: 0,
            },
            completions: Units::new(96),
            slice: Units::new(8),
            seconds_per_unit: Seconds::new(120),
            output_path: "/out".into(),
            writable_paths: vec!["/var/cache".into()],
            egress: Vec::new(),
            inputs: vec![Input {
                name: "scene".into(),
                blob: ContentDigest::of(b"sealed"),
                stored_bytes: 6,
                manifest_digest: ContentDigest::of(b"manifest"),
            }],
            output_recipient: OpeningKey::from_secret(&[1; 32]).unwrap().recipient(),
            limits: UnitLimits::default(),
        }
    }

    #[test]
    fn only_the_very_bytes_of_the_digest_are_a_template() {
        let bytes = template().to_bytes().unwrap();
        let digest = template().digest().unwrap();
        assert_eq!(Template::from_bytes(&bytes, digest).unwrap(), template());
        let spaced = [b" ", &bytes[..]].concat();
        assert!(matches!(
            Template::from_bytes(&spaced, digest),
            Err(TemplateError::Digest { .. })
        ));
        let unknown = String::from_utf8(bytes)
            .unwrap()
            .replacen('{', "{\"privileged\":true,", 1);
        let digest = ContentDigest::of(unknown.as_bytes());
        assert!(matches!(
            Template::from_bytes(unknown.as_bytes(), digest),
            Err(TemplateError::Json(_))
        ));
    }

    #[test]
    fn each_rule_refuses_by_its_field() {
        let check = |expected: &str, change: fn(&mut Template)| {
            let mut changed = template();
            change(&mut changed);
            match changed.validate() {
                Err(TemplateError::Field { field, .. }) => assert_eq!(field, expected),
                other => panic!("{expected}: {other:?}"),
            }
        };
        template().validate().unwrap();
        check("image", |t| t.image = "povray:latest".into());
        check("image", |t| t.image.truncate(60));
        check("user", |t| t.user.uid = 0);
        check("user", |t| t.user.gid = 0);
        check("command", |t| t.command.clear());
        check("command", |t| t.command = vec!["a\0b".into()]);
        check("env", |t| t.env[0].name = "NVIDIA_VISIBLE_DEVICES".into());
        check("env", |t| t.env[0].name = "JOB_COMPLETION_INDEX".into());
        check("env", |t| t.env[0].name = "A-B".into());
        check("env", |t| t.env.push(t.env[0].clone()));
        check("completions", |t| t.completions = Units::ZERO);
        check("slice", |t| t.slice = Units::new(97));
        check("secondsPerUnit", |t| t.seconds_per_unit = Seconds::ZERO);
        check("resources", |t| t.resources.cpu_millis = 0);
        check("limits", |t| t.limits.processes = 0);
        check("outputPath", |t| t.output_path = "out".into());
        check("outputPath", |t| t.output_path = "/tradewind/out".into());
        check("outputPath", |t| t.output_path = "/in/scene".into());
        check("writablePaths", |t| t.writable_paths = vec!["/".into()]);
        check("writablePaths", |t| t.writable_paths = vec!["/var/../etc".into()]);
        check("writablePaths", |t| t.writable_paths = vec!["/out/cache".into()]);
        check("writablePaths", |t| {
            t.writable_paths = vec!["/a".into(), "/a/b".into()];
        });
        check("inputs", |t| t.inputs[0].name = "../x".into());
        check("inputs", |t| t.inputs.push(t.inputs[0].clone()));
    }
}
