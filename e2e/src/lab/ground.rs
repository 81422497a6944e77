//! Whether this machine can run a lab: root, tools, kernel features. It looks, and changes nothing; what is
//! missing is reported all at once, each with its remedy.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::LabError;

/// Something that a lab needs and this machine lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// What is missing.
    pub what: String,
    /// What a person does about it.
    pub remedy: String,
}

impl fmt::Display for Unmet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.what, self.remedy)
    }
}

/// Tools by the Debian package that brings them; a name with a slash is a path, others are looked up in PATH.
const TOOLS: &[(&str, &[&str])] = &[
    ("binutils", &["strip"]),
    ("buildah", &["buildah"]),
    ("busybox-static", &["/bin/busybox"]),
    (
        "containernetworking-plugins",
        &[
            "/usr/lib/cni/host-local",
            "/usr/lib/cni/loopback",
            "/usr/lib/cni/portmap",
            "/usr/lib/cni/ptp",
        ],
    ),
    ("debootstrap", &["debootstrap"]),
    ("docker-registry", &["docker-registry"]),
    ("gcc", &["cc"]),
    ("iproute2", &["ip"]),
    ("iptables", &["iptables"]),
    ("libseccomp-dev", &["/usr/include/seccomp.h"]),
    ("mount", &["mount"]),
    ("nftables", &["nft"]),
    ("pkg-config", &["pkg-config"]),
    ("procps", &["sysctl"]),
    ("skopeo", &["skopeo"]),
    ("util-linux", &["nsenter", "setsid", "unshare"]),
];

/// Tools that Debian's own packages are often too old for, with the oldest release that does.
const RUNTIMES: &[(&str, &str)] = &[("go", "Go 1.26"), ("npm", "npm of Node.js 20")];

/// The Debian packages that bring the tools a lab runs.
pub fn debian_packages() -> impl Iterator<Item = &'static str> {
    TOOLS.iter().map(|(package, _)| *package)
}

/// Checks everything; `Err` lists all that is missing.
pub fn check() -> Result<(), LabError> {
    let mut unmet = Vec::new();
    if !rustix::process::geteuid().is_root() {
        unmet.push(Unmet {
            what: "not root".to_owned(),
            remedy: "a lab makes network namespaces, mounts and cgroups; run it with sudo".to_owned(),
        });
    }
    unmet.extend(missing_tools());
    unmet.extend(missing_kernel_features());
    if unmet.is_empty() {
        Ok(())
    } else {
        Err(LabError::Ground(unmet))
    }
}

fn missing_tools() -> Vec<Unmet> {
    let mut unmet = Vec::new();
    let mut packages = Vec::new();
    let mut tools = Vec::new();
    for (package, needed) in TOOLS {
        let missing: Vec<&str> = needed
            .iter()
            .copied()
            .filter(|tool| find(tool).is_none())
            .collect();
        if !missing.is_empty() {
            packages.push(*package);
            tools.extend(missing);
        }
    }
    if !packages.is_empty() {
        unmet.push(Unmet {
            what: format!("no {}", tools.join(", ")),
            remedy: format!("apt-get install --no-install-recommends {}", packages.join(" ")),
        });
    }
    for (tool, release) in RUNTIMES {
        if find(tool).is_none() {
            unmet.push(Unmet {
                what: format!("no {tool}"),
                remedy: format!("install {release} or later and put it in PATH"),
            });
        }
    }
    unmet
}

fn missing_kernel_features() -> Vec<Unmet> {
    let mut unmet = Vec::new();
    for namespace in ["mnt", "net", "uts"] {
        if !Path::new("/proc/self/ns").join(namespace).exists() {
            unmet.push(Unmet {
                what: format!("the kernel has no {namespace} namespaces"),
                remedy: "use a kernel built with CONFIG_NAMESPACES and CONFIG_NET_NS".to_owned(),
            });
        }
    }
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.split_whitespace().any(|word| word == "overlay") {
        unmet.push(Unmet {
            what: "the kernel does not know overlayfs".to_owned(),
            remedy: "load it with `modprobe overlay`, or use a kernel built with CONFIG_OVERLAY_FS"
                .to_owned(),
        });
    }
    if !filesystems
        .split_whitespace()
        .any(|word| word.starts_with("cgroup"))
    {
        unmet.push(Unmet {
            what: "the kernel has no cgroups".to_owned(),
            remedy: "use a kernel built with CONFIG_CGROUPS".to_owned(),
        });
    }
    unmet
}

/// Where a tool is: as given if it is a path, in PATH or the system's own folders otherwise.
pub(crate) fn find(tool: &str) -> Option<PathBuf> {
    if tool.contains('/') {
        return Some(PathBuf::from(tool)).filter(|path| path.exists());
    }
    // A service's or a user's PATH often lacks the sbin folders.
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/go/bin"].map(PathBuf::from))
        .map(|dir| dir.join(tool))
        .find(|path| path.is_file())
}
