// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IMarketErrors} from "./interfaces/IMarketErrors.sol";
import {IMarketEvents} from "./interfaces/IMarketEvents.sol";
import {MAX_LIST} from "./Limits.sol";
import {GroupState, JobState, Parameters, SeatState} from "./Types.sol";

/// @title The one storage layout that all parts of the market share
/// @notice Owns the layout and the few rules about single words of it. The market runs its parts by `delegatecall`, so
/// every part inherits this and nothing else that has storage.
abstract contract MarketStorage is ReentrancyGuardTransient, IMarketErrors, IMarketEvents {
    /// @dev A job as the code sees it. It is stored as six packed words, of which a call reads only those that it needs
    /// (`_readHot` and so on): reading fields one by one costs a storage access each. A word that was not read is zero
    /// here and must not be written. Widths are held by the guards on terms and by the limits.
    struct Job {
        // hot: what messages need
        JobState state;
        uint32 seq;
        uint16 groups;
        uint16 ended;
        uint16 fills;
        uint40 until;
        uint32 revealWindow;
        uint32 retention;
        uint32 cancelGrace;
        uint8 quorum;
        uint8 picked;
        bool canary;
        // cut: how units, gateways and judged groups are laid out
        uint32 units;
        uint32 unitsPerGroup;
        uint32 agreedWindow;
        uint32 appealWindow;
        uint128 gatewayIds;
        // purse
        uint112 escrow;
        uint112 allocated;
        uint32 commitWindow;
        // rates
        address token;
        uint24 bondBps;
        uint16 feeBps;
        uint16 noShowBps;
        uint16 unresolvedBurnBps;
        uint16 slotsPerSeat;
        // owner
        address buyer;
        uint88 reservePerUnit;
        // terms
        bytes32 termsHash;
        /// Whether purse, rates and owner have been read.
        bool moneyRead;
    }

    struct JobWords {
        uint256 hot;
        uint256 cut;
        uint256 purse;
        uint256 rates;
        uint256 owner;
        bytes32 termsHash;
    }

    /// @dev Stored as one word: a whole group changes state with one write.
    struct Group {
        GroupState state;
        uint8 seats;
        uint40 deadline;
        /// Four bits a seat, seat 0 lowest.
        uint32 seatStates;
        /// Sixteen bits a seat: the number of its fill.
        uint128 seatFills;
    }

    /// @dev An accepted fill request, shared by all seats it filled. Provider and price are a word; the rest is 64 bits
    /// of a word that four fills share.
    struct Fill {
        address provider;
        uint96 pricePerUnit;
        uint32 series;
        uint16 chargeBps;
        uint8 gateways;
    }

    /// @dev `locked` includes `leaving`, so that what is free is one subtraction in one slot.
    struct Bond {
        uint128 total;
        uint128 locked;
        //
        uint128 leaving;
        uint64 readyAt;
    }

    /// @dev `touched` keeps the slot from ever being zero again, which would make each first award dear.
    struct Series {
        uint32 used;
        uint64 minNonce;
        bool touched;
    }

    Parameters internal marketParameters;
    mapping(address account => mapping(address token => uint256)) internal balances;
    mapping(address provider => mapping(address token => Bond)) internal bonds;
    mapping(address token => uint256) internal sinks;
    mapping(address token => uint256) internal held;
    mapping(address account => mapping(bytes32 intent => bool)) internal intents;
    mapping(address provider => mapping(uint32 series => Series)) internal offerSeries;
    mapping(address gateway => uint32) internal gatewayIds;
    mapping(uint32 gatewayId => address) internal gateways;
    uint32 internal gatewayCount;
    mapping(bytes32 jobId => JobWords) internal jobs;
    mapping(bytes32 jobId => mapping(uint256 number => uint256)) internal fillWords;
    mapping(bytes32 jobId => mapping(uint256 quarter => uint256)) internal fillExtras;
    mapping(bytes32 jobId => mapping(uint256 group => uint256)) internal groupWords;
    /// A seat's commitment, and from its reveal on its root A. The key is `group << 8 | seat`.
    mapping(bytes32 jobId => mapping(uint256 groupSeat => bytes32)) internal seatWords;

    // Jobs, word by word

    function _job(bytes32 jobId) internal view returns (Job memory job) {
        _readHot(jobs[jobId].hot, job);
        if (job.state == JobState.None) revert JobUnknown(jobId);
    }

    function _readHot(uint256 word, Job memory job) private pure {
        job.state = JobState(uint8(word));
        job.seq = uint32(word >> 8);
        job.groups = uint16(word >> 40);
        job.ended = uint16(word >> 56);
        job.fills = uint16(word >> 72);
        job.until = uint40(word >> 88);
        job.revealWindow = uint32(word >> 128);
        job.retention = uint32(word >> 160);
        job.cancelGrace = uint32(word >> 192);
        job.quorum = uint8(word >> 224);
        job.picked = uint8(word >> 232);
        job.canary = (word >> 240) & 1 == 1;
    }

    function _writeHot(bytes32 jobId, Job memory job) internal {
        jobs[jobId].hot = uint256(job.state) | (uint256(job.seq) << 8) | (uint256(job.groups) << 40)
            | (uint256(job.ended) << 56) | (uint256(job.fills) << 72) | (uint256(job.until) << 88)
            | (uint256(job.revealWindow) << 128) | (uint256(job.retention) << 160) | (uint256(job.cancelGrace) << 192)
            | (uint256(job.quorum) << 224) | (uint256(job.picked) << 232) | (uint256(job.canary ? 1 : 0) << 240);
    }

    function _readCut(bytes32 jobId, Job memory job) internal view {
        uint256 word = jobs[jobId].cut;
        job.units = uint32(word);
        job.unitsPerGroup = uint32(word >> 32);
        job.agreedWindow = uint32(word >> 64);
        job.appealWindow = uint32(word >> 96);
        job.gatewayIds = uint128(word >> 128);
    }

    function _writeCut(bytes32 jobId, Job memory job) internal {
        jobs[jobId].cut = uint256(job.units) | (uint256(job.unitsPerGroup) << 32) | (uint256(job.agreedWindow) << 64)
            | (uint256(job.appealWindow) << 96) | (uint256(job.gatewayIds) << 128);
    }

    /// Purse, rates and owner, once.
    function _readMoney(bytes32 jobId, Job memory job) internal view {
        if (job.moneyRead) return;
        job.moneyRead = true;
        JobWords storage words = jobs[jobId];
        uint256 word = words.purse;
        job.escrow = uint112(word);
        job.allocated = uint112(word >> 112);
        job.commitWindow = uint32(word >> 224);
        word = words.rates;
        job.token = address(uint160(word));
        job.bondBps = uint24(word >> 160);
        job.feeBps = uint16(word >> 184);
        job.noShowBps = uint16(word >> 200);
        job.unresolvedBurnBps = uint16(word >> 216);
        job.slotsPerSeat = uint16(word >> 232);
        word = words.owner;
        job.buyer = address(uint160(word));
        job.reservePerUnit = uint88(word >> 160);
    }

    function _writePurse(bytes32 jobId, Job memory job) internal {
        jobs[jobId].purse =
            uint256(job.escrow) | (uint256(job.allocated) << 112) | (uint256(job.commitWindow) << 224);
    }

    function _writeRates(bytes32 jobId, Job memory job) internal {
        jobs[jobId].rates = uint256(uint160(job.token)) | (uint256(job.bondBps) << 160) | (uint256(job.feeBps) << 184)
            | (uint256(job.noShowBps) << 200) | (uint256(job.unresolvedBurnBps) << 216)
            | (uint256(job.slotsPerSeat) << 232);
    }

    function _writeOwner(bytes32 jobId, Job memory job) internal {
        jobs[jobId].owner = uint256(uint160(job.buyer)) | (uint256(job.reservePerUnit) << 160);
    }

    // Groups and seats

    function _group(bytes32 jobId, uint256 number) internal view returns (Group memory group) {
        uint256 word = groupWords[jobId][number];
        group.state = GroupState(uint8(word));
        group.seats = uint8(word >> 8);
        group.deadline = uint40(word >> 16);
        group.seatStates = uint32(word >> 56);
        group.seatFills = uint128(word >> 88);
    }

    function _writeGroup(bytes32 jobId, uint256 number, Group memory group) internal {
        groupWords[jobId][number] = uint256(group.state) | (uint256(group.seats) << 8)
            | (uint256(group.deadline) << 16) | (uint256(group.seatStates) << 56) | (uint256(group.seatFills) << 88);
    }

    function _providerOf(bytes32 jobId, Group memory group, uint256 seat) internal view returns (address) {
        return address(uint160(fillWords[jobId][_fillNumber(group, seat)]));
    }

    function _fillOf(bytes32 jobId, Group memory group, uint256 seat) internal view returns (Fill memory filled) {
        uint256 number = _fillNumber(group, seat);
        uint256 word = fillWords[jobId][number];
        filled.provider = address(uint160(word));
        filled.pricePerUnit = uint96(word >> 160);
        word = fillExtras[jobId][number / 4] >> (64 * (number % 4));
        filled.series = uint32(word);
        filled.chargeBps = uint16(word >> 32);
        filled.gateways = uint8(word >> 48);
    }

    /// Fill numbers are given once, so the quarter of the shared word is still empty.
    function _writeFill(bytes32 jobId, uint256 number, Fill memory filled) internal {
        fillWords[jobId][number] = uint256(uint160(filled.provider)) | (uint256(filled.pricePerUnit) << 160);
        uint256 extra =
            uint256(filled.series) | (uint256(filled.chargeBps) << 32) | (uint256(filled.gateways) << 48);
        fillExtras[jobId][number / 4] |= extra << (64 * (number % 4));
    }

    function _fillNumber(Group memory group, uint256 seat) private pure returns (uint256) {
        return uint16(group.seatFills >> (seat * 16));
    }

    function _seatState(Group memory group, uint256 seat) internal pure returns (SeatState) {
        return SeatState((group.seatStates >> (seat * 4)) & 0xf);
    }

    function _setSeatState(Group memory group, uint256 seat, SeatState state) internal pure {
        uint32 cleared = group.seatStates & ~(uint32(0xf) << uint32(seat * 4));
        group.seatStates = cleared | (uint32(state) << uint32(seat * 4));
    }

    function _seatKey(uint256 group, uint256 seat) internal pure returns (uint256) {
        return (group << 8) | seat;
    }

    /// First unit and number of units of a group; only the last group can be short.
    function _unitsOf(Job memory job, uint256 group) internal pure returns (uint32 first, uint32 count) {
        uint256 start = group * job.unitsPerGroup;
        uint256 left = job.units - start;
        first = uint32(start);
        count = left < job.unitsPerGroup ? uint32(left) : job.unitsPerGroup;
    }

    /// The end of a running group's commits (D-1): a cancelled job's grace can only shorten it.
    function _commitDeadline(JobState jobState, uint256 jobUntil, uint256 commitBy) internal pure returns (uint256) {
        return jobState == JobState.Cancelling && jobUntil < commitBy ? jobUntil : commitBy;
    }

    function _checkCount(uint256 count) internal pure {
        if (count == 0 || count > MAX_LIST) revert CountInvalid(count, MAX_LIST);
    }
}
