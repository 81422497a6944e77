//! Gateways and relays to test against, and accounts that sign.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use prometheus::Registry;
use tradewind_chain::{LocalSigner, Preimage, Signer};
use tradewind_daemon::{CancellationToken, ServeLimits, serve, serve::listen};
use tradewind_gateway::{
    gateway::{Clock, Gateway, GatewayParts},
    limits::Limits,
    relay::{EgressRules, Relay, RelayParts},
    standing::{JobFacts, Market, StandingError, Standings},
    store::Store,
};
use tradewind_gateway_api::{
    client::{ClientConfig, GatewayClient, RetryPolicy, Spread, Upload},
    grant::{GrantToken, HostToken},
    signed::Signed,
};
use tradewind_market::{
    Address, GroupIndex, Hash32, JobId, Nonce, SeatIndex, Seconds, UnixSeconds,
    document::{HostGrant, StorageGrant},
    eip712::{Domain, StructHash},
    message::HexBytes,
};

/// Keys of the development accounts that every local EVM node funds.
const KEYS: [&str; 4] = [
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
];

pub(crate) const TOKEN: Address = Address::from_bytes([0x70; 20]);
pub(crate) const DOMAIN: Domain = Domain {
    chain_id: 31337,
    market: Address::from_bytes([0x33; 20]),
};
pub(crate) const JOB: JobId = JobId::from_bytes([0x0b; 32]);

/// One account.
pub(crate) struct Account(LocalSigner);

pub(crate) fn account(index: usize) -> Account {
    Account(LocalSigner::from_hex(KEYS[index]).unwrap())
}

impl Account {
    pub(crate) fn address(&self) -> Address {
        self.0.address()
    }

    pub(crate) async fn sign_hash(&self, struct_hash: Hash32) -> HexBytes {
        let signature = self
            .0
            .sign(&Preimage::typed_data(DOMAIN.separator(), struct_hash))
            .await
            .unwrap();
        HexBytes(signature.as_bytes().to_vec())
    }

    pub(crate) async fn sign<T: StructHash>(&self, statement: T) -> Signed<T> {
        let signature = self.sign_hash(statement.struct_hash()).await;
        Signed { statement, signature }
    }

    pub(crate) async fn grant(&self, change: impl FnOnce(&mut StorageGrant)) -> GrantToken {
        let mut grant = StorageGrant {
            signer: self.address(),
            job_id: JobId::ZERO,
            holder: Hash32::ZERO,
            max_bytes: 1 << 30,
            expires: UnixSeconds::new(4_000_000_000),
            nonce: Nonce::new(0),
        };
        change(&mut grant);
        let signature = self.sign_hash(grant.struct_hash()).await;
        GrantToken::new(grant, signature).unwrap()
    }

    pub(crate) async fn host_grant(&self, change: impl FnOnce(&mut HostGrant)) -> HostToken {
        let mut grant = HostGrant {
            signer: self.address(),
            job_id: JobId::ZERO,
            hosts: Vec::new(),
            expires: UnixSeconds::new(4_000_000_000),
        };
        change(&mut grant);
        let signature = self.sign_hash(grant.struct_hash()).await;
        HostToken::new(grant, signature).unwrap()
    }
}

/// What the chain would say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script(Arc<ScriptInner>);

#[derive(Debug, Default)]
struct ScriptInner {
    funded: Mutex<HashSet<Address>>,
    jobs: Mutex<HashMap<JobId, JobFacts>>,
    seats: Mutex<HashMap<(JobId, GroupIndex, SeatIndex), Address>>,
    down: AtomicBool,
}

impl Script {
    pub(crate) fn fund(&self, account: &Account) {
        self.0.funded.lock().unwrap().insert(account.address());
    }

    pub(crate) fn open(&self, job: JobId, buyer: &Account) {
        self.0.jobs.lock().unwrap().insert(
            job,
            JobFacts {
                buyer: buyer.address(),
                token: TOKEN,
            },
        );
    }

    pub(crate) fn seat(&self, job: JobId, group: u32, seat: u8, provider: &Account) {
        let key = (job, GroupIndex::new(group), SeatIndex::new(seat));
        self.0.seats.lock().unwrap().insert(key, provider.address());
    }

    pub(crate) fn break_down(&self) {
        self.0.down.store(true, Ordering::Relaxed);
    }

    fn answer<T>(&self, answer: T) -> Result<T, StandingError> {
        if self.0.down.load(Ordering::Relaxed) {
            return Err(StandingError {
                reason: "connection refused".to_owned(),
            });
        }
        Ok(answer)
    }
}

#[async_trait]
impl Market for Script {
    async fn job(&self, job: JobId) -> Result<Option<JobFacts>, StandingError> {
        self.answer(self.0.jobs.lock().unwrap().get(&job).copied())
    }

    async fn has_funds(&self, account: Address, _: Address) -> Result<bool, StandingError> {
        self.answer(self.0.funded.lock().unwrap().contains(&account))
    }

    async fn seat(
        &self,
        job: JobId,
        group: GroupIndex,
        seat: SeatIndex,
    ) -> Result<Option<Address>, StandingError> {
        self.answer(self.0.seats.lock().unwrap().get(&(job, group, seat)).copied())
    }
}

/// A clock that tests move.
#[derive(Clone, Debug)]
pub(crate) struct Hands(Arc<AtomicU64>);

impl Hands {
    pub(crate) fn now() -> Self {
        Self(Arc::new(AtomicU64::new(Clock::system().now().get())))
    }

    pub(crate) fn time(&self) -> UnixSeconds {
        UnixSeconds::new(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn after(&self, seconds: u64) -> UnixSeconds {
        self.time().saturating_add(Seconds::new(seconds))
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(crate) fn clock(&self) -> Clock {
        let hands = self.clone();
        Clock::from_fn(move || hands.time())
    }
}

/// Something that listens until it is dropped.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) client: GatewayClient,
    pub(crate) registry: Registry,
    pub(crate) gateway: Option<Gateway>,
    stop: CancellationToken,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Site {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A counter's value, by its line in the metrics.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        // The registry holds whole numbers as floats; the text form is exact.
        family
            .get_metric()
            .iter()
            .map(|metric| {
                metric
                    .get_counter()
                    .get_value()
                    .to_string()
                    .parse::<u64>()
                    .unwrap()
            })
            .sum()
    }

    pub(crate) async fn sweep(&self) {
        self.gateway.as_ref().unwrap().sweep().await.unwrap();
    }
}

/// A plain HTTP client, for what no client of ours would send.
pub(crate) fn http() -> reqwest::Client {
    // The first of many tests in this process installs it; for the others it is there already.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::new()
}

/// A client that gives up at once.
pub(crate) fn client(urls: &[String]) -> GatewayClient {
    let mut config = ClientConfig::new(urls.iter().cloned());
    config.retry = RetryPolicy::none();
    GatewayClient::new(config).unwrap()
}

pub(crate) async fn listening(router: axum::Router) -> (SocketAddr, CancellationToken) {
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, router, ServeLimits::default(), stop.clone()));
    (address, stop)
}

pub(crate) async fn gateway_with(folder: &Path, script: &Script, hands: &Hands, limits: Limits) -> Site {
    let registry = Registry::new();
    let parts = GatewayParts {
        store: Store::local(folder).unwrap(),
        domain: DOMAIN,
        standings: Standings::new(Box::new(script.clone()), DOMAIN.market, vec![TOKEN]),
        signer: Arc::new(account(0).0),
        limits,
        clock: hands.clock(),
    };
    let gateway = Gateway::new(parts, &registry).unwrap();
    let (address, stop) = listening(gateway.router()).await;
    let client = client(&[format!("http://{address}")]);
    Site {
        address,
        client,
        registry,
        gateway: Some(gateway),
        stop,
    }
}

pub(crate) async fn gateway(folder: &Path, script: &Script) -> Site {
    gateway_with(folder, script, &Hands::now(), Limits::default()).await
}

pub(crate) async fn relay(cache: &Path, provider: &Account, upstream: &[String]) -> Site {
    let registry = Registry::new();
    let parts = RelayParts {
        upstream: client(upstream),
        egress: EgressRules {
            private: vec!["127.0.0.0/8".parse().unwrap()],
            connections: 4,
            connections_per_job: 2,
        },
        spread: Spread::All,
        provider: provider.address(),
        domain: DOMAIN,
        cache: cache.to_owned(),
        cache_bytes: 1 << 30,
        limits: Limits::default(),
        clock: Clock::system(),
    };
    let (address, stop) = listening(Relay::new(parts, &registry).unwrap().router()).await;
    Site {
        address,
        client: client(&[format!("http://{address}")]),
        registry,
        gateway: None,
        stop,
    }
}

pub(crate) fn upload(grant: &GrantToken) -> Upload<'_> {
    Upload {
        grant,
        retain_until: None,
        spread: Spread::First,
    }
}

/// Bytes that no compression and no accident makes equal.
pub(crate) fn content(length: usize, seed: u8) -> Bytes {
    let mut bytes = vec![0; length];
    fill(seed, &mut bytes);
    Bytes::from(bytes)
}

fn fill(seed: u8, bytes: &mut [u8]) {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
}

/// Waits until something is so, and fails where it never is.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what} never came");
}
