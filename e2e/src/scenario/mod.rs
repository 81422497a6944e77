//! `e2e test`: one lab, one market, and what must hold on it, each scenario in a namespace of its own.
//!
//! After each scenario the auditor keeps the market's books again. At the end every warning of an operator that no
//! scenario expects counts as a failure.

mod books;
mod data;
mod egress;
mod ends;
mod error;
mod faults;
mod hands;
mod job;
mod jobs;
mod journal;
mod kill;
mod logs;
mod outages;
mod races;
mod reorg;
mod restarts;
mod strike;
mod time;
mod witness;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use futures::future::BoxFuture;
use libtest_mimic::{Arguments as Report, Failed, Trial};
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

pub use error::ScenarioError;
pub use kill::KillArguments;

use crate::lab::{Lab, LabSpec, Progress, Raise};
use crate::market::{Market, MarketError, Windows};
use restarts::Point;

const CLUSTERS: usize = 4;
/// Scenarios at a time: most of them wait most of the time.
const AT_ONCE: usize = 3;
const OFFERS_WITHIN: Duration = Duration::from_mins(3);
/// Time to commit in is what a data center may lag behind the others on a machine that they share.
const WINDOWS: Windows = Windows {
    commit_grace: 100,
    reveal: 60,
    appeal: 3,
    availability: 3,
    cancel_grace: 10,
    patience: 60,
};
/// Where scenarios wait for data centers to act for a buyer that does not.
const NIGHTLY_WINDOWS: Windows = Windows {
    patience: 20,
    ..WINDOWS
};

/// How the tests are run.
#[derive(Clone, Debug, Args)]
pub struct TestArguments {
    /// Only scenarios whose name contains this.
    filter: Option<String>,
    /// Leave out scenarios whose name contains this; repeat for several.
    #[arg(long)]
    skip: Vec<String>,
    /// Run the longer list, which is run by night, in place of the usual one.
    #[arg(long)]
    nightly: bool,
    /// Leave the lab up afterwards, with what the scenarios left.
    #[arg(long)]
    keep: bool,
    /// Name of the lab to raise; two runs under one name would take it from each other.
    #[arg(long, default_value = "test")]
    lab: String,
}

/// A scenario: what it needs is the market, and the name of a namespace that is its own.
type Scenario = for<'a> fn(&'a Market<'a>, &'a str) -> BoxFuture<'a, Result<(), ScenarioError>>;

/// A check of what the scenarios, by night or by day, left behind.
type Check = for<'a> fn(&'a Market<'a>, bool) -> BoxFuture<'a, Result<(), ScenarioError>>;

const AFTERWARDS: &[(&str, Check)] = &[
    ("the_auditor_misses_an_event_that_is_withheld", |market, _| {
        Box::pin(books::withheld_events_are_missed(market))
    }),
    ("operators_warn_of_nothing_unexpected", |market, by_night| {
        Box::pin(logs::unexpected(market, by_night))
    }),
];

/// Whether other scenarios may run beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Company {
    Welcome,
    /// It breaks what all share.
    None,
}

const SCENARIOS: &[(&str, Company, Scenario)] = &[
    ("a_job_is_verified_and_paid", Company::Welcome, |m, n| {
        Box::pin(jobs::first_job(m, n))
    }),
    (
        "a_unit_that_fails_everywhere_is_a_result",
        Company::Welcome,
        |m, n| Box::pin(jobs::failing_unit(m, n)),
    ),
    ("a_unit_that_hangs_hurts_nobody", Company::Welcome, |m, n| {
        Box::pin(jobs::hanging_unit(m, n))
    }),
    (
        "an_image_that_does_not_exist_costs_nothing",
        Company::Welcome,
        |m, n| Box::pin(jobs::missing_image(m, n)),
    ),
    (
        "a_granted_host_is_reached_through_the_relay_alone",
        Company::Welcome,
        |m, n| Box::pin(egress::granted_host(m, n)),
    ),
    (
        "an_image_that_is_lost_after_the_award_hurts_nobody",
        Company::Welcome,
        |m, n| Box::pin(jobs::lost_image(m, n)),
    ),
    ("no_offer_that_suits_is_said", Company::Welcome, |m, n| {
        Box::pin(jobs::no_matching_offer(m, n))
    }),
    (
        "a_spending_limit_holds_until_it_is_raised",
        Company::Welcome,
        |m, n| Box::pin(jobs::spending_limit(m, n)),
    ),
    (
        "files_come_and_go_by_volume_web_and_blob",
        Company::Welcome,
        |m, n| Box::pin(data::files_come_and_go(m, n)),
    ),
    ("a_job_deleted_midway_is_settled", Company::Welcome, |m, n| {
        Box::pin(jobs::deleted_midway(m, n))
    }),
    (
        "a_slice_out_of_memory_halfway_goes_on",
        Company::Welcome,
        |m, n| Box::pin(faults::starved_slice(m, n)),
    ),
    (
        "an_operator_killed_with_a_signed_transaction",
        Company::Welcome,
        |m, n| Box::pin(restarts::operator_killed(m, n, Point::Signed, |_| ())),
    ),
    (
        "an_operator_killed_with_a_broadcast_transaction",
        Company::Welcome,
        |m, n| Box::pin(restarts::operator_killed(m, n, Point::Broadcast, |_| ())),
    ),
    (
        "operators_killed_when_seats_are_awarded",
        Company::Welcome,
        |m, n| Box::pin(restarts::operator_killed(m, n, Point::Awarded, |_| ())),
    ),
    (
        "an_operator_killed_when_it_has_committed",
        Company::Welcome,
        |m, n| Box::pin(restarts::operator_killed(m, n, Point::Committed, |_| ())),
    ),
    (
        "operators_killed_when_results_are_revealed",
        Company::Welcome,
        |m, n| Box::pin(restarts::operator_killed(m, n, Point::Revealed, |_| ())),
    ),
    // What needs the market for itself comes last: nothing waits beside it.
    (
        "a_data_center_that_vanishes_loses_alone",
        Company::None,
        |m, n| Box::pin(faults::vanished(m, n)),
    ),
    (
        "a_job_whose_opening_is_taken_back_is_opened_once",
        Company::None,
        |m, n| Box::pin(reorg::opening_taken_back(m, n)),
    ),
];

/// What is proved besides, by night.
const NIGHTLY: &[(&str, Company, Scenario)] = &[
    ("all_seats_silent", Company::None, |m, n| {
        Box::pin(ends::all_silent(m, n))
    }),
    ("two_differ_and_there_is_no_third", Company::Welcome, |m, n| {
        Box::pin(ends::no_quorum(m, n))
    }),
    ("a_seat_that_misbehaves_in_every_way", Company::Welcome, |m, n| {
        Box::pin(ends::misbehaving_seat(m, n))
    }),
    (
        "a_result_without_a_receipt_is_unpaid",
        Company::Welcome,
        |m, n| Box::pin(ends::no_receipt(m, n)),
    ),
    ("who_cannot_store_gives_its_seat_back", Company::None, |m, n| {
        Box::pin(ends::nowhere_to_store(m, n))
    }),
    ("a_canary_that_fails_stops_the_rest", Company::Welcome, |m, n| {
        Box::pin(ends::canary_fails(m, n))
    }),
    ("silent_seats_of_a_suspended_job", Company::Welcome, |m, n| {
        Box::pin(ends::suspended_in_silence(m, n))
    }),
    ("silent_seats_of_a_job_out_of_time", Company::Welcome, |m, n| {
        Box::pin(ends::out_of_time(m, n))
    }),
    ("a_job_suspended_at_work_is_paid", Company::Welcome, |m, n| {
        Box::pin(ends::suspended_at_work(m, n))
    }),
    ("a_job_deleted_while_revealing", Company::Welcome, |m, n| {
        Box::pin(ends::deleted_while_revealing(m, n))
    }),
    ("a_buyer_that_withholds", Company::Welcome, |m, n| {
        Box::pin(ends::buyer_withholds(m, n))
    }),
    ("a_job_larger_than_the_market", Company::None, |m, n| {
        Box::pin(ends::larger_than_the_market(m, n))
    }),
    ("offers_gone_while_the_job_opens", Company::None, |m, n| {
        Box::pin(ends::offers_gone(m, n))
    }),
    ("a_buyer_that_is_gone", Company::None, |m, n| {
        Box::pin(ends::buyer_gone(m, n))
    }),
    ("deadlines_to_the_second", Company::None, |m, n| {
        Box::pin(races::to_the_second(m, n))
    }),
    ("the_gateway_is_away", Company::None, |m, n| {
        Box::pin(outages::gateway_away(m, n))
    }),
    ("replicas_of_the_gateway_are_killed", Company::None, |m, n| {
        Box::pin(outages::gateway_replicas_killed(m, n))
    }),
    ("a_relay_is_away", Company::None, |m, n| {
        Box::pin(outages::relay_away(m, n))
    }),
    ("the_buyer_reaches_no_chain", Company::None, |m, n| {
        Box::pin(outages::buyer_without_chain(m, n))
    }),
    ("a_data_center_reaches_no_chain", Company::None, |m, n| {
        Box::pin(outages::provider_without_chain(m, n))
    }),
    ("the_chains_node_hangs", Company::None, |m, n| {
        Box::pin(outages::node_hangs(m, n))
    }),
    ("a_node_that_lags_and_lies", Company::None, |m, n| {
        Box::pin(outages::node_lags_and_lies(m, n))
    }),
    ("the_buyers_api_server_is_killed", Company::None, |m, n| {
        Box::pin(outages::buyers_api_server_killed(m, n))
    }),
    ("a_data_centers_api_server_is_killed", Company::None, |m, n| {
        Box::pin(outages::providers_api_server_killed(m, n))
    }),
];

impl TestArguments {
    /// Raises the market, runs the scenarios, and lowers it.
    pub fn run(&self, call_off: &CancellationToken) -> Result<ExitCode, ScenarioError> {
        let progress = Progress::shown();
        let raise = Raise {
            progress: progress.clone(),
            call_off: call_off.clone(),
            fresh: true,
        };
        let lab = Lab::raise(&LabSpec::market(&self.lab, CLUSTERS), &raise)?;
        let outcome = lab.run(self.prepare(&lab, &progress))?;
        let lab = Arc::new(lab);
        let outcome = outcome.map(|()| self.report(&lab, &progress, call_off));
        drop(lab);
        if !self.keep {
            progress.during("lowering the lab", || Lab::down(&self.lab))?;
        }
        outcome
    }

    async fn prepare(&self, lab: &Lab, progress: &Progress) -> Result<(), ScenarioError> {
        let windows = if self.nightly { NIGHTLY_WINDOWS } else { WINDOWS };
        let market = Market::raise(lab, windows, progress).await?;
        market.sell(OFFERS_WITHIN).await?;
        progress.say("all data centers have published their offers");
        if self.nightly {
            hands::set_up(&market).await?;
            progress.say("three more sell by hand");
        }
        Ok(())
    }

    fn report(&self, lab: &Arc<Lab>, progress: &Progress, call_off: &CancellationToken) -> ExitCode {
        let alone = Arc::new(RwLock::new(()));
        let report = |threads| Report {
            filter: self.filter.clone(),
            skip: self.skip.clone(),
            test_threads: Some(threads),
            ..Report::default()
        };
        let list = if self.nightly { NIGHTLY } else { SCENARIOS };
        let trials = list.iter().map(|(name, company, scenario)| {
            let (lab, alone, call_off) = (Arc::clone(lab), Arc::clone(&alone), call_off.clone());
            let progress = progress.clone();
            Trial::test(*name, move || {
                let ran = lab.run(async {
                    tokio::select! {
                        ran = run_one(&lab, name, *company, *scenario, &alone, &progress) => ran,
                        () = call_off.cancelled() => Err(ScenarioError::NotSo("called off".to_owned())),
                    }
                });
                ran.map_err(ScenarioError::from)
                    .flatten()
                    .map_err(|error| Failed::from(error.to_string()))
            })
        });
        let scenarios = libtest_mimic::run(&report(AT_ONCE), trials.collect());
        let afterwards = AFTERWARDS.iter().map(|(name, check)| {
            let (lab, by_night) = (Arc::clone(lab), self.nightly);
            Trial::test(*name, move || {
                let found = lab
                    .run(async { check(&Market::attach(&lab)?, by_night).await })
                    .map_err(ScenarioError::from)
                    .flatten();
                found.map_err(|error| Failed::from(error.to_string()))
            })
        });
        let checks = libtest_mimic::run(
            &Report {
                filter: None,
                ..report(1)
            },
            afterwards.collect(),
        );
        if scenarios.has_failed() || checks.has_failed() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

async fn run_one(
    lab: &Lab,
    name: &str,
    company: Company,
    scenario: Scenario,
    alone: &RwLock<()>,
    progress: &Progress,
) -> Result<(), ScenarioError> {
    let market = Market::attach(lab)?;
    let namespace = name.replace('_', "-");
    let (beside, exclusive) = match company {
        Company::Welcome => (Some(alone.read().await), None),
        Company::None => (None, Some(alone.write().await)),
    };
    let begun = Instant::now();
    let ran = scenario(&market, &namespace).await;
    drop((beside, exclusive));
    progress.say(format!("{name}: {} s", begun.elapsed().as_secs()));
    ran?;
    market
        .audit()
        .await
        .map(drop)
        .map_err(|error: MarketError| error.into())
}
