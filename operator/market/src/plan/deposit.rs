//! What a buyer's operator deposits before it stores a job's content: gateways store for those who have money in the
//! market, and what a job binds is taken from there.

use crate::amount::TokenAmount;

/// How much is kept in the market, as its owner configured it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepositBounds {
    /// Where something has to be deposited at all, the balance is filled up to this, so that not every job needs a
    /// deposit of its own.
    pub floor: TokenAmount,
    /// No deposit makes the balance larger than this, whatever is needed; zero where nothing is deposited.
    pub max: TokenAmount,
}

/// A buyer's money in one token, as of one block, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepositView {
    /// In its account, outside the market.
    pub wallet: TokenAmount,
    /// In its balance in the market.
    pub balance: TokenAmount,
    /// What the job binds as things are.
    pub need: TokenAmount,
    /// What other jobs are about to bind, out of the same balance.
    pub reserved: TokenAmount,
    /// Within which bounds.
    pub bounds: DepositBounds,
}

/// What is to be done before the job's content is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DepositStep {
    /// Nothing: the balance suffices, or is as large as it may be.
    Enough,
    /// Move money from the account into the market.
    Deposit {
        /// How much.
        amount: TokenAmount,
    },
    /// The account has too little.
    Short {
        /// How much is missing.
        missing: TokenAmount,
    },
}

/// What to do; done, the next answer is that it is enough. What others' jobs need delays no job that the account can
/// pay for: then the market takes the rest from the account when the job is opened.
pub fn deposit_plan(view: &DepositView) -> DepositStep {
    let DepositView {
        wallet,
        balance,
        need,
        reserved,
        bounds: DepositBounds { floor, max },
    } = *view;
    let lacking = |target: TokenAmount| target.checked_sub(balance).unwrap_or(TokenAmount::ZERO);
    let all = need.checked_add(reserved).unwrap_or(TokenAmount::MAX).min(max);
    if lacking(all).is_zero() {
        return DepositStep::Enough;
    }
    let own = lacking(need.min(max));
    if let Some(missing) = own.checked_sub(wallet)
        && !missing.is_zero()
    {
        return DepositStep::Short { missing };
    }
    let amount = lacking(all.max(floor.min(max))).min(wallet);
    if amount.is_zero() {
        DepositStep::Enough
    } else {
        DepositStep::Deposit { amount }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn units(units: u128) -> TokenAmount {
        TokenAmount::from_base_units(units)
    }

    const NO_BOUNDS: DepositBounds = DepositBounds {
        floor: TokenAmount::ZERO,
        max: TokenAmount::MAX,
    };

    #[test]
    fn a_job_is_covered_before_its_content_is_stored() {
        let check = |wallet, balance, need, reserved, bounds, expected| {
            let view = DepositView {
                wallet: units(wallet),
                balance: units(balance),
                need: units(need),
                reserved: units(reserved),
                bounds,
            };
            assert_eq!(deposit_plan(&view), expected, "{view:?}");
        };
        let deposit = |amount| DepositStep::Deposit {
            amount: units(amount),
        };
        let short = |missing| DepositStep::Short {
            missing: units(missing),
        };
        let bounds = |floor, max| DepositBounds {
            floor: units(floor),
            max: units(max),
        };
        check(100, 8, 8, 0, NO_BOUNDS, DepositStep::Enough);
        check(100, 0, 8, 0, NO_BOUNDS, deposit(8));
        check(100, 3, 8, 0, NO_BOUNDS, deposit(5));
        check(4, 3, 8, 0, NO_BOUNDS, short(1));
        // What other jobs are about to bind is no money of this one, and no reason to wait.
        check(100, 8, 8, 8, NO_BOUNDS, deposit(8));
        check(5, 8, 8, 8, NO_BOUNDS, deposit(5));
        check(0, 8, 8, 8, NO_BOUNDS, DepositStep::Enough);
        // The floor is for deposits that have to be made anyway.
        check(100, 3, 8, 0, bounds(50, 1000), deposit(47));
        check(100, 8, 8, 0, bounds(50, 1000), DepositStep::Enough);
        check(10, 3, 8, 0, bounds(50, 1000), deposit(10));
        // Never more than configured, and what is missing then is no shortage.
        check(100, 3, 8, 0, bounds(50, 5), deposit(2));
        check(0, 5, 8, 0, bounds(50, 5), DepositStep::Enough);
        check(0, 0, 8, 0, bounds(50, 0), DepositStep::Enough);
        check(100, 0, 0, 0, NO_BOUNDS, DepositStep::Enough);
    }

    proptest! {
        #[test]
        fn no_deposit_exceeds_its_bounds_and_one_is_enough(
            wallet in 0..100_u128, balance in 0..100_u128, need in 0..100_u128, reserved in 0..100_u128,
            floor in 0..100_u128, max in 0..100_u128,
        ) {
            let view = DepositView {
                wallet: units(wallet),
                balance: units(balance),
                need: units(need),
                reserved: units(reserved),
                bounds: DepositBounds { floor: units(floor), max: units(max) },
            };
            match deposit_plan(&view) {
                DepositStep::Enough => prop_assert!(balance >= need.min(max)),
                DepositStep::Short { missing } => {
                    prop_assert_eq!(wallet + balance + missing.base_units(), need.min(max));
                }
                DepositStep::Deposit { amount } => {
                    let amount = amount.base_units();
                    prop_assert!(amount > 0 && amount <= wallet);
                    prop_assert!(balance + amount <= max);
                    prop_assert!(balance + amount >= need.min(max));
                    let after = DepositView {
                        wallet: units(wallet - amount),
                        balance: units(balance + amount),
                        ..view
                    };
                    prop_assert_eq!(deposit_plan(&after), DepositStep::Enough);
                }
            }
        }
    }
}
