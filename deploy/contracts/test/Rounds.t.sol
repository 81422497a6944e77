// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Scene} from "./Scene.sol";
import {Cheats} from "./Cheats.sol";
import {IMarketErrors} from "../src/interfaces/IMarketErrors.sol";
import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {TypedData} from "../src/lib/TypedData.sol";
import "../src/Types.sol";

/// PROTOCOL.md, "Entries of signed messages", D-1, D-2 and C-20 to C-22.
contract RoundsTest is Scene {
    bytes32 private jobId;

    function setUp() public override {
        super.setUp();
        jobId = running();
    }

    function skipReason() private returns (uint8 reason) {
        Cheats.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != IMarketEvents.EntrySkipped.selector) continue;
            (,,, reason) = abi.decode(logs[i].data, (uint32, uint8, uint8, uint8));
        }
    }

    function commitAs(uint256 provider, Commit memory message) private returns (uint8) {
        vm.recordLogs();
        vm.prank(providers[provider]);
        market.commit(message, "");
        return skipReason();
    }

    function revealAs(uint256 provider, Reveal memory message) private returns (uint8) {
        vm.recordLogs();
        vm.prank(providers[provider]);
        market.reveal(message, "");
        return skipReason();
    }

    function abstainAs(uint256 provider, Abstain memory message) private returns (uint8) {
        vm.recordLogs();
        vm.prank(providers[provider]);
        market.abstain(message, "");
        return skipReason();
    }

    function test_N01_N02_N03_seats() public {
        Commit memory message = commitMessage(jobId, 0, 0, ROOT);
        message.entries[0].group = 1;
        vm.assertEq(commitAs(0, message), uint256(EntryRefusal.NoSuchGroup), "group");
        message = commitMessage(jobId, 0, 0, ROOT);
        message.entries[0].seat = 3;
        vm.assertEq(commitAs(0, message), uint256(EntryRefusal.NoSuchGroup), "seat");
        message.entries[0].seat = 255;
        vm.assertEq(commitAs(0, message), uint256(EntryRefusal.NoSuchGroup), "far seat");
        message.entries[0].seat = 0;
        message.entries[0].round = 1;
        vm.assertEq(commitAs(0, message), uint256(EntryRefusal.WrongRound), "round");
        message.entries[0].round = 0;
        message.entries[0].seat = 1;
        vm.assertEq(commitAs(0, message), uint256(EntryRefusal.NotYourSeat), "another's");
        assertSeat(jobId, 0, 1, SeatState.Awarded);
    }

    function test_N04_N06_commit_in_time() public {
        bytes32 unsealed = open2();
        vm.assertEq(commitAs(0, commitMessage(unsealed, 0, 0, ROOT)), uint256(EntryRefusal.NotRunning), "filling");
        vm.warp(START + 18 minutes + 1);
        vm.assertEq(commitAs(0, commitMessage(jobId, 0, 0, ROOT)), uint256(EntryRefusal.TooLate), "late");
        vm.assertEq(abstainAs(0, abstainMessage(jobId, 0, 0, 1)), uint256(EntryRefusal.TooLate), "late to abstain");
        vm.warp(START + 18 minutes);
        vm.assertEq(commitAs(0, commitMessage(jobId, 0, 0, ROOT)), 0, "last second");
    }

    function open2() private returns (bytes32) {
        FillRequest[] memory fills = requests(3, 1);
        vm.prank(buyer);
        return market.openJob(keccak256("unsealed"), defaultTerms(), 1e18, fills);
    }

    function test_N05_nothing_is_shown_before_all_have_spoken() public {
        commitTo(jobId, 0, 0, ROOT);
        commitTo(jobId, 0, 1, ROOT);
        vm.assertEq(
            revealAs(0, revealMessage(jobId, 0, 0, ROOT, true)), uint256(EntryRefusal.NotRevealing), "one is missing"
        );
        abstainFrom(jobId, 0, 2);
        vm.assertEq(revealAs(0, revealMessage(jobId, 0, 0, ROOT, true)), 0, "all have spoken");
        assertSeat(jobId, 0, 0, SeatState.Stored);
    }

    function test_N05_or_before_the_commit_deadline() public {
        commitTo(jobId, 0, 0, ROOT);
        vm.warp(START + 18 minutes + 1);
        vm.assertEq(revealAs(0, revealMessage(jobId, 0, 0, ROOT, true)), 0, "after the deadline");
        assertGroup(jobId, 0, GroupState.Revealing);
        vm.assertEq(market.groupOf(jobId, 0).deadline, START + 23 minutes, "window from the deadline, not the call");
    }

    function test_N06_reveal_in_time() public {
        commitTo(jobId, 0, 0, ROOT);
        vm.warp(START + 23 minutes + 1);
        vm.assertEq(revealAs(0, revealMessage(jobId, 0, 0, ROOT, true)), uint256(EntryRefusal.TooLate), "late");
        vm.warp(START + 23 minutes);
        vm.assertEq(revealAs(0, revealMessage(jobId, 0, 0, ROOT, true)), 0, "last second");
        judge(jobId, 0);
        vm.assertEq(
            revealAs(1, revealMessage(jobId, 0, 1, ROOT, true)), uint256(EntryRefusal.NotRevealing), "after judging"
        );
    }

    function test_N07_commitments_are_final() public {
        commitTo(jobId, 0, 0, ROOT);
        vm.assertEq(commitAs(0, commitMessage(jobId, 0, 0, ROOT)), 0, "a repeat is silent");
        vm.assertEq(commitAs(0, commitMessage(jobId, 0, 0, WRONG)), uint256(EntryRefusal.OtherCommitment), "another");
        vm.assertEq(
            abstainAs(0, abstainMessage(jobId, 0, 0, 1)), uint256(EntryRefusal.OtherCommitment), "abstain after commit"
        );
        abstainFrom(jobId, 0, 1);
        vm.assertEq(abstainAs(1, abstainMessage(jobId, 0, 1, 9)), 0, "a repeat is silent");
        vm.assertEq(commitAs(1, commitMessage(jobId, 0, 1, ROOT)), uint256(EntryRefusal.OtherCommitment), "after");
    }

    function test_N08_N09_openings() public {
        commitTo(jobId, 0, 0, ROOT);
        abstainFrom(jobId, 0, 1);
        commitTo(jobId, 0, 2, WRONG);
        vm.assertEq(revealAs(1, revealMessage(jobId, 0, 1, ROOT, true)), uint256(EntryRefusal.NotCommitted), "none");
        vm.assertEq(
            revealAs(2, revealMessage(jobId, 0, 2, ROOT, true)),
            uint256(EntryRefusal.CommitmentMismatch),
            "another root"
        );
        Reveal memory message = revealMessage(jobId, 0, 0, ROOT, true);
        message.entries[0].saltA = 0;
        vm.assertEq(revealAs(0, message), uint256(EntryRefusal.CommitmentMismatch), "another salt");
        message = revealMessage(jobId, 0, 0, ROOT, true);
        message.entries[0].hashB = 0;
        vm.assertEq(revealAs(0, message), uint256(EntryRefusal.CommitmentMismatch), "another root B");
    }

    function test_N10_N11_zero() public {
        vm.assertEq(abstainAs(0, abstainMessage(jobId, 0, 0, 0)), uint256(EntryRefusal.ReasonMissing), "reason");
        Commit memory message = commitMessage(jobId, 0, 0, ROOT);
        message.entries[0].commitment = 0;
        vm.assertEq(commitAs(0, message), uint256(EntryRefusal.ZeroCommitment), "commitment");
    }

    function allCommit() private {
        for (uint256 i; i < 3; ++i) {
            commitTo(jobId, 0, i, ROOT);
        }
    }

    function test_N20_receipts_that_do_not_hold() public {
        allCommit();
        for (uint256 i; i < 5; ++i) {
            Reveal memory message = revealMessage(jobId, 0, 0, ROOT, true);
            RevealEntry memory entry = message.entries[0];
            Receipt memory receipt = receiptOf(jobId, 0, 0);
            if (i == 0) receipt.provider = providers[1];
            if (i == 1) receipt.roundId = keccak256("another round");
            if (i == 2) entry.until = receipt.until = uint64(block.timestamp + 7 days - 1);
            if (i == 3) entry.size += 1;
            if (i == 4) entry.gateway = receipt.gateway = providers[0];
            entry.receipt = signReceipt(receipt);
            vm.assertEq(revealAs(0, message), 0, "the reveal stands");
            assertSeat(jobId, 0, 0, SeatState.Revealed);
        }
        // It can be mended while the window lasts.
        revealTo(jobId, 0, 0, ROOT, true);
        assertSeat(jobId, 0, 0, SeatState.Stored);
    }

    function test_N20_gateway_must_be_in_both_lists() public {
        address other = vm.addr(77);
        Terms memory terms = defaultTerms();
        terms.gateways = new address[](2);
        (terms.gateways[0], terms.gateways[1]) = (other, gateway);
        FillRequest[] memory fills = requests(3, 1);
        vm.prank(buyer);
        jobId = market.openJob(keccak256("two gateways"), terms, 1e18, fills);
        seal(jobId, 0, 1);
        allCommit();
        Reveal memory message = revealMessage(jobId, 0, 0, ROOT, true);
        Receipt memory receipt = receiptOf(jobId, 0, 0);
        message.entries[0].gateway = receipt.gateway = other;
        bytes32 digest = TypedData.digest(market.domainSeparator(), TypedData.hashReceipt(receipt));
        message.entries[0].receipt = signature(77, digest);
        revealAs(0, message);
        assertSeat(jobId, 0, 0, SeatState.Revealed);
        revealTo(jobId, 0, 1, ROOT, true);
        assertSeat(jobId, 0, 1, SeatState.Stored);
    }

    function test_P05_a_stripped_receipt_can_be_added_and_nothing_else_changes() public {
        allCommit();
        revealTo(jobId, 0, 0, ROOT, false);
        assertSeat(jobId, 0, 0, SeatState.Revealed);
        Reveal memory other = revealMessage(jobId, 0, 0, WRONG, true);
        revealAs(0, other);
        vm.assertEq(market.seatOf(jobId, 0, 0).committed, ROOT, "the root stays");
        assertSeat(jobId, 0, 0, SeatState.Stored);
        vm.recordLogs();
        revealTo(jobId, 0, 0, ROOT, true);
        vm.assertEq(vm.getRecordedLogs().length, 0, "nothing left to do");
    }

    function test_C20_anyone_carries_a_signed_message_once() public {
        Commit memory message = commitMessage(jobId, 0, 0, ROOT);
        bytes32 digest = TypedData.digest(market.domainSeparator(), hasher.commitHash(message));
        bytes memory signed = signature(providerKeys[0], digest);
        vm.prank(address(0xCA11));
        market.commit(message, signed);
        assertSeat(jobId, 0, 0, SeatState.Committed);
        uint256 seq = market.jobOf(jobId).seq;
        market.commit(message, signed);
        vm.assertEq(market.jobOf(jobId).seq, seq, "replay changes nothing");
    }

    function test_C20_strangers_and_forgers_are_refused() public {
        Commit memory message = commitMessage(jobId, 0, 0, ROOT);
        vm.expectPartialRevert(IMarketErrors.SignatureInvalid.selector);
        market.commit(message, "");
        bytes32 digest = TypedData.digest(market.domainSeparator(), hasher.commitHash(message));
        bytes memory forged = signature(providerKeys[1], digest);
        vm.expectPartialRevert(IMarketErrors.SignatureInvalid.selector);
        market.commit(message, forged);
        bytes memory signed = signature(providerKeys[0], digest);
        message.entries[0].commitment = keccak256("changed");
        vm.expectPartialRevert(IMarketErrors.SignatureInvalid.selector);
        market.commit(message, signed);
    }

    function test_C20_expired_and_empty_messages() public {
        Commit memory message = commitMessage(jobId, 0, 0, ROOT);
        message.deadline = uint64(block.timestamp - 1);
        vm.startPrank(providers[0]);
        vm.expectPartialRevert(IMarketErrors.MessageExpired.selector);
        market.commit(message, "");
        message.deadline = uint64(block.timestamp);
        message.entries = new CommitEntry[](0);
        vm.expectPartialRevert(IMarketErrors.CountInvalid.selector);
        market.commit(message, "");
        message.entries = new CommitEntry[](257);
        vm.expectPartialRevert(IMarketErrors.CountInvalid.selector);
        market.commit(message, "");
        message = commitMessage(jobId, 0, 0, ROOT);
        message.jobId = keccak256("no such job");
        vm.expectPartialRevert(IMarketErrors.JobUnknown.selector);
        market.commit(message, "");
        vm.stopPrank();
    }

    function test_C21_C22_relayed() public {
        Abstain memory message = abstainMessage(jobId, 0, 2, 6);
        bytes32 digest = TypedData.digest(market.domainSeparator(), hasher.abstainHash(message));
        market.abstain(message, signature(providerKeys[2], digest));
        assertSeat(jobId, 0, 2, SeatState.Abstained);
        commitTo(jobId, 0, 0, ROOT);
        commitTo(jobId, 0, 1, ROOT);
        Reveal memory opening = revealMessage(jobId, 0, 0, ROOT, true);
        digest = TypedData.digest(market.domainSeparator(), hasher.revealHash(opening));
        bytes memory signed = signature(providerKeys[0], digest);
        market.reveal(opening, signed);
        assertSeat(jobId, 0, 0, SeatState.Stored);
        opening.entries[0].receipt = "";
        vm.expectPartialRevert(IMarketErrors.SignatureInvalid.selector);
        market.reveal(opening, signed);
    }

    function test_A01_a_copied_commitment_opens_for_nobody_else() public {
        commitTo(jobId, 0, 0, ROOT);
        Commit memory copied = commitMessage(jobId, 0, 1, ROOT);
        copied.entries[0].commitment = commitmentOf(jobId, 0, 0, ROOT);
        vm.assertEq(commitAs(1, copied), 0, "it can be committed");
        commitTo(jobId, 0, 2, ROOT);
        revealTo(jobId, 0, 0, ROOT, true);
        Reveal memory opening = revealMessage(jobId, 0, 0, ROOT, true);
        opening.provider = providers[1];
        opening.entries[0].seat = 1;
        vm.assertEq(revealAs(1, opening), uint256(EntryRefusal.CommitmentMismatch), "but never opened");
    }

    function test_one_message_covers_many_groups_each_alone() public {
        FillRequest[] memory fills = requests(3, 3);
        vm.prank(buyer);
        bytes32 many = market.openJob(keccak256("three groups"), termsOf(3), 1e18, fills);
        seal(many, 0, 2);
        Commit memory message = commitMessage(many, 0, 0, ROOT);
        message.entries = new CommitEntry[](3);
        for (uint32 g; g < 3; ++g) {
            message.entries[g] = CommitEntry({group: g, round: 0, seat: 0, commitment: keccak256(abi.encode(g))});
        }
        vm.assertEq(commitAs(0, message), uint256(EntryRefusal.NotRunning), "the unsealed one is skipped");
        assertSeat(many, 0, 0, SeatState.Committed);
        assertSeat(many, 1, 0, SeatState.Committed);
        assertSeat(many, 2, 0, SeatState.Awarded);
    }
}
