//! The fence: ethers' numbers and hashes to the market's types and back. Every narrowing is checked, because a node
//! may answer with any number at all and ethers' own conversions panic.

use ethers::types::{H160, H256, U256};
use tradewind_market::{Address, Hash32};

pub(crate) fn to_h160(address: Address) -> H160 {
    H160(*address.as_bytes())
}

pub(crate) fn to_address(address: H160) -> Address {
    Address::from_bytes(address.0)
}

pub(crate) fn to_h256(hash: Hash32) -> H256 {
    H256(*hash.as_bytes())
}

pub(crate) fn to_hash(hash: H256) -> Hash32 {
    Hash32::from_bytes(hash.0)
}

/// `None` above `u64::MAX`.
pub(crate) fn to_u64(number: U256) -> Option<u64> {
    u64::try_from(number).ok()
}

/// `None` above `u128::MAX`.
pub(crate) fn to_u128(number: U256) -> Option<u128> {
    u128::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_do_not_fit_are_refused_not_cut() {
        assert_eq!(to_u64(U256::from(u64::MAX)), Some(u64::MAX));
        assert_eq!(to_u64(U256::from(u64::MAX) + 1), None);
        assert_eq!(to_u128(U256::from(u128::MAX)), Some(u128::MAX));
        assert_eq!(to_u128(U256::MAX), None);
    }
}
