// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {MarketRounds} from "./MarketRounds.sol";
import {ISettlement} from "./interfaces/IMarket.sol";
import {Card} from "./lib/Card.sol";
import {Amounts} from "./lib/Amounts.sol";
import {GroupState, JobState, SeatState} from "./Types.sol";

/// @title Judging and settling (PROTOCOL.md, "Judging" and "Money")
/// @notice Anyone may call; nothing depends on who does. Calls nobody: money moves between entries of the ledger.
abstract contract Settlement is MarketRounds, ISettlement {
    using Card for bytes;
    /// @dev What a group comes to while its seats are gone through.
    struct Sums {
        uint256 paid;
        uint256 fee;
        /// The buyer's money to the sink: fees, charges of no-shows, burned shares.
        uint256 jobToSink;
        /// The providers' money to the sink.
        uint256 burned;
        /// What the group had allocated in the escrow, reserve included.
        uint256 allocation;
    }

    /// @dev What one seat comes to.
    struct Outcome {
        uint256 paid;
        uint256 fee;
        uint256 chargeToSink;
        uint256 shareToSink;
        uint256 burned;
    }

    function judge(bytes32 jobId, uint32[] calldata groups)
        external
        nonReentrant
        returns (uint32 judged)
    {
        _checkCount(groups.length);
        Job memory job = _job(jobId);
        uint32 seqBefore = job.seq;
        for (uint256 i; i < groups.length; ++i) {
            if (groups[i] < job.card.groups() && _judgeOne(jobId, job, groups[i])) ++judged;
        }
        if (job.seq != seqBefore) _finish(jobId, job);
    }

    function settle(bytes32 jobId, uint32[] calldata groups)
        external
        nonReentrant
        returns (uint32 settled)
    {
        _checkCount(groups.length);
        Job memory job = _job(jobId);
        for (uint256 i; i < groups.length; ++i) {
            if (groups[i] >= job.card.groups()) continue;
            Group memory group = _group(jobId, groups[i]);
            bool waits = group.state == GroupState.Agreed || group.state == GroupState.Contested;
            if (!waits || block.timestamp < group.deadline) continue;
            GroupState end = group.state == GroupState.Agreed ? GroupState.Credited : GroupState.Inconclusive;
            _endGroup(jobId, job, groups[i], group, end, true);
            ++settled;
        }
        if (settled > 0) _finish(jobId, job);
    }

    function closeGroups(bytes32 jobId, uint32[] calldata groups)
        external
        nonReentrant
        returns (uint32 closed)
    {
        _checkCount(groups.length);
        Job memory job = _job(jobId);
        bool takesSeals = job.state == JobState.Open && block.timestamp <= job.until;
        if (takesSeals) return 0;
        for (uint256 i; i < groups.length; ++i) {
            if (groups[i] >= job.card.groups()) continue;
            Group memory group = _group(jobId, groups[i]);
            if (group.state != GroupState.Filling) continue;
            for (uint256 seat; seat < group.seats; ++seat) {
                _setSeatState(group, seat, SeatState.Excused);
            }
            _endGroup(jobId, job, groups[i], group, GroupState.Refunded, false);
            ++closed;
        }
        if (closed > 0) _finish(jobId, job);
    }

    function _judgeOne(bytes32 jobId, Job memory job, uint256 number) private returns (bool) {
        Group memory group = _group(jobId, number);
        bool moved = _closeCommits(jobId, job, number, group);
        if (group.state != GroupState.Revealing) return false;
        bool waits = _count(group, SeatState.Committed) > 0 && block.timestamp <= group.deadline;
        if (waits) {
            if (moved) _writeGroup(jobId, number, group);
            return false;
        }
        _markSilent(job, group);
        (bytes32 root, uint8 agreed) = _bestRoot(jobId, number, group);
        bool quorum = agreed >= job.card.quorum();
        bool shown = agreed > 0;
        _markOpened(jobId, number, group, quorum, root);
        if (!shown) {
            _tellJudged(jobId, job, number, group, GroupState.Refunded, 0, 0, uint64(block.timestamp));
            _endGroup(jobId, job, number, group, GroupState.Refunded, true);
            return true;
        }
        group.state = quorum ? GroupState.Agreed : GroupState.Contested;
        group.deadline = uint40(block.timestamp + (quorum ? job.card.agreedWindow() : job.card.appealWindow()));
        _writeGroup(jobId, number, group);
        _tellJudged(jobId, job, number, group, group.state, quorum ? root : bytes32(0), agreed, group.deadline);
        return true;
    }

    /// Seats that never spoke, and seats that committed and never opened (V-4, V-1 to V-3).
    function _markSilent(Job memory job, Group memory group) private pure {
        // When notice was given, seen from the end of its grace; it excuses only who was then still in time.
        bool excused = job.state == JobState.Cancelling
            && uint256(job.until) - job.card.cancelGrace() <= uint256(group.deadline) - job.card.revealWindow();
        for (uint256 seat; seat < group.seats; ++seat) {
            SeatState state = _seatState(group, seat);
            if (state == SeatState.Awarded) {
                _setSeatState(group, seat, excused ? SeatState.Excused : SeatState.NoShow);
            } else if (state == SeatState.Committed) {
                _setSeatState(group, seat, SeatState.Dissent);
            }
        }
    }

    /// The root that most opened seats show, and how many. Equal counts are below any quorum, so order cannot matter.
    function _bestRoot(bytes32 jobId, uint256 number, Group memory group)
        private
        view
        returns (bytes32 root, uint8 agreed)
    {
        bytes32[] memory roots = new bytes32[](group.seats);
        uint256 opened;
        for (uint256 seat; seat < group.seats; ++seat) {
            if (!_isOpened(group, seat)) continue;
            bytes32 shown = seatWords[jobId][_seatKey(number, seat)];
            uint8 same = 1;
            for (uint256 i; i < opened; ++i) {
                if (roots[i] == shown) ++same;
            }
            roots[opened++] = shown;
            if (same > agreed) (root, agreed) = (shown, same);
        }
    }

    function _markOpened(bytes32 jobId, uint256 number, Group memory group, bool quorum, bytes32 root) private view {
        for (uint256 seat; seat < group.seats; ++seat) {
            if (!_isOpened(group, seat)) continue;
            bool stored = _seatState(group, seat) == SeatState.Stored;
            SeatState state;
            if (!quorum) {
                state = stored ? SeatState.Unresolved : SeatState.Unstored;
            } else if (seatWords[jobId][_seatKey(number, seat)] != root) {
                state = SeatState.Dissent;
            } else {
                state = stored ? SeatState.Agreed : SeatState.Unstored;
            }
            _setSeatState(group, seat, state);
        }
    }

    function _isOpened(Group memory group, uint256 seat) private pure returns (bool) {
        SeatState state = _seatState(group, seat);
        return state == SeatState.Revealed || state == SeatState.Stored;
    }

    function _tellJudged(
        bytes32 jobId,
        Job memory job,
        uint256 number,
        Group memory group,
        GroupState state,
        bytes32 root,
        uint8 agreed,
        uint64 settleAt
    ) private {
        emit GroupJudged(
            jobId, ++job.seq, uint32(number), 0, uint8(state), root, agreed, group.seatStates, settleAt
        );
    }

    /// Pays, burns and frees every seat of a group and takes the group's allocation out of the job.
    function _endGroup(
        bytes32 jobId,
        Job memory job,
        uint256 number,
        Group memory group,
        GroupState end,
        bool sealedOnce
    ) private {
        (, uint32 units) = _unitsOf(job, number);
        Sums memory sums;
        if (sealedOnce) sums.allocation = uint256(units) * job.card.reservePerUnit();
        for (uint256 seat; seat < group.seats; ++seat) {
            _endSeat(jobId, job, number, group, seat, units, sums);
        }
        group.state = end;
        _writeGroup(jobId, number, group);
        uint256 spent = sums.paid + sums.jobToSink;
        job.allocated -= uint96(sums.allocation);
        job.escrow -= uint96(spent);
        ++job.ended;
        uint256 toSink = sums.jobToSink + sums.burned;
        if (toSink > 0) sinks[job.card.token()] += toSink;
        emit GroupEnded(
            jobId,
            ++job.seq,
            uint32(number),
            uint8(end),
            uint128(sums.paid),
            uint128(sums.fee),
            uint128(toSink),
            uint128(sums.allocation - spent)
        );
    }

    function _endSeat(
        bytes32 jobId,
        Job memory job,
        uint256 number,
        Group memory group,
        uint256 seat,
        uint32 units,
        Sums memory sums
    ) private {
        Fill memory filled = _fillOf(jobId, job, group, seat);
        SeatState state = _seatState(group, seat);
        uint256 pay = Amounts.pay(filled.pricePerUnit, units);
        Outcome memory outcome = _outcomeOf(job, filled.chargeBps, state, pay);
        sums.allocation += pay + Amounts.shareDown(pay, job.card.feeBps());
        sums.paid += outcome.paid;
        sums.fee += outcome.fee;
        sums.jobToSink += outcome.fee + outcome.chargeToSink + outcome.shareToSink;
        sums.burned += outcome.burned;

        uint256 bond = Amounts.shareUp(pay, job.card.bondBps());
        if (bond > 0) {
            Bond storage account = bonds[filled.provider][job.card.token()];
            account.locked -= uint128(bond);
            if (outcome.burned > 0) account.total -= uint128(outcome.burned);
        }
        offerSeries[filled.provider][filled.series].used -= job.card.slotsPerSeat();
        if (outcome.paid > 0) balances[filled.provider][job.card.token()] += outcome.paid;
        emit SeatSettled(
            jobId,
            filled.provider,
            ++job.seq,
            uint32(number),
            uint8(seat),
            uint8(state),
            uint128(outcome.paid),
            uint128(outcome.chargeToSink),
            uint128(outcome.burned),
            uint128(bond - outcome.burned)
        );
    }

    /// The money column of the seat states (S-21 to S-31).
    function _outcomeOf(Job memory job, uint16 chargeBps, SeatState state, uint256 pay)
        private
        pure
        returns (Outcome memory outcome)
    {
        uint256 charge = Amounts.shareDown(pay, chargeBps);
        if (state == SeatState.Agreed) {
            outcome.paid = pay;
            outcome.fee = Amounts.shareDown(pay, job.card.feeBps());
        } else if (state == SeatState.NoShow) {
            outcome.chargeToSink = charge;
            outcome.burned = Amounts.burn(pay, job.card.bondBps(), job.card.noShowBps());
        } else if (state == SeatState.Excused) {
            outcome.paid = charge;
        } else if (state == SeatState.Unresolved) {
            outcome.paid = charge;
            outcome.shareToSink = Amounts.shareUp(pay - charge, job.card.unresolvedBurnBps());
        }
        // Abstained, Unstored and Dissent come to nothing here: unpaid, and the bond is whole.
    }

    /// Writes the job back; after its last group the buyer has what is left.
    function _finish(bytes32 jobId, Job memory job) private {
        if (job.ended == job.card.groups() && job.state != JobState.Ended) {
            uint96 rest = job.escrow;
            job.state = JobState.Ended;
            job.escrow = 0;
            if (rest > 0) balances[job.card.buyer()][job.card.token()] += rest;
            emit JobEnded(jobId, ++job.seq, rest);
        }
        _writeJob(jobId, job);
    }
}
