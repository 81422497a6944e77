// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IBatch, IJobs, IMarketViews} from "./interfaces/IMarket.sol";
import {MAX_FEE_BPS} from "./Limits.sol";
import {Pages} from "./lib/Pages.sol";
import {Rounds} from "./Rounds.sol";
import {Settlement} from "./Settlement.sol";
import {Parameters} from "./Types.sol";

/// @title The market
/// @notice The one address that holds money, keeps the ledger, emits every event and is named in every signature.
/// Rounds and settlement, which everybody calls most, are its own code; two parts, fixed for ever at deployment, carry
/// the code for jobs and for the ledger, run in this contract's storage and have none of their own. No owner, no upgrade, no pause: another version is another address.
contract Market is Rounds, Settlement, IBatch {
    /// How much of a failed step's revert data its notice carries.
    uint256 private constant MAX_REASON = 256;

    address private immutable JOBS;
    address private immutable LEDGER;

    constructor(Parameters memory parameters_, address jobsPart, address ledgerPart) {
        bool parts = jobsPart.code.length > 0 && ledgerPart.code.length > 0;
        if (!parts || parameters_.feeBps > MAX_FEE_BPS) revert ParametersInvalid();
        marketParameters = parameters_;
        JOBS = jobsPart;
        LEDGER = ledgerPart;
    }

    // The parts

    fallback() external {
        // Only a page that is being made calls without a selector.
        if (msg.data.length == 0) Pages.answer();
        address part = _partOf(msg.sig);
        // The part's answer, or its revert, is ours to the byte.
        assembly {
            calldatacopy(0, 0, calldatasize())
            let ok := delegatecall(gas(), part, 0, calldatasize(), 0, 0)
            returndatacopy(0, 0, returndatasize())
            switch ok
            case 0 { revert(0, returndatasize()) }
            default { return(0, returndatasize()) }
        }
    }

    /// Reading is the ledger's too: whatever is not named here is asked of it, and it refuses what it does not know.
    function _partOf(bytes4 selector) private view returns (address) {
        bool ofJobs = selector == IJobs.openJob.selector || selector == IJobs.fill.selector
            || selector == IJobs.seal.selector || selector == IJobs.topUp.selector
            || selector == IJobs.cancelJob.selector || selector == IMarketViews.hashTerms.selector
            || selector == IMarketViews.hashOffer.selector;
        return ofJobs ? JOBS : LEDGER;
    }

    // Several calls in one

    function multicall(bytes[] calldata calls) external returns (bytes[] memory results) {
        results = new bytes[](calls.length);
        for (uint256 i; i < calls.length; ++i) {
            bool ok;
            (ok, results[i]) = address(this).delegatecall(calls[i]);
            if (!ok) _revertWith(results[i]);
        }
    }

    function batch(bytes[] calldata calls) external returns (uint256 succeeded) {
        for (uint256 i; i < calls.length; ++i) {
            (bool ok, bytes memory answer) = address(this).delegatecall(calls[i]);
            if (ok) {
                ++succeeded;
            } else {
                emit StepFailed(i, bytes4(calls[i]), _start(answer));
            }
        }
    }

    function _revertWith(bytes memory reason) private pure {
        assembly ("memory-safe") {
            revert(add(reason, 0x20), mload(reason))
        }
    }

    function _start(bytes memory reason) private pure returns (bytes memory) {
        if (reason.length > MAX_REASON) {
            assembly ("memory-safe") {
                mstore(reason, MAX_REASON)
            }
        }
        return reason;
    }
}
