//! Events: what `kubectl describe` shows under an object.
//!
//! An Event that cannot be written is counted and never fails what it tells about.

use std::fmt;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube_runtime::events::{Event, EventType, Recorder, Reporter};
use prometheus::IntCounter;

/// The API server's bound on an Event's text.
const NOTE_BYTES_MAX: usize = 1024;

/// Writes Events. Cheap to clone; all clones share the series of repeated Events.
#[derive(Clone)]
pub(crate) struct Events {
    recorder: Recorder,
    failures: IntCounter,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

/// One thing to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Telling {
    /// Whether a human should look.
    pub(crate) warning: bool,
    /// What was being done, out of a closed set.
    pub(crate) action: &'static str,
    /// Why, out of a closed set.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) note: String,
}

impl Events {
    /// `instance` is this replica's name.
    pub(crate) fn new(client: Client, instance: &str, failures: IntCounter) -> Self {
        let reporter = Reporter {
            controller: "tradewind-operator".into(),
            instance: Some(instance.to_owned()),
        };
        Self {
            recorder: Recorder::new(client, reporter),
            failures,
        }
    }

    /// Tells it about the object.
    pub(crate) async fn tell(&self, object: &ObjectReference, telling: Telling) {
        let Telling {
            warning,
            action,
            reason,
            mut note,
        } = telling;
        note.truncate(note.floor_char_boundary(NOTE_BYTES_MAX));
        let event = Event {
            type_: if warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, object).await {
            self.failures.inc();
            tracing::debug!(%error, reason, "an Event could not be written");
        }
    }
}
