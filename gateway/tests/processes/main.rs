//! The program itself: two gateways over one folder and a relay in front of them, as processes, on a real chain.
//!
//! Needs the compiled contracts and anvil in `deploy/contracts` (`deploy/contracts/forge.sh build`), or anvil at
//! `TRADEWIND_ANVIL`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use bytes::Bytes;
use serde_json::Value;
use tradewind_chain::{
    LocalSigner, Node, Preimage, Signer, calls, contracts,
    read::Parameters,
    transport::{HttpConfig, HttpTransport},
};
use tradewind_gateway_api::{
    client::{ClientConfig, Download, GatewayClient, RetryPolicy, Spread, Upload},
    grant::GrantToken,
    wire::{Reason, ReceiptRequest, ReceiptUnit},
};
use tradewind_market::{
    Address, Bps, Hash32, JobId, Nonce, RoundId, Seconds, TokenAmount, UnixSeconds,
    document::StorageGrant,
    eip712::{Domain, StructHash},
    message::HexBytes,
};
use tradewind_result::ContentDigest;

const CHAIN_ID: u64 = 31_337;

/// Keys of the accounts that every development node funds: deployer, provider, stranger, gateway.
const KEYS: [&str; 4] = [
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
];

fn key(index: usize) -> LocalSigner {
    LocalSigner::from_hex(KEYS[index]).unwrap()
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn deployed_contracts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/contracts")
}

fn anvil() -> (Running, String) {
    let pinned = || deployed_contracts().join("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
    let path = std::env::var_os("TRADEWIND_ANVIL").map_or_else(pinned, PathBuf::from);
    assert!(
        path.exists(),
        "no anvil at {}: run deploy/contracts/forge.sh build",
        path.display()
    );
    let mut process = Command::new(path)
        .args(["--port", "0", "--chain-id", &CHAIN_ID.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
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
    (Running(process), format!("http://{address}"))
}

/// Starts the program and waits until it says that it serves; gives its address.
fn program(arguments: &[String]) -> (Running, SocketAddr) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_tradewind-gateway"))
        .args(arguments)
        .args([
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--grace",
            "5",
        ])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let entry: Value = serde_json::from_str(&line).unwrap_or_default();
        said.push(line);
        (entry["message"] == "serving").then(|| entry["address"].as_str().unwrap().parse().unwrap())
    });
    let address = address.unwrap_or_else(|| panic!("it never served: {said:#?}"));
    std::thread::spawn(move || lines.for_each(drop));
    (Running(process), address)
}

fn client(address: SocketAddr) -> GatewayClient {
    let mut config = ClientConfig::new([format!("http://{address}")]);
    config.retry = RetryPolicy::none();
    GatewayClient::new(config).unwrap()
}

async fn grant(signer: &LocalSigner, domain: Domain) -> GrantToken {
    let grant = StorageGrant {
        signer: signer.address(),
        job_id: JobId::ZERO,
        holder: Hash32::ZERO,
        max_bytes: 1 << 30,
        expires: UnixSeconds::new(4_000_000_000),
        nonce: Nonce::new(1),
    };
    let signature = signer
        .sign(&Preimage::typed_data(domain.separator(), grant.struct_hash()))
        .await
        .unwrap();
    GrantToken::new(grant, HexBytes(signature.as_bytes().to_vec())).unwrap()
}

/// A market on the chain, in which the provider has a bond.
async fn market(rpc: &str) -> (Domain, Address) {
    let node = Node::connect(
        Arc::new(HttpTransport::new(HttpConfig::new(rpc)).unwrap()),
        CHAIN_ID,
    )
    .await
    .unwrap();
    let (deployer, provider) = (key(0), key(1));
    let parameters = Parameters {
        fee_bps: Bps::new(150),
        unbond_delay: Seconds::new(60),
    };
    let deployment = contracts::deploy_market(&node, &deployer, &deployed_contracts(), &parameters)
        .await
        .unwrap();
    let token = contracts::deploy_lab_token(&node, &deployer, &deployed_contracts())
        .await
        .unwrap();
    let (market, amount) = (deployment.market, TokenAmount::from_base_units(1000));
    for call in [
        calls::mint(token, provider.address(), amount),
        calls::approve(token, market, amount),
        calls::deposit(market, token, amount, Hash32::from_bytes([1; 32])),
        calls::post_bond(market, token, amount, Hash32::from_bytes([2; 32])),
    ] {
        contracts::send(&node, &provider, &call).await.unwrap();
    }
    (
        Domain {
            chain_id: CHAIN_ID,
            market,
        },
        token,
    )
}

#[tokio::test]
async fn two_gateways_over_one_folder_are_one_and_a_relay_stands_before_them() {
    let folder = tempfile::tempdir().unwrap();
    let (_chain, rpc) = anvil();
    let (domain, token) = market(&rpc).await;
    let key_file = folder.path().join("key");
    std::fs::File::create(&key_file)
        .unwrap()
        .write_all(KEYS[3].as_bytes())
        .unwrap();
    let of_market = [
        format!("--chain-id={CHAIN_ID}"),
        format!("--market={}", domain.market),
    ];
    let gateway_flags = [
        format!("--store={}", folder.path().join("store").display()),
        format!("--chain-rpc={rpc}"),
        format!("--key-file={}", key_file.display()),
        format!("--token={token}"),
    ];
    let arguments = [of_market.as_slice(), &gateway_flags].concat();
    let (one_process, one) = program(&arguments);
    let (_other_process, other) = program(&arguments);
    let relay_flags = [
        "--role=relay".to_owned(),
        format!("--upstream=http://{one},http://{other}"),
        "--spread=first".to_owned(),
        format!("--provider={}", key(1).address()),
        format!("--cache={}", folder.path().join("cache").display()),
    ];
    let (_relay_process, relay) = program(&[of_market.as_slice(), &relay_flags].concat());
    let (one, other, relay) = (client(one), client(other), client(relay));

    // A pod stores through the relay at one gateway, and the other has it.
    let granted = grant(&key(1), domain).await;
    let upload = Upload {
        grant: &granted,
        retain_until: None,
        spread: Spread::First,
    };
    let content = Bytes::from(b"an output, sealed. ".repeat(300_000));
    let digest = ContentDigest::of(&content);
    relay.put_bytes(content.clone(), &upload).await.unwrap();
    let download = Download {
        digest,
        bytes_max: 1 << 30,
    };
    assert_eq!(other.get_bytes(download).await.unwrap(), content);

    // The chain says who may store: the provider's bond counts, the stranger has none.
    let stranger = grant(&key(2), domain).await;
    let refused = one
        .put_bytes(
            content.clone(),
            &Upload {
                grant: &stranger,
                ..upload.clone()
            },
        )
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::NoStanding));

    // Both sign with one key, and the receipt of the second covers what came through the first.
    let request = ReceiptRequest {
        job: JobId::ZERO,
        round: RoundId::from_bytes([3; 32]),
        provider: key(1).address(),
        units: vec![ReceiptUnit {
            unit: 0,
            address: digest,
            length: content.len() as u64,
        }],
        until: UnixSeconds::new(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() + 3600),
    };
    let receipt = other.receipt(&request, &granted).await.unwrap();
    assert_eq!(receipt.statement.gateway, key(3).address());
    assert_eq!(one.about().await.unwrap().gateway, key(3).address());
    assert_eq!(one.receipt(&request, &granted).await.unwrap(), receipt);

    // One gateway dies without a word; pods go on, through the other.
    drop(one_process);
    relay
        .put_bytes(Bytes::from_static(b"another"), &upload)
        .await
        .unwrap();
    let stored = other.stat(ContentDigest::of(b"another")).await.unwrap();
    assert_eq!(stored.unwrap().bytes, 7);
}

#[test]
fn a_wrong_start_says_what_is_missing_and_ends_with_failure() {
    let output = Command::new(env!("CARGO_BIN_EXE_tradewind-gateway"))
        .args([
            "--chain-id=1",
            "--market=0x00000000000000000000000000000000000000aa",
            "--store=/nowhere",
        ])
        .args(["--admin-listen", "127.0.0.1:0"])
        .env_clear()
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the role gateway needs --chain-rpc"), "{said}");
}
