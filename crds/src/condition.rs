//! Conditions: what a controller has found out about an object, each with a machine-readable reason.
//!
//! The types and reasons of a kind are closed enums beside the kind; on the wire they are strings, so that an
//! older reader survives a newer writer. Nothing here reads a clock: times are arguments.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest message kept, in bytes; what is longer is cut, so that no finding can make a status unwritable.
pub const MESSAGE_BYTES_MAX: usize = 4096;

/// One finding about the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the finding is about.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 64))]
    pub type_: String,
    /// Whether it holds: True, False, or Unknown where it cannot be found out at the moment.
    pub status: ConditionStatus,
    /// The metadata.generation that the finding is about; older than the object's own: not looked at again yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the status last changed.
    pub last_transition_time: Time,
    /// Why, as one word for machines.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// Why, for people, with what to do about it where there is something to do.
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be found out at the moment.
    Unknown,
}

/// A name out of a closed set, written on the wire and in metrics as it is spelled in the code.
pub trait Name: Copy + PartialEq + 'static {
    /// Every name of the set.
    const ALL: &'static [Self];

    /// The name as written.
    fn as_str(self) -> &'static str;
}

/// The condition types of one kind, and the reasons they can have.
pub trait ConditionType: Name {
    /// The closed set of reasons.
    type Reason: Name;
}

/// A finding, before it is written as a [`Condition`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding<C: ConditionType> {
    /// What it is about.
    pub condition: C,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, for machines.
    pub reason: C::Reason,
    /// Why, for people.
    pub message: String,
}

/// A moment as conditions keep it: the API server's times have whole seconds, and one with more would never equal what
/// is stored.
pub fn moment(at: k8s_openapi::jiff::Timestamp) -> Time {
    Time(k8s_openapi::jiff::Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// Writes a finding into the list. The transition time changes only with the status; a condition keeps its place.
/// Returns whether anything but a time or the observed generation changed: that is when an Event is due.
pub fn set<C: ConditionType>(
    conditions: &mut Vec<Condition>,
    finding: Finding<C>,
    generation: Option<i64>,
    now: &Time,
) -> bool {
    let mut new = Condition {
        type_: finding.condition.as_str().to_owned(),
        status: finding.status,
        observed_generation: generation,
        last_transition_time: now.clone(),
        reason: finding.reason.as_str().to_owned(),
        message: cut(finding.message),
    };
    let Some(old) = conditions.iter_mut().find(|old| old.type_ == new.type_) else {
        conditions.push(new);
        return true;
    };
    if old.status == new.status {
        new.last_transition_time = old.last_transition_time.clone();
    }
    let changed = (old.status, &old.reason, &old.message) != (new.status, &new.reason, &new.message);
    *old = new;
    changed
}

/// The condition of that type, if it was ever found.
pub fn find<C: ConditionType>(conditions: &[Condition], condition: C) -> Option<&Condition> {
    conditions.iter().find(|found| found.type_ == condition.as_str())
}

/// Whether the condition is known to hold.
pub fn is_true<C: ConditionType>(conditions: &[Condition], condition: C) -> bool {
    find(conditions, condition).is_some_and(|found| found.status == ConditionStatus::True)
}

/// Gives conditions that were derived afresh the transition times of the stored ones whose status is the same.
/// After that, a status is worth writing exactly when it is not equal to the stored one.
pub fn carry_times(stored: &[Condition], derived: &mut [Condition]) {
    for new in derived {
        if let Some(old) = stored
            .iter()
            .find(|old| old.type_ == new.type_ && old.status == new.status)
        {
            new.last_transition_time = old.last_transition_time.clone();
        }
    }
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        const ELLIPSIS: &str = "…";
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX - ELLIPSIS.len()));
        message.push_str(ELLIPSIS);
    }
    message
}

/// Declares a closed set of names: an enum whose variants are documented and written as they are spelled.
macro_rules! names {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name { $($(#[$variant_meta])* $variant),+ }

        impl $crate::condition::Name for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($crate::condition::Name::as_str(*self))
            }
        }
    };
}
pub(crate) use names;

#[cfg(test)]
mod tests {
    use super::*;

    names! {
        enum Weather { Dry, Warm }
    }
    names! {
        enum WeatherReason { Measured, Guessed }
    }
    impl ConditionType for Weather {
        type Reason = WeatherReason;
    }

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap())
    }

    fn dry(status: ConditionStatus, reason: WeatherReason) -> Finding<Weather> {
        Finding {
            condition: Weather::Dry,
            status,
            reason,
            message: "seen from the window".into(),
        }
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut conditions = vec![];
        assert!(set(
            &mut conditions,
            dry(ConditionStatus::True, WeatherReason::Measured),
            Some(1),
            &at(10)
        ));
        assert!(!set(
            &mut conditions,
            dry(ConditionStatus::True, WeatherReason::Measured),
            Some(2),
            &at(20)
        ));
        assert_eq!(conditions[0].last_transition_time, at(10));
        assert_eq!(conditions[0].observed_generation, Some(2));

        assert!(set(
            &mut conditions,
            dry(ConditionStatus::True, WeatherReason::Guessed),
            Some(2),
            &at(30)
        ));
        assert_eq!(conditions[0].last_transition_time, at(10));
        assert!(set(
            &mut conditions,
            dry(ConditionStatus::False, WeatherReason::Guessed),
            Some(2),
            &at(40)
        ));
        assert_eq!(conditions[0].last_transition_time, at(40));
        assert_eq!(conditions.len(), 1);
        assert!(!is_true(&conditions, Weather::Dry));
        assert!(find(&conditions, Weather::Warm).is_none());
    }

    #[test]
    fn statuses_that_differ_only_in_times_become_equal() {
        let (mut stored, mut derived) = (vec![], vec![]);
        set(
            &mut stored,
            dry(ConditionStatus::True, WeatherReason::Measured),
            Some(1),
            &at(10),
        );
        set(
            &mut derived,
            dry(ConditionStatus::True, WeatherReason::Measured),
            Some(1),
            &at(99),
        );
        assert_ne!(stored, derived);
        carry_times(&stored, &mut derived);
        assert_eq!(stored, derived);

        derived[0].status = ConditionStatus::Unknown;
        derived[0].last_transition_time = at(99);
        carry_times(&stored, &mut derived);
        assert_eq!(derived[0].last_transition_time, at(99));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let mut conditions = vec![];
        let message = "é".repeat(MESSAGE_BYTES_MAX);
        let finding = Finding {
            message,
            ..dry(ConditionStatus::True, WeatherReason::Measured)
        };
        set(&mut conditions, finding, None, &at(0));
        let kept = &conditions[0].message;
        assert!(
            kept.len() <= MESSAGE_BYTES_MAX && kept.ends_with('…'),
            "{} bytes",
            kept.len()
        );
    }
}
