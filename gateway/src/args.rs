//! The command line, read once into typed settings.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args as ClapArgs, Parser, ValueEnum};
use ipnet::IpNet;
use tradewind_daemon::{DaemonArgs, args::parse_seconds};
use tradewind_gateway_api::client::Spread;
use tradewind_market::{Address, Seconds, eip712::Domain};

use crate::{
    limits::{Limits, Rate},
    relay::EgressRules,
};

/// What this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Stores blobs, offers and documents for everyone.
    Gateway,
    /// Lets the job pods of one cluster fetch and store, and do nothing else.
    Relay,
}

/// Tradewind's gateway, and its smaller role as a relay.
#[derive(Clone, Debug, Parser)]
#[command(name = "tradewind-gateway", version)]
pub struct Args {
    /// What this process is.
    #[arg(long, env = "TRADEWIND_ROLE", value_enum, default_value = "gateway")]
    pub role: Role,

    /// Address that the API is served on.
    #[arg(long, env = "TRADEWIND_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// Id of the chain that the market is on.
    #[arg(long, env = "TRADEWIND_CHAIN_ID")]
    pub chain_id: u64,

    /// The market's address.
    #[arg(long, env = "TRADEWIND_MARKET")]
    pub market: Address,

    /// For the role gateway.
    #[command(flatten)]
    pub gateway: GatewayArgs,

    /// For the role relay.
    #[command(flatten)]
    pub relay: RelayArgs,

    /// For both.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// The process.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// Flags of the role `gateway`.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Role gateway")]
pub struct GatewayArgs {
    /// Folder of the object store. Replicas share one.
    #[arg(long, env = "TRADEWIND_STORE")]
    pub store: Option<PathBuf>,

    /// URL of the node that tells who has standing.
    #[arg(long, env = "TRADEWIND_CHAIN_RPC")]
    pub chain_rpc: Option<String>,

    /// File with the private key (hex) that signs receipts. Replicas share one.
    #[arg(long, env = "TRADEWIND_KEY_FILE")]
    pub key_file: Option<PathBuf>,

    /// Tokens in which a balance or a bond is standing enough to store and publish.
    #[arg(long = "token", env = "TRADEWIND_TOKENS", value_delimiter = ',')]
    pub tokens: Vec<Address>,

    /// Bytes that one signer may store.
    #[arg(long, env = "TRADEWIND_SIGNER_BYTES_MAX", default_value_t = Limits::default().signer_bytes)]
    pub signer_bytes_max: u64,

    /// Blobs that one signer may store.
    #[arg(long, env = "TRADEWIND_SIGNER_BLOBS_MAX", default_value_t = Limits::default().signer_blobs)]
    pub signer_blobs_max: u64,

    /// Seconds that a blob is kept where its upload does not say.
    #[arg(long, env = "TRADEWIND_RETENTION_DEFAULT_SECONDS", default_value_t = Limits::default().retention_default.get())]
    pub retention_default: u64,

    /// Seconds that an upload or a receipt may ask for.
    #[arg(long, env = "TRADEWIND_RETENTION_MAX_SECONDS", default_value_t = Limits::default().retention_max.get())]
    pub retention_max: u64,

    /// Seconds between two sweeps for what is past.
    #[arg(long, env = "TRADEWIND_SWEEP_EVERY_SECONDS", default_value = "300", value_parser = parse_seconds)]
    pub sweep_every: Duration,
}

/// Flags of the role `relay`.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Role relay")]
pub struct RelayArgs {
    /// Base URLs of the gateways that blobs come from and go to.
    #[arg(long = "upstream", env = "TRADEWIND_UPSTREAMS", value_delimiter = ',')]
    pub upstreams: Vec<String>,

    /// Whether what pods store goes to the first gateway that takes it, or to each.
    #[arg(long, env = "TRADEWIND_SPREAD", value_enum, default_value = "all")]
    pub spread: SpreadArg,

    /// The provider whose cluster this is: only its grants count.
    #[arg(long, env = "TRADEWIND_PROVIDER")]
    pub provider: Option<Address>,

    /// Folder of the cache.
    #[arg(long, env = "TRADEWIND_CACHE")]
    pub cache: Option<PathBuf>,

    /// Bytes that the cache may hold.
    #[arg(long, env = "TRADEWIND_CACHE_BYTES_MAX", default_value_t = 20 << 30)]
    pub cache_bytes_max: u64,

    /// Networks, such as 10.20.0.0/16, that jobs may be granted hosts in though they are not the open internet's.
    #[arg(
        long = "egress-private",
        env = "TRADEWIND_EGRESS_PRIVATE",
        value_delimiter = ','
    )]
    pub egress_private: Vec<IpNet>,

    /// Connections to granted hosts at once, of all jobs.
    #[arg(long, env = "TRADEWIND_EGRESS_CONNECTIONS_MAX", default_value_t = EgressRules::default().connections)]
    pub egress_connections_max: usize,

    /// Connections to granted hosts at once, of one job.
    #[arg(long, env = "TRADEWIND_EGRESS_CONNECTIONS_PER_JOB", default_value_t = EgressRules::default().connections_per_job)]
    pub egress_connections_per_job: usize,
}

/// A flag that a role cannot do without is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the role {role} needs {flag} (or its environment variable; see --help)")]
pub struct FlagMissing {
    role: &'static str,
    flag: &'static str,
}

/// What the role `gateway` cannot do without.
#[derive(Clone, Copy, Debug)]
pub struct GatewayNeeds<'a> {
    /// Folder of the object store.
    pub store: &'a Path,
    /// URL of the node.
    pub chain_rpc: &'a str,
    /// File with the key that signs receipts.
    pub key_file: &'a Path,
}

/// What the role `relay` cannot do without.
#[derive(Clone, Copy, Debug)]
pub struct RelayNeeds<'a> {
    /// Gateways; at least one.
    pub upstreams: &'a [String],
    /// Whose grants count.
    pub provider: Address,
    /// Folder of the cache.
    pub cache: &'a Path,
}

impl GatewayArgs {
    /// What must be there, or which flag is missing.
    pub fn needs(&self) -> Result<GatewayNeeds<'_>, FlagMissing> {
        let missing = |flag| FlagMissing {
            role: "gateway",
            flag,
        };
        Ok(GatewayNeeds {
            store: self.store.as_deref().ok_or(missing("--store"))?,
            chain_rpc: self.chain_rpc.as_deref().ok_or(missing("--chain-rpc"))?,
            key_file: self.key_file.as_deref().ok_or(missing("--key-file"))?,
        })
    }
}

impl RelayArgs {
    /// What must be there, or which flag is missing.
    pub fn needs(&self) -> Result<RelayNeeds<'_>, FlagMissing> {
        let missing = |flag| FlagMissing { role: "relay", flag };
        if self.upstreams.is_empty() {
            return Err(missing("--upstream"));
        }
        Ok(RelayNeeds {
            upstreams: &self.upstreams,
            provider: self.provider.ok_or(missing("--provider"))?,
            cache: self.cache.as_deref().ok_or(missing("--cache"))?,
        })
    }

    /// Which hosts jobs may be led to.
    pub fn egress(&self) -> EgressRules {
        EgressRules {
            private: self.egress_private.clone(),
            connections: self.egress_connections_max,
            connections_per_job: self.egress_connections_per_job,
        }
    }
}

/// See [`RelayArgs::spread`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SpreadArg {
    /// The first gateway that takes it.
    First,
    /// Each gateway; one that takes it is enough.
    All,
}

impl From<SpreadArg> for Spread {
    fn from(spread: SpreadArg) -> Self {
        match spread {
            SpreadArg::First => Self::First,
            SpreadArg::All => Self::All,
        }
    }
}

/// Limits of both roles.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Largest blob, in bytes.
    #[arg(long, env = "TRADEWIND_BLOB_BYTES_MAX", default_value_t = Limits::default().blob_bytes)]
    pub blob_bytes_max: u64,

    /// Uploads at once; each takes 4 MiB of memory.
    #[arg(long, env = "TRADEWIND_UPLOADS_MAX", default_value_t = Limits::default().uploads)]
    pub uploads_max: usize,

    /// Downloads at once.
    #[arg(long, env = "TRADEWIND_DOWNLOADS_MAX", default_value_t = Limits::default().downloads)]
    pub downloads_max: usize,

    /// Connections at once.
    #[arg(long, env = "TRADEWIND_CONNECTIONS_MAX", default_value_t = 1024)]
    pub connections_max: usize,

    /// Requests a second from one address.
    #[arg(long, env = "TRADEWIND_REQUESTS_PER_SECOND", default_value_t = Limits::default().rate.per_second)]
    pub requests_per_second: u32,

    /// Requests at once from one address.
    #[arg(long, env = "TRADEWIND_REQUESTS_BURST", default_value_t = Limits::default().rate.burst)]
    pub requests_burst: u32,

    /// Seconds that a peer may send nothing in the middle of a body.
    #[arg(long, env = "TRADEWIND_BODY_STALL_SECONDS", default_value = "30", value_parser = parse_seconds)]
    pub body_stall: Duration,
}

impl Args {
    /// The market that everything is signed for.
    pub fn domain(&self) -> Domain {
        Domain {
            chain_id: self.chain_id,
            market: self.market,
        }
    }

    /// All limits.
    pub fn limits(&self) -> Limits {
        let Self { gateway, limits, .. } = self;
        Limits {
            blob_bytes: limits.blob_bytes_max,
            signer_bytes: gateway.signer_bytes_max,
            signer_blobs: gateway.signer_blobs_max,
            uploads: limits.uploads_max,
            downloads: limits.downloads_max,
            body_stall: limits.body_stall,
            retention_default: Seconds::new(gateway.retention_default),
            retention_max: Seconds::new(gateway.retention_max),
            rate: Rate {
                per_second: limits.requests_per_second,
                burst: limits.requests_burst,
            },
            ..Limits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_names_what_it_lacks() {
        let parse = |line: &str| Args::try_parse_from(line.split_whitespace()).unwrap();
        let market = "--chain-id 31337 --market 0x00000000000000000000000000000000000000aa";
        let gateway = parse(&format!(
            "g {market} --store /s --chain-rpc http://n --key-file /k"
        ));
        assert_eq!(gateway.role, Role::Gateway);
        assert_eq!(gateway.gateway.needs().unwrap().store, Path::new("/s"));
        assert_eq!(
            gateway.relay.needs().unwrap_err(),
            FlagMissing {
                role: "relay",
                flag: "--upstream"
            }
        );
        let relay = parse(&format!(
            "g --role relay {market} --upstream http://a,http://b --cache /c \
             --provider 0x00000000000000000000000000000000000000bb"
        ));
        assert_eq!(relay.relay.needs().unwrap().upstreams, ["http://a", "http://b"]);
        let text = parse(&format!("g {market} --store /s --chain-rpc http://n"))
            .gateway
            .needs()
            .unwrap_err();
        assert_eq!(
            text.to_string(),
            "the role gateway needs --key-file (or its environment variable; see --help)"
        );
        let nothing = Args::try_parse_from(["g"]).unwrap_err().to_string();
        assert!(
            nothing.contains("--market") && nothing.contains("--chain-id"),
            "{nothing}"
        );
    }
}
