//! The chart, installed as its README says.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::account::Role;
use super::error::MarketError;
use super::{GATEWAY_PORT, Market, NAMESPACE};
use crate::lab::{Cluster, ImageReference, ImageSource, Lab, Progress, source_root};

/// Whole tokens that the consumer's balance is filled up to at the first job's deposit: the later jobs then need none.
const DEPOSIT_FLOOR: &str = "500";
/// Seconds that a data center tries to have a job's image: the lab's registry is near.
const IMAGE_PATIENCE_S: u32 = 10;
/// The claim that replicas of the gateway share.
const GATEWAY_STORE: &str = "gateway-store";
const FIELD_MANAGER: &str = "tradewind-e2e";

/// What the market's pods are made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Images {
    /// The operator.
    pub operator: ImageReference,
    /// The gateway, also as a relay.
    pub gateway: ImageReference,
    /// What runs beside and around a job's program.
    pub pod: ImageReference,
    /// POV-Ray, as a job image.
    pub povray: ImageReference,
    /// A shell and small tools, as a job image.
    pub busybox: ImageReference,
}

impl Images {
    /// Builds what is not in the cache, and pushes all into the lab's registry.
    pub(super) fn push(lab: &Lab, progress: &Progress) -> Result<Self, MarketError> {
        Ok(Self {
            operator: lab.push(&ImageSource::product("operator")?)?,
            gateway: lab.push(&ImageSource::product("gateway")?)?,
            pod: lab.push(&ImageSource::product("pod")?)?,
            povray: lab.push(&ImageSource::povray(progress)?)?,
            busybox: lab.push(&ImageSource::busybox())?,
        })
    }
}

/// The protocol's windows, in seconds, short enough for a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// Added to a group's run time until seats must have committed.
    pub commit_grace: u32,
    /// To reveal in.
    pub reveal: u32,
    /// To appeal in: dissenters' bonds stay locked that long.
    pub appeal: u32,
    /// To challenge the availability of results in.
    pub availability: u32,
    /// For running seats after a cancellation.
    pub cancel_grace: u32,
    /// That data centers give the buyer to carry what they say, and to judge and settle, before they do so themselves.
    pub patience: u32,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            commit_grace: 120,
            reveal: 60,
            appeal: 10,
            availability: 10,
            cancel_grace: 10,
            patience: 60,
        }
    }
}

impl Windows {
    fn of_consumers(self) -> [String; 6] {
        [
            format!("--commit-grace={}", self.commit_grace),
            format!("--reveal-window={}", self.reveal),
            format!("--appeal-window={}", self.appeal),
            format!("--availability-window={}", self.availability),
            format!("--cancel-grace={}", self.cancel_grace),
            "--resync=5".to_owned(),
        ]
    }

    fn of_providers(self) -> [String; 4] {
        [
            format!("--relay-patience={}", self.patience),
            format!("--settle-patience={}", self.patience),
            format!("--image-patience={IMAGE_PATIENCE_S}"),
            "--resync=5".to_owned(),
        ]
    }
}

impl Market<'_> {
    pub(super) async fn install_consumer(&self) -> Result<(), MarketError> {
        let cluster = self.consumer()?;
        let client = cluster.client().await?;
        namespace(&client).await?;
        secret(&client, "tradewind-keys", &keys(Role::Consumer)).await?;
        secret(
            &client,
            "tradewind-gateway-key",
            &BTreeMap::from([("account", Role::Gateway.account().key.to_owned())]),
        )
        .await?;
        self.make_claim(NAMESPACE, GATEWAY_STORE).await?;
        let mut values = self.values("consumer")?;
        let registry = self.lab.registry();
        let services = registry.split(':').next().unwrap_or_default();
        values["consumer"] = json!({
            "tokens": [self.token()],
            "deposits": [{"token": self.token(), "floor": DEPOSIT_FLOOR}],
            "plainHttpRegistries": [registry],
            // The lab's services have private addresses; its gateway, at another, stays refused.
            "urlHosts": [services],
        });
        values["gateway"] = json!({
            "enabled": true,
            "service": {"type": "NodePort", "port": 8080, "nodePort": GATEWAY_PORT},
            "persistentVolumeClaim": GATEWAY_STORE,
            "tokens": [self.token()],
        });
        values["operator"]["extraArgs"] = json!(self.windows.of_consumers());
        self.install(&cluster, &values).await
    }

    pub(super) async fn install_provider(&self, cluster: Cluster<'_>) -> Result<(), MarketError> {
        let client = cluster.client().await?;
        namespace(&client).await?;
        let role = self.role_of(&cluster)?;
        secret(&client, "tradewind-keys", &keys(role)).await?;
        self.provider_sees(&cluster, &self.lab.evm().url()).await
    }

    /// Has a data center see the chain through the node at that address: its operator is replaced by one that does.
    pub async fn provider_sees(&self, cluster: &Cluster<'_>, rpc_url: &str) -> Result<(), MarketError> {
        let mut values = self.values("provider")?;
        values["chain"]["rpcUrl"] = json!(rpc_url);
        values["provider"] = json!({"account": self.role_of(cluster)?.account().address});
        // The lab's services stand in for the open internet's.
        values["relay"] = json!({"enabled": true, "egressPrivate": [self.lab.services()]});
        values["operator"]["extraArgs"] = json!(self.windows.of_providers());
        self.install(cluster, &values).await
    }

    /// Who a cluster's operator is on the chain.
    pub fn role_of(&self, cluster: &Cluster<'_>) -> Result<Role, MarketError> {
        let providers = self.providers()?;
        let index = providers
            .iter()
            .position(|provider| provider.name() == cluster.name());
        Ok(index.map_or(Role::Consumer, Role::Provider))
    }

    fn values(&self, role: &str) -> Result<Value, MarketError> {
        Ok(json!({
            "role": role,
            "images": {
                "operator": self.images.operator.pinned(),
                "gateway": self.images.gateway.pinned(),
                "pod": self.images.pod.pinned(),
            },
            "chain": {
                "rpcUrl": self.lab.evm().url(),
                "chainId": self.chain.chain_id,
                "market": self.address(),
                "startBlock": self.chain.start_block,
                "pollMilliseconds": 250,
            },
            "gateways": [self.gateway()?],
            "operator": {
                "logFormat": "json",
                // Several clusters on a few processors: an API server may take longer to answer than anywhere else.
                "leaderElection": {"leaseDurationSeconds": 60, "renewDeadlineSeconds": 40, "retryPeriodSeconds": 2},
            },
        }))
    }

    async fn install(&self, cluster: &Cluster<'_>, values: &Value) -> Result<(), MarketError> {
        let chart = source_root().join("charts/tradewind");
        cluster
            .helm_install("tradewind", NAMESPACE, &chart, values)
            .await?;
        Ok(())
    }
}

fn keys(role: Role) -> BTreeMap<&'static str, String> {
    BTreeMap::from([("account", role.account().key.to_owned()), ("seed", role.seed())])
}

async fn namespace(client: &kube::Client) -> Result<(), MarketError> {
    let object = Namespace {
        metadata: ObjectMeta {
            name: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    Api::<Namespace>::all(client.clone())
        .patch(
            NAMESPACE,
            &PatchParams::apply(FIELD_MANAGER),
            &Patch::Apply(object),
        )
        .await
        .map(drop)
        .map_err(MarketError::kubernetes("make the namespace"))
}

async fn secret(client: &kube::Client, name: &str, data: &BTreeMap<&str, String>) -> Result<(), MarketError> {
    let object = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        string_data: Some(
            data.iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect(),
        ),
        ..Secret::default()
    };
    Api::<Secret>::namespaced(client.clone(), NAMESPACE)
        .patch(name, &PatchParams::apply(FIELD_MANAGER), &Patch::Apply(object))
        .await
        .map(drop)
        .map_err(MarketError::kubernetes(format!("make the secret {name}")))
}
