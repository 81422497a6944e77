// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Card} from "./lib/Card.sol";
import {Ids} from "./lib/Ids.sol";
import {MarketStorage} from "./MarketStorage.sol";
import {GroupState, SeatState} from "./Types.sol";

/// @title The phases of a round (PROTOCOL.md S-1, S-2, D-1, D-2)
/// @notice Shared by those that take messages and those that judge: both may be the first to notice that time is up,
/// and both must find the same times, whoever is first.
abstract contract MarketRounds is MarketStorage {
    using Card for bytes;
    /// Ends the commit phase if its time is over or every seat has spoken. The reveal window starts at the fixed
    /// deadline, not at the call that notices it; when all have spoken it starts at once.
    function _closeCommits(bytes32 jobId, Job memory job, uint256 number, Group memory group)
        internal
        returns (bool closed)
    {
        if (group.state != GroupState.Running) return false;
        uint256 endsAt = _commitDeadline(job.state, job.until, group.deadline);
        if (block.timestamp > endsAt) {
            group.deadline = uint40(endsAt + job.card.revealWindow());
        } else if (_count(group, SeatState.Awarded) == 0) {
            group.deadline = uint40(block.timestamp + job.card.revealWindow());
        } else {
            return false;
        }
        group.state = GroupState.Revealing;
        emit RevealStarted(jobId, ++job.seq, uint32(number), 0, group.deadline);
        return true;
    }

    function _count(Group memory group, SeatState wanted) internal pure returns (uint256 count) {
        for (uint256 seat; seat < group.seats; ++seat) {
            if (_seatState(group, seat) == wanted) ++count;
        }
    }

    function _roundId(bytes32 jobId, Job memory job, uint256 number, Group memory group)
        internal
        view
        returns (bytes32)
    {
        address[] memory providers = new address[](group.seats);
        for (uint256 seat; seat < group.seats; ++seat) {
            providers[seat] = _providerOf(jobId, job, group, seat);
        }
        (uint32 first, uint32 units) = _unitsOf(job, number);
        return Ids.round(jobId, uint32(number), 0, Ids.seats(providers), Ids.unitRange(first, units));
    }
}
