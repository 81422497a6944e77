//! A slice's pod, exactly as the program inside expects it. Pure: the same slice gives the same pod.
//!
//! What it must not be able to do stands here and in the namespace's admission and network policies; the program
//! inside tries it before the first unit.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tradewind_gateway_api::{
    slice::{
        BIN_PATH, BIN_SUBPATH, CONTROL_PATH, CONTROL_SUBPATH, GRANT_PATH, HOME_PATH, HOME_SUBPATH,
        INPUTS_PATH, INPUTS_SUBPATH, OUTPUT_SUBPATH, PROXY_KEY, SCRATCH_PATH, SCRATCH_SUBPATH,
        SLICE_VARIABLE, STEP_PROGRAM, SliceConfig, VOLUME_PATH, volume_bytes, writable_subpath,
    },
    template::{PROXY_VARIABLES, Template},
};
use tradewind_market::{JobId, SliceIndex};

use crate::provider::ProviderError;

/// Marks everything that belongs to leases.
pub(crate) const MANAGED_LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "tradewind");
/// Marks slice pods, and tells which part of the product they are.
pub(crate) const PART_LABEL: (&str, &str) = ("tradewind.dev/part", "slice");
/// Holds [`lease_name`]: what a lease's pods are found by.
pub(crate) const LEASE_LABEL: &str = "tradewind.dev/lease";
/// Holds the slice's number.
pub(crate) const SLICE_LABEL: &str = "tradewind.dev/slice";
/// Holds the series of the offer whose slot the pod takes.
pub(crate) const SERIES_LABEL: &str = "tradewind.dev/series";
/// Holds the attempt, from 1.
pub(crate) const ATTEMPT_LABEL: &str = "tradewind.dev/attempt";

/// Seconds that a unit may take beyond its limit for being started, ended and handed over.
const UNIT_OVERHEAD_SECONDS: u64 = 30;
/// Seconds for what the kubelet does around the containers, image pulls included.
const POD_OVERHEAD_SECONDS: u64 = 120;
/// Seconds that a pod stays bound to a node that does not answer.
const TOLERATION_SECONDS: u64 = 10;

/// What a slice's pod is made from besides the template.
#[derive(Clone, Debug)]
pub(crate) struct SlicePod<'a> {
    pub(crate) job: JobId,
    pub(crate) slice: SliceIndex,
    /// Series of the offer whose slot the pod takes.
    pub(crate) series: u32,
    pub(crate) config: &'a SliceConfig,
    pub(crate) template: &'a Template,
    /// Image of the program beside the job's own.
    pub(crate) pod_image: &'a str,
    /// Name of the Secret with the lease's grant.
    pub(crate) secret: &'a str,
    /// RuntimeClass of the offer, or empty.
    pub(crate) runtime_class: &'a str,
    pub(crate) user_namespaces: bool,
}

/// The name that a job's lease and everything of it begins with: enough of the id that two jobs never share it.
pub(crate) fn lease_name(job: JobId) -> String {
    format!("job-{}", hex::encode(&job.as_bytes()[..16]))
}

/// The pod's name says which attempt at which slice it is, so that creating it twice creates it once.
pub(crate) fn pod_name(job: JobId, slice: SliceIndex, attempt: u32) -> String {
    format!("{}-{slice}-{attempt}", lease_name(job))
}

/// The pod.
pub(crate) fn slice_pod(slice: &SlicePod<'_>) -> Result<Pod, ProviderError> {
    let SlicePod {
        job,
        slice: index,
        config,
        template,
        ..
    } = slice;
    let text = serde_json::to_string(config).map_err(ProviderError::Document)?;
    let env = json!([{"name": SLICE_VARIABLE, "value": text}]);
    let units = u64::from(config.units.get());
    let deadline = u64::from(config.fetch_seconds_max)
        + units * (template.seconds_per_unit.get() + UNIT_OVERHEAD_SECONDS)
        + u64::from(config.store_seconds_max)
        + POD_OVERHEAD_SECONDS;
    let mut spec = json!({
        // Restarted after an out-of-memory kill it goes on from the journal; each deliberate end is status 0.
        "restartPolicy": "OnFailure",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        // Results must not depend on where they come about.
        "hostname": "tradewind",
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},
        "terminationGracePeriodSeconds": 5,
        "activeDeadlineSeconds": deadline,
        "tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS},
        ],
        // One user for all containers: else what the program wrote could not be taken from it.
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": template.user.uid,
            "runAsGroup": template.user.gid,
            "fsGroup": template.user.gid,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [
            {"name": "slice", "emptyDir": {"sizeLimit": volume_bytes(template).to_string()}},
            {"name": "grant", "secret": {"secretName": slice.secret, "defaultMode": 0o440}},
        ],
        "initContainers": [beside("fetch", slice.pod_image, &env), beside("collect", slice.pod_image, &env)],
        "containers": [run(template, slice.secret)],
    });
    spec["initContainers"][1]["restartPolicy"] = json!("Always");
    if !slice.runtime_class.is_empty() {
        spec["runtimeClassName"] = json!(slice.runtime_class);
    }
    if slice.user_namespaces {
        spec["hostUsers"] = json!(false);
    }
    let pod = json!({
        "metadata": {
            "name": pod_name(*job, *index, config.attempt),
            "labels": {
                MANAGED_LABEL.0: MANAGED_LABEL.1,
                PART_LABEL.0: PART_LABEL.1,
                LEASE_LABEL: lease_name(*job),
                SLICE_LABEL: index.to_string(),
                ATTEMPT_LABEL: config.attempt.to_string(),
                SERIES_LABEL: slice.series.to_string(),
            },
        },
        "spec": spec,
    });
    serde_json::from_value(pod).map_err(ProviderError::Document)
}

fn locked() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    })
}

/// `fetch` or `collect`: sees the whole volume and the grant.
fn beside(verb: &str, image: &str, env: &Value) -> Value {
    json!({
        "name": verb,
        "image": image,
        "args": [verb],
        "env": env,
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"cpu": "1", "memory": "256Mi"},
        },
        "securityContext": locked(),
        "volumeMounts": [
            {"name": "slice", "mountPath": VOLUME_PATH},
            {"name": "grant", "mountPath": GRANT_PATH, "readOnly": true},
        ],
    })
}

/// The stranger's image, with our program as its first process.
fn run(template: &Template, secret: &str) -> Value {
    let resources = &template.resources;
    let mut amounts = json!({
        "cpu": format!("{}m", resources.cpu_millis),
        "memory": resources.memory_bytes.to_string(),
    });
    let mut env = Vec::new();
    if resources.gpus > 0 {
        amounts["nvidia.com/gpu"] = json!(resources.gpus.to_string());
    } else {
        // An image may ask for every GPU of the node by its environment; where none was bought it sees none.
        env.push(json!({"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}));
        env.push(json!({"name": "NVIDIA_DRIVER_CAPABILITIES", "value": ""}));
    }
    if !template.egress.is_empty() {
        let source = json!({"secretKeyRef": {"name": secret, "key": PROXY_KEY}});
        env.extend(PROXY_VARIABLES.map(|name| json!({"name": name, "valueFrom": source})));
    }
    let mount = |path: &str, sub_path: &str, read_only: bool| json!({"name": "slice", "mountPath": path, "subPath": sub_path, "readOnly": read_only});
    let mut mounts = vec![
        mount(BIN_PATH, BIN_SUBPATH, true),
        mount(CONTROL_PATH, CONTROL_SUBPATH, true),
        mount(INPUTS_PATH, INPUTS_SUBPATH, true),
        mount(&template.output_path, OUTPUT_SUBPATH, false),
        mount(HOME_PATH, HOME_SUBPATH, false),
        mount(SCRATCH_PATH, SCRATCH_SUBPATH, false),
    ];
    let writable = template.writable_paths.iter().enumerate();
    mounts.extend(writable.map(|(index, path)| mount(path, &writable_subpath(index), false)));
    json!({
        "name": "run",
        "image": template.image,
        "command": [STEP_PROGRAM, "step"],
        "env": env,
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": locked(),
        "volumeMounts": mounts,
    })
}

#[cfg(test)]
mod tests {
    use tradewind_gateway_api::{
        seal::OpeningKey,
        template::{Resources, UnitLimits, User},
    };
    use tradewind_market::{Hash32, Seconds, UnitIndex, Units};

    use super::*;

    fn template() -> Template {
        Template {
            job_salt: Hash32::from_bytes([1; 32]),
            image: format!("registry.example/render@sha256:{}", "0".repeat(64)),
            user: User { uid: 1000, gid: 1001 },
            command: vec!["render".to_owned()],
            env: Vec::new(),
            resources: Resources {
                cpu_millis: 1500,
                memory_bytes: 1 << 30,
                gpus: 0,
            },
            completions: Units::new(24),
            slice: Units::new(4),
            seconds_per_unit: Seconds::new(60),
            output_path: "/out".to_owned(),
            writable_paths: vec!["/var/cache".to_owned()],
            egress: Vec::new(),
            inputs: Vec::new(),
            output_recipient: OpeningKey::from_secret(&[7; 32]).unwrap().recipient(),
            limits: UnitLimits::default(),
        }
    }

    fn pod(change: impl FnOnce(&mut Template), runtime_class: &str, user_namespaces: bool) -> Value {
        let mut template = template();
        change(&mut template);
        let config = SliceConfig {
            job: JobId::from_bytes([0xab; 32]),
            first_unit: UnitIndex::new(8),
            units: Units::new(4),
            attempt: 2,
            canaries: vec!["10.96.0.1:443".parse().unwrap()],
            fetch_seconds_max: 300,
            store_seconds_max: 300,
        };
        let slice = SlicePod {
            job: config.job,
            slice: SliceIndex::new(2),
            series: 7,
            config: &config,
            template: &template,
            pod_image: "registry.example/pod@sha256:1",
            secret: "lease",
            runtime_class,
            user_namespaces,
        };
        serde_json::to_value(slice_pod(&slice).unwrap()).unwrap()
    }

    #[test]
    fn no_container_can_gain_rights_and_none_has_a_token() {
        let pod = pod(|_| {}, "", false);
        let spec = &pod["spec"];
        assert_eq!(spec["automountServiceAccountToken"], false);
        assert_eq!(spec["enableServiceLinks"], false);
        for field in [
            "hostNetwork",
            "hostPID",
            "hostIPC",
            "shareProcessNamespace",
            "serviceAccountName",
        ] {
            assert!(spec[field].is_null(), "{field}");
        }
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
        let containers = spec["initContainers"]
            .as_array()
            .unwrap()
            .iter()
            .chain(spec["containers"].as_array().unwrap());
        for container in containers {
            let security = &container["securityContext"];
            assert_eq!(
                security["allowPrivilegeEscalation"], false,
                "{}",
                container["name"]
            );
            assert_eq!(security["readOnlyRootFilesystem"], true, "{}", container["name"]);
            assert_eq!(
                security["capabilities"]["drop"],
                json!(["ALL"]),
                "{}",
                container["name"]
            );
        }
    }

    #[test]
    fn the_strangers_container_sees_neither_the_grant_nor_the_whole_volume() {
        let pod = pod(|_| {}, "", false);
        let run = &pod["spec"]["containers"][0];
        for mount in run["volumeMounts"].as_array().unwrap() {
            assert_eq!(mount["name"], "slice", "{mount}");
            assert!(
                mount["subPath"].as_str().is_some_and(|path| !path.is_empty()),
                "{mount}"
            );
        }
        let read_only = |path: &str| {
            let mounts = run["volumeMounts"].as_array().unwrap();
            mounts.iter().find(|mount| mount["mountPath"] == path).unwrap()["readOnly"] == true
        };
        assert!(read_only(BIN_PATH) && read_only(CONTROL_PATH) && read_only(INPUTS_PATH));
        assert!(!read_only("/out") && !read_only("/var/cache"));
        assert!(
            run["env"]
                .as_array()
                .unwrap()
                .iter()
                .all(|variable| variable["name"] != SLICE_VARIABLE)
        );
    }

    #[test]
    fn gpus_that_were_not_bought_are_not_seen() {
        let none = pod(|_| {}, "", false);
        let none = &none["spec"]["containers"][0];
        assert_eq!(
            none["env"][0],
            json!({"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"})
        );
        let two = pod(|template| template.resources.gpus = 2, "", false);
        let two = &two["spec"]["containers"][0];
        assert_eq!(two["resources"]["limits"]["nvidia.com/gpu"], "2");
        assert_eq!(two["resources"]["limits"], two["resources"]["requests"]);
        assert!(two["env"].as_array().is_none_or(Vec::is_empty));
    }

    #[test]
    fn hosts_that_were_granted_are_reached_through_the_proxy_of_the_lease() {
        let none = pod(|_| {}, "", false).to_string();
        assert!(!none.contains("PROXY"), "{none}");
        let some = pod(
            |template| template.egress = vec!["pypi.example".parse().unwrap()],
            "",
            false,
        );
        let env = some["spec"]["containers"][0]["env"].as_array().unwrap();
        for name in PROXY_VARIABLES {
            let variable = env.iter().find(|variable| variable["name"] == name).unwrap();
            let source = &variable["valueFrom"]["secretKeyRef"];
            assert_eq!(
                (&source["name"], &source["key"]),
                (&json!("lease"), &json!("proxy"))
            );
        }
    }

    #[test]
    fn the_offers_runtime_and_user_namespaces_are_used() {
        let boxed = pod(|_| {}, "gvisor", true);
        assert_eq!(boxed["spec"]["runtimeClassName"], "gvisor");
        assert_eq!(boxed["spec"]["hostUsers"], false);
        let plain = pod(|_| {}, "", false);
        assert!(plain["spec"]["runtimeClassName"].is_null() && plain["spec"]["hostUsers"].is_null());
    }

    #[test]
    fn a_pod_is_found_by_its_lease_and_named_by_its_attempt() {
        let pod = pod(|_| {}, "", false);
        assert_eq!(
            pod["metadata"]["name"],
            "job-abababababababababababababababab-2-2"
        );
        assert_eq!(
            pod["metadata"]["labels"][LEASE_LABEL],
            "job-abababababababababababababababab"
        );
        assert_eq!(pod["metadata"]["labels"][ATTEMPT_LABEL], "2");
        assert_eq!(pod["spec"]["activeDeadlineSeconds"], 300 + 4 * 90 + 300 + 120);
    }
}
