//! `tradewind-gateway`: one process in one role.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use prometheus::Registry;
use tradewind_chain::{
    LocalSigner, Node, Signer,
    read::Reader,
    transport::{HttpConfig, HttpTransport},
};
use tradewind_daemon::{About, CancellationToken, Gate, Process, ServeLimits, log, serve, serve::listen};
use tradewind_gateway::{
    args::{Args, GatewayNeeds, RelayNeeds, Role},
    gateway::{Clock, Gateway, GatewayParts},
    relay::{Relay, RelayParts},
    standing::{ChainMarket, Standings},
    store::Store,
};
use tradewind_gateway_api::client::{ClientConfig, GatewayClient};

/// How often the store is looked at, to know whether requests can be served.
const STORE_CHECK_EVERY: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = log::init(&args.daemon) {
        // There is no log to say it in.
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{error}\n"));
        return ExitCode::FAILURE;
    }
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "ended");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let about = About {
        program: "tradewind-gateway",
        version: env!("CARGO_PKG_VERSION"),
        admin_listen: SocketAddr::from(([0, 0, 0, 0], 9090)),
    };
    let process = Process::start(&args.daemon, about, Registry::new()).await?;
    let router = match args.role {
        Role::Gateway => {
            let gateway = gateway(&args, process.registry()).await?;
            process.spawn(
                "sweep",
                gateway
                    .clone()
                    .sweep_until(args.gateway.sweep_every, process.shutdown()),
            );
            let gate = process.readiness().gate("store");
            process.spawn(
                "store-check",
                watch_store(gateway.clone(), gate, process.shutdown()),
            );
            gateway.router()
        }
        Role::Relay => relay(&args, process.registry())?.router(),
    };
    let listener = listen(args.listen).await?;
    tracing::info!(role = ?args.role, address = %listener.local_addr()?, "serving");
    let limits = ServeLimits {
        connections: args.limits.connections_max,
        ..ServeLimits::default()
    };
    process.spawn("api", serve(listener, router, limits, process.shutdown()));
    process.run().await?;
    Ok(())
}

async fn gateway(args: &Args, registry: &Registry) -> anyhow::Result<Gateway> {
    let flags = &args.gateway;
    let GatewayNeeds {
        store,
        chain_rpc,
        key_file,
    } = flags.needs()?;
    let signer = LocalSigner::from_secret_file(key_file)?;
    let transport = HttpTransport::new(HttpConfig::new(chain_rpc))?;
    let node = Node::connect(Arc::new(transport), args.chain_id).await?;
    let market = ChainMarket::new(Reader::new(node, args.market));
    if flags.tokens.is_empty() {
        tracing::warn!("no --token is given: only buyers and bonded providers of a grant's job can store");
    }
    tracing::info!(gateway = %signer.address(), "receipts are signed by this account");
    let parts = GatewayParts {
        store: Store::local(store)?,
        domain: args.domain(),
        standings: Standings::new(Box::new(market), args.market, flags.tokens.clone()),
        signer: Arc::new(signer),
        limits: args.limits(),
        clock: Clock::system(),
    };
    Ok(Gateway::new(parts, registry)?)
}

fn relay(args: &Args, registry: &Registry) -> anyhow::Result<Relay> {
    let RelayNeeds {
        upstreams,
        provider,
        cache,
    } = args.relay.needs()?;
    let parts = RelayParts {
        upstream: GatewayClient::new(ClientConfig::new(upstreams))?,
        egress: args.relay.egress(),
        spread: args.relay.spread.into(),
        provider,
        domain: args.domain(),
        cache: cache.to_owned(),
        cache_bytes: args.relay.cache_bytes_max,
        limits: args.limits(),
        clock: Clock::system(),
    };
    Ok(Relay::new(parts, registry)?)
}

/// Keeps the readiness gate as the store is.
async fn watch_store(
    gateway: Gateway,
    gate: Gate,
    shutdown: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    loop {
        match gateway.check_store().await {
            Ok(()) => gate.open(),
            Err(error) => gate.wait(error.to_string()),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(STORE_CHECK_EVERY) => {}
        }
    }
}
