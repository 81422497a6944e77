// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IMarketErrors} from "../interfaces/IMarketErrors.sol";

/// @title What never changes, kept as code
/// @notice A page is the code of an account that the market made for it. A new word of storage costs 22,100 gas; 32
/// bytes of code cost 6,400, after 32,000 for the account, and a whole page is read for little more than one word. A
/// page's address follows from the job and the page's number, so that nothing needs to point to it, and nothing can
/// change or remove it. Knows no layout.
library Pages {
    /// @dev Asks its maker for the page and becomes it: `staticcall(gas(), caller(), 0, 0, 0, 0)`, then
    /// `returndatacopy(0, 0, returndatasize())`, then `return(0, returndatasize())`. The same for every page, so that the
    /// address depends on the salt alone.
    uint120 private constant CREATION = 0x5f5f5f5f335afa503d5f5f3e3d5ff3;
    bytes32 private constant CREATION_HASH = keccak256(hex"5f5f5f5f335afa503d5f5f3e3d5ff3");

    /// @dev Where the page being written waits: its length, then its words. Transient.
    uint256 private constant WAITING = uint256(keccak256("tradewind/page/1"));

    /// Where this page of the job is, or would be.
    function at(bytes32 jobId, uint256 index) internal view returns (address page) {
        bytes32 salt = _salt(jobId, index);
        bytes32 creation = CREATION_HASH;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, or(shl(248, 0xff), shl(88, address())))
            mstore(add(free, 21), salt)
            mstore(add(free, 53), creation)
            page := and(keccak256(free, 85), 0xffffffffffffffffffffffffffffffffffffffff)
        }
    }

    /// `length` bytes of a page; zeros beyond its end.
    function read(address page, uint256 length) internal view returns (bytes memory content) {
        assembly ("memory-safe") {
            content := mload(0x40)
            mstore(content, length)
            extcodecopy(page, add(content, 0x20), 0, length)
            mstore(0x40, add(add(content, 0x20), and(add(length, 0x1f), not(0x1f))))
        }
    }

    /// Two words of a page.
    function readWords(address page, uint256 offset) internal view returns (uint256 first, uint256 second) {
        assembly ("memory-safe") {
            extcodecopy(page, 0x00, offset, 0x40)
            first := mload(0x00)
            second := mload(0x20)
        }
    }

    /// Writes a page for ever. It must begin with a zero byte, the instruction `STOP`, so that nobody can run it.
    function write(bytes32 jobId, uint256 index, bytes memory content) internal {
        uint256 slot = WAITING;
        bytes32 salt = _salt(jobId, index);
        address page;
        assembly ("memory-safe") {
            let length := mload(content)
            tstore(slot, length)
            for { let done := 0 } lt(done, length) { done := add(done, 0x20) } {
                slot := add(slot, 1)
                tstore(slot, mload(add(add(content, 0x20), done)))
            }
            mstore(0x00, CREATION)
            page := create2(0, 0x11, 0x0f, salt)
        }
        slot = WAITING;
        assembly ("memory-safe") {
            tstore(slot, 0)
        }
        if (page == address(0) || page.code.length != content.length) revert IMarketErrors.PageNotWritten(jobId);
    }

    /// Ends the call with the page that waits to be written, if there is one: the other half of `write`.
    function answer() internal view {
        uint256 slot = WAITING;
        assembly ("memory-safe") {
            let length := tload(slot)
            if length {
                let content := mload(0x40)
                for { let done := 0 } lt(done, length) { done := add(done, 0x20) } {
                    slot := add(slot, 1)
                    mstore(add(content, done), tload(slot))
                }
                return(content, length)
            }
        }
    }

    function _salt(bytes32 jobId, uint256 index) private pure returns (bytes32 salt) {
        assembly ("memory-safe") {
            mstore(0x00, jobId)
            mstore(0x20, index)
            salt := keccak256(0x00, 0x40)
        }
    }
}
