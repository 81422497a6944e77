//! A volume for jobs: a lab has no provisioner, so a folder of the machine is made one, with the claim to it, labelled
//! for jobs, and the binding that lets the operator's mover pods into the namespace.

use std::os::unix::fs::chown;
use std::path::PathBuf;

use serde_json::json;

use super::error::MarketError;
use super::{Market, NAMESPACE, manifest};

/// Whom mover pods run as where a claim says nothing else. A folder of the machine has no owner of its own.
const MOVER: u32 = 65_532;

impl Market<'_> {
    /// Makes the claim in a namespace of the consumer's cluster, and gives the folder behind it.
    pub async fn make_claim(&self, namespace: &str, claim: &str) -> Result<PathBuf, MarketError> {
        let volume = format!("{namespace}-{claim}");
        let folder = self.lab.data().join("volumes").join(&volume);
        std::fs::create_dir_all(&folder).map_err(MarketError::file(&folder))?;
        chown(&folder, Some(MOVER), Some(MOVER)).map_err(MarketError::file(&folder))?;
        let spec = json!({
            "storageClassName": "",
            "accessModes": ["ReadWriteMany"],
        });
        let (mut volume_spec, mut claim_spec) = (spec.clone(), spec);
        volume_spec["capacity"] = json!({"storage": "1Gi"});
        volume_spec["hostPath"] = json!({"path": folder});
        volume_spec["claimRef"] = json!({"namespace": namespace, "name": claim});
        claim_spec["volumeName"] = json!(volume);
        claim_spec["resources"] = json!({"requests": {"storage": "1Gi"}});
        let objects = json!({
            "apiVersion": "v1",
            "kind": "List",
            "items": [
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolume",
                    "metadata": {"name": volume},
                    "spec": volume_spec,
                },
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {
                        "name": claim,
                        "namespace": namespace,
                        "labels": {"tradewind.dev/allow": "true"},
                    },
                    "spec": claim_spec,
                },
            ],
        });
        manifest::apply(&self.consumer()?, &objects.to_string()).await?;
        Ok(folder)
    }

    /// Lets the operator run mover pods in a namespace of the consumer's cluster.
    pub async fn allow_movers(&self, namespace: &str) -> Result<(), MarketError> {
        let role = format!("--clusterrole=tradewind-{NAMESPACE}-mover");
        let account = format!("--serviceaccount={NAMESPACE}:tradewind-operator");
        let namespace = format!("--namespace={namespace}");
        self.consumer()?
            .kubectl(&[
                "create",
                "rolebinding",
                "tradewind-mover",
                &namespace,
                &role,
                &account,
            ])
            .await?;
        Ok(())
    }
}
