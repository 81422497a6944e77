//! The table of objects that are refused or taken, read by the tests of the rules alone and by those on a real API
//! server.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

/// One object, made from one that the API server takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) of: Base,
    pub(crate) what: String,
    #[serde(default)]
    pub(crate) set: Map<String, Value>,
    pub(crate) status: Option<Value>,
    #[serde(default)]
    pub(crate) update: Map<String, Value>,
    /// Where the refusal points; given in refused.yaml only.
    pub(crate) field: Option<String>,
    /// What the refusal says; given in refused.yaml only.
    pub(crate) says: Option<String>,
}

/// The objects that cases are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Base {
    Job,
    Offer,
    Limit,
    Lease,
    Intent,
}

impl Base {
    pub(crate) const ALL: [Self; 5] = [Self::Job, Self::Offer, Self::Limit, Self::Lease, Self::Intent];

    pub(crate) fn object(self) -> Value {
        read(match self {
            Self::Job => "examples/job.yaml",
            Self::Offer => "examples/offer.yaml",
            Self::Limit => "examples/spending-limit.yaml",
            Self::Lease => "tests/objects/lease.yaml",
            Self::Intent => "tests/objects/intent.yaml",
        })
    }
}

impl Case {
    /// The object as it is created.
    pub(crate) fn created(&self) -> Value {
        with(self.of.object(), &self.set)
    }

    /// The object as it is updated, if this case updates it; `stored` is what it was created as.
    pub(crate) fn updated(&self, stored: &Value) -> Option<Value> {
        (!self.update.is_empty()).then(|| with(stored.clone(), &self.update))
    }
}

pub(crate) fn refused() -> Vec<Case> {
    read("tests/refused.yaml")
}

pub(crate) fn taken() -> Vec<Case> {
    read("tests/taken.yaml")
}

fn read<T: serde::de::DeserializeOwned>(file: &str) -> T {
    let path = folder().join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// This file is compiled into tests of two crates, which are neighbours in the workspace.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds")
}

fn with(mut object: Value, changes: &Map<String, Value>) -> Value {
    for (path, value) in changes {
        put(&mut object, path, value);
    }
    object
}

/// Puts a value at a path; null removes. An index at the end of a list appends.
fn put(object: &mut Value, path: &str, value: &Value) {
    let (step, rest) = path
        .split_once('.')
        .map_or((path, None), |(step, rest)| (step, Some(rest)));
    match object {
        Value::Array(items) => {
            let index: usize = step.parse().unwrap_or_else(|_| panic!("{step} is no index"));
            if index == items.len() {
                items.push(Value::Null);
            }
            match rest {
                Some(rest) => put(&mut items[index], rest, value),
                None => items[index] = value.clone(),
            }
        }
        Value::Object(fields) => match rest {
            Some(rest) => put(
                fields.entry(step).or_insert_with(|| Value::Object(Map::new())),
                rest,
                value,
            ),
            None if value.is_null() => {
                fields.remove(step);
            }
            None => {
                fields.insert(step.to_owned(), value.clone());
            }
        },
        _ => panic!("{path}: there is nothing to put it into"),
    }
}
