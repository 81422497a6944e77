//! A real EVM node for one test: anvil on a free port, ended with the test.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Once};

use serde_json::{Value, json};
use tradewind_chain::transport::{HttpConfig, HttpTransport, Transport};
use tradewind_chain::{LocalSigner, Node};

pub(crate) const CHAIN_ID: u64 = 31_337;

/// Keys of the accounts that every development node funds.
const KEYS: [&str; 6] = [
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "0x47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
];

pub(crate) fn key(account: usize) -> Arc<LocalSigner> {
    Arc::new(LocalSigner::from_hex(KEYS[account]).unwrap())
}

/// Where the contracts, their build and their pinned tools are. Built first, which is quick if nothing has changed.
pub(crate) fn contracts() -> PathBuf {
    static BUILD: Once = Once::new();
    let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/contracts");
    BUILD.call_once(|| {
        let built = Command::new(contracts.join("forge.sh"))
            .args(["build", "--quiet"])
            .output()
            .unwrap();
        assert!(
            built.status.success(),
            "forge.sh build: {}",
            String::from_utf8_lossy(&built.stderr)
        );
    });
    contracts
}

fn binary() -> PathBuf {
    let pinned = || contracts().join("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
    let path = std::env::var_os("TRADEWIND_ANVIL").map_or_else(pinned, PathBuf::from);
    assert!(
        path.exists(),
        "no anvil at {}: set TRADEWIND_ANVIL to its path",
        path.display()
    );
    path
}

/// A node that makes blocks only when told to, except while setting up.
#[derive(Debug)]
pub(crate) struct Anvil {
    process: Child,
    pub(crate) transport: Arc<dyn Transport>,
}

impl Anvil {
    pub(crate) fn start() -> Self {
        let mut process = Command::new(binary())
            // Finality is two blocks behind the newest.
            .args([
                "--port",
                "0",
                "--slots-in-an-epoch",
                "1",
                "--chain-id",
                &CHAIN_ID.to_string(),
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("Listening on ").map(str::to_owned))
            .expect("anvil says where it listens");
        // What it says later must be read, or it blocks.
        std::thread::spawn(move || lines.for_each(drop));
        let transport = HttpTransport::new(HttpConfig::new(format!("http://{address}"))).unwrap();
        Self {
            process,
            transport: Arc::new(transport),
        }
    }

    pub(crate) async fn node(&self) -> Node {
        Node::connect(self.transport.clone(), CHAIN_ID).await.unwrap()
    }

    async fn tell(&self, method: &str, params: Value) {
        self.transport.request(method, params).await.unwrap();
    }

    pub(crate) async fn automine(&self, on: bool) {
        self.tell("evm_setAutomine", json!([on])).await;
    }

    pub(crate) async fn mine(&self, blocks: u64) {
        for _ in 0..blocks {
            self.tell("evm_mine", json!([])).await;
        }
    }

    pub(crate) async fn pass_time(&self, seconds: u64) {
        self.tell("evm_increaseTime", json!([seconds])).await;
        self.mine(1).await;
    }

    /// Replaces the newest blocks by empty ones. Their transactions are gone.
    pub(crate) async fn reorganise(&self, depth: u64) {
        self.tell("anvil_reorg", json!([depth, []])).await;
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
