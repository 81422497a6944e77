//! How judging and settling change a group, its seats and everyone's money.

use super::Tables;
use super::fold::{Anomaly, fits};
use super::record::{Bond, JobRecord};
use crate::amount::TokenAmount;
use crate::event::{GroupStatus, JobEvent, PackedSeatStates, SeatStatus};
use crate::quantity::SeatIndex;
use crate::state::group::GroupEnd;
use crate::state::{GroupEvent, IllegalEvent, Payout, SeatEvent, SeatState, SeatVerdict};

impl Tables {
    pub(super) fn judge_group(&mut self, job: &JobRecord, event: &JobEvent) -> Result<(), Anomaly> {
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

    pub(super) fn settle_seat(&mut self, job: &JobRecord, event: &JobEvent) -> Result<(), Anomaly> {
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

    pub(super) fn end_group(&mut self, job: &mut JobRecord, event: &JobEvent) -> Result<(), Anomaly> {
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
}

fn illegal_end(job: &JobRecord, event: &'static str) -> Anomaly {
    let source = IllegalEvent {
        subject: "group",
        state: "in a state that cannot follow",
        event,
    };
    Anomaly::Illegal { job: job.id, source }
}

fn verdict_of(job: &JobRecord, packed: PackedSeatStates, seat: SeatIndex) -> Result<SeatVerdict, Anomaly> {
    let status: SeatStatus = packed
        .of(seat)
        .map_err(|source| Anomaly::Number { job: job.id, source })?;
    SeatVerdict::from_status(status).ok_or_else(|| illegal_end(job, "GroupJudged"))
}
