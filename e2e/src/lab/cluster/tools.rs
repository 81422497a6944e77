//! kubectl and helm, as a person uses them, inside the lab.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::super::error::LabError;
use super::Cluster;

/// How long a release may take to be ready, image pulls included.
const RELEASE_READY_WITHIN: &str = "180s";

impl Cluster<'_> {
    /// Runs kubectl with all rights; what it printed.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String, LabError> {
        self.run_tool("kubectl", arguments).await
    }

    /// Installs or upgrades a release of a chart, and waits until what it made is ready.
    pub async fn helm_install(
        &self,
        release: &str,
        namespace: &str,
        chart: &Path,
        values: &Value,
    ) -> Result<(), LabError> {
        let doing = format!("write the values of release {release}");
        let file = tempfile::NamedTempFile::new().map_err(LabError::io(doing.clone()))?;
        std::fs::write(file.path(), values.to_string()).map_err(LabError::io(doing))?;
        let (chart, file) = (chart.display().to_string(), file.path().display().to_string());
        let arguments = [
            "upgrade",
            "--install",
            release,
            &chart,
            "--namespace",
            namespace,
            "--create-namespace",
            "--values",
            &file,
            "--wait",
            "--timeout",
            RELEASE_READY_WITHIN,
        ];
        self.run_tool("helm", &arguments).await.map(drop)
    }

    /// Removes a release, and waits until what it made is gone.
    pub async fn helm_uninstall(&self, release: &str, namespace: &str) -> Result<(), LabError> {
        let arguments = [
            "uninstall",
            release,
            "--namespace",
            namespace,
            "--wait",
            "--timeout",
            RELEASE_READY_WITHIN,
        ];
        self.run_tool("helm", &arguments).await.map(drop)
    }

    async fn run_tool(&self, tool: &str, arguments: &[&str]) -> Result<String, LabError> {
        let doing = format!(
            "{}: {tool} {}",
            self.name(),
            arguments.first().copied().unwrap_or_default()
        );
        let mut command = self.lab.command(tool)?;
        command
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .stdin(Stdio::null());
        let output = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .output()
            .await
            .map_err(LabError::io(doing.clone()))?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(printed);
        }
        let error = String::from_utf8_lossy(&output.stderr);
        Err(LabError::Tool {
            doing,
            program: tool.to_owned(),
            status: output.status,
            output: format!("{printed}{error}"),
        })
    }
}
