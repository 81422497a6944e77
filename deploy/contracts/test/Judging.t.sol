// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Scene} from "./Scene.sol";
import "../src/Types.sol";

/// PROTOCOL.md, "Judging", "Money", "Deadlines" and C-14, C-30 to C-32: who gets what in each case, to the last unit.
contract JudgingTest is Scene {
    bytes32 private jobId;
    uint256[3] private before;

    function setUp() public override {
        super.setUp();
        jobId = running();
        for (uint256 i; i < 3; ++i) {
            before[i] = balance(providers[i]);
        }
    }

    function gained(uint256 provider) private view returns (uint256) {
        return balance(providers[provider]) - before[provider];
    }

    function bondTotal(uint256 provider) private view returns (uint256) {
        return market.bondOf(providers[provider], address(token)).total;
    }

    function sink() private view returns (uint256) {
        return market.sinkOf(address(token));
    }

    function charge(uint256 provider) private pure returns (uint256) {
        return (payOf(provider, 8) * 500) / 10_000;
    }

    function burn(uint256 provider) private pure returns (uint256) {
        return (payOf(provider, 8) * 2_000) / 10_000;
    }

    /// After the end: nobody's bond or slot is held, the job is empty, and the ledger adds up.
    function assertEnded(GroupState expected, uint256 spent) private view {
        assertGroup(jobId, 0, expected);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(locked(i), 0, "bond free");
            (uint32 used,) = market.seriesOf(providers[i], 1);
            vm.assertEq(used, 0, "slots free");
        }
        JobView memory job = market.jobOf(jobId);
        vm.assertEq(uint256(job.state), uint256(JobState.Ended), "job ended");
        vm.assertEq(job.escrow, 0, "escrow empty");
        vm.assertEq(job.allocated, 0, "nothing promised");
        vm.assertEq(balance(buyer), 1e18 - spent, "refund");
        assertConserved(jobId);
    }

    function test_V01_M06_agreed_seats_are_paid_the_dissenter_is_not() public {
        play(jobId, 0, ROOT, WRONG, ROOT);
        assertGroup(jobId, 0, GroupState.Agreed);
        assertSeat(jobId, 0, 0, SeatState.Agreed);
        assertSeat(jobId, 0, 1, SeatState.Dissent);
        vm.assertEq(locked(1), bondOf(1, 8), "the dissenter's bond stays locked");
        vm.assertEq(gained(0), 0, "nobody is paid yet");

        later(30 minutes - 1);
        vm.assertEq(settle(jobId, 0), 0, "not before its time for appeal ends");
        vm.assertEq(locked(1), bondOf(1, 8), "still locked");
        later(1);
        vm.assertEq(settle(jobId, 0), 1, "then by anyone");
        vm.assertEq(gained(0), payOf(0, 8), "first");
        vm.assertEq(gained(1), 0, "dissenter");
        vm.assertEq(gained(2), payOf(2, 8), "third");
        vm.assertEq(bondTotal(1), FUNDS / 2, "nobody is slashed without drawn seats");
        uint256 fees = feeOf(0, 8) + feeOf(2, 8);
        vm.assertEq(sink(), fees, "fee");
        assertEnded(GroupState.Credited, payOf(0, 8) + payOf(2, 8) + fees);
    }

    function test_V01_all_agree() public {
        play(jobId, 0, ROOT, ROOT, ROOT);
        later(30 minutes);
        settle(jobId, 0);
        uint256 spent;
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(gained(i), payOf(i, 8), "paid");
            spent += payOf(i, 8) + feeOf(i, 8);
        }
        assertEnded(GroupState.Credited, spent);
    }

    function test_V01_silence_after_a_commitment_is_dissent() public {
        for (uint256 i; i < 3; ++i) {
            commitTo(jobId, 0, i, ROOT);
        }
        revealTo(jobId, 0, 0, ROOT, true);
        revealTo(jobId, 0, 2, ROOT, true);
        vm.assertEq(judge(jobId, 0), 0, "waits for the third");
        later(5 minutes + 1);
        vm.assertEq(judge(jobId, 0), 1, "not for ever");
        assertSeat(jobId, 0, 1, SeatState.Dissent);
        vm.assertEq(locked(1), bondOf(1, 8), "locked");
        later(30 minutes);
        settle(jobId, 0);
        assertEnded(GroupState.Credited, payOf(0, 8) + payOf(2, 8) + feeOf(0, 8) + feeOf(2, 8));
    }

    function test_V01_S28_without_a_receipt_it_counts_but_is_not_paid() public {
        for (uint256 i; i < 3; ++i) {
            commitTo(jobId, 0, i, i == 2 ? WRONG : ROOT);
        }
        revealTo(jobId, 0, 0, ROOT, true);
        revealTo(jobId, 0, 1, ROOT, false);
        revealTo(jobId, 0, 2, WRONG, true);
        judge(jobId, 0);
        assertGroup(jobId, 0, GroupState.Agreed);
        assertSeat(jobId, 0, 1, SeatState.Unstored);
        later(30 minutes);
        settle(jobId, 0);
        vm.assertEq(gained(1), 0, "unpaid");
        vm.assertEq(bondTotal(1), FUNDS / 2, "not slashed");
        assertEnded(GroupState.Credited, payOf(0, 8) + feeOf(0, 8));
    }

    function test_V02_M09_contested_keeps_charges_and_burns_half_of_the_rest() public {
        play(jobId, 0, ROOT, WRONG, keccak256("third"));
        assertGroup(jobId, 0, GroupState.Contested);
        later(30 minutes);
        settle(jobId, 0);
        uint256 spent;
        uint256 burned;
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(gained(i), charge(i), "charge");
            vm.assertEq(bondTotal(i), FUNDS / 2, "bond whole");
            burned += (payOf(i, 8) - charge(i) + 1) / 2;
            spent += charge(i);
        }
        vm.assertEq(sink(), burned, "half of the rest");
        assertEnded(GroupState.Inconclusive, spent + burned);
    }

    function test_V02_P10_P11_only_what_was_delivered_counts() public {
        commitTo(jobId, 0, 0, ROOT);
        commitTo(jobId, 0, 1, WRONG);
        abstainFrom(jobId, 0, 2);
        revealTo(jobId, 0, 0, ROOT, true);
        revealTo(jobId, 0, 1, WRONG, false);
        judge(jobId, 0);
        assertSeat(jobId, 0, 0, SeatState.Unresolved);
        assertSeat(jobId, 0, 1, SeatState.Unstored);
        assertSeat(jobId, 0, 2, SeatState.Abstained);
        later(30 minutes);
        settle(jobId, 0);
        vm.assertEq(gained(1) + gained(2), 0, "no receipt, no charge");
        uint256 burned = (payOf(0, 8) - charge(0) + 1) / 2;
        assertEnded(GroupState.Inconclusive, charge(0) + burned);
    }

    function test_V03_V05_all_abstain_and_nobody_is_hurt() public {
        play(jobId, 0, 0, 0, 0);
        vm.assertEq(gained(0) + gained(1) + gained(2) + sink(), 0, "no money moved");
        assertEnded(GroupState.Refunded, 0);
    }

    function test_V03_V04_M07_no_show_burns_at_least_the_charge() public {
        abstainFrom(jobId, 0, 0);
        abstainFrom(jobId, 0, 2);
        vm.assertEq(judge(jobId, 0), 0, "not while the third may speak");
        vm.warp(START + 18 minutes + 1);
        vm.assertEq(judge(jobId, 0), 1, "after the deadline, at once");
        assertSeat(jobId, 0, 1, SeatState.NoShow);
        vm.assertEq(bondTotal(1), FUNDS / 2 - burn(1), "burned");
        vm.assertGe(burn(1), charge(1), "at least the charge");
        vm.assertEq(sink(), burn(1) + charge(1), "both to the sink");
        assertEnded(GroupState.Refunded, charge(1));
    }

    function test_V04_a_no_show_beside_a_quorum() public {
        commitTo(jobId, 0, 0, ROOT);
        commitTo(jobId, 0, 1, ROOT);
        vm.warp(START + 18 minutes + 1);
        revealTo(jobId, 0, 0, ROOT, true);
        revealTo(jobId, 0, 1, ROOT, true);
        judge(jobId, 0);
        later(30 minutes);
        settle(jobId, 0);
        vm.assertEq(gained(0), payOf(0, 8), "paid");
        vm.assertEq(bondTotal(2), FUNDS / 2 - burn(2), "burned");
        assertEnded(GroupState.Credited, payOf(0, 8) + payOf(1, 8) + feeOf(0, 8) + feeOf(1, 8) + charge(2));
    }

    function test_D02_judging_late_changes_nothing() public {
        commitTo(jobId, 0, 0, ROOT);
        vm.warp(START + 10 days);
        vm.assertEq(judge(jobId, 0), 1, "one call closes commits and reveals");
        assertSeat(jobId, 0, 0, SeatState.Dissent);
        assertSeat(jobId, 0, 1, SeatState.NoShow);
        assertGroup(jobId, 0, GroupState.Refunded);
        assertConserved(jobId);
    }

    function test_C14_running_seats_finish_and_are_judged() public {
        vm.prank(buyer);
        market.cancelJob(jobId);
        play(jobId, 0, ROOT, ROOT, ROOT);
        later(30 minutes);
        settle(jobId, 0);
        vm.assertEq(gained(0), payOf(0, 8), "paid in full");
        assertEnded(
            GroupState.Credited,
            payOf(0, 8) + payOf(1, 8) + payOf(2, 8) + feeOf(0, 8) + feeOf(1, 8) + feeOf(2, 8)
        );
    }

    function test_C14_M08_seats_that_stop_keep_the_charge_and_burn_nothing() public {
        vm.prank(buyer);
        market.cancelJob(jobId);
        vm.warp(START + 18 minutes + 1);
        judge(jobId, 0);
        uint256 charges;
        for (uint256 i; i < 3; ++i) {
            assertSeat(jobId, 0, uint8(i), SeatState.Excused);
            vm.assertEq(gained(i), charge(i), "charge");
            vm.assertEq(bondTotal(i), FUNDS / 2, "no burn");
            charges += charge(i);
        }
        assertEnded(GroupState.Refunded, charges);
    }

    function test_C14_notice_after_the_deadline_excuses_nobody() public {
        vm.warp(START + 18 minutes + 1);
        vm.prank(buyer);
        market.cancelJob(jobId);
        judge(jobId, 0);
        assertSeat(jobId, 0, 0, SeatState.NoShow);
        vm.assertEq(gained(0), 0, "no charge");
        assertConserved(jobId);
    }

    function test_C14_grace_shortens_a_long_deadline_only() public {
        Terms memory terms = defaultTerms();
        terms.windows.commitGrace = 2 hours;
        FillRequest[] memory fills = requests(3, 1);
        vm.prank(buyer);
        bytes32 slow = market.openJob(keccak256("slow"), terms, 1e18, fills);
        seal(slow, 0, 1);
        vm.prank(buyer);
        market.cancelJob(slow);
        vm.assertEq(market.groupOf(slow, 0).deadline, START + 1 hours, "grace");
        vm.prank(buyer);
        market.cancelJob(jobId);
        vm.assertEq(market.groupOf(jobId, 0).deadline, START + 18 minutes, "its own");
    }

    function test_C32_P08_groups_left_hanging_pay_the_charge() public {
        FillRequest[] memory fills = requests(2, 2);
        vm.prank(buyer);
        bytes32 hanging = market.openJob(keccak256("hanging"), termsOf(3), 1e18, fills);
        uint32[] memory all = new uint32[](3);
        (all[1], all[2]) = (1, 2);
        vm.assertEq(market.closeGroups(hanging, all), 0, "not while it may be sealed");
        vm.warp(START + 1 hours);
        vm.assertEq(market.closeGroups(hanging, all), 0, "last second");
        vm.warp(START + 1 hours + 1);
        vm.prank(address(0xA));
        vm.assertEq(market.closeGroups(hanging, all), 3, "by anyone");
        vm.assertEq(gained(0), 2 * charge(0), "charges of two groups");
        vm.assertEq(gained(2), 0, "not seated");
        vm.assertEq(balance(buyer), 1e18 - 2 * charge(0) - 2 * charge(1), "refund");
        vm.assertEq(uint256(market.jobOf(hanging).state), uint256(JobState.Ended), "ended");
        vm.assertEq(market.closeGroups(hanging, all), 0, "again: nothing");
    }

    function test_C30_C31_repeats_and_unknown_groups_do_nothing() public {
        play(jobId, 0, ROOT, ROOT, ROOT);
        uint256 seq = market.jobOf(jobId).seq;
        vm.assertEq(judge(jobId, 0), 0, "judged once");
        vm.assertEq(judge(jobId, 9), 0, "no such group");
        vm.assertEq(settle(jobId, 9), 0, "no such group");
        vm.assertEq(market.jobOf(jobId).seq, seq, "silent");
        later(30 minutes);
        uint32[] memory twice = new uint32[](2);
        vm.assertEq(market.settle(jobId, twice), 1, "the same group twice in one call");
        vm.assertEq(settle(jobId, 0), 0, "settled once");
        vm.assertEq(gained(0), payOf(0, 8), "paid once");
    }

    function test_M04_jobs_do_not_touch_each_other() public {
        FillRequest[] memory fills = requests(3, 1);
        vm.prank(buyer);
        bytes32 other = market.openJob(keccak256("other"), defaultTerms(), 1e18, fills);
        seal(other, 0, 1);
        play(jobId, 0, ROOT, WRONG, ROOT);
        later(30 minutes);
        settle(jobId, 0);
        vm.assertEq(locked(1), bondOf(1, 8), "the other job's lock stays");
        assertGroup(other, 0, GroupState.Running);
        vm.assertEq(market.jobOf(other).escrow, 1e18, "its escrow too");
    }

    function test_short_last_group_pays_for_its_units() public {
        Terms memory terms = defaultTerms();
        terms.shape.units = 11;
        FillRequest[] memory fills = requests(3, 2);
        vm.prank(buyer);
        bytes32 odd = market.openJob(keccak256("odd"), terms, 1e18, fills);
        vm.assertEq(market.groupOf(odd, 1).units, 3, "three units");
        vm.assertEq(market.seatOf(odd, 1, 2).pay, payOf(2, 3), "pay");
        vm.assertEq(market.seatOf(odd, 1, 2).bond, bondOf(2, 3), "bond");
    }

    /// Any mix of what three seats can do ends with every unit of money accounted for and every lock free.
    function testFuzz_M11_every_mix_ends_and_adds_up(uint8[3] memory acts, bool cancelled, uint64 price) public {
        Terms memory terms = defaultTerms();
        terms.pricing.pickedCap = type(uint96).max;
        FillRequest[] memory fills = new FillRequest[](3);
        for (uint256 i; i < 3; ++i) {
            Offer memory offer = offerOf(i);
            offer.sale.pricePerSlotSecond = uint96(price % 1e15 + i);
            fills[i] = request(i, offer, 0, 1);
        }
        play(jobId, 0, ROOT, ROOT, ROOT);
        later(30 minutes);
        settle(jobId, 0);
        vm.warp(START);
        vm.prank(buyer);
        jobId = market.openJob(keccak256("fuzz"), terms, 10e18, fills);
        seal(jobId, 0, 1);
        if (cancelled) {
            vm.prank(buyer);
            market.cancelJob(jobId);
        }
        bytes32[3] memory roots = [ROOT, WRONG, keccak256("third")];
        for (uint256 i; i < 3; ++i) {
            if (acts[i] % 6 == 0) continue;
            if (acts[i] % 6 == 1) abstainFrom(jobId, 0, i);
            else commitTo(jobId, 0, i, roots[acts[i] % 3]);
        }
        vm.warp(START + 18 minutes + 1);
        for (uint256 i; i < 3; ++i) {
            if (acts[i] % 6 > 2) revealTo(jobId, 0, i, roots[acts[i] % 3], acts[i] % 2 == 0);
        }
        later(5 minutes);
        judge(jobId, 0);
        assertConserved(jobId);
        later(30 minutes);
        settle(jobId, 0);
        vm.assertEq(uint256(market.jobOf(jobId).state), uint256(JobState.Ended), "ended");
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(locked(i), 0, "free");
        }
        assertConserved(jobId);
    }
}
