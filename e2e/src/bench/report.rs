//! Figures as people read them, and as programs do.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::writes::{Account, Write, Writes};

/// The middle of the latencies, in seconds.
const P50_AIM_S: f64 = 1.0;
/// Writes for a job, at home and at a provider.
const HOME_AIM: f64 = 4.0;
const PROVIDER_AIM: f64 = 3.0;
/// Writes for a transaction that jobs share.
const TRANSACTION_AIM: f64 = 2.0;

/// Some durations, in seconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Spread {
    pub(super) samples: Vec<f64>,
    pub(super) p50: f64,
    pub(super) p99: f64,
}

impl Spread {
    /// Percentiles are of the nearest rank: of fewer than a hundred samples, the 99th is the longest.
    pub(super) fn of(durations: impl IntoIterator<Item = Duration>) -> Self {
        let samples: Vec<f64> = durations
            .into_iter()
            .map(|duration| duration.as_secs_f64())
            .collect();
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = |percent: usize| {
            let index = (sorted.len() * percent).div_ceil(100).max(1) - 1;
            sorted.get(index).copied().unwrap_or_default()
        };
        Self {
            p50: rank(50),
            p99: rank(99),
            samples,
        }
    }
}

/// How long a set of jobs took, by part.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Latency {
    /// Both parts together: what the aim bounds.
    pub(super) ours: Spread,
    /// From the request that creates the ComputeJob to the journal's entry for its opening.
    pub(super) home: Spread,
    /// From the moment when the opening's block is final to the first slice pod.
    pub(super) provider: Spread,
    /// Between the two: left out.
    pub(super) chain: Spread,
}

/// Writes of one kind, in all and for each job or transaction.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    #[serde(flatten)]
    write: Write,
    account: Account,
    count: u64,
    per_job: f64,
}

/// Writes at one place.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    pub(super) jobs: u64,
    pub(super) per_job: f64,
    pub(super) lines: Vec<Line>,
}

impl Place {
    pub(super) fn of(writes: &Writes, jobs: u64) -> Self {
        use Account::{Apply, Events, Job, Journal, Leases, Others, Pods};
        let lines = [Job, Journal, Apply, Pods, Events, Leases, Others].into_iter();
        let lines = lines.flat_map(|account| {
            writes.within(account).map(move |(write, count)| Line {
                write: write.clone(),
                account,
                count,
                per_job: ratio(count, jobs),
            })
        });
        Self {
            jobs,
            per_job: ratio(writes.count(Job), jobs),
            lines: lines.collect(),
        }
    }

    fn table(&self, name: &str, aim: f64) -> String {
        let mut text = format!("{name}, {} jobs:\n", self.jobs);
        for line in self.lines.iter().filter(|line| line.account == Account::Job) {
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(
                text,
                "  {:<28} {:<6} {:>6.2} a job",
                line.write.resource, line.write.verb, line.per_job
            );
        }
        let _ = writeln!(
            text,
            "  {:<35} {:>6.2} a job   (aim: at most {aim:.0}; {})",
            "in all",
            self.per_job,
            verdict(self.per_job <= aim)
        );
        for (account, what) in [
            (Account::Journal, "journal of transactions"),
            (Account::Pods, "pods, whoever writes them"),
            (Account::Events, "Events"),
            (Account::Leases, "leases of elections, heartbeats"),
        ] {
            let sum: f64 = self
                .lines
                .iter()
                .filter(|line| line.account == account)
                .map(|line| line.per_job)
                .fold(0.0, |sum, count| sum + count);
            let _ = writeln!(text, "  apart: {what:<28} {sum:>6.2} a job");
        }
        text
    }
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figures {
    pub(super) processors: usize,
    pub(super) load_before: String,
    pub(super) load_after: String,
    /// A plain Kubernetes Job to its first pod.
    pub(super) baseline: Spread,
    pub(super) one_by_one: Latency,
    pub(super) at_once: Latency,
    pub(super) home: Place,
    pub(super) provider: Place,
    pub(super) transactions: u64,
    pub(super) writes_per_transaction: f64,
}

impl Figures {
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "processors {}, load {} before and {} after\n\n\
             from `kubectl apply` to the first slice pod, in seconds, the chain's part left out:\n  \
             {:<44} {:>5} {:>8} {:>8}\n",
            self.processors, self.load_before, self.load_after, "", "n", "p50", "p99"
        );
        let mut row = |name: &str, spread: &Spread| {
            let _ = writeln!(
                text,
                "  {name:<44} {:>5} {:>8.3} {:>8.3}",
                spread.samples.len(),
                spread.p50,
                spread.p99
            );
        };
        row("baseline: a plain Job to its first pod", &self.baseline);
        for (name, latency) in [("one by one", &self.one_by_one), ("at once", &self.at_once)] {
            row(&format!("{name}: in all"), &latency.ours);
            row("  home: created to transaction journaled", &latency.home);
            row("  provider: block final to pod created", &latency.provider);
            row("  (left out: journaled to final)", &latency.chain);
        }
        let _ = write!(
            text,
            "  aim: p50 of `one by one` under {P50_AIM_S:.0} s; {}\n\n\
             Left out is the time from the journal's entry of the opening transaction, which is broadcast at once, \
             to the moment when the node says that its block is final: block time and the provider's wait for \
             finality. Sightings are those of watches on one machine, one clock; p99 is of the nearest rank.\n\n\
             writes, as the API servers count them (all codes), over all these jobs:\n",
            verdict(self.one_by_one.ours.p50 < P50_AIM_S)
        );
        text.push_str(&self.home.table("home", HOME_AIM));
        text.push_str(&self.provider.table("a provider", PROVIDER_AIM));
        let _ = writeln!(
            text,
            "journal at home: {} transactions, {:.2} writes each   (aim: {TRANSACTION_AIM:.0}; {})",
            self.transactions,
            self.writes_per_transaction,
            verdict(self.writes_per_transaction <= TRANSACTION_AIM)
        );
        text
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

/// Counts of a bench are far below what a float holds exactly.
pub(super) fn ratio(count: u64, of: u64) -> f64 {
    let float = |number: u64| u32::try_from(number).map_or(f64::NAN, f64::from);
    float(count) / float(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let check = |count: u64, p50: f64, p99: f64| {
            let spread = Spread::of((1..=count).rev().map(Duration::from_secs));
            assert_eq!((spread.p50, spread.p99), (p50, p99), "of {count}");
        };
        check(1, 1.0, 1.0);
        check(20, 10.0, 20.0);
        check(100, 50.0, 99.0);
        check(200, 100.0, 198.0);
    }
}
