//! Calls to the market and to tokens, from typed arguments to calldata (PROTOCOL.md section 6).
//!
//! It only writes them down: what a call means, and whether it is wise, is for the core; that it happens once, for the
//! [`crate::sender`].

use ethers::abi::AbiEncode;
use ethers::contract::EthError as _;
use ethers::types::U256;
use tradewind_market::message::{Abstain, Commit, HexBytes, Reveal};
use tradewind_market::offer::Offer;
use tradewind_market::terms::Terms;
use tradewind_market::{Address, GroupIndex, Hash32, JobId, JobNonce, Nonce, TokenAmount};

use crate::abi;
use crate::convert::to_h160;
use crate::struct_abi::{write_abstain, write_commit, write_offer, write_reveal, write_terms};
use crate::{Call, Signature};

pub use crate::struct_abi::DoesNotFit;

/// A request to seat an offer's provider in consecutive groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// The offer.
    pub offer: Offer,
    /// Its provider's signature, or what a provider's contract takes for one.
    pub signature: HexBytes,
    /// The first group.
    pub first_group: GroupIndex,
    /// How many groups.
    pub groups: u32,
}

/// Who vouches for a message that is carried to the market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Voucher {
    /// The provider itself makes the call.
    Caller,
    /// The provider signed with its key.
    Signed(Signature),
    /// The provider is a contract that knows what it takes for a signature (ERC-1271).
    Contract(HexBytes),
}

impl Voucher {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Caller => Vec::new(),
            Self::Signed(signature) => signature.as_bytes().to_vec(),
            Self::Contract(bytes) => bytes.0.clone(),
        }
    }
}

fn call(to: Address, arguments: impl AbiEncode) -> Call {
    Call {
        to,
        data: arguments.encode(),
    }
}

fn fills(fills: &[Fill]) -> Result<Vec<abi::FillRequest>, DoesNotFit> {
    let fill = |fill: &Fill| {
        Ok(abi::FillRequest {
            offer: write_offer(&fill.offer)?,
            signature: fill.signature.0.clone().into(),
            first_group: fill.first_group.get(),
            groups: fill.groups,
        })
    };
    fills.iter().map(fill).collect()
}

fn group_numbers(groups: &[GroupIndex]) -> Vec<u32> {
    groups.iter().map(|group| group.get()).collect()
}

/// C-1.
pub fn deposit(market: Address, token: Address, amount: TokenAmount, intent: Hash32) -> Call {
    let (token, amount, intent) = (to_h160(token), amount.base_units(), *intent.as_bytes());
    call(
        market,
        abi::DepositCall {
            token,
            amount,
            intent,
        },
    )
}

/// C-3.
pub fn withdraw_to(
    market: Address,
    token: Address,
    amount: TokenAmount,
    to: Address,
    intent: Hash32,
) -> Call {
    let (token, amount, to, intent) = (
        to_h160(token),
        amount.base_units(),
        to_h160(to),
        *intent.as_bytes(),
    );
    call(
        market,
        abi::WithdrawToCall {
            token,
            amount,
            to,
            intent,
        },
    )
}

/// C-4.
pub fn post_bond(market: Address, token: Address, amount: TokenAmount, intent: Hash32) -> Call {
    let (token, amount, intent) = (to_h160(token), amount.base_units(), *intent.as_bytes());
    call(
        market,
        abi::PostBondCall {
            token,
            amount,
            intent,
        },
    )
}

/// C-5.
pub fn request_unbond(market: Address, token: Address, amount: TokenAmount) -> Call {
    call(
        market,
        abi::RequestUnbondCall {
            token: to_h160(token),
            amount: amount.base_units(),
        },
    )
}

/// C-6.
pub fn finish_unbond(market: Address, token: Address) -> Call {
    call(
        market,
        abi::FinishUnbondCall {
            token: to_h160(token),
        },
    )
}

/// C-7.
pub fn cancel_offers(market: Address, series: u32, min_nonce: Nonce) -> Call {
    call(
        market,
        abi::CancelOffersCall {
            series,
            min_nonce: min_nonce.get(),
        },
    )
}

/// C-10.
pub fn open_job(
    market: Address,
    nonce: JobNonce,
    terms: &Terms,
    escrow: TokenAmount,
    requests: &[Fill],
) -> Result<Call, DoesNotFit> {
    let (nonce, terms, escrow) = (*nonce.as_bytes(), write_terms(terms)?, escrow.base_units());
    Ok(call(
        market,
        abi::OpenJobCall {
            nonce,
            terms,
            escrow,
            fills: fills(requests)?,
        },
    ))
}

/// C-11.
pub fn fill(market: Address, job: JobId, terms: &Terms, requests: &[Fill]) -> Result<Call, DoesNotFit> {
    let (job_id, terms) = (*job.as_bytes(), write_terms(terms)?);
    Ok(call(
        market,
        abi::FillCall {
            job_id,
            terms,
            fills: fills(requests)?,
        },
    ))
}

/// C-12.
pub fn seal(market: Address, job: JobId, first_group: GroupIndex, groups: u32) -> Call {
    call(
        market,
        abi::SealCall {
            job_id: *job.as_bytes(),
            first_group: first_group.get(),
            groups,
        },
    )
}

/// C-13.
pub fn top_up(market: Address, job: JobId, amount: TokenAmount, intent: Hash32) -> Call {
    let (job_id, amount, intent) = (*job.as_bytes(), amount.base_units(), *intent.as_bytes());
    call(
        market,
        abi::TopUpCall {
            job_id,
            amount,
            intent,
        },
    )
}

/// C-14.
pub fn cancel_job(market: Address, job: JobId) -> Call {
    call(
        market,
        abi::CancelJobCall {
            job_id: *job.as_bytes(),
        },
    )
}

/// C-20.
pub fn commit(market: Address, message: &Commit, voucher: &Voucher) -> Call {
    call(
        market,
        abi::CommitCall {
            message: write_commit(message),
            signature: voucher.bytes().into(),
        },
    )
}

/// C-21.
pub fn abstain(market: Address, message: &Abstain, voucher: &Voucher) -> Call {
    call(
        market,
        abi::AbstainCall {
            message: write_abstain(message),
            signature: voucher.bytes().into(),
        },
    )
}

/// C-22.
pub fn reveal(market: Address, message: &Reveal, voucher: &Voucher) -> Call {
    call(
        market,
        abi::RevealCall {
            message: write_reveal(message),
            signature: voucher.bytes().into(),
        },
    )
}

/// C-30.
pub fn judge(market: Address, job: JobId, groups: &[GroupIndex]) -> Call {
    call(
        market,
        abi::JudgeCall {
            job_id: *job.as_bytes(),
            groups: group_numbers(groups),
        },
    )
}

/// C-31.
pub fn settle(market: Address, job: JobId, groups: &[GroupIndex]) -> Call {
    call(
        market,
        abi::SettleCall {
            job_id: *job.as_bytes(),
            groups: group_numbers(groups),
        },
    )
}

/// C-32.
pub fn close_groups(market: Address, job: JobId, groups: &[GroupIndex]) -> Call {
    call(
        market,
        abi::CloseGroupsCall {
            job_id: *job.as_bytes(),
            groups: group_numbers(groups),
        },
    )
}

/// C-40: all or nothing, in this order. An intent that is a `multicall` cannot share a transaction.
pub fn multicall(market: Address, calls: &[Call]) -> Call {
    let calls = calls.iter().map(|call| call.data.clone().into()).collect();
    call(market, abi::MulticallCall { calls })
}

/// ERC-20: lets `spender` take up to `amount` of the caller's tokens.
pub fn approve(token: Address, spender: Address, amount: TokenAmount) -> Call {
    call(
        token,
        abi::token::ApproveCall {
            spender: to_h160(spender),
            amount: U256::from(amount.base_units()),
        },
    )
}

/// The lab's token, which anyone may mint.
pub fn mint(token: Address, to: Address, amount: TokenAmount) -> Call {
    call(
        token,
        abi::token::MintCall {
            to: to_h160(to),
            amount: U256::from(amount.base_units()),
        },
    )
}

macro_rules! describe_market_errors {
    ($data:expr; $($error:ident),+ $(,)?) => {
        $(if let Some(error) = abi::$error::decode_with_selector($data) {
            return format!("{}({error})", abi::$error::error_name());
        })+
    };
}

/// What a contract says by reverting with `data`: an error of the market with its fields, or the text of a `require`.
pub fn describe_revert(data: &[u8]) -> String {
    describe_market_errors!(data;
        AddressInvalid,
        AmountZero,
        BalanceTooSmall,
        BondTooSmall,
        CalledDirectly,
        CountInvalid,
        JobCancelled,
        JobExists,
        JobNotOpen,
        JobUnknown,
        ParametersInvalid,
        NotBuyer,
        NotReady,
        MessageExpired,
        PageNotWritten,
        SignatureInvalid,
        SignatureGasTooLow,
        SelectorUnknown,
        TermsInvalid,
        TermsMismatch,
        TransferInexact,
    );
    match String::decode_with_selector(data) {
        Some(reason) => reason,
        None if data.is_empty() => "reverted without a reason".to_owned(),
        None => format!(
            "reverted with 0x{}",
            hex::encode(&data[..data.len().min(REVERT_BYTES_SHOWN)])
        ),
    }
}

/// A selector and two words: enough to look an unknown error up.
const REVERT_BYTES_SHOWN: usize = 68;
