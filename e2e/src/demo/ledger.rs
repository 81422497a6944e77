//! Who got what: read from the books that the auditor kept, and compared with what the demo and the job's status claim.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use tradewind_crds::compute_job::ComputeJob;
use tradewind_market::{Decimals, TokenAmount};

use crate::lab::Progress;
use crate::market::{Books, JobBooks, Market, SeatBooks, TOKEN_DECIMALS, TokenBooks};

use super::DemoError;

/// Shorter than the time for appeal by far.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// One job's part of the books.
#[derive(Debug)]
pub(super) struct Ledger<'b> {
    token: &'b TokenBooks,
    job: &'b JobBooks,
    decimals: Decimals,
}

/// One data center's part of the job.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    seats: u32,
    agreed: u32,
    dissent: u32,
    abstained: u32,
    paid: u128,
    pay_agreed: u128,
}

impl<'b> Ledger<'b> {
    pub(super) fn new(market: &Market<'_>, books: &'b Books, job_id: &str) -> Result<Self, DemoError> {
        let missing = |what: &str| DemoError::Claim(format!("the auditor's books know {what}"));
        let token = books
            .tokens
            .get(&market.token().to_lowercase())
            .ok_or_else(|| missing("the token"))?;
        let job = books
            .jobs
            .get(&job_id.to_lowercase())
            .ok_or_else(|| missing("the job"))?;
        let decimals = Decimals::new(TOKEN_DECIMALS).ok_or_else(|| missing("the token's decimals"))?;
        Ok(Self { token, job, decimals })
    }

    /// Whether a group in which the cheater dissented waits for its time for appeal to end.
    fn appeal_runs(&self, cheater: &str) -> bool {
        let dissented = |seat: &SeatBooks| seat.provider == cheater && seat.state == "Dissent";
        self.job
            .groups
            .iter()
            .any(|group| group.state == "Agreed" && group.seats.iter().any(dissented))
    }

    /// While the group's time for appeal runs, the bond of whoever dissented is held, and nothing is paid for it.
    fn cheater_is_held(&self, cheater: &str) -> Result<(), DemoError> {
        let locked = self
            .token
            .bonds
            .get(cheater)
            .map_or(Ok(0), |bond| base(&bond.locked))?;
        claim(locked > 0, || {
            format!("the cheater's bond is locked ({locked} base units are)")
        })?;
        let paid = self.line(cheater)?.paid;
        claim(paid == 0, || {
            format!("the cheater is unpaid (it has {paid} base units)")
        })
    }

    /// At the end: the honest are paid in full, the cheater is not, every unit of money is accounted for, and the job's
    /// status says the same.
    pub(super) fn check(&self, cheater: &str, job: Option<&ComputeJob>) -> Result<(), DemoError> {
        claim(self.job.ended, || "the job has ended on chain".to_owned())?;
        for group in &self.job.groups {
            claim(group.state == "Credited", || {
                format!("group {} is credited (it is {})", group.group, group.state)
            })?;
        }
        for provider in self.providers() {
            let line = self.line(provider)?;
            let honest = provider != cheater;
            let as_expected = if honest {
                line.agreed == line.seats
            } else {
                line.dissent == line.seats && line.paid == 0
            };
            claim(line.seats > 0 && as_expected, || {
                format!("{provider} ended as it should ({line:?})")
            })?;
            claim(line.paid == line.pay_agreed, || {
                format!("{provider} is paid for what was agreed, and no more")
            })?;
        }
        let paid = self.paid()?;
        let (deposited, fee, refunded) = (
            base(&self.job.deposited)?,
            base(&self.job.fee)?,
            base(&self.job.refunded)?,
        );
        claim(deposited == paid + fee + refunded, || {
            format!(
                "what was deposited ({deposited}) is what was paid ({paid}), the fee ({fee}) and the refund ({refunded})"
            )
        })?;
        let cost = job.and_then(|job| job.status.as_ref()?.cost.as_ref());
        let Some(cost) = cost else {
            return claim(false, || "the job's status says what it cost".to_owned());
        };
        for (what, said, booked) in [
            ("deposited", &cost.deposited, deposited),
            ("paid", &cost.paid, paid),
            ("fee", &cost.fee, fee),
            ("refunded", &cost.refunded, refunded),
        ] {
            let said = TokenAmount::from_decimal_exact(said.as_str(), self.decimals)
                .map_err(|error| DemoError::Claim(format!("status.cost.{what} is an amount: {error}")))?;
            claim(said == TokenAmount::from_base_units(booked), || {
                format!("status.cost.{what} is {booked} base units")
            })?;
        }
        Ok(())
    }

    /// For people: amounts in whole tokens.
    pub(super) fn table(&self, names: &[(String, String)]) -> String {
        let mut table = format!(
            "  {:<12} {:>5} {:>6} {:>7} {:>9} {:>10} {:>10} {:>10}\n",
            "", "seats", "agreed", "dissent", "abstained", "paid", "bond", "locked"
        );
        for (account, name) in names {
            let line = self.line(account).unwrap_or_default();
            let (bond, locked) = self
                .token
                .bonds
                .get(account)
                .map_or_else(Default::default, |bond| {
                    (self.whole(&bond.total), self.whole(&bond.locked))
                });
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(
                table,
                "  {name:<12} {:>5} {:>6} {:>7} {:>9} {:>10} {bond:>10} {locked:>10}",
                line.seats,
                line.agreed,
                line.dissent,
                line.abstained,
                self.whole(&line.paid.to_string()),
            );
        }
        let paid = self.paid().unwrap_or_default().to_string();
        let _ = write!(
            table,
            "  consumer: deposited {}, paid {}, fee {}, refunded {}; the market's sink: {}",
            self.whole(&self.job.deposited),
            self.whole(&paid),
            self.whole(&self.job.fee),
            self.whole(&self.job.refunded),
            self.whole(&self.token.sink),
        );
        table
    }

    fn providers(&self) -> impl Iterator<Item = &str> {
        let seats = self.job.groups.iter().flat_map(|group| &group.seats);
        let distinct: BTreeSet<&str> = seats.map(|seat| seat.provider.as_str()).collect();
        distinct.into_iter()
    }

    fn line(&self, provider: &str) -> Result<Line, DemoError> {
        let mut line = Line::default();
        let seats = self.job.groups.iter().flat_map(|group| &group.seats);
        for seat in seats.filter(|seat| seat.provider == provider) {
            line.seats += 1;
            line.paid += base(&seat.paid)?;
            match seat.state.as_str() {
                "Agreed" => {
                    line.agreed += 1;
                    line.pay_agreed += base(&seat.pay)?;
                }
                "Dissent" => line.dissent += 1,
                "Abstained" | "Excused" => line.abstained += 1,
                _ => {}
            }
        }
        Ok(line)
    }

    fn paid(&self) -> Result<u128, DemoError> {
        let seats = self.job.groups.iter().flat_map(|group| &group.seats);
        seats.map(|seat| base(&seat.paid)).sum()
    }

    fn whole(&self, base_units: &str) -> String {
        base(base_units).map_or_else(
            |_| base_units.to_owned(),
            |amount| TokenAmount::from_base_units(amount).to_decimal(self.decimals),
        )
    }
}

/// Asks the auditor again and again, until a group says that the cheater's strips are not those of the others, and
/// checks what that means for it.
pub(super) async fn cheater_found_out(
    market: &Market<'_>,
    job_id: &str,
    cheater: &str,
    progress: &Progress,
) -> Result<(), DemoError> {
    loop {
        let books = market.audit().await?;
        let ledger = Ledger::new(market, &books, job_id)?;
        if ledger.appeal_runs(cheater) {
            ledger.cheater_is_held(cheater)?;
            progress.say("two agree and one does not: the cheater is found out, its bond is locked, and it is not paid");
            return Ok(());
        }
        claim(!ledger.job.ended, || {
            "the cheater was found out before the job ended".to_owned()
        })?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn base(text: &str) -> Result<u128, DemoError> {
    text.parse()
        .map_err(|_| DemoError::Claim(format!("the auditor's books hold amounts (`{text}` is none)")))
}

fn claim(holds: bool, what: impl FnOnce() -> String) -> Result<(), DemoError> {
    if holds {
        Ok(())
    } else {
        Err(DemoError::Claim(what()))
    }
}
