//! The CNI plugin that stands last in the lab's chain: it holds a new pod back until the enforcer has the
//! pod's rules in force. Where no enforcer runs it lets the pod through, as a cluster without one does.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Announcement;

/// What the plugin is called: CNI starts plugins by their file names.
pub const NAME: &str = "tradewind-policy";
/// Long enough for a busy machine; past it the kubelet tries the pod again.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(15);
/// CNI: "Try again later".
const TRY_AGAIN_LATER: u32 = 11;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    cni_version: String,
    socket: PathBuf,
    #[serde(default)]
    prev_result: Value,
}

/// Answers one CNI call: what to do is in the environment, its object on standard input.
pub fn run() -> ExitCode {
    match answer() {
        Ok(answer) => print(&answer, ExitCode::SUCCESS),
        Err(message) => {
            let error = json!({"cniVersion": "1.0.0", "code": TRY_AGAIN_LATER, "msg": message});
            print(&error, ExitCode::FAILURE)
        }
    }
}

fn print(answer: &Value, code: ExitCode) -> ExitCode {
    if answer.is_null() {
        return code;
    }
    match writeln!(std::io::stdout(), "{answer}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn answer() -> Result<Value, String> {
    match std::env::var("CNI_COMMAND").as_deref() {
        Ok("VERSION") => Ok(json!({"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]})),
        Ok("ADD") => add(),
        // Rules for an address that nobody has any more are taken out by the enforcer's own watch.
        Ok(_) => Ok(Value::Null),
        Err(_) => Err("CNI_COMMAND is not set: this program is called by a container runtime".to_owned()),
    }
}

fn add() -> Result<Value, String> {
    let mut input = String::new();
    std::io::stdin()
        .read_to_string(&mut input)
        .map_err(|error| error.to_string())?;
    let configuration: Configuration = serde_json::from_str(&input).map_err(|error| error.to_string())?;
    let address = address(&configuration.prev_result)
        .ok_or_else(|| "the plugin before gave the pod no address".to_owned())?;
    let arguments = std::env::var("CNI_ARGS").unwrap_or_default();
    let argument = |name: &str| {
        let found = arguments
            .split(';')
            .find_map(|pair| pair.split_once('=').filter(|pair| pair.0 == name));
        found
            .map(|(_, value)| value.to_owned())
            .ok_or_else(|| format!("{name} is not in CNI_ARGS"))
    };
    announce(
        &configuration.socket,
        &Announcement {
            namespace: argument("K8S_POD_NAMESPACE")?,
            name: argument("K8S_POD_NAME")?,
            uid: argument("K8S_POD_UID")?,
            address,
        },
    )?;
    let mut result = configuration.prev_result;
    result["cniVersion"] = Value::String(configuration.cni_version);
    Ok(result)
}

fn address(result: &Value) -> Option<IpAddr> {
    let address = result["ips"].as_array()?.first()?["address"].as_str()?;
    address.split('/').next()?.parse().ok()
}

fn announce(socket: &PathBuf, pod: &Announcement) -> Result<(), String> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    let failed =
        |error: std::io::Error| format!("ask the enforcer about {}/{}: {error}", pod.namespace, pod.name);
    let mut stream = match UnixStream::connect(socket) {
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => return Ok(()),
        connected => connected.map_err(failed)?,
    };
    stream.set_read_timeout(Some(IN_FORCE_WITHIN)).map_err(failed)?;
    let line = serde_json::to_string(pod).map_err(|error| error.to_string())?;
    stream.write_all(format!("{line}\n").as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(failed)?;
    if answer.trim() == "in force" {
        Ok(())
    } else {
        Err("the enforcer ended before it answered".to_owned())
    }
}
