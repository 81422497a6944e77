//! A chain in memory that answers as a node does: one account, a pool, blocks, reorganisations and finality. It shows
//! what real development nodes do not: pools that forget or refuse low bids, transactions that return to the pool, and
//! branches of any length.
//!
//! Its one contract takes 32-byte ids. It logs each id once per call that took effect, numbered as events of the job
//! that has the id's last byte; `batch` runs several, each failing alone. Whether an id can take effect twice is set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use async_trait::async_trait;
use ethers::abi::{AbiDecode as _, ParamType, Token};
use ethers::types::Bytes;
use ethers::types::transaction::eip1559::Eip1559TransactionRequest;
use ethers::types::{NameOrAddress, U256};
use ethers::utils::{keccak256, rlp::Rlp};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tradewind_chain::Call;
use tradewind_chain::transport::{RpcError, Transport};
use tradewind_market::Address;

pub(crate) const CHAIN_ID: u64 = 31_337;
pub(crate) const FINALITY_DEPTH: u64 = 4;
pub(crate) const CONTRACT: Address = Address::from_bytes([0xc0; 20]);
const STEP_FAILED: &str = "StepFailed(uint256,bytes4,bytes)";

pub(crate) type Id = [u8; 32];

#[derive(Debug, Clone)]
struct Pooled {
    hash: [u8; 32],
    nonce: u64,
    max_fee: u128,
    tip: u128,
    gas: u64,
    to: Option<Address>,
    data: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Mined {
    tx: Pooled,
    succeeded: bool,
    logs: Vec<Value>,
    effects: Vec<Id>,
}

#[derive(Debug, Clone)]
struct Block {
    number: u64,
    hash: [u8; 32],
    parent: [u8; 32],
    txs: Vec<Mined>,
}

#[derive(Debug)]
struct State {
    blocks: Vec<Block>,
    pool: BTreeMap<u64, Pooled>,
    base_fee: u128,
    made: u64,
    /// The newest final height: it never goes back.
    finalized: u64,
    once_only: bool,
    log_limit: usize,
    withheld: BTreeSet<[u8; 32]>,
}

/// The chain. Shared by everyone who looks at it.
#[derive(Debug)]
pub(crate) struct SimulatedChain {
    account: Address,
    state: Mutex<State>,
}

fn hex(bytes: &[u8]) -> String {
    Bytes::from(bytes.to_vec()).to_string()
}

fn number(number: impl Into<U256>) -> Value {
    json!(format!("{:#x}", number.into()))
}

/// The job that an id's event belongs to.
pub(crate) fn job_of(id: &Id) -> [u8; 32] {
    let mut job = [0; 32];
    job[31] = id[31];
    job
}

impl SimulatedChain {
    /// `once_only`: the contract refuses an id that took effect before.
    pub(crate) fn new(account: Address, once_only: bool) -> Self {
        let genesis = Block {
            number: 0,
            hash: keccak256(b"genesis"),
            parent: [0; 32],
            txs: Vec::new(),
        };
        let state = State {
            blocks: vec![genesis],
            pool: BTreeMap::new(),
            base_fee: 1_000_000_000,
            made: 0,
            finalized: 0,
            once_only,
            log_limit: usize::MAX,
            withheld: BTreeSet::new(),
        };
        Self {
            account,
            state: Mutex::new(state),
        }
    }

    /// Calls the contract for an id.
    pub(crate) fn call(id: &Id) -> Call {
        Call {
            to: CONTRACT,
            data: id.to_vec(),
        }
    }

    pub(crate) fn head(&self) -> u64 {
        self.state.lock().unwrap().head().number
    }

    /// Puts an effect into the next block without any account: for tests of following alone.
    pub(crate) fn emit(&self, id: Id) {
        let mut state = self.state.lock().unwrap();
        let nonce = u64::MAX - state.made;
        let hash = keccak256([&id[..], &state.made.to_be_bytes()].concat());
        state.made += 1;
        let (to, data) = (Some(CONTRACT), id.to_vec());
        state.pool.insert(
            nonce,
            Pooled {
                hash,
                nonce,
                max_fee: u128::MAX,
                tip: 0,
                gas: u64::MAX,
                to,
                data,
            },
        );
    }

    /// Makes a block of what is in the pool and pays enough, at most `transactions_max`.
    pub(crate) fn mine(&self, transactions_max: usize) {
        self.state.lock().unwrap().mine(transactions_max);
    }

    /// Takes blocks off that are not final. Their transactions return to the pool, or are forgotten.
    pub(crate) fn reorganise(&self, depth: u64, to_pool: bool) {
        let mut state = self.state.lock().unwrap();
        for _ in 0..depth {
            if state.head().number == state.finalized {
                break;
            }
            let block = state.blocks.pop().unwrap();
            if to_pool {
                let nonces = block.txs.into_iter().map(|mined| (mined.tx.nonce, mined.tx));
                state.pool.extend(nonces);
            }
        }
    }

    /// Breaks the promise of finality.
    pub(crate) fn reorganise_final(&self, depth: usize) {
        let mut state = self.state.lock().unwrap();
        let left = state.blocks.len() - depth;
        state.blocks.truncate(left);
        for _ in 0..=depth {
            state.mine(0);
        }
    }

    pub(crate) fn forget_pool(&self) {
        self.state.lock().unwrap().pool.clear();
    }

    pub(crate) fn set_base_fee(&self, base_fee: u128) {
        self.state.lock().unwrap().base_fee = base_fee;
    }

    /// Answers with at most this many logs, and refuses questions that have more.
    pub(crate) fn limit_logs(&self, limit: usize) {
        self.state.lock().unwrap().log_limit = limit;
    }

    /// Leaves the logs of these blocks out of answers from now on.
    pub(crate) fn withhold(&self, blocks: impl IntoIterator<Item = [u8; 32]>) {
        self.state.lock().unwrap().withheld = blocks.into_iter().collect();
    }

    pub(crate) fn hash_of(&self, number: u64) -> [u8; 32] {
        self.state.lock().unwrap().blocks[usize::try_from(number).unwrap()].hash
    }

    /// Every effect on the branch that counts, oldest first, with its block.
    pub(crate) fn effects(&self) -> Vec<(u64, [u8; 32], Id)> {
        let state = self.state.lock().unwrap();
        let of_block = |block: &Block| {
            let (number, hash) = (block.number, block.hash);
            let effects: Vec<Id> = block.txs.iter().flat_map(|mined| mined.effects.clone()).collect();
            effects.into_iter().map(move |id| (number, hash, id))
        };
        state.blocks.iter().flat_map(of_block).collect()
    }

    /// How many transactions of the account are on the branch that counts.
    pub(crate) fn transactions(&self) -> u64 {
        self.state.lock().unwrap().nonce_after(usize::MAX)
    }
}

impl State {
    fn head(&self) -> &Block {
        self.blocks.last().unwrap()
    }

    fn nonce_after(&self, blocks: usize) -> u64 {
        let real = |mined: &&Mined| mined.tx.nonce < 1 << 32;
        self.blocks
            .iter()
            .take(blocks)
            .flat_map(|block| &block.txs)
            .filter(real)
            .count() as u64
    }

    fn mine(&mut self, transactions_max: usize) {
        self.made += 1;
        let (number, parent) = (self.head().number + 1, self.head().hash);
        let hash = keccak256([parent, keccak256(self.made.to_be_bytes())].concat());
        self.blocks.push(Block {
            number,
            hash,
            parent,
            txs: Vec::new(),
        });
        self.finalized = self.finalized.max(number.saturating_sub(FINALITY_DEPTH));
        for _ in 0..transactions_max {
            let next = self.nonce_after(usize::MAX);
            let ready = self
                .pool
                .keys()
                .copied()
                .find(|nonce| *nonce == next || *nonce >= 1 << 32);
            let Some(nonce) = ready.filter(|nonce| self.pool[nonce].max_fee >= self.base_fee) else {
                break;
            };
            let tx = self.pool.remove(&nonce).unwrap();
            let mined = self.execute(tx);
            self.blocks.last_mut().unwrap().txs.push(mined);
        }
    }

    /// Each id's effect, or `None` where it fails.
    fn run(&self, ids: &[Id]) -> Vec<Option<Id>> {
        let mut done: BTreeSet<Id> = self
            .blocks
            .iter()
            .flat_map(|block| &block.txs)
            .flat_map(|mined| mined.effects.clone())
            .collect();
        let once_only = self.once_only;
        ids.iter()
            .map(|id| (done.insert(*id) || !once_only).then_some(*id))
            .collect()
    }

    fn execute(&self, tx: Pooled) -> Mined {
        let (ids, shared) = ids_in(&tx.data);
        if tx.to != Some(CONTRACT) {
            return Mined {
                tx,
                succeeded: true,
                logs: Vec::new(),
                effects: Vec::new(),
            };
        }
        let outcomes = self.run(&ids);
        if !shared && outcomes[0].is_none() {
            return Mined {
                tx,
                succeeded: false,
                logs: Vec::new(),
                effects: Vec::new(),
            };
        }
        let block = self.head();
        let first = block.txs.iter().map(|mined| mined.logs.len()).sum::<usize>();
        let mut sequences: BTreeMap<[u8; 32], u64> = BTreeMap::new();
        let earlier = self
            .blocks
            .iter()
            .flat_map(|block| &block.txs)
            .flat_map(|mined| &mined.effects);
        earlier.for_each(|id| *sequences.entry(job_of(id)).or_default() += 1);
        let mut logs = Vec::new();
        for (step, outcome) in outcomes.iter().enumerate() {
            let (topics, data) = if let Some(id) = outcome {
                let sequence = sequences.entry(job_of(id)).or_default();
                *sequence += 1;
                (vec![keccak256(b"Effect"), *id], sequence.to_be_bytes().to_vec())
            } else {
                let mut index = [0; 32];
                index[31] = u8::try_from(step).unwrap();
                let reason = ethers::abi::encode(&[Token::Bytes(vec![7])]);
                (vec![keccak256(STEP_FAILED.as_bytes()), index, [0; 32]], reason)
            };
            logs.push(json!({
                "address": CONTRACT,
                "topics": topics.iter().map(|topic| hex(topic)).collect::<Vec<_>>(),
                "data": hex(&data),
                "blockNumber": number(block.number),
                "blockHash": hex(&block.hash),
                "transactionHash": hex(&tx.hash),
                "logIndex": number(first + logs.len()),
                "removed": false,
            }));
        }
        Mined {
            tx,
            succeeded: true,
            logs,
            effects: outcomes.into_iter().flatten().collect(),
        }
    }

    fn find(&self, tag: &Value) -> Option<usize> {
        let head = self.blocks.len() - 1;
        match tag {
            Value::String(tag) if tag == "latest" || tag == "pending" => Some(head),
            Value::String(tag) if tag == "finalized" => usize::try_from(self.finalized).ok(),
            Value::String(tag) => {
                let number = usize::from_str_radix(tag.trim_start_matches("0x"), 16).unwrap();
                (number <= head).then_some(number)
            }
            other => self
                .blocks
                .iter()
                .position(|block| json!(hex(&block.hash)) == other["blockHash"]),
        }
    }

    fn show(&self, at: usize) -> Value {
        let block = &self.blocks[at];
        json!({
            "number": number(block.number),
            "hash": hex(&block.hash),
            "parentHash": hex(&block.parent),
            "timestamp": number(1_700_000_000 + block.number),
            "gasLimit": number(30_000_000),
        })
    }

    fn receipt(&self, hash: &Value) -> Value {
        for block in &self.blocks {
            if let Some(mined) = block.txs.iter().find(|mined| json!(hex(&mined.tx.hash)) == *hash) {
                return json!({
                    "transactionHash": hash,
                    "blockNumber": number(block.number),
                    "blockHash": hex(&block.hash),
                    "status": number(u64::from(mined.succeeded)),
                    "gasUsed": number(mined.tx.gas),
                    "logs": mined.logs,
                });
            }
        }
        Value::Null
    }

    fn accept(&mut self, raw: &str) -> Result<Value, String> {
        let raw: Bytes = raw.parse().map_err(|_| "no hex".to_owned())?;
        let (tx, _) = Eip1559TransactionRequest::decode_signed_rlp(&Rlp::new(&raw[1..]))
            .map_err(|error| error.to_string())?;
        let hash = keccak256(&raw);
        let nonce = tx.nonce.unwrap().as_u64();
        let to = match tx.to {
            Some(NameOrAddress::Address(to)) => Some(Address::from_bytes(to.0)),
            _ => None,
        };
        let (max_fee, tip) = (
            tx.max_fee_per_gas.unwrap().as_u128(),
            tx.max_priority_fee_per_gas.unwrap().as_u128(),
        );
        let pooled = Pooled {
            hash,
            nonce,
            max_fee,
            tip,
            gas: tx.gas.unwrap().as_u64(),
            to,
            data: tx.data.unwrap_or_default().to_vec(),
        };
        if nonce < self.nonce_after(usize::MAX) {
            return Err("nonce too low".to_owned());
        }
        if let Some(old) = self.pool.get(&nonce) {
            if old.hash == hash {
                return Err("already known".to_owned());
            }
            if max_fee * 10 < old.max_fee * 11 || tip * 10 < old.tip * 11 {
                return Err("replacement transaction underpriced".to_owned());
            }
        }
        self.pool.insert(nonce, pooled);
        Ok(json!(hex(&hash)))
    }

    fn logs(&self, filter: &Value) -> Result<Value, String> {
        let blocks: Vec<&Block> = if filter["blockHash"].is_null() {
            let (from, to) = (self.find(&filter["fromBlock"]), self.find(&filter["toBlock"]));
            let (Some(from), Some(to)) = (from, to) else {
                return Err("block range is beyond the head".to_owned());
            };
            self.blocks[from..=to].iter().collect()
        } else {
            let at = self
                .find(&json!({"blockHash": filter["blockHash"]}))
                .ok_or("unknown block")?;
            vec![&self.blocks[at]]
        };
        let shown = blocks
            .into_iter()
            .filter(|block| !self.withheld.contains(&block.hash));
        let logs: Vec<&Value> = shown
            .flat_map(|block| &block.txs)
            .flat_map(|mined| &mined.logs)
            .collect();
        if logs.len() > self.log_limit {
            Err("query returns too many results".to_owned())
        } else {
            Ok(json!(logs))
        }
    }

    fn answer(&mut self, method: &str, params: &Value) -> Result<Value, (i64, String)> {
        let plain = |message: String| (-32000, message);
        let reverted = || (3, "execution reverted".to_owned());
        Ok(match method {
            "eth_chainId" => number(CHAIN_ID),
            "eth_getBlockByNumber" => self.find(&params[0]).map_or(Value::Null, |at| self.show(at)),
            "eth_getBlockByHash" => self
                .find(&json!({"blockHash": params[0]}))
                .map_or(Value::Null, |at| self.show(at)),
            "eth_getTransactionCount" => {
                let at = self
                    .find(&params[1])
                    .ok_or_else(|| plain("unknown block".to_owned()))?;
                let mut nonce = self.nonce_after(at + 1);
                if params[1] == "pending" {
                    while self.pool.contains_key(&nonce) {
                        nonce += 1;
                    }
                }
                number(nonce)
            }
            "eth_getTransactionReceipt" => self.receipt(&params[0]),
            "eth_getBalance" => number(U256::exp10(24)),
            "eth_feeHistory" => json!({
                "baseFeePerGas": [number(self.base_fee), number(self.base_fee)],
                "reward": [[number(1_000_000_000)]],
            }),
            "eth_estimateGas" => {
                let data: Bytes = params[0]["data"].as_str().unwrap().parse().unwrap();
                let (ids, _) = ids_in(&data);
                if self.run(&ids)[0].is_none() {
                    return Err(reverted());
                }
                number(50_000)
            }
            "eth_call" => {
                let data: Bytes = params[0]["data"].as_str().unwrap().parse().unwrap();
                let (ids, _) = ids_in(&data);
                let succeeded = self.run(&ids).into_iter().flatten().count();
                json!(hex(&ethers::abi::encode(&[Token::Uint(succeeded.into())])))
            }
            "eth_sendRawTransaction" => self.accept(params[0].as_str().unwrap()).map_err(plain)?,
            "eth_getLogs" => self.logs(&params[0]).map_err(plain)?,
            other => return Err((-32601, format!("no method {other}"))),
        })
    }
}

/// The ids that calldata asks for, and whether it shares.
fn ids_in(data: &[u8]) -> (Vec<Id>, bool) {
    if let Ok(id) = <[u8; 32]>::try_from(data) {
        return (vec![id], false);
    }
    if data.len() < 4 {
        return (vec![[0; 32]], false);
    }
    let kind = [ParamType::Array(Box::new(ParamType::Bytes))];
    let calls = ethers::abi::decode(&kind, &data[4..])
        .unwrap()
        .remove(0)
        .into_array()
        .unwrap();
    let ids = calls.into_iter().map(|call| call.into_bytes().unwrap());
    (ids.map(|id| <[u8; 32]>::decode(id).unwrap()).collect(), true)
}

#[async_trait]
impl Transport for SimulatedChain {
    async fn request(&self, method: &str, params: Value) -> Result<Box<RawValue>, RpcError> {
        assert!(self.account != Address::ZERO);
        let answer = self.state.lock().unwrap().answer(method, &params);
        match answer {
            Ok(answer) => Ok(RawValue::from_string(answer.to_string()).unwrap()),
            Err((code, message)) => Err(RpcError::Node {
                method: method.to_owned(),
                code,
                message,
                data: None,
            }),
        }
    }
}
