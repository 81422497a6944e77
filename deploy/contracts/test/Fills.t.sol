// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Scene} from "./Scene.sol";
import {Cheats} from "./Cheats.sol";
import {IMarketErrors} from "../src/interfaces/IMarketErrors.sol";
import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import "../src/Types.sol";

/// PROTOCOL.md, "Fills", and C-10 to C-12: every refusal skips with its number and leaves the rest of the call alone.
contract FillsTest is Scene {
    bytes32 private jobId;

    function setUp() public override {
        super.setUp();
        jobId = open(termsOf(4), 0, 1e18);
    }

    /// Fills with this offer over all groups; returns the reason of the first skip, 0 if there was none.
    function fillWith(uint256 provider, Offer memory offer) private returns (uint8) {
        return fillRange(request(provider, offer, 0, 4));
    }

    function fillRange(FillRequest memory wanted) private returns (uint8) {
        return fillAll(one(wanted));
    }

    function fillAll(FillRequest[] memory wanted) private returns (uint8) {
        vm.recordLogs();
        vm.prank(buyer);
        market.fill(jobId, termsOf(4), wanted);
        Cheats.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != IMarketEvents.FillSkipped.selector) continue;
            (,, uint8 reason) = abi.decode(logs[i].data, (bytes32, uint32, uint8));
            return reason;
        }
        return 0;
    }

    function seats(uint32 group) private view returns (uint256) {
        return market.groupOf(jobId, group).seats;
    }

    function refused(FillRefusal expected, Offer memory offer) private {
        vm.assertEq(fillWith(0, offer), uint256(expected), "reason");
        vm.assertEq(seats(0), 0, "nothing seated");
        vm.assertEq(locked(0), 0, "nothing locked");
        assertConserved(jobId);
    }

    function test_F01_signature_of_another() public {
        FillRequest memory wanted = request(1, offerOf(0), 0, 4);
        vm.assertEq(fillRange(wanted), uint256(FillRefusal.SignatureInvalid), "reason");
        wanted.signature = "";
        vm.assertEq(fillRange(wanted), uint256(FillRefusal.SignatureInvalid), "empty");
        wanted = request(0, offerOf(0), 0, 4);
        wanted.offer.sale.pricePerSlotSecond += 1;
        vm.assertEq(fillRange(wanted), uint256(FillRefusal.SignatureInvalid), "changed after signing");
    }

    function test_F02_F03_validity() public {
        Offer memory offer = offerOf(0);
        offer.sale.validFrom = uint64(START + 1);
        refused(FillRefusal.NotYetValid, offer);
        offer = offerOf(0);
        offer.sale.validUntil = uint64(START - 1);
        refused(FillRefusal.Expired, offer);
        offer.sale.validUntil = uint64(START);
        vm.assertEq(fillWith(0, offer), 0, "last second");
    }

    function test_F04_superseded_by_cancel_and_by_a_newer_fill() public {
        vm.prank(providers[0]);
        market.cancelOffers(1, 2);
        refused(FillRefusal.Superseded, offerOf(0));
        Offer memory newer = offerOf(1);
        newer.sale.nonce = 7;
        vm.assertEq(fillRange(request(1, newer, 0, 1)), 0, "newer");
        vm.assertEq(fillRange(request(1, offerOf(1), 1, 1)), uint256(FillRefusal.Superseded), "older");
        Offer memory other = offerOf(1);
        other.sale.series = 2;
        vm.assertEq(fillRange(request(1, other, 1, 1)), 0, "another series");
    }

    function test_F05_to_F12_offer_and_terms() public {
        Offer memory offer = offerOf(0);
        offer.allowedBuyer = address(0xBAD);
        refused(FillRefusal.BuyerNotAllowed, offer);
        offer = offerOf(0);
        offer.token = address(0xBAD);
        refused(FillRefusal.TokenMismatch, offer);
        offer = offerOf(0);
        offer.classId = keccak256("gpu");
        refused(FillRefusal.ClassMismatch, offer);
        offer = offerOf(0);
        offer.sale.pricePerSlotSecond = uint96(uint256(1e18) / 60 + 1);
        refused(FillRefusal.PriceAboveCap, offer);
        offer = offerOf(0);
        offer.gateways[0] = address(0xBAD);
        refused(FillRefusal.NoCommonGateway, offer);
        offer = offerOf(0);
        offer.sale.minChargeBps = 2_001;
        refused(FillRefusal.ChargeAboveBurn, offer);
        offer = offerOf(0);
        offer.allowedBuyer = buyer;
        vm.assertEq(fillWith(0, offer), 0, "named buyer");
    }

    function test_F09_bounds() public {
        Bounds memory inside = offerOf(0).bounds;
        for (uint256 i; i < 9; ++i) {
            Offer memory offer = offerOf(0);
            offer.bounds = inside;
            if (i == 0) offer.bounds.maxSecondsPerUnit = 59;
            // One hour open, 8 minutes run, 10 grace, 5 reveal, 30 appeal.
            if (i == 1) offer.bounds.maxLockSeconds = 60 minutes + 53 minutes - 1;
            if (i == 2) offer.bounds.minCommitGrace = 10 minutes + 1;
            if (i == 3) offer.bounds.minRevealWindow = 5 minutes + 1;
            if (i == 4) offer.bounds.maxRetention = 7 days - 1;
            if (i == 5) offer.bounds.maxBondBps = 19_999;
            if (i == 6) offer.bounds.maxNoShowBps = 1_999;
            if (i == 7) offer.bounds.minInconclusiveBps = 5_001;
            if (i == 8) offer.bounds.policies = 2;
            refused(FillRefusal.TermsOutOfBounds, offer);
        }
        Offer memory exact = offerOf(0);
        exact.bounds = Bounds({
            maxSecondsPerUnit: 60,
            maxLockSeconds: 113 minutes,
            minCommitGrace: 10 minutes,
            minRevealWindow: 5 minutes,
            maxRetention: 7 days,
            maxBondBps: 20_000,
            maxNoShowBps: 2_000,
            minInconclusiveBps: 5_000,
            policies: 1
        });
        vm.assertEq(fillWith(0, exact), 0, "exactly at the bounds");
    }

    function test_F20_F21_ranges() public {
        vm.assertEq(fillRange(request(0, offerOf(0), 3, 2)), uint256(FillRefusal.GroupOutOfRange), "past the end");
        vm.assertEq(seats(3), 1, "what is in range is filled");
        vm.assertEq(fillRange(request(0, offerOf(0), type(uint32).max, 4)), 14, "far outside");
        fillAll(requests(3, 2));
        seal(jobId, 0, 1);
        vm.assertEq(fillRange(request(3, offerOf(3), 0, 1)), uint256(FillRefusal.GroupNotFilling), "sealed");
    }

    function test_F22_F23_seats() public {
        fillAll(requests(3, 2));
        vm.assertEq(fillRange(request(3, offerOf(3), 0, 1)), uint256(FillRefusal.GroupFull), "full");
        vm.assertEq(fillRange(request(0, offerOf(0), 2, 1)), 0, "first");
        uint256 before = locked(0);
        vm.assertEq(fillRange(request(0, offerOf(0), 2, 1)), uint256(FillRefusal.AlreadySeated), "again");
        vm.assertEq(locked(0), before, "a repeated fill costs nothing");
    }

    function test_F24_slots_are_shared_by_a_series_and_come_back() public {
        Offer memory offer = offerOf(0);
        offer.sale.slots = 2;
        vm.assertEq(fillWith(0, offer), uint256(FillRefusal.SlotsSpent), "third");
        vm.assertEq(seats(1), 1, "second");
        vm.assertEq(seats(2), 0, "third");
        Offer memory dearer = offerOf(0);
        dearer.sale.nonce = 2;
        dearer.sale.slots = 2;
        vm.assertEq(
            fillRange(request(0, dearer, 2, 1)), uint256(FillRefusal.SlotsSpent), "superseding frees no slots"
        );
        vm.prank(buyer);
        market.cancelJob(jobId);
        market.closeGroups(jobId, list(0));
        (uint32 used,) = market.seriesOf(providers[0], 1);
        vm.assertEq(used, 1, "one slot back");
    }

    function test_F25_bond() public {
        vm.prank(providers[0]);
        market.requestUnbond(address(token), uint128(FUNDS / 2 - bondOf(0, 8)));
        vm.assertEq(fillWith(0, offerOf(0)), uint256(FillRefusal.BondTooSmall), "leaving money backs nothing");
        vm.assertEq(seats(0), 1, "what the bond covers is filled");
        vm.assertEq(locked(0), bondOf(0, 8), "locked");
    }

    function test_F26_escrow() public {
        bytes32 rich = jobId;
        FillRequest[] memory none = new FillRequest[](0);
        vm.prank(buyer);
        jobId = market.openJob(keccak256("poor"), termsOf(4), uint128(payOf(0, 8) + feeOf(0, 8)), none);
        vm.assertEq(fillWith(0, offerOf(0)), uint256(FillRefusal.EscrowSpent), "one group is paid for");
        vm.assertEq(seats(0), 1, "first");
        vm.assertEq(seats(1), 0, "second");
        vm.prank(buyer);
        market.topUp(jobId, uint128(payOf(0, 8) + feeOf(0, 8)), 0);
        vm.assertEq(fillRange(request(0, offerOf(0), 1, 1)), 0, "after the top-up");
        vm.assertEq(market.jobOf(jobId).escrow, market.jobOf(jobId).allocated, "all promised");
        jobId = rich;
    }

    function test_C10_a_bad_fill_stops_only_itself() public {
        FillRequest[] memory wanted = requests(3, 4);
        wanted[1].signature = hex"00";
        fillAll(wanted);
        vm.assertEq(seats(0), 2, "the others are seated");
        vm.assertEq(market.seatOf(jobId, 0, 1).provider, providers[2], "in order");
    }

    function test_C10_repeat_moves_no_money_and_other_terms_are_refused() public {
        uint256 wallet = token.balanceOf(buyer);
        uint256 inside = balance(buyer);
        vm.assertEq(open(termsOf(4), 3, 1e18), jobId, "same id");
        vm.assertEq(open(termsOf(4), 3, 1e18), jobId, "same id again");
        vm.assertEq(token.balanceOf(buyer), wallet, "wallet");
        vm.assertEq(balance(buyer), inside, "balance");
        vm.assertEq(market.jobOf(jobId).escrow, 1e18, "escrow");
        vm.assertEq(seats(3), 3, "fills of the repeat count");
        Terms memory other = termsOf(4);
        other.content.templateDigest = keccak256("another");
        FillRequest[] memory none = new FillRequest[](0);
        vm.expectPartialRevert(IMarketErrors.JobExists.selector);
        vm.prank(buyer);
        market.openJob(NONCE, other, 1e18, none);
    }

    function test_C10_pulls_only_what_the_balance_lacks() public {
        vm.prank(buyer);
        market.deposit(address(token), 4e17, 0);
        uint256 wallet = token.balanceOf(buyer);
        FillRequest[] memory none = new FillRequest[](0);
        vm.prank(buyer);
        market.openJob(keccak256("second"), termsOf(1), 1e18, none);
        vm.assertEq(wallet - token.balanceOf(buyer), 6e17, "pulled");
        vm.assertEq(balance(buyer), 0, "balance used first");
    }

    function test_C11_only_the_buyer_only_these_terms_only_in_time() public {
        FillRequest[] memory wanted = requests(1, 1);
        Terms memory terms = termsOf(4);
        vm.expectPartialRevert(IMarketErrors.NotBuyer.selector);
        market.fill(jobId, terms, wanted);
        terms.pricing.pickedCap += 1;
        vm.startPrank(buyer);
        vm.expectPartialRevert(IMarketErrors.TermsMismatch.selector);
        market.fill(jobId, terms, wanted);
        vm.expectPartialRevert(IMarketErrors.JobUnknown.selector);
        market.fill(bytes32(0), terms, wanted);
        vm.expectPartialRevert(IMarketErrors.CountInvalid.selector);
        market.fill(jobId, termsOf(4), new FillRequest[](0));
        vm.warp(START + 1 hours + 1);
        vm.expectPartialRevert(IMarketErrors.JobNotOpen.selector);
        market.fill(jobId, termsOf(4), wanted);
        vm.stopPrank();
    }

    function test_C12_seals_what_has_its_seats_and_nothing_twice() public {
        fillAll(requests(2, 4));
        fillRange(request(2, offerOf(2), 1, 2));
        vm.assertEq(seal(jobId, 0, 100), 2, "groups 1 and 2");
        assertGroup(jobId, 0, GroupState.Filling);
        assertGroup(jobId, 1, GroupState.Running);
        assertGroup(jobId, 2, GroupState.Running);
        vm.assertEq(seal(jobId, 0, 100), 0, "again");
        fillRange(request(2, offerOf(2), 0, 1));
        vm.assertEq(seal(jobId, 0, 1), 1, "extended, then sealed");
        vm.assertEq(market.groupOf(jobId, 1).deadline, START + 18 minutes, "run and grace");
    }

    function test_C12_canary_goes_first() public {
        Terms memory terms = termsOf(3);
        terms.redundancy.canary = true;
        FillRequest[] memory wanted = requests(3, 3);
        vm.prank(buyer);
        jobId = market.openJob(keccak256("canary"), terms, 1e18, wanted);
        vm.assertEq(seal(jobId, 0, 3), 1, "only the first");
        vm.assertEq(seal(jobId, 1, 2), 0, "not while it runs");
        play(jobId, 0, ROOT, ROOT, ROOT);
        vm.assertEq(seal(jobId, 1, 2), 2, "once it is agreed");
    }

    function test_C12_a_failed_canary_seals_nothing() public {
        Terms memory terms = termsOf(3);
        terms.redundancy.canary = true;
        FillRequest[] memory wanted = requests(3, 3);
        vm.prank(buyer);
        jobId = market.openJob(keccak256("canary"), terms, 1e18, wanted);
        seal(jobId, 0, 1);
        play(jobId, 0, ROOT, WRONG, keccak256("third"));
        vm.assertEq(seal(jobId, 1, 2), 0, "contested");
    }

    function test_M05_reserve_is_checked_at_sealing_and_comes_back() public {
        Terms memory terms = termsOf(1);
        (terms.redundancy.maxSeats, terms.redundancy.maxRounds, terms.redundancy.drawn) = (5, 2, 1);
        terms.pricing.drawnCap = 1e15;
        uint256 perUnit = (2e15 * uint256(10_000 + FEE_BPS)) / 10_000;
        uint256 seatsCost;
        for (uint256 i; i < 3; ++i) {
            seatsCost += payOf(i, 8) + feeOf(i, 8);
        }
        FillRequest[] memory wanted = requests(3, 1);
        vm.prank(buyer);
        jobId = market.openJob(keccak256("reserve"), terms, uint128(seatsCost + 8 * perUnit - 1), wanted);
        vm.assertEq(seal(jobId, 0, 1), 0, "one short");
        vm.prank(buyer);
        market.topUp(jobId, 1, 0);
        vm.assertEq(seal(jobId, 0, 1), 1, "enough");
        vm.assertEq(market.jobOf(jobId).allocated, seatsCost + 8 * perUnit, "allocated");
        play(jobId, 0, ROOT, ROOT, ROOT);
        later(30 minutes);
        settle(jobId, 0);
        vm.assertEq(market.jobOf(jobId).allocated, 0, "reserve is back");
        vm.assertEq(balance(buyer), 8 * perUnit, "and the buyer's");
    }
}
