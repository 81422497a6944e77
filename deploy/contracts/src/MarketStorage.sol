// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IMarketErrors} from "./interfaces/IMarketErrors.sol";
import {IMarketEvents} from "./interfaces/IMarketEvents.sol";
import {MAX_GATEWAYS, MAX_LIST} from "./Limits.sol";
import {Card} from "./lib/Card.sol";
import {Pages} from "./lib/Pages.sol";
import {GroupState, JobState, Parameters, SeatState} from "./Types.sol";

/// @title The one storage layout that all parts of the market share
/// @notice Owns the layout and the few rules about single words of it. The market runs its parts by `delegatecall`, so
/// every part inherits this and nothing else that has storage.
abstract contract MarketStorage is ReentrancyGuardTransient, IMarketErrors, IMarketEvents {
    using Card for bytes;

    /// @dev A job as the code sees it. What changes is stored as one word; what never does is on its card.
    struct Job {
        JobState state;
        uint32 seq;
        uint16 ended;
        /// Pages written so far.
        uint16 pages;
        uint96 escrow;
        uint96 allocated;
        /// `openUntil`, or once cancelled the end of the grace.
        uint40 until;
        bytes card;
        address page0;
        /// The page that this call writes, as far as it is; its number is `pages`.
        bytes draft;
        /// Fills on it so far.
        uint16 fills;
    }

    /// @dev Stored as one word: a whole group changes state with one write.
    struct Group {
        GroupState state;
        uint8 seats;
        uint40 deadline;
        /// Four bits a seat, seat 0 lowest.
        uint32 seatStates;
        /// Sixteen bits a seat: the page of its fill, and the fill's place on it.
        uint128 seatFills;
    }

    /// @dev An accepted fill request, shared by all seats it filled; stands on a page.
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
    mapping(bytes32 jobId => uint256) internal jobWords;
    /// When the grace of a cancelled job ends.
    mapping(bytes32 jobId => uint256) internal graces;
    mapping(bytes32 jobId => mapping(uint256 group => uint256)) internal groupWords;
    /// A seat's commitment, and from its reveal on its root A. The key is `group << 8 | seat`.
    mapping(bytes32 jobId => mapping(uint256 groupSeat => bytes32)) internal seatWords;

    uint256 private constant FILL_LENGTH = 39;

    // Jobs

    function _job(bytes32 jobId) internal view returns (Job memory job) {
        uint256 word = jobWords[jobId];
        if (word == 0) revert JobUnknown(jobId);
        job.state = JobState(word & 0xf);
        job.pages = uint16((word >> 4) & 0xfff);
        job.ended = uint16(word >> 16);
        job.seq = uint32(word >> 32);
        job.escrow = uint96(word >> 64);
        job.allocated = uint96(word >> 160);
        job.page0 = Pages.at(jobId, 0);
        job.card = Pages.read(job.page0, Card.maxLength(MAX_GATEWAYS));
        job.until = job.state == JobState.Cancelling ? uint40(graces[jobId]) : job.card.openUntil();
    }

    function _writeJob(bytes32 jobId, Job memory job) internal {
        jobWords[jobId] = uint256(job.state) | (uint256(job.pages) << 4) | (uint256(job.ended) << 16)
            | (uint256(job.seq) << 32) | (uint256(job.escrow) << 64) | (uint256(job.allocated) << 160);
    }

    /// 32 bytes of a draft, which has at least as many after any field.
    function _wordAt(bytes memory content, uint256 offset) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := mload(add(add(content, 0x20), offset))
        }
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

    function _providerOf(bytes32 jobId, Job memory job, Group memory group, uint256 seat)
        internal
        view
        returns (address)
    {
        (uint256 word,) = _fillWords(jobId, job, group, seat);
        return address(uint160(word >> 96));
    }

    function _fillOf(bytes32 jobId, Job memory job, Group memory group, uint256 seat)
        internal
        view
        returns (Fill memory filled)
    {
        (uint256 word, uint256 rest) = _fillWords(jobId, job, group, seat);
        filled.provider = address(uint160(word >> 96));
        filled.pricePerUnit = uint96(word);
        filled.series = uint32(rest >> 224);
        filled.chargeBps = uint16(rest >> 208);
        filled.gateways = uint8(rest >> 200);
    }

    function _fillWords(bytes32 jobId, Job memory job, Group memory group, uint256 seat)
        private
        view
        returns (uint256 word, uint256 rest)
    {
        uint256 number = _bitsAt(group.seatFills, seat, 16);
        uint256 page = number >> 8;
        uint256 offset = page == 0 ? job.card.end() : 1;
        // Both factors fit a byte.
        unchecked {
            offset += (number & 0xff) * FILL_LENGTH;
        }
        // Only the page that is being written is not yet code.
        if (page == job.pages) return (_wordAt(job.draft, offset), _wordAt(job.draft, offset + 32));
        return Pages.readWords(page == 0 ? job.page0 : Pages.at(jobId, page), offset);
    }

    /// A page that begins with `start` and has room for so many fills.
    function _newDraft(bytes memory start, uint256 fills) internal pure returns (bytes memory draft) {
        uint256 length = start.length;
        // A fill is written as two words, of which the second is not full.
        draft = bytes.concat(start, new bytes(fills * FILL_LENGTH + 32));
        assembly ("memory-safe") {
            mstore(draft, length)
        }
    }

    function _appendFill(bytes memory draft, Fill memory filled) internal pure {
        uint256 word = (uint256(uint160(filled.provider)) << 96) | filled.pricePerUnit;
        uint256 rest = (uint256(filled.series) << 224) | (uint256(filled.chargeBps) << 208)
            | (uint256(filled.gateways) << 200);
        assembly ("memory-safe") {
            let length := mload(draft)
            let end := add(add(draft, 0x20), length)
            mstore(end, word)
            mstore(add(end, 0x20), rest)
            mstore(draft, add(length, FILL_LENGTH))
        }
    }

    function _seatState(Group memory group, uint256 seat) internal pure returns (SeatState) {
        return SeatState(_bitsAt(group.seatStates, seat, 4));
    }

    function _setSeatState(Group memory group, uint256 seat, SeatState state) internal pure {
        // Seats are few.
        unchecked {
            uint256 shift = seat * 4;
            group.seatStates = uint32((group.seatStates & ~(uint256(0xf) << shift)) | (uint256(state) << shift));
        }
    }

    function _bitsAt(uint256 packed, uint256 seat, uint256 width) private pure returns (uint256) {
        unchecked {
            return (packed >> (seat * width)) & ((1 << width) - 1);
        }
    }

    function _seatKey(uint256 group, uint256 seat) internal pure returns (uint256) {
        return (group << 8) | seat;
    }

    /// First unit and number of units of a group; only the last group can be short.
    function _unitsOf(Job memory job, uint256 group) internal pure returns (uint32 first, uint32 count) {
        // The group is one of the job's, so that it starts before the last unit.
        unchecked {
            uint256 perGroup = job.card.unitsPerGroup();
            uint256 start = group * perGroup;
            uint256 left = job.card.units() - start;
            first = uint32(start);
            count = uint32(left < perGroup ? left : perGroup);
        }
    }

    /// The end of a running group's commits (D-1): a cancelled job's grace can only shorten it.
    function _commitDeadline(JobState jobState, uint256 jobUntil, uint256 commitBy) internal pure returns (uint256) {
        return jobState == JobState.Cancelling && jobUntil < commitBy ? jobUntil : commitBy;
    }

    function _checkCount(uint256 count) internal pure {
        if (count == 0 || count > MAX_LIST) revert CountInvalid(count, MAX_LIST);
    }
}
