//! `e2e bench`: how long a job takes to its first pod, and what it costs the API servers, beside what a plain Job
//! takes on the same cluster in the same run.
//!
//! It measures from outside, as a user could, and judges nothing but its own aims.

mod error;
mod moments;
mod report;
mod writes;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use futures::future::{join_all, try_join_all};
use k8s_openapi::api::batch::v1::Job as PlainJob;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tradewind_crds::compute_lease::LeasePhase;
use tradewind_crds::condition;
use tradewind_crds::job_status::JobCondition;
use tradewind_crds::{ChainIntent, ComputeJob, ComputeLease};

pub use error::BenchError;

use crate::lab::{Lab, LabSpec, Progress, Raise, cache_root};
use crate::market::watch::{Found, Watched};
use crate::market::{Market, MarketError, NAMESPACE, Role, Windows, manifest};
use moments::{Finality, FirstSeen};
use report::{Figures, Latency, Place, Spread, ratio};
use writes::{Account, Writes};

/// A consumer and two providers: as many as a quorum needs.
const CLUSTERS: usize = 3;
const JOBS: &str = "bench";
const OFFERS_WITHIN: Duration = Duration::from_mins(3);
const SEEN_WITHIN: Duration = Duration::from_mins(1);
const ENDS_WITHIN: Duration = Duration::from_mins(4);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Short, so that a job is mostly what is measured.
const WINDOWS: Windows = Windows {
    commit_grace: 120,
    reveal: 60,
    appeal: 1,
    availability: 1,
    cancel_grace: 10,
    patience: 60,
};

/// How the bench is run.
#[derive(Clone, Debug, Args)]
pub struct BenchArguments {
    /// Jobs one by one, each begun when the one before has ended; as many plain Jobs for the baseline.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    jobs: u32,
    /// Jobs at once, after those. What the data centers sell bounds how many can run.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=8))]
    burst: u32,
    /// Leave the lab up afterwards.
    #[arg(long)]
    keep: bool,
    /// Name of the lab to raise.
    #[arg(long, default_value = "bench")]
    lab: String,
    /// Where the figures go as JSON; in the cache where it is not said.
    #[arg(long)]
    out: Option<PathBuf>,
}

impl BenchArguments {
    /// Raises a market, measures, prints a table, writes JSON, and lowers the market.
    pub fn run(&self, call_off: &CancellationToken) -> Result<(), BenchError> {
        let progress = Progress::shown();
        let raise = Raise {
            progress: progress.clone(),
            call_off: call_off.clone(),
            fresh: true,
        };
        let lab = Lab::raise(&LabSpec::market(&self.lab, CLUSTERS), &raise)?;
        let measured = lab.run(async {
            tokio::select! {
                measured = self.measure(&lab, &progress) => measured,
                () = call_off.cancelled() => Err(BenchError::CalledOff),
            }
        });
        drop(lab);
        if !self.keep {
            progress.during("lowering the lab", || Lab::down(&self.lab))?;
        }
        let figures = measured??;
        let out = self
            .out
            .clone()
            .unwrap_or_else(|| cache_root().join("bench/api.json"));
        write(&out, &figures)?;
        progress.say(format!("\n{}figures as JSON: {}", figures.table(), out.display()));
        Ok(())
    }

    async fn measure(&self, lab: &Lab, progress: &Progress) -> Result<Figures, BenchError> {
        let market = Market::raise(lab, WINDOWS, progress).await?;
        market.sell(OFFERS_WITHIN).await?;
        manifest::apply(&market.consumer()?, &ground(&market).to_string()).await?;
        let bench = Bench {
            market: &market,
            jobs: Api::namespaced(market.consumer()?.client().await?, JOBS),
            journal: FirstSeen::new(),
            slices: FirstSeen::new(),
            plain: FirstSeen::new(),
            finality: Finality::default(),
            progress,
        };
        let home = market.consumer()?.client().await?;
        let mut providers = Vec::new();
        for cluster in market.providers()? {
            providers.push(cluster.client().await?);
        }
        let slices = providers
            .into_iter()
            .map(|client| moments::follow_slices(Api::all(client), &bench.slices));
        tokio::select! {
            figures = bench.run(self.jobs, self.burst) => figures,
            () = async {
                tokio::join!(
                    join_all(slices),
                    moments::follow_journal(Api::namespaced(home.clone(), NAMESPACE), &bench.journal),
                    moments::follow_jobs(Api::<Pod>::namespaced(home, JOBS), &bench.plain),
                    bench.finality.follow(lab.evm()),
                );
            } => Err(BenchError::Missing("the watches ended".to_owned())),
        }
    }
}

/// A market under measurement.
struct Bench<'m> {
    market: &'m Market<'m>,
    jobs: Api<ComputeJob>,
    /// The consumer's transactions, by what they are for.
    journal: FirstSeen,
    /// The providers' pods, by lease.
    slices: FirstSeen,
    /// Pods of plain Jobs, by Job.
    plain: FirstSeen,
    finality: Finality,
    progress: &'m Progress,
}

/// How long one job took.
#[derive(Clone, Copy, Debug)]
struct Took {
    home: Duration,
    chain: Duration,
    provider: Duration,
}

impl Bench<'_> {
    async fn run(&self, jobs: u32, burst: u32) -> Result<Figures, BenchError> {
        let load_before = load()?;
        let baseline = self.baseline(jobs).await?;
        self.progress
            .say("a job to warm up: images are pulled, tokens and gateways asked once");
        self.job("warm-up").await?;
        self.settled().await?;
        let (home, providers, sent) = self.counters().await?;
        let mut took = Vec::new();
        for number in 1..=jobs {
            let this = self.job(&format!("single-{number}")).await?;
            self.progress.say(format!(
                "job {number} of {jobs}: {:.3} s at home, {:.3} s on the chain, {:.3} s at the provider",
                this.home.as_secs_f64(),
                this.chain.as_secs_f64(),
                this.provider.as_secs_f64()
            ));
            took.push(this);
        }
        self.progress.say(format!("{burst} jobs at once"));
        let names: Vec<_> = (1..=burst).map(|number| format!("burst-{number}")).collect();
        let at_once = try_join_all(names.iter().map(|name| self.job(name))).await?;
        self.settled().await?;
        let (home_after, providers_after, sent_after) = self.counters().await?;
        let (home, providers) = (home_after.since(&home), providers_after.since(&providers));
        let transactions = sent_after.saturating_sub(sent);
        let all = u64::from(jobs + burst);
        // Every provider has a seat in every job.
        let seats = all * self.market.providers()?.len() as u64;
        Ok(Figures {
            processors: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            load_before,
            load_after: load()?,
            baseline,
            one_by_one: latency(&took),
            at_once: latency(&at_once),
            writes_per_transaction: ratio(home.count(Account::Journal), transactions),
            home: Place::of(&home, all),
            provider: Place::of(&providers, seats),
            transactions,
        })
    }

    /// Applies a job and follows it to its end.
    async fn job(&self, name: &str) -> Result<Took, BenchError> {
        let object: ComputeJob = serde_json::from_value(manifest_of(self.market, name))
            .map_err(|error| BenchError::Missing(format!("a job can be written: {error}")))?;
        let asked = Instant::now();
        self.jobs
            .create(&PostParams::default(), &object)
            .await
            .map_err(MarketError::kubernetes("create a job"))?;
        let client = self.market.consumer()?.client().await?;
        let mut watched: Watched<ComputeJob> = Watched::start(client, JOBS, name);
        let mut failed = None;
        watched
            .until(&format!("the end of job {name}"), ENDS_WITHIN, |job| {
                let status = job.status.clone().unwrap_or_default();
                if condition::is_true(&status.conditions, JobCondition::Failed) {
                    failed = status.message;
                    return Found::Wanted;
                }
                if condition::is_true(&status.conditions, JobCondition::Complete) {
                    return Found::Wanted;
                }
                Found::NotYet(format!("{:?}", status.phase))
            })
            .await?;
        if let Some(message) = failed {
            return Err(BenchError::Missing(format!("job {name} failed: {message}")));
        }
        let id = watched
            .last()
            .and_then(|job| job.status.as_ref()?.job_id.clone())
            .ok_or_else(|| BenchError::Missing(format!("job {name} has no id")))?;
        self.took(asked, id.as_str()).await
    }

    async fn took(&self, asked: Instant, id: &str) -> Result<Took, BenchError> {
        let (journaled, transaction) = self.journal.of(&format!("open {id}"), SEEN_WITHIN).await?;
        let block = moments::block_of(&self.market.lab().evm(), &transaction).await?;
        let last = self
            .finality
            .of(block)
            .ok_or_else(|| BenchError::Missing(format!("block {block} was not seen to be final")))?;
        let lease = format!(
            "job-{}",
            id.trim_start_matches("0x").get(..32).unwrap_or_default()
        );
        let (pod, _) = self.slices.of(&lease, SEEN_WITHIN).await?;
        Ok(Took {
            home: journaled.saturating_duration_since(asked),
            chain: last.saturating_duration_since(journaled),
            provider: pod.saturating_duration_since(last),
        })
    }

    /// Plain Jobs in the consumer's cluster, each until its pod is there.
    async fn baseline(&self, jobs: u32) -> Result<Spread, BenchError> {
        self.progress.say(format!("{jobs} plain Jobs, for the baseline"));
        let api: Api<PlainJob> = Api::namespaced(self.market.consumer()?.client().await?, JOBS);
        let mut took = Vec::new();
        for number in 1..=jobs {
            let name = format!("plain-{number}");
            let object: PlainJob = serde_json::from_value(plain(self.market, &name))
                .map_err(|error| BenchError::Missing(format!("a Job can be written: {error}")))?;
            let asked = Instant::now();
            api.create(&PostParams::default(), &object)
                .await
                .map_err(MarketError::kubernetes("create a plain Job"))?;
            let (pod, _) = self.plain.of(&name, SEEN_WITHIN).await?;
            took.push(pod.saturating_duration_since(asked));
        }
        Ok(Spread::of(took))
    }

    /// Writes at home and at all providers together, and the consumer's transactions.
    async fn counters(&self) -> Result<(Writes, Writes, u64), BenchError> {
        let home = Writes::of(&self.market.consumer()?).await?;
        let mut providers = Writes::default();
        for cluster in self.market.providers()? {
            providers = providers.and(&Writes::of(&cluster).await?);
        }
        let evm = self.market.lab().evm();
        let sent = moments::sent(&evm, Role::Consumer.account().address).await?;
        Ok((home, providers, sent))
    }

    /// Waits until nothing is left to write: leases are closed, and of the journal only its newest entry is kept.
    async fn settled(&self) -> Result<(), BenchError> {
        let asked = async {
            while !self.is_settled().await? {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(())
        };
        let late = |_| MarketError::Late {
            what: "the end of all leases and transactions".to_owned(),
            seconds: ENDS_WITHIN.as_secs(),
            seen: "some are left".to_owned(),
        };
        tokio::time::timeout(ENDS_WITHIN, asked).await.map_err(late)?
    }

    async fn is_settled(&self) -> Result<bool, BenchError> {
        let all = kube::api::ListParams::default();
        let doing = "list what is left";
        let home: Api<ChainIntent> = Api::namespaced(self.market.consumer()?.client().await?, NAMESPACE);
        let journal = home.list(&all).await.map_err(MarketError::kubernetes(doing))?;
        if journal.items.len() > 1 {
            return Ok(false);
        }
        for cluster in self.market.providers()? {
            let api: Api<ComputeLease> = Api::namespaced(cluster.client().await?, NAMESPACE);
            let leases = api.list(&all).await.map_err(MarketError::kubernetes(doing))?;
            let closed = |lease: &ComputeLease| {
                lease.status.as_ref().and_then(|status| status.phase) == Some(LeasePhase::Closed)
            };
            if !leases.items.iter().all(closed) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn latency(took: &[Took]) -> Latency {
    Latency {
        ours: Spread::of(took.iter().map(|took| took.home + took.provider)),
        home: Spread::of(took.iter().map(|took| took.home)),
        provider: Spread::of(took.iter().map(|took| took.provider)),
        chain: Spread::of(took.iter().map(|took| took.chain)),
    }
}

/// The namespace of the jobs, with leave to spend.
fn ground(market: &Market<'_>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": JOBS}},
            {
                "apiVersion": "tradewind.dev/v1alpha1",
                "kind": "SpendingLimit",
                "metadata": {"name": "default", "namespace": JOBS},
                "spec": {"tokens": [{"token": market.token(), "amount": "100"}]},
            },
        ],
    })
}

/// One unit, for a quorum of two.
fn manifest_of(market: &Market<'_>, name: &str) -> Value {
    json!({
        "apiVersion": "tradewind.dev/v1alpha1",
        "kind": "ComputeJob",
        "metadata": {"name": name, "namespace": JOBS},
        "spec": {
            "completions": 1,
            "template": {
                "image": market.images().busybox.tagged(),
                "command": ["sh", "-c", "echo done >/out/result"],
                "resources": {"cpu": "100m", "memory": "64Mi", "disk": "64Mi"},
                "secondsPerUnit": 20,
            },
            "outputs": {"limits": {"bytesPerUnit": "1Mi", "filesPerUnit": 4}},
            "verification": {"quorum": 2, "maxSeats": 2},
            "payment": {"token": market.token(), "maxPricePerUnit": "0.01", "budget": "1"},
            "deadline": "1h",
        },
    })
}

/// The same program as a plain Job.
fn plain(market: &Market<'_>, name: &str) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": JOBS},
        "spec": {"template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "run",
                "image": market.images().busybox.pinned(),
                "command": ["sh", "-c", "echo done"],
            }],
        }}},
    })
}

/// How busy the machine is: processes that ran or waited to, over one, five and fifteen minutes.
fn load() -> Result<String, BenchError> {
    let path = Path::new("/proc/loadavg");
    let text = std::fs::read_to_string(path).map_err(BenchError::file(path))?;
    Ok(text.split_whitespace().take(3).collect::<Vec<_>>().join("/"))
}

fn write(path: &Path, figures: &Figures) -> Result<(), BenchError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(BenchError::file(folder))?;
    }
    let text = serde_json::to_string_pretty(figures).map_err(|error| BenchError::file(path)(error.into()))?;
    std::fs::write(path, text).map_err(BenchError::file(path))
}
