//! `e2e lab …`: raising, looking at, using and lowering labs by hand. Progress goes to standard error, what
//! was asked for to standard output.

use std::io::Write as _;
use std::process::{Command, ExitCode};

use clap::{Args, Subcommand};
use tokio_util::sync::CancellationToken;

use super::error::LabError;
use super::places::LabPlaces;
use super::process::Record;
use super::state::State;
use super::{ImageSource, Lab, LabSpec, Progress, Raise, ground};

/// What can be done with labs.
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Say what this machine lacks to run a lab, and what to do about it.
    Check,
    /// List the Debian packages whose programs a lab runs, for apt-get install.
    Packages,
    /// Raise a lab and leave it up; what a dead one of that name left is cleaned away first.
    #[command(after_help = "A lab that is up in the same shape is left as it is.\n\
        Ctrl-C before the lab is up takes everything down again.")]
    Up(Shape),
    /// Raise a lab, run a command beside it, and lower the lab again, also after Ctrl-C.
    #[command(
        after_help = "TRADEWIND_LAB names the lab to the command, which stays in the machine's own network:\n\
        a test enters by Lab::from_environment, a shell by `e2e lab exec`.\n\
        Example: e2e lab with --name ci --clusters 3 -- cargo test -p tradewind-e2e --test lab"
    )]
    With {
        /// Which lab.
        #[command(flatten)]
        shape: Shape,
        /// The command and its arguments.
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// Lower a lab: end every process of it, and remove its namespaces, cgroups and data.
    Down {
        /// The lab.
        #[arg(long)]
        name: String,
    },
    /// Say which labs there are, and which of their processes run.
    Status,
    /// Print the path of a cluster's kubeconfig; its address is reachable inside the lab only.
    #[command(after_help = "Use it through: e2e lab exec --name LAB --cluster CLUSTER -- kubectl get pods")]
    Kubeconfig {
        /// The lab.
        #[arg(long)]
        name: String,
        /// The cluster; all of them where none is named.
        cluster: Option<String>,
    },
    /// Build images where they are not in the cache, push them into a lab's registry, and print their
    /// references by digest.
    Push {
        /// The lab.
        #[arg(long)]
        name: String,
        /// Folders of deploy/images; `operator`, `gateway` and `pod` hold the programs that Cargo built.
        #[arg(required = true, value_parser = ["busybox", "povray", "operator", "gateway", "pod"])]
        images: Vec<String>,
    },
    /// Run a command inside a lab's services namespace, from where all of the lab is reachable.
    #[command(after_help = "kubectl and helm in the command are the lab's own.\n\
        Example: e2e lab exec --name demo --cluster consumer -- kubectl get pods -A")]
    Exec {
        /// The lab.
        #[arg(long)]
        name: String,
        /// The cluster that KUBECONFIG is to name; the first where none is named.
        #[arg(long)]
        cluster: Option<String>,
        /// The command and its arguments.
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
}

/// Which lab to raise.
#[derive(Clone, Debug, Args)]
pub struct Shape {
    /// Tells this lab from others on the machine.
    #[arg(long, default_value = "dev")]
    name: String,
    /// How many clusters: the first is `consumer`, the others are `provider-a`, `provider-b` and so on.
    #[arg(long, default_value_t = 2)]
    clusters: usize,
    /// How many processors each cluster's node seems to have, in the clusters' order, as in 2,1,2,4; the
    /// machine's own number where the list ends.
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<u8>,
    /// Seconds between blocks of the EVM node; 0 for a block for each transaction at once.
    #[arg(long, default_value_t = 1)]
    block_time: u32,
    /// Do not enforce NetworkPolicies.
    #[arg(long)]
    no_enforcer: bool,
    /// Lower a lab of that name first, even one that is up as asked for.
    #[arg(long)]
    fresh: bool,
}

impl Shape {
    fn spec(&self) -> LabSpec {
        let mut spec = LabSpec::market(&self.name, self.clusters);
        spec.evm.block_time_s = Some(self.block_time).filter(|seconds| *seconds > 0);
        for (cluster, cpus) in spec.clusters.iter_mut().zip(&self.cpus) {
            cluster.cpus = Some(*cpus);
        }
        for cluster in &mut spec.clusters {
            cluster.enforcer = !self.no_enforcer;
        }
        spec
    }
}

impl LabCommand {
    /// Does it.
    pub fn run(self) -> Result<ExitCode, LabError> {
        match self {
            Self::Check => {
                ground::check()?;
                print("this machine can run labs")?;
            }
            Self::Packages => {
                for package in ground::debian_packages() {
                    print(package)?;
                }
            }
            Self::Up(shape) => {
                let lab = raise(&shape, &call_off_on_signal()?)?;
                print_clusters(&lab)?;
            }
            Self::With { shape, command } => return with(&shape, &command),
            Self::Down { name } => {
                Progress::shown().during(&format!("lowering lab {name}"), || Lab::down(&name))?;
            }
            Self::Status => status()?,
            Self::Kubeconfig {
                name,
                cluster: Some(cluster),
            } => {
                print(
                    &Lab::attach(&name)?
                        .cluster(&cluster)?
                        .kubeconfig()
                        .display()
                        .to_string(),
                )?;
            }
            Self::Kubeconfig { name, cluster: None } => print_clusters(&Lab::attach(&name)?)?,
            Self::Push { name, images } => {
                let lab = Lab::attach(&name)?;
                for image in images {
                    print(&lab.push(&source_of(&image)?)?.pinned())?;
                }
            }
            Self::Exec {
                name,
                cluster,
                command,
            } => {
                return exec(&Lab::attach(&name)?, cluster.as_deref(), &command);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn raise(shape: &Shape, call_off: &CancellationToken) -> Result<Lab, LabError> {
    let how = Raise {
        fresh: shape.fresh,
        call_off: call_off.clone(),
        ..Raise::default()
    };
    Lab::raise(&shape.spec(), &how)
}

/// Ctrl-C and a polite end call the work off; whoever works takes down what it made. The second Ctrl-C ends
/// us at once: what is left then is cleaned by the next `up` or `down`.
pub fn call_off_on_signal() -> Result<CancellationToken, LabError> {
    let call_off = CancellationToken::new();
    let called_off = call_off.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LabError::io("listen for signals"))?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            for first in [true, false] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                called_off.cancel();
                if !first {
                    std::process::exit(130);
                }
            }
        });
    });
    Ok(call_off)
}

/// Raises a lab for one command.
fn with(shape: &Shape, command: &[String]) -> Result<ExitCode, LabError> {
    let call_off = call_off_on_signal()?;
    let lab = raise(shape, &call_off)?;
    // The command is of our process group and hears Ctrl-C itself; we wait for it either way.
    let outcome = status_of(&mut command_of(command, &lab));
    drop(lab);
    Progress::shown().during(&format!("lowering lab {}", shape.name), || Lab::down(&shape.name))?;
    outcome
}

fn source_of(image: &str) -> Result<ImageSource, LabError> {
    match image {
        "busybox" => Ok(ImageSource::busybox()),
        "povray" => ImageSource::povray(&Progress::shown()),
        product => ImageSource::product(product),
    }
}

fn command_of(command: &[String], lab: &Lab) -> Command {
    let mut command_line = command.iter();
    let mut command = Command::new(command_line.next().map_or("true", String::as_str));
    command.args(command_line).env("TRADEWIND_LAB", &lab.spec.name);
    command
}

fn status_of(command: &mut Command) -> Result<ExitCode, LabError> {
    let doing = format!("run {}", command.get_program().to_string_lossy());
    let status = command.status().map_err(LabError::io(doing))?;
    Ok(ExitCode::from(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(1),
    ))
}

fn exec(lab: &Lab, cluster: Option<&str>, command: &[String]) -> Result<ExitCode, LabError> {
    let Some((program, arguments)) = command.split_first() else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut inside = lab.command(program)?;
    inside.args(arguments);
    let cluster = match cluster {
        Some(cluster) => Some(lab.cluster(cluster)?),
        None => lab.clusters()?.into_iter().next(),
    };
    if let Some(cluster) = cluster {
        inside.env("KUBECONFIG", cluster.kubeconfig());
    }
    status_of(&mut inside)
}

fn status() -> Result<(), LabError> {
    for places in LabPlaces::all() {
        let Some(state) = State::read(&places)? else {
            print(&format!(
                "{}: half removed; `e2e lab down --name {0}` finishes that",
                places.name()
            ))?;
            continue;
        };
        print(&format!(
            "{}: {:?}, clusters: {}",
            places.name(),
            state.phase,
            state.spec.cluster_names()
        ))?;
        for record in &state.processes {
            print(&line(record))?;
        }
    }
    Ok(())
}

fn line(record: &Record) -> String {
    let life = if record.alive() { "runs" } else { "ENDED" };
    format!(
        "  {life:5}  {:>8}  {:<40}  {}",
        record.identity.pid,
        record.name(),
        record.launch.log.display()
    )
}

fn print_clusters(lab: &Lab) -> Result<(), LabError> {
    for cluster in lab.clusters()? {
        print(&format!("{} {}", cluster.name(), cluster.kubeconfig().display()))?;
    }
    Ok(())
}

fn print(line: &str) -> Result<(), LabError> {
    writeln!(std::io::stdout(), "{line}").map_err(LabError::io("print"))
}
