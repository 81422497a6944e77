// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Cheats} from "./Cheats.sol";
import {Scene} from "./Scene.sol";
import {IMarketErrors} from "../src/interfaces/IMarketErrors.sol";
import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {MAX_PAGES} from "../src/Limits.sol";
import "../src/Types.sol";

/// PROTOCOL.md C-15: what never changes of a job is the code of accounts that the market made for it.
contract PagesTest is Scene {
    function fillWith(bytes32 jobId, Terms memory terms, FillRequest memory request_) private {
        vm.prank(buyer);
        market.fill(jobId, terms, one(request_));
    }

    function test_C15_seats_of_several_pages_are_judged_and_paid_together() public {
        Terms memory terms = termsOf(2);
        bytes32 jobId = open(terms, 1, 1e18);
        fillWith(jobId, terms, request(1, offerOf(1), 0, 2));
        fillWith(jobId, terms, request(2, offerOf(2), 0, 2));
        vm.assertEq(seal(jobId, 0, 2), 2, "sealed");
        for (uint32 g; g < 2; ++g) {
            for (uint8 s; s < 3; ++s) {
                vm.assertEq(market.seatOf(jobId, g, s).provider, providers[s], "seat");
            }
            play(jobId, g, ROOT, ROOT, ROOT);
        }
        later(1 hours);
        for (uint32 g; g < 2; ++g) {
            settle(jobId, g);
        }
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(balance(providers[i]), FUNDS / 2 + payOf(i, 16), "paid for both groups");
            vm.assertEq(locked(i), 0, "bond free");
        }
        vm.assertEq(uint256(market.jobOf(jobId).state), uint256(JobState.Ended), "ended");
        assertConserved(jobId);
    }

    function test_C15_N20_the_last_of_four_gateways_counts() public {
        Terms memory terms = defaultTerms();
        terms.gateways = new address[](4);
        for (uint160 i; i < 3; ++i) {
            terms.gateways[i] = address(i + 1);
        }
        terms.gateways[3] = gateway;
        bytes32 jobId = open(terms, 3, 1e18);
        seal(jobId, 0, 1);
        play(jobId, 0, ROOT, ROOT, ROOT);
        assertSeat(jobId, 0, 0, SeatState.Agreed);
        assertSeat(jobId, 0, 2, SeatState.Agreed);
    }

    function test_C15_a_repeated_opening_that_seats_nobody_writes_no_page() public {
        Terms memory terms = defaultTerms();
        bytes32 jobId = open(terms, 3, 1e18);
        vm.assertEq(open(terms, 3, 1e18), jobId, "the same job");
        vm.assertEq(pageAt(jobId, 1).code.length, 0, "no second page");
    }

    function test_F13_pages_run_out() public {
        Terms memory terms = termsOf(uint32(MAX_PAGES));
        FillRequest[] memory none = new FillRequest[](0);
        vm.prank(buyer);
        bytes32 jobId = market.openJob(NONCE, terms, 1e18, none);
        Offer memory offer = offerOf(0);
        offer.sale.slots = uint32(MAX_PAGES);
        for (uint32 g; g + 1 < MAX_PAGES; ++g) {
            fillWith(jobId, terms, request(0, offer, g, 1));
        }
        uint32 last = uint32(MAX_PAGES) - 1;
        vm.assertEq(market.groupOf(jobId, last - 1).seats, 1, "the last page");
        vm.recordLogs();
        fillWith(jobId, terms, request(0, offer, last, 1));
        Cheats.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs[0].topics[0], IMarketEvents.FillSkipped.selector);
        (,, uint8 reason) = abi.decode(logs[0].data, (bytes32, uint32, uint8));
        vm.assertEq(reason, uint256(FillRefusal.TooManyFills), "refusal");
    }

    function test_C15_nobody_can_run_or_change_a_page() public {
        bytes32 jobId = running();
        address page = pageAt(jobId, 0);
        bytes memory before = page.code;
        vm.assertEq(uint256(uint8(before[0])), 0, "begins with STOP");
        (bool ok, bytes memory answer) = page.call(hex"01020304");
        vm.assertTrue(ok && answer.length == 0, "does nothing");
        vm.assertEq(keccak256(page.code), keccak256(before), "as it was");
    }

    function test_R07_a_call_without_a_selector_is_refused() public {
        running();
        vm.expectRevert(abi.encodeWithSelector(IMarketErrors.SelectorUnknown.selector, bytes4(0)));
        (bool ok,) = address(market).call("");
        vm.assertTrue(ok, "the revert was expected");
    }

    /// However little gas a call is given, the job is there with all of its page, or not at all.
    function test_R10_a_job_is_whole_or_not_there() public {
        Terms memory terms = defaultTerms();
        FillRequest[] memory fills = new FillRequest[](3);
        for (uint256 i; i < 3; ++i) {
            Offer memory offer = offerOf(i);
            offer.sale.slots = 1000;
            fills[i] = request(i, offer, 0, 1);
        }
        uint256 failed;
        uint256 opened;
        for (uint256 gas = 300_000; gas < 480_000; gas += 500) {
            bytes32 nonce = bytes32(gas);
            vm.prank(buyer);
            try market.openJob{gas: gas}(nonce, terms, 1e16, fills) returns (bytes32 jobId) {
                ++opened;
                vm.assertEq(market.seatOf(jobId, 0, 2).provider, providers[2], "every fill is on the page");
            } catch {
                ++failed;
                bytes32 jobId = market.jobIdOf(buyer, nonce);
                vm.assertEq(uint256(market.jobOf(jobId).state), uint256(JobState.None), "nothing is left");
                vm.assertEq(pageAt(jobId, 0).code.length, 0, "no page");
            }
        }
        vm.assertTrue(failed > 0 && opened > 0, "both were met");
    }

    function pageAt(bytes32 jobId, uint256 number) private view returns (address) {
        // As the market finds it.
        bytes32 creation = keccak256(hex"5f5f5f5f335afa503d5f5f3e3d5ff3");
        bytes32 salt = keccak256(abi.encode(jobId, number));
        return address(uint160(uint256(keccak256(abi.encodePacked(hex"ff", address(market), salt, creation)))));
    }
}
