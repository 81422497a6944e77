//! Container images: built from the Containerfiles under `deploy/images` by buildah, kept in the cache as
//! OCI archives under the hash of everything that went into them, and pushed into a lab's registry.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::command::run;
use super::error::LabError;
use super::network;
use super::places::LabPlaces;
use super::progress::Progress;
use super::registry;
use super::toolchain::{Toolchain, built_program, cache_root, cached, key_of, source_root};

/// The tag under which a lab's images are pushed; what runs them names them by digest.
const TAG: &str = "lab";
/// The Debian release of the images.
const DEBIAN: &str = "bookworm";

/// What an image is built from: a folder of `deploy/images`, and files that are laid beside its Containerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSource {
    /// The folder, and the image's name in the registry.
    pub name: String,
    /// The files that the folder does not carry itself.
    pub files: Vec<LaidFile>,
    /// Build arguments, by name.
    pub arguments: Vec<(String, String)>,
}

/// A file for a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaidFile {
    /// Where it is.
    pub from: PathBuf,
    /// What the Containerfile calls it.
    pub name: String,
    /// Whether symbols are taken out of it first; what is debugged is the program outside the image.
    pub strip: bool,
}

/// A built image, not in any registry yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    name: String,
    archive: PathBuf,
}

/// An image in a lab's registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageReference {
    /// `host:port/name`.
    pub repository: String,
    /// `sha256:…`, of the manifest.
    pub digest: String,
}

impl ImageReference {
    /// The reference by digest, as it stands in a pod.
    pub fn pinned(&self) -> String {
        format!("{}@{}", self.repository, self.digest)
    }

    /// The reference by tag, as a person writes it in a job.
    pub fn tagged(&self) -> String {
        format!("{}:{TAG}", self.repository)
    }
}

/// The image that holds each pod's namespaces.
pub(crate) fn pause_reference() -> String {
    format!("{}/pause:{TAG}", registry::address())
}

impl ImageSource {
    /// An image of that folder, without more files.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            files: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// Lays a file beside the Containerfile.
    #[must_use]
    pub fn with_file(mut self, from: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        self.files.push(LaidFile {
            from: from.into(),
            name: name.into(),
            strip: false,
        });
        self
    }

    /// Lays a program beside the Containerfile, without its symbols.
    #[must_use]
    pub fn with_program(mut self, from: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        self.files.push(LaidFile {
            from: from.into(),
            name: name.into(),
            strip: true,
        });
        self
    }

    /// The test image with a shell and small tools.
    pub fn busybox() -> Self {
        Self::new("busybox").with_file("/bin/busybox", "busybox")
    }

    /// Debian's POV-Ray with the demo's script, on a Debian that debootstrap makes.
    pub fn povray(progress: &Progress) -> Result<Self, LabError> {
        let base = Self::new("base")
            .with_file(root_file_system(progress)?, "rootfs.tar")
            .build(progress)?;
        let base = format!("oci-archive:{}", base.archive.display());
        Ok(Self {
            arguments: vec![("BASE".to_owned(), base)],
            ..Self::new("povray")
        })
    }

    /// One of the product's images, `operator`, `gateway` or `pod`, with the program that Cargo built
    /// beside the running one.
    pub fn product(name: &str) -> Result<Self, LabError> {
        let program = format!("tradewind-{name}");
        Ok(Self::new(name).with_program(built_program(&program)?, program))
    }

    /// The image that holds a pod's namespaces.
    pub(crate) fn pause(toolchain: &Toolchain) -> Self {
        Self::new("pause").with_file(toolchain.pause(), "pause")
    }

    /// Builds it, or finds it in the cache.
    pub fn build(&self, progress: &Progress) -> Result<Image, LabError> {
        let context = tempfile::tempdir().map_err(LabError::io("make a folder for an image's build"))?;
        self.lay_out(context.path())?;
        let arguments: Vec<String> = self
            .arguments
            .iter()
            .map(|(name, value)| format!("--build-arg={name}={value}"))
            .collect();
        let recipe = arguments.join(" ");
        let key = key_of(context.path(), &recipe)?;
        let tag = format!("localhost/tradewind/{}:{}", self.name, &key[..16]);
        let dir = cached("images", &self.name, context.path(), &recipe, |into| {
            let what = format!("building the image {}", self.name);
            progress.during(&what, || {
                bud(context.path(), &tag, &arguments)?;
                let archive = format!("oci-archive:{}", into.join("image.tar").display());
                run(
                    &format!("export the image {}", self.name),
                    buildah()?.args(["push", &tag, &archive]),
                )?;
                // The archive is what is kept; the build's own copy would only fill the disk.
                run("forget the build", buildah()?.args(["rmi", "--force", &tag])).map(drop)
            })
        })?;
        Ok(Image {
            name: self.name.clone(),
            archive: dir.join("image.tar"),
        })
    }

    fn lay_out(&self, context: &Path) -> Result<(), LabError> {
        let source = source_root().join("deploy/images").join(&self.name);
        let doing = |path: &Path| format!("lay out {} for the image {}", path.display(), self.name);
        for entry in fs::read_dir(&source).map_err(LabError::io(doing(&source)))? {
            let path = entry.map_err(LabError::io(doing(&source)))?.path();
            let name = path.file_name().unwrap_or_default();
            fs::copy(&path, context.join(name)).map_err(LabError::io(doing(&path)))?;
        }
        for file in &self.files {
            let to = context.join(&file.name);
            fs::copy(&file.from, &to).map_err(LabError::io(doing(&file.from)))?;
            if file.strip {
                run(&format!("strip {}", file.name), Command::new("strip").arg(&to))?;
            }
        }
        Ok(())
    }
}

impl Image {
    /// The same under another name.
    pub(crate) fn renamed(self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self
        }
    }

    /// Pushes the image into the registry of a lab.
    pub(crate) fn push(&self, lab: &LabPlaces) -> Result<ImageReference, LabError> {
        let doing = format!("push the image {}", self.name);
        // The registry mixes up uploads of the same image that meet.
        let lock = fs::File::create(lab.run().join("push.lock")).map_err(LabError::io(doing.clone()))?;
        flock(lock.as_fd(), FlockOperation::LockExclusive).map_err(|error| LabError::Io {
            doing: doing.clone(),
            source: error.into(),
        })?;
        let digest = tempfile::NamedTempFile::new().map_err(LabError::io(doing.clone()))?;
        let repository = format!("{}/{}", registry::address(), self.name);
        run(
            &doing,
            network::inside(&lab.services_namespace(), "skopeo")
                .args([
                    "--insecure-policy",
                    "copy",
                    "--dest-tls-verify=false",
                    "--preserve-digests",
                ])
                .arg(format!("--digestfile={}", digest.path().display()))
                .arg(format!("oci-archive:{}", self.archive.display()))
                .arg(format!("docker://{repository}:{TAG}")),
        )?;
        let digest = fs::read_to_string(digest.path()).map_err(LabError::io(doing))?;
        Ok(ImageReference {
            repository,
            digest: digest.trim().to_owned(),
        })
    }
}

/// The root file system of a minimal Debian, as a tar archive.
fn root_file_system(progress: &Progress) -> Result<PathBuf, LabError> {
    let source = source_root().join("deploy/images/base");
    let dir = cached("images", "rootfs", &source, DEBIAN, |into| {
        progress.during("making a minimal Debian with debootstrap", || {
            let root = tempfile::tempdir().map_err(LabError::io("make a folder for debootstrap"))?;
            let mut make = network::outside("unshare");
            make.args(["--mount", "--propagation", "private", "--"])
                .arg(source.join("rootfs.sh"))
                .arg(DEBIAN);
            run(
                "make a minimal Debian",
                make.arg(into.join("rootfs.tar")).arg(root.path()),
            )
            .map(drop)
        })
    })?;
    Ok(dir.join("rootfs.tar"))
}

/// One build, without a daemon and without layers in between; the same input gives the same digest.
fn bud(context: &Path, tag: &str, arguments: &[String]) -> Result<(), LabError> {
    run(
        &format!("build the image {tag}"),
        buildah()?
            .args([
                "bud",
                "--isolation=chroot",
                "--timestamp=0",
                "--format=oci",
                "--quiet",
            ])
            .args(arguments)
            .args(["--tag", tag])
            .arg(context),
    )
    .map(drop)
}

fn buildah() -> Result<Command, LabError> {
    let storage = cache_root().join("buildah");
    fs::create_dir_all(&storage).map_err(LabError::io(format!("make {}", storage.display())))?;
    let mut command = network::outside("buildah");
    command
        .args(["--storage-driver", "vfs", "--root"])
        .arg(storage.join("root"))
        .arg("--runroot")
        .arg(storage.join("run"));
    Ok(command)
}
