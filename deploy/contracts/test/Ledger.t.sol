// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Scene} from "./Scene.sol";
import {IMarketErrors} from "../src/interfaces/IMarketErrors.sol";
import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {Jobs} from "../src/Jobs.sol";
import {Ledger} from "../src/Ledger.sol";
import {Market} from "../src/Market.sol";
import {Cheats} from "./Cheats.sol";
import "../src/Types.sol";

/// PROTOCOL.md C-1 to C-7, C-40, C-41 and the refusals of whole calls.
contract LedgerTest is Scene {
    bytes32 private constant INTENT = keccak256("intent");

    function test_C01_intent_acts_once() public {
        vm.startPrank(buyer);
        vm.assertTrue(market.deposit(address(token), 5, INTENT), "first");
        vm.assertFalse(market.deposit(address(token), 5, INTENT), "again");
        vm.assertFalse(market.deposit(address(token), 7, INTENT), "whatever it asks");
        vm.assertEq(balance(buyer), 5, "once");
        market.deposit(address(token), 5, 0);
        market.deposit(address(token), 5, 0);
        vm.assertEq(balance(buyer), 15, "no intent, each time");
        vm.stopPrank();
        vm.assertTrue(market.intentUsed(buyer, INTENT), "noted");
        vm.assertFalse(market.intentUsed(providers[0], INTENT), "per caller");
    }

    function test_C01_amount_zero() public {
        vm.expectPartialRevert(IMarketErrors.AmountZero.selector);
        market.deposit(address(token), 0, 0);
        vm.expectPartialRevert(IMarketErrors.AmountZero.selector);
        market.postBond(address(token), 0, 0);
        vm.expectPartialRevert(IMarketErrors.AmountZero.selector);
        market.withdrawTo(address(token), 0, buyer, 0);
    }

    function permit(uint256 key, uint256 amount) private view returns (uint8 v, bytes32 r, bytes32 s) {
        address owner = vm.addr(key);
        bytes32 typeHash =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 content =
            keccak256(abi.encode(typeHash, owner, address(market), amount, token.nonces(owner), block.timestamp));
        return vm.sign(key, keccak256(abi.encodePacked(hex"1901", token.DOMAIN_SEPARATOR(), content)));
    }

    function test_C02_A23_permit_even_if_someone_spent_it_first() public {
        address owner = vm.addr(99);
        token.mint(owner, 100);
        (uint8 v, bytes32 r, bytes32 s) = permit(99, 60);
        vm.prank(owner);
        market.depositWithPermit(address(token), 60, 0, block.timestamp, v, r, s);
        vm.assertEq(balance(owner), 60, "deposited");
        (v, r, s) = permit(99, 40);
        token.permit(owner, address(market), 40, block.timestamp, v, r, s);
        vm.prank(owner);
        market.depositWithPermit(address(token), 40, 0, block.timestamp, v, r, s);
        vm.assertEq(balance(owner), 100, "front-run");
    }

    function test_C03_withdraw_to_any_address_once() public {
        uint256 had = balance(providers[0]);
        address payout = address(0xCA5);
        vm.startPrank(providers[0]);
        vm.assertTrue(market.withdrawTo(address(token), 10, payout, INTENT), "first");
        vm.assertFalse(market.withdrawTo(address(token), 10, payout, INTENT), "again");
        vm.assertEq(token.balanceOf(payout), 10, "sent once");
        vm.assertEq(balance(providers[0]), had - 10, "taken once");
        vm.expectPartialRevert(IMarketErrors.BalanceTooSmall.selector);
        market.withdrawTo(address(token), uint128(had), payout, 0);
        vm.expectPartialRevert(IMarketErrors.AddressInvalid.selector);
        market.withdrawTo(address(token), 1, address(0), 0);
        vm.expectPartialRevert(IMarketErrors.AddressInvalid.selector);
        market.withdrawTo(address(token), 1, address(market), 0);
        vm.stopPrank();
    }

    function test_C04_bond_from_balance_only() public {
        vm.expectPartialRevert(IMarketErrors.BalanceTooSmall.selector);
        vm.prank(buyer);
        market.postBond(address(token), 1, 0);
        vm.prank(providers[0]);
        market.postBond(address(token), 5, INTENT);
        vm.assertEq(market.bondOf(providers[0], address(token)).total, FUNDS / 2 + 5, "bond");
    }

    function test_C05_C06_bond_leaves_after_the_delay() public {
        address provider = providers[0];
        uint256 had = balance(provider);
        vm.startPrank(provider);
        vm.expectPartialRevert(IMarketErrors.NotReady.selector);
        market.finishUnbond(address(token));
        vm.expectPartialRevert(IMarketErrors.BondTooSmall.selector);
        market.requestUnbond(address(token), uint128(FUNDS));
        market.requestUnbond(address(token), 100);
        later(UNBOND_DELAY - 1);
        vm.expectPartialRevert(IMarketErrors.NotReady.selector);
        market.finishUnbond(address(token));
        market.requestUnbond(address(token), 60);
        later(1);
        vm.assertEq(market.finishUnbond(address(token)), 60, "a cut starts no new delay");
        market.requestUnbond(address(token), 10);
        market.requestUnbond(address(token), 20);
        later(UNBOND_DELAY);
        market.requestUnbond(address(token), 30);
        vm.expectPartialRevert(IMarketErrors.NotReady.selector);
        market.finishUnbond(address(token));
        vm.stopPrank();
        vm.assertEq(balance(provider), had + 60, "in the balance");
        BondView memory bond = market.bondOf(provider, address(token));
        vm.assertEq(bond.total, FUNDS / 2 - 60, "total");
        vm.assertEq(bond.leaving, 30, "leaving");
        vm.assertEq(bond.locked, 0, "locked");
    }

    function test_C05_locked_bond_cannot_leave() public {
        running();
        vm.startPrank(providers[0]);
        vm.expectPartialRevert(IMarketErrors.BondTooSmall.selector);
        market.requestUnbond(address(token), uint128(FUNDS / 2));
        market.requestUnbond(address(token), uint128(FUNDS / 2 - bondOf(0, 8)));
        vm.stopPrank();
        vm.assertEq(locked(0), bondOf(0, 8), "the job's lock is apart");
    }

    function test_C07_cancel_never_lowers() public {
        vm.startPrank(providers[0]);
        market.cancelOffers(1, 5);
        market.cancelOffers(1, 3);
        vm.stopPrank();
        (, uint64 minNonce) = market.seriesOf(providers[0], 1);
        vm.assertEq(minNonce, 5, "floor");
    }

    function test_C13_top_up_by_anyone_while_open() public {
        bytes32 jobId = open(termsOf(1), 0, 1e18);
        vm.prank(providers[0]);
        vm.assertTrue(market.topUp(jobId, 7, INTENT), "first");
        vm.prank(providers[0]);
        vm.assertFalse(market.topUp(jobId, 7, INTENT), "again");
        vm.assertEq(market.jobOf(jobId).escrow, 1e18 + 7, "once");
        vm.prank(buyer);
        market.cancelJob(jobId);
        vm.expectPartialRevert(IMarketErrors.JobNotOpen.selector);
        market.topUp(jobId, 7, 0);
    }

    function test_C14_only_the_buyer_and_a_repeat_is_silent() public {
        bytes32 jobId = open(termsOf(1), 0, 1e18);
        vm.expectPartialRevert(IMarketErrors.NotBuyer.selector);
        market.cancelJob(jobId);
        vm.startPrank(buyer);
        market.cancelJob(jobId);
        uint256 seq = market.jobOf(jobId).seq;
        later(100);
        market.cancelJob(jobId);
        vm.assertEq(market.jobOf(jobId).seq, seq, "no second notice");
        vm.expectPartialRevert(IMarketErrors.JobCancelled.selector);
        market.seal(jobId, 0, 1);
        vm.stopPrank();
    }

    function test_C40_all_or_nothing() public {
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(market.deposit, (address(token), 5, 0));
        calls[1] = abi.encodeCall(market.withdrawTo, (address(token), 6, buyer, 0));
        vm.prank(buyer);
        vm.expectRevert(abi.encodeWithSelector(IMarketErrors.BalanceTooSmall.selector, 5, 6));
        market.multicall(calls);
        vm.assertEq(balance(buyer), 0, "nothing");
        calls[1] = abi.encodeCall(market.postBond, (address(token), 5, 0));
        vm.prank(buyer);
        bytes[] memory results = market.multicall(calls);
        vm.assertTrue(abi.decode(results[1], (bool)), "as the caller");
        vm.assertEq(market.bondOf(buyer, address(token)).total, 5, "bond");
    }

    function test_C41_E41_each_failing_alone() public {
        bytes[] memory calls = new bytes[](4);
        calls[0] = abi.encodeCall(market.deposit, (address(token), 5, 0));
        calls[1] = abi.encodeCall(market.withdrawTo, (address(token), 6, buyer, 0));
        calls[2] = hex"12345678";
        calls[3] = abi.encodeCall(market.postBond, (address(token), 5, 0));
        vm.recordLogs();
        vm.prank(buyer);
        vm.assertEq(market.batch(calls), 2, "two succeed");
        Cheats.Log[] memory logs = vm.getRecordedLogs();
        uint256 failed;
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != IMarketEvents.StepFailed.selector) continue;
            bytes4 reason = bytes4(abi.decode(logs[i].data, (bytes)));
            bool first = failed++ == 0;
            vm.assertEq(uint256(logs[i].topics[1]), first ? 1 : 2, "index");
            bytes4 expected = first ? IMarketErrors.BalanceTooSmall.selector : IMarketErrors.SelectorUnknown.selector;
            vm.assertTrue(reason == expected, "reason");
        }
        vm.assertEq(failed, 2, "two notices");
        vm.assertEq(market.bondOf(buyer, address(token)).total, 5, "the last went on");
    }

    function test_R06_parts_refuse_to_act_alone() public {
        Jobs jobs = new Jobs();
        Ledger ledger = new Ledger();
        vm.expectRevert(IMarketErrors.CalledDirectly.selector);
        jobs.cancelJob(NONCE);
        vm.expectRevert(IMarketErrors.CalledDirectly.selector);
        ledger.deposit(address(token), 1, 0);
        vm.expectRevert(IMarketErrors.CalledDirectly.selector);
        ledger.withdrawTo(address(token), 1, buyer, 0);
    }

    function test_R07_unknown_selectors_and_ether_are_refused() public {
        (bool ok, bytes memory reason) = address(market).call(hex"deadbeef");
        vm.assertFalse(ok, "unknown");
        vm.assertTrue(bytes4(reason) == IMarketErrors.SelectorUnknown.selector, "named");
        (ok,) = address(market).call{value: 1}("");
        vm.assertFalse(ok, "ether");
        (ok,) = address(market).call("");
        vm.assertFalse(ok, "nothing");
    }

    function test_R08_parameters() public {
        address jobs = address(new Jobs());
        address ledger = address(new Ledger());
        vm.expectRevert(IMarketErrors.ParametersInvalid.selector);
        new Market(Parameters({feeBps: 201, unbondDelay: 0}), jobs, ledger);
        vm.expectRevert(IMarketErrors.ParametersInvalid.selector);
        new Market(Parameters({feeBps: 1, unbondDelay: 0}), jobs, address(1));
        Market deployed = new Market(Parameters({feeBps: 200, unbondDelay: 3}), jobs, ledger);
        (bool ok, bytes memory answer) = address(deployed).call(abi.encodeWithSignature("parameters()"));
        vm.assertTrue(ok, "answers");
        Parameters memory read = abi.decode(answer, (Parameters));
        vm.assertEq(read.feeBps, 200, "fee");
        vm.assertEq(read.unbondDelay, 3, "delay");
    }
}
