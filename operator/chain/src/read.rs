//! The contracts' views: what the market and tokens say at one block. For decisions that the followed events cannot
//! carry, and to check them; never a substitute for following.

use ethers::abi::{AbiDecode, AbiEncode};
use ethers::types::U256;
use tradewind_market::event::{GroupStatus, SeatStatus};
use tradewind_market::{
    Address, Bps, Decimals, GroupIndex, Hash32, JobId, Nonce, RoundId, SeatIndex, Seconds, TokenAmount,
    UnitIndex, Units, UnixSeconds,
};

use crate::abi;
use crate::convert::{to_address, to_h160, to_u128};
use crate::node::NodeError;
use crate::{BlockTag, Call, Disposition, Node};

/// Why a view has no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The node did not answer, or the view reverted.
    #[error("{view}: {source}")]
    Node {
        /// The view.
        view: &'static str,
        /// Why.
        source: NodeError,
    },
    /// The answer is not what the view returns: there is no such contract at this block, or it is another.
    #[error("{view}: not the answer of such a contract: {reason}")]
    NotTheContract {
        /// The view.
        view: &'static str,
        /// What does not fit.
        reason: String,
    },
}

impl ReadError {
    /// What to do about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Node { source, .. } => source.disposition(),
            Self::NotTheContract { .. } => Disposition::AwaitChange,
        }
    }

    /// The innermost variant's name, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Node { source, .. } => source.label(),
            Self::NotTheContract { .. } => "NotTheContract",
        }
    }
}

/// What the market was deployed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// Fee on top of pay.
    pub fee_bps: Bps,
    /// From asking for a bond back to having it.
    pub unbond_delay: Seconds,
}

/// A provider's bond in one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bond {
    /// All of it.
    pub total: TokenAmount,
    /// Locked by awards.
    pub locked: TokenAmount,
    /// Asked back.
    pub leaving: TokenAmount,
    /// When what was asked back can be had.
    pub ready_at: UnixSeconds,
}

/// A series of a provider's offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series {
    /// Slots that awards hold now.
    pub slots_used: u32,
    /// Offers with a lower nonce are void.
    pub min_nonce: Nonce,
}

/// A job's state on chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Takes fills and seals until its time is over.
    Open,
    /// Notice of cancellation was given.
    Cancelling,
    /// No money is left in it.
    Ended,
}

/// A job as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// Its state.
    pub state: JobState,
    /// Who pays.
    pub buyer: Address,
    /// In which token.
    pub token: Address,
    /// What it was opened with.
    pub terms_hash: Hash32,
    /// The number of its last event: a follower that has fewer lacks some.
    pub sequence: u32,
    /// Its groups.
    pub groups: u32,
    /// Those that have ended.
    pub groups_ended: u32,
    /// Money in it.
    pub escrow: TokenAmount,
    /// The part of that which is promised to seats and reserves.
    pub allocated: TokenAmount,
    /// While open, fills and seals are taken until then; while cancelling, commitments.
    pub until: UnixSeconds,
}

/// A group as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Its state.
    pub state: GroupStatus,
    /// Its seats so far.
    pub seats: u8,
    /// Its first unit.
    pub first_unit: UnitIndex,
    /// Its units.
    pub units: Units,
    /// When anyone may end its present state.
    pub deadline: UnixSeconds,
}

/// A seat as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// Its state.
    pub state: SeatStatus,
    /// Whose it is.
    pub provider: Address,
    /// What a unit costs.
    pub price_per_unit: TokenAmount,
    /// What it earns if agreed.
    pub pay: TokenAmount,
    /// What it keeps if left hanging.
    pub charge: TokenAmount,
    /// What its provider has locked.
    pub bond: TokenAmount,
    /// The commitment, or from the reveal on root A.
    pub committed: Hash32,
}

/// Asks the views of one market and of tokens.
#[derive(Debug, Clone)]
pub struct Reader {
    node: Node,
    market: Address,
}

impl Reader {
    /// For the market at this address.
    pub fn new(node: Node, market: Address) -> Self {
        Self { node, market }
    }

    async fn ask<R: AbiDecode>(
        &self,
        view: &'static str,
        contract: Address,
        arguments: impl AbiEncode,
        at: BlockTag,
    ) -> Result<R, ReadError> {
        let call = Call {
            to: contract,
            data: arguments.encode(),
        };
        // The caller does not matter to views.
        let returned = self.node.call(Address::ZERO, &call, None, at).await;
        let returned = returned.map_err(|source| ReadError::Node { view, source })?;
        R::decode(&returned).map_err(|error| ReadError::NotTheContract {
            view,
            reason: error.to_string(),
        })
    }

    /// What the market was deployed with.
    pub async fn parameters(&self, at: BlockTag) -> Result<Parameters, ReadError> {
        let abi::ParametersReturn(parameters) = self
            .ask("parameters", self.market, abi::ParametersCall, at)
            .await?;
        Ok(Parameters {
            fee_bps: Bps::new(parameters.fee_bps.into()),
            unbond_delay: Seconds::new(parameters.unbond_delay.into()),
        })
    }

    /// The EIP-712 domain separator, to be compared with one's own before anything is signed.
    pub async fn domain_separator(&self, at: BlockTag) -> Result<Hash32, ReadError> {
        let abi::DomainSeparatorReturn(separator) = self
            .ask("domainSeparator", self.market, abi::DomainSeparatorCall, at)
            .await?;
        Ok(Hash32::from_bytes(separator))
    }

    /// What an account could withdraw.
    pub async fn balance_of(
        &self,
        account: Address,
        token: Address,
        at: BlockTag,
    ) -> Result<TokenAmount, ReadError> {
        let call = abi::BalanceOfCall {
            account: to_h160(account),
            token: to_h160(token),
        };
        let abi::BalanceOfReturn(balance) = self.ask("balanceOf", self.market, call, at).await?;
        amount("balanceOf", balance)
    }

    /// All that the market owes of a token.
    pub async fn held_of(&self, token: Address, at: BlockTag) -> Result<TokenAmount, ReadError> {
        let call = abi::HeldOfCall {
            token: to_h160(token),
        };
        let abi::HeldOfReturn(held) = self.ask("heldOf", self.market, call, at).await?;
        amount("heldOf", held)
    }

    /// What went to the sink of a token.
    pub async fn sink_of(&self, token: Address, at: BlockTag) -> Result<TokenAmount, ReadError> {
        let call = abi::SinkOfCall {
            token: to_h160(token),
        };
        let abi::SinkOfReturn(sink) = self.ask("sinkOf", self.market, call, at).await?;
        amount("sinkOf", sink)
    }

    /// A provider's bond.
    pub async fn bond_of(&self, provider: Address, token: Address, at: BlockTag) -> Result<Bond, ReadError> {
        let call = abi::BondOfCall {
            provider: to_h160(provider),
            token: to_h160(token),
        };
        let abi::BondOfReturn(bond) = self.ask("bondOf", self.market, call, at).await?;
        Ok(Bond {
            total: TokenAmount::from_base_units(bond.total),
            locked: TokenAmount::from_base_units(bond.locked),
            leaving: TokenAmount::from_base_units(bond.leaving),
            ready_at: UnixSeconds::new(bond.ready_at),
        })
    }

    /// A series of a provider's offers.
    pub async fn series_of(&self, provider: Address, series: u32, at: BlockTag) -> Result<Series, ReadError> {
        let call = abi::SeriesOfCall {
            provider: to_h160(provider),
            series,
        };
        let answer: abi::SeriesOfReturn = self.ask("seriesOf", self.market, call, at).await?;
        Ok(Series {
            slots_used: answer.slots_used,
            min_nonce: Nonce::new(answer.min_nonce),
        })
    }

    /// Whether a call with this intent took effect for the account.
    pub async fn intent_used(
        &self,
        account: Address,
        intent: Hash32,
        at: BlockTag,
    ) -> Result<bool, ReadError> {
        let call = abi::IntentUsedCall {
            account: to_h160(account),
            intent: *intent.as_bytes(),
        };
        let abi::IntentUsedReturn(used) = self.ask("intentUsed", self.market, call, at).await?;
        Ok(used)
    }

    /// A job, or `None` if there is none.
    pub async fn job_of(&self, job: JobId, at: BlockTag) -> Result<Option<Job>, ReadError> {
        const VIEW: &str = "jobOf";
        let call = abi::JobOfCall {
            job_id: *job.as_bytes(),
        };
        let abi::JobOfReturn(job) = self.ask(VIEW, self.market, call, at).await?;
        let state = match job.state {
            0 => return Ok(None),
            1 => JobState::Open,
            2 => JobState::Cancelling,
            3 => JobState::Ended,
            other => {
                return Err(unknown_number(
                    VIEW,
                    format!("no job state has the number {other}"),
                ));
            }
        };
        Ok(Some(Job {
            state,
            buyer: to_address(job.buyer),
            token: to_address(job.token),
            terms_hash: Hash32::from_bytes(job.terms_hash),
            sequence: job.seq,
            groups: job.groups,
            groups_ended: job.ended,
            escrow: TokenAmount::from_base_units(job.escrow),
            allocated: TokenAmount::from_base_units(job.allocated),
            until: UnixSeconds::new(job.until),
        }))
    }

    /// A group of a job.
    pub async fn group_of(&self, job: JobId, group: GroupIndex, at: BlockTag) -> Result<Group, ReadError> {
        const VIEW: &str = "groupOf";
        let call = abi::GroupOfCall {
            job_id: *job.as_bytes(),
            group: group.get(),
        };
        let abi::GroupOfReturn(group) = self.ask(VIEW, self.market, call, at).await?;
        Ok(Group {
            state: GroupStatus::try_from(group.state)
                .map_err(|error| unknown_number(VIEW, error.to_string()))?,
            seats: group.seats,
            first_unit: UnitIndex::new(group.first_unit),
            units: Units::new(group.units),
            deadline: UnixSeconds::new(group.deadline),
        })
    }

    /// A seat of a group, or `None` if nobody has it.
    pub async fn seat_of(
        &self,
        job: JobId,
        group: GroupIndex,
        seat: SeatIndex,
        at: BlockTag,
    ) -> Result<Option<Seat>, ReadError> {
        const VIEW: &str = "seatOf";
        let call = abi::SeatOfCall {
            job_id: *job.as_bytes(),
            group: group.get(),
            seat: seat.get(),
        };
        let abi::SeatOfReturn(seat) = self.ask(VIEW, self.market, call, at).await?;
        if seat.state == 0 {
            return Ok(None);
        }
        Ok(Some(Seat {
            state: SeatStatus::try_from(seat.state)
                .map_err(|error| unknown_number(VIEW, error.to_string()))?,
            provider: to_address(seat.provider),
            price_per_unit: TokenAmount::from_base_units(seat.price_per_unit),
            pay: TokenAmount::from_base_units(seat.pay),
            charge: TokenAmount::from_base_units(seat.charge),
            bond: TokenAmount::from_base_units(seat.bond),
            committed: Hash32::from_bytes(seat.committed),
        }))
    }

    /// The id of a round, once its group is sealed.
    pub async fn round_id_of(
        &self,
        job: JobId,
        group: GroupIndex,
        round: u8,
        at: BlockTag,
    ) -> Result<RoundId, ReadError> {
        let call = abi::RoundIdOfCall {
            job_id: *job.as_bytes(),
            group: group.get(),
            round,
        };
        let abi::RoundIdOfReturn(round) = self.ask("roundIdOf", self.market, call, at).await?;
        Ok(Hash32::from_bytes(round).into())
    }

    /// A token's decimal places.
    pub async fn token_decimals(&self, token: Address, at: BlockTag) -> Result<Decimals, ReadError> {
        const VIEW: &str = "decimals";
        let abi::token::DecimalsReturn(places) = self.ask(VIEW, token, abi::token::DecimalsCall, at).await?;
        Decimals::new(places).ok_or_else(|| unknown_number(VIEW, format!("{places} decimal places")))
    }

    /// A token's symbol.
    pub async fn token_symbol(&self, token: Address, at: BlockTag) -> Result<String, ReadError> {
        let abi::token::SymbolReturn(symbol) = self.ask("symbol", token, abi::token::SymbolCall, at).await?;
        Ok(symbol)
    }

    /// What an account has of a token, outside the market.
    pub async fn token_balance(
        &self,
        token: Address,
        account: Address,
        at: BlockTag,
    ) -> Result<TokenAmount, ReadError> {
        let call = abi::token::BalanceOfCall {
            account: to_h160(account),
        };
        let abi::token::BalanceOfReturn(balance) = self.ask("token balanceOf", token, call, at).await?;
        amount("token balanceOf", balance)
    }

    /// What the market may take of an account's tokens.
    pub async fn token_allowance(
        &self,
        token: Address,
        owner: Address,
        at: BlockTag,
    ) -> Result<TokenAmount, ReadError> {
        let call = abi::token::AllowanceCall {
            owner: to_h160(owner),
            spender: to_h160(self.market),
        };
        let abi::token::AllowanceReturn(allowance) = self.ask("allowance", token, call, at).await?;
        // "Without limit" is written as 2^256 - 1; more than an amount can be is as good as any.
        Ok(amount("allowance", allowance).unwrap_or(TokenAmount::MAX))
    }
}

fn amount(view: &'static str, number: U256) -> Result<TokenAmount, ReadError> {
    let fits = to_u128(number).map(TokenAmount::from_base_units);
    fits.ok_or_else(|| unknown_number(view, format!("{number} does not fit an amount")))
}

fn unknown_number(view: &'static str, reason: String) -> ReadError {
    ReadError::NotTheContract { view, reason }
}
