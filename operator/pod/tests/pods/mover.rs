//! The mover, as its container would run it: as a user without rights, on a volume that others write to as well.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tradewind_gateway_api::archive::{self, Modes, Unpacker};
use tradewind_gateway_api::mover::{
    ExportGroup, ExportTask, ImportSource, ImportTask, MoverCause, MoverReport, MoverTask, TASK_KEY,
};
use tradewind_gateway_api::seal::{Opener, Sealer};
use tradewind_gateway_api::signed::Signed;
use tradewind_gateway_api::slice::SecretText;
use tradewind_gateway_api::wire;
use tradewind_market::document::{ResultIndex, StoredUnit};
use tradewind_market::geometry::UnitRange;
use tradewind_market::message::HexBytes;
use tradewind_market::{Address, Hash32, RoundId, UnitIndex, UnitSet, Units, UnixSeconds};
use tradewind_result::leaf::{Tree, result_root};
use tradewind_result::tree::{Access, TreeReader};
use tradewind_result::{ContentDigest, Hashing, Limits, Outcome, UnitResult};

use crate::pod::{JOB, USER, key, token};
use crate::store::Store;

const LIMITS: Limits = Limits {
    files: 100,
    bytes: 1 << 20,
};
const SALT: Hash32 = Hash32::from_bytes([9; 32]);
const ROUND: RoundId = RoundId::from_bytes([5; 32]);
const SEED: u8 = 2;

/// A mover's pod. Everything goes with it.
struct Mover {
    dir: PathBuf,
    store: Store,
    _temporary: tempfile::TempDir,
}

impl Mover {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().to_owned();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["claim", "passage", "task"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        fs::write(dir.join("termination-log"), "").unwrap();
        for name in ["claim", "passage", "termination-log"] {
            chown(dir.join(name), Some(USER), Some(USER)).unwrap();
        }
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_tradewind-pod"))
            .arg(dir.join("program"))
            .status()
            .unwrap();
        assert!(copied.success());
        Self {
            dir,
            store: Store::start(),
            _temporary: temporary,
        }
    }

    fn claim(&self, path: &str) -> PathBuf {
        self.dir.join("claim").join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.claim(path)).unwrap()
    }

    /// Runs the task, and gives what the kubelet would report.
    fn run(&self, task: &MoverTask) -> MoverReport {
        fs::write(
            self.dir.join("task").join(TASK_KEY),
            serde_json::to_vec(task).unwrap(),
        )
        .unwrap();
        let status = Command::new(self.dir.join("program"))
            .arg("move")
            .env_clear()
            .env("TRADEWIND_TASK", self.dir.join("task"))
            .env("TRADEWIND_CLAIM", self.dir.join("claim"))
            .env("TRADEWIND_PASSAGE", self.dir.join("passage"))
            .env("TRADEWIND_TERMINATION_LOG", self.dir.join("termination-log"))
            .uid(USER)
            .gid(USER)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        let text = fs::read_to_string(self.dir.join("termination-log")).unwrap();
        let report = MoverReport::from_text(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(
            status.success(),
            !matches!(report, MoverReport::Failed { .. }),
            "{report:?}"
        );
        report
    }

    fn gateways(&self) -> Vec<String> {
        vec![format!("http://{}", self.store.address)]
    }

    /// Results of units 0 and 1, the second with a code of 3, as `provider` stored them; and the task to bring them.
    fn results(&self, provider: u8, content: &str) -> ExportTask {
        let (mut stored, mut results) = (Vec::new(), Vec::new());
        for unit in 0..2 {
            let files = tempfile::tempdir().unwrap();
            fs::create_dir(files.path().join("log")).unwrap();
            fs::write(files.path().join("result"), format!("{content} {unit}")).unwrap();
            fs::write(files.path().join("log/err"), "").unwrap();
            let tree = TreeReader::open(files.path(), Access::AsIs).unwrap();
            let manifest = tree.manifest(LIMITS, Hashing::Streamed).unwrap();
            let mut sealer = Sealer::new(&[key(SEED).recipient()], Vec::new()).unwrap();
            archive::pack(&tree, &manifest, b"", &mut sealer).unwrap();
            let bytes = sealer.finish().unwrap();
            let outcome = Outcome::Exit(if unit == 1 { 3 } else { 0 });
            stored.push(StoredUnit {
                unit: UnitIndex::new(unit),
                outcome: outcome.code(),
                stored_bytes: bytes.len() as u64,
                blob: Hash32::from_bytes(*self.store.put(bytes).as_bytes()),
                chunk_root: Hash32::ZERO,
            });
            results.push(UnitResult {
                unit,
                outcome,
                digest: manifest.digest(),
            });
        }
        let provider = Address::from_bytes([provider; 20]);
        let index = Signed {
            statement: ResultIndex {
                job_id: JOB,
                round_id: ROUND,
                provider,
                units: stored,
            },
            signature: HexBytes(vec![1; 65]),
        };
        self.store.put_at(
            &wire::path::index(ROUND, provider),
            serde_json::to_vec(&index).unwrap(),
        );
        let root = result_root(Tree::A, JOB.as_bytes(), SALT.as_bytes(), &results).unwrap();
        ExportTask {
            gateways: self.gateways(),
            job: JOB,
            output_key: SecretText::new(key(SEED).to_text().to_string()),
            salt: SALT,
            limits: LIMITS,
            sub_path: Some("renders/flyby".to_owned()),
            groups: vec![ExportGroup {
                round: ROUND,
                units: UnitRange {
                    first: UnitIndex::new(0),
                    count: Units::new(2),
                },
                root: Hash32::from_bytes(*root.as_bytes()),
                providers: vec![provider],
            }],
        }
    }

    fn import(&self, source: ImportSource) -> MoverTask {
        MoverTask::Import(ImportTask {
            gateways: self.gateways(),
            token: SecretText::new(token().to_text()),
            reader: key(1).recipient(),
            retain_until: UnixSeconds::MAX,
            limits: LIMITS,
            source,
        })
    }

    /// What the job's seats find in an input.
    fn unpacked(&self, report: &MoverReport) -> tempfile::TempDir {
        let MoverReport::Imported {
            blob,
            stored_bytes,
            manifest_digest,
        } = report
        else {
            panic!("{report:?}")
        };
        let sealed = self.store.get(blob);
        assert_eq!(sealed.len() as u64, *stored_bytes);
        let target = tempfile::tempdir().unwrap();
        Unpacker::new(
            Opener::new(&key(1), &sealed[..]).unwrap(),
            LIMITS,
            Some(*manifest_digest),
        )
        .unwrap()
        .unpack(target.path(), Modes::OwnersOwn)
        .unwrap();
        target
    }
}

#[track_caller]
fn fails(report: &MoverReport, expected: MoverCause) {
    match report {
        MoverReport::Failed { cause, detail } => assert_eq!(*cause, expected, "{detail}"),
        other => panic!("expected {expected:?}: {other:?}"),
    }
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn results_come_to_the_volume_and_bringing_them_twice_changes_nothing() {
    let mover = Mover::new();
    let task = MoverTask::Export(mover.results(1, "agreed"));
    let mut failed = UnitSet::new();
    failed.insert(UnitIndex::new(1));
    let expected = MoverReport::exported(Units::new(2), &failed);
    assert_eq!(mover.run(&task), expected);
    assert_eq!(mover.read("renders/flyby/0/result"), "agreed 0");
    assert_eq!(mover.read("renders/flyby/1/result"), "agreed 1");
    let result = mover.claim("renders/flyby/1/result");
    let written = fs::metadata(&result).unwrap().modified().unwrap();
    assert_eq!(fs::metadata(&result).unwrap().permissions().mode() & 0o777, 0o644);
    // Of a mover that was cut off.
    let staging = mover.claim("renders/flyby").join(format!(".tradewind-{ROUND}"));
    fs::create_dir_all(staging.join("0/half")).unwrap();
    assert_eq!(mover.run(&task), expected);
    assert_eq!(fs::metadata(&result).unwrap().modified().unwrap(), written);
    fs::remove_dir_all(mover.claim("renders/flyby/1")).unwrap();
    chown(&staging, Some(USER), Some(USER)).unwrap();
    chown(staging.join("0"), Some(USER), Some(USER)).unwrap();
    assert_eq!(mover.run(&task), expected, "one of two is brought again");
    assert_eq!(mover.read("renders/flyby/1/result"), "agreed 1");
    assert_eq!(
        names(&mover.claim("renders/flyby")),
        ["0", "1"],
        "nothing is left beside them"
    );
}

#[test]
fn only_what_was_agreed_on_is_brought_and_another_seat_is_asked() {
    let mover = Mover::new();
    let (honest, mut wrong) = (mover.results(1, "agreed"), mover.results(2, "forged"));
    wrong.groups[0].root = honest.groups[0].root;
    fails(&mover.run(&MoverTask::Export(wrong.clone())), MoverCause::Gateway);
    assert!(names(&mover.claim("renders/flyby")).is_empty());
    wrong.groups[0].providers.push(honest.groups[0].providers[0]);
    mover.run(&MoverTask::Export(wrong));
    assert_eq!(mover.read("renders/flyby/0/result"), "agreed 0");
}

#[test]
fn what_others_put_there_is_never_overwritten() {
    for occupy in [
        (|path| {
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("mine"), "mine").unwrap();
        }) as fn(PathBuf),
        |path| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "mine").unwrap();
        },
        |path| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink("/tmp", path).unwrap();
        },
    ] {
        let mover = Mover::new();
        let task = MoverTask::Export(mover.results(1, "agreed"));
        let place = mover.claim("renders/flyby/1");
        occupy(place.clone());
        for path in ["renders", "renders/flyby"] {
            chown(mover.claim(path), Some(USER), Some(USER)).unwrap();
        }
        let before = fs::symlink_metadata(&place).unwrap().modified().unwrap();
        fails(&mover.run(&task), MoverCause::Occupied);
        assert_eq!(fs::symlink_metadata(&place).unwrap().modified().unwrap(), before);
    }
}

#[test]
fn no_link_in_the_volume_leads_out_of_it() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o777)).unwrap();
    for link in ["renders", "renders/flyby"] {
        let mover = Mover::new();
        let task = MoverTask::Export(mover.results(1, "agreed"));
        fs::create_dir_all(mover.claim(link).parent().unwrap()).unwrap();
        symlink(outside.path(), mover.claim(link)).unwrap();
        fails(&mover.run(&task), MoverCause::PathRefused);
        let sub_path = Some(link.to_owned());
        fails(
            &mover.run(&mover.import(ImportSource::Claim { sub_path })),
            MoverCause::PathRefused,
        );
    }
    let mover = Mover::new();
    let task = mover.results(1, "agreed");
    for path in ["..", "renders/../..", "."] {
        let sub_path = Some(path.to_owned());
        let export = ExportTask {
            sub_path: sub_path.clone(),
            ..task.clone()
        };
        fails(&mover.run(&MoverTask::Export(export)), MoverCause::PathRefused);
        fails(
            &mover.run(&mover.import(ImportSource::Claim { sub_path })),
            MoverCause::PathRefused,
        );
    }
    // The place beside the results, prepared by somebody who knows its name.
    fs::create_dir_all(mover.claim("renders/flyby")).unwrap();
    symlink(
        outside.path(),
        mover.claim("renders/flyby").join(format!(".tradewind-{ROUND}")),
    )
    .unwrap();
    for path in ["renders", "renders/flyby"] {
        chown(mover.claim(path), Some(USER), Some(USER)).unwrap();
    }
    fails(&mover.run(&MoverTask::Export(task)), MoverCause::PathRefused);
    // Links among the files of an input would show what they lead to.
    symlink(outside.path().join("secret"), mover.claim("stolen")).unwrap();
    let whole = mover.import(ImportSource::Claim { sub_path: None });
    fails(&mover.run(&whole), MoverCause::ContentRefused);
    assert_eq!(names(outside.path()), ["secret"]);
}

#[test]
fn a_volume_that_is_full_closed_or_without_the_files_is_said_to_be() {
    let mover = Mover::new();
    let task = MoverTask::Export(mover.results(1, &"agreed".repeat(40_000)));
    let claim = mover.dir.join("claim");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k,mode=777", "tmpfs"])
        .arg(&claim)
        .status()
        .unwrap();
    assert!(mounted.success());
    let full = mover.run(&task);
    let left = names(&mover.claim("renders/flyby"));
    let remounted = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&claim)
        .status()
        .unwrap();
    let read_only = mover.run(&task);
    let unmounted = Command::new("umount").arg(&claim).status().unwrap();
    assert!(remounted.success() && unmounted.success());
    fails(&full, MoverCause::VolumeFull);
    assert!(left.is_empty(), "{left:?}");
    fails(&read_only, MoverCause::VolumeReadOnly);
    chown(&claim, Some(0), Some(0)).unwrap();
    fails(&mover.run(&task), MoverCause::VolumeDenied);
    let sub_path = Some("nowhere".to_owned());
    fails(
        &mover.run(&mover.import(ImportSource::Claim { sub_path })),
        MoverCause::Missing,
    );
}

#[test]
fn an_input_is_sealed_to_its_readers_and_can_be_used_again_by_who_has_its_key() {
    let mover = Mover::new();
    fs::create_dir_all(mover.claim("scene/textures")).unwrap();
    fs::write(mover.claim("scene/main.pov"), "sphere {}").unwrap();
    fs::write(mover.claim("scene/textures/sky"), "blue").unwrap();
    fs::write(mover.claim("other"), "not asked for").unwrap();
    let sub_path = Some("scene".to_owned());
    let report = mover.run(&mover.import(ImportSource::Claim { sub_path }));
    let files = mover.unpacked(&report);
    assert_eq!(names(files.path()), ["main.pov", "textures"]);
    assert_eq!(
        fs::read_to_string(files.path().join("textures/sky")).unwrap(),
        "blue"
    );

    let MoverReport::Imported {
        blob,
        stored_bytes,
        manifest_digest,
    } = report
    else {
        panic!("{report:?}")
    };
    let again = |seed, blob, manifest_digest| {
        mover.import(ImportSource::Blob {
            blob,
            stored_bytes,
            manifest_digest,
            key: SecretText::new(key(seed).to_text().to_string()),
        })
    };
    let second = mover.run(&again(1, blob, manifest_digest));
    assert_eq!(names(mover.unpacked(&second).path()), ["main.pov", "textures"]);
    fails(
        &mover.run(&again(3, blob, manifest_digest)),
        MoverCause::OtherContent,
    );
    fails(
        &mover.run(&again(1, blob, ContentDigest::of(b"x"))),
        MoverCause::OtherContent,
    );
    fails(
        &mover.run(&again(1, ContentDigest::of(b"x"), manifest_digest)),
        MoverCause::Missing,
    );
    fs::write(mover.claim("scene/large"), vec![0; (1 << 20) + 1]).unwrap();
    let whole = mover.import(ImportSource::Claim { sub_path: None });
    fails(&mover.run(&whole), MoverCause::TooLarge);
}

#[test]
fn a_file_of_the_web_counts_only_by_its_digest_and_where_it_may_be_fetched() {
    let mover = Mover::new();
    mover.store.put_at("/files/scene.pov", b"sphere {}".to_vec());
    let host = mover.store.address.to_string();
    let web = |path: &str, content: &[u8], hosts: &[&str]| {
        mover.import(ImportSource::Web {
            url: format!("http://{host}{path}"),
            digest: ContentDigest::of(content),
            hosts: hosts.iter().map(ToString::to_string).collect(),
        })
    };
    let here: &[&str] = &[&host];
    let report = mover.run(&web("/files/scene.pov", b"sphere {}", here));
    assert_eq!(
        fs::read_to_string(mover.unpacked(&report).path().join("scene.pov")).unwrap(),
        "sphere {}"
    );
    fails(
        &mover.run(&web("/files/scene.pov", b"box {}", here)),
        MoverCause::OtherContent,
    );
    fails(
        &mover.run(&web("/files/scene.pov", b"sphere {}", &[])),
        MoverCause::AddressRefused,
    );
    fails(
        &mover.run(&web("/files/none", b"sphere {}", here)),
        MoverCause::Missing,
    );
    mover.store.put_at("/large", vec![0; (1 << 20) + 1]);
    fails(&mover.run(&web("/large", b"", here)), MoverCause::TooLarge);
    // A named host that leads to one that is not.
    let port = mover.store.address.port();
    mover
        .store
        .redirect("/away", &format!("http://localhost:{port}/files/scene.pov"));
    fails(
        &mover.run(&web("/away/scene.pov", b"sphere {}", here)),
        MoverCause::AddressRefused,
    );
}
