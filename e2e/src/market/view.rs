//! The lab's EVM node as another node might show it: one that lags behind, or one that lies about its newest block.
//!
//! Test equipment: a node's address for operators to be pointed at. It passes everything on and changes only what such
//! a node would answer differently.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::error::MarketError;
use crate::lab::{Evm, Lab, LabError};

/// How far ahead of the truth a lie is: too far to be a node's being quicker.
const LIE_BLOCKS: u64 = 1_000;
/// How far behind its newest block the lab's node has the final one.
const FINALITY_BLOCKS: u64 = 2;
/// JSON-RPC's code for errors of the server's own.
const SERVER_ERROR: i64 = -32_000;

/// What the node seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seeming {
    /// What it is.
    True,
    /// One that has nothing after this block.
    Behind(u64),
    /// One that claims a newest block that nobody has.
    Lying,
}

/// A view of the lab's node. It ends when it is dropped.
#[derive(Debug)]
pub struct View {
    seeming: Arc<Mutex<Seeming>>,
    address: String,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Shown {
    seeming: Arc<Mutex<Seeming>>,
    node: String,
}

impl View {
    /// Opens it, truthful at first. To be called inside [`Lab::run`].
    pub async fn open(lab: &Lab) -> Result<Self, MarketError> {
        let doing = || "open a view of the EVM node".to_owned();
        let node = lab.evm().url();
        let host: Ipv4Addr = node
            .trim_start_matches("http://")
            .split(':')
            .next()
            .and_then(|host| host.parse().ok())
            .unwrap_or(Ipv4Addr::LOCALHOST);
        let listener = TcpListener::bind((host, 0))
            .await
            .map_err(LabError::io(doing()))?;
        let address = listener.local_addr().map_err(LabError::io(doing()))?;
        let seeming = Arc::new(Mutex::new(Seeming::True));
        let shown = Shown {
            seeming: Arc::clone(&seeming),
            node,
        };
        let router = Router::new().route("/", post(answer)).with_state(shown);
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the view of the EVM node ended: {error}");
            }
        });
        Ok(Self {
            seeming,
            address: format!("http://{address}"),
            server,
        })
    }

    /// Where operators find it.
    pub fn url(&self) -> &str {
        &self.address
    }

    /// From now on the node seems to be this.
    pub fn seem(&self, seeming: Seeming) {
        *self.seeming.lock().unwrap_or_else(PoisonError::into_inner) = seeming;
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(shown): State<Shown>, Json(request): Json<Value>) -> Json<Value> {
    let seeming = *shown.seeming.lock().unwrap_or_else(PoisonError::into_inner);
    let method = request["method"].as_str().unwrap_or_default().to_owned();
    let newest = request["params"][0] == "latest";
    let params = asked(seeming, &method, request["params"].clone());
    let id = request["id"].clone();
    Json(match Evm::ask(&shown.node, &method, &params).await {
        Ok(mut answer) => {
            if answer.get("result").is_some() {
                answer["result"] = answered(seeming, &method, newest, answer["result"].take());
            }
            answer["id"] = id;
            answer
        }
        Err(error) => {
            let error = json!({"code": SERVER_ERROR, "message": error.to_string()});
            json!({"jsonrpc": "2.0", "id": id, "error": error})
        }
    })
}

/// What is really asked of the node.
fn asked(seeming: Seeming, method: &str, mut params: Value) -> Value {
    let Seeming::Behind(head) = seeming else {
        return params;
    };
    let of_block = ["eth_getBlockByNumber"];
    let last = [
        "eth_call",
        "eth_estimateGas",
        "eth_getTransactionCount",
        "eth_getBalance",
        "eth_getCode",
    ];
    let place = if of_block.contains(&method) {
        Some(0)
    } else if last.contains(&method) || method == "eth_feeHistory" {
        Some(1)
    } else {
        None
    };
    if let Some(tag) = place.and_then(|place| params.get_mut(place)) {
        match tag.as_str() {
            Some("latest" | "pending") => *tag = json!(format!("{head:#x}")),
            Some("finalized" | "safe") => {
                *tag = json!(format!("{:#x}", head.saturating_sub(FINALITY_BLOCKS)));
            }
            Some(_) | None => {}
        }
    }
    params
}

/// What is told of the node's answer; `newest` where the newest block was asked for.
fn answered(seeming: Seeming, method: &str, newest: bool, mut result: Value) -> Value {
    match seeming {
        Seeming::True => result,
        Seeming::Behind(head) => {
            let beyond = |field: &str| number(&result[field]).is_some_and(|number| number > head);
            match method {
                "eth_blockNumber" => json!(format!("{head:#x}")),
                "eth_getBlockByNumber" | "eth_getBlockByHash" if beyond("number") => Value::Null,
                "eth_getTransactionReceipt" if beyond("blockNumber") => Value::Null,
                _ => result,
            }
        }
        Seeming::Lying => {
            if method == "eth_blockNumber" {
                return number(&result).map_or(result, |head| json!(format!("{:#x}", head + LIE_BLOCKS)));
            }
            if method == "eth_getBlockByNumber"
                && newest
                && let Some(head) = number(&result["number"])
            {
                result["number"] = json!(format!("{:#x}", head + LIE_BLOCKS));
                result["hash"] = json!(format!("0x{}", "de".repeat(32)));
            }
            result
        }
    }
}

fn number(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_lags_knows_nothing_after_its_head() {
        let behind = Seeming::Behind(0x10);
        assert_eq!(
            asked(behind, "eth_getBlockByNumber", json!(["latest", false])),
            json!(["0x10", false])
        );
        assert_eq!(
            asked(behind, "eth_getBlockByNumber", json!(["finalized", false])),
            json!(["0xe", false])
        );
        assert_eq!(
            asked(behind, "eth_call", json!([{}, "pending"])),
            json!([{}, "0x10"])
        );
        assert_eq!(
            answered(behind, "eth_blockNumber", false, json!("0x12")),
            json!("0x10")
        );
        let receipt = |block: &str| json!({"blockNumber": block});
        let told = |block: &str| answered(behind, "eth_getTransactionReceipt", false, receipt(block));
        assert_eq!(told("0x10"), receipt("0x10"));
        assert_eq!(told("0x11"), Value::Null);
    }

    #[test]
    fn a_node_that_lies_does_so_about_its_newest_block_alone() {
        let block = json!({"number": "0x10", "hash": "0x01"});
        let told = |newest| answered(Seeming::Lying, "eth_getBlockByNumber", newest, block.clone());
        assert_eq!(told(true)["number"], "0x3f8");
        assert_ne!(told(true)["hash"], "0x01");
        assert_eq!(
            told(false),
            block,
            "what is asked for by its number is what it is"
        );
        let count = json!("0x5");
        assert_eq!(
            answered(Seeming::Lying, "eth_getTransactionCount", false, count.clone()),
            count
        );
    }
}
