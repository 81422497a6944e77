//! The operator's flags, each with an environment variable, parsed into typed values once.
//!
//! Secrets are never flags: keys come from files.

use std::{path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Parser, ValueEnum};
use tradewind_daemon::{DaemonArgs, args::parse_seconds};
use tradewind_market::{Address, Bps, Decimals, TokenAmount};

use crate::{provider::args::ProviderArgs, shell::leader::LeaderArgs};

/// Runs the controllers of one cluster: those that buy compute, those that sell it, or both.
#[derive(Clone, Debug, Parser)]
#[command(name = "tradewind-operator", version)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,

    /// What this cluster does in the market.
    #[arg(long, env = "TRADEWIND_ROLE", value_enum, default_value_t)]
    pub(crate) role: Role,

    /// Namespace that the operator runs in: its lease, its journal and its records are there.
    #[arg(long, env = "TRADEWIND_NAMESPACE")]
    pub(crate) namespace: String,

    /// Name of this replica, unique among replicas: the pod's name.
    #[arg(long, env = "TRADEWIND_INSTANCE")]
    pub(crate) instance: String,

    /// Folder with the files `account` (a private key in hex), and `seed` (32 bytes in hex).
    #[arg(long, env = "TRADEWIND_KEYS", default_value = "/etc/tradewind/keys")]
    pub(crate) keys: PathBuf,

    /// Signs nothing and sends nothing: reconcilers observe and report.
    #[arg(long, env = "TRADEWIND_OBSERVE_ONLY")]
    pub(crate) observe_only: bool,

    /// Image of tradewind-pod, by digest: the program inside job pods and mover pods.
    #[arg(long, env = "TRADEWIND_POD_IMAGE")]
    pub(crate) pod_image: String,

    /// Base URL of a gateway; repeat for several. The first that answers is used to read, all are written to.
    #[arg(
        long = "gateway",
        env = "TRADEWIND_GATEWAYS",
        value_delimiter = ',',
        required = true
    )]
    pub(crate) gateways: Vec<String>,

    /// File with the certificates (PEM) to trust for https; left out, those of the system. Mover pods are given it too.
    #[arg(long, env = "SSL_CERT_FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    /// Seconds between full passes over everything, also when nothing seems to have changed.
    #[arg(long, env = "TRADEWIND_RESYNC_SECONDS", default_value = "60", value_parser = parse_seconds)]
    pub(crate) resync: Duration,

    /// Objects of one kind reconciled at once.
    #[arg(long, env = "TRADEWIND_CONCURRENCY", default_value_t = 16)]
    pub(crate) concurrency: u16,

    #[command(flatten)]
    pub(crate) leader: LeaderArgs,

    #[command(flatten)]
    pub(crate) chain: ChainArgs,

    #[command(flatten)]
    pub(crate) consumer: ConsumerArgs,

    #[command(flatten)]
    pub(crate) provider: ProviderArgs,
}

impl Args {
    /// Why these flags together are no sensible wish, if they are none.
    pub(crate) fn contradiction(&self) -> Option<String> {
        if self.role == Role::Both && self.provider.payout.is_some() {
            let why =
                "--payout has no place in role both: what is earned stays in the balance that pays for jobs";
            return Some(why.to_owned());
        }
        let consumer = &self.consumer;
        let of_deposits = consumer.deposit_floors.iter().chain(&consumer.deposit_max);
        let stray = of_deposits.map(|share| share.token);
        let stray = stray.into_iter().find(|token| !consumer.tokens.contains(token))?;
        Some(format!(
            "deposits of token {stray} are bounded, but no --token lets jobs pay in it"
        ))
    }
}

/// What a cluster does in the market.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Has jobs to place.
    #[default]
    Consumer,
    /// Has capacity to sell.
    Provider,
    /// Has both.
    Both,
}

impl Role {
    /// Whether jobs are placed from here.
    pub(crate) fn consumes(self) -> bool {
        match self {
            Self::Consumer | Self::Both => true,
            Self::Provider => false,
        }
    }

    /// Whether capacity is sold from here.
    pub(crate) fn provides(self) -> bool {
        match self {
            Self::Provider | Self::Both => true,
            Self::Consumer => false,
        }
    }
}

/// Which chain, which contract, and how they are followed and paid.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct ChainArgs {
    /// JSON-RPC endpoint of a node of the chain.
    #[arg(long, env = "TRADEWIND_RPC_URL")]
    pub(crate) rpc_url: String,

    /// EIP-155 id that the node must be of.
    #[arg(long, env = "TRADEWIND_CHAIN_ID")]
    pub(crate) chain_id: u64,

    /// The market contract.
    #[arg(long, env = "TRADEWIND_MARKET")]
    pub(crate) market: Address,

    /// Block that the market was deployed in: nothing before it is read.
    #[arg(long, env = "TRADEWIND_START_BLOCK", default_value_t = 0)]
    pub(crate) start_block: u64,

    /// Blocks after which a block counts as final, for chains whose nodes know no `finalized` tag; left out, the
    /// tag decides.
    #[arg(long, env = "TRADEWIND_FINALITY_DEPTH")]
    pub(crate) finality_depth: Option<u64>,

    /// Milliseconds between looks at the chain's head.
    #[arg(long, env = "TRADEWIND_CHAIN_POLL_MS", default_value_t = 2_000)]
    pub(crate) poll_ms: u64,

    /// The most to bid for gas in all, in wei per gas.
    #[arg(long, env = "TRADEWIND_FEE_CAP_WEI", default_value_t = 200_000_000_000)]
    pub(crate) fee_cap_wei: u128,

    /// The least to bid as the block builder's tip, in wei per gas.
    #[arg(long, env = "TRADEWIND_FEE_FLOOR_WEI", default_value_t = 10_000_000)]
    pub(crate) fee_floor_wei: u128,

    /// Blocks after which a transaction that was not included is replaced by one that bids more.
    #[arg(long, env = "TRADEWIND_REPLACE_AFTER_BLOCKS", default_value_t = 6)]
    pub(crate) replace_after_blocks: u64,

    /// Nonces of the account below this one may have been used without a record in the journal: a person has looked
    /// at them after the journal was lost, or restored from a backup. Left out, such a nonce stops all sending.
    #[arg(long, env = "TRADEWIND_ADOPT_NONCES_BELOW")]
    pub(crate) adopt_nonces_below: Option<u64>,
}

/// How jobs of this cluster are placed.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct ConsumerArgs {
    /// ERC-20 token that jobs may pay in; repeat for several. None means that no job is paid for.
    #[arg(long = "token", env = "TRADEWIND_TOKENS", value_delimiter = ',')]
    pub(crate) tokens: Vec<Address>,

    /// What the account's balance in the market is filled up to whenever a job needs a deposit, as TOKEN=AMOUNT in
    /// whole tokens; repeat for several tokens. Left out, a deposit is what jobs are about to bind.
    #[arg(
        long = "deposit-floor",
        env = "TRADEWIND_DEPOSIT_FLOORS",
        value_delimiter = ',',
        value_parser = parse_token_share
    )]
    pub(crate) deposit_floors: Vec<TokenShare>,

    /// The most that deposits make the account's balance in the market, as TOKEN=AMOUNT in whole tokens; repeat for
    /// several tokens. What a job binds beyond it leaves the account when the job is opened. With 0 the operator
    /// deposits nothing, and a person does. Left out, only SpendingLimits bound it.
    #[arg(
        long = "deposit-max",
        env = "TRADEWIND_DEPOSIT_MAX",
        value_delimiter = ',',
        value_parser = parse_token_share
    )]
    pub(crate) deposit_max: Vec<TokenShare>,

    /// Registry host that is spoken to without TLS, as `host:port`; repeat for several.
    #[arg(
        long = "plain-http-registry",
        env = "TRADEWIND_PLAIN_HTTP_REGISTRIES",
        value_delimiter = ','
    )]
    pub(crate) plain_http_registries: Vec<String>,

    /// Namespace whose jobs are placed from here; repeat for several. None means all.
    #[arg(
        long = "job-namespace",
        env = "TRADEWIND_JOB_NAMESPACES",
        value_delimiter = ','
    )]
    pub(crate) namespaces: Vec<String>,

    /// The most that one job's inputs may hold in memory sources (ConfigMaps and Secrets are bounded by the API
    /// server already) and volumes, in bytes.
    #[arg(long, env = "TRADEWIND_INPUT_BYTES_MAX", default_value_t = 64 << 30)]
    pub(crate) input_bytes_max: u64,

    /// Host that the URL of an input may name though its address is not public, as `host` or `host:port`; repeat for
    /// several.
    #[arg(long = "url-host", env = "TRADEWIND_URL_HOSTS", value_delimiter = ',')]
    pub(crate) url_hosts: Vec<String>,

    /// ClusterRole that lets the operator run mover pods where it is bound.
    #[arg(long, env = "TRADEWIND_MOVER_ROLE", default_value = "tradewind-mover")]
    pub(crate) mover_role: String,

    /// ClusterRole that lets the operator read Secrets where it is bound.
    #[arg(
        long,
        env = "TRADEWIND_SECRET_READER_ROLE",
        default_value = "tradewind-secret-reader"
    )]
    pub(crate) secret_reader_role: String,

    /// ServiceAccount that the operator runs as, for messages that say what to bind.
    #[arg(long, env = "TRADEWIND_SERVICE_ACCOUNT", default_value = "tradewind-operator")]
    pub(crate) service_account: String,

    #[command(flatten)]
    pub(crate) windows: WindowArgs,

    #[command(flatten)]
    pub(crate) money: MoneyArgs,
}

/// The windows that a job's terms give; PROTOCOL.md says what each bounds.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub(crate) struct WindowArgs {
    /// Seconds, added to a group's run time, until its seats must have committed.
    #[arg(long, env = "TRADEWIND_COMMIT_GRACE_SECONDS", default_value_t = 900)]
    pub(crate) commit_grace: u32,
    /// Seconds to reveal in.
    #[arg(long, env = "TRADEWIND_REVEAL_WINDOW_SECONDS", default_value_t = 900)]
    pub(crate) reveal_window: u32,
    /// Seconds to appeal in.
    #[arg(long, env = "TRADEWIND_APPEAL_WINDOW_SECONDS", default_value_t = 3_600)]
    pub(crate) appeal_window: u32,
    /// Seconds to challenge the availability of stored results in.
    #[arg(long, env = "TRADEWIND_AVAILABILITY_WINDOW_SECONDS", default_value_t = 600)]
    pub(crate) availability_window: u32,
    /// Seconds, added to a group's run time, that running seats get after a cancellation.
    #[arg(long, env = "TRADEWIND_CANCEL_GRACE_SECONDS", default_value_t = 300)]
    pub(crate) cancel_grace: u32,
    /// Seconds that results must stay stored for.
    #[arg(long, env = "TRADEWIND_RETENTION_SECONDS", default_value_t = 604_800)]
    pub(crate) retention: u32,
    /// Seconds within which a job must be filled and sealed.
    #[arg(long, env = "TRADEWIND_OPEN_SECONDS", default_value_t = 3_600)]
    pub(crate) open_for: u64,
}

/// The shares that a job's terms give.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub(crate) struct MoneyArgs {
    /// A seat's bond as a share of its pay, in hundredths of a percent.
    #[arg(long, env = "TRADEWIND_BOND_BPS", default_value = "10000", value_parser = parse_bps)]
    pub(crate) bond: Bps,
    /// What a seat that stays silent loses of its bond, as a share of its pay, in hundredths of a percent.
    #[arg(long, env = "TRADEWIND_NO_SHOW_BPS", default_value = "1000", value_parser = parse_bps)]
    pub(crate) no_show: Bps,
    /// Share of pay that goes to seats that revealed where drawn seats contradicted each other.
    #[arg(long, env = "TRADEWIND_INCONCLUSIVE_BPS", default_value = "5000", value_parser = parse_bps)]
    pub(crate) inconclusive: Bps,
    /// Share, of what is left after charges, that is lost where no quorum was found.
    #[arg(long, env = "TRADEWIND_UNRESOLVED_BURN_BPS", default_value = "5000", value_parser = parse_bps)]
    pub(crate) unresolved_burn: Bps,
}

/// An amount of one token, in whole tokens: how many decimals it has is not known before the chain is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenShare {
    /// The token.
    pub(crate) token: Address,
    /// Decimal text.
    pub(crate) amount: String,
}

fn parse_token_share(text: &str) -> Result<TokenShare, String> {
    let expected = || "expected TOKEN=AMOUNT, the amount in whole tokens such as 12.5".to_owned();
    let (token, amount) = text.split_once('=').ok_or_else(expected)?;
    let whole = Decimals::new(0).ok_or_else(expected)?;
    TokenAmount::from_decimal_rounding_down(amount, whole)
        .map_err(|error| format!("{}: {error}", expected()))?;
    Ok(TokenShare {
        token: token
            .parse()
            .map_err(|error| format!("{}: {error}", expected()))?,
        amount: amount.to_owned(),
    })
}

fn parse_bps(text: &str) -> Result<Bps, String> {
    text.parse()
        .map(Bps::new)
        .map_err(|_| "expected hundredths of a percent as a whole number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: [&str; 15] = [
        "tradewind-operator",
        "--namespace",
        "tradewind",
        "--instance",
        "operator-0",
        "--pod-image",
        "registry.example/pod@sha256:00",
        "--gateway",
        "http://gateway:8080",
        "--rpc-url",
        "http://node:8545",
        "--chain-id",
        "31337",
        "--market",
        "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    ];

    #[test]
    fn the_least_that_must_be_said_is_enough() {
        let args = Args::try_parse_from(LEAST).unwrap();
        assert_eq!(args.role, Role::Consumer);
        assert!(args.role.consumes() && !args.role.provides());
        assert!(
            args.consumer.tokens.is_empty(),
            "without a list of tokens nothing is spent"
        );
        assert!(!args.observe_only);
    }

    #[test]
    fn flags_that_work_against_each_other_are_refused_together() {
        const TOKEN: &str = "0x5FbDB2315678afecb367f032d93F642f64180aa3";
        let check = |more: &[&str], refused: bool| {
            let args = Args::try_parse_from(LEAST.iter().chain(more)).unwrap();
            assert_eq!(args.contradiction().is_some(), refused, "{more:?}");
        };
        let floor = format!("--deposit-floor={TOKEN}=5");
        check(&["--payout", TOKEN, "--role=provider"], false);
        check(&["--payout", TOKEN, "--role=both"], true);
        check(&[&floor], true);
        check(&[&floor, "--token", TOKEN], false);
    }

    #[test]
    fn a_mistyped_contract_is_refused() {
        let mut wrong = LEAST;
        wrong[14] = "0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
        let refused = Args::try_parse_from(wrong).unwrap_err().to_string();
        assert!(refused.contains("checksum"), "{refused}");
    }
}
