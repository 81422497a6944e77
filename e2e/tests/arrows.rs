//! The layout shows the architecture: which crate may see which, and who may name the fenced libraries.
//!
//! The lists here are ARCHITECTURE.md's. A new arrow is a decision: it changes both.

// A test fails by panicking, in its helpers too.
#![allow(clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Crate, and the crates of the workspace that it may use outside its tests.
const ARROWS: &[(&str, &[&str])] = &[
    ("chain", &["market"]),
    ("crds", &[]),
    ("daemon", &[]),
    ("e2e", &["chain", "crds", "gateway-api", "market", "result"]),
    ("gateway", &["chain", "daemon", "gateway-api", "market", "result"]),
    ("gateway-api", &["market", "result"]),
    ("market", &[]),
    (
        "operator",
        &["chain", "crds", "daemon", "gateway-api", "market", "result"],
    ),
    ("pod", &["gateway-api", "market", "result"]),
    ("result", &[]),
    ("verifier", &["result"]),
];

/// A fenced library, and the only crates of the workspace that may list it.
const FENCES: &[(&str, &[&str])] = &[
    ("ethers", &["chain"]),
    ("nvml-wrapper", &[]),
    ("kube", &["crds", "e2e", "operator"]),
    (
        "tokio",
        &[
            "chain",
            "daemon",
            "e2e",
            "gateway",
            "gateway-api",
            "operator",
            "pod",
        ],
    ),
];

const PREFIX: &str = "tradewind-";

fn metadata() -> Metadata {
    MetadataCommand::new()
        .no_deps()
        .exec()
        .expect("cargo metadata answers in the workspace")
}

fn short(package: &Package) -> String {
    package
        .name
        .strip_prefix(PREFIX)
        .expect("every crate of the workspace is named tradewind-…")
        .to_owned()
}

/// Names of what each crate depends on outside its tests.
fn dependencies(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    metadata
        .workspace_packages()
        .into_iter()
        .map(|package| {
            let names = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != DependencyKind::Development)
                .map(|dependency| dependency.name.clone())
                .collect();
            (short(package), names)
        })
        .collect()
}

#[test]
fn crates_use_each_other_only_along_the_listed_arrows() {
    let listed: BTreeMap<&str, BTreeSet<String>> = ARROWS
        .iter()
        .map(|(from, to)| (*from, to.iter().map(|name| format!("{PREFIX}{name}")).collect()))
        .collect();
    let found = dependencies(&metadata());

    let names: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        listed.keys().copied().collect(),
        "the list names the crates that there are"
    );
    for (from, to) in &found {
        let ours: BTreeSet<String> = to
            .iter()
            .filter(|name| name.starts_with(PREFIX))
            .cloned()
            .collect();
        let extra: Vec<_> = ours.difference(&listed[from.as_str()]).collect();
        assert!(
            extra.is_empty(),
            "{from} uses {extra:?}, which ARCHITECTURE.md does not allow"
        );
    }
}

#[test]
fn fenced_libraries_stand_only_in_their_own_manifests() {
    let found = dependencies(&metadata());
    for (library, allowed) in FENCES {
        for (name, to) in &found {
            assert!(
                !to.contains(*library) || allowed.contains(&name.as_str()),
                "{name} lists {library}; only {allowed:?} may"
            );
        }
    }
}
