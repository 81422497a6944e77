// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {
    Abstain,
    BondView,
    Commit,
    FillRequest,
    GroupView,
    JobView,
    Offer,
    Parameters,
    Receipt,
    Reveal,
    SeatView,
    Terms
} from "../Types.sol";
import {IMarketErrors} from "./IMarketErrors.sol";
import {IMarketEvents} from "./IMarketEvents.sol";

/// @title Balances and bonds
/// @notice Tokens enter by `deposit` and `openJob` and leave by `withdrawTo`; everything else moves entries in a ledger.
/// A call with an `intent` other than zero takes effect once per caller and intent; a repeat returns false.
interface ILedger {
    function deposit(address token, uint128 amount, bytes32 intent) external returns (bool done);
    function depositWithPermit(
        address token,
        uint128 amount,
        bytes32 intent,
        uint256 permitDeadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external returns (bool done);
    function withdrawTo(address token, uint128 amount, address to, bytes32 intent) external returns (bool done);
    function postBond(address token, uint128 amount, bytes32 intent) external returns (bool done);
    /// Makes `amount` all that is leaving; a raise starts the delay anew, a cut does not.
    function requestUnbond(address token, uint128 amount) external;
    function finishUnbond(address token) external returns (uint128 amount);
    /// Voids the caller's offers of the series whose nonce is below `minNonce`.
    function cancelOffers(uint32 series, uint64 minNonce) external;

    function balanceOf(address account, address token) external view returns (uint256);
    function bondOf(address provider, address token) external view returns (BondView memory);
    function sinkOf(address token) external view returns (uint256);
    /// What the market owes to anyone, in all: balances, bonds, escrows and sink.
    function heldOf(address token) external view returns (uint256);
    function intentUsed(address account, bytes32 intent) external view returns (bool);
    function seriesOf(address provider, uint32 series) external view returns (uint32 slotsUsed, uint64 minNonce);
}

/// @title Opening, filling, sealing and cancelling jobs
interface IJobs {
    function openJob(bytes32 nonce, Terms calldata terms, uint128 escrow, FillRequest[] calldata fills)
        external
        returns (bytes32 jobId);
    function fill(bytes32 jobId, Terms calldata terms, FillRequest[] calldata fills) external;
    function seal(bytes32 jobId, uint32 firstGroup, uint32 groups) external returns (uint32 sealedGroups);
    function topUp(bytes32 jobId, uint128 amount, bytes32 intent) external returns (bool done);
    function cancelJob(bytes32 jobId) external;
}

/// @title Commit, abstain, reveal
/// @notice With an empty signature the caller must be the provider; otherwise anyone may carry the message.
interface IRounds {
    function commit(Commit calldata message, bytes calldata signature) external;
    function abstain(Abstain calldata message, bytes calldata signature) external;
    function reveal(Reveal calldata message, bytes calldata signature) external;
}

/// @title Judging and settling, by anyone
/// @notice Groups that are not ready are passed over; the return value counts those that moved.
interface ISettlement {
    function judge(bytes32 jobId, uint32[] calldata groups) external returns (uint32 judged);
    function settle(bytes32 jobId, uint32[] calldata groups) external returns (uint32 settled);
    /// Ends groups that were never sealed, once the job takes no more seals.
    function closeGroups(bytes32 jobId, uint32[] calldata groups) external returns (uint32 closed);
}

/// @title Several calls in one transaction
interface IBatch {
    /// All or nothing.
    function multicall(bytes[] calldata calls) external returns (bytes[] memory results);
    /// Each failing alone, with a `StepFailed` notice; returns how many succeeded.
    function batch(bytes[] calldata calls) external returns (uint256 succeeded);
}

/// @title Reading and hashing
interface IMarketViews {
    function parameters() external view returns (Parameters memory);
    function domainSeparator() external view returns (bytes32);
    /// EIP-5267.
    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        );
    function jobOf(bytes32 jobId) external view returns (JobView memory);
    function groupOf(bytes32 jobId, uint32 group) external view returns (GroupView memory);
    function seatOf(bytes32 jobId, uint32 group, uint8 seat) external view returns (SeatView memory);
    function jobIdOf(address buyer, bytes32 nonce) external view returns (bytes32);
    function roundIdOf(bytes32 jobId, uint32 group, uint8 round) external view returns (bytes32);
    function hashTerms(Terms calldata terms) external pure returns (bytes32);
    function hashOffer(Offer calldata offer) external pure returns (bytes32);
    function hashReceipt(Receipt calldata receipt) external pure returns (bytes32);
}

/// @title The market, whole
/// @notice One address, one EIP-712 domain, one source of events, whatever contracts carry its code.
interface IMarket is
    ILedger,
    IJobs,
    IRounds,
    ISettlement,
    IBatch,
    IMarketViews,
    IMarketEvents,
    IMarketErrors
{}
