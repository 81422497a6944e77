//! Hardware classes and regions: canonical texts, and the ids that are their hashes.
//!
//! Results are compared byte for byte within one class, so a class says what can change a result (the
//! instruction set, the GPU and its driver branch) and nothing that cannot (how many CPUs a slot has).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ids::{ClassId, RegionId, keccak256};

/// A hardware class. Its text is canonical: `cpu/x86-64-v3`, or
/// `gpu/MODEL/ARCHITECTURE/DRIVER-BRANCH/MIG-PROFILE/COUNT` with `-` where there is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// No GPU: the instruction-set level that all nodes have, as compilers name it.
    Cpu {
        /// Such as `x86-64-v3`.
        level: String,
    },
    /// GPUs of one kind.
    Gpu(GpuClass),
}

/// What of a GPU can change a result.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GpuClass {
    /// Product name as the node label gives it, such as `NVIDIA-A100-SXM4-40GB`.
    pub model: String,
    /// Compute capability or architecture name, if known.
    pub architecture: Option<String>,
    /// Major version of the driver, if known.
    pub driver_branch: Option<String>,
    /// MIG profile, if the GPU is a part of one.
    pub mig_profile: Option<String>,
    /// GPUs of one slot.
    pub count: u32,
}

/// Why a text is not a class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseClassError {
    /// Neither `cpu/LEVEL` nor `gpu/` and five parts.
    #[error("expected cpu/LEVEL or gpu/MODEL/ARCHITECTURE/DRIVER/MIG/COUNT")]
    Form,
    /// A part is empty or has characters that are not letters, digits, dots, dashes or underscores.
    #[error("\"{part}\" is no name: letters, digits, dots, dashes and underscores, at most 63")]
    Name {
        /// The part.
        part: String,
    },
    /// The count is not a positive number in canonical form.
    #[error("the GPU count must be a number above zero")]
    Count,
}

fn name(part: &str) -> Result<String, ParseClassError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    // A lone dash stands for "none", so it cannot be a name.
    if part.is_empty() || part == "-" || part.len() > 63 || !part.bytes().all(allowed) {
        return Err(ParseClassError::Name {
            part: part.chars().take(64).collect(),
        });
    }
    Ok(part.to_owned())
}

fn optional_name(part: &str) -> Result<Option<String>, ParseClassError> {
    if part == "-" {
        Ok(None)
    } else {
        name(part).map(Some)
    }
}

impl Class {
    /// The class of a text that is canonical, and of no other.
    fn parse(text: &str) -> Result<Self, ParseClassError> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            ["cpu", level] => Ok(Self::Cpu { level: name(level)? }),
            ["gpu", model, architecture, driver, mig, count] => {
                let number: u32 = count.parse().map_err(|_| ParseClassError::Count)?;
                if number == 0 || number.to_string() != *count {
                    return Err(ParseClassError::Count);
                }
                Ok(Self::Gpu(GpuClass {
                    model: name(model)?,
                    architecture: optional_name(architecture)?,
                    driver_branch: optional_name(driver)?,
                    mig_profile: optional_name(mig)?,
                    count: number,
                }))
            }
            _ => Err(ParseClassError::Form),
        }
    }

    /// I-25: the hash of the canonical text.
    pub fn id(&self) -> ClassId {
        keccak256(&[self.to_string().as_bytes()]).into()
    }

    /// GPUs of one slot.
    pub fn gpu_count(&self) -> u32 {
        match self {
            Self::Cpu { .. } => 0,
            Self::Gpu(gpu) => gpu.count,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu { level } => write!(f, "cpu/{level}"),
            Self::Gpu(gpu) => {
                let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "-".to_owned());
                let (architecture, driver, mig) = (
                    part(&gpu.architecture),
                    part(&gpu.driver_branch),
                    part(&gpu.mig_profile),
                );
                write!(f, "gpu/{}/{architecture}/{driver}/{mig}/{}", gpu.model, gpu.count)
            }
        }
    }
}

impl FromStr for Class {
    type Err = ParseClassError;
    fn from_str(text: &str) -> Result<Self, ParseClassError> {
        Self::parse(text)
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// The id of a region as its provider declares it; the empty name, for no statement, is zero.
pub fn region_id(name: &str) -> RegionId {
    if name.is_empty() {
        RegionId::ZERO
    } else {
        keccak256(&[name.as_bytes()]).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_texts_are_classes() {
        for text in [
            "cpu/x86-64-v3",
            "gpu/NVIDIA-A100-SXM4-40GB/-/-/-/1",
            "gpu/H100/sm_90/570/1g.10gb/2",
        ] {
            assert_eq!(text.parse::<Class>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "cpu",
            "cpu/",
            "cpu/-",
            "cpu/a b",
            "cpu/x/y",
            "gpu/A/-/-/-/0",
            "gpu/A/-/-/-/01",
            "gpu/A/-/-/-/+1",
            "gpu/A/-/-/-",
            "tpu/v5",
        ] {
            assert!(text.parse::<Class>().is_err(), "{text}");
        }
    }

    #[test]
    fn class_and_region_ids_are_hashes_of_the_text() {
        let class: Class = "cpu/x86-64-v3".parse().unwrap();
        assert_eq!(class.id(), keccak256(&[b"cpu/x86-64-v3"]).into());
        assert_eq!(region_id(""), RegionId::ZERO);
        assert_ne!(region_id("eu"), region_id("us"));
    }
}
