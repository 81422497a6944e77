// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Cheats} from "./Cheats.sol";
import {Scene} from "./Scene.sol";
import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import "../src/Types.sol";

/// PROTOCOL.md, "Events": a job's events are numbered from 1 without a gap, whatever happens to it.
contract SequenceTest is Scene {
    mapping(bytes32 topic => bool) private isJobEvent;

    function setUp() public override {
        super.setUp();
        bytes32[12] memory first = [
            IMarketEvents.JobOpened.selector,
            IMarketEvents.JobToppedUp.selector,
            IMarketEvents.SeatsFilled.selector,
            IMarketEvents.GroupsSealed.selector,
            IMarketEvents.JobCancelNoticed.selector,
            IMarketEvents.JobEnded.selector,
            IMarketEvents.SeatCommitted.selector,
            IMarketEvents.SeatAbstained.selector,
            IMarketEvents.RevealStarted.selector,
            IMarketEvents.SeatRevealed.selector,
            IMarketEvents.ReceiptAttached.selector,
            IMarketEvents.GroupJudged.selector
        ];
        for (uint256 i; i < first.length; ++i) {
            isJobEvent[first[i]] = true;
        }
        isJobEvent[IMarketEvents.SeatSettled.selector] = true;
        isJobEvent[IMarketEvents.GroupEnded.selector] = true;
    }

    /// `seq` is the first word of data in every job event.
    function assertGapless(bytes32 jobId) private {
        Cheats.Log[] memory logs = vm.getRecordedLogs();
        uint256 expected = 1;
        for (uint256 i; i < logs.length; ++i) {
            if (!isJobEvent[logs[i].topics[0]]) continue;
            vm.assertEq(logs[i].topics[1], jobId, "job id comes first");
            vm.assertEq(logs[i].emitter, address(market), "one source");
            bytes memory data = logs[i].data;
            uint256 seq;
            assembly {
                seq := mload(add(data, 32))
            }
            vm.assertEq(seq, expected++, "seq");
        }
        vm.assertEq(market.jobOf(jobId).seq, expected - 1, "the job knows its last");
    }

    function testFuzz_seq_has_no_gaps(uint8[9] memory acts, bool cancelled, bool hanging) public {
        vm.recordLogs();
        bytes32 jobId = open(termsOf(3), 3, 1e18);
        market.groupOf(jobId, 0);
        seal(jobId, 0, hanging ? 2 : 3);
        vm.prank(buyer);
        market.topUp(jobId, 5, 0);
        if (cancelled) {
            vm.prank(buyer);
            market.cancelJob(jobId);
        }
        uint32 running = hanging ? 2 : 3;
        for (uint256 i; i < running * 3; ++i) {
            uint32 group = uint32(i / 3);
            if (acts[i] % 4 == 1) abstainFrom(jobId, group, i % 3);
            if (acts[i] % 4 > 1) commitTo(jobId, group, i % 3, acts[i] % 8 > 4 ? ROOT : WRONG);
        }
        vm.warp(START + 18 minutes + 1);
        for (uint256 i; i < running * 3; ++i) {
            if (acts[i] % 4 < 2 || acts[i] % 16 == 15) continue;
            revealTo(jobId, uint32(i / 3), i % 3, acts[i] % 8 > 4 ? ROOT : WRONG, acts[i] % 3 != 0);
            if (acts[i] % 3 == 0) revealTo(jobId, uint32(i / 3), i % 3, acts[i] % 8 > 4 ? ROOT : WRONG, true);
        }
        vm.warp(START + 1 hours + 1);
        uint32[] memory all = new uint32[](3);
        (all[1], all[2]) = (1, 2);
        market.judge(jobId, all);
        market.closeGroups(jobId, all);
        later(30 minutes);
        market.settle(jobId, all);
        vm.assertEq(uint256(market.jobOf(jobId).state), uint256(JobState.Ended), "ended");
        assertGapless(jobId);
    }
}
