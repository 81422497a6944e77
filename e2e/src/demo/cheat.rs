//! The data center that saves work: its runtime lays a cheaper script over the job's own, one that renders without
//! antialiasing. The strips look right, and only a comparison with those of others finds them out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::lab::{Cluster, RuntimeSpec, source_root};
use crate::market::{MarketError, manifest};

use super::DemoError;

/// Runtime handler and RuntimeClass.
const CHEAP: &str = "cheap";
/// Where the job's image has the script.
const SCRIPT: &str = "/usr/local/bin/render-strip";
/// How the script asks for antialiasing, and how the cheaper one asks for none.
const HONEST: &str = "+A0.2 +AM2 +R2";
const DISHONEST: &str = "-A";

/// The runtime handler that lays the cheaper script, written into `dir`, over the image's.
pub fn runtime(dir: &Path) -> Result<RuntimeSpec, DemoError> {
    let honest = source_root().join("deploy/images/povray/render-strip");
    let script = fs::read_to_string(&honest).map_err(DemoError::file(&honest))?;
    if !script.contains(HONEST) {
        return Err(DemoError::Claim(format!(
            "{} renders with {HONEST}",
            honest.display()
        )));
    }
    let cheaper = dir.join("render-strip-cheaper");
    fs::write(&cheaper, script.replace(HONEST, DISHONEST)).map_err(DemoError::file(&cheaper))?;
    fs::set_permissions(&cheaper, fs::Permissions::from_mode(0o755)).map_err(DemoError::file(&cheaper))?;
    Ok(RuntimeSpec {
        handler: CHEAP.to_owned(),
        container: "run".to_owned(),
        files: [(SCRIPT.into(), cheaper)].into(),
    })
}

/// Makes the RuntimeClass in that cluster, and has the offer name it.
pub async fn sell_through(cluster: &Cluster<'_>, offer: &mut String) -> Result<(), MarketError> {
    let class = format!(
        "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {{name: {CHEAP}}}\nhandler: {CHEAP}\n"
    );
    manifest::apply(cluster, &class).await?;
    *offer = offer.replace("terms: {", &format!("terms: {{runtimeClass: {CHEAP}, "));
    Ok(())
}
