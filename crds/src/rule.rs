//! CEL rules that several kinds need, built from field names so that rule, message and path always agree.

use kube::core::{Reason, Rule};

use crate::scalar::DURATION_RULE;

/// `field` of the object that carries the rule never changes, whether it is there or not.
pub(crate) fn immutable(field: &str) -> Rule {
    Rule::new(unchanged("self", "oldSelf", field))
        .message(&*format!(
            "{field} cannot be changed: delete the object and create it anew"
        ))
        .field_path(format!(".{field}"))
        .reason(Reason::FieldValueForbidden)
}

/// `field` of the spec does not change once `gate`, a CEL expression over `oldSelf` at the object's root, holds.
pub(crate) fn locked(field: &str, gate: &str, since: &str) -> Rule {
    Rule::new(format!(
        "!({gate}) || ({})",
        unchanged("self.spec", "oldSelf.spec", field)
    ))
    .message(&*format!(
        "{field} cannot be changed {since}: delete the object and create it anew"
    ))
    .field_path(format!(".spec.{field}"))
    .reason(Reason::FieldValueForbidden)
}

/// Exactly one of the optional fields is given.
pub(crate) fn exactly_one_of(what: &str, fields: &[&str]) -> Rule {
    let given: Vec<String> = fields
        .iter()
        .map(|field| format!("has(self.{field}) ? 1 : 0"))
        .collect();
    Rule::new(format!("({}) == 1", given.join(") + ("))).message(&*format!(
        "{what} needs exactly one of {}: give one and remove the others",
        fields.join(", ")
    ))
}

/// `condition` on the duration that `expression` gives. Text that is no duration passes here, because the type's own
/// rule refuses it with a better message than a failed conversion gives.
pub(crate) fn duration(expression: &str, condition: &str, message: &str) -> Rule {
    let well_formed = DURATION_RULE.replace("self", expression);
    Rule::new(format!("!({well_formed}) || {condition}")).message(message)
}

fn unchanged(new: &str, old: &str, field: &str) -> String {
    format!(
        "has({new}.{field}) == has({old}.{field}) && (!has({new}.{field}) || {new}.{field} == {old}.{field})"
    )
}
