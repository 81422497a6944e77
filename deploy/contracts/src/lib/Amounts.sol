// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {BPS} from "../Limits.sol";

/// @title What a seat costs and puts at stake (PROTOCOL.md, "Money")
/// @notice Pure. Shares that someone receives are rounded down, shares that someone puts at stake up.
library Amounts {
    function pay(uint96 pricePerUnit, uint32 units) internal pure returns (uint128) {
        return uint128(pricePerUnit) * units;
    }

    function shareDown(uint256 amount, uint256 bps) internal pure returns (uint256) {
        return (amount * bps) / BPS;
    }

    function shareUp(uint256 amount, uint256 bps) internal pure returns (uint256) {
        return (amount * bps + BPS - 1) / BPS;
    }

    /// What a no-show loses of its bond.
    function burn(uint256 payAmount, uint256 bondBps, uint256 noShowBps) internal pure returns (uint256) {
        uint256 bond = shareUp(payAmount, bondBps);
        uint256 wanted = shareUp(payAmount, noShowBps);
        return wanted < bond ? wanted : bond;
    }
}
