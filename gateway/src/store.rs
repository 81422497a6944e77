//! The object store: all the state there is, under paths that say what they hold.
//!
//! Objects are written whole or not at all. What must be agreed on by several replicas is decided by creating an
//! object that only one can create; no object is changed in place but those whose last writer may win.

use std::{ops::Range, path::Path as FilePath, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, WriteMultipart,
    local::LocalFileSystem, path::Path,
};

/// A store could not do what it should. Always worth trying again later.
#[derive(Debug, thiserror::Error)]
#[error("the object store failed to {operation} {path}")]
pub struct StoreError {
    operation: &'static str,
    path: String,
    #[source]
    source: object_store::Error,
}

/// Whether an object is new or was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// We made it.
    Created,
    /// It was there; nothing was written.
    Existed,
}

/// The object store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
}

/// One object of a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its path below the listed prefix.
    pub name: String,
    /// Its length, in bytes.
    pub bytes: u64,
    /// When it was written, in Unix seconds.
    pub written: u64,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(object_store::Error) -> StoreError {
    let path = path.to_string();
    move |source| StoreError {
        operation,
        path,
        source,
    }
}

impl Store {
    /// Over any object store that can create without overwriting.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner }
    }

    /// Over a folder, which is made if it is not there. What is written is on disk before it is acknowledged.
    pub fn local(folder: &FilePath) -> Result<Self, StoreError> {
        let failed = |source| StoreError {
            operation: "open",
            path: folder.display().to_string(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(|error| {
            failed(object_store::Error::Generic {
                store: "folder",
                source: error.into(),
            })
        })?;
        let inner = LocalFileSystem::new_with_prefix(folder)
            .map_err(failed)?
            .with_fsync(true);
        Ok(Self::new(Arc::new(inner)))
    }

    /// Writes an object, unless there is one.
    pub async fn create(&self, path: &str, content: Bytes) -> Result<Creation, StoreError> {
        let path = Path::from(path);
        match self
            .inner
            .put_opts(&path, PutPayload::from_bytes(content), PutMode::Create.into())
            .await
        {
            Ok(_) => Ok(Creation::Created),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Creation::Existed),
            Err(error) => Err(failed("create", &path)(error)),
        }
    }

    /// Writes an object, in place of one that may be there.
    pub async fn put(&self, path: &str, content: Bytes) -> Result<(), StoreError> {
        let path = Path::from(path);
        let written = self.inner.put(&path, PutPayload::from_bytes(content)).await;
        written.map(drop).map_err(failed("write", &path))
    }

    /// A small object's content.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        let path = Path::from(path);
        match self.inner.get(&path).await {
            Ok(found) => found.bytes().await.map(Some).map_err(failed("read", &path)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// An object's length.
    pub async fn size(&self, path: &str) -> Result<Option<u64>, StoreError> {
        Ok(self.head(path).await?.map(|meta| meta.size))
    }

    /// When an object was written, in Unix seconds.
    pub async fn written(&self, path: &str) -> Result<Option<u64>, StoreError> {
        Ok(self.head(path).await?.map(|meta| unix_seconds(&meta)))
    }

    async fn head(&self, path: &str) -> Result<Option<ObjectMeta>, StoreError> {
        let path = Path::from(path);
        match self.inner.head(&path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("look up", &path)(error)),
        }
    }

    /// An object's bytes in this range, as a stream.
    pub async fn read(
        &self,
        path: &str,
        range: Range<u64>,
    ) -> Result<Option<BoxStream<'static, Result<Bytes, StoreError>>>, StoreError> {
        let path = Path::from(path);
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            ..GetOptions::default()
        };
        // A store may refuse a range without bytes, which an empty object has.
        let options = if range.is_empty() {
            GetOptions::default()
        } else {
            options
        };
        match self.inner.get_opts(&path, options).await {
            Ok(found) => {
                let stream = found.into_stream();
                Ok(Some(
                    stream.map_err(move |error| failed("read", &path)(error)).boxed(),
                ))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Begins an object that is written in pieces and appears whole when it is finished.
    pub async fn writer(&self, path: &str) -> Result<Writer, StoreError> {
        let path = Path::from(path);
        let upload = self
            .inner
            .put_multipart(&path)
            .await
            .map_err(failed("begin", &path))?;
        Ok(Writer {
            inner: WriteMultipart::new(upload),
            path,
        })
    }

    /// Every object below a prefix, in no particular order.
    pub fn list(&self, prefix: &str) -> impl Stream<Item = Result<Listed, StoreError>> + Send + use<> {
        let prefix = Path::from(prefix);
        let (below, shown) = (prefix.clone(), prefix.clone());
        self.inner
            .list(Some(&prefix))
            .map_err(move |error| failed("list", &shown)(error))
            .try_filter_map(move |meta| {
                let name = meta.location.prefix_match(&below).map(|parts| {
                    parts
                        .map(|part| part.as_ref().to_owned())
                        .collect::<Vec<_>>()
                        .join("/")
                });
                let (bytes, written) = (meta.size, unix_seconds(&meta));
                futures::future::ready(Ok(name.map(|name| Listed { name, bytes, written })))
            })
    }

    /// Every object below a prefix, sorted by name.
    pub async fn listed(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let mut listed: Vec<Listed> = self.list(prefix).try_collect().await?;
        listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// Removes an object; it may be gone already.
    pub async fn delete(&self, path: &str) -> Result<(), StoreError> {
        let path = Path::from(path);
        match self.inner.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("delete", &path)(error)),
        }
    }

    /// Whether the store answers.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.size("blobs/none").await.map(drop)
    }
}

fn unix_seconds(meta: &ObjectMeta) -> u64 {
    u64::try_from(meta.last_modified.timestamp()).unwrap_or(0)
}

/// An object that is being written.
#[derive(Debug)]
pub struct Writer {
    inner: WriteMultipart,
    path: Path,
}

/// Parts of an object that may be on their way to the store at once.
const PARTS_UNDER_WAY: usize = 4;

impl Writer {
    /// Takes the next bytes.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.inner
            .wait_for_capacity(PARTS_UNDER_WAY)
            .await
            .map_err(failed("write", &self.path))?;
        self.inner.put(bytes);
        Ok(())
    }

    /// Makes the object appear.
    pub async fn finish(self) -> Result<(), StoreError> {
        let Self { inner, path } = self;
        inner.finish().await.map(drop).map_err(failed("finish", &path))
    }

    /// Forgets what was written.
    pub async fn abort(self) -> Result<(), StoreError> {
        let Self { inner, path } = self;
        inner.abort().await.map_err(failed("abort", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_of_two_creators_wins_and_nothing_is_seen_before_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (
            Store::local(folder.path()).unwrap(),
            Store::local(folder.path()).unwrap(),
        );
        let made = tokio::join!(
            one.create("a/b", Bytes::from_static(b"one")),
            other.create("a/b", Bytes::from_static(b"two"))
        );
        let made = [made.0.unwrap(), made.1.unwrap()];
        assert!(
            made.contains(&Creation::Created) && made.contains(&Creation::Existed),
            "{made:?}"
        );

        let mut writer = one.writer("blobs/x").await.unwrap();
        writer.write(Bytes::from(vec![7; 12 << 20])).await.unwrap();
        assert_eq!(other.size("blobs/x").await.unwrap(), None);
        writer.finish().await.unwrap();
        assert_eq!(other.size("blobs/x").await.unwrap(), Some(12 << 20));

        let mut dropped = one.writer("blobs/y").await.unwrap();
        dropped.write(Bytes::from_static(b"half")).await.unwrap();
        dropped.abort().await.unwrap();
        let names: Vec<_> = other
            .listed("blobs")
            .await
            .unwrap()
            .into_iter()
            .map(|listed| listed.name)
            .collect();
        assert_eq!(names, ["x"]);
        other.delete("blobs/x").await.unwrap();
        other.delete("blobs/x").await.unwrap();
        assert_eq!(one.get("blobs/x").await.unwrap(), None);
    }
}
