// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title A payment token for tests and local labs
/// @notice Anyone may mint. Never deploy it where money is meant.
contract LabToken is ERC20, ERC20Permit {
    constructor() ERC20("Tradewind Lab Token", "LAB") ERC20Permit("Tradewind Lab Token") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}
