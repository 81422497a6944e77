// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {MarketRounds} from "./MarketRounds.sol";
import {IRounds} from "./interfaces/IMarket.sol";
import {Card} from "./lib/Card.sol";
import {Ids} from "./lib/Ids.sol";
import {Signatures} from "./lib/Signatures.sol";
import {TypedData} from "./lib/TypedData.sol";
import {
    Abstain,
    AbstainEntry,
    Commit,
    CommitEntry,
    EntryRefusal,
    GroupState,
    Receipt,
    Reveal,
    RevealEntry,
    SeatState
} from "./Types.sol";

/// @title Commit, abstain, reveal (PROTOCOL.md C-20 to C-22)
/// @notice Takes providers' messages, whoever carries them. Moves no money. An entry that cannot be taken is passed
/// over with a notice; one that asks for what already is, in silence.
abstract contract Rounds is MarketRounds, IRounds {
    using Card for bytes;
    /// The domain separator, and the chain that it is for: a chain that splits has two.
    bytes32 private immutable SEPARATOR = TypedData.domainSeparator();
    uint256 private immutable CHAIN = block.chainid;

    function commit(Commit calldata message, bytes calldata signature) external nonReentrant {
        _checkMessage(message.deadline, message.entries.length);
        if (signature.length > 0 || msg.sender != message.provider) {
            _checkSignature(message.provider, TypedData.hashCommit(message), signature);
        }
        Job memory job = _job(message.jobId);
        uint32 seqBefore = job.seq;
        for (uint256 i; i < message.entries.length; ++i) {
            CommitEntry calldata entry = message.entries[i];
            EntryRefusal refusal = _commitOne(message.jobId, job, message.provider, entry);
            if (refusal != EntryRefusal.None) {
                _skip(message.jobId, message.provider, entry.group, entry.round, entry.seat, refusal);
            }
        }
        if (job.seq != seqBefore) _writeJob(message.jobId, job);
    }

    function abstain(Abstain calldata message, bytes calldata signature) external nonReentrant {
        _checkMessage(message.deadline, message.entries.length);
        if (signature.length > 0 || msg.sender != message.provider) {
            _checkSignature(message.provider, TypedData.hashAbstain(message), signature);
        }
        Job memory job = _job(message.jobId);
        uint32 seqBefore = job.seq;
        for (uint256 i; i < message.entries.length; ++i) {
            AbstainEntry calldata entry = message.entries[i];
            EntryRefusal refusal = _abstainOne(message.jobId, job, message.provider, entry);
            if (refusal != EntryRefusal.None) {
                _skip(message.jobId, message.provider, entry.group, entry.round, entry.seat, refusal);
            }
        }
        if (job.seq != seqBefore) _writeJob(message.jobId, job);
    }

    function reveal(Reveal calldata message, bytes calldata signature) external nonReentrant {
        _checkMessage(message.deadline, message.entries.length);
        if (signature.length > 0 || msg.sender != message.provider) {
            _checkSignature(message.provider, TypedData.hashReveal(message), signature);
        }
        Job memory job = _job(message.jobId);
        uint32 seqBefore = job.seq;
        for (uint256 i; i < message.entries.length; ++i) {
            RevealEntry calldata entry = message.entries[i];
            EntryRefusal refusal = _revealOne(message.jobId, job, message.provider, entry);
            if (refusal != EntryRefusal.None) {
                _skip(message.jobId, message.provider, entry.group, entry.round, entry.seat, refusal);
            }
        }
        if (job.seq != seqBefore) _writeJob(message.jobId, job);
    }

    function roundIdOf(bytes32 jobId, uint32 group, uint8 round) external view returns (bytes32) {
        Job memory job = _job(jobId);
        // No round but the first exists, and it has no id before its seats are final.
        if (round != 0 || group >= job.card.groups()) return bytes32(0);
        Group memory found = _group(jobId, group);
        if (found.state == GroupState.Filling) return bytes32(0);
        return _roundId(jobId, job, group, found);
    }

    function hashReceipt(Receipt calldata receipt) external pure returns (bytes32) {
        return TypedData.hashReceipt(receipt);
    }

    function _checkMessage(uint64 deadline, uint256 entries) private view {
        if (block.timestamp > deadline) revert MessageExpired(deadline);
        _checkCount(entries);
    }

    function _checkSignature(address provider, bytes32 structHash, bytes calldata signature) private view {
        bytes32 digest = TypedData.digest(_separator(), structHash);
        if (!Signatures.isValid(provider, digest, signature)) revert SignatureInvalid(provider);
    }

    function _separator() private view returns (bytes32) {
        return block.chainid == CHAIN ? SEPARATOR : TypedData.domainSeparator();
    }

    function _skip(bytes32 jobId, address provider, uint32 group, uint8 round, uint8 seat, EntryRefusal refusal)
        private
    {
        emit EntrySkipped(jobId, provider, group, round, seat, uint8(refusal));
    }

    /// Whether the entry names a seat of this provider (N-1 to N-3).
    function _checkSeat(
        bytes32 jobId,
        Job memory job,
        Group memory group,
        address provider,
        uint32 number,
        uint8 round,
        uint8 seat
    ) private view returns (EntryRefusal) {
        if (number >= job.card.groups() || seat >= group.seats) return EntryRefusal.NoSuchGroup;
        if (round != 0) return EntryRefusal.WrongRound;
        if (_providerOf(jobId, job, group, seat) != provider) return EntryRefusal.NotYourSeat;
        return EntryRefusal.None;
    }

    /// Whether a seat of the group may still speak (N-4, N-6).
    function _checkRunning(Job memory job, Group memory group) private view returns (EntryRefusal) {
        if (group.state != GroupState.Running) return EntryRefusal.NotRunning;
        if (block.timestamp > _commitDeadline(job.state, job.until, group.deadline)) return EntryRefusal.TooLate;
        return EntryRefusal.None;
    }

    function _commitOne(bytes32 jobId, Job memory job, address provider, CommitEntry calldata entry)
        private
        returns (EntryRefusal refusal)
    {
        Group memory group = _group(jobId, entry.group);
        refusal = _checkSeat(jobId, job, group, provider, entry.group, entry.round, entry.seat);
        if (refusal != EntryRefusal.None) return refusal;
        uint256 key = _seatKey(entry.group, entry.seat);
        SeatState state = _seatState(group, entry.seat);
        if (state == SeatState.Committed && seatWords[jobId][key] == entry.commitment) return EntryRefusal.None;
        refusal = _checkRunning(job, group);
        if (refusal != EntryRefusal.None) return refusal;
        if (state != SeatState.Awarded) return EntryRefusal.OtherCommitment;
        if (entry.commitment == bytes32(0)) return EntryRefusal.ZeroCommitment;

        seatWords[jobId][key] = entry.commitment;
        _setSeatState(group, entry.seat, SeatState.Committed);
        emit SeatCommitted(jobId, provider, ++job.seq, entry.group, entry.round, entry.seat, entry.commitment);
        _closeCommits(jobId, job, entry.group, group);
        _writeGroup(jobId, entry.group, group);
        return EntryRefusal.None;
    }

    function _abstainOne(bytes32 jobId, Job memory job, address provider, AbstainEntry calldata entry)
        private
        returns (EntryRefusal refusal)
    {
        Group memory group = _group(jobId, entry.group);
        refusal = _checkSeat(jobId, job, group, provider, entry.group, entry.round, entry.seat);
        if (refusal != EntryRefusal.None) return refusal;
        SeatState state = _seatState(group, entry.seat);
        if (state == SeatState.Abstained) return EntryRefusal.None;
        refusal = _checkRunning(job, group);
        if (refusal != EntryRefusal.None) return refusal;
        if (state != SeatState.Awarded) return EntryRefusal.OtherCommitment;
        if (entry.reason == 0) return EntryRefusal.ReasonMissing;

        _setSeatState(group, entry.seat, SeatState.Abstained);
        emit SeatAbstained(jobId, provider, ++job.seq, entry.group, entry.round, entry.seat, entry.reason);
        _closeCommits(jobId, job, entry.group, group);
        _writeGroup(jobId, entry.group, group);
        return EntryRefusal.None;
    }

    function _revealOne(bytes32 jobId, Job memory job, address provider, RevealEntry calldata entry)
        private
        returns (EntryRefusal refusal)
    {
        Group memory group = _group(jobId, entry.group);
        refusal = _checkSeat(jobId, job, group, provider, entry.group, entry.round, entry.seat);
        if (refusal != EntryRefusal.None) return refusal;
        SeatState state = _seatState(group, entry.seat);
        if (state == SeatState.Stored) return EntryRefusal.None;
        bool moved = _closeCommits(jobId, job, entry.group, group);
        refusal = _openSeat(jobId, job, group, provider, entry, state);
        if (moved || refusal == EntryRefusal.None) _writeGroup(jobId, entry.group, group);
    }

    function _openSeat(
        bytes32 jobId,
        Job memory job,
        Group memory group,
        address provider,
        RevealEntry calldata entry,
        SeatState state
    ) private returns (EntryRefusal) {
        if (group.state != GroupState.Revealing) return EntryRefusal.NotRevealing;
        if (block.timestamp > group.deadline) return EntryRefusal.TooLate;
        bytes32 roundId = _roundId(jobId, job, entry.group, group);
        uint256 key = _seatKey(entry.group, entry.seat);
        if (state == SeatState.Revealed) return _attachReceipt(jobId, job, group, provider, roundId, entry);
        if (state != SeatState.Committed) return EntryRefusal.NotCommitted;

        bytes32 commitment = Ids.commitment(
            _separator(),
            jobId,
            job.card.termsHash(),
            roundId,
            provider,
            entry.rootA,
            entry.saltA,
            entry.hashB
        );
        if (seatWords[jobId][key] != commitment) return EntryRefusal.CommitmentMismatch;
        seatWords[jobId][key] = entry.rootA;
        bool stored = _receiptHolds(jobId, job, group, provider, roundId, entry);
        _setSeatState(group, entry.seat, stored ? SeatState.Stored : SeatState.Revealed);
        _tellReveal(jobId, ++job.seq, provider, entry, stored);
        return EntryRefusal.None;
    }

    function _tellReveal(bytes32 jobId, uint32 seq, address provider, RevealEntry calldata entry, bool stored) private {
        emit SeatRevealed(
            jobId,
            provider,
            seq,
            entry.group,
            entry.round,
            entry.seat,
            entry.rootA,
            entry.hashB,
            stored ? entry.gateway : address(0),
            stored ? entry.storedRoot : bytes32(0),
            stored ? entry.size : 0,
            stored ? entry.until : 0
        );
    }

    /// A seat that has opened without a receipt may bring one while the window lasts.
    function _attachReceipt(
        bytes32 jobId,
        Job memory job,
        Group memory group,
        address provider,
        bytes32 roundId,
        RevealEntry calldata entry
    ) private returns (EntryRefusal) {
        if (!_receiptHolds(jobId, job, group, provider, roundId, entry)) return EntryRefusal.None;
        _setSeatState(group, entry.seat, SeatState.Stored);
        emit ReceiptAttached(
            jobId,
            provider,
            ++job.seq,
            entry.group,
            entry.round,
            entry.seat,
            entry.gateway,
            entry.storedRoot,
            entry.size,
            entry.until
        );
        return EntryRefusal.None;
    }

    /// N-20. Checked without trusting the caller: gateway by the job's and the offer's lists, promise by signature.
    function _receiptHolds(
        bytes32 jobId,
        Job memory job,
        Group memory group,
        address provider,
        bytes32 roundId,
        RevealEntry calldata entry
    ) private view returns (bool) {
        if (entry.receipt.length == 0 || entry.gateway == address(0)) return false;
        if (entry.until < block.timestamp + job.card.retention()) return false;
        if (!job.card.accepts(_fillOf(jobId, job, group, entry.seat).gateways, entry.gateway)) return false;
        bytes32 receiptHash = TypedData.hashReceipt(
            Receipt({
                gateway: entry.gateway,
                roundId: roundId,
                provider: provider,
                storedRoot: entry.storedRoot,
                size: entry.size,
                until: entry.until
            })
        );
        bytes32 digest = TypedData.digest(_separator(), receiptHash);
        return Signatures.isValid(entry.gateway, digest, entry.receipt);
    }
}
