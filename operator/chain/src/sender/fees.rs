//! What a transaction offers to pay for gas: from recent blocks, within the owner's bounds. Pure.

use crate::Wei;
use crate::node::FeeHistory;

/// What a transaction offers per unit of gas (EIP-1559).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fees {
    /// The most it pays in all.
    pub max_fee: Wei,
    /// The part of it that goes to the block's producer.
    pub priority_fee: Wei,
}

/// Bounds on fees, per chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeePolicy {
    /// No first attempt offers a lower priority fee.
    pub priority_floor: Wei,
    /// No first attempt offers a higher one, whatever the node says that others paid.
    pub priority_cap: Wei,
    /// No attempt at all pays more in all.
    pub max_fee_cap: Wei,
    /// How many recent blocks are looked at.
    pub history_blocks: u16,
    /// Which percentile of each block's priority fees is looked at, 0 to 100.
    pub percentile: u8,
}

impl Default for FeePolicy {
    /// For chains with fees like Ethereum's: tips of 0.01 to 3 gwei, at most 300 gwei in all.
    fn default() -> Self {
        Self {
            priority_floor: Wei::new(10_000_000),
            priority_cap: Wei::from_gwei(3),
            max_fee_cap: Wei::from_gwei(300),
            history_blocks: 20,
            percentile: 50,
        }
    }
}

/// The chain asks for more than the policy pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeesAboveCap {
    /// The next block's base fee.
    pub base_fee: Wei,
    /// The policy's cap.
    pub cap: Wei,
}

/// A replacement raises both fees by an eighth: nodes ask for a tenth, some for more than a tenth.
fn raised(fee: Wei) -> Wei {
    let fee = fee.get();
    let eighth = fee.div_ceil(8).max(1);
    Wei::new(fee.saturating_add(eighth))
}

impl FeePolicy {
    /// Fees for a first attempt: the median of recent tips, and room for the base fee to double.
    pub fn quote(&self, history: &FeeHistory) -> Result<Fees, FeesAboveCap> {
        let mut rewards = history.rewards.clone();
        rewards.sort_unstable();
        let median = rewards
            .get(rewards.len() / 2)
            .copied()
            .unwrap_or(self.priority_floor);
        let cap = self.max_fee_cap;
        let priority_fee = median.min(self.priority_cap).max(self.priority_floor).min(cap);
        let base_fee = history.next_base_fee;
        let needed = base_fee.checked_add(priority_fee);
        if needed.is_none_or(|needed| needed > cap) {
            return Err(FeesAboveCap { base_fee, cap });
        }
        let comfortable = base_fee
            .checked_mul(2)
            .and_then(|double| double.checked_add(priority_fee));
        Ok(Fees {
            max_fee: comfortable.map_or(cap, |fee| fee.min(cap)),
            priority_fee,
        })
    }

    /// Fees for an attempt that takes the place of one with `old` fees, or `None` where that would pass the cap.
    pub fn replacement(&self, old: Fees, quote: Fees) -> Option<Fees> {
        let max_fee = raised(old.max_fee).max(quote.max_fee);
        let priority_fee = raised(old.priority_fee).max(quote.priority_fee);
        (max_fee <= self.max_fee_cap && priority_fee <= max_fee).then_some(Fees {
            max_fee,
            priority_fee,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gwei(gwei: u64) -> Wei {
        Wei::from_gwei(gwei)
    }

    fn history(base_fee: Wei, rewards: &[Wei]) -> FeeHistory {
        FeeHistory {
            next_base_fee: base_fee,
            rewards: rewards.to_vec(),
        }
    }

    #[test]
    fn quotes_follow_recent_blocks_within_the_bounds() {
        let policy = FeePolicy::default();
        let check = |base: Wei, rewards: &[Wei], expected: Result<(Wei, Wei), Wei>| {
            let found = policy.quote(&history(base, rewards));
            let found = found
                .map(|fees| (fees.max_fee, fees.priority_fee))
                .map_err(|error| error.base_fee);
            assert_eq!(found, expected, "base {base}, rewards {rewards:?}");
        };
        check(gwei(10), &[gwei(1), gwei(2), gwei(2)], Ok((gwei(22), gwei(2))));
        check(gwei(10), &[gwei(50)], Ok((gwei(23), gwei(3))));
        check(Wei::new(7), &[], Ok((Wei::new(10_000_014), Wei::new(10_000_000))));
        check(gwei(200), &[gwei(2)], Ok((gwei(300), gwei(2))));
        check(gwei(299), &[gwei(2)], Err(gwei(299)));
        check(
            Wei::new(u128::MAX),
            &[Wei::new(u128::MAX)],
            Err(Wei::new(u128::MAX)),
        );
    }

    proptest! {
        #[test]
        fn whatever_a_node_says_fees_stay_within_the_cap(
            base in any::<u128>(),
            rewards in proptest::collection::vec(any::<u128>(), 0..8),
        ) {
            let policy = FeePolicy::default();
            let rewards: Vec<Wei> = rewards.into_iter().map(Wei::new).collect();
            if let Ok(fees) = policy.quote(&history(Wei::new(base), &rewards)) {
                prop_assert!(fees.max_fee <= policy.max_fee_cap);
                prop_assert!(fees.priority_fee <= fees.max_fee);
                prop_assert!(fees.max_fee.get() >= base);
            }
        }

        #[test]
        fn a_replacement_raises_both_fees_by_an_eighth_or_is_refused(max in 0u128..400_000_000_000, tip in 0u128..4_000_000_000) {
            let policy = FeePolicy::default();
            let old = Fees { max_fee: Wei::new(max.max(tip)), priority_fee: Wei::new(tip) };
            let quote = policy.quote(&history(gwei(1), &[gwei(1)])).unwrap();
            if let Some(new) = policy.replacement(old, quote) {
                prop_assert!(new.max_fee.get() * 8 >= old.max_fee.get() * 9 && new.max_fee > old.max_fee);
                prop_assert!(new.priority_fee.get() * 8 >= tip * 9 && new.priority_fee > old.priority_fee);
                prop_assert!(new.max_fee <= policy.max_fee_cap && new.priority_fee <= new.max_fee);
            } else {
                prop_assert!(old.max_fee.get() * 9 / 8 + 1 >= policy.max_fee_cap.get() || old.priority_fee >= old.max_fee);
            }
        }
    }
}
