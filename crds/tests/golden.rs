//! The committed definitions are those that the types generate, and are fit for use: explained field by field, and
//! bounded, so that rules have a known cost and no object can grow without limit.

// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use tradewind_crds::generate;

#[test]
fn the_committed_definitions_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/tradewind/crds");
    let generated = generate::files().unwrap();
    for file in &generated {
        let committed = std::fs::read_to_string(folder.join(&file.name)).unwrap_or_default();
        assert!(
            committed == file.yaml,
            "{} is not current: run `cargo run -p tradewind-crds --bin crdgen -- charts/tradewind/crds`",
            file.name
        );
    }
    let committed: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected: BTreeSet<String> = generated.into_iter().map(|file| file.name).collect();
    assert_eq!(
        committed, expected,
        "the folder holds the generated files and nothing else"
    );
}

#[test]
fn generating_twice_gives_the_same_bytes() {
    assert_eq!(generate::files().unwrap(), generate::files().unwrap());
}

#[test]
fn every_field_is_explained_and_bounded() {
    let mut faults = vec![];
    for file in generate::files().unwrap() {
        let crd: Value = serde_saphyr::from_str(&file.yaml).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        assert!(
            schema["description"].is_string(),
            "{} says nothing about itself",
            file.name
        );
        for part in ["spec", "status"] {
            if !schema["properties"][part].is_null() {
                inspect(
                    &schema["properties"][part],
                    &format!("{}: {part}", file.name),
                    &mut faults,
                );
            }
        }
        for column in crd["spec"]["versions"][0]["additionalPrinterColumns"]
            .as_array()
            .unwrap()
        {
            let path = column["jsonPath"].as_str().unwrap();
            if !path.contains("[?(") && !exists(schema, path) {
                faults.push(format!(
                    "{}: the column {} shows {path}, which no field has",
                    file.name, column["name"]
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn inspect(schema: &Value, path: &str, faults: &mut Vec<String>) {
    match schema["type"].as_str() {
        Some("object") => {
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}.{name}");
                if field["description"].as_str().is_none_or(str::is_empty) {
                    faults.push(format!("{path} is not explained"));
                }
                inspect(field, &path, faults);
            }
        }
        Some("array") => {
            if schema["maxItems"].is_null() {
                faults.push(format!("{path} has no maxItems"));
            }
            if schema["x-kubernetes-list-type"].is_null() {
                faults.push(format!("{path} does not say how it is merged"));
            }
            inspect(&schema["items"], &format!("{path}[]"), faults);
        }
        Some("string") => {
            let time = schema["format"] == "date-time";
            if schema["maxLength"].is_null() && schema["enum"].is_null() && !time {
                faults.push(format!("{path} has no maxLength"));
            }
        }
        Some("integer") => {
            if schema["minimum"].is_null() && schema["format"] != "int64" {
                faults.push(format!("{path} has no minimum"));
            }
        }
        Some("boolean") => {}
        other => faults.push(format!("{path} has the type {other:?}")),
    }
}

fn exists(schema: &Value, path: &str) -> bool {
    let mut at = schema;
    for step in path.trim_start_matches('.').split('.') {
        if step == "metadata" {
            return true;
        }
        let (name, list) = step
            .strip_suffix("[*]")
            .map_or((step, false), |name| (name, true));
        at = &at["properties"][name];
        if list {
            at = &at["items"];
        }
    }
    !at.is_null()
}
