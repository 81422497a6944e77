// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

// The words of the protocol as types. Every struct that is signed or hashed is an EIP-712 struct with exactly these
// fields in exactly this order (PROTOCOL.md, "Typed data"); none has more than twelve fields, because some generators
// of bindings cannot derive the usual traits for more.

/// @notice How a group's result is trusted. Only `Quorum` can be opened by this version of the market.
enum Policy {
    Quorum,
    Sampled,
    Adaptive,
    Attested
}

/// @notice A job: `Open` takes money, fills and seals; `Cancelling` has had notice; `Ended` has no money left in it.
enum JobState {
    None,
    Open,
    Cancelling,
    Ended
}

/// @notice A group's state. The last three are ends; `Appealed` and `Checking` belong to drawn rounds.
enum GroupState {
    Filling,
    Running,
    Revealing,
    Appealed,
    Checking,
    Agreed,
    Contested,
    Credited,
    Inconclusive,
    Refunded
}

/// @notice A seat's state. Up to `Stored` it is what the seat did; from `NoShow` on it is what that came to.
enum SeatState {
    Empty,
    Awarded,
    Committed,
    Abstained,
    Revealed,
    Stored,
    NoShow,
    Agreed,
    Unstored,
    Dissent,
    Excused,
    Unresolved,
    Overruled
}

/// @notice How a seat came into its group.
enum SeatKind {
    Picked,
    Drawn,
    Replacement
}

/// @notice Why a fill, or one group of it, was passed over.
enum FillRefusal {
    None,
    SignatureInvalid,
    NotYetValid,
    Expired,
    Superseded,
    BuyerNotAllowed,
    TokenMismatch,
    ClassMismatch,
    PriceAboveCap,
    TermsOutOfBounds,
    NoCommonGateway,
    VerifierNotNamed,
    ChargeAboveBurn,
    TooManyFills,
    GroupOutOfRange,
    GroupNotFilling,
    GroupFull,
    AlreadySeated,
    SlotsSpent,
    BondTooSmall,
    EscrowSpent
}

/// @notice Why one entry of a commit, abstain or reveal message was passed over.
enum EntryRefusal {
    None,
    NoSuchGroup,
    WrongRound,
    NotYourSeat,
    NotRunning,
    NotRevealing,
    TooLate,
    OtherCommitment,
    NotCommitted,
    CommitmentMismatch,
    ReasonMissing,
    ZeroCommitment
}

/// @notice What work there is and how it is cut.
struct Shape {
    /// Work units of the job, indexed from 0.
    uint32 units;
    /// Consecutive units in a slice (one pod); the last slice may be shorter.
    uint32 unitsPerSlice;
    /// Consecutive slices in a group; the last group may be shorter.
    uint32 slicesPerGroup;
    /// Slots that a seat takes of its offer for each group, that is, slices it runs at once.
    uint16 slotsPerSeat;
    /// Hard limit of one unit, and what a unit is priced by.
    uint32 secondsPerUnit;
    /// The class that every seat must be of; zero where the comparator tolerates several.
    bytes32 classId;
}

/// @notice Who must agree.
struct Redundancy {
    Policy policy;
    /// Seats that must show the same root.
    uint8 quorum;
    /// Picked seats of round 0; a group with fewer cannot be sealed.
    uint8 picked;
    /// Seats over all rounds.
    uint8 maxSeats;
    /// Drawn seats of an audit round.
    uint8 drawn;
    /// Rounds, round 0 included.
    uint8 maxRounds;
    /// Groups after the first can be sealed only once the first is judged agreed.
    bool canary;
    /// Which source of block entropy draws seats (per chain).
    uint8 entropy;
    /// Audit probability never falls below this, in millionths.
    uint32 auditFloorPpm;
    /// Share of drawn seats assumed to collude, in basis points.
    uint16 collusionBps;
}

/// @notice Time. All but `openUntil` are durations in seconds.
struct Windows {
    /// Fills and seals are taken until then (Unix seconds).
    uint64 openUntil;
    /// Added to the run time of a group for its commit deadline.
    uint32 commitGrace;
    uint32 revealWindow;
    uint32 appealWindow;
    uint32 availabilityWindow;
    /// After a cancel notice seats may still commit for this long; at least the run time of a group.
    uint32 cancelGrace;
    /// A receipt must promise storage at least this long from the reveal.
    uint32 retention;
}

/// @notice Money. Amounts are in the token's smallest unit.
struct Pricing {
    address token;
    /// Highest price per unit of a picked seat.
    uint96 pickedCap;
    /// Highest price per unit of a drawn seat; prices the reserve for appeals.
    uint96 drawnCap;
    /// A seat's bond as a share of its pay, in basis points; may exceed 10,000.
    uint24 bondBps;
    /// What a no-show burns of its bond, as a share of its pay.
    uint16 noShowBps;
    /// The market's fee at opening, on top of pay.
    uint16 feeBps;
    /// Share of pay to the seats that revealed where drawn seats contradicted each other.
    uint16 inconclusiveBps;
    /// Share of what is left after charges that goes to the sink where no quorum and no drawn seat was to be had.
    uint16 unresolvedBurnBps;
}

/// @notice What is computed, fixed for all seats.
struct Content {
    /// BLAKE3 digest of the plaintext template (it holds the job's salt, image and inputs).
    bytes32 templateDigest;
    /// BLAKE3 digest of the template as stored, encrypted under the job key.
    bytes32 templateAddress;
    /// Commitment to the job key.
    bytes32 keyCommitment;
    /// Root of the buyer's per-group, per-round secrets, or zero.
    bytes32 secretsRoot;
    /// Root of the buyer's hash-committed spot-check answers, or zero.
    bytes32 spotChecksRoot;
    /// How results are compared; zero is byte equality.
    bytes32 comparator;
    /// Who attests under `Attested` and for tolerance comparators, or zero.
    address verifier;
}

/// @notice Everything a job was opened with. Its EIP-712 struct hash is the job's terms hash.
struct Terms {
    Shape shape;
    Redundancy redundancy;
    Windows windows;
    Pricing pricing;
    Content content;
    /// Gateways whose receipts the job accepts, at most `MAX_GATEWAYS`.
    address[] gateways;
}

/// @notice What an offer sells, for how much, and until when.
struct Sale {
    /// Offers of one series share their slots, and a higher nonce supersedes a lower.
    uint32 series;
    uint64 nonce;
    uint64 validFrom;
    uint64 validUntil;
    uint96 pricePerSlotSecond;
    /// Slots of the series that may be awarded at once.
    uint32 slots;
    /// Share of pay kept when the buyer leaves the seat hanging.
    uint16 minChargeBps;
}

/// @notice What terms the provider will work under.
struct Bounds {
    uint32 maxSecondsPerUnit;
    /// From the fill to the latest moment at which the seat's bond is free again.
    uint32 maxLockSeconds;
    uint32 minCommitGrace;
    uint32 minRevealWindow;
    uint32 maxRetention;
    uint24 maxBondBps;
    uint16 maxNoShowBps;
    uint16 minInconclusiveBps;
    /// Bit `1 << policy` for every policy accepted.
    uint8 policies;
}

/// @notice A provider's signed, standing, partially fillable limit order for slots of one class.
struct Offer {
    address provider;
    /// The only buyer that may fill it; zero for anyone.
    address allowedBuyer;
    address token;
    bytes32 classId;
    bytes32 region;
    /// Digest of the offer document (class in words, networks, registries, runtime class).
    bytes32 details;
    /// Commitment to the key that job keys are encrypted to.
    bytes32 recipient;
    Sale sale;
    Bounds bounds;
    /// Gateways the provider stores at.
    address[] gateways;
    /// Verifiers the provider accepts.
    address[] verifiers;
}

/// @notice An offer, its signature, and the groups that the buyer wants to seat with it.
struct FillRequest {
    Offer offer;
    bytes signature;
    uint32 firstGroup;
    uint32 groups;
}

/// @notice One seat's commitment.
struct CommitEntry {
    uint32 group;
    uint8 round;
    uint8 seat;
    bytes32 commitment;
}

/// @notice A provider's commitments to groups of one job.
struct Commit {
    address provider;
    bytes32 jobId;
    /// The message is void after this (Unix seconds).
    uint64 deadline;
    CommitEntry[] entries;
}

/// @notice One seat's abstention; reasons are numbered in PROTOCOL.md.
struct AbstainEntry {
    uint32 group;
    uint8 round;
    uint8 seat;
    uint8 reason;
}

/// @notice A provider's abstentions from groups of one job.
struct Abstain {
    address provider;
    bytes32 jobId;
    uint64 deadline;
    AbstainEntry[] entries;
}

/// @notice One seat's opening of its commitment, with a gateway's receipt or an empty signature where there is none.
struct RevealEntry {
    uint32 group;
    uint8 round;
    uint8 seat;
    bytes32 rootA;
    bytes32 saltA;
    bytes32 hashB;
    address gateway;
    bytes32 storedRoot;
    /// Bytes stored.
    uint64 size;
    /// Stored until then (Unix seconds).
    uint64 until;
    bytes receipt;
}

/// @notice A provider's openings for groups of one job.
struct Reveal {
    address provider;
    bytes32 jobId;
    uint64 deadline;
    RevealEntry[] entries;
}

/// @notice A gateway's promise to store named bytes until a date.
struct Receipt {
    address gateway;
    bytes32 roundId;
    address provider;
    bytes32 storedRoot;
    uint64 size;
    uint64 until;
}

/// @notice What the market was deployed with; copied into the terms of each job where it matters.
struct Parameters {
    /// Fee on top of pay, in basis points, at most `MAX_FEE_BPS`.
    uint16 feeBps;
    /// Seconds between asking for a bond back and having it.
    uint32 unbondDelay;
}

/// @notice A provider's bond in one token.
struct BondView {
    uint128 total;
    uint128 locked;
    /// Asked back, not yet taken; it can no longer be locked.
    uint128 leaving;
    uint64 readyAt;
}

/// @notice A job as it stands.
struct JobView {
    JobState state;
    address buyer;
    address token;
    bytes32 termsHash;
    uint32 seq;
    uint32 groups;
    uint32 ended;
    /// Money in the job, and the part of it promised to seats and reserves.
    uint128 escrow;
    uint128 allocated;
    /// While open the end of fills and seals, while cancelling the end of the grace for commits.
    uint64 until;
}

/// @notice A group as it stands.
struct GroupView {
    GroupState state;
    uint8 seats;
    uint32 firstUnit;
    uint32 units;
    /// When the present state may be ended by anyone: commit, reveal or settlement deadline.
    uint64 deadline;
}

/// @notice A seat as it stands.
struct SeatView {
    SeatState state;
    address provider;
    uint128 pricePerUnit;
    uint128 pay;
    uint128 charge;
    uint128 bond;
    /// The commitment, or from the reveal on root A.
    bytes32 committed;
}
