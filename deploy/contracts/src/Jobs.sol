// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {MarketFills} from "./MarketFills.sol";
import {MarketMoney} from "./MarketMoney.sol";
import {MarketPart} from "./MarketPart.sol";
import {IJobs} from "./interfaces/IMarket.sol";
import {Ids} from "./lib/Ids.sol";
import {Pages} from "./lib/Pages.sol";
import {TermsCheck} from "./lib/TermsCheck.sol";
import {TypedData} from "./lib/TypedData.sol";
import {MAX_LIST} from "./Limits.sol";
import {FillRequest, GroupState, JobState, Offer, Terms} from "./Types.sol";

/// @title Opening, filling, sealing and cancelling jobs (PROTOCOL.md C-10 to C-14)
/// @notice Only the buyer starts anything here; nothing here judges or pays.
contract Jobs is MarketPart, MarketMoney, MarketFills, IJobs {
    using SafeCast for uint256;

    function openJob(bytes32 nonce, Terms calldata terms, uint128 escrow, FillRequest[] calldata fills)
        external
        onlyInMarket
        nonReentrant
        returns (bytes32 jobId)
    {
        if (fills.length > MAX_LIST) revert CountInvalid(fills.length, MAX_LIST);
        jobId = Ids.job(msg.sender, nonce);
        bytes32 termsHash = TypedData.hashTerms(terms);
        if (jobWords[jobId] == 0) {
            TermsCheck.Sizes memory sizes = TermsCheck.check(terms, marketParameters.feeBps);
            _takeOrPull(terms.pricing.token, escrow);
            emit JobOpened(jobId, msg.sender, terms.pricing.token, 1, nonce, escrow, termsHash, abi.encode(terms));
            Job memory opened = _newJob(terms, sizes, termsHash, escrow);
            opened.draft = _newDraft(opened.card, fills.length);
            _fillAll(jobId, opened, terms, fills);
            _keep(jobId, opened);
            return jobId;
        }
        Job memory job = _job(jobId);
        if (job.termsHash != termsHash) revert JobExists(jobId, job.termsHash);
        if (fills.length == 0 || job.state != JobState.Open || block.timestamp > job.until) return jobId;
        _fillMore(jobId, job, terms, fills);
    }

    function fill(bytes32 jobId, Terms calldata terms, FillRequest[] calldata fills)
        external
        onlyInMarket
        nonReentrant
    {
        Job memory job = _openJobOfCaller(jobId);
        if (job.termsHash != TypedData.hashTerms(terms)) revert TermsMismatch(jobId, job.termsHash);
        _checkCount(fills.length);
        _fillMore(jobId, job, terms, fills);
    }

    function seal(bytes32 jobId, uint32 firstGroup, uint32 groups)
        external
        onlyInMarket
        nonReentrant
        returns (uint32 sealedGroups)
    {
        Job memory job = _openJobOfCaller(jobId);
        uint64 commitBy = uint64(block.timestamp + job.commitWindow);
        uint256 end = uint256(firstGroup) + groups;
        if (end > job.groups) end = job.groups;
        uint32 run;
        for (uint256 number = firstGroup; number < end; ++number) {
            if (_sealOne(jobId, job, number, uint40(commitBy))) {
                ++run;
            } else if (run > 0) {
                emit GroupsSealed(jobId, ++job.seq, uint32(number) - run, run, commitBy);
                sealedGroups += run;
                run = 0;
            }
        }
        if (run > 0) {
            emit GroupsSealed(jobId, ++job.seq, uint32(end) - run, run, commitBy);
            sealedGroups += run;
        }
        if (sealedGroups > 0) _writeJob(jobId, job);
    }

    function topUp(bytes32 jobId, uint128 amount, bytes32 intent)
        external
        onlyInMarket
        nonReentrant
        returns (bool done)
    {
        Job memory job = _job(jobId);
        if (job.state != JobState.Open) revert JobNotOpen(jobId);
        if (amount == 0) revert AmountZero();
        if (!_once(intent)) return false;
        _takeOrPull(job.token, amount);
        job.escrow = (uint256(job.escrow) + amount).toUint96();
        emit JobToppedUp(jobId, msg.sender, ++job.seq, amount, intent);
        _writeJob(jobId, job);
        return true;
    }

    function cancelJob(bytes32 jobId) external onlyInMarket nonReentrant {
        Job memory job = _job(jobId);
        if (job.buyer != msg.sender) revert NotBuyer(jobId, msg.sender);
        if (job.state != JobState.Open) return;
        uint40 graceUntil = uint40(block.timestamp + job.cancelGrace);
        job.state = JobState.Cancelling;
        graces[jobId] = graceUntil;
        emit JobCancelNoticed(jobId, ++job.seq, graceUntil);
        _writeJob(jobId, job);
    }

    function hashTerms(Terms calldata terms) external pure returns (bytes32) {
        return TypedData.hashTerms(terms);
    }

    function hashOffer(Offer calldata offer) external pure returns (bytes32) {
        return TypedData.hashOffer(offer);
    }

    function _openJobOfCaller(bytes32 jobId) private view returns (Job memory) {
        Job memory job = _job(jobId);
        if (job.buyer != msg.sender) revert NotBuyer(jobId, msg.sender);
        if (job.state == JobState.Cancelling) revert JobCancelled(jobId);
        if (job.state != JobState.Open || block.timestamp > job.until) revert JobNotOpen(jobId);
        return job;
    }

    function _sealOne(bytes32 jobId, Job memory job, uint256 number, uint40 commitBy) private returns (bool) {
        Group memory group = _group(jobId, number);
        if (group.state != GroupState.Filling || group.seats != job.picked) return false;
        if (job.canary && number > 0) {
            GroupState first = _group(jobId, 0).state;
            if (first != GroupState.Agreed && first != GroupState.Credited) return false;
        }
        (, uint32 units) = _unitsOf(job, number);
        uint256 reserve = uint256(units) * job.reservePerUnit;
        if (job.escrow - job.allocated < reserve) return false;
        job.allocated += uint96(reserve);
        group.state = GroupState.Running;
        group.deadline = commitBy;
        _writeGroup(jobId, number, group);
        return true;
    }

    /// Fills of a job that is there: what comes of them stands on a page of their own.
    function _fillMore(bytes32 jobId, Job memory job, Terms calldata terms, FillRequest[] calldata fills) private {
        job.draft = _newDraft(hex"00", fills.length);
        uint32 seqBefore = job.seq;
        _fillAll(jobId, job, terms, fills);
        if (job.seq != seqBefore) _keep(jobId, job);
    }

    function _keep(bytes32 jobId, Job memory job) private {
        Pages.write(jobId, job.pages, job.draft);
        ++job.pages;
        _writeJob(jobId, job);
    }

    function _newJob(Terms calldata terms, TermsCheck.Sizes memory sizes, bytes32 termsHash, uint128 escrow)
        private
        view
        returns (Job memory job)
    {
        job.buyer = msg.sender;
        job.state = JobState.Open;
        job.seq = 1;
        job.groups = uint16(sizes.groups);
        job.token = terms.pricing.token;
        job.bondBps = terms.pricing.bondBps;
        job.feeBps = terms.pricing.feeBps;
        job.noShowBps = terms.pricing.noShowBps;
        job.unresolvedBurnBps = terms.pricing.unresolvedBurnBps;
        job.quorum = terms.redundancy.quorum;
        job.picked = terms.redundancy.picked;
        job.canary = terms.redundancy.canary;
        job.termsHash = termsHash;
        job.escrow = uint256(escrow).toUint96();
        job.slotsPerSeat = terms.shape.slotsPerSeat;
        job.units = terms.shape.units;
        job.unitsPerGroup = uint32(sizes.unitsPerGroup);
        job.commitWindow = uint32(sizes.runSeconds) + terms.windows.commitGrace;
        job.revealWindow = terms.windows.revealWindow;
        job.agreedWindow = TermsCheck.agreedWindow(terms.windows);
        job.appealWindow = terms.windows.appealWindow;
        job.cancelGrace = terms.windows.cancelGrace;
        job.retention = terms.windows.retention;
        job.reservePerUnit = uint88(sizes.reservePerUnit);
        job.until = uint40(terms.windows.openUntil);
        _setGateways(job, terms.gateways.length);
        job.card = _cardOf(job, terms.gateways);
    }
}
