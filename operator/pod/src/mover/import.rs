//! An input to the gateways: its files are read, packed, sealed to the job's seats, and stored under the job's grant.
//! It opens nothing that is not of this namespace, and stores nothing that is not sealed.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsFd as _;
use std::path::Path;

use tradewind_gateway_api::archive::{ArchiveError, Unpacker};
use tradewind_gateway_api::client::{Download, Fault, GatewayClient, Spread, Upload};
use tradewind_gateway_api::grant::GrantToken;
use tradewind_gateway_api::input::{self, InputError, SealedInput};
use tradewind_gateway_api::mover::{ImportSource, ImportTask, MoverCause, MoverReport};
use tradewind_gateway_api::seal::{Opener, OpeningKey, Sealer};
use tradewind_result::tree::{Access, Fault as TreeFault, TreeReader};
use tradewind_result::{ContentDigest, TreeError};

use super::claim::{self, Absent};
use super::{Failure, Places, gateways, web};
use crate::report::chain;

pub(super) async fn run(task: &ImportTask, places: &Places) -> Result<MoverReport, Failure> {
    let client = gateways(&task.gateways)?;
    let token = GrantToken::parse(task.token.expose())
        .map_err(|error| Failure::new(MoverCause::Node, chain(&error)))?;
    let sealed = places.passage.join("sealed");
    let input = match &task.source {
        ImportSource::Claim { sub_path } => {
            let directory = claim::open(&places.claim, sub_path.as_deref(), Absent::Refuse)?;
            seal(task, &claim::path_of(directory.as_fd()), &sealed)?
        }
        ImportSource::Web { url, digest, hosts } => {
            let files = places.passage.join("web");
            fs::create_dir_all(&files).map_err(|error| Failure::of_node(&files, &error))?;
            let wanted = web::Wanted {
                url,
                digest: *digest,
                bytes_max: task.limits.bytes,
                hosts,
            };
            web::fetch(&wanted, &files).await?;
            seal(task, &files, &sealed)?
        }
        ImportSource::Blob {
            blob,
            stored_bytes,
            manifest_digest,
            key,
        } => {
            let key = OpeningKey::from_text(key.expose())
                .map_err(|error| Failure::new(MoverCause::Node, chain(&error)))?;
            let path = places.passage.join("earlier");
            let download = Download {
                digest: *blob,
                bytes_max: *stored_bytes,
            };
            fetch_blob(&client, download, &path).await?;
            reseal(task, &key, *manifest_digest, &path, &sealed)?
        }
    };
    let upload = Upload {
        grant: &token,
        retain_until: Some(task.retain_until),
        spread: Spread::All,
    };
    let written = client
        .put_file(&sealed, &upload)
        .await
        .map_err(|error| Failure::of_gateway(&error))?;
    let (_, stored) = written
        .first()
        .ok_or_else(|| Failure::new(MoverCause::Gateway, "no gateway took the input"))?;
    Ok(MoverReport::Imported {
        blob: stored.digest,
        stored_bytes: input.bytes,
        manifest_digest: input.manifest_digest,
    })
}

fn seal(task: &ImportTask, files: &Path, sealed: &Path) -> Result<SealedInput, Failure> {
    let directory = TreeReader::open(files, Access::AsIs).map_err(|error| of_tree(&error))?;
    input::seal_directory(&directory, task.limits, &task.reader, sealed).map_err(|error| of_input(&error))
}

async fn fetch_blob(client: &GatewayClient, download: Download, path: &Path) -> Result<(), Failure> {
    let fetched = client.get_to_file(download, path).await;
    fetched.map(drop).map_err(|error| match error.fault() {
        Fault::Absent => Failure::new(
            MoverCause::Missing,
            format!("the gateways no longer have the blob {}", download.digest),
        ),
        Fault::Passing | Fault::Request | Fault::Gateway | Fault::Local => Failure::of_gateway(&error),
    })
}

/// Seals an earlier job's input to this job's seats, and checks on the way that it is what that job stored.
fn reseal(
    task: &ImportTask,
    key: &OpeningKey,
    expected: ContentDigest,
    from: &Path,
    to: &Path,
) -> Result<SealedInput, Failure> {
    let node = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| Failure::of_node(&path, &error)
    };
    let other = |error: &dyn std::error::Error| Failure::new(MoverCause::OtherContent, chain(error));
    let opener = Opener::new(key, File::open(from).map_err(node(from))?).map_err(|error| other(&error))?;
    let output = BufWriter::new(File::create(to).map_err(node(to))?);
    let mut sealer = Sealer::new(std::slice::from_ref(&task.reader), output)
        .map_err(|error| Failure::new(MoverCause::Node, chain(&error)))?;
    let copied = Copying {
        from: opener,
        to: &mut sealer,
    };
    let manifest = Unpacker::new(copied, task.limits, Some(expected))
        .and_then(Unpacker::check)
        .map_err(|error| other(&error))?;
    let mut output = sealer
        .finish()
        .map_err(|error| Failure::new(MoverCause::Node, chain(&error)))?;
    output.flush().map_err(node(to))?;
    let bytes = output.get_ref().metadata().map_err(node(to))?.len();
    Ok(SealedInput {
        bytes,
        manifest_digest: manifest.digest(),
    })
}

/// Writes everything on that is read through it.
struct Copying<'a, R, W> {
    from: R,
    to: &'a mut W,
}

impl<R: Read, W: Write> Read for Copying<'_, R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.to.write_all(buffer.get(..read).unwrap_or_default())?;
        Ok(read)
    }
}

fn of_input(error: &InputError) -> Failure {
    match error {
        InputError::Tree(error) | InputError::Archive(ArchiveError::Tree(error)) => of_tree(error),
        InputError::Archive(ArchiveError::ManifestSize { .. }) => {
            Failure::new(MoverCause::TooLarge, chain(error))
        }
        // A file that is not what it was a moment ago is read again later.
        InputError::Archive(_) | InputError::Seal(_) | InputError::File { .. } => {
            Failure::new(MoverCause::Node, chain(error))
        }
    }
}

fn of_tree(error: &TreeError) -> Failure {
    match (error.fault(), error) {
        (TreeFault::Content, _) => Failure::new(MoverCause::ContentRefused, chain(error)),
        (TreeFault::Limit, _) => Failure::new(MoverCause::TooLarge, chain(error)),
        (TreeFault::Machine, TreeError::Io { path, source }) => Failure::of_volume(path, source),
        (TreeFault::Machine, _) => Failure::new(MoverCause::Node, chain(error)),
    }
}
