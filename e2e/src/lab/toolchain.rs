//! The programs that a lab runs and Debian does not carry: built from pinned modules under `deploy/local`,
//! once, into a cache outside the tree that is keyed by everything that went into them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::error::LabError;
use super::ground;
use super::progress::Progress;

/// How often a running build says how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Where the built programs are.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    kubernetes: PathBuf,
    containerd: PathBuf,
    runc: PathBuf,
    helm: PathBuf,
    pause: PathBuf,
    anvil: PathBuf,
}

/// How one module of `deploy/local` becomes programs.
struct Recipe {
    /// The module's folder.
    name: &'static str,
    /// `.` builds the module's own program, `tool` those that its go.mod names.
    packages: &'static str,
    /// Whether C is linked in; without, the program is static.
    cgo: &'static str,
    tags: &'static str,
    /// What the program should say its version is: the linker sets the variable from the version that
    /// go.mod requires of the module.
    stamps: &'static [Stamp],
}

struct Stamp {
    variable: &'static str,
    module: &'static str,
    part: Part,
}

#[derive(Clone, Copy)]
enum Part {
    Whole,
    Major,
    Minor,
}

const KUBERNETES: Recipe = Recipe {
    name: "kubernetes",
    packages: ".",
    cgo: "0",
    tags: "",
    stamps: &[
        Stamp {
            variable: "k8s.io/component-base/version.gitVersion",
            module: "k8s.io/kubernetes",
            part: Part::Whole,
        },
        Stamp {
            variable: "k8s.io/component-base/version.gitMajor",
            module: "k8s.io/kubernetes",
            part: Part::Major,
        },
        Stamp {
            variable: "k8s.io/component-base/version.gitMinor",
            module: "k8s.io/kubernetes",
            part: Part::Minor,
        },
    ],
};

const CONTAINERD: Recipe = Recipe {
    name: "containerd",
    packages: "tool",
    cgo: "0",
    tags: "",
    stamps: &[Stamp {
        variable: "github.com/containerd/containerd/v2/version.Version",
        module: "github.com/containerd/containerd/v2",
        part: Part::Whole,
    }],
};

const RUNC: Recipe = Recipe {
    name: "runc",
    packages: "tool",
    cgo: "1",
    tags: "seccomp",
    stamps: &[],
};

const HELM: Recipe = Recipe {
    name: "helm",
    packages: "tool",
    cgo: "0",
    tags: "",
    stamps: &[Stamp {
        variable: "helm.sh/helm/v4/internal/version.version",
        module: "helm.sh/helm/v4",
        part: Part::Whole,
    }],
};

const PAUSE: Recipe = Recipe {
    name: "pause",
    packages: ".",
    cgo: "0",
    tags: "",
    stamps: &[],
};

impl Toolchain {
    /// Builds what is not in the cache yet.
    pub(crate) fn ensure(progress: &Progress) -> Result<Self, LabError> {
        let go = format!("{} {}", go_version()?, std::env::consts::ARCH);
        Ok(Self {
            pause: PAUSE.ensure(&go, progress)?.join("pause"),
            anvil: ensure_anvil(progress)?,
            runc: RUNC.ensure(&go, progress)?.join("runc"),
            containerd: CONTAINERD.ensure(&go, progress)?,
            helm: HELM.ensure(&go, progress)?.join("helm"),
            kubernetes: KUBERNETES.ensure(&go, progress)?.join("kubernetes"),
        })
    }

    /// The program that is every component of a cluster; its first argument says which.
    pub(crate) fn kubernetes(&self) -> &Path {
        &self.kubernetes
    }

    pub(crate) fn containerd(&self) -> PathBuf {
        self.containerd.join("containerd")
    }

    pub(crate) fn shim(&self) -> PathBuf {
        self.containerd.join("containerd-shim-runc-v2")
    }

    pub(crate) fn ctr(&self) -> PathBuf {
        self.containerd.join("ctr")
    }

    pub(crate) fn runc(&self) -> &Path {
        &self.runc
    }

    pub(crate) fn helm(&self) -> &Path {
        &self.helm
    }

    pub(crate) fn pause(&self) -> &Path {
        &self.pause
    }

    pub(crate) fn anvil(&self) -> &Path {
        &self.anvil
    }
}

/// The checkout that this crate was built from.
pub fn source_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Where built programs and images are kept: `$TRADEWIND_CACHE`, or `~/.cache/tradewind`.
pub fn cache_root() -> PathBuf {
    std::env::var_os("TRADEWIND_CACHE").map_or_else(
        || {
            let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
            home.join(".cache/tradewind")
        },
        PathBuf::from,
    )
}

/// A program of this build: beside the running one, or beside the folder that Cargo put the running test in.
pub(crate) fn built_program(name: &str) -> Result<PathBuf, LabError> {
    let running = std::env::current_exe().map_err(LabError::io("find the running program"))?;
    let folders = running.ancestors().skip(1).take(2);
    let mut candidates = folders.map(|folder| folder.join(name));
    candidates.find(|path| path.is_file()).ok_or_else(|| {
        LabError::Shape(format!(
            "no `{name}` beside {}; build it with `cargo build --workspace --bins`",
            running.display()
        ))
    })
}

impl Recipe {
    fn ensure(&self, go: &str, progress: &Progress) -> Result<PathBuf, LabError> {
        let source = source_root().join("deploy/local").join(self.name);
        let recipe = format!("{go} {} {} {}", self.packages, self.cgo, self.tags);
        cached("tools", self.name, &source, &recipe, |into| {
            self.build(&source, into, progress)
        })
    }

    fn build(&self, source: &Path, into: &Path, progress: &Progress) -> Result<(), LabError> {
        let mut linker = "-s -w".to_owned();
        if !self.stamps.is_empty() {
            let path = source.join("go.mod");
            let manifest =
                fs::read_to_string(&path).map_err(LabError::io(format!("read {}", path.display())))?;
            for stamp in self.stamps {
                linker.push_str(&stamp.flag(&manifest)?);
            }
        }
        let go = ground::find("go").unwrap_or_else(|| PathBuf::from("go"));
        let mut command = Command::new(go);
        command
            .current_dir(source)
            .env("CGO_ENABLED", self.cgo)
            .env("GOFLAGS", "-mod=readonly")
            .env("GOTOOLCHAIN", "local")
            .args([
                "build",
                "-v",
                "-trimpath",
                "-buildvcs=false",
                "-tags",
                self.tags,
                "-ldflags",
                &linker,
                "-o",
            ])
            .arg(format!("{}/", into.display()))
            .arg(self.packages);
        watch_build(self.name, &mut command, progress)
    }
}

impl Stamp {
    fn flag(&self, manifest: &str) -> Result<String, LabError> {
        let version = manifest
            .lines()
            .map(str::trim)
            .map(|line| line.strip_prefix("require ").unwrap_or(line))
            .find_map(|line| {
                line.strip_prefix(self.module)?
                    .strip_prefix(' ')?
                    .split_whitespace()
                    .next()
            })
            .ok_or_else(|| LabError::Shape(format!("deploy/local: no go.mod requires {}", self.module)))?;
        let mut parts = version.trim_start_matches('v').split('.');
        let value = match self.part {
            Part::Whole => Some(version),
            Part::Major => parts.next(),
            Part::Minor => parts.nth(1),
        };
        Ok(format!(" -X {}={}", self.variable, value.unwrap_or_default()))
    }
}

/// Runs a build and tells how many packages it has been through.
fn watch_build(name: &str, command: &mut Command, progress: &Progress) -> Result<(), LabError> {
    let doing = format!("build {name}");
    progress.say(format!("building {name} (once; cached by content)"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(LabError::io(doing.clone()))?;
    let started = Instant::now();
    let mut said = started;
    let mut steps = 0_u32;
    let mut printed = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines() {
            let line = line.map_err(LabError::io(doing.clone()))?;
            steps += 1;
            if said.elapsed() > REPORT_EVERY {
                said = Instant::now();
                progress.say(format!(
                    "building {name}: {steps} steps, {} s, now {line}",
                    started.elapsed().as_secs()
                ));
            }
            printed.push(line);
        }
    }
    let status = child.wait().map_err(LabError::io(doing.clone()))?;
    if status.success() {
        progress.say(format!("built {name} in {} s", started.elapsed().as_secs()));
        return Ok(());
    }
    let shown = printed.len().saturating_sub(30);
    Err(LabError::Tool {
        doing,
        program: command.get_program().to_string_lossy().into_owned(),
        status,
        output: printed[shown..].join("\n"),
    })
}

/// anvil: the native program out of its platform's package, without the JavaScript around it.
fn ensure_anvil(progress: &Progress) -> Result<PathBuf, LabError> {
    let source = source_root().join("deploy/local/anvil");
    let dir = cached("tools", "anvil", &source, std::env::consts::ARCH, |into| {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(source.join(file), into.join(file)).map_err(LabError::io(format!("copy {file}")))?;
        }
        progress.during("fetching anvil", || {
            super::command::run(
                "fetch anvil",
                Command::new("npm").current_dir(into).args([
                    "ci",
                    "--ignore-scripts",
                    "--no-audit",
                    "--no-fund",
                    "--loglevel=error",
                ]),
            )
            .map(drop)
        })
    })?;
    let packages = dir.join("node_modules/@foundry-rs");
    let found = fs::read_dir(&packages)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path().join("bin/anvil")))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        LabError::Shape(format!(
            "no anvil for this platform in {}; remove that folder",
            packages.display()
        ))
    })
}

/// A folder of the cache whose name holds the hash of `source` and `recipe`; filled by `build` if it is not
/// there. Two builders at once: the second waits and finds it done.
pub(crate) fn cached(
    shelf: &str,
    name: &str,
    source: &Path,
    recipe: &str,
    build: impl FnOnce(&Path) -> Result<(), LabError>,
) -> Result<PathBuf, LabError> {
    let shelf = cache_root().join(shelf);
    let dir = shelf.join(format!("{name}-{}", &key_of(source, recipe)?[..16]));
    if dir.exists() {
        return Ok(dir);
    }
    let doing = format!("use the cache {}", shelf.display());
    fs::create_dir_all(&shelf).map_err(LabError::io(doing.clone()))?;
    let lock = fs::File::create(shelf.join(format!("{name}.lock"))).map_err(LabError::io(doing.clone()))?;
    flock(lock.as_fd(), FlockOperation::LockExclusive).map_err(|error| LabError::Io {
        doing: doing.clone(),
        source: error.into(),
    })?;
    if !dir.exists() {
        let fresh = tempfile::Builder::new()
            .prefix(&format!("{name}-unfinished-"))
            .tempdir_in(&shelf)
            .map_err(LabError::io(doing.clone()))?;
        build(fresh.path())?;
        fs::rename(fresh.keep(), &dir).map_err(LabError::io(doing))?;
    }
    Ok(dir)
}

/// The hash of every file below `source`, with its path, and of the recipe.
pub(crate) fn key_of(source: &Path, recipe: &str) -> Result<String, LabError> {
    let mut files = Vec::new();
    list_files(source, &mut files)?;
    files.sort();
    let mut hasher = blake3::Hasher::new();
    hasher.update(recipe.as_bytes());
    for path in files {
        let doing = || format!("read {}", path.display());
        let mut content = Vec::new();
        fs::File::open(&path)
            .and_then(|mut file| file.read_to_end(&mut content))
            .map_err(LabError::io(doing()))?;
        let relative = path.strip_prefix(source).unwrap_or(&path);
        for part in [relative.as_os_str().as_encoded_bytes(), &content] {
            hasher.update(&part.len().to_le_bytes());
            hasher.update(part);
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn list_files(dir: &Path, into: &mut Vec<PathBuf>) -> Result<(), LabError> {
    let doing = || format!("list {}", dir.display());
    for entry in fs::read_dir(dir).map_err(LabError::io(doing()))? {
        let path = entry.map_err(LabError::io(doing()))?.path();
        if path.is_dir() {
            list_files(&path, into)?;
        } else {
            into.push(path);
        }
    }
    Ok(())
}

fn go_version() -> Result<String, LabError> {
    let go = ground::find("go").unwrap_or_else(|| PathBuf::from("go"));
    let printed = super::command::run(
        "ask Go for its version",
        Command::new(go)
            .args(["env", "GOVERSION"])
            .env("GOTOOLCHAIN", "local"),
    )?;
    Ok(printed.trim().to_owned())
}
