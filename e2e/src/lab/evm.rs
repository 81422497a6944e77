//! The lab's EVM node: anvil, in the services namespace, with its well-known development accounts.

use std::fs;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::Lab;
use super::error::LabError;
use super::places::SERVICES_ADDRESS;
use super::process::{Launch, Place};
use super::raising::Raising;
use super::spec::EvmSpec;

const PORT: u16 = 8545;
const COMPONENT: &str = "services/evm";
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Longer than any block time, shorter than anyone's patience.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A development account: address and private key, public knowledge, each with 10,000 units at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevAccount {
    /// The address, checksummed.
    pub address: &'static str,
    /// The private key.
    pub key: &'static str,
}

/// The accounts that anvil derives from its development mnemonic.
pub const DEV_ACCOUNTS: [DevAccount; 10] = [
    DevAccount {
        address: "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        key: "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    },
    DevAccount {
        address: "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        key: "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    },
    DevAccount {
        address: "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
        key: "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    },
    DevAccount {
        address: "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
        key: "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    },
    DevAccount {
        address: "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65",
        key: "0x47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    },
    DevAccount {
        address: "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc",
        key: "0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
    },
    DevAccount {
        address: "0x976EA74026E726554dB657fA54763abd0C3a0aa9",
        key: "0x92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
    },
    DevAccount {
        address: "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955",
        key: "0x4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
    },
    DevAccount {
        address: "0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f",
        key: "0xdbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
    },
    DevAccount {
        address: "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720",
        key: "0x2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
    },
];

/// A number as the node writes it; `None` where it is none.
pub fn quantity(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}

/// Starts the node, and waits until it answers.
pub(super) async fn raise(raising: &Raising<'_>, spec: &EvmSpec) -> Result<(), LabError> {
    let data = raising.places.data().join("services");
    fs::create_dir_all(&data).map_err(LabError::io(format!("make {}", data.display())))?;
    let mut argv = vec![
        raising.toolchain.anvil().display().to_string(),
        "--silent".to_owned(),
    ];
    let mut flag = |name: &str, value: String| argv.extend([format!("--{name}"), value]);
    flag("host", SERVICES_ADDRESS.to_string());
    flag("port", PORT.to_string());
    flag("chain-id", spec.chain_id.to_string());
    flag("slots-in-an-epoch", spec.slots_in_an_epoch.to_string());
    // Written when it is asked to end, read when it starts: what lets a stopped node go on.
    flag("state", data.join("evm-state.json").display().to_string());
    if let Some(seconds) = spec.block_time_s {
        flag("block-time", seconds.to_string());
    }
    let record = raising.roster.start(Launch {
        name: COMPONENT.to_owned(),
        argv,
        place: Place::Network(raising.places.services_namespace()),
        cgroup_members: raising.cgroups.members(&raising.services_cgroup()),
        log: raising.places.log(COMPONENT),
    })?;
    raising
        .wait("the EVM node", READY_WITHIN, &[&record], answers)
        .await?;
    raising.progress.say(format!("EVM node ready at {}", url()));
    Ok(())
}

async fn answers() -> bool {
    call("eth_chainId", &json!([])).await.is_ok()
}

fn url() -> String {
    format!("http://{SERVICES_ADDRESS}:{PORT}")
}

/// The EVM node of a lab that is up.
#[derive(Clone, Copy, Debug)]
pub struct Evm<'lab> {
    pub(super) lab: &'lab Lab,
}

impl Evm<'_> {
    /// Its JSON-RPC endpoint, for pods and for the driver alike.
    pub fn url(&self) -> String {
        url()
    }

    /// The accounts that can pay from the first block on.
    pub fn accounts(&self) -> &'static [DevAccount] {
        &DEV_ACCOUNTS
    }

    /// Calls a JSON-RPC method, `anvil_reorg` and its kin among them.
    pub async fn rpc(&self, method: &str, params: Value) -> Result<Value, LabError> {
        call(method, &params).await
    }

    /// Asks the node at that address, and gives its whole answer, an error too.
    pub(crate) async fn ask(url: &str, method: &str, params: &Value) -> Result<Value, LabError> {
        exchange(url, method, params).await
    }

    /// Makes no more blocks by itself: what is sent waits, until [`Self::block_at`] or [`Self::go_on`].
    pub async fn hold(&self) -> Result<(), LabError> {
        self.make_blocks_every(0).await
    }

    /// Makes blocks by itself again, as the lab's shape says.
    pub async fn go_on(&self) -> Result<(), LabError> {
        self.make_blocks_every(self.lab.spec.evm.block_time_s.unwrap_or(1))
            .await
    }

    async fn make_blocks_every(&self, seconds: u32) -> Result<(), LabError> {
        self.rpc("evm_setIntervalMining", json!([seconds]))
            .await
            .map(drop)
    }

    /// Makes one block with all that waits, and with exactly this time, which must be after the newest block's. The
    /// chain's clock goes on from there.
    pub async fn block_at(&self, unix_seconds: u64) -> Result<(), LabError> {
        self.rpc("evm_setNextBlockTimestamp", json!([unix_seconds]))
            .await?;
        self.rpc("evm_mine", json!([])).await.map(drop)
    }

    /// Forgets what waits of that account, as a node does that restarts.
    pub async fn forget_pending(&self, account: &str) -> Result<(), LabError> {
        self.rpc("anvil_removePoolTransactions", json!([account]))
            .await
            .map(drop)
    }

    /// Ends the node; it writes down its chain first.
    pub fn stop(&self) -> Result<(), LabError> {
        self.lab.roster.end(COMPONENT, Signal::TERM)
    }

    /// Starts a stopped node, and waits until it answers.
    pub async fn start(&self) -> Result<(), LabError> {
        let record = self.lab.roster.start_again(COMPONENT)?;
        let late = || LabError::Late {
            waiting_for: "the EVM node".to_owned(),
            seconds: READY_WITHIN.as_secs(),
            logs: record.launch.log.clone(),
        };
        let ready = async {
            while !answers().await {
                if !record.alive() {
                    return Err(record.ended("its answer"));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        tokio::time::timeout(READY_WITHIN, ready)
            .await
            .map_err(|_| late())?
    }

    /// Makes the node hang: connections are accepted, and nothing is answered. Returns once that is so.
    pub fn freeze(&self) -> Result<(), LabError> {
        let node = self.lab.roster.find(COMPONENT)?;
        node.signal(Signal::STOP)?;
        node.wait_stopped(READY_WITHIN)
    }

    /// Lets a frozen node go on.
    pub fn thaw(&self) -> Result<(), LabError> {
        self.lab.roster.find(COMPONENT)?.signal(Signal::CONT)
    }
}

async fn call(method: &str, params: &Value) -> Result<Value, LabError> {
    let mut answer = Evm::ask(&url(), method, params).await?;
    match answer.get("error") {
        Some(error) => Err(LabError::Evm {
            method: method.to_owned(),
            reason: error.to_string(),
        }),
        None => Ok(answer["result"].take()),
    }
}

async fn exchange(url: &str, method: &str, params: &Value) -> Result<Value, LabError> {
    let failed = |reason: String| LabError::Evm {
        method: method.to_owned(),
        reason,
    };
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let request = http::Request::post(url)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(bytes::Bytes::from(body)))
        .map_err(|error| failed(error.to_string()))?;
    let exchange = async {
        let client = HttpClient::builder(TokioExecutor::new()).build_http();
        let response = client
            .request(request)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| failed(error.to_string()))?;
        serde_json::from_slice::<Value>(&body.to_bytes()).map_err(|error| failed(error.to_string()))
    };
    tokio::time::timeout(ANSWER_WITHIN, exchange)
        .await
        .map_err(|_| failed(format!("no answer within {} s", ANSWER_WITHIN.as_secs())))?
}
