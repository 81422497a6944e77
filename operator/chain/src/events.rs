//! The market's logs as the core's events.

use ethers::abi::AbiDecode as _;
use ethers::contract::{EthEvent as _, EthLogDecode as _};
use ethers::types::H256;
use tradewind_market::eip712::StructHash as _;
use tradewind_market::event::{
    EntryRefusal, FillRefusal, GroupStatus, JobEvent, LedgerEvent, MarketEvent, Notice, PackedSeatStates,
    SeatKind, SeatStatus, StoredAt, UnknownNumber,
};
use tradewind_market::message::AbstainReason;
use tradewind_market::{Address, Bps, GroupIndex, Hash32, JobId, Nonce, SeatIndex, TokenAmount, UnixSeconds};

use crate::RawLog;
use crate::abi::{self, MarketEvents};
use crate::convert::{to_address, to_h256, to_u64};
use crate::follower::{ChainEvent, DecodeError};
use crate::struct_abi::read_terms;

/// What `FillSkipped` says of a request as a whole.
const WHOLE_REQUEST: u32 = u32::MAX;

impl ChainEvent for MarketEvent {
    fn decode(log: &RawLog) -> Result<Option<Self>, DecodeError> {
        let Some(event) = log.topics.first().and_then(|topic| name_of(to_h256(*topic))) else {
            return Ok(None);
        };
        let malformed = |reason: String| DecodeError {
            event,
            tx: log.tx,
            log_index: log.log_index,
            reason,
        };
        let decoded = MarketEvents::decode_log(&abi::to_ethers_log(log))
            .map_err(|error| malformed(error.to_string()))?;
        convert(decoded).map(Some).map_err(malformed)
    }

    fn sequence(&self) -> Option<(JobId, u64)> {
        match self {
            Self::Job { job, sequence, .. } => Some((*job, u64::from(*sequence))),
            Self::Ledger(_) | Self::Notice(_) => None,
        }
    }
}

macro_rules! names {
    ($($filter:ident),+ $(,)?) => {
        /// The name of the event with this signature hash, if it is one of the market's.
        fn name_of(topic: H256) -> Option<&'static str> {
            $(if topic == abi::$filter::signature() {
                return Some(stringify!($filter).trim_end_matches("Filter"));
            })+
            None
        }
    };
}

names!(
    DepositedFilter,
    WithdrawnFilter,
    BondPostedFilter,
    UnbondRequestedFilter,
    UnbondedFilter,
    OffersCancelledFilter,
    JobOpenedFilter,
    JobToppedUpFilter,
    SeatsFilledFilter,
    GroupsSealedFilter,
    JobCancelNoticedFilter,
    JobEndedFilter,
    SeatCommittedFilter,
    SeatAbstainedFilter,
    RevealStartedFilter,
    SeatRevealedFilter,
    ReceiptAttachedFilter,
    GroupJudgedFilter,
    SeatSettledFilter,
    GroupEndedFilter,
    FillSkippedFilter,
    EntrySkippedFilter,
    StepFailedFilter,
);

fn convert(event: MarketEvents) -> Result<MarketEvent, String> {
    Ok(match event {
        MarketEvents::DepositedFilter(_)
        | MarketEvents::WithdrawnFilter(_)
        | MarketEvents::BondPostedFilter(_)
        | MarketEvents::UnbondRequestedFilter(_)
        | MarketEvents::UnbondedFilter(_)
        | MarketEvents::OffersCancelledFilter(_) => MarketEvent::Ledger(ledger(event)?),
        MarketEvents::FillSkippedFilter(_)
        | MarketEvents::EntrySkippedFilter(_)
        | MarketEvents::StepFailedFilter(_) => MarketEvent::Notice(notice(event)?),
        MarketEvents::JobOpenedFilter(_)
        | MarketEvents::JobToppedUpFilter(_)
        | MarketEvents::SeatsFilledFilter(_)
        | MarketEvents::GroupsSealedFilter(_)
        | MarketEvents::JobCancelNoticedFilter(_)
        | MarketEvents::JobEndedFilter(_) => of_job(event)?,
        MarketEvents::SeatCommittedFilter(_)
        | MarketEvents::SeatAbstainedFilter(_)
        | MarketEvents::RevealStartedFilter(_)
        | MarketEvents::SeatRevealedFilter(_)
        | MarketEvents::ReceiptAttachedFilter(_) => of_round(event)?,
        MarketEvents::GroupJudgedFilter(_)
        | MarketEvents::SeatSettledFilter(_)
        | MarketEvents::GroupEndedFilter(_) => of_settlement(event)?,
    })
}

fn job(job: [u8; 32], sequence: u32, event: JobEvent) -> MarketEvent {
    MarketEvent::Job {
        job: JobId::from_bytes(job),
        sequence,
        event,
    }
}

fn hash(bytes: [u8; 32]) -> Hash32 {
    Hash32::from_bytes(bytes)
}

fn amount(base_units: u128) -> TokenAmount {
    TokenAmount::from_base_units(base_units)
}

fn named<T: TryFrom<u8, Error = UnknownNumber>>(number: u8) -> Result<T, String> {
    T::try_from(number).map_err(|error| error.to_string())
}

fn out_of_place(event: &MarketEvents) -> String {
    format!("{event:?} is of another kind")
}

fn ledger(event: MarketEvents) -> Result<LedgerEvent, String> {
    Ok(match event {
        MarketEvents::DepositedFilter(event) => LedgerEvent::Deposited {
            account: to_address(event.account),
            token: to_address(event.token),
            amount: amount(event.amount),
            intent: hash(event.intent),
        },
        MarketEvents::WithdrawnFilter(event) => LedgerEvent::Withdrawn {
            account: to_address(event.account),
            token: to_address(event.token),
            to: to_address(event.to),
            amount: amount(event.amount),
            intent: hash(event.intent),
        },
        MarketEvents::BondPostedFilter(event) => LedgerEvent::BondPosted {
            provider: to_address(event.provider),
            token: to_address(event.token),
            amount: amount(event.amount),
            intent: hash(event.intent),
        },
        MarketEvents::UnbondRequestedFilter(event) => LedgerEvent::UnbondRequested {
            provider: to_address(event.provider),
            token: to_address(event.token),
            amount: amount(event.amount),
            ready_at: UnixSeconds::new(event.ready_at),
        },
        MarketEvents::UnbondedFilter(event) => LedgerEvent::Unbonded {
            provider: to_address(event.provider),
            token: to_address(event.token),
            amount: amount(event.amount),
        },
        MarketEvents::OffersCancelledFilter(event) => LedgerEvent::OffersCancelled {
            provider: to_address(event.provider),
            series: event.series,
            min_nonce: Nonce::new(event.min_nonce),
        },
        other => return Err(out_of_place(&other)),
    })
}

fn notice(event: MarketEvents) -> Result<Notice, String> {
    Ok(match event {
        MarketEvents::FillSkippedFilter(event) => Notice::FillSkipped {
            job: JobId::from_bytes(event.job_id),
            provider: to_address(event.provider),
            offer_hash: hash(event.offer_hash).into(),
            group: (event.group != WHOLE_REQUEST).then_some(GroupIndex::new(event.group)),
            reason: named::<FillRefusal>(event.reason)?,
        },
        MarketEvents::EntrySkippedFilter(event) => Notice::EntrySkipped {
            job: JobId::from_bytes(event.job_id),
            provider: to_address(event.provider),
            group: GroupIndex::new(event.group),
            round: event.round,
            seat: SeatIndex::new(event.seat),
            reason: named::<EntryRefusal>(event.reason)?,
        },
        MarketEvents::StepFailedFilter(event) => Notice::StepFailed {
            index: to_u64(event.index).ok_or("the index is out of range")?,
            selector: event.selector,
            reason: event.reason.to_vec(),
        },
        other => return Err(out_of_place(&other)),
    })
}

fn of_job(event: MarketEvents) -> Result<MarketEvent, String> {
    Ok(match event {
        MarketEvents::JobOpenedFilter(event) => {
            // `abi.encode` of one struct: a list of one argument.
            let (terms,) = <(abi::Terms,)>::decode(&event.terms).map_err(|error| error.to_string())?;
            let terms = Box::new(read_terms(&terms)?);
            let terms_hash = hash(event.terms_hash);
            if terms.struct_hash() != terms_hash {
                return Err(format!(
                    "the terms hash to {}, not {terms_hash}",
                    terms.struct_hash()
                ));
            }
            let opened = JobEvent::Opened {
                buyer: to_address(event.buyer),
                token: to_address(event.token),
                nonce: hash(event.nonce).into(),
                escrow: amount(event.escrow),
                terms_hash,
                terms,
            };
            job(event.job_id, event.seq, opened)
        }
        MarketEvents::JobToppedUpFilter(event) => {
            let topped_up = JobEvent::ToppedUp {
                payer: to_address(event.payer),
                amount: amount(event.amount),
                intent: hash(event.intent),
            };
            job(event.job_id, event.seq, topped_up)
        }
        MarketEvents::SeatsFilledFilter(event) => {
            let filled = JobEvent::SeatsFilled {
                provider: to_address(event.provider),
                offer_hash: hash(event.offer_hash).into(),
                kind: named::<SeatKind>(event.kind)?,
                round: event.round,
                seat: SeatIndex::new(event.seat),
                first_group: GroupIndex::new(event.first_group),
                groups: event.groups,
                price_per_unit: amount(event.price_per_unit),
                series: event.series,
                charge_bps: Bps::new(event.charge_bps.into()),
                gateways: event.gateways,
            };
            job(event.job_id, event.seq, filled)
        }
        MarketEvents::GroupsSealedFilter(event) => {
            let sealed = JobEvent::GroupsSealed {
                first_group: GroupIndex::new(event.first_group),
                groups: event.groups,
                commit_by: UnixSeconds::new(event.commit_by),
            };
            job(event.job_id, event.seq, sealed)
        }
        MarketEvents::JobCancelNoticedFilter(event) => {
            let noticed = JobEvent::CancelNoticed {
                grace_until: UnixSeconds::new(event.grace_until),
            };
            job(event.job_id, event.seq, noticed)
        }
        MarketEvents::JobEndedFilter(event) => job(
            event.job_id,
            event.seq,
            JobEvent::Ended {
                refunded: amount(event.refunded),
            },
        ),
        other => return Err(out_of_place(&other)),
    })
}

fn of_round(event: MarketEvents) -> Result<MarketEvent, String> {
    Ok(match event {
        MarketEvents::SeatCommittedFilter(event) => {
            let committed = JobEvent::SeatCommitted {
                provider: to_address(event.provider),
                group: GroupIndex::new(event.group),
                round: event.round,
                seat: SeatIndex::new(event.seat),
                commitment: hash(event.commitment),
            };
            job(event.job_id, event.seq, committed)
        }
        MarketEvents::SeatAbstainedFilter(event) => {
            let abstained = JobEvent::SeatAbstained {
                provider: to_address(event.provider),
                group: GroupIndex::new(event.group),
                round: event.round,
                seat: SeatIndex::new(event.seat),
                reason: AbstainReason::from_number(event.reason).ok_or("an abstention without a reason")?,
            };
            job(event.job_id, event.seq, abstained)
        }
        MarketEvents::RevealStartedFilter(event) => {
            let started = JobEvent::RevealStarted {
                group: GroupIndex::new(event.group),
                round: event.round,
                reveal_by: UnixSeconds::new(event.reveal_by),
            };
            job(event.job_id, event.seq, started)
        }
        MarketEvents::SeatRevealedFilter(event) => {
            let gateway = to_address(event.gateway);
            let revealed = JobEvent::SeatRevealed {
                provider: to_address(event.provider),
                group: GroupIndex::new(event.group),
                round: event.round,
                seat: SeatIndex::new(event.seat),
                root_a: hash(event.root_a),
                hash_b: hash(event.hash_b),
                stored: (!gateway.is_zero()).then_some(stored_at(
                    gateway,
                    event.stored_root,
                    event.size,
                    event.until,
                )),
            };
            job(event.job_id, event.seq, revealed)
        }
        MarketEvents::ReceiptAttachedFilter(event) => {
            let attached = JobEvent::ReceiptAttached {
                provider: to_address(event.provider),
                group: GroupIndex::new(event.group),
                round: event.round,
                seat: SeatIndex::new(event.seat),
                stored: stored_at(
                    to_address(event.gateway),
                    event.stored_root,
                    event.size,
                    event.until,
                ),
            };
            job(event.job_id, event.seq, attached)
        }
        other => return Err(out_of_place(&other)),
    })
}

fn stored_at(gateway: Address, stored_root: [u8; 32], size: u64, until: u64) -> StoredAt {
    StoredAt {
        gateway,
        stored_root: hash(stored_root),
        size,
        until: UnixSeconds::new(until),
    }
}

fn of_settlement(event: MarketEvents) -> Result<MarketEvent, String> {
    Ok(match event {
        MarketEvents::GroupJudgedFilter(event) => {
            let judged = JobEvent::GroupJudged {
                group: GroupIndex::new(event.group),
                round: event.round,
                state: named::<GroupStatus>(event.state)?,
                root: hash(event.root),
                agreed: event.agreed,
                seat_states: PackedSeatStates(event.seat_states),
                settle_at: UnixSeconds::new(event.settle_at),
            };
            job(event.job_id, event.seq, judged)
        }
        MarketEvents::SeatSettledFilter(event) => {
            let settled = JobEvent::SeatSettled {
                provider: to_address(event.provider),
                group: GroupIndex::new(event.group),
                seat: SeatIndex::new(event.seat),
                state: named::<SeatStatus>(event.state)?,
                paid: amount(event.paid),
                charge_to_sink: amount(event.charge_to_sink),
                burned: amount(event.burned),
                bond_released: amount(event.bond_released),
            };
            job(event.job_id, event.seq, settled)
        }
        MarketEvents::GroupEndedFilter(event) => {
            let ended = JobEvent::GroupEnded {
                group: GroupIndex::new(event.group),
                state: named::<GroupStatus>(event.state)?,
                paid: amount(event.paid),
                fee: amount(event.fee),
                to_sink: amount(event.to_sink),
                released: amount(event.released),
            };
            job(event.job_id, event.seq, ended)
        }
        other => return Err(out_of_place(&other)),
    })
}
