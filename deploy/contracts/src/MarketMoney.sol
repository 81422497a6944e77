// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {MarketStorage} from "./MarketStorage.sol";

/// @title Tokens in and out, and the balances they become (PROTOCOL.md M-1)
/// @notice The only code that calls tokens. It never runs between a check and the effect that relies on it: callers are
/// non-reentrant and take from a balance only after the pull.
abstract contract MarketMoney is MarketStorage {
    using SafeERC20 for IERC20;

    /// Takes exactly `amount` from the caller into its balance.
    function _pull(address token, uint128 amount, bytes32 intent) internal {
        uint256 before = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        uint256 got = IERC20(token).balanceOf(address(this)) - before;
        if (got != amount) revert TransferInexact(token, amount, got);
        held[token] += amount;
        balances[msg.sender][token] += amount;
        emit Deposited(msg.sender, token, amount, intent);
    }

    /// Sends exactly `amount`, already taken from a balance, to `to`.
    function _push(address token, uint128 amount, address to) internal {
        held[token] -= amount;
        uint256 before = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransfer(to, amount);
        uint256 sent = before - IERC20(token).balanceOf(address(this));
        if (sent != amount) revert TransferInexact(token, amount, sent);
    }

    function _takeBalance(address account, address token, uint256 amount) internal {
        uint256 available = balances[account][token];
        if (available < amount) revert BalanceTooSmall(available, amount);
        balances[account][token] = available - amount;
    }

    /// Takes from the caller's balance, pulling from its wallet what the balance lacks.
    function _takeOrPull(address token, uint128 amount) internal {
        uint256 available = balances[msg.sender][token];
        if (available < amount) _pull(token, amount - uint128(available), bytes32(0));
        balances[msg.sender][token] -= amount;
    }

    /// Whether the caller may act on this intent; notes it so that it acts once. Zero is no intent.
    function _once(bytes32 intent) internal returns (bool) {
        if (intent == bytes32(0)) return true;
        if (intents[msg.sender][intent]) return false;
        intents[msg.sender][intent] = true;
        return true;
    }
}
