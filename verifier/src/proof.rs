//! `verifier proof`: that one leaf is under a root, by the contract's rule.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use tradewind_result::leaf::{Tree, leaf};
use tradewind_result::{Node, Root, UnitResult, merkle};

use crate::Answer;

/// Largest document that is read.
const DOCUMENT_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Makes a proof from all leaves of a group, a JSON list of 0x… in the order of their units, or from its results.
    Make {
        /// JSON: a list of leaves; or {"job": "0x…", "jobSalt": "0x…", "results": [{"unit": 0, "outcome":
        /// {"exit": 0}, "digest": "0x…"}, …]}.
        file: PathBuf,
        /// Which leaf, from 0.
        #[arg(long)]
        index: u32,
        /// Results give the tree that is revealed (a) or the one that only late seats open (b).
        #[arg(long, default_value = "a", value_parser = parse_tree)]
        tree: Tree,
    },
    /// Checks a proof as the contract does; exit code 1 if it does not hold.
    Check {
        /// JSON as `verifier proof make --json` prints it.
        file: PathBuf,
        /// The root that must come out, from the chain. Left out: the one in the file, which proves only that
        /// the file fits itself.
        #[arg(long)]
        root: Option<Root>,
    },
}

fn parse_tree(text: &str) -> Result<Tree, String> {
    match text {
        "a" | "A" => Ok(Tree::A),
        "b" | "B" => Ok(Tree::B),
        _ => Err("expected a or b".to_owned()),
    }
}

/// What a proof is made from.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Source {
    Leaves(Vec<Node>),
    Results(Group),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Group {
    job: Node,
    job_salt: Node,
    results: Vec<UnitResult>,
}

/// A proof as a document.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    root: Root,
    leaf_count: u32,
    index: u32,
    leaf: Node,
    proof: Vec<Node>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    holds: bool,
    root: Root,
}

pub(crate) fn answer(verb: &Verb) -> anyhow::Result<Answer> {
    match verb {
        Verb::Make { file, index, tree } => make(read(file)?, *index, *tree),
        Verb::Check { file, root } => check(&read(file)?, *root),
    }
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> anyhow::Result<T> {
    let what = || file.display().to_string();
    if std::fs::metadata(file).with_context(what)?.len() > DOCUMENT_BYTES_MAX {
        bail!("{} is larger than {DOCUMENT_BYTES_MAX} bytes", what());
    }
    serde_json::from_slice(&std::fs::read(file).with_context(what)?).with_context(what)
}

fn make(source: Source, index: u32, tree: Tree) -> anyhow::Result<Answer> {
    let leaves = match source {
        Source::Leaves(leaves) => leaves,
        Source::Results(Group {
            job,
            job_salt,
            results,
        }) => {
            if !results.is_sorted_by(|a, b| a.unit < b.unit) {
                bail!("units are out of order, or one is there twice");
            }
            results
                .iter()
                .map(|result| leaf(tree, job.as_bytes(), job_salt.as_bytes(), result))
                .collect()
        }
    };
    let root = merkle::root(leaves.iter().copied()).context("no leaves, so no root")?;
    let proof = merkle::prove(&leaves, index)
        .with_context(|| format!("there are {} leaves, so none has index {index}", leaves.len()))?;
    let leaf_count = u32::try_from(leaves.len())?;
    let leaf = usize::try_from(index)
        .ok()
        .and_then(|at| leaves.get(at))
        .copied()
        .context("no such leaf")?;
    let document = Document {
        root,
        leaf_count,
        index,
        leaf,
        proof,
    };
    let mut text = format!("root   {root}\nleaf   {leaf} ({index} of {leaf_count})\n");
    for node in &document.proof {
        writeln!(text, "proof  {node}")?;
    }
    Answer::new(true, text, &document)
}

fn check(document: &Document, root: Option<Root>) -> anyhow::Result<Answer> {
    let root = root.unwrap_or(document.root);
    let holds = merkle::verify(
        root,
        document.leaf_count,
        document.index,
        document.leaf,
        &document.proof,
    );
    let verb = if holds { "is" } else { "is not shown to be" };
    let text = format!(
        "{} {verb} leaf {} of {} under {root}\n",
        document.leaf, document.index, document.leaf_count
    );
    Answer::new(holds, text, &Checked { holds, root })
}
