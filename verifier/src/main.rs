//! The verifier's command line: digests, comparisons and proofs for people and scripts.
//!
//! It reads files and prints; it never writes, fetches or signs.

mod proof;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use serde::Serialize;
use tradewind_result::{ContentDigest, Hashing, Limits, Manifest, read_tree};
use tradewind_verifier::{Comparison, Difference, compare};

/// Equal, or the proof holds.
const YES: u8 = 0;
/// Different, or the proof does not hold: an answer, not a failure.
const NO: u8 = 1;
/// No answer: bad arguments, or something could not be read.
const FAILED: u8 = 2;

/// Digests, comparisons and proofs of Tradewind's results.
///
/// A unit's result is its exit code and the directory it wrote. The directory's digest is BLAKE3 over its
/// manifest: the sorted relative paths, sizes and BLAKE3 digests of its files. Modes, owners, times and
/// empty directories do not count; links, devices and names that are not UTF-8 are refused.
#[derive(Debug, Parser)]
#[command(name = "verifier", version, after_help = EXIT_CODES)]
struct Args {
    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str =
    "Exit codes: 0 yes (equal, holds, done); 1 no (different, does not hold); 2 no answer.

Examples:
  verifier digest out/                       the digest that stands in a result's leaf
  verifier digest out/ --files               and what it is made of
  verifier compare mine/ theirs/             which files differ
  verifier proof make leaves.json --index 5 > proof.json
  verifier proof check proof.json --root 0x…  is this leaf under the root that the chain holds?";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Prints the digest of a directory, as it stands in a result's leaf.
    Digest {
        /// The directory.
        directory: PathBuf,
        /// Also lists every file with its size and digest.
        #[arg(long)]
        files: bool,
        #[command(flatten)]
        bounds: Bounds,
    },
    /// Compares two directories byte for byte; exit code 1 if they differ.
    Compare {
        /// One result.
        first: PathBuf,
        /// Another.
        second: PathBuf,
        #[command(flatten)]
        bounds: Bounds,
    },
    /// Makes and checks Merkle proofs: that one leaf is under a root.
    #[command(subcommand)]
    Proof(proof::Verb),
}

/// How much a directory may hold.
#[derive(Debug, clap::Args)]
struct Bounds {
    /// Refuse more files and directories than this.
    #[arg(long, default_value_t = 1_000_000, value_name = "COUNT")]
    max_files: u64,
    /// Refuse more content than this, in bytes.
    #[arg(long, default_value_t = 1 << 44, value_name = "BYTES")]
    max_bytes: u64,
    /// Read files instead of mapping them: slower, and safe while something writes to them.
    #[arg(long)]
    stream: bool,
}

impl Bounds {
    fn read(&self, directory: &Path) -> anyhow::Result<Manifest> {
        let limits = Limits {
            files: self.max_files,
            bytes: self.max_bytes,
        };
        let hashing = if self.stream {
            Hashing::Streamed
        } else {
            Hashing::Mapped
        };
        read_tree(directory, limits, hashing).with_context(|| directory.display().to_string())
    }
}

/// What is printed, and the exit code that goes with it.
struct Answer {
    code: u8,
    text: String,
    json: serde_json::Value,
}

impl Answer {
    fn new(yes: bool, text: String, json: &impl Serialize) -> anyhow::Result<Self> {
        Ok(Self {
            code: if yes { YES } else { NO },
            text,
            json: serde_json::to_value(json)?,
        })
    }
}

#[derive(Serialize)]
struct DigestReport<'a> {
    digest: ContentDigest,
    files: usize,
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<&'a Manifest>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match answer(&args.verb).and_then(|answer| print(&answer, args.json).map(|()| answer.code)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("verifier: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn print(answer: &Answer, json: bool) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    if json {
        writeln!(stdout, "{:#}", answer.json)?;
    } else {
        write!(stdout, "{}", answer.text)?;
    }
    Ok(stdout.flush()?)
}

fn answer(verb: &Verb) -> anyhow::Result<Answer> {
    match verb {
        Verb::Digest {
            directory,
            files,
            bounds,
        } => digest(&bounds.read(directory)?, *files),
        Verb::Compare {
            first,
            second,
            bounds,
        } => {
            let comparison = compare(&bounds.read(first)?, &bounds.read(second)?);
            let text = describe(&comparison)?;
            Answer::new(comparison.equal, text, &comparison)
        }
        Verb::Proof(verb) => proof::answer(verb),
    }
}

fn digest(manifest: &Manifest, files: bool) -> anyhow::Result<Answer> {
    let report = DigestReport {
        digest: manifest.digest(),
        files: manifest.entries().len(),
        bytes: manifest.content_bytes(),
        manifest: files.then_some(manifest),
    };
    let mut text = format!("{}\n", report.digest);
    for entry in report.manifest.into_iter().flat_map(Manifest::entries) {
        writeln!(text, "{}  {:>12}  {}", entry.digest, entry.size, entry.path)?;
    }
    Answer::new(true, text, &report)
}

fn describe(comparison: &Comparison) -> anyhow::Result<String> {
    let mut text = String::new();
    for difference in &comparison.differences {
        match difference {
            Difference::OnlyFirst { path } => writeln!(text, "only in the first:   {path}")?,
            Difference::OnlySecond { path } => writeln!(text, "only in the second:  {path}")?,
            Difference::Content {
                path,
                first_size,
                second_size,
            } if first_size == second_size => {
                writeln!(text, "other content:       {path} ({first_size} bytes)")?;
            }
            Difference::Content {
                path,
                first_size,
                second_size,
            } => {
                writeln!(
                    text,
                    "other content:       {path} ({first_size} and {second_size} bytes)"
                )?;
            }
        }
    }
    if comparison.equal {
        writeln!(text, "equal: {}", comparison.first)?;
    } else {
        writeln!(text, "different: {} and {}", comparison.first, comparison.second)?;
    }
    Ok(text)
}
