//! Units that mean harm: to the next unit, to the result, to the node, to us.

use std::fs;
use std::time::{Duration, Instant};

use crate::pod::{Pod, template};
use tradewind_gateway_api::slice::AbstainCause;
use tradewind_market::{Seconds, Units};
use tradewind_result::Outcome;

fn abstains(template: &tradewind_gateway_api::template::Template, expected: AbstainCause) -> Pod {
    let mut pod = Pod::new(template);
    let message = pod.live();
    let abstention = message.abstain.unwrap_or_else(|| panic!("expected {expected:?}"));
    assert_eq!(abstention.cause, expected, "{}", abstention.detail);
    pod
}

#[test]
fn no_process_outlives_its_unit_and_nothing_is_changed_after_it() {
    let script = r#"
        set -- /proc/[0-9]*; echo $# > /out/processes
        echo original > /out/file; mkdir /out/dir; exec 9>>/out/file
        (trap '' TERM HUP INT; setsid sh -c 'trap "" TERM; while :; do echo forged >&9; echo forged > /out/late; done' &) &
        (setsid sh -c 'cd /out/dir; while :; do echo forged > here; done' &) &
        (while :; do (sleep 5 &); usleep 20000; done) &
        kill -9 1; kill -STOP 1; kill -TERM 1
        usleep 50000; exec 9>&- ; exit 0"#;
    let mut pod = Pod::new(&template(script));
    let message = pod.live();
    let report = pod.report(&message);
    let counts: Vec<_> = (0..3).map(|unit| pod.text(&report, unit, "processes")).collect();
    assert_eq!(
        counts[0], counts[1],
        "the second unit sees no more processes than the first"
    );
    assert_eq!(counts[1], counts[2]);
    for unit in &report.units {
        let taken = pod.output(unit).1;
        assert!(taken["file"].starts_with(b"original\n"));
    }
    assert!(fs::read_dir(pod.volume("out")).unwrap().next().is_none());
}

#[test]
fn journal_socket_program_and_grant_are_out_of_reach() {
    let script = r"
        rm -rf /out 2>/dev/null
        ls -A /tradewind /tradewind/control /tradewind/home > /out/seen
        rm -rf /tradewind/control/* /tradewind/bin/* 2>/dev/null
        (echo forged > /tradewind/control/collect.sock) 2>/dev/null && echo written >> /out/bad
        mv /out /moved 2>/dev/null && echo moved >> /out/bad
        cat /proc/1/environ /proc/1/mem /proc/1/maps 2>/dev/null && echo read >> /out/bad
        ls /proc/1/fd /proc/1/cwd/ >/dev/null 2>&1 && echo listed >> /out/bad
        timeout 1 unshare -U -p -f /tradewind/bin/tradewind-pod step 2>/dev/null && echo forged >> /out/bad
        /tradewind/bin/tradewind-pod step 2>/dev/null && echo forged >> /out/bad
        echo here > /out/here; exit 0";
    let mut pod = Pod::new(&template(script));
    let message = pod.live();
    let report = pod.report(&message);
    for (place, unit) in report.units.iter().enumerate() {
        assert_eq!(unit.outcome, Outcome::Exit(0));
        let names: Vec<_> = pod.output(unit).1.into_keys().collect();
        assert_eq!(names, ["here", "seen"], "{:?}", pod.output(unit).1.get("bad"));
        let seen = pod.text(&report, place, "seen");
        let seen: Vec<_> = seen
            .split_whitespace()
            .filter(|word| !word.starts_with('/'))
            .collect();
        assert_eq!(
            seen,
            ["bin", "control", "home"],
            "no socket, journal, volume or grant"
        );
    }
}

#[test]
fn links_in_the_output_show_nothing_and_are_no_result() {
    let pod = abstains(
        &template("ln -s /tradewind/grant/lease.json /out/a; ln -s ../private/journal /out/b; exit 0"),
        AbstainCause::OutputLimit,
    );
    assert!(!pod.journal().contains("sealed"));
    abstains(&template("mkfifo /out/pipe"), AbstainCause::OutputLimit);
    abstains(&template("ln -s / /out/dir"), AbstainCause::OutputLimit);
}

#[test]
fn modes_that_keep_everybody_out_keep_us_neither_out_nor_waiting() {
    let script = r"
        mkdir -p /out/a/b /tmp/c/d; echo x > /out/a/b/file; touch /tmp/c/d/e
        chmod 000 /out/a/b/file /out/a/b /out/a /tmp/c/d /tmp/c /out /tmp /var/cache";
    let mut pod = Pod::new(&template(script));
    let message = pod.live();
    let report = pod.report(&message);
    assert_eq!(report.units.len(), 3);
    assert_eq!(pod.text(&report, 2, "a/b/file"), "x\n");
}

#[test]
fn each_limit_ends_the_slice_by_its_name() {
    let mut hangs = template("trap '' TERM; [ $JOB_COMPLETION_INDEX = 7 ] && while :; do :; done; exit 0");
    hangs.seconds_per_unit = Seconds::new(1);
    let started = Instant::now();
    let mut pod = Pod::new(&hangs);
    let message = pod.live();
    assert!(started.elapsed() < Duration::from_secs(30));
    let abstention = message.abstain.unwrap();
    assert_eq!(
        (abstention.cause, abstention.unit.unwrap().get()),
        (AbstainCause::TimeLimit, 7)
    );
    abstains(
        &template("b() { b | b & }; b; sleep 10"),
        AbstainCause::ProcessLimit,
    );
    abstains(
        &template("for i in $(busybox seq 300); do : > /out/$i; done"),
        AbstainCause::OutputLimit,
    );
    abstains(
        &template("truncate -s 1000000000 /out/hole"),
        AbstainCause::OutputLimit,
    );
    abstains(
        &template("head -c 20000000 /dev/zero > /out/big; sleep 10"),
        AbstainCause::OutputLimit,
    );
    abstains(
        &template("cat /dev/zero > /out/endless"),
        AbstainCause::OutputLimit,
    );
    let mut scratch = template("head -c 3000000 /dev/zero > /var/cache/a; sleep 10");
    scratch.limits.scratch_bytes = 1 << 20;
    abstains(&scratch, AbstainCause::ScratchLimit);
}

#[test]
fn a_full_disk_is_the_nodes_fault_and_loses_neither_journal_nor_message() {
    let script =
        "[ $JOB_COMPLETION_INDEX = 6 ] && exit 0; dd if=/dev/zero of=/tmp/full bs=64k 2>/dev/null; exit 0";
    let mut pod = Pod::new(&template(script)).with_small_disk(96);
    let message = pod.live();
    assert_eq!(message.units, Units::new(1), "the unit before is kept");
    let abstention = message.abstain.unwrap();
    assert_eq!(abstention.cause, AbstainCause::OutOfDisk, "{}", abstention.detail);
}

#[test]
fn a_unit_that_closes_everything_is_still_heard_to_end() {
    let script = "exec 0<&- 1>&- 2>&-; for i in $(busybox seq 3 20); do eval \"exec $i>&-\"; done; echo x > /out/a; exit 5";
    let mut pod = Pod::new(&template(script));
    let message = pod.live();
    assert!(
        pod.report(&message)
            .units
            .iter()
            .all(|unit| unit.outcome == Outcome::Exit(5))
    );
}

#[test]
fn a_unit_that_kills_all_it_can_ends_nobody_but_itself() {
    let mut pod = Pod::new(&template("(kill -KILL -1); exit 0")).with_memory(64 << 20);
    let message = pod.live();
    assert!(
        pod.report(&message)
            .units
            .iter()
            .all(|unit| unit.outcome == Outcome::Signal(9))
    );
}

#[test]
fn a_flood_of_words_holds_up_nobody_and_its_end_is_kept() {
    let script = "yes flood | head -c 30000000 >&2; yes flood | head -c 30000000; echo the end >&2; exit 1";
    let mut pod = Pod::new(&template(script));
    let message = pod.live();
    let report = pod.report(&message);
    let (note, _) = pod.output(&report.units[0]);
    assert!(note.stderr_tail.ends_with("flood\nthe end\n") && note.stderr_tail.len() == 4096);
}

#[test]
fn want_of_memory_is_no_result_and_the_units_before_it_are_kept() {
    // A pipeline's middle is killed; its shell goes on and would call it success.
    let script = "[ $JOB_COMPLETION_INDEX = 8 ] && tail -c 1000000000 /dev/zero | cat > /dev/null; exit 0";
    let mut pod = Pod::new(&template(script)).with_memory(48 << 20);
    let message = pod.live();
    assert_eq!(message.units, Units::new(2));
    let abstention = message.abstain.unwrap();
    assert_eq!(
        (abstention.cause, abstention.unit.unwrap().get()),
        (AbstainCause::OutOfMemory, 8),
        "{}",
        abstention.detail
    );
    assert_eq!(pod.journal().matches(r#"{"lost":{"unit":8"#).count(), 3);
}
