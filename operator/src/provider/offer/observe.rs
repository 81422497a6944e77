//! What there is: gateways, tokens, the wallet, and whether job pods are shut in. Reads only.

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
use tradewind_market::{Address, Decimals, Knowledge, TokenAmount};

use super::{
    content::NamedGateway,
    treasury::{Counts, Purpose, intent_id},
};
use crate::shell::context::Context;

/// The operator's own tokens, outside the market.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wallet {
    pub(crate) balance: TokenAmount,
    /// What the market may pull.
    pub(crate) allowance: TokenAmount,
}

/// How long a gateway's answer about itself is good for.
const GATEWAYS_FRESH: Duration = Duration::from_mins(1);
/// More effects of one purpose on one token than an account will ever have; a bound on the search for an unused id.
const EFFECTS_MAX: u64 = 1 << 32;

/// Asks, and remembers what seldom changes.
#[derive(Debug)]
pub(crate) struct Observer {
    context: Arc<Context>,
    reader: Reader,
    decimals: Mutex<BTreeMap<Address, Decimals>>,
    gateways: Mutex<Option<(Instant, Vec<NamedGateway>)>>,
    /// Ids known to be used, so that the search starts after them.
    counts: Mutex<BTreeMap<(Purpose, Address), u64>>,
}

impl Observer {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let reader = Reader::new(context.chain.node().clone(), context.market.domain.market);
        Self {
            context,
            reader,
            decimals: Mutex::default(),
            gateways: Mutex::default(),
            counts: Mutex::default(),
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

    /// What the operator has of a token outside the market.
    pub(crate) async fn wallet(&self, token: Address) -> Result<Wallet, ReadError> {
        let account = self.context.account();
        Ok(Wallet {
            balance: self
                .reader
                .token_balance(token, account, BlockTag::Latest)
                .await?,
            allowance: self
                .reader
                .token_allowance(token, account, BlockTag::Latest)
                .await?,
        })
    }

    /// How many effects of each purpose the chain has seen, as of the final block.
    pub(crate) async fn counts(&self, token: Address) -> Result<Counts, ReadError> {
        Ok(Counts {
            deposits: self.unused(Purpose::Deposit, token).await?,
            bonds: self.unused(Purpose::Bond, token).await?,
            withdrawals: self.unused(Purpose::Withdraw, token).await?,
        })
    }

    /// The first count whose intent the chain has not used, as of the final block.
    async fn unused(&self, purpose: Purpose, token: Address) -> Result<u64, ReadError> {
        let key = (purpose, token);
        let mut count = lock(&self.counts).get(&key).copied().unwrap_or_default();
        while count < EFFECTS_MAX {
            let id = intent_id(purpose, token, count);
            if !self
                .reader
                .intent_used(self.context.account(), id, BlockTag::Finalized)
                .await?
            {
                break;
            }
            count += 1;
            lock(&self.counts).insert(key, count);
        }
        Ok(count)
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
