//! Slices from fetch to report: the program in real namespaces, with units that mean no harm.

use std::fs;

use crate::pod::{Pod, await_true, input, pod_with_inputs, template};
use tradewind_gateway_api::seal::OpeningKey;
use tradewind_gateway_api::slice::{AbstainCause, SecretText};
use tradewind_gateway_api::template::EnvVar;
use tradewind_market::Units;
use tradewind_result::{ContentDigest, Outcome};

#[test]
fn every_unit_has_its_index_its_input_empty_directories_and_its_own_result() {
    let script = r#"
        found=$(ls -A /out /tmp "$HOME" /var/cache /dev/shm | grep -v ':$' | grep -v '^$')
        echo "[$found]" > /out/found
        cat /in/scene/deep/file > /out/scene; echo "$IMAGE_SAYS $COLOUR $KUBERNETES_SERVICE_HOST" > /out/env
        [ "$TMPDIR" = /tmp ] || echo "$TMPDIR" > /out/bad
        for d in /tmp "$HOME" /var/cache /dev/shm; do mkdir -p $d/left/behind; echo x > $d/left/behind/x; done
        echo $JOB_COMPLETION_INDEX > /out/index; mkdir /out/empty
        touch /in/scene/new /tradewind/bin/new 2>/dev/null && echo writable > /out/bad
        echo "last words of $JOB_COMPLETION_INDEX" >&2
        [ $JOB_COMPLETION_INDEX = 7 ] && exit 3
        [ $JOB_COMPLETION_INDEX = 8 ] && kill -TERM $$
        exit 0"#;
    let mut template = template(script);
    template.env = vec![EnvVar {
        name: "COLOUR".into(),
        value: "blue sky".into(),
    }];
    let mut pod = pod_with_inputs(template, |store| {
        vec![input(store, "scene", &[("deep/file", "a sphere")])]
    });
    let message = pod.live();
    assert_eq!((message.units, message.failed), (Units::new(3), Units::new(2)));
    let report = pod.report(&message);
    let outcomes: Vec<_> = report
        .units
        .iter()
        .map(|unit| (unit.unit.get(), unit.outcome))
        .collect();
    assert_eq!(
        outcomes,
        [
            (6, Outcome::Exit(0)),
            (7, Outcome::Exit(3)),
            (8, Outcome::Signal(15))
        ]
    );
    for (place, unit) in report.units.iter().enumerate() {
        let (note, files) = pod.output(unit);
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["env", "found", "index", "scene"]);
        assert_eq!(pod.text(&report, place, "index"), format!("{}\n", unit.unit));
        assert_eq!(pod.text(&report, place, "scene"), "a sphere");
        assert_eq!(pod.text(&report, place, "env"), "hello blue sky \n");
        assert_eq!(
            pod.text(&report, place, "found"),
            "[]\n",
            "nothing of an earlier unit"
        );
        let words = format!("last words of {}\n", unit.unit);
        assert_eq!(
            note.stderr_tail,
            if unit.outcome.is_success() {
                String::new()
            } else {
                words
            }
        );
        let (address, length, chunks) = tradewind_result::chunk_root(&pod.store.get(&unit.blob)[..]).unwrap();
        assert_eq!(
            (address, length, chunks),
            (unit.blob, unit.stored_bytes, unit.chunk_root)
        );
    }
}

#[test]
fn a_container_that_dies_is_started_again_and_finished_units_are_not() {
    let script = "[ $JOB_COMPLETION_INDEX = 7 ] && sleep 1; echo $JOB_COMPLETION_INDEX > /out/index";
    let mut pod = Pod::new(&template(script));
    pod.fetch();
    pod.start_collect();
    let mut run = pod.start_run();
    pod.await_journal(r#"{"started":{"unit":7}}"#);
    run.kill();
    pod.run_to_end();
    let message = pod.end();
    assert_eq!(pod.report(&message).units.len(), 3);
    let starts = |unit: u32| {
        pod.journal()
            .matches(&format!(r#"{{"started":{{"unit":{unit}}}}}"#))
            .count()
    };
    assert_eq!((starts(6), starts(7), starts(8)), (1, 2, 1));
}

#[test]
fn a_container_that_always_dies_in_one_unit_ends_in_an_abstention() {
    let mut pod = Pod::new(&template("[ $JOB_COMPLETION_INDEX = 7 ] && sleep 20; exit 0"));
    pod.fetch();
    pod.start_collect();
    for attempt in 1..=3 {
        let mut run = pod.start_run();
        await_true(|| pod.journal().matches(r#"{"started":{"unit":7}}"#).count() == attempt);
        run.kill();
    }
    pod.run_to_end();
    let abstention = pod.end().abstain.unwrap();
    assert_eq!(
        (abstention.cause, abstention.unit.unwrap().get()),
        (AbstainCause::Interrupted, 7)
    );
}

#[test]
fn collect_killed_at_any_moment_goes_on_and_nothing_runs_unwatched() {
    let script = "sleep 0.3; head -c 3000000 /dev/urandom > /out/noise";
    let mut pod = Pod::new(&template(script));
    pod.fetch();
    pod.start_collect();
    let run = pod.start_run();
    pod.await_journal(r#"{"started":{"unit":6}}"#);
    pod.kill_collect();
    assert!(!run.wait().success(), "the unit ends with who watches it");
    let mut run = pod.start_run();
    for moment in [
        r#"{"taken":{"unit":6"#,
        r#"{"sealed":{"unit":6"#,
        r#"{"started":{"unit":7}}"#,
        r#"{"taken":{"unit":7"#,
        r#"{"stored":{"unit":7}}"#,
    ] {
        pod.start_collect();
        while !pod.journal().contains(moment) {
            run = run.or_again(&pod);
        }
        pod.kill_collect();
    }
    pod.start_collect();
    while !run.has_ended_well() {
        run = run.or_again(&pod);
    }
    let message = pod.end();
    let report = pod.report(&message);
    assert_eq!(report.units.len(), 3);
    for unit in &report.units {
        assert_eq!(pod.output(unit).1["noise"].len(), 3_000_000);
    }
}

#[test]
fn a_relay_that_is_down_for_a_while_loses_nothing() {
    let mut pod = Pod::new(&template("echo done > /out/a"));
    pod.fetch();
    pod.store.refuse_uploads(true);
    pod.start_collect();
    let run = pod.start_run();
    pod.await_journal(r#"{"sealed":"#);
    pod.store.refuse_uploads(false);
    assert!(run.wait().success());
    let message = pod.end();
    assert_eq!(pod.report(&message).units.len(), 3);
}

#[test]
fn what_cannot_be_stored_in_time_is_an_abstention() {
    let mut pod = Pod::new(&template("true"));
    pod.config.store_seconds_max = 1;
    pod.fetch();
    pod.store.refuse_uploads(true);
    pod.start_collect();
    pod.run_to_end();
    assert_eq!(pod.end().abstain.unwrap().cause, AbstainCause::Storage);
}

#[test]
fn programs_that_cannot_be_started_are_results_as_in_a_shell() {
    let check = |program: &str, code: u8| {
        let mut template = template("");
        template.command = vec![program.into()];
        let mut pod = Pod::new(&template);
        let message = pod.live();
        assert_eq!(
            pod.report(&message).units[0].outcome,
            Outcome::Exit(code),
            "{program}"
        );
    };
    check("/no/such/program", 127);
    check("no-such-program", 127);
    check("/in", 126);
}

#[test]
fn nothing_runs_where_fetch_found_a_reason() {
    let check = |mut pod: Pod, expected: AbstainCause| {
        let message = pod.live();
        assert_eq!(message.abstain.unwrap().cause, expected);
        assert!(!pod.journal().contains("started"));
    };
    let plain = || Pod::new(&template("echo ran > /out/ran"));
    let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut reachable = plain();
    reachable.config.canaries.push(open.local_addr().unwrap());
    check(reachable, AbstainCause::NotIsolated);
    let other_key = OpeningKey::from_secret(&[99; 32]).unwrap().to_text().to_string();
    check(
        plain().with_grant(|grant| grant.job_key = SecretText::new(other_key)),
        AbstainCause::Key,
    );
    let other = ContentDigest::of(b"other");
    check(
        plain().with_grant(|grant| grant.template.digest = other),
        AbstainCause::TemplateMismatch,
    );
    check(
        plain().with_grant(|grant| grant.template.blob = other),
        AbstainCause::TemplateMismatch,
    );
    let missing = pod_with_inputs(template("true"), |store| {
        let mut input = input(store, "scene", &[("a", "x")]);
        input.blob = other;
        vec![input]
    });
    check(missing, AbstainCause::Inputs);
    let another = pod_with_inputs(template("true"), |store| {
        let mut input = input(store, "scene", &[("a", "x")]);
        input.manifest_digest = other;
        vec![input]
    });
    check(another, AbstainCause::Inputs);
}

#[test]
fn a_pod_that_is_ended_early_says_so() {
    let mut pod = Pod::new(&template("sleep 20"));
    pod.fetch();
    pod.start_collect();
    let mut run = pod.start_run();
    pod.await_journal(r#"{"started":{"unit":6}}"#);
    let message = pod.end();
    assert_eq!(message.abstain.unwrap().cause, AbstainCause::Interrupted);
    run.kill();
    assert!(
        fs::read_dir(pod.volume("private/taken"))
            .unwrap()
            .next()
            .is_none()
    );
}
