//! The operator as a process: connects to the API server, the chain and the gateways, competes for the lease,
//! and runs the roles' reconcilers while it holds it.
//!
//! It never reconciles anything itself.

pub(crate) mod chain;
pub(crate) mod context;
pub(crate) mod events;
mod journal;
pub(crate) mod leader;
pub(crate) mod metrics;
mod version;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use kube::Client;
use prometheus::Registry;
use tradewind_chain::{
    AccountNonce, Finality, LocalSigner, Node, Signer, Wei,
    follower::FollowerConfig,
    sender::{Sender, SenderConfig},
    transport::{HttpConfig, HttpTransport},
};
use tradewind_daemon::{About, Process};
use tradewind_gateway_api::client::{ClientConfig, GatewayClient};
use tradewind_market::{BlockNumber, UnixSeconds, eip712::Domain};

use crate::{
    args::{Args, ChainArgs},
    consumer, http,
    keys::Keys,
    provider,
    shell::{
        chain::{Chain, ChainTasks},
        context::{Context, Market},
        events::Events,
        journal::KubeJournal,
        leader::{Election, Leadership},
        metrics::Metrics,
    },
};

const LEASE: &str = "tradewind-operator";
const ADMIN_PORT: u16 = 8080;

/// The wall clock, for retries, leases and what people read. Protocol deadlines are compared with block times.
pub(crate) fn now() -> UnixSeconds {
    UnixSeconds::new(u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default())
}

/// Runs the operator until it is asked to end.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let about = About {
        program: "tradewind-operator",
        version: env!("CARGO_PKG_VERSION"),
        admin_listen: SocketAddr::from(([0, 0, 0, 0], ADMIN_PORT)),
    };
    let process = Process::start(&args.daemon, about, Registry::new()).await?;
    let context = connect(args, &process).await?;
    start_roles(&process, context);
    process.run().await.context("ended")
}

/// Connects to everything and starts what every replica runs: the follower, the sender, the election.
async fn connect(args: Args, process: &Process) -> anyhow::Result<Arc<Context>> {
    let metrics = Metrics::register(process.registry())?;
    let client = Client::try_default().await.context("no way to the API server")?;
    let server = version::check(&client).await?;
    let keys = Keys::read(&args.keys)?;
    let signer: Arc<dyn Signer> = Arc::new(LocalSigner::from_secret_file(&Keys::account_file(&args.keys))?);
    let domain = Domain {
        chain_id: args.chain.chain_id,
        market: args.chain.market,
    };
    let market = Market {
        domain,
        domain_separator: domain.separator(),
    };
    tracing::info!(%server, account = %signer.address(), market = %domain.market, role = ?args.role, "connected");

    let (election, leadership) = Election::new(
        client.clone(),
        &args.namespace,
        LEASE,
        &args.instance,
        args.leader,
    )?;
    let chain = start_chain(&args, process, &client, &signer, &leadership, &metrics).await?;
    process.spawn("election", election.run(process.shutdown()));
    process.spawn(
        "leader gauge",
        watch_leadership(leadership.clone(), metrics.clone(), process.shutdown()),
    );

    let gateways = GatewayClient::new(ClientConfig::new(args.gateways.iter().map(String::as_str)))?;
    let events = Events::new(client.clone(), &args.instance, metrics.event_failures.clone());
    Ok(Arc::new(Context {
        http: http::client()?,
        registry: process.registry().clone(),
        readiness: process.readiness().clone(),
        client,
        args,
        keys,
        signer,
        market,
        chain,
        gateways,
        metrics,
        events,
        leadership,
    }))
}

async fn start_chain(
    args: &Args,
    process: &Process,
    client: &Client,
    signer: &Arc<dyn Signer>,
    leadership: &Leadership,
    metrics: &Metrics,
) -> anyhow::Result<Chain> {
    let ChainArgs {
        rpc_url,
        chain_id,
        market,
        start_block,
        finality_depth,
        poll_ms,
        fee_cap_wei,
        fee_floor_wei,
        replace_after_blocks,
        adopt_nonces_below,
    } = &args.chain;
    let transport = Arc::new(HttpTransport::new(HttpConfig::new(rpc_url))?);
    let node = connect_node(transport, *chain_id, process).await?;
    let finality = finality_depth.map_or(Finality::Tag, Finality::Depth);
    let follow = FollowerConfig {
        finality,
        ..FollowerConfig::new(vec![*market], BlockNumber::new(*start_block))
    };
    let mut send = SenderConfig::new(*market);
    send.finality = finality;
    send.fees.max_fee_cap = Wei::new(*fee_cap_wei);
    send.fees.priority_floor = Wei::new(*fee_floor_wei);
    send.replace_after_blocks = *replace_after_blocks;
    send.observe_only = args.observe_only;
    send.adopt_nonces_below = adopt_nonces_below.map(AccountNonce::new);
    let journal = Arc::new(KubeJournal::new(client.clone(), &args.namespace));
    let sender = Sender::new(node.clone(), Arc::clone(signer), journal, send);
    let poll = Duration::from_millis(*poll_ms);
    let (tasks, chain) = ChainTasks::new(node, follow, sender, poll, metrics.chain.clone());
    let gate = process.readiness().gate("chain");
    process.spawn(
        "chain follower",
        Arc::clone(&tasks).follow(gate, process.shutdown()),
    );
    process.spawn("chain sender", tasks.send(leadership.clone(), process.shutdown()));
    Ok(chain)
}

/// A node that is down at the start is waited for: the process stays, not ready. A node of another chain is not.
async fn connect_node(
    transport: Arc<HttpTransport>,
    chain_id: u64,
    process: &Process,
) -> anyhow::Result<Node> {
    let gate = process.readiness().gate("node");
    let shutdown = process.shutdown();
    let mut wait = Duration::from_millis(250);
    loop {
        match Node::connect(Arc::clone(&transport) as _, chain_id).await {
            Ok(node) => {
                gate.open();
                return Ok(node);
            }
            Err(error) => match error.disposition() {
                tradewind_chain::Disposition::Retry => {
                    tracing::warn!(%error, "the chain's node does not answer; trying again");
                    gate.wait("the chain's node does not answer");
                }
                tradewind_chain::Disposition::AwaitChange | tradewind_chain::Disposition::Halt => {
                    return Err(error).context("the chain's node cannot be used");
                }
            },
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = wait.saturating_mul(2).min(Duration::from_secs(10)),
            () = shutdown.cancelled() => anyhow::bail!("asked to end before the chain's node answered"),
        }
    }
}

/// Starts the reconcilers of each role. Each waits for the lease before it acts.
fn start_roles(process: &Process, context: Arc<Context>) {
    if context.args.role.consumes() {
        process.spawn(
            "consumer",
            consumer::run(Arc::clone(&context), process.shutdown()),
        );
    }
    if context.args.role.provides() {
        process.spawn("provider", provider::run(context, process.shutdown()));
    }
}

async fn watch_leadership(
    mut leadership: Leadership,
    metrics: Metrics,
    shutdown: tradewind_daemon::CancellationToken,
) -> Result<(), std::convert::Infallible> {
    metrics.leader.set(0);
    tokio::select! {
        held = leadership.acquired() => if held { metrics.leader.set(1) },
        () = shutdown.cancelled() => {}
    }
    shutdown.cancelled().await;
    metrics.leader.set(0);
    Ok(())
}
