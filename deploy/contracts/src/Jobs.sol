// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {MarketFills} from "./MarketFills.sol";
import {MarketMoney} from "./MarketMoney.sol";
import {MarketPart} from "./MarketPart.sol";
import {IJobs} from "./interfaces/IMarket.sol";
import {Card} from "./lib/Card.sol";
import {Ids} from "./lib/Ids.sol";
import {Pages} from "./lib/Pages.sol";
import {TermsCheck} from "./lib/TermsCheck.sol";
import {TypedData} from "./lib/TypedData.sol";
import {MAX_LIST} from "./Limits.sol";
import {FillRequest, GroupState, JobState, Offer, Terms} from "./Types.sol";

/// @title Opening, filling, sealing and cancelling jobs (PROTOCOL.md C-10 to C-14)
/// @notice Only the buyer starts anything here; nothing here judges or pays.
contract Jobs is MarketPart, MarketMoney, MarketFills, IJobs {
    using Card for bytes;
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
            Job memory opened;
            (opened.state, opened.seq, opened.escrow) = (JobState.Open, 1, uint256(escrow).toUint96());
            opened.card = Card.make(terms, sizes, termsHash, msg.sender);
            opened.until = opened.card.openUntil();
            opened.draft = _newDraft(opened.card, fills.length);
            _fillAll(jobId, opened, terms, fills);
            _keep(jobId, opened);
            return jobId;
        }
        Job memory job = _job(jobId);
        if (job.card.termsHash() != termsHash) revert JobExists(jobId, job.card.termsHash());
        if (fills.length == 0 || job.state != JobState.Open || block.timestamp > job.until) return jobId;
        _fillMore(jobId, job, terms, fills);
    }

    function fill(bytes32 jobId, Terms calldata terms, FillRequest[] calldata fills)
        external
        onlyInMarket
        nonReentrant
    {
        Job memory job = _openJobOfCaller(jobId);
        if (job.card.termsHash() != TypedData.hashTerms(terms)) revert TermsMismatch(jobId, job.card.termsHash());
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
        uint64 commitBy = uint64(block.timestamp + job.card.commitWindow());
        uint256 end = uint256(firstGroup) + groups;
        if (end > job.card.groups()) end = job.card.groups();
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
        _takeOrPull(job.card.token(), amount);
        job.escrow = (uint256(job.escrow) + amount).toUint96();
        emit JobToppedUp(jobId, msg.sender, ++job.seq, amount, intent);
        _writeJob(jobId, job);
        return true;
    }

    function cancelJob(bytes32 jobId) external onlyInMarket nonReentrant {
        Job memory job = _job(jobId);
        if (job.card.buyer() != msg.sender) revert NotBuyer(jobId, msg.sender);
        if (job.state != JobState.Open) return;
        uint40 graceUntil = uint40(block.timestamp + job.card.cancelGrace());
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
        if (job.card.buyer() != msg.sender) revert NotBuyer(jobId, msg.sender);
        if (job.state == JobState.Cancelling) revert JobCancelled(jobId);
        if (job.state != JobState.Open || block.timestamp > job.until) revert JobNotOpen(jobId);
        return job;
    }

    function _sealOne(bytes32 jobId, Job memory job, uint256 number, uint40 commitBy) private returns (bool) {
        Group memory group = _group(jobId, number);
        if (group.state != GroupState.Filling || group.seats != job.card.picked()) return false;
        if (job.card.canary() && number > 0) {
            GroupState first = _group(jobId, 0).state;
            if (first != GroupState.Agreed && first != GroupState.Credited) return false;
        }
        (, uint32 units) = _unitsOf(job, number);
        uint256 reserve = uint256(units) * job.card.reservePerUnit();
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
}
