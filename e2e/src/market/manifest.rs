//! The manifests under `e2e/demo`: what a person applies with kubectl, with a few values filled in.

use std::collections::BTreeMap;

use crate::lab::{Cluster, LabError, source_root};

use super::MarketError;

/// Reads one and fills in `${NAME}`.
pub fn read(name: &str, values: &[(&str, &str)]) -> Result<String, MarketError> {
    let path = source_root().join("e2e/demo").join(name);
    let text = std::fs::read_to_string(&path).map_err(MarketError::file(&path))?;
    Ok(fill(&text, &values.iter().copied().collect()))
}

fn fill(text: &str, values: &BTreeMap<&str, &str>) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("${{{name}}}"), value)
    })
}

/// `kubectl apply`.
pub async fn apply(cluster: &Cluster<'_>, manifest: &str) -> Result<(), MarketError> {
    let doing = || "write a manifest".to_owned();
    let file = tempfile::NamedTempFile::new().map_err(LabError::io(doing()))?;
    std::fs::write(file.path(), manifest).map_err(LabError::io(doing()))?;
    let path = file.path().display().to_string();
    cluster.kubectl(&["apply", "-f", &path]).await?;
    Ok(())
}
