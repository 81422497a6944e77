// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {IMarketErrors} from "../interfaces/IMarketErrors.sol";

/// @title Who signed (PROTOCOL.md T-20, T-21)
/// @notice ECDSA first, then ERC-1271 with a fixed allowance of gas and one word of answer, so that a signer contract
/// can neither burn the caller's gas nor fill its memory, and a caller cannot starve it into a refusal.
library Signatures {
    uint256 internal constant ERC1271_GAS = 100_000;
    /// What is kept beside the allowance for the call itself and what follows it.
    uint256 private constant GAS_MARGIN = 10_000;

    function isValid(address signer, bytes32 digest, bytes calldata signature) internal view returns (bool) {
        if (signer == address(0)) return false;
        (address recovered, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure == ECDSA.RecoverError.NoError && recovered == signer) return true;
        if (signer.code.length == 0) return false;
        return _askContract(signer, abi.encodeCall(IERC1271.isValidSignature, (digest, signature)));
    }

    function _askContract(address signer, bytes memory question) private view returns (bool valid) {
        // EIP-150 keeps back a 64th of what is left.
        uint256 needed = (ERC1271_GAS * 64) / 63 + GAS_MARGIN;
        if (gasleft() < needed) revert IMarketErrors.SignatureGasTooLow(gasleft(), needed);
        bytes32 answer;
        bool answered;
        // Solidity's own call would copy the whole answer to memory at our cost.
        assembly ("memory-safe") {
            mstore(0x00, 0)
            answered := staticcall(ERC1271_GAS, signer, add(question, 0x20), mload(question), 0x00, 0x20)
            answered := and(answered, gt(returndatasize(), 0x1f))
            answer := mload(0x00)
        }
        valid = answered && bytes4(answer) == IERC1271.isValidSignature.selector;
    }
}
