//! How many processors a cluster's node seems to have. Below the machine's own number it is real: the
//! cluster's cgroup holds only so many. For the kubelet, for programs that count processors by reading
//! files, and beyond the machine's number, node and pods are shown files that say so; whatever is said, the
//! machine's processors do the work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::command::run;
use super::error::LabError;
use super::toolchain::Toolchain;

const CPUINFO: &str = "/proc/cpuinfo";
const CPU_DEVICES: &str = "/sys/devices/system/cpu";

/// The processors that one node shows, as files in a folder of its cluster. `node.sh` lays the same folder
/// over the node's own files.
#[derive(Clone, Debug)]
pub(crate) struct Cpus {
    count: u8,
    dir: PathBuf,
}

impl Cpus {
    /// Writes what a node with `count` processors shows into `dir`.
    pub(crate) fn lay_out(count: u8, dir: PathBuf) -> Result<Self, LabError> {
        let cpus = Self { count, dir };
        let devices = cpus.devices();
        // Without topology: the kubelet would ask the kernel for processors that are only shown.
        for number in 0..count {
            let device = devices.join(format!("cpu{number}"));
            fs::create_dir_all(&device).map_err(LabError::io(format!("make {}", device.display())))?;
        }
        for file in ["online", "possible", "present"] {
            write(&devices.join(file), &format!("{}\n", list(count)))?;
        }
        let machine = fs::read_to_string(CPUINFO).map_err(LabError::io(format!("read {CPUINFO}")))?;
        write(&cpus.cpuinfo(), &cpuinfo(&machine, count))?;
        Ok(cpus)
    }

    /// The machine's processors that the cluster's cgroup may use, in a cpuset's list format; `None` where it
    /// may use all of them.
    pub(crate) fn cpuset(&self) -> Result<Option<String>, LabError> {
        let machine = std::thread::available_parallelism().map_err(LabError::io("count the processors"))?;
        Ok((usize::from(self.count) < machine.get()).then(|| list(self.count)))
    }

    /// Writes the specification that the runtime starts every container from: its own default, and these
    /// files over the machine's.
    pub(crate) fn write_container_base(&self, toolchain: &Toolchain, path: &Path) -> Result<(), LabError> {
        let malformed = |source| LabError::Malformed {
            path: path.to_path_buf(),
            what: "a container's specification",
            source,
        };
        let doing = "ask the runtime for its default specification";
        let default = run(doing, Command::new(toolchain.ctr()).args(["oci", "spec"]))?;
        let mut base: Value = serde_json::from_str(&default).map_err(malformed)?;
        // As the runtime does itself with its default: limits are the kubelet's business.
        base["process"]["rlimits"] = json!([]);
        if let Some(mounts) = base["mounts"].as_array_mut() {
            for (source, destination) in [(self.devices(), CPU_DEVICES), (self.cpuinfo(), CPUINFO)] {
                mounts.push(json!({
                    "type": "bind", "source": source, "destination": destination, "options": ["rbind", "ro"],
                }));
            }
        }
        write(path, &base.to_string())
    }

    fn devices(&self) -> PathBuf {
        self.dir.join("devices")
    }

    fn cpuinfo(&self) -> PathBuf {
        self.dir.join("cpuinfo")
    }
}

fn list(count: u8) -> String {
    if count == 1 {
        "0".to_owned()
    } else {
        format!("0-{}", count - 1)
    }
}

/// The machine's first processor, `count` times under consecutive numbers.
fn cpuinfo(machine: &str, count: u8) -> String {
    let first = machine.split("\n\n").next().unwrap_or_default();
    let block = |number: u8| {
        let lines = first.lines().map(move |line| match line.split_once(':') {
            Some((key, _)) if ["processor", "core id", "apicid", "initial apicid"].contains(&key.trim()) => {
                format!("{key}: {number}\n")
            }
            Some((key, _)) if ["siblings", "cpu cores"].contains(&key.trim()) => format!("{key}: {count}\n"),
            _ => format!("{line}\n"),
        });
        lines.chain(["\n".to_owned()]).collect::<String>()
    };
    (0..count).map(block).collect()
}

fn write(path: &Path, content: &str) -> Result<(), LabError> {
    let doing = || format!("write {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(LabError::io(doing()))?;
    }
    fs::write(path, content).map_err(LabError::io(doing()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_processor_is_listed_under_its_own_number() {
        let machine = "processor\t: 0\nmodel name\t: X\ncore id\t\t: 0\ncpu cores\t: 2\n\nprocessor\t: 1\n\n";
        let shown = cpuinfo(machine, 3);
        assert_eq!(shown.matches("model name\t: X").count(), 3);
        assert_eq!(shown.matches("cpu cores\t: 3").count(), 3);
        for number in 0..3 {
            assert!(shown.contains(&format!("processor\t: {number}\n")), "{shown}");
        }
    }
}
