//! A slice pod without Kubernetes: the real program in each container, containers as the kubelet would make
//! them (own mount, process, IPC and network namespaces, the same user, only the mounts of the contract).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::store::Store;
use tradewind_gateway_api::archive::{self, Unpacker};
use tradewind_gateway_api::grant::GrantToken;
use tradewind_gateway_api::seal::{Opener, OpeningKey, Sealer, open_bytes, seal_bytes};
use tradewind_gateway_api::slice::{
    GRANT_KEY, LeaseGrant, OutputNote, REPORT_BYTES_MAX, SecretText, SliceConfig, SliceReport, TemplateRef,
    TerminationMessage, UnitReport,
};
use tradewind_gateway_api::template::{Input, Resources, Template, UnitLimits, User};
use tradewind_market::document::StorageGrant;
use tradewind_market::message::HexBytes;
use tradewind_market::{Address, Hash32, JobId, Nonce, Seconds, UnitIndex, Units, UnixSeconds};
use tradewind_result::tree::{Access, TreeReader};
use tradewind_result::{ContentDigest, Hashing, Limits};

pub const USER: u32 = 21_000;
/// Nothing here takes longer on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(1);
pub const JOB: JobId = JobId::from_bytes([7; 32]);
const LIMITS: Limits = Limits {
    files: 10_000,
    bytes: 1 << 30,
};

pub fn key(seed: u8) -> OpeningKey {
    OpeningKey::from_secret(&[seed; 32]).unwrap()
}

fn job_key() -> OpeningKey {
    key(1)
}
fn output_key() -> OpeningKey {
    key(2)
}
fn provider_key() -> OpeningKey {
    key(3)
}

/// A template whose units run `script` in a shell, three of them in one slice.
pub fn template(script: &str) -> Template {
    Template {
        job_salt: Hash32::from_bytes([9; 32]),
        image: format!("registry/image@sha256:{}", "ab".repeat(32)),
        user: User { uid: USER, gid: USER },
        command: vec!["/bin/sh".into(), "-c".into(), script.into()],
        env: Vec::new(),
        resources: Resources {
            cpu_millis: 1000,
            memory_bytes: 64 << 20,
            gpus: 0,
        },
        completions: Units::new(100),
        slice: Units::new(3),
        seconds_per_unit: Seconds::new(20),
        output_path: "/out".into(),
        writable_paths: vec!["/var/cache".into()],
        egress: Vec::new(),
        inputs: Vec::new(),
        output_recipient: output_key().recipient(),
        limits: UnitLimits {
            output_bytes: 8 << 20,
            output_files: 200,
            scratch_bytes: 1 << 30,
            scratch_files: 100_000,
            processes: 100,
        },
    }
}

/// One slice's pod. Everything ends and goes with it.
pub struct Pod {
    pub dir: PathBuf,
    pub store: Store,
    pub config: SliceConfig,
    grant: LeaseGrant,
    collect: Option<Child>,
    tmpfs: Vec<PathBuf>,
    cgroups: Vec<Cgroup>,
    created: Instant,
    _temporary: tempfile::TempDir,
}

impl Pod {
    pub fn new(template: &Template) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests make namespaces and change users, as a kubelet does: run them as root"
        );
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().to_owned();
        let store = Store::start();
        let plaintext = template.to_bytes().unwrap();
        let sealed = seal_bytes(&[job_key().recipient()], &plaintext).unwrap();
        let grant = LeaseGrant {
            relay: format!("http://{}", store.address),
            token: SecretText::new(token().to_text()),
            job_key: SecretText::new(job_key().to_text().to_string()),
            template: TemplateRef {
                blob: store.put(sealed),
                digest: ContentDigest::of(&plaintext),
            },
            report_recipient: provider_key().recipient(),
        };
        let closed = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let config = SliceConfig {
            job: JOB,
            first_unit: UnitIndex::new(6),
            units: Units::new(3),
            attempt: 1,
            canaries: vec![closed],
            fetch_seconds_max: 2,
            store_seconds_max: 30,
        };
        // As a node's own limit on a pod: a fork bomb under test is to shake nobody else.
        let cgroups = vec![Cgroup::new("pids", "pids.max", 3000)];
        let pod = Self {
            dir,
            store,
            config,
            grant,
            collect: None,
            tmpfs: Vec::new(),
            cgroups,
            created: Instant::now(),
            _temporary: temporary,
        };
        pod.lay_out();
        pod
    }

    /// Directories as the kubelet and the runtime would have them.
    fn lay_out(&self) {
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o755)).unwrap();
        for name in [
            "volume",
            "grant",
            "root",
            "root/bin",
            "root/proc",
            "root/dev",
            "root/sys/fs/cgroup/memory",
        ] {
            fs::create_dir_all(self.dir.join(name)).unwrap();
        }
        for mount in [
            "tradewind/bin",
            "tradewind/control",
            "tradewind/home",
            "in",
            "out",
            "tmp",
            "var/cache",
        ] {
            fs::create_dir_all(self.dir.join("root").join(mount)).unwrap();
        }
        chown(self.dir.join("volume"), Some(USER), Some(USER)).unwrap();
        let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
        for applet in String::from_utf8(applets.stdout)
            .unwrap()
            .lines()
            .filter(|name| *name != "busybox")
        {
            symlink("busybox", self.dir.join("root/bin").join(applet)).unwrap();
        }
        // By a process of its own: a file that another thread's child still has open for writing cannot be
        // executed.
        let copied = Command::new("cp")
            .args([env!("CARGO_BIN_EXE_tradewind-pod"), "/bin/busybox"])
            .arg(&self.dir)
            .status()
            .unwrap();
        assert!(copied.success());
        fs::rename(self.dir.join("busybox"), self.dir.join("root/bin/busybox")).unwrap();
        fs::rename(self.dir.join("tradewind-pod"), self.dir.join("program")).unwrap();
        fs::write(self.dir.join("termination-log"), "").unwrap();
        chown(self.dir.join("termination-log"), Some(USER), Some(USER)).unwrap();
        self.write_grant();
    }

    fn write_grant(&self) {
        fs::write(
            self.dir.join("grant").join(GRANT_KEY),
            serde_json::to_vec(&self.grant).unwrap(),
        )
        .unwrap();
    }

    /// Puts the volume on a file system of its own that is soon full.
    pub fn with_small_disk(mut self, mebibytes: u32) -> Self {
        let volume = self.dir.join("volume");
        let status = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={mebibytes}m,uid={USER},gid={USER},mode=0777"),
                "tmpfs",
            ])
            .arg(&volume)
            .status()
            .unwrap();
        assert!(status.success());
        self.tmpfs.push(volume);
        self
    }

    /// Gives the container with the job's image so much memory.
    pub fn with_memory(mut self, bytes: u64) -> Self {
        self.cgroups
            .push(Cgroup::new("memory", "memory.limit_in_bytes", bytes));
        self
    }

    /// Changes the grant, as a faulty operator or a hostile buyer would.
    pub fn with_grant(mut self, change: impl FnOnce(&mut LeaseGrant)) -> Self {
        change(&mut self.grant);
        self.write_grant();
        self
    }

    pub fn volume(&self, name: &str) -> PathBuf {
        self.dir.join("volume").join(name)
    }

    fn helper(&self, verb: &str) -> Command {
        let mut command = Command::new(self.dir.join("program"));
        command
            .arg(verb)
            .env_clear()
            .env("TRADEWIND_SLICE", serde_json::to_string(&self.config).unwrap())
            .env("TRADEWIND_VOLUME", self.dir.join("volume"))
            .env("TRADEWIND_GRANT", self.dir.join("grant"))
            .stdin(Stdio::null())
            .uid(USER)
            .gid(USER);
        command
    }

    pub fn fetch(&self) {
        assert!(self.helper("fetch").status().unwrap().success());
    }

    pub fn start_collect(&mut self) {
        let mut command = self.helper("collect");
        command.env("TRADEWIND_TERMINATION_LOG", self.dir.join("termination-log"));
        self.collect = Some(command.spawn().unwrap());
    }

    pub fn kill_collect(&mut self) {
        let mut collect = self.collect.take().unwrap();
        collect.kill().unwrap();
        collect.wait().unwrap();
    }

    /// Starts the container with the job's image, once.
    pub fn start_run(&self) -> Run {
        let mounts = [
            ("bin", "tradewind/bin", true),
            ("control", "tradewind/control", true),
            ("in", "in", true),
            ("out", "out", false),
            ("home", "tradewind/home", false),
            ("tmp", "tmp", false),
            ("writable-0", "var/cache", false),
        ];
        let root = self.dir.join("root");
        let root = root.to_str().unwrap();
        let mut script = vec!["set -e; mount --make-rprivate /".to_owned()];
        for (subpath, mount, read_only) in mounts {
            let from = self.volume(subpath);
            // As with subPath, the directory itself is mounted. One that fetch did not make is not needed.
            if !from.exists() {
                continue;
            }
            script.push(format!("mount --bind {} {root}/{mount}", from.display()));
            if read_only {
                script.push(format!("mount -o remount,bind,ro {root}/{mount}"));
            }
        }
        script.push(format!(
            "mount -t tmpfs tmpfs {root}/dev; mkdir -m 1777 {root}/dev/shm"
        ));
        for device in ["null", "zero", "urandom"] {
            script.push(format!(
                "touch {root}/dev/{device}; mount --bind /dev/{device} {root}/dev/{device}"
            ));
        }
        for cgroup in &self.cgroups {
            let group = cgroup.0.display();
            script.push(format!("echo $$ > {group}/cgroup.procs"));
            if cgroup.0.starts_with("/sys/fs/cgroup/memory") {
                script.push(format!("mount --bind {group} {root}/sys/fs/cgroup/memory"));
            }
        }
        script.push(format!(
            "exec unshare --pid --fork --kill-child --ipc --net --root={root} --wd=/ --mount-proc \
             --setgid={USER} --setuid={USER} /tradewind/bin/tradewind-pod step"
        ));
        let child = Command::new("unshare")
            .args(["--mount", "--", "/bin/sh", "-c", &script.join("\n")])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("KUBERNETES_SERVICE_HOST", "10.96.0.1")
            .env("IMAGE_SAYS", "hello")
            .stdin(Stdio::null())
            .stdout(self.log())
            .stderr(self.log())
            .process_group(0)
            .spawn()
            .unwrap();
        Run { child }
    }

    /// The container's log; shown where it fails again and again.
    fn log(&self) -> fs::File {
        fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("run.log"))
            .unwrap()
    }

    /// Runs the container again and again, as `restartPolicy: OnFailure` would, until it ends well.
    pub fn run_to_end(&self) {
        for _ in 0..10 {
            if self.start_run().wait().success() {
                return;
            }
        }
        panic!(
            "the container failed ten times: {}",
            fs::read_to_string(self.dir.join("run.log")).unwrap()
        );
    }

    /// Waits until a line with `text` stands in the journal.
    pub fn await_journal(&self, text: &str) {
        await_true(|| {
            fs::read_to_string(self.volume("private/journal")).is_ok_and(|journal| journal.contains(text))
        });
    }

    pub fn journal(&self) -> String {
        fs::read_to_string(self.volume("private/journal")).unwrap()
    }

    /// Ends `collect` as the kubelet does and reads what it left.
    pub fn end(&mut self) -> TerminationMessage {
        let mut collect = self.collect.take().unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&collect),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        assert!(collect.wait().unwrap().success());
        TerminationMessage::from_text(&fs::read_to_string(self.dir.join("termination-log")).unwrap()).unwrap()
    }

    /// The whole life of a slice's pod.
    pub fn live(&mut self) -> TerminationMessage {
        self.fetch();
        self.start_collect();
        self.run_to_end();
        self.end()
    }

    /// The report, as the provider's operator reads it.
    pub fn report(&self, message: &TerminationMessage) -> SliceReport {
        let reference = message.report.unwrap_or_else(|| panic!("no report: {message:?}"));
        let plaintext = open_bytes(
            &provider_key(),
            &self.store.get(&reference.blob),
            REPORT_BYTES_MAX,
        )
        .unwrap();
        assert_eq!(ContentDigest::of(&plaintext), reference.digest);
        serde_json::from_slice(&plaintext).unwrap()
    }

    /// A unit's note and files, as the buyer's operator reads them.
    pub fn output(&self, unit: &UnitReport) -> (OutputNote, BTreeMap<String, Vec<u8>>) {
        let sealed = self.store.get(&unit.blob);
        let opener = Opener::new(&output_key(), &sealed[..]).unwrap();
        let unpacker = Unpacker::new(opener, LIMITS, Some(unit.manifest_digest)).unwrap();
        let note = serde_json::from_slice(unpacker.note()).unwrap();
        let target = tempfile::tempdir().unwrap();
        let manifest = unpacker.unpack(target.path(), archive::Modes::ReadOnly).unwrap();
        let read = |path: &str| fs::read(target.path().join(path)).unwrap();
        let files = manifest
            .entries()
            .iter()
            .map(|entry| (entry.path.as_str().to_owned(), read(entry.path.as_str())));
        (note, files.collect())
    }

    /// What a unit wrote to the one file `name`, as text.
    pub fn text(&self, report: &SliceReport, unit: usize, name: &str) -> String {
        let (_, files) = self.output(&report.units[unit]);
        String::from_utf8(
            files
                .get(name)
                .unwrap_or_else(|| panic!("{name} in {:?}", files.keys()))
                .clone(),
        )
        .unwrap()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Some(mut collect) = self.collect.take() {
            collect.kill().unwrap();
            collect.wait().unwrap();
        }
        for mount in &self.tmpfs {
            assert!(
                Command::new("umount")
                    .arg("-l")
                    .arg(mount)
                    .status()
                    .unwrap()
                    .success()
            );
        }
    }
}

/// A control group (version 1) of its own, gone with its last process.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(controller: &str, limit: &str, value: u64) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from(format!(
            "/sys/fs/cgroup/{controller}/tradewind-pod-test-{process}-{count}"
        ));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        fs::write(path.join(limit), value.to_string()).unwrap();
        Self(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        await_true(|| fs::remove_dir(&self.0).is_ok());
    }
}

/// The running container.
pub struct Run {
    child: Child,
}

impl Run {
    pub fn wait(mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if started.elapsed() > PATIENCE {
                self.kill();
                panic!("the container does not end");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether the container has ended well.
    pub fn has_ended_well(&mut self) -> bool {
        self.child
            .try_wait()
            .unwrap()
            .is_some_and(|status| status.success())
    }

    /// This container while it runs, or the next after a moment, as `restartPolicy: OnFailure` has it.
    pub fn or_again(mut self, pod: &Pod) -> Self {
        assert!(pod.created.elapsed() < PATIENCE, "the slice does not end");
        std::thread::sleep(Duration::from_millis(5));
        match self.child.try_wait().unwrap() {
            Some(status) if !status.success() => pod.start_run(),
            _ => self,
        }
    }

    /// As when the node's kernel ends the container's first process.
    pub fn kill(&mut self) {
        // `unshare` waits for process 1 of the container, its only child, and ends with it.
        let unshare = self.child.id();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
        let first = children
            .trim()
            .parse()
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .unwrap();
        rustix::process::kill_process(first, rustix::process::Signal::KILL).unwrap();
        self.child.wait().unwrap();
    }
}

/// An input directory, stored and named as a buyer's operator would.
pub fn input(store: &Store, name: &str, files: &[(&str, &str)]) -> Input {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
        fs::write(dir.path().join(path), content).unwrap();
    }
    let tree = TreeReader::open(dir.path(), Access::AsIs).unwrap();
    let manifest = tree.manifest(LIMITS, Hashing::Mapped).unwrap();
    let mut sealer = Sealer::new(&[job_key().recipient()], Vec::new()).unwrap();
    archive::pack(&tree, &manifest, b"", &mut sealer).unwrap();
    let stored = sealer.finish().unwrap();
    let stored_bytes = stored.len() as u64;
    Input {
        name: name.into(),
        blob: store.put(stored),
        stored_bytes,
        manifest_digest: manifest.digest(),
    }
}

/// A pod whose template has inputs, which need the store first.
pub fn pod_with_inputs(mut template: Template, inputs: impl FnOnce(&Store) -> Vec<Input>) -> Pod {
    let pod = Pod::new(&template);
    template.inputs = inputs(&pod.store);
    let plaintext = template.to_bytes().unwrap();
    let blob = pod
        .store
        .put(seal_bytes(&[job_key().recipient()], &plaintext).unwrap());
    pod.with_grant(|grant| {
        grant.template = TemplateRef {
            blob,
            digest: ContentDigest::of(&plaintext),
        }
    })
}

pub fn await_true(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn token() -> GrantToken {
    let grant = StorageGrant {
        signer: Address::from_bytes([1; 20]),
        job_id: JOB,
        holder: Hash32::from_bytes([2; 32]),
        max_bytes: 1 << 30,
        expires: UnixSeconds::MAX,
        nonce: Nonce::new(1),
    };
    GrantToken::new(grant, HexBytes(vec![1; 65])).unwrap()
}
