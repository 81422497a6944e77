//! The life of a lab: what a killed driver left is cleaned away, Ctrl-C leaves nothing, two labs live side
//! by side. These raise labs of their own, so they are run one after another, on the nightly list.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails where it stands, its helpers too"
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::PostParams;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tradewind_e2e::lab::{ImageSource, Lab, LabSpec};

fn e2e(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_e2e"));
    command.arg("lab").args(arguments).stdin(Stdio::null());
    command
}

/// Starts raising a lab, and returns as soon as the component is on its record.
fn raise_until(name: &str, component: &str) -> Child {
    let driver = e2e(&["up", "--name", name, "--clusters", "1"]).spawn().unwrap();
    await_true("the component's start", || {
        recorded(name).iter().any(|(found, _)| found == component)
    });
    driver
}

/// The lab's processes on its record, with their numbers.
fn recorded(name: &str) -> Vec<(String, i64)> {
    let state = std::fs::read(format!("/run/tradewind/{name}/state.json")).unwrap_or_default();
    let state: Value = serde_json::from_slice(&state).unwrap_or_default();
    let processes = state["processes"].as_array().cloned().unwrap_or_default();
    let pair = |record: &Value| {
        Some((
            record["launch"]["name"].as_str()?.to_owned(),
            record["identity"]["pid"].as_i64()?,
        ))
    };
    processes.iter().filter_map(pair).collect()
}

fn runs(pid: i64) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).exists()
}

fn await_true(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(driver: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(driver.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// That nothing of the lab is left but its logs' folder: processes, namespaces, cgroups, mounts.
fn assert_gone(name: &str, processes: &[(String, i64)]) {
    for (process, pid) in processes {
        assert!(!runs(*pid), "{process} still runs as {pid}");
    }
    let namespaces = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let left: Vec<_> = namespaces
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|found| found.starts_with(&format!("tradewind.{name}.")))
        .collect();
    assert!(left.is_empty(), "network namespaces left: {left:?}");
    assert!(!Path::new("/run/tradewind").join(name).exists());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&format!("/tradewind/{name}/")), "mounts left");
    let groups = Command::new("find")
        .args(["/sys/fs/cgroup", "-path", &format!("*/tradewind/{name}")])
        .output();
    assert_eq!(
        String::from_utf8(groups.unwrap().stdout).unwrap(),
        "",
        "cgroups left"
    );
}

#[test]
fn what_a_killed_driver_left_is_cleaned_by_the_next_up() {
    let name = "killed";
    let mut driver = raise_until(name, "consumer/kubelet");
    signal(&driver, Signal::KILL);
    driver.wait().unwrap();
    let left = recorded(name);
    let living = left.iter().filter(|(_, pid)| runs(*pid)).count();
    assert!(
        living > 3,
        "what the driver started outlives it, so that there is something to clean"
    );

    let again = e2e(&["up", "--name", name, "--clusters", "1"]).status().unwrap();
    assert!(again.success());
    for (process, pid) in &left {
        assert!(!runs(*pid), "{process} of the dead driver still runs as {pid}");
    }
    let second = recorded(name);
    assert!(second.iter().all(|(_, pid)| runs(*pid)));
    let nodes = [
        "exec", "--name", name, "--", "kubectl", "get", "nodes", "--output", "name",
    ];
    let nodes = e2e(&nodes).output().unwrap();
    assert_eq!(
        String::from_utf8(nodes.stdout).unwrap().trim(),
        "node/consumer-node"
    );

    assert!(e2e(&["down", "--name", name]).status().unwrap().success());
    assert_gone(name, &second);
}

#[test]
fn ctrl_c_while_a_lab_is_raised_leaves_nothing() {
    let name = "interrupted";
    let mut driver = raise_until(name, "consumer/kube-apiserver");
    let started = recorded(name);
    signal(&driver, Signal::INT);
    let status = driver.wait().unwrap();
    assert!(!status.success(), "a lab that was called off is not a success");
    assert_gone(name, &started);
}

#[test]
fn nodes_show_the_processors_that_they_were_given() {
    let mut spec = LabSpec::new("processors", ["one", "five"]);
    spec.clusters[0].cpus = Some(1);
    spec.clusters[1].cpus = Some(5);
    let lab = Lab::up(&spec).unwrap();
    let image = lab.push(&ImageSource::busybox()).unwrap().pinned();
    lab.run(async {
        for (name, shown) in [("one", "1"), ("five", "5")] {
            let cluster = lab.cluster(name).unwrap();
            let capacity = [
                "get",
                "nodes",
                "--output",
                "jsonpath={.items[0].status.allocatable.cpu}",
            ];
            assert_eq!(cluster.kubectl(&capacity).await.unwrap(), shown);
            let script = "grep -c ^processor /proc/cpuinfo; cat /sys/devices/system/cpu/online";
            let run = [
                "run",
                "look",
                "--image",
                &image,
                "--restart=Never",
                "--",
                "/bin/sh",
                "-c",
                script,
            ];
            cluster.kubectl(&run).await.unwrap();
            let ended = [
                "wait",
                "--for=jsonpath={.status.phase}=Succeeded",
                "--timeout=60s",
                "pod/look",
            ];
            cluster.kubectl(&ended).await.unwrap();
            let online = if shown == "1" { "0" } else { "0-4" };
            assert_eq!(
                cluster.kubectl(&["logs", "look"]).await.unwrap(),
                format!("{shown}\n{online}\n")
            );
        }
    })
    .unwrap();
    Lab::down("processors").unwrap();
}

#[test]
fn two_labs_live_side_by_side_and_do_not_see_each_other() {
    let specs = ["left", "right"].map(|name| LabSpec::new(name, ["same"]));
    let labs: Vec<Lab> = std::thread::scope(|scope| {
        let raisings: Vec<_> = specs
            .iter()
            .map(|spec| scope.spawn(|| Lab::up(spec).unwrap()))
            .collect();
        raisings
            .into_iter()
            .map(|raising| raising.join().unwrap())
            .collect()
    });
    for lab in &labs {
        lab.run(async {
            let maps: Api<ConfigMap> =
                Api::namespaced(lab.cluster("same").unwrap().client().await.unwrap(), "default");
            let map = json!({"metadata": {"name": "whose"}, "data": {"lab": lab.spec().name}});
            maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap())
                .await
                .unwrap();
            // The same address is another node in each lab.
            lab.evm()
                .rpc(
                    "anvil_setBalance",
                    json!([format!("0x{}", "11".repeat(20)), "0x7"]),
                )
                .await
                .unwrap();
        })
        .unwrap();
    }
    Lab::down("left").unwrap();
    let right = &labs[1];
    right
        .run(async {
            let maps: Api<ConfigMap> =
                Api::namespaced(right.cluster("same").unwrap().client().await.unwrap(), "default");
            let map = maps.get("whose").await.unwrap();
            assert_eq!(map.data.unwrap()["lab"], "right");
        })
        .unwrap();
    Lab::down("right").unwrap();
}
