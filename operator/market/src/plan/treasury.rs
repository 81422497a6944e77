//! What a provider's operator does next with its money in the market: bond up to a target, earnings out.

use crate::amount::TokenAmount;
use crate::index::Bond;
use crate::quantity::Knowledge;

/// A provider's money in one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreasuryView {
    /// In its account, outside the market.
    pub wallet: Knowledge<TokenAmount>,
    /// In its balance in the market.
    pub balance: Knowledge<TokenAmount>,
    /// Its bond.
    pub bond: Knowledge<Bond>,
    /// What the bond shall be.
    pub bond_target: TokenAmount,
    /// Earnings below this stay, since moving them costs gas; `None` if they are never moved.
    pub withdraw_from: Option<TokenAmount>,
}

/// Something to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreasuryStep {
    /// Move money from the account into the market.
    Deposit {
        /// How much.
        amount: TokenAmount,
    },
    /// Move money from the balance to the bond.
    PostBond {
        /// How much.
        amount: TokenAmount,
    },
    /// Move money from the balance to the payout address.
    Withdraw {
        /// How much.
        amount: TokenAmount,
    },
    /// The bond stays below its target until the account has more.
    Short {
        /// How much is missing.
        amount: TokenAmount,
    },
}

/// What to do next; nothing while anything is unknown, and nothing twice, since each step changes what is known.
pub fn treasury_plan(view: &TreasuryView) -> Vec<TreasuryStep> {
    let (Some(balance), Some(bond)) = (view.balance.known(), view.bond.known()) else {
        return Vec::new();
    };
    // What is leaving cannot back anything, so it does not count.
    let standing = bond.total.checked_sub(bond.leaving).unwrap_or(TokenAmount::ZERO);
    let lacking = view
        .bond_target
        .checked_sub(standing)
        .unwrap_or(TokenAmount::ZERO);
    if lacking.is_zero() {
        return match view.withdraw_from {
            Some(least) if !balance.is_zero() && balance >= least => {
                vec![TreasuryStep::Withdraw { amount: balance }]
            }
            Some(_) | None => Vec::new(),
        };
    }
    let from_balance = lacking.min(balance);
    let needed = lacking.checked_sub(from_balance).unwrap_or(TokenAmount::ZERO);
    let Some(wallet) = view.wallet.known() else {
        return Vec::new();
    };
    let deposit = needed.min(wallet);
    let short = needed.checked_sub(deposit).unwrap_or(TokenAmount::ZERO);
    let posted = lacking.checked_sub(short).unwrap_or(TokenAmount::ZERO);
    let steps = [
        (deposit, TreasuryStep::Deposit { amount: deposit }),
        (posted, TreasuryStep::PostBond { amount: posted }),
        (short, TreasuryStep::Short { amount: short }),
    ];
    steps
        .into_iter()
        .filter(|(amount, _)| !amount.is_zero())
        .map(|(_, step)| step)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(units: u128) -> TokenAmount {
        TokenAmount::from_base_units(units)
    }

    #[test]
    fn the_bond_comes_first_and_nothing_is_done_blindly() {
        let view = TreasuryView {
            wallet: Knowledge::Known(units(100)),
            balance: Knowledge::Known(units(10)),
            bond: Knowledge::Known(Bond {
                total: units(40),
                leaving: units(15),
                ..Bond::default()
            }),
            bond_target: units(90),
            withdraw_from: Some(units(5)),
        };
        let check =
            |view: TreasuryView, expected: &[TreasuryStep]| assert_eq!(treasury_plan(&view), expected);
        check(
            view,
            &[
                TreasuryStep::Deposit { amount: units(55) },
                TreasuryStep::PostBond { amount: units(65) },
            ],
        );
        let poor = TreasuryView {
            wallet: Knowledge::Known(units(30)),
            ..view
        };
        check(
            poor,
            &[
                TreasuryStep::Deposit { amount: units(30) },
                TreasuryStep::PostBond { amount: units(40) },
                TreasuryStep::Short { amount: units(25) },
            ],
        );
        check(
            TreasuryView {
                bond_target: units(35),
                ..view
            },
            &[TreasuryStep::PostBond { amount: units(10) }],
        );
        let content = TreasuryView {
            bond_target: units(25),
            ..view
        };
        check(content, &[TreasuryStep::Withdraw { amount: units(10) }]);
        check(
            TreasuryView {
                withdraw_from: Some(units(11)),
                ..content
            },
            &[],
        );
        check(
            TreasuryView {
                withdraw_from: None,
                ..content
            },
            &[],
        );
        check(
            TreasuryView {
                wallet: Knowledge::Unknown,
                ..view
            },
            &[],
        );
        check(
            TreasuryView {
                bond: Knowledge::Unknown,
                ..view
            },
            &[],
        );
        check(
            TreasuryView {
                balance: Knowledge::Unknown,
                ..content
            },
            &[],
        );
    }
}
