//! Puts a job's inputs and template on the gateways, sealed to the job's key.
//!
//! Sealing the same bytes again gives other bytes, so what was stored is pinned in the job's status, and from the
//! opening on by the chain; nothing is stored twice once it is pinned. Plaintext touches the disk only below a folder
//! of the process that is removed again.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tradewind_chain::{Preimage, Signer, keys::SignerError};
use tradewind_gateway_api::{
    client::{ClientError, Download, GatewayClient, Spread, Upload},
    grant::{GrantToken, GrantTokenError},
    input::{self, InputError, SealedInput},
    seal::{OpeningKey, Recipient, SealError, open_bytes, seal_bytes},
    template::{Input, TEMPLATE_BYTES_MAX, Template, TemplateError},
};
use tradewind_market::{
    Address, Hash32, JobId, Nonce, UnixSeconds, document::StorageGrant, eip712::Domain, message::HexBytes,
};
use tradewind_result::{
    ContentDigest, Limits, TreeError,
    tree::{Access, TreeReader},
};

/// What a job's inputs of ConfigMaps and Secrets may hold: the API server bounds each to 1 MiB, a job to 16.
const FILES_LIMITS: Limits = Limits {
    files: 16_384,
    bytes: 64 << 20,
};
/// What sealing may add to a template.
const SEALED_TEMPLATE_BYTES_MAX: u64 = TEMPLATE_BYTES_MAX + (64 << 10);

/// Why content could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentError {
    /// The gateways did not take it, or do not have it.
    #[error(transparent)]
    Gateway(#[from] ClientError),
    /// The account did not sign the grant.
    #[error("the storage grant could not be signed")]
    Sign(#[from] SignerError),
    /// The grant cannot be written as a token.
    #[error("the storage grant cannot be written")]
    Token(#[from] GrantTokenError),
    /// Sealing or opening failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Files could not be made into an input.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The files cannot be read back.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// What the gateway has is no template of this job.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A file of our own could not be written.
    #[error("a temporary file could not be written in {}", path.display())]
    Scratch {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A task of ours was ended: the process is ending.
    #[error("the work was interrupted")]
    Interrupted,
}

/// In whose name and for how long things are stored.
#[derive(Clone, Debug)]
pub(crate) struct Storing<'a> {
    /// Signs grants.
    pub(crate) signer: &'a dyn Signer,
    /// The market that grants are for.
    pub(crate) domain: Domain,
    /// The job.
    pub(crate) job: JobId,
    /// Now, by the wall clock.
    pub(crate) now: UnixSeconds,
    /// Until when it is kept.
    pub(crate) until: UnixSeconds,
}

/// A grant stays usable for as long as one upload may take.
const GRANT_SECONDS: u64 = 24 * 3600;

impl Storing<'_> {
    /// Leave for us to store up to `bytes_max` bytes.
    pub(crate) async fn grant(&self, bytes_max: u64) -> Result<GrantToken, ContentError> {
        self.grant_for(bytes_max, GRANT_SECONDS).await
    }

    /// Leave to store up to `bytes_max` bytes in our name, for so many seconds.
    pub(crate) async fn grant_for(&self, bytes_max: u64, seconds: u64) -> Result<GrantToken, ContentError> {
        let grant = StorageGrant {
            signer: self.signer.address(),
            job_id: self.job,
            holder: holder_of(self.signer.address()),
            max_bytes: bytes_max,
            expires: self.now.saturating_add(seconds.into()),
            // Two grants of one second, even for as many bytes, are two.
            nonce: Nonce::new(rand::random()),
        };
        let signature = self.signer.sign(&Preimage::message(&self.domain, &grant)).await?;
        Ok(GrantToken::new(grant, HexBytes(signature.as_bytes().to_vec()))?)
    }
}

/// An account as the holder of a grant.
pub(crate) fn holder_of(account: Address) -> Hash32 {
    let mut bytes = [0; 32];
    bytes[12..].copy_from_slice(account.as_bytes());
    Hash32::from_bytes(bytes)
}

/// Seals files as one input and stores it on every gateway.
pub(crate) async fn store_files(
    gateways: &GatewayClient,
    storing: &Storing<'_>,
    name: &str,
    files: BTreeMap<String, Vec<u8>>,
    reader: Recipient,
) -> Result<Input, ContentError> {
    let folder = tempfile::tempdir().map_err(|source| scratch(&std::env::temp_dir(), source))?;
    let root = folder.path().to_owned();
    let (file, sealed) = tokio::task::spawn_blocking(move || pack_files(&root, &files, &reader))
        .await
        .map_err(|_| ContentError::Interrupted)??;
    let token = storing.grant(sealed.bytes).await?;
    let upload = Upload {
        grant: &token,
        retain_until: Some(storing.until),
        spread: Spread::All,
    };
    let written = gateways.put_file(&file, &upload).await?;
    let stored = written
        .first()
        .map(|(_, stat)| stat)
        .ok_or(ClientError::NoGateway)?;
    Ok(Input {
        name: name.to_owned(),
        blob: stored.digest,
        stored_bytes: stored.bytes,
        manifest_digest: sealed.manifest_digest,
    })
}

fn pack_files(
    folder: &Path,
    files: &BTreeMap<String, Vec<u8>>,
    reader: &Recipient,
) -> Result<(PathBuf, SealedInput), ContentError> {
    let tree = folder.join("tree");
    std::fs::create_dir(&tree).map_err(|source| scratch(&tree, source))?;
    for (name, content) in files {
        // Keys of ConfigMaps and Secrets are single path components by the API server's rules.
        let path = tree.join(name);
        std::fs::write(&path, content).map_err(|source| scratch(&path, source))?;
    }
    let directory = TreeReader::open(&tree, Access::AsIs)?;
    let file = folder.join("sealed");
    let sealed = input::seal_directory(&directory, FILES_LIMITS, reader, &file)?;
    Ok((file, sealed))
}

/// Where a template is stored, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredTemplate {
    /// Address of the sealed bytes.
    pub(crate) blob: ContentDigest,
    /// Digest of the template itself.
    pub(crate) digest: ContentDigest,
}

/// Seals the template and stores it on every gateway.
pub(crate) async fn store_template(
    gateways: &GatewayClient,
    storing: &Storing<'_>,
    template: &Template,
    reader: Recipient,
) -> Result<StoredTemplate, ContentError> {
    let digest = template.digest()?;
    let sealed = seal_bytes(&[reader], &template.to_bytes()?)?;
    let token = storing.grant(sealed.len() as u64).await?;
    let upload = Upload {
        grant: &token,
        retain_until: Some(storing.until),
        spread: Spread::All,
    };
    let written = gateways.put_bytes(Bytes::from(sealed), &upload).await?;
    let (_, stored) = written.first().ok_or(ClientError::NoGateway)?;
    Ok(StoredTemplate {
        blob: stored.digest,
        digest,
    })
}

/// Fetches the template back, as every provider does.
pub(crate) async fn fetch_template(
    gateways: &GatewayClient,
    stored: StoredTemplate,
    key: &OpeningKey,
) -> Result<Template, ContentError> {
    let download = Download {
        digest: stored.blob,
        bytes_max: SEALED_TEMPLATE_BYTES_MAX,
    };
    let sealed = gateways.get_bytes(download).await?;
    let plain = open_bytes(key, &sealed, TEMPLATE_BYTES_MAX)?;
    Ok(Template::from_bytes(&plain, stored.digest)?)
}

fn scratch(path: &Path, source: std::io::Error) -> ContentError {
    ContentError::Scratch {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use tradewind_gateway_api::{
        archive::{Modes, Unpacker},
        seal::Opener,
    };

    #[test]
    fn packed_files_are_what_their_reader_unpacks() {
        let key = OpeningKey::from_secret(&[3; 32]).unwrap();
        let files: BTreeMap<String, Vec<u8>> = [
            ("scene.pov".to_owned(), b"sphere {}".to_vec()),
            ("empty".to_owned(), vec![]),
        ]
        .into();
        let folder = tempfile::tempdir().unwrap();
        let (file, sealed) = pack_files(folder.path(), &files, &key.recipient()).unwrap();
        assert_eq!(sealed.bytes, std::fs::metadata(&file).unwrap().len());

        let target = tempfile::tempdir().unwrap();
        let opened = Opener::new(&key, File::open(&file).unwrap()).unwrap();
        let unpacker = Unpacker::new(opened, FILES_LIMITS, Some(sealed.manifest_digest)).unwrap();
        unpacker.unpack(target.path(), Modes::ReadOnly).unwrap();
        for (name, content) in files {
            assert_eq!(std::fs::read(target.path().join(name)).unwrap(), content);
        }
    }
}
