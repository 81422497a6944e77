//! Waiting for an object to become what it should be, by watching it.

use std::fmt::Debug;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::MarketError;

/// What a look at the object found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is as wanted.
    Wanted,
    /// It is not; how it is instead.
    NotYet(String),
}

/// One object that is watched.
pub struct Watched<K> {
    changes: BoxStream<'static, Result<Option<K>, watcher::Error>>,
    last: Option<K>,
}

impl<K: Debug> Debug for Watched<K> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Watched")
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl<K> Watched<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    /// Starts to watch it.
    pub fn start(client: Client, namespace: &str, name: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        Self {
            changes: watcher::watch_object(api, name).default_backoff().boxed(),
            last: None,
        }
    }

    /// The object as it was seen last.
    pub fn last(&self) -> Option<&K> {
        self.last.as_ref()
    }

    /// Waits until it is as wanted. It is looked at as it is first, then at each change.
    pub async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&K) -> Found + Send,
    ) -> Result<(), MarketError> {
        let mut seen = "nothing".to_owned();
        let waiting = async {
            loop {
                if let Some(object) = &self.last {
                    match look(object) {
                        Found::Wanted => return,
                        Found::NotYet(instead) => seen = instead,
                    }
                }
                // A watch that breaks begins anew by itself.
                if let Ok(Some(Some(object))) = self.changes.try_next().await {
                    self.last = Some(object);
                }
            }
        };
        tokio::time::timeout(limit, waiting)
            .await
            .map_err(|_| MarketError::Late {
                what: what.to_owned(),
                seconds: limit.as_secs(),
                seen,
            })
    }
}
