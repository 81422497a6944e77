use serde_json::{Value, json};
use tradewind_market::UnitSet;
use tradewind_market::Units;

use super::*;

const NOW: u64 = 1_000_000;

fn pod(attempt: u32, status: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("flyby-12345678-out-0-{attempt}"),
            "creationTimestamp": "1970-01-12T13:46:35Z", // five seconds before NOW
            "labels": {ERRAND_LABEL: "out-0", ATTEMPT_LABEL: attempt.to_string()},
        },
        "status": status,
    }))
    .unwrap()
}

fn ended(phase: &str, message: Option<&str>) -> Value {
    let code = i32::from(phase == "Failed");
    json!({"phase": phase, "containerStatuses": [{
        "name": "mover", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": code, "message": message, "finishedAt": "1970-01-12T13:46:35Z"}},
    }]})
}

fn waits(reason: &str) -> Value {
    json!({"phase": "Pending", "containerStatuses": [{
        "name": "mover", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": "why"}},
    }]})
}

fn at(pods: &[Pod], now: u64) -> Standing {
    standing(pods, Errand::Out(0), UnixSeconds::new(now))
}

#[test]
fn an_errand_stands_as_its_newest_pod_does() {
    let done = MoverReport::exported(Units::new(4), &UnitSet::new());
    let full = MoverReport::failed(MoverCause::VolumeFull, "no room").to_text().unwrap();
    assert_eq!(at(&[], NOW), Standing::Due(1));
    let succeeded = pod(2, &ended("Succeeded", Some(&done.to_text().unwrap())));
    let failed = pod(1, &ended("Failed", Some(&full)));
    assert_eq!(at(&[succeeded.clone(), failed.clone()], NOW), Standing::Done(done));
    assert!(matches!(at(&[failed.clone()], NOW), Standing::Failed(Some(MoverCause::VolumeFull), what)
        if what.contains("no room") && what.contains("make room in the volume")));
    assert_eq!(at(&[failed], NOW + 5), Standing::Due(2), "ten seconds after its end");
    assert_eq!(
        standing(&[succeeded], Errand::Out(1), UnixSeconds::new(NOW)),
        Standing::Due(1),
        "another errand's pod says nothing"
    );
}

#[test]
fn what_a_pod_waits_for_is_said() {
    let says = |status: &Value, now: u64| match at(&[pod(1, status)], now) {
        Standing::UnderWay(what) => what,
        other => panic!("{other:?}"),
    };
    assert!(says(&waits("ImagePullBackOff"), NOW).contains("ImagePullBackOff why"));
    assert!(says(&waits("ContainerCreating"), NOW).contains("starts"));
    let unscheduled = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "message": "unbound claims"},
    ]});
    assert!(says(&unscheduled, NOW).contains("waits for a node: unbound claims"));
    // Long enough that its Secret may be missing.
    let untold = at(&[pod(1, &waits("ContainerCreating"))], NOW + 30);
    assert!(matches!(untold, Standing::Untold(_)), "{untold:?}");
}

#[test]
fn a_pod_that_ends_without_a_word_or_with_another_is_a_failure() {
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "the node had no memory"});
    for (status, expected) in [
        (evicted, "Evicted the node had no memory"),
        (ended("Failed", Some("Segmentation fault")), "without saying why"),
        (ended("Succeeded", None), "without saying why"),
    ] {
        let found = at(&[pod(1, &status)], NOW);
        assert!(
            matches!(&found, Standing::Failed(None, what) if what.contains(expected)),
            "{found:?}"
        );
    }
}

#[test]
fn attempts_come_slower_and_slower_up_to_a_bound() {
    let waits: Vec<u64> = (1..=8).map(|attempt| retry_after(attempt).get()).collect();
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600]);
    assert_eq!(retry_after(u32::MAX).get(), 600);
}
