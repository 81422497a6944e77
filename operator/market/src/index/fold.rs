//! How each event changes the tables (PROTOCOL.md section 12, "a follower").

use std::sync::Arc;

use super::record::{Bond, GroupRecord, JobEntry, JobRecord, SeatRecord};
use super::{BlockNumber, Tables};
use crate::amount::TokenAmount;
use crate::event::{
    GroupStatus, JobEvent, LedgerEvent, MarketEvent, Notice, PackedSeatStates, SeatStatus, UnknownNumber,
};
use crate::ids::{Address, JobId};
use crate::money::SeatMoney;
use crate::quantity::{GroupIndex, SeatIndex, Slots};
use crate::state::group::GroupEnd;
use crate::state::{
    GroupEvent, IllegalEvent, JobState, JobStep, Opening, Payout, SeatEvent, SeatState, SeatVerdict,
};

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

fn fits<T>(value: Option<T>, entry: &'static str) -> Result<T, Anomaly> {
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

    fn fold_ledger(&mut self, event: &LedgerEvent) -> Result<(), Anomaly> {
        match *event {
            LedgerEvent::Deposited {
                account,
                token,
                amount,
                ..
            } => {
                self.add_balance(account, token, amount)?;
                let held = self.held.get(&token).copied().unwrap_or_default();
                self.held.set(token, fits(held.checked_add(amount), "held")?);
            }
            LedgerEvent::Withdrawn {
                account,
                token,
                amount,
                ..
            } => {
                self.take_balance(account, token, amount)?;
                let held = self.held.get(&token).copied().unwrap_or_default();
                self.held.set(token, fits(held.checked_sub(amount), "held")?);
            }
            LedgerEvent::BondPosted {
                provider,
                token,
                amount,
                ..
            } => {
                self.take_balance(provider, token, amount)?;
                self.change_bond(provider, token, |bond| {
                    Some(Bond {
                        total: bond.total.checked_add(amount)?,
                        ..bond
                    })
                })?;
            }
            LedgerEvent::UnbondRequested {
                provider,
                token,
                amount,
                ready_at,
            } => {
                self.change_bond(provider, token, |bond| {
                    Some(Bond {
                        leaving: amount,
                        ready_at,
                        ..bond
                    })
                })?;
            }
            LedgerEvent::Unbonded {
                provider,
                token,
                amount,
            } => {
                self.change_bond(provider, token, |bond| {
                    let total = bond.total.checked_sub(amount)?;
                    Some(Bond {
                        total,
                        leaving: TokenAmount::ZERO,
                        ..bond
                    })
                })?;
                self.add_balance(provider, token, amount)?;
            }
            LedgerEvent::OffersCancelled {
                provider,
                series,
                min_nonce,
            } => {
                let mut entry = self.series.get(&(provider, series)).copied().unwrap_or_default();
                entry.min_nonce = entry.min_nonce.max(min_nonce);
                self.series.set((provider, series), entry);
            }
            LedgerEvent::GatewayAdded { gateway_id, gateway } => self.gateways.set(gateway_id, gateway),
        }
        Ok(())
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

    fn judge_group(&mut self, job: &JobRecord, event: &JobEvent) -> Result<(), Anomaly> {
        let JobEvent::GroupJudged {
            group,
            state,
            root,
            seat_states,
            settle_at,
            ..
        } = *event
        else {
            return Ok(());
        };
        let judged = match state {
            GroupStatus::Agreed => GroupEvent::JudgedAgreed { root, settle_at },
            GroupStatus::Contested => GroupEvent::JudgedContested { settle_at },
            GroupStatus::Refunded => GroupEvent::JudgedRefunded,
            GroupStatus::Filling
            | GroupStatus::Running
            | GroupStatus::Revealing
            | GroupStatus::Credited
            | GroupStatus::Inconclusive => return Err(illegal_end(job, "GroupJudged")),
        };
        self.step_group(job, group, judged)?;
        let mut record = self.group(job, group)?;
        for (place, seat) in (0u8..).zip(record.seats.iter_mut()) {
            let verdict = verdict_of(job, seat_states, SeatIndex::new(place))?;
            seat.state = seat
                .state
                .next(SeatEvent::Judged(verdict))
                .map_err(|source| Anomaly::Illegal { job: job.id, source })?;
        }
        self.groups.set((job.id, group), record);
        Ok(())
    }

    fn settle_seat(&mut self, job: &JobRecord, event: &JobEvent) -> Result<(), Anomaly> {
        let JobEvent::SeatSettled {
            provider,
            group,
            seat,
            state,
            paid,
            charge_to_sink,
            burned,
            bond_released,
        } = *event
        else {
            return Ok(());
        };
        let verdict = SeatVerdict::from_status(state).ok_or_else(|| illegal_end(job, "SeatSettled"))?;
        let payout = Payout {
            paid,
            charge_to_sink,
            burned,
            bond_released,
        };
        self.step_group(job, group, GroupEvent::SeatSettled)?;
        self.step_seat(job, group, seat, provider, SeatEvent::Settled { verdict, payout })?;
        let token = job.terms.pricing.token;
        self.add_balance(provider, token, paid)?;
        self.change_bond(provider, token, |bond| {
            let locked = bond.locked.checked_sub(burned)?.checked_sub(bond_released)?;
            Some(Bond {
                total: bond.total.checked_sub(burned)?,
                locked,
                ..bond
            })
        })?;
        let record = self.group(job, group)?;
        let series = record
            .seat(seat)
            .ok_or(Anomaly::NoSuchSeat { job: job.id, group })?
            .series;
        self.change_slots(provider, series, |used| {
            used.checked_sub(job.terms.shape.slots_per_seat)
        })
    }

    fn end_group(&mut self, job: &mut JobRecord, event: &JobEvent) -> Result<(), Anomaly> {
        let JobEvent::GroupEnded {
            group,
            state,
            paid,
            fee,
            to_sink,
            released,
        } = *event
        else {
            return Ok(());
        };
        let end = match state {
            GroupStatus::Credited => GroupEnd::Credited,
            GroupStatus::Inconclusive => GroupEnd::Inconclusive,
            GroupStatus::Refunded => GroupEnd::Refunded,
            GroupStatus::Filling
            | GroupStatus::Running
            | GroupStatus::Revealing
            | GroupStatus::Agreed
            | GroupStatus::Contested => return Err(illegal_end(job, "GroupEnded")),
        };
        self.step_group(job, group, GroupEvent::Ended(end))?;
        let record = self.group(job, group)?;
        let burned = record.seats.iter().map(|seat| match seat.state {
            SeatState::Settled { payout, .. } => Some(payout.burned),
            SeatState::Awarded
            | SeatState::Committed { .. }
            | SeatState::Abstained { .. }
            | SeatState::Opened { .. }
            | SeatState::Judged { .. } => None,
        });
        // Every seat is settled before its group ends.
        let burned = burned
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| illegal_end(job, "GroupEnded"))?;
        let burned = fits(TokenAmount::checked_sum(burned), "burned")?;
        let from_job = fits(to_sink.checked_sub(burned), "sink")?;
        let spent = fits(paid.checked_add(from_job), "escrow")?;
        job.escrow = fits(job.escrow.checked_sub(spent), "escrow")?;
        let allocation = fits(spent.checked_add(released), "allocated")?;
        job.allocated = fits(job.allocated.checked_sub(allocation), "allocated")?;
        job.paid = fits(job.paid.checked_add(paid), "paid")?;
        job.to_sink = fits(job.to_sink.checked_add(from_job), "sink")?;
        job.fees = fits(job.fees.checked_add(fee), "fees")?;
        job.groups_ended = fits(job.groups_ended.checked_add(1), "groups")?;
        let token = job.terms.pricing.token;
        let sink = self.sinks.get(&token).copied().unwrap_or_default();
        self.sinks.set(token, fits(sink.checked_add(to_sink), "sink")?);
        Ok(())
    }

    fn group(&self, job: &JobRecord, group: GroupIndex) -> Result<GroupRecord, Anomaly> {
        if group.get() >= job.groups {
            return Err(Anomaly::NoSuchSeat { job: job.id, group });
        }
        Ok(self.groups.get(&(job.id, group)).cloned().unwrap_or_default())
    }

    fn step_group(&mut self, job: &JobRecord, group: GroupIndex, event: GroupEvent) -> Result<(), Anomaly> {
        let mut record = self.group(job, group)?;
        record.state = record
            .state
            .next(event)
            .map_err(|source| Anomaly::Illegal { job: job.id, source })?;
        self.groups.set((job.id, group), record);
        Ok(())
    }

    fn step_seat(
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
        found.state = found
            .state
            .next(event)
            .map_err(|source| Anomaly::Illegal { job: job.id, source })?;
        self.groups.set((job.id, group), record);
        Ok(())
    }

    fn add_balance(&mut self, account: Address, token: Address, amount: TokenAmount) -> Result<(), Anomaly> {
        let balance = self.balances.get(&(account, token)).copied().unwrap_or_default();
        self.balances
            .set((account, token), fits(balance.checked_add(amount), "balance")?);
        Ok(())
    }

    /// Takes from a balance. Once a job is quarantined its money is missing from the ledger, so that an honest
    /// event of another may find too little: the entry then stays within its range, and [`super::MarketIndex`]
    /// says that it is not exact. The same holds for bonds and slots.
    fn take_balance(&mut self, account: Address, token: Address, amount: TokenAmount) -> Result<(), Anomaly> {
        let balance = self.balances.get(&(account, token)).copied().unwrap_or_default();
        let left = balance
            .checked_sub(amount)
            .or(self.unless_exact(TokenAmount::ZERO));
        self.balances.set((account, token), fits(left, "balance")?);
        Ok(())
    }

    fn change_bond(
        &mut self,
        provider: Address,
        token: Address,
        change: impl FnOnce(Bond) -> Option<Bond>,
    ) -> Result<(), Anomaly> {
        let bond = self.bonds.get(&(provider, token)).copied().unwrap_or_default();
        let changed = change(bond).or(self.unless_exact(bond));
        self.bonds.set((provider, token), fits(changed, "bond")?);
        Ok(())
    }

    fn change_slots(
        &mut self,
        provider: Address,
        series: u32,
        change: impl FnOnce(Slots) -> Option<Slots>,
    ) -> Result<(), Anomaly> {
        let mut entry = self.series.get(&(provider, series)).copied().unwrap_or_default();
        entry.used = fits(change(entry.used).or(self.unless_exact(entry.used)), "slots")?;
        self.series.set((provider, series), entry);
        Ok(())
    }

    fn unless_exact<T>(&self, value: T) -> Option<T> {
        self.quarantined.get(&()).map(|_| value)
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

fn illegal_end(job: &JobRecord, event: &'static str) -> Anomaly {
    let source = IllegalEvent {
        subject: "group",
        state: "in a state that cannot follow",
        event,
    };
    Anomaly::Illegal { job: job.id, source }
}

fn group_reserve(job: &JobRecord, group: GroupIndex) -> Option<TokenAmount> {
    let units = job.terms.shape.group_units(group)?.count;
    job.terms.reserve_per_unit()?.checked_mul(u64::from(units.get()))
}

fn verdict_of(job: &JobRecord, packed: PackedSeatStates, seat: SeatIndex) -> Result<SeatVerdict, Anomaly> {
    let status: SeatStatus = packed
        .of(seat)
        .map_err(|source| Anomaly::Number { job: job.id, source })?;
    SeatVerdict::from_status(status).ok_or_else(|| illegal_end(job, "GroupJudged"))
}
