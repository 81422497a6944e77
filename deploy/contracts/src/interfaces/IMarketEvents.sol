// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// @title What the market says
/// @notice Flat, and enough to rebuild all state without a call. Each event of a job carries its sequence number `seq`,
/// counted from 1 without gaps, so that a follower notices a missing log without trusting its node. Notices
/// (`FillSkipped`, `EntrySkipped`, `StepFailed`) change no state and carry none.
interface IMarketEvents {
    // Ledger

    event Deposited(address indexed account, address indexed token, uint128 amount, bytes32 intent);
    event Withdrawn(address indexed account, address indexed token, address to, uint128 amount, bytes32 intent);
    event BondPosted(address indexed provider, address indexed token, uint128 amount, bytes32 intent);
    /// `amount` is all that is leaving now, not what was added by the call.
    event UnbondRequested(address indexed provider, address indexed token, uint128 amount, uint64 readyAt);
    event Unbonded(address indexed provider, address indexed token, uint128 amount);
    event OffersCancelled(address indexed provider, uint32 indexed series, uint64 minNonce);

    // Jobs

    /// `terms` is `abi.encode(Terms)`.
    event JobOpened(
        bytes32 indexed jobId,
        address indexed buyer,
        address indexed token,
        uint32 seq,
        bytes32 nonce,
        uint128 escrow,
        bytes32 termsHash,
        bytes terms
    );
    event JobToppedUp(bytes32 indexed jobId, address indexed payer, uint32 seq, uint128 amount, bytes32 intent);
    /// Groups `firstGroup` to `firstGroup + groups - 1` each have `provider` in `seat` now.
    event SeatsFilled(
        bytes32 indexed jobId,
        address indexed provider,
        bytes32 indexed offerHash,
        uint32 seq,
        uint8 kind,
        uint8 round,
        uint8 seat,
        uint32 firstGroup,
        uint32 groups,
        uint128 pricePerUnit,
        uint32 series,
        uint16 chargeBps,
        uint8 gateways
    );
    event GroupsSealed(bytes32 indexed jobId, uint32 seq, uint32 firstGroup, uint32 groups, uint64 commitBy);
    /// Seats of running groups may commit until `graceUntil`, or until their own deadline if that is earlier.
    event JobCancelNoticed(bytes32 indexed jobId, uint32 seq, uint64 graceUntil);
    event JobEnded(bytes32 indexed jobId, uint32 seq, uint128 refunded);

    // Rounds

    event SeatCommitted(
        bytes32 indexed jobId,
        address indexed provider,
        uint32 seq,
        uint32 group,
        uint8 round,
        uint8 seat,
        bytes32 commitment
    );
    event SeatAbstained(
        bytes32 indexed jobId, address indexed provider, uint32 seq, uint32 group, uint8 round, uint8 seat, uint8 reason
    );
    event RevealStarted(bytes32 indexed jobId, uint32 seq, uint32 group, uint8 round, uint64 revealBy);
    /// `gateway` is zero where no valid receipt came with the reveal.
    event SeatRevealed(
        bytes32 indexed jobId,
        address indexed provider,
        uint32 seq,
        uint32 group,
        uint8 round,
        uint8 seat,
        bytes32 rootA,
        bytes32 hashB,
        address gateway,
        bytes32 storedRoot,
        uint64 size,
        uint64 until
    );
    event ReceiptAttached(
        bytes32 indexed jobId,
        address indexed provider,
        uint32 seq,
        uint32 group,
        uint8 round,
        uint8 seat,
        address gateway,
        bytes32 storedRoot,
        uint64 size,
        uint64 until
    );

    // Settlement

    /// `state` is the group's state after judging; `seatStates` holds four bits per seat, seat 0 lowest.
    event GroupJudged(
        bytes32 indexed jobId,
        uint32 seq,
        uint32 group,
        uint8 round,
        uint8 state,
        bytes32 root,
        uint8 agreed,
        uint32 seatStates,
        uint64 settleAt
    );
    /// `paid` includes a charge kept; `chargeToSink` is the buyer's, `burned` the provider's.
    event SeatSettled(
        bytes32 indexed jobId,
        address indexed provider,
        uint32 seq,
        uint32 group,
        uint8 seat,
        uint8 state,
        uint128 paid,
        uint128 chargeToSink,
        uint128 burned,
        uint128 bondReleased
    );
    /// `toSink` holds everything that went to the sink with this group: fee, charges, burns, unresolved shares.
    event GroupEnded(
        bytes32 indexed jobId,
        uint32 seq,
        uint32 group,
        uint8 state,
        uint128 paid,
        uint128 fee,
        uint128 toSink,
        uint128 released
    );

    // Notices

    event FillSkipped(
        bytes32 indexed jobId, address indexed provider, bytes32 offerHash, uint32 group, uint8 reason
    );
    event EntrySkipped(
        bytes32 indexed jobId, address indexed provider, uint32 group, uint8 round, uint8 seat, uint8 reason
    );
    /// A step of a batch failed alone; `reason` is the start of what it reverted with.
    event StepFailed(uint256 indexed index, bytes4 indexed selector, bytes reason);
}
