//! How each event changes the tables (PROTOCOL.md section 12, "a follower").

use std::sync::Arc;

use super::record::{Bond, GroupRecord, JobEntry, JobRecord, SeatRecord};
use super::{BlockNumber, Tables};
use crate::amount::TokenAmount;
use crate::event::{JobEvent, MarketEvent, Notice, UnknownNumber};
use crate::ids::{Address, JobId};
use crate::money::SeatMoney;
use crate::quantity::{GroupIndex, SeatIndex};
use crate::state::{GroupEvent, IllegalEvent, JobState, JobStep, Opening, SeatEvent, SeatState};

/// An event that does not fit what went before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Anomaly {
    /// An event of the job is missing, or came twice.
    #[error("job {job}: event {expected} was expected, event {found} came")]
    Gap {
        /// The job.
        job: JobId,
        /// The number that was expected.
        expected: u32,
        /// The number that came.
        found: u32,
    },
    /// The event cannot happen in the state it met.
    #[error("job {job}")]
    Illegal {
        /// The job.
        job: JobId,
        /// What cannot happen.
        #[source]
        source: IllegalEvent,
    },
    /// The event names a group or a seat that is not there, or another provider's.
    #[error("job {job}: the event names no such seat of group {group}")]
    NoSuchSeat {
        /// The job.
        job: JobId,
        /// The group.
        group: GroupIndex,
    },
    /// The event numbers a state that has no name.
    #[error("job {job}")]
    Number {
        /// The job.
        job: JobId,
        /// The number.
        #[source]
        source: UnknownNumber,
    },
    /// An amount becomes negative or does not fit.
    #[error("the entry {entry} would leave its range")]
    Amount {
        /// Which entry.
        entry: &'static str,
    },
    /// The job is quarantined since an earlier event.
    #[error("job {job} is quarantined")]
    Quarantined {
        /// The job.
        job: JobId,
    },
}

pub(super) fn fits<T>(value: Option<T>, entry: &'static str) -> Result<T, Anomaly> {
    value.ok_or(Anomaly::Amount { entry })
}

impl Tables {
    /// Folds one event whole, or not at all: a job whose event does not fit is quarantined.
    pub(super) fn fold(&mut self, block: BlockNumber, event: &MarketEvent) -> Result<(), Anomaly> {
        let before = self.savepoint();
        let (folded, job) = match event {
            MarketEvent::Ledger(ledger) => (self.fold_ledger(ledger), None),
            MarketEvent::Notice(notice) => {
                self.fold_notice(notice);
                return Ok(());
            }
            MarketEvent::Job { job, sequence, event } => {
                (self.fold_job(block, *job, *sequence, event), Some(*job))
            }
        };
        if let Err(anomaly) = &folded {
            self.rollback(before);
            if let Some(job) = job
                && !matches!(anomaly, Anomaly::Quarantined { .. })
            {
                self.jobs.set(job, JobEntry::Quarantined(anomaly.clone()));
            }
            let count = self.quarantined.get(&()).copied().unwrap_or(0);
            self.quarantined.set((), count.saturating_add(1));
        }
        folded
    }

    fn fold_notice(&mut self, notice: &Notice) {
        match *notice {
            // Only the buyer fills, so that nobody else can make this table grow.
            Notice::FillSkipped {
                job,
                offer_hash,
                reason,
                ..
            } => {
                self.refused_fills.set((job, offer_hash), reason);
            }
            Notice::EntrySkipped { .. } | Notice::StepFailed { .. } => {}
        }
    }

    fn fold_job(
        &mut self,
        block: BlockNumber,
        id: JobId,
        sequence: u32,
        event: &JobEvent,
    ) -> Result<(), Anomaly> {
        let (mut job, expected) = match self.jobs.get(&id) {
            Some(JobEntry::Quarantined(_)) => return Err(Anomaly::Quarantined { job: id }),
            Some(JobEntry::Sound(record)) => (Some(record.clone()), record.sequence.saturating_add(1)),
            None => (None, 1),
        };
        if sequence != expected {
            return Err(Anomaly::Gap {
                job: id,
                expected,
                found: sequence,
            });
        }
        match (&mut job, event) {
            (None, JobEvent::Opened { .. }) => job = Some(self.open_job(block, id, event)?),
            (Some(record), event) => {
                record.sequence = sequence;
                self.fold_open_job(record, event)?;
            }
            (None, _) => {
                return Err(Anomaly::Gap {
                    job: id,
                    expected: 0,
                    found: sequence,
                });
            }
        }
        if let Some(record) = job {
            self.jobs.set(id, JobEntry::Sound(record));
        }
        Ok(())
    }

    fn open_job(&mut self, block: BlockNumber, id: JobId, event: &JobEvent) -> Result<JobRecord, Anomaly> {
        let JobEvent::Opened {
            buyer,
            token,
            nonce,
            escrow,
            terms_hash,
            terms,
        } = event
        else {
            return Err(Anomaly::Gap {
                job: id,
                expected: 1,
                found: 1,
            });
        };
        self.take_balance(*buyer, *token, *escrow)?;
        self.jobs_of_buyers.set((*buyer, id), ());
        Ok(JobRecord {
            id,
            buyer: *buyer,
            nonce: *nonce,
            terms_hash: *terms_hash,
            terms: Arc::new(terms.as_ref().clone()),
            state: JobState::Open,
            sequence: 1,
            opened_in: block,
            escrow: *escrow,
            allocated: TokenAmount::ZERO,
            funded: *escrow,
            paid: TokenAmount::ZERO,
            to_sink: TokenAmount::ZERO,
            fees: TokenAmount::ZERO,
            groups: fits(terms.shape.groups(), "groups")?,
            groups_ended: 0,
        })
    }

    fn fold_open_job(&mut self, job: &mut JobRecord, event: &JobEvent) -> Result<(), Anomaly> {
        match *event {
            JobEvent::Opened { .. } => Err(Anomaly::Illegal {
                job: job.id,
                source: IllegalEvent {
                    subject: "job",
                    state: job.state.label(),
                    event: "Opened",
                },
            }),
            JobEvent::ToppedUp { payer, amount, .. } => {
                step_job(job, JobStep::Extended)?;
                self.take_balance(payer, job.terms.pricing.token, amount)?;
                job.escrow = fits(job.escrow.checked_add(amount), "escrow")?;
                job.funded = fits(job.funded.checked_add(amount), "funded")?;
                Ok(())
            }
            JobEvent::SeatsFilled {
                first_group, groups, ..
            } => {
                step_job(job, JobStep::Extended)?;
                each_group(first_group, groups, |group| self.fill_seat(job, group, event))
            }
            JobEvent::GroupsSealed {
                first_group,
                groups,
                commit_by,
            } => {
                step_job(job, JobStep::Extended)?;
                each_group(first_group, groups, |group| {
                    self.step_group(job, group, GroupEvent::Sealed { commit_by })?;
                    let reserve = fits(group_reserve(job, group), "reserve")?;
                    job.allocated = fits(job.allocated.checked_add(reserve), "allocated")?;
                    Ok(())
                })
            }
            JobEvent::CancelNoticed { grace_until } => step_job(job, JobStep::CancelNoticed { grace_until }),
            JobEvent::Ended { refunded } => {
                step_job(job, JobStep::Ended { refunded })?;
                job.escrow = fits(job.escrow.checked_sub(refunded), "escrow")?;
                self.add_balance(job.buyer, job.terms.pricing.token, refunded)
            }
            JobEvent::SeatCommitted {
                provider,
                group,
                seat,
                commitment,
                ..
            } => {
                self.step_group(job, group, GroupEvent::SeatSpoke)?;
                self.step_seat(job, group, seat, provider, SeatEvent::Committed { commitment })
            }
            JobEvent::SeatAbstained {
                provider,
                group,
                seat,
                reason,
                ..
            } => {
                self.step_group(job, group, GroupEvent::SeatSpoke)?;
                self.step_seat(job, group, seat, provider, SeatEvent::Abstained { reason })
            }
            JobEvent::RevealStarted { group, reveal_by, .. } => {
                self.step_group(job, group, GroupEvent::RevealStarted { reveal_by })
            }
            JobEvent::SeatRevealed {
                provider,
                group,
                seat,
                root_a,
                hash_b,
                stored,
                ..
            } => {
                self.step_group(job, group, GroupEvent::SeatOpened)?;
                let opening = Opening {
                    root_a,
                    hash_b,
                    stored,
                };
                self.step_seat(job, group, seat, provider, SeatEvent::Revealed { opening })
            }
            JobEvent::ReceiptAttached {
                provider,
                group,
                seat,
                stored,
                ..
            } => {
                self.step_group(job, group, GroupEvent::SeatOpened)?;
                self.step_seat(job, group, seat, provider, SeatEvent::ReceiptAttached { stored })
            }
            JobEvent::GroupJudged { .. } => self.judge_group(job, event),
            JobEvent::SeatSettled { .. } => self.settle_seat(job, event),
            JobEvent::GroupEnded { .. } => self.end_group(job, event),
        }
    }

    fn fill_seat(&mut self, job: &mut JobRecord, group: GroupIndex, event: &JobEvent) -> Result<(), Anomaly> {
        let JobEvent::SeatsFilled {
            provider,
            offer_hash,
            kind,
            round,
            seat,
            price_per_unit,
            series,
            charge_bps,
            gateways,
            ..
        } = *event
        else {
            return Ok(());
        };
        self.step_group(job, group, GroupEvent::SeatFilled)?;
        let pricing = &job.terms.pricing;
        let units = job
            .terms
            .shape
            .group_units(group)
            .ok_or(Anomaly::NoSuchSeat { job: job.id, group })?;
        let money = fits(
            SeatMoney::of(price_per_unit, units.count, pricing, charge_bps),
            "pay",
        )?;
        let mut record = self.group(job, group)?;
        if record.seats.len() != usize::from(seat.get()) {
            return Err(Anomaly::NoSuchSeat { job: job.id, group });
        }
        record.seats.push(SeatRecord {
            provider,
            offer_hash,
            kind,
            round,
            series,
            price_per_unit,
            charge_bps,
            gateways,
            money,
            state: SeatState::Awarded,
            abstained: None,
        });
        self.groups.set((job.id, group), record);
        self.jobs_of_providers.set((provider, job.id), ());
        self.change_bond(provider, pricing.token, |bond| {
            Some(Bond {
                locked: bond.locked.checked_add(money.bond)?,
                ..bond
            })
        })?;
        self.change_slots(provider, series, |used| {
            used.checked_add(job.terms.shape.slots_per_seat)
        })?;
        let allocated = money
            .allocation()
            .and_then(|more| job.allocated.checked_add(more));
        job.allocated = fits(allocated, "allocated")?;
        Ok(())
    }

    pub(super) fn group(&self, job: &JobRecord, group: GroupIndex) -> Result<GroupRecord, Anomaly> {
        if group.get() >= job.groups {
            return Err(Anomaly::NoSuchSeat { job: job.id, group });
        }
        Ok(self.groups.get(&(job.id, group)).cloned().unwrap_or_default())
    }

    pub(super) fn step_group(
        &mut self,
        job: &JobRecord,
        group: GroupIndex,
        event: GroupEvent,
    ) -> Result<(), Anomaly> {
        let mut record = self.group(job, group)?;
        record.state = record
            .state
            .next(event)
            .map_err(|source| Anomaly::Illegal { job: job.id, source })?;
        self.groups.set((job.id, group), record);
        Ok(())
    }

    pub(super) fn step_seat(
        &mut self,
        job: &JobRecord,
        group: GroupIndex,
        seat: SeatIndex,
        provider: Address,
        event: SeatEvent,
    ) -> Result<(), Anomaly> {
        let mut record = self.group(job, group)?;
        let found = record
            .seats
            .get_mut(usize::from(seat.get()))
            .filter(|seat| seat.provider == provider)
            .ok_or(Anomaly::NoSuchSeat { job: job.id, group })?;
        if let SeatEvent::Abstained { reason } = event {
            found.abstained = Some(reason);
        }
        found.state = found
            .state
            .next(event)
            .map_err(|source| Anomaly::Illegal { job: job.id, source })?;
        self.groups.set((job.id, group), record);
        Ok(())
    }
}

fn each_group(
    first: GroupIndex,
    count: u32,
    mut act: impl FnMut(GroupIndex) -> Result<(), Anomaly>,
) -> Result<(), Anomaly> {
    let end = first
        .get()
        .checked_add(count)
        .ok_or(Anomaly::Amount { entry: "groups" })?;
    (first.get()..end).map(GroupIndex::new).try_for_each(&mut act)
}

fn step_job(job: &mut JobRecord, step: JobStep) -> Result<(), Anomaly> {
    job.state = job
        .state
        .next(step)
        .map_err(|source| Anomaly::Illegal { job: job.id, source })?;
    Ok(())
}

fn group_reserve(job: &JobRecord, group: GroupIndex) -> Option<TokenAmount> {
    let units = job.terms.shape.group_units(group)?.count;
    job.terms.reserve_per_unit()?.checked_mul(u64::from(units.get()))
}
