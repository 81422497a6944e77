// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Scene} from "../Scene.sol";
import "../../src/Types.sol";

/// Everything that five providers, a buyer and a passer-by can do, in any order, mostly at the wrong time and often in
/// bad faith. It keeps a model of who should have been paid at all.
contract Handler is Scene {
    bytes32[] public jobIds;
    /// Roots that a seat can show; few, so that quorums and disputes both happen.
    bytes32[3] private roots = [ROOT, WRONG, keccak256("a third root")];
    mapping(bytes32 => bytes32) private committedRoot;
    uint256 public minted;
    uint256 public calls;

    address private immutable OWNER = msg.sender;

    /// Only the test may set the scene and end it: the fuzzer calls whatever is public.
    modifier onlyTest() {
        require(msg.sender == OWNER, "only the test");
        _;
    }

    function setUp() public override onlyTest {
        super.setUp();
        minted = token.totalSupply();
    }

    function theMarket() external view returns (address) {
        return address(market);
    }

    function theToken() external view returns (address) {
        return address(token);
    }

    function jobCount() external view returns (uint256) {
        return jobIds.length;
    }

    function provider(uint256 i) external view returns (address) {
        return providers[i];
    }

    function theBuyer() external view returns (address) {
        return buyer;
    }

    function pickJob(uint256 seed) private view returns (bytes32 jobId, uint32 group) {
        jobId = jobIds[seed % jobIds.length];
        group = uint32((seed / 7) % market.jobOf(jobId).groups);
    }

    modifier counted() {
        ++calls;
        _;
    }

    function openSome(uint256 seed, bool canary, uint64 escrow) external counted {
        Terms memory terms = termsOf(uint32(seed % 3) + 1);
        terms.redundancy.canary = canary;
        terms.windows.openUntil = uint64(block.timestamp + 1 hours);
        if (seed % 5 == 0) {
            (terms.redundancy.maxSeats, terms.redundancy.maxRounds) = (4, 2);
            terms.pricing.drawnCap = 1e13;
        }
        FillRequest[] memory fills = new FillRequest[](4);
        for (uint256 i; i < 4; ++i) {
            fills[i] = request((seed % 5 + i) % 5, offerOf((seed % 5 + i) % 5), uint32(seed / 11 % 2), 3);
        }
        vm.prank(buyer);
        jobIds.push(market.openJob(keccak256(abi.encode(jobIds.length)), terms, escrow % 1e17, fills));
    }

    function sealSome(uint256 seed) external counted {
        if (jobIds.length == 0) return;
        (bytes32 jobId,) = pickJob(seed);
        vm.prank(buyer);
        try market.seal(jobId, 0, 3) {} catch {}
    }

    function cancelSome(uint256 seed) external counted {
        if (jobIds.length == 0 || seed % 4 != 0) return;
        (bytes32 jobId,) = pickJob(seed);
        vm.prank(buyer);
        market.cancelJob(jobId);
    }

    function topUpSome(uint256 seed, uint64 amount) external counted {
        if (jobIds.length == 0) return;
        (bytes32 jobId,) = pickJob(seed);
        vm.prank(buyer);
        try market.topUp(jobId, uint128(amount % 1e16) + 1, 0) {} catch {}
    }

    function commitSome(uint256 seed, bool honest) external counted {
        if (jobIds.length == 0) return;
        (bytes32 jobId, uint32 group) = pickJob(seed);
        for (uint256 who; who < 5; ++who) {
            if (honest || (seed >> who) % 2 == 0) commitAsSeat(jobId, group, who, honest ? 0 : (seed >> (8 + who)) % 3);
        }
    }

    function commitAsSeat(bytes32 jobId, uint32 group, uint256 who, uint256 root) private {
        (bool seated, uint8 seat) = seatOfProvider(jobId, group, who);
        if (!seated || market.roundIdOf(jobId, group, 0) == 0) return;
        if (seatState(jobId, group, seat) != SeatState.Awarded) return;
        Commit memory message = commitMessage(jobId, group, who, roots[root]);
        message.entries[0].seat = seat;
        committedRoot[keccak256(abi.encode(jobId, group, seat))] = roots[root];
        vm.prank(providers[who]);
        market.commit(message, "");
    }

    function abstainSome(uint256 seed) external counted {
        if (jobIds.length == 0) return;
        (bytes32 jobId, uint32 group) = pickJob(seed);
        uint256 who = seed % 5;
        Abstain memory message = abstainMessage(jobId, group, who, uint8(seed % 9));
        message.entries[0].seat = uint8(seed % 4);
        vm.prank(providers[who]);
        market.abstain(message, "");
    }

    function revealSome(uint256 seed, bool honest) external counted {
        if (jobIds.length == 0) return;
        (bytes32 jobId, uint32 group) = pickJob(seed);
        revealGroup(jobId, group, seed, honest);
    }

    function revealGroup(bytes32 jobId, uint32 group, uint256 seed, bool honest) private {
        for (uint256 who; who < 5; ++who) {
            (bool seated, uint8 seat) = seatOfProvider(jobId, group, who);
            if (!seated || market.roundIdOf(jobId, group, 0) == 0) continue;
            if (!honest && (seed >> who) % 3 == 0) continue;
            bytes32 root = committedRoot[keccak256(abi.encode(jobId, group, seat))];
            Reveal memory message = revealMessage(jobId, group, who, root, honest || (seed >> who) % 4 != 1);
            message.entries[0].seat = seat;
            vm.prank(providers[who]);
            market.reveal(message, "");
        }
    }

    function judgeSome(uint256 seed) external counted {
        if (jobIds.length == 0) return;
        (bytes32 jobId, uint32 group) = pickJob(seed);
        judge(jobId, group);
    }

    function settleSome(uint256 seed) external counted {
        if (jobIds.length == 0) return;
        (bytes32 jobId, uint32 group) = pickJob(seed);
        settle(jobId, group);
    }

    function closeSome(uint256 seed) external counted {
        if (jobIds.length == 0) return;
        (bytes32 jobId, uint32 group) = pickJob(seed);
        market.closeGroups(jobId, list(group));
    }

    /// A job opened and a group of it taken through its whole life in time: calls drawn one by one seldom meet every
    /// window in turn, and what is never paid proves little about payments.
    function liveSome(uint256 seed, bool honest) external counted {
        this.openSome(seed, seed % 3 == 0, uint64(1e17 - 1));
        uint256 newest = jobIds.length - 1;
        (bytes32 jobId, uint32 group) = (jobIds[newest], uint32(seed % 3));
        group %= market.jobOf(jobId).groups;
        this.sealSome(newest);
        for (uint256 who; who < 5; ++who) {
            commitAsSeat(jobId, group, who, honest ? 0 : (seed >> (8 + 2 * who)) % 3);
        }
        // Where all have committed, revealing begins at once.
        revealGroup(jobId, group, seed, true);
        later(1 hours);
        judge(jobId, group);
        later(1 days);
        settle(jobId, group);
    }

    function unbondSome(uint256 seed, uint128 amount) external counted {
        vm.startPrank(providers[seed % 5]);
        try market.requestUnbond(address(token), amount % uint128(FUNDS)) {} catch {}
        try market.finishUnbond(address(token)) {} catch {}
        vm.stopPrank();
    }

    function withdrawSome(uint256 seed, uint128 amount) external counted {
        vm.prank(providers[seed % 5]);
        try market.withdrawTo(address(token), amount % uint128(FUNDS) + 1, buyer, bytes32(seed % 8)) {} catch {}
    }

    function wait(uint256 seed) external counted {
        later((seed % 20) * 1 minutes);
    }

    /// Every deadline of every job is over and everyone calls: nothing may be left.
    function endEverything() public onlyTest {
        for (uint256 pass; pass < 4; ++pass) {
            later(2 days);
            for (uint256 i; i < jobIds.length; ++i) {
                for (uint32 g; g < market.jobOf(jobIds[i]).groups; ++g) {
                    market.closeGroups(jobIds[i], list(g));
                    judge(jobIds[i], g);
                    settle(jobIds[i], g);
                }
            }
        }
    }

    function seatOfProvider(bytes32 jobId, uint32 group, uint256 who) private view returns (bool, uint8) {
        for (uint8 seat; seat < market.groupOf(jobId, group).seats; ++seat) {
            if (market.seatOf(jobId, group, seat).provider == providers[who]) return (true, seat);
        }
        return (false, 0);
    }
}
