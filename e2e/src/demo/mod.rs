//! `e2e demo`: a picture rendered by three data centers, of which one saves work where it hopes that nobody looks.
//!
//! Everything that is shown is checked: a claim that is false ends the demo with an error. The data center that cheats
//! is test equipment of the lab ([`cheat`]); nothing of the product knows that it does.

pub mod cheat;
mod error;
mod ledger;
mod picture;
mod pods;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;
use tradewind_crds::job_status::JobCondition;

pub use error::DemoError;

use crate::lab::{Lab, LabSpec, Progress, Raise, cache_root, source_root};
use crate::market::{Market, Role, Windows, manifest};
use ledger::Ledger;
use watch::Watch;

const LAB: &str = "demo";
const NAMESPACE: &str = "studio";
const JOB: &str = "flyby";
/// Pixels.
const WIDTH: usize = 960;
const HEIGHT: usize = 540;
/// What the job's manifest calls the claim that it delivers to, and the directory there.
const CLAIM: &str = "renders";
const DELIVERED: &str = "flyby";
const STRIPS: usize = 24;
/// Processors that the nodes show: the consumer's, then one number for each data center.
const CPUS: [u8; 4] = [2, 2, 4, 3];
/// The one that cheats.
const CHEATER: usize = 2;
/// Long enough to look at the books while the cheater's bond is held.
const APPEAL_SECONDS: u32 = 30;
const OFFERS_WITHIN: Duration = Duration::from_mins(3);
const JOB_WITHIN: Duration = Duration::from_mins(15);

/// How the demo is run.
#[derive(Clone, Debug, Args)]
pub struct DemoArguments {
    /// Leave everything up afterwards, and say how to look at it.
    #[arg(long)]
    keep: bool,
    /// Where the picture goes; in the cache where it is not said.
    #[arg(long)]
    out: Option<PathBuf>,
}

impl DemoArguments {
    /// Raises everything, runs the job, checks the claims, and lowers everything unless it is to be kept.
    pub fn run(&self, call_off: &CancellationToken) -> Result<(), DemoError> {
        let progress = Progress::shown();
        let dir = cache_root().join(LAB);
        std::fs::create_dir_all(&dir).map_err(DemoError::file(&dir))?;
        let mut spec = LabSpec::market(LAB, CPUS.len());
        for (cluster, cpus) in spec.clusters.iter_mut().zip(CPUS) {
            cluster.cpus = Some(cpus);
        }
        spec.clusters[1 + CHEATER].runtimes = vec![cheat::runtime(&dir)?];
        let raise = Raise {
            progress: progress.clone(),
            call_off: call_off.clone(),
            fresh: true,
        };
        let lab = Lab::raise(&spec, &raise)?;
        let outcome = lab.run(async {
            tokio::select! {
                outcome = show(&lab, &progress, &dir, self.out.as_deref()) => outcome,
                () = call_off.cancelled() => Err(DemoError::CalledOff),
            }
        });
        if self.keep && !call_off.is_cancelled() {
            progress.say(how_to_look(&lab)?);
        } else {
            drop(lab);
            progress.during("lowering the lab", || Lab::down(LAB))?;
        }
        outcome?
    }
}

async fn show(lab: &Lab, progress: &Progress, dir: &Path, out: Option<&Path>) -> Result<(), DemoError> {
    let windows = Windows {
        appeal: APPEAL_SECONDS,
        ..Windows::default()
    };
    let market = Market::raise(lab, windows, progress).await?;
    sell(&market, progress).await?;
    let volume = submit(&market, progress).await?;

    let cheater = Role::Provider(CHEATER).account().address.to_lowercase();
    let names = names(&market)?;
    let mut watch = Watch::start(&market, NAMESPACE, JOB, names.clone(), progress.clone()).await?;
    watch.until(JobCondition::Running, JOB_WITHIN).await?;
    let job = watch.job_id()?.to_owned();
    let shown = async {
        tokio::try_join!(
            watch.until(JobCondition::Verified, JOB_WITHIN),
            ledger::cheater_found_out(&market, &job, &cheater, progress),
        )
    };
    tokio::select! {
        shown = shown => shown.map(drop)?,
        failed = pods::report(&market, progress) => match failed? {},
    }
    watch.until(JobCondition::Complete, JOB_WITHIN).await?;

    let strips = picture::strips(&volume.join(DELIVERED))?;
    let assembled = picture::assemble(&strips)?;
    let path = out.map_or_else(|| dir.join("harbour.png"), Path::to_owned);
    assembled.write_png(&path)?;
    progress.say("rendering the same picture here, in one piece");
    let direct = picture::render_directly(&market, NAMESPACE).await?;
    assembled.same_as(&direct)?;
    progress.say("it is the same, pixel by pixel");

    let books = market.audit().await?;
    let ledger = Ledger::new(&market, &books, watch.job_id()?)?;
    ledger.check(&cheater, watch.job())?;
    progress.say(format!(
        "the ledger, in whole tokens, as an auditor rebuilt it from raw logs:\n{}",
        ledger.table(&names)
    ));
    progress.say(format!("the picture: {}", path.display()));
    Ok(())
}

/// The data centers put their capacity on offer.
async fn sell(market: &Market<'_>, progress: &Progress) -> Result<(), DemoError> {
    let providers = market.providers()?;
    for (index, cluster) in providers.iter().enumerate() {
        let mut offer = manifest::read(
            "offer.yaml",
            &[("TOKEN", market.token()), ("REGION", cluster.name())],
        )?;
        if index == CHEATER {
            cheat::sell_through(cluster, &mut offer).await?;
        }
        manifest::apply(cluster, &offer).await?;
    }
    for cluster in &providers {
        market.wait_until_sold(cluster, OFFERS_WITHIN).await?;
        progress.say(format!("{} has published its offer", cluster.name()));
    }
    Ok(())
}

/// The studio applies its job; gives the folder behind the volume that the picture goes to.
async fn submit(market: &Market<'_>, progress: &Progress) -> Result<PathBuf, DemoError> {
    let consumer = market.consumer()?;
    let scene = source_root().join("e2e/demo/harbour.pov").display().to_string();
    manifest::apply(
        &consumer,
        &manifest::read("studio.yaml", &[("TOKEN", market.token())])?,
    )
    .await?;
    let volume = market.make_claim(NAMESPACE, CLAIM).await?;
    market.allow_movers(NAMESPACE).await?;
    let from_file = format!("--from-file={scene}");
    consumer
        .kubectl(&["create", "configmap", "flyby-scene", "-n", NAMESPACE, &from_file])
        .await?;
    consumer
        .kubectl(&[
            "label",
            "configmap",
            "flyby-scene",
            "-n",
            NAMESPACE,
            "tradewind.dev/allow=true",
        ])
        .await?;
    let (width, height) = (WIDTH.to_string(), HEIGHT.to_string());
    let image = market.images().povray.tagged();
    let values = [
        ("TOKEN", market.token()),
        ("IMAGE", &image),
        ("WIDTH", &width),
        ("HEIGHT", &height),
    ];
    manifest::apply(&consumer, &manifest::read("job.yaml", &values)?).await?;
    progress.say("kubectl apply: the job is in the consumer's cluster");
    Ok(volume)
}

/// Each data center's account, in lower case, and its cluster's name.
fn names(market: &Market<'_>) -> Result<Vec<(String, String)>, DemoError> {
    let mut names = Vec::new();
    for cluster in market.providers()? {
        names.push((
            market.role_of(&cluster)?.account().address.to_lowercase(),
            cluster.name().to_owned(),
        ));
    }
    Ok(names)
}

fn how_to_look(lab: &Lab) -> Result<String, DemoError> {
    let market = Market::attach(lab)?;
    Ok(format!(
        "everything is left up. Look around with (`e2e` is {program}):\n  \
         e2e lab exec --name {LAB} --cluster consumer -- kubectl get computejobs -n {NAMESPACE}\n  \
         e2e lab exec --name {LAB} --cluster consumer -- kubectl describe computejob {JOB} -n {NAMESPACE}\n  \
         e2e lab exec --name {LAB} --cluster provider-a -- kubectl get provideroffers,computeleases,pods -A\n  \
         e2e lab exec --name {LAB} -- curl -s {gateway}/v1/offers\n  \
         e2e lab exec --name {LAB} --cluster consumer -- kubectl get --raw \
         /api/v1/namespaces/tradewind/services/tradewind-gateway:http/proxy/openapi.json\n  \
         e2e lab kubeconfig --name {LAB}\n  \
         e2e market audit --name {LAB}\nand end it with: e2e lab down --name {LAB}",
        program = std::env::current_exe().unwrap_or_default().display(),
        gateway = market.gateway()?,
    ))
}
