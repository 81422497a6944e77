//! Writes the custom resource definitions to the folder given, one file each:
//! `cargo run -p tradewind-crds --bin crdgen -- charts/tradewind/crds`

use std::path::PathBuf;

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let folder: PathBuf = std::env::args_os().nth(1).context("usage: crdgen FOLDER")?.into();
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let files = tradewind_crds::generate::files()?;
    for file in &files {
        let path = folder.join(&file.name);
        std::fs::write(&path, &file.yaml).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
