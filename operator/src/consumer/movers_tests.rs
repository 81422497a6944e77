use clap::Parser as _;
use tradewind_market::{UnitSet, Units};

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
    let full = MoverReport::failed(MoverCause::VolumeFull, "no room")
        .to_text()
        .unwrap();
    assert_eq!(at(&[], NOW), Standing::Due(1));
    let succeeded = pod(2, &ended("Succeeded", Some(&done.to_text().unwrap())));
    let failed = pod(1, &ended("Failed", Some(&full)));
    assert_eq!(
        at(&[succeeded.clone(), failed.clone()], NOW),
        Standing::Done(done)
    );
    assert!(
        matches!(at(std::slice::from_ref(&failed), NOW), Standing::Failed(Some(MoverCause::VolumeFull), what)
        if what.contains("no room") && what.contains("make room in the volume"))
    );
    assert_eq!(
        at(&[failed], NOW + 5),
        Standing::Due(2),
        "ten seconds after its end"
    );
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

fn made(mount: Option<&Mount>, roots: bool) -> Value {
    let mut flags = vec![
        "operator",
        "--namespace=tradewind",
        "--instance=0",
        "--pod-image=pod@sha256:00",
    ];
    flags.extend([
        "--gateway=http://gateway",
        "--rpc-url=http://node",
        "--chain-id=1",
    ]);
    flags.push("--market=0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    if roots {
        flags.push("--ca-file=/etc/ca.crt");
    }
    let args = Args::try_parse_from(flags).unwrap();
    let job: ComputeJob = serde_json::from_value(json!({
        "apiVersion": "tradewind.dev/v1alpha1",
        "kind": "ComputeJob",
        "metadata": {"name": "flyby", "namespace": "studio", "uid": "12345678-9abc-def0-1234-56789abcdef0"},
        "spec": {
            "completions": 4,
            "template": {"image": "a/b:1", "resources": {"cpu": "1", "memory": "64Mi"}, "secondsPerUnit": 10},
            "payment": {"token": "0x5FbDB2315678afecb367f032d93F642f64180aa3", "maxPricePerUnit": "1", "budget": "8"},
        },
    }))
    .unwrap();
    serde_json::to_value(super::pod(&args, &job, Errand::In(3), 2, mount, 1 << 20).unwrap()).unwrap()
}

fn mount(read_only: bool) -> Mount {
    Mount {
        claim: "renders".to_owned(),
        read_only,
        run_as: RunAs {
            user: 1000,
            group: 100,
        },
    }
}

#[test]
fn a_mover_has_no_token_no_rights_on_the_node_and_only_its_own_volumes() {
    for mount in [None, Some(mount(true)), Some(mount(false))] {
        let pod = made(mount.as_ref(), false);
        let spec = &pod["spec"];
        assert_eq!(spec["automountServiceAccountToken"], false);
        assert_eq!(spec["enableServiceLinks"], false);
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
        for field in ["hostNetwork", "hostPID", "hostIPC", "serviceAccountName"] {
            assert!(spec[field].is_null(), "{field}");
        }
        let container = &spec["containers"][0];
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(
            container["securityContext"]["capabilities"]["drop"],
            json!(["ALL"])
        );
        let names: Vec<&str> = spec["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|volume| volume["name"].as_str().unwrap())
            .collect();
        let expected: &[&str] = match mount {
            None => &["task", "passage"],
            Some(_) => &["task", "passage", "claim"],
        };
        assert_eq!(names, expected);
    }
}

#[test]
fn a_mover_is_named_by_what_it_does_and_goes_with_its_job() {
    let pod = made(None, false);
    assert_eq!(pod["metadata"]["name"], "flyby-12345678-in-3-2");
    assert_eq!(
        pod["spec"]["volumes"][0]["secret"]["secretName"],
        "flyby-12345678-in-3-2"
    );
    let owner = &pod["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["name"]),
        (&json!("ComputeJob"), &json!("flyby"))
    );
}

#[test]
fn a_claim_that_is_read_is_mounted_so_and_its_files_keep_their_group() {
    let read = made(Some(&mount(true)), true);
    assert_eq!(
        read["spec"]["volumes"][2]["persistentVolumeClaim"]["readOnly"],
        true
    );
    assert_eq!(read["spec"]["containers"][0]["volumeMounts"][2]["readOnly"], true);
    assert_eq!(read["spec"]["securityContext"]["fsGroup"], Value::Null);
    assert_eq!(
        read["spec"]["containers"][0]["env"][0]["value"],
        "/tradewind/task/ca.crt"
    );
    let written = made(Some(&mount(false)), false);
    assert_eq!(written["spec"]["securityContext"]["runAsUser"], 1000);
    assert_eq!(written["spec"]["securityContext"]["fsGroup"], 100);
    assert_eq!(
        written["spec"]["securityContext"]["fsGroupChangePolicy"],
        "OnRootMismatch"
    );
}
