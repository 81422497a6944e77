// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Scene} from "./Scene.sol";
import {IRounds} from "../src/interfaces/IMarket.sol";
import {TypedData} from "../src/lib/TypedData.sol";
import "../src/Types.sol";

/// What a job costs, whole, from opening to settlement: every transaction counted with its base fee and calldata (run
/// with `--isolate`). A first job warms what stays (balances, series, gateway, sink), so the figures are those of a
/// market in use. The ceilings are this version's, close above what was measured; README.md sets them beside the aims.
contract GasTest is Scene {
    uint256 private total;

    function setUp() public override {
        super.setUp();
        vm.prank(buyer);
        market.deposit(address(token), 100e18, 0);
        bytes32 jobId = runDirect(termsFor(8, 1), keccak256("warm-up"), 1);
        vm.assertEq(uint256(market.jobOf(jobId).state), uint256(JobState.Ended), "warm-up job");
        vm.warp(START);
    }

    function test_gas_direct_1_unit() public {
        measure("direct", "1 unit", termsFor(1, 1), 1, false);
        vm.assertLe(total, 1_010_000, "one group, sent directly");
    }

    function test_gas_direct_8_units() public {
        measure("direct", "8 units", termsFor(8, 1), 1, false);
        vm.assertLe(total, 1_010_000, "one group, sent directly");
    }

    function test_gas_direct_100_units() public {
        measure("direct", "100 units", termsFor(100, 1), 1, false);
        vm.assertLe(total / 100, 10_100, "per unit");
    }

    function test_gas_direct_1000_units() public {
        measure("direct", "1000 units, 2 groups", termsFor(1000, 2), 2, false);
    }

    function test_gas_relayed_1_unit() public {
        measure("relayed", "1 unit", termsFor(1, 1), 1, true);
        vm.assertLe(total, 890_000, "one group, relayed");
    }

    function test_gas_relayed_8_units() public {
        measure("relayed", "8 units", termsFor(8, 1), 1, true);
        vm.assertLe(total, 890_000, "one group, relayed");
    }

    function test_gas_relayed_100_units() public {
        measure("relayed", "100 units", termsFor(100, 1), 1, true);
        vm.assertLe(total / 100, 8_900, "per unit");
    }

    function test_gas_relayed_1000_units() public {
        measure("relayed", "1000 units, 2 groups", termsFor(1000, 2), 2, true);
        vm.assertLe(total / 1000, 1_210, "per unit");
    }

    function measure(string memory kind, string memory name, Terms memory terms, uint32 groups, bool relayed)
        private
    {
        total = 0;
        bytes32 nonce = keccak256(bytes(name));
        bytes32 jobId = relayed ? runRelayed(terms, nonce, groups) : runDirect(terms, nonce, groups);
        vm.assertEq(uint256(market.jobOf(jobId).state), uint256(JobState.Ended), "ended");
        vm.snapshotValue(kind, string.concat(name, ": total"), total);
        vm.snapshotValue(kind, string.concat(name, ": per unit"), total / terms.shape.units);
    }

    function termsFor(uint32 units, uint32 groups) private view returns (Terms memory terms) {
        terms = defaultTerms();
        terms.shape.units = units;
        terms.shape.unitsPerSlice = (units + groups - 1) / groups;
        terms.shape.slicesPerGroup = 1;
        terms.shape.secondsPerUnit = 1;
        terms.windows.openUntil = uint64(block.timestamp + 1 hours);
    }

    function count() private {
        (, uint64 used,, int64 refunded,) = vm.lastCallGas();
        total += used - uint64(refunded > 0 ? refunded : int64(0));
    }

    function openAndSeal(Terms memory terms, bytes32 nonce, uint32 groups) private returns (bytes32 jobId) {
        jobId = market.jobIdOf(buyer, nonce);
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(market.openJob, (nonce, terms, 1e18, requests(3, groups)));
        calls[1] = abi.encodeCall(market.seal, (jobId, 0, groups));
        vm.prank(buyer);
        market.multicall(calls);
        count();
    }

    function commits(bytes32 jobId, uint256 provider, uint32 groups) private view returns (Commit memory message) {
        message = commitMessage(jobId, 0, provider, ROOT);
        CommitEntry[] memory entries = new CommitEntry[](groups);
        for (uint32 g; g < groups; ++g) {
            entries[g] = commitMessage(jobId, g, provider, ROOT).entries[0];
        }
        message.entries = entries;
    }

    function reveals(bytes32 jobId, uint256 provider, uint32 groups) private view returns (Reveal memory message) {
        message = revealMessage(jobId, 0, provider, ROOT, true);
        RevealEntry[] memory entries = new RevealEntry[](groups);
        for (uint32 g; g < groups; ++g) {
            entries[g] = revealMessage(jobId, g, provider, ROOT, true).entries[0];
        }
        message.entries = entries;
    }

    function allOf(uint32 groups) private pure returns (uint32[] memory all) {
        all = new uint32[](groups);
        for (uint32 g; g < groups; ++g) {
            all[g] = g;
        }
    }

    function settleAll(bytes32 jobId, uint32 groups) private {
        later(1 hours);
        vm.prank(buyer);
        market.settle(jobId, allOf(groups));
        count();
    }

    function runDirect(Terms memory terms, bytes32 nonce, uint32 groups) private returns (bytes32 jobId) {
        jobId = openAndSeal(terms, nonce, groups);
        for (uint256 i; i < 3; ++i) {
            Commit memory message = commits(jobId, i, groups);
            vm.prank(providers[i]);
            market.commit(message, "");
            count();
        }
        for (uint256 i; i < 3; ++i) {
            Reveal memory message = reveals(jobId, i, groups);
            vm.prank(providers[i]);
            market.reveal(message, "");
            count();
        }
        vm.prank(buyer);
        market.judge(jobId, allOf(groups));
        count();
        settleAll(jobId, groups);
    }

    function runRelayed(Terms memory terms, bytes32 nonce, uint32 groups) private returns (bytes32 jobId) {
        jobId = openAndSeal(terms, nonce, groups);
        bytes[] memory calls = new bytes[](3);
        for (uint256 i; i < 3; ++i) {
            Commit memory message = commits(jobId, i, groups);
            bytes32 digest = TypedData.digest(market.domainSeparator(), hasher.commitHash(message));
            calls[i] = abi.encodeCall(IRounds.commit, (message, signature(providerKeys[i], digest)));
        }
        vm.prank(buyer);
        market.batch(calls);
        count();
        // Whoever relays the openings judges in the same transaction.
        calls = new bytes[](4);
        for (uint256 i; i < 3; ++i) {
            Reveal memory message = reveals(jobId, i, groups);
            bytes32 digest = TypedData.digest(market.domainSeparator(), hasher.revealHash(message));
            calls[i] = abi.encodeCall(IRounds.reveal, (message, signature(providerKeys[i], digest)));
        }
        calls[3] = abi.encodeCall(market.judge, (jobId, allOf(groups)));
        vm.prank(buyer);
        market.batch(calls);
        count();
        settleAll(jobId, groups);
    }
}
