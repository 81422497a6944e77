//! The custom resources on a real API server: what it takes, what it refuses and in which words, and what
//! `kubectl get` shows.

// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../crds/tests/cases/mod.rs"]
mod cases;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cases::{Base, Case};
use futures::StreamExt as _;
use http::Request;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client};
use serde_json::{Value, json};
use tradewind_crds::{GROUP, VERSION, generate, server_version};
use tradewind_e2e::lab::Lab;

/// How long a new definition may take until objects of its kind are served.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(30);

/// Runs a test in a namespace of its own on the lab's first cluster, with the definitions installed.
fn on_an_api_server<F>(test: impl FnOnce(Server) -> F + Send)
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let lab = Lab::from_environment().unwrap();
    let outcome = lab.run(async {
        let clusters = lab.clusters()?;
        let cluster = clusters.first().context("the lab has no cluster")?;
        let server = Server::prepare(cluster.client().await?).await?;
        let namespaces: Api<Namespace> = Api::all(server.client.clone());
        let namespace = server.namespace.clone();
        let outcome = test(server).await;
        namespaces.delete(&namespace, &DeleteParams::background()).await?;
        outcome
    });
    outcome.unwrap().unwrap();
}

#[derive(Clone)]
struct Server {
    client: Client,
    namespace: String,
}

impl Server {
    async fn prepare(client: Client) -> anyhow::Result<Self> {
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for file in generate::files()? {
            let definition: CustomResourceDefinition = serde_saphyr::from_str(&file.yaml)?;
            let name = definition
                .metadata
                .name
                .clone()
                .context("a definition without a name")?;
            let apply = PatchParams::apply("tradewind-e2e").force();
            definitions
                .patch(&name, &apply, &Patch::Apply(&definition))
                .await?;
            let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
            tokio::time::timeout(ESTABLISHED_WITHIN, established)
                .await
                .context(name)??;
        }
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let metadata = ObjectMeta {
            generate_name: Some("crds-".to_owned()),
            ..ObjectMeta::default()
        };
        let namespace = Namespace {
            metadata,
            ..Namespace::default()
        };
        let created = namespaces.create(&PostParams::default(), &namespace).await?;
        Ok(Self {
            client,
            namespace: created.metadata.name.context("a namespace without a name")?,
        })
    }

    fn path(&self, of: Base) -> String {
        let plural = match of {
            Base::Job => "computejobs",
            Base::Offer => "provideroffers",
            Base::Limit => "spendinglimits",
            Base::Lease => "computeleases",
            Base::Intent => "chainintents",
        };
        format!("/apis/{GROUP}/{VERSION}/namespaces/{}/{plural}", self.namespace)
    }

    /// Sends an object as kubectl does: a field that does not exist is an error.
    async fn send(&self, method: &str, path: &str, object: &Value) -> kube::Result<Value> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let content_type = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}{separator}fieldValidation=Strict"))
            .header("content-type", content_type)
            .body(object.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }

    async fn create(&self, of: Base, object: &Value) -> kube::Result<Value> {
        self.send("POST", &self.path(of), object).await
    }

    /// The last step of a case: its creation, or else the update of what was created before. Nothing stays.
    async fn last_step(&self, case: &Case) -> anyhow::Result<kube::Result<Value>> {
        let created = case.created();
        if case.update.is_empty() {
            return Ok(self
                .send("POST", &format!("{}?dryRun=All", self.path(case.of)), &created)
                .await);
        }
        let mut stored = self.create(case.of, &created).await?;
        let path = format!("{}/{}", self.path(case.of), name_of(&stored)?);
        if let Some(status) = &case.status {
            stored = self
                .send("PATCH", &format!("{path}/status"), &json!({"status": status}))
                .await?;
        }
        let updated = case.updated(&stored).context("an update that changes nothing")?;
        let outcome = self.send("PUT", &format!("{path}?dryRun=All"), &updated).await;
        self.send("DELETE", &path, &json!({})).await?;
        Ok(outcome)
    }
}

fn name_of(object: &Value) -> anyhow::Result<&str> {
    object["metadata"]["name"]
        .as_str()
        .context("an object without a name")
}

/// The refusal must come from validation, point to the field, and say what to do.
fn check_refusal(case: &Case, outcome: kube::Result<Value>) -> anyhow::Result<()> {
    let (Some(field), Some(says)) = (&case.field, &case.says) else {
        anyhow::bail!("the case does not say how it is refused")
    };
    let status: Box<Status> = match outcome {
        Ok(_) => anyhow::bail!("the API server took it"),
        Err(kube::Error::Api(status)) => status,
        Err(error) => return Err(error.into()),
    };
    // What does not fit the schema is Invalid; what cannot even be decoded is BadRequest.
    ensure!(
        matches!(status.code, 422 | 400),
        "refused for another reason: {status}"
    );
    ensure!(
        !status.message.contains("evaluating rule"),
        "a rule broke instead of refusing: {}",
        status.message
    );
    ensure!(
        status.message.contains(field.as_str()),
        "{field} is not named: {}",
        status.message
    );
    ensure!(
        status.message.contains(says.as_str()),
        "does not say {says:?}: {}",
        status.message
    );
    Ok(())
}

#[test]
fn examples_and_variants_are_taken() {
    on_an_api_server(|server| async move {
        for of in Base::ALL {
            let stored = server
                .create(of, &of.object())
                .await
                .with_context(|| format!("{of:?}"))?;
            let path = format!("{}/{}", server.path(of), name_of(&stored)?);
            server.send("DELETE", &path, &json!({})).await?;
        }
        for case in cases::taken() {
            server
                .last_step(&case)
                .await?
                .with_context(|| case.what.clone())?;
        }
        Ok(())
    });
}

#[test]
fn bad_objects_are_refused_by_field_and_with_what_to_do() {
    on_an_api_server(|server| async move {
        let mut faults = Vec::new();
        let refused = cases::refused();
        ensure!(
            refused.len() >= 40,
            "the table has shrunk to {} cases",
            refused.len()
        );
        for case in &refused {
            let outcome = server.last_step(case).await.with_context(|| case.what.clone())?;
            if let Err(fault) = check_refusal(case, outcome) {
                faults.push(format!("{:?}, {}: {fault:#}", case.of, case.what));
            }
        }
        ensure!(
            faults.is_empty(),
            "{} of {}:\n{}",
            faults.len(),
            refused.len(),
            faults.join("\n")
        );
        Ok(())
    });
}

#[test]
fn a_name_in_the_journal_is_taken_once() {
    on_an_api_server(|server| async move {
        let intent = Base::Intent.object();
        // Of several that claim the nonce at once, the API server lets exactly one have it.
        let claims = futures::stream::iter(0..8).map(|_| server.create(Base::Intent, &intent));
        let outcomes: Vec<_> = claims.buffer_unordered(8).collect().await;
        let taken = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        ensure!(taken == 1, "{taken} of 8 got the nonce");
        for outcome in outcomes {
            if let Err(error) = outcome {
                let exists = matches!(&error, kube::Error::Api(status) if status.is_already_exists());
                ensure!(exists, "refused for another reason: {error}");
            }
        }
        Ok(())
    });
}

#[test]
fn kubectl_get_shows_how_a_job_is_doing() {
    on_an_api_server(|server| async move {
        let stored = server.create(Base::Job, &Base::Job.object()).await?;
        let path = format!("{}/{}", server.path(Base::Job), name_of(&stored)?);
        let status = json!({"status": {
            "phase": "Running",
            "reason": "Executing",
            "units": {"total": 24, "committed": 12, "agreed": 8, "summary": "12/24", "verified": "8/24"},
            "cost": {
                "deposited": "1.44", "paid": "0.48", "fee": "0.0048", "refunded": "0", "summary": "0.4848",
            },
        }});
        server.send("PATCH", &format!("{path}/status"), &status).await?;

        let request = Request::get(&path)
            .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(vec![])?;
        let table: Value = server.client.request(request).await?;
        let columns = table["columnDefinitions"].as_array().context("no columns")?;
        let shown: Vec<(&str, &Value)> = columns
            .iter()
            .zip(table["rows"][0]["cells"].as_array().context("no cells")?)
            .filter(|(column, _)| column["priority"] == 0)
            .filter_map(|(column, cell)| Some((column["name"].as_str()?, cell)))
            .collect();
        let (age, others) = shown.split_last().context("no columns")?;
        ensure!(age.0 == "Age");
        let expected = [
            ("Name", json!("flyby")),
            ("Units", json!("12/24")),
            ("Verified", json!("8/24")),
            ("Cost", json!("0.4848")),
            ("Phase", json!("Running")),
            ("Reason", json!("Executing")),
        ];
        ensure!(
            others
                .iter()
                .map(|(name, cell)| (*name, (*cell).clone()))
                .eq(expected),
            "kubectl would show {shown:?}"
        );
        Ok(())
    });
}

#[test]
fn the_server_is_one_that_tradewind_works_with() {
    on_an_api_server(|server| async move {
        let version = server_version::check(&server.client.apiserver_version().await?)?;
        ensure!(version >= server_version::MINIMUM);
        Ok(())
    });
}
