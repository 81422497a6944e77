// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// Takes one percent of every transfer.
contract FeeToken is ERC20("Fee", "FEE") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function _update(address from, address to, uint256 amount) internal override {
        uint256 kept = from == address(0) || to == address(0) ? 0 : amount / 100;
        super._update(from, to, amount - kept);
        if (kept > 0) super._update(from, address(0xFEE), kept);
    }
}

/// An old token: moves money, returns nothing.
contract SilentToken {
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function approve(address spender, uint256 amount) external {
        allowance[msg.sender][spender] = amount;
    }

    function transfer(address to, uint256 amount) external {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
    }

    function transferFrom(address from, address to, uint256 amount) external {
        allowance[from][msg.sender] -= amount;
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// Says yes and moves nothing.
contract LyingToken {
    function balanceOf(address) external pure returns (uint256) {
        return 1e30;
    }

    function transfer(address, uint256) external pure returns (bool) {
        return true;
    }

    function transferFrom(address, address, uint256) external pure returns (bool) {
        return true;
    }
}

/// Calls back into a target in the middle of each transfer, and remembers whether that was let through.
contract ReentrantToken is ERC20("Re", "RE") {
    address public target;
    bytes public call;
    bool public letThrough;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function aim(address target_, bytes calldata call_) external {
        (target, call) = (target_, call_);
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (target == address(0)) return;
        (bool ok,) = target.call(call);
        if (ok) letThrough = true;
    }
}
