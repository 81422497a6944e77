// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {MarketStorage} from "./MarketStorage.sol";

/// @title Code that the market runs as its own
/// @notice A part holds no money and no state: called at its own address it refuses.
abstract contract MarketPart is MarketStorage {
    address private immutable SELF = address(this);

    modifier onlyInMarket() {
        if (address(this) == SELF) revert CalledDirectly();
        _;
    }
}
