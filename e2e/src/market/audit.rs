//! The auditor, run as a person would: it is Python, reads the node's raw logs, and shares no code with the market.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde::Deserialize;

use super::error::MarketError;
use crate::lab::{Lab, LabError, source_root};

/// The market's books as the auditor keeps them. Amounts are decimal strings of base units.
#[derive(Clone, Debug, Deserialize)]
pub struct Books {
    /// By token.
    pub tokens: BTreeMap<String, TokenBooks>,
    /// By job id.
    pub jobs: BTreeMap<String, JobBooks>,
}

/// Everything that the market holds of one token.
#[derive(Clone, Debug, Deserialize)]
pub struct TokenBooks {
    /// In all.
    pub held: String,
    /// Fees, burns and charges.
    pub sink: String,
    /// By account.
    pub balances: BTreeMap<String, String>,
    /// By provider.
    pub bonds: BTreeMap<String, BondBooks>,
}

/// A provider's bond.
#[derive(Clone, Debug, Deserialize)]
pub struct BondBooks {
    /// All of it.
    pub total: String,
    /// What awards hold of it.
    pub locked: String,
}

/// One job's money.
#[derive(Clone, Debug, Deserialize)]
pub struct JobBooks {
    /// Who paid.
    pub buyer: String,
    /// Whether everything of it is settled.
    pub ended: bool,
    /// What went in.
    pub deposited: String,
    /// What is still in it.
    pub escrow: String,
    /// What came back.
    pub refunded: String,
    /// The market's share.
    pub fee: String,
    /// What else of it went to the sink: charges of silent seats, and a share of groups without a quorum.
    pub sunk: String,
    /// How many events it has.
    pub events: u64,
    /// Its groups.
    pub groups: Vec<GroupBooks>,
}

/// One group of a job.
#[derive(Clone, Debug, Deserialize)]
pub struct GroupBooks {
    /// Its number.
    pub group: u32,
    /// Its state, in the protocol's words.
    pub state: String,
    /// The root agreed on.
    pub root: Option<String>,
    /// Its seats.
    pub seats: Vec<SeatBooks>,
}

/// One seat of a group.
#[derive(Clone, Debug, Deserialize)]
pub struct SeatBooks {
    /// Whose.
    pub provider: String,
    /// Its state, in the protocol's words.
    pub state: String,
    /// Why it abstained, in the protocol's words, if it did.
    pub abstained: Option<String>,
    /// What it works for.
    pub pay: String,
    /// What it got.
    pub paid: String,
    /// What it lost of its bond.
    pub burned: String,
    /// Its bond.
    pub bond: String,
    /// Whether the bond is free again.
    pub released: bool,
}

/// One event, to be kept from the auditor as a lying node would.
#[derive(Clone, Copy, Debug)]
pub(super) struct Withheld<'a> {
    pub(super) job: &'a str,
    pub(super) sequence: u64,
}

/// What the auditor says: books, or what it found.
pub(super) async fn run(
    lab: &Lab,
    market: &str,
    withheld: Option<Withheld<'_>>,
) -> Result<Result<Books, String>, MarketError> {
    let mut command = lab.command("python3")?;
    command.arg("-B").arg(source_root().join("e2e/audit")).args([
        "--rpc",
        &lab.evm().url(),
        "--market",
        market,
        "--json",
        "-",
    ]);
    if let Some(Withheld { job, sequence }) = withheld {
        command.arg(format!("--withhold={job}:{sequence}"));
    }
    let output = tokio::process::Command::from(command)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(LabError::io("run the auditor"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        Some(0) => serde_json::from_str(&printed)
            .map(Ok)
            .map_err(|error| MarketError::Audit(format!("what it printed is no books: {error}"))),
        Some(1) => Ok(Err(printed.trim().to_owned())),
        _ => {
            let error = String::from_utf8_lossy(&output.stderr);
            Err(MarketError::Audit(format!("{}{}", printed.trim(), error.trim())))
        }
    }
}
