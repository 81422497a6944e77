//! What there is: gateways, tokens, and runtime classes. Reads only.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;
use tradewind_chain::{
    BlockTag,
    read::{ReadError, Reader},
};
use tradewind_market::{Address, Decimals, Knowledge};

use super::content::NamedGateway;
use crate::shell::context::Context;

/// How long a gateway's answer about itself is good for.
const GATEWAYS_FRESH: Duration = Duration::from_mins(1);
/// Asks, and remembers what seldom changes.
#[derive(Debug)]
pub(crate) struct Observer {
    context: Arc<Context>,
    reader: Reader,
    decimals: Mutex<BTreeMap<Address, Decimals>>,
    gateways: Mutex<Option<(Instant, Vec<NamedGateway>)>>,
}

impl Observer {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let reader = Reader::new(context.chain.node().clone(), context.market.domain.market);
        Self {
            context,
            reader,
            decimals: Mutex::default(),
            gateways: Mutex::default(),
        }
    }

    /// The token's decimals; they never change.
    pub(crate) async fn decimals(&self, token: Address) -> Result<Decimals, ReadError> {
        if let Some(known) = lock(&self.decimals).get(&token) {
            return Ok(*known);
        }
        let decimals = self.reader.token_decimals(token, BlockTag::Latest).await?;
        lock(&self.decimals).insert(token, decimals);
        Ok(decimals)
    }

    /// The gateways that answer and are of this market, by account. Absent where none is.
    pub(crate) async fn gateways(&self) -> Knowledge<Vec<NamedGateway>> {
        if let Some((since, known)) = &*lock(&self.gateways)
            && since.elapsed() < GATEWAYS_FRESH
        {
            return Knowledge::Known(known.clone());
        }
        let mut named = Vec::new();
        for url in self.context.gateways.gateways() {
            match self.context.gateways.only(url).about().await {
                Ok(about) if about.market == self.context.market.domain.market => {
                    named.push(NamedGateway {
                        account: about.gateway,
                        url: url.to_string(),
                    });
                }
                Ok(about) => {
                    tracing::warn!(%url, market = %about.market, "a gateway of another market is not named in offers");
                }
                Err(error) => tracing::warn!(%url, error = error.label(), "a gateway does not say who it is"),
            }
        }
        named.sort();
        if named.is_empty() {
            return Knowledge::Unknown;
        }
        *lock(&self.gateways) = Some((Instant::now(), named.clone()));
        Knowledge::Known(named)
    }

    /// Whether the cluster has a RuntimeClass of that name.
    pub(crate) async fn runtime_class(&self, name: &str) -> Knowledge<()> {
        match Api::<RuntimeClass>::all(self.context.client.clone())
            .get_opt(name)
            .await
        {
            Ok(Some(_)) => Knowledge::Known(()),
            Ok(None) => Knowledge::Absent,
            Err(error) => {
                tracing::warn!(%error, name, "cannot look for the runtime class");
                Knowledge::Unknown
            }
        }
    }
}

/// A cache is as good after a panic elsewhere as before.
fn lock<T>(cache: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}
