//! How the treasury's steps get to the chain: one transaction at a time, each effect under an id that the contract
//! takes once. Pure.
//!
//! The ids count up, and the first that the chain has not used is the one to use: so a step that took effect is not
//! repeated after a restart, and a step that is wanted again later gets an id of its own.

use tradewind_chain::{Call, calls};
use tradewind_market::{Address, Hash32, TokenAmount, keccak256, plan::treasury::TreasuryStep};

/// What an intent of the treasury does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    Deposit,
    Bond,
    Withdraw,
}

impl Purpose {
    fn tag(self) -> &'static [u8] {
        match self {
            Self::Deposit => b"tradewind treasury deposit v1",
            Self::Bond => b"tradewind treasury bond v1",
            Self::Withdraw => b"tradewind treasury withdraw v1",
        }
    }
}

/// The id of the `count`-th effect of that purpose on that token.
pub(crate) fn intent_id(purpose: Purpose, token: Address, count: u64) -> Hash32 {
    keccak256(&[purpose.tag(), token.as_bytes(), &count.to_be_bytes()])
}

/// How many effects of each purpose the chain has seen of one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) deposits: u64,
    pub(crate) bonds: u64,
    pub(crate) withdrawals: u64,
}

/// The accounts that steps are between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accounts {
    pub(crate) market: Address,
    pub(crate) token: Address,
    /// Where earnings go, if they do.
    pub(crate) payout: Option<Address>,
}

/// One transaction of the treasury.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Act {
    pub(crate) id: Hash32,
    /// The effect that it makes possible; its own id where it is the effect.
    pub(crate) leads_to: Hash32,
    pub(crate) label: String,
    pub(crate) call: Call,
    pub(crate) shareable: bool,
}

/// The transaction that is due for a deposit of which `count` came before; `allowance` is what the market may pull
/// from the wallet.
pub(crate) fn deposit_act(
    market: Address,
    token: Address,
    amount: TokenAmount,
    count: u64,
    allowance: TokenAmount,
) -> Act {
    let id = intent_id(Purpose::Deposit, token, count);
    if amount > allowance {
        return approve_act(market, token, amount, id, id);
    }
    Act {
        id,
        leads_to: id,
        label: format!("deposit {amount} of {token}"),
        call: calls::deposit(market, token, amount, id),
        shareable: true,
    }
}

/// Lets the market pull what a deposit takes. Named by the deposit that it is for, since a later one may need an
/// approval of the same amount, and by the amount.
fn approve_act(
    market: Address,
    token: Address,
    amount: TokenAmount,
    deposit: Hash32,
    leads_to: Hash32,
) -> Act {
    let amount_bytes = amount.base_units().to_be_bytes();
    Act {
        id: keccak256(&[
            b"tradewind treasury approve v1",
            deposit.as_bytes(),
            &amount_bytes,
        ]),
        leads_to,
        label: format!("approve {amount} of {token}"),
        call: calls::approve(token, market, amount),
        shareable: false,
    }
}

/// The transaction that is due for these steps of a provider; `allowance` is what the market may pull from the wallet.
pub(crate) fn next_act(
    steps: &[TreasuryStep],
    accounts: Accounts,
    counts: Counts,
    allowance: TokenAmount,
) -> Option<Act> {
    let Accounts {
        market,
        token,
        payout,
    } = accounts;
    let id = |purpose, count| intent_id(purpose, token, count);
    let deposit = steps.iter().find_map(|step| match step {
        TreasuryStep::Deposit { amount } => Some(*amount),
        TreasuryStep::PostBond { .. } | TreasuryStep::Withdraw { .. } | TreasuryStep::Short { .. } => None,
    });
    if let Some(amount) = deposit.filter(|amount| *amount > allowance) {
        let deposit = id(Purpose::Deposit, counts.deposits);
        let bond = id(Purpose::Bond, counts.bonds);
        return Some(approve_act(market, token, amount, deposit, bond));
    }
    steps.iter().find_map(|step| match *step {
        TreasuryStep::PostBond { amount } => {
            let bond_id = id(Purpose::Bond, counts.bonds);
            let post = calls::post_bond(market, token, amount, bond_id);
            let call = match deposit {
                Some(deposit) => {
                    let deposit =
                        calls::deposit(market, token, deposit, id(Purpose::Deposit, counts.deposits));
                    calls::multicall(market, &[deposit, post])
                }
                None => post,
            };
            let shareable = deposit.is_none();
            Some(Act {
                id: bond_id,
                leads_to: bond_id,
                label: format!("bond {amount} of {token}"),
                call,
                shareable,
            })
        }
        TreasuryStep::Withdraw { amount } => {
            let id = id(Purpose::Withdraw, counts.withdrawals);
            let call = calls::withdraw_to(market, token, amount, payout?, id);
            Some(Act {
                id,
                leads_to: id,
                label: format!("withdraw {amount} of {token}"),
                call,
                shareable: true,
            })
        }
        TreasuryStep::Deposit { .. } | TreasuryStep::Short { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNTS: Accounts = Accounts {
        market: Address::from_bytes([1; 20]),
        token: Address::from_bytes([2; 20]),
        payout: Some(Address::from_bytes([3; 20])),
    };

    fn amount(units: u128) -> TokenAmount {
        TokenAmount::from_base_units(units)
    }

    fn act(steps: &[TreasuryStep], counts: Counts, allowance: u128) -> Option<Act> {
        next_act(steps, ACCOUNTS, counts, amount(allowance))
    }

    #[test]
    fn the_market_is_allowed_to_pull_before_it_is_asked_to() {
        let steps = [
            TreasuryStep::Deposit { amount: amount(40) },
            TreasuryStep::PostBond { amount: amount(60) },
        ];
        let approve = act(&steps, Counts::default(), 39).unwrap();
        assert_eq!(
            approve.call,
            calls::approve(ACCOUNTS.token, ACCOUNTS.market, amount(40))
        );
        let bond = act(&steps, Counts::default(), 40).unwrap();
        assert_eq!(bond.call.to, ACCOUNTS.market);
        assert_ne!(bond.id, approve.id);
        assert_eq!(
            approve.leads_to, bond.id,
            "which may have used the approval up already"
        );
        assert!(!bond.shareable, "what batches by itself shares no transaction");
    }

    #[test]
    fn an_effect_that_is_wanted_again_has_another_id() {
        let steps = [TreasuryStep::PostBond { amount: amount(60) }];
        let first = act(&steps, Counts::default(), 0).unwrap();
        assert_eq!(
            act(&steps, Counts::default(), 0),
            Some(first.clone()),
            "the same until the chain has it"
        );
        let again = act(
            &steps,
            Counts {
                bonds: 1,
                ..Counts::default()
            },
            0,
        )
        .unwrap();
        assert_ne!(again.id, first.id);
        assert!(first.shareable);
    }

    #[test]
    fn a_deposit_is_one_row_of_ids_with_those_of_bonds() {
        let of = |amount: u128, count, allowance: u128| {
            let (amount, allowance) = (self::amount(amount), self::amount(allowance));
            deposit_act(ACCOUNTS.market, ACCOUNTS.token, amount, count, allowance)
        };
        let (approve, deposit) = (of(8, 3, 7), of(8, 3, 8));
        assert_eq!(
            approve.call,
            calls::approve(ACCOUNTS.token, ACCOUNTS.market, amount(8))
        );
        let id = intent_id(Purpose::Deposit, ACCOUNTS.token, 3);
        assert_eq!(
            deposit.call,
            calls::deposit(ACCOUNTS.market, ACCOUNTS.token, amount(8), id),
            "the contract takes the id once"
        );
        assert_eq!(
            of(9, 3, 9).id,
            deposit.id,
            "one deposit at a time, however many ask"
        );
        assert_ne!(of(8, 4, 8).id, deposit.id);
        let bonding = [
            TreasuryStep::Deposit { amount: amount(8) },
            TreasuryStep::PostBond { amount: amount(8) },
        ];
        let counts = Counts {
            deposits: 3,
            ..Counts::default()
        };
        assert_eq!(
            act(&bonding, counts, 7).unwrap().id,
            approve.id,
            "an account with both roles deposits in turn"
        );
    }

    #[test]
    fn earnings_leave_only_to_a_named_account() {
        let steps = [TreasuryStep::Withdraw { amount: amount(7) }];
        assert!(act(&steps, Counts::default(), 0).is_some());
        let nowhere = Accounts {
            payout: None,
            ..ACCOUNTS
        };
        assert_eq!(next_act(&steps, nowhere, Counts::default(), amount(0)), None);
    }

    #[test]
    fn what_is_short_alone_moves_nothing() {
        assert_eq!(
            act(&[TreasuryStep::Short { amount: amount(7) }], Counts::default(), 0),
            None
        );
        assert_eq!(act(&[], Counts::default(), 0), None);
    }
}
