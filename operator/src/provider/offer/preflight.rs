//! Whether job pods are really shut in: tried from inside a pod that is like them, and told by it.
//!
//! The trial's pod has a name that the time gives, so that a restart finds the trial that is under way.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use tradewind_market::{Knowledge, UnixSeconds};

use crate::shell::context::Context;

/// What a trial found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Nothing but the relay could be reached.
    Holds,
    /// What a job pod could do that it must not, in words.
    Broken(String),
}

/// Longest text of the trial's own that is believed and shown.
const TEXT_CHARS_MAX: usize = 512;

/// Runs trials, one for each period.
#[derive(Debug)]
pub(crate) struct Preflight {
    context: Arc<Context>,
}

impl Preflight {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// What the trial of this period found; unknown while it is under way. Starts it where it is not, and removes
    /// the one before.
    pub(crate) async fn isolation(&self, now: UnixSeconds) -> Knowledge<Isolation> {
        match self.try_isolation(now).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "the isolation of job pods cannot be tried at the moment");
                Knowledge::Unknown
            }
        }
    }

    async fn try_isolation(&self, now: UnixSeconds) -> Result<Knowledge<Isolation>, kube::Error> {
        let args = &self.context.args.provider;
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), &format!("{}-0", args.pool_prefix));
        let period = period(now, args.preflight_every);
        if let Some(pod) = pods.get_opt(&name(period)).await? {
            return Ok(read(&pod));
        }
        // The finding of the period before holds until there is a newer one; its pod goes when there is.
        for earlier in 1..=2 {
            let stale = name(period.saturating_sub(earlier));
            match pods.delete(&stale, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        match pods.create(&PostParams::default(), &self.pod(period)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
        Ok(Knowledge::Unknown)
    }

    /// Like a slice pod in everything that isolation depends on: namespace, labels, network, security.
    fn pod(&self, period: u64) -> Pod {
        let relay = self
            .context
            .args
            .provider
            .relay_url
            .trim_start_matches("http://")
            .trim_end_matches('/');
        let mut arguments = vec!["preflight".to_owned(), format!("--relay={relay}")];
        arguments.extend(api_server().map(|address| format!("--canary={address}")));
        let pod = json!({
            "metadata": {"name": name(period), "labels": {"app.kubernetes.io/managed-by": "tradewind", "tradewind.dev/part": "preflight"}},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "dnsPolicy": "None",
                "dnsConfig": {"nameservers": ["127.0.0.1"]},
                "terminationGracePeriodSeconds": 5,
                "activeDeadlineSeconds": 120,
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "preflight",
                    "image": self.context.args.pod_image,
                    "args": arguments,
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
                    "securityContext": {"allowPrivilegeEscalation": false, "privileged": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                }],
            },
        });
        // A constant shape: what is put in are strings only.
        serde_json::from_value(pod).unwrap_or_default()
    }
}

/// The API server as pods know it.
pub(crate) fn api_server() -> Option<String> {
    let host = std::env::var("KUBERNETES_SERVICE_HOST").ok()?;
    let port = std::env::var("KUBERNETES_SERVICE_PORT").ok()?;
    Some(if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    })
}

fn period(now: UnixSeconds, every: Duration) -> u64 {
    now.get() / every.as_secs().max(1)
}

fn name(period: u64) -> String {
    format!("tradewind-preflight-{period}")
}

fn read(pod: &Pod) -> Knowledge<Isolation> {
    let status = pod.status.as_ref();
    let terminated = status.and_then(|status| {
        status
            .container_statuses
            .as_ref()?
            .first()?
            .state
            .as_ref()?
            .terminated
            .as_ref()
    });
    let phase = status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default();
    match (terminated, phase) {
        (Some(end), _) if end.exit_code == 0 => Knowledge::Known(Isolation::Holds),
        (Some(end), _) => {
            let text = end
                .message
                .clone()
                .unwrap_or_else(|| format!("the trial ended with status {}", end.exit_code));
            Knowledge::Known(Isolation::Broken(text.chars().take(TEXT_CHARS_MAX).collect()))
        }
        (None, "Failed") => Knowledge::Known(Isolation::Broken(
            "the trial's pod failed before it could say anything".to_owned(),
        )),
        (None, _) => Knowledge::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: &serde_json::Value, want: &Knowledge<Isolation>) {
        let pod: Pod = serde_json::from_value(json!({"status": status})).unwrap();
        assert_eq!(&read(&pod), want);
    }

    #[test]
    fn only_a_trial_that_ended_well_says_that_isolation_holds() {
        let ended = |code: i32, message: Option<&str>| {
            json!({"phase": if code == 0 { "Succeeded" } else { "Failed" }, "containerStatuses": [{
                "name": "preflight", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code, "message": message}},
            }]})
        };
        check(&ended(0, None), &Knowledge::Known(Isolation::Holds));
        check(
            &ended(1, Some("reached 10.96.0.1:443")),
            &Knowledge::Known(Isolation::Broken("reached 10.96.0.1:443".to_owned())),
        );
        check(&json!({"phase": "Pending"}), &Knowledge::Unknown);
        check(&json!({"phase": "Running"}), &Knowledge::Unknown);
        check(
            &json!({"phase": "Failed"}),
            &Knowledge::Known(Isolation::Broken(
                "the trial's pod failed before it could say anything".to_owned(),
            )),
        );
    }
}
