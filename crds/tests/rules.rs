//! The CEL rules alone, without an API server: quick, and enough to see that a rule means what it says. What else
//! the API server checks (types, ranges, lengths, unknown fields) is seen in the end-to-end tests, on the same table.

// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;

use std::sync::LazyLock;

use cases::{Base, Case};
use kube::core::cel::{ValidationError, ValidationErrors, Validator};
use serde_json::Value;
use tradewind_crds::{ChainIntent, ComputeJob, ComputeLease, ProviderOffer, SpendingLimit, generate};

/// The object as the API server would store it: with its defaults, which is what the Rust type writes.
fn defaulted(of: Base, object: &Value) -> Result<Value, serde_json::Error> {
    fn through<T: serde::de::DeserializeOwned + serde::Serialize>(
        object: &Value,
    ) -> Result<Value, serde_json::Error> {
        serde_json::to_value(serde_json::from_value::<T>(object.clone())?)
    }
    match of {
        Base::Job => through::<ComputeJob>(object),
        Base::Offer => through::<ProviderOffer>(object),
        Base::Limit => through::<SpendingLimit>(object),
        Base::Lease => through::<ComputeLease>(object),
        Base::Intent => through::<ChainIntent>(object),
    }
}

/// The schema of each kind, as the API server is given it; generated once, because that takes longer than the rules.
static SCHEMAS: LazyLock<Vec<(Base, Value)>> = LazyLock::new(|| {
    let files = generate::files().unwrap();
    let schema = |name: &str| {
        let file = files.iter().find(|file| file.name == name).unwrap();
        let definition: Value = serde_saphyr::from_str(&file.yaml).unwrap();
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
    };
    vec![
        (Base::Job, schema("computejobs.yaml")),
        (Base::Offer, schema("provideroffers.yaml")),
        (Base::Limit, schema("spendinglimits.yaml")),
        (Base::Lease, schema("computeleases.yaml")),
        (Base::Intent, schema("chainintents.yaml")),
    ]
});

fn schema(of: Base) -> &'static Value {
    &SCHEMAS.iter().find(|(base, _)| *base == of).unwrap().1
}

fn check(of: Base, object: &Value, old: Option<&Value>) -> Result<(), ValidationErrors> {
    Validator::new().validate(schema(of), object, old)
}

/// What becomes of the last step of a case, or nothing where the Rust type cannot even hold the object.
fn outcome(case: &Case) -> Option<Result<(), ValidationErrors>> {
    let mut created = defaulted(case.of, &case.created()).ok()?;
    let Some(updated) = case.updated(&case.created()) else {
        return Some(check(case.of, &created, None));
    };
    let mut updated = defaulted(case.of, &updated).ok()?;
    if let Some(status) = &case.status {
        created["status"] = status.clone();
        updated["status"] = status.clone();
    }
    Some(check(case.of, &updated, Some(&created)))
}

#[test]
fn the_objects_that_cases_are_made_from_pass() {
    for of in Base::ALL {
        let object = defaulted(of, &of.object()).unwrap();
        check(of, &object, None).unwrap_or_else(|errors| panic!("{of:?}: {errors}"));
    }
}

#[test]
fn what_is_to_be_taken_passes() {
    for case in cases::taken() {
        let outcome = outcome(&case).unwrap_or_else(|| panic!("{}: not an object of its kind", case.what));
        outcome.unwrap_or_else(|errors| panic!("{}: {errors}", case.what));
    }
}

#[test]
fn what_a_rule_refuses_is_refused_with_its_message() {
    let messages: Vec<String> = Base::ALL.iter().flat_map(|of| messages(schema(*of))).collect();
    let mut checked = 0;
    for case in cases::refused() {
        let says = case
            .says
            .as_deref()
            .unwrap_or_else(|| panic!("{}: no `says`", case.what));
        if !messages.iter().any(|message| message.contains(says)) {
            continue;
        }
        checked += 1;
        let Some(outcome) = outcome(&case) else {
            panic!("{}: not an object of its kind", case.what)
        };
        let errors = outcome.expect_err(&case.what);
        let field = case
            .field
            .as_deref()
            .unwrap_or_else(|| panic!("{}: no `field`", case.what));
        let named = |error: &ValidationError| {
            error.field_path.trim_start_matches('.') == field || error.message.contains(field)
        };
        assert!(
            errors
                .iter()
                .any(|error| error.message.contains(says) && named(error)),
            "{}: {errors}",
            case.what
        );
    }
    assert!(
        checked > 50,
        "only {checked} cases of refused.yaml name the message of a rule"
    );
}

/// Every message of every rule, wherever it stands in the schema.
fn messages(schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| match (key.as_str(), value) {
                ("x-kubernetes-validations", Value::Array(rules)) => rules
                    .iter()
                    .map(|rule| rule["message"].as_str().unwrap().to_owned())
                    .collect(),
                _ => messages(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(messages).collect(),
        _ => vec![],
    }
}
