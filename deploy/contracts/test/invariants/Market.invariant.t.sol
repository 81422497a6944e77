// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Cheats} from "../Cheats.sol";
import {Handler} from "./Handler.sol";
import {IMarket} from "../../src/interfaces/IMarket.sol";
import {LabToken} from "../tokens/LabToken.sol";
import "../../src/Types.sol";

/// Functions of one contract, as forge asks for them.
struct Selectors {
    address addr;
    bytes4[] selectors;
}

/// What holds after every call, whoever made it.
contract MarketInvariants {
    bool public constant IS_TEST = true;
    Cheats private constant vm = Cheats(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);

    Handler private handler;
    IMarket private market;
    LabToken private token;

    function setUp() public {
        handler = new Handler();
        handler.setUp();
        market = IMarket(handler.theMarket());
        token = LabToken(handler.theToken());
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// What only this test calls: calls that are refused prove nothing.
    function excludeSelectors() public view returns (Selectors[] memory excluded) {
        excluded = new Selectors[](1);
        excluded[0].addr = address(handler);
        excluded[0].selectors = new bytes4[](2);
        excluded[0].selectors[0] = Handler.setUp.selector;
        excluded[0].selectors[1] = Handler.endEverything.selector;
    }

    /// One campaign checks all: each check after every call.
    function invariant_M02_M03_M04_M05_M11_no_payment_without_agreement() public view {
        checkConservation();
        checkLocks();
        checkPromises();
        checkPayments();
    }

    /// M-11: what is owed to anyone is what is held, and what is held is there.
    function checkConservation() private view {
        uint256 owed = market.sinkOf(address(token)) + market.balanceOf(handler.theBuyer(), address(token));
        for (uint256 i; i < 5; ++i) {
            address provider = handler.provider(i);
            owed += market.balanceOf(provider, address(token)) + market.bondOf(provider, address(token)).total;
        }
        for (uint256 i; i < handler.jobCount(); ++i) {
            owed += market.jobOf(handler.jobIds(i)).escrow;
        }
        vm.assertEq(owed, market.heldOf(address(token)), "owed = held");
        vm.assertEq(token.balanceOf(address(market)), market.heldOf(address(token)), "held = tokens");
        vm.assertEq(token.totalSupply(), handler.minted(), "no token made");
    }

    /// M-3, M-4: a provider's locks are exactly the bonds of its seats that are not yet over, and never exceed its bond.
    function checkLocks() private view {
        for (uint256 i; i < 5; ++i) {
            address provider = handler.provider(i);
            BondView memory bond = market.bondOf(provider, address(token));
            vm.assertLe(uint256(bond.locked) + bond.leaving, bond.total, "within the bond");
            (uint256 locked, uint256 slots) = openSeats(provider);
            vm.assertEq(bond.locked, locked, "locks");
            (uint32 used,) = market.seriesOf(provider, 1);
            vm.assertEq(used, slots, "slots");
        }
    }

    /// M-2, M-5: a job never promises more than it has.
    function checkPromises() private view {
        for (uint256 i; i < handler.jobCount(); ++i) {
            JobView memory job = market.jobOf(handler.jobIds(i));
            vm.assertLe(job.allocated, job.escrow, "allocated");
            if (job.state == JobState.Ended) vm.assertEq(job.escrow, 0, "ended and empty");
        }
    }

    /// Nobody is paid in full unless a quorum of the group showed one root.
    function checkPayments() private view {
        for (uint256 i; i < handler.jobCount(); ++i) {
            bytes32 jobId = handler.jobIds(i);
            uint256 groups = market.jobOf(jobId).groups;
            for (uint32 g; g < groups; ++g) {
                checkAgreement(jobId, g);
            }
        }
    }

    /// Every open group ends, by calls that anyone can make once the deadlines are over.
    function afterInvariant() public {
        handler.endEverything();
        for (uint256 i; i < handler.jobCount(); ++i) {
            vm.assertEq(uint256(market.jobOf(handler.jobIds(i)).state), uint256(JobState.Ended), "every job ends");
        }
        for (uint256 i; i < 5; ++i) {
            vm.assertEq(market.bondOf(handler.provider(i), address(token)).locked, 0, "every bond is free");
        }
        checkConservation();
        checkPayments();
    }

    function openSeats(address provider) private view returns (uint256 locked, uint256 slots) {
        for (uint256 i; i < handler.jobCount(); ++i) {
            bytes32 jobId = handler.jobIds(i);
            uint256 groups = market.jobOf(jobId).groups;
            for (uint32 g; g < groups; ++g) {
                GroupView memory group = market.groupOf(jobId, g);
                if (group.state >= GroupState.Credited) continue;
                for (uint8 s; s < group.seats; ++s) {
                    SeatView memory seat = market.seatOf(jobId, g, s);
                    if (seat.provider != provider) continue;
                    locked += seat.bond;
                    slots += 1;
                }
            }
        }
    }

    function checkAgreement(bytes32 jobId, uint32 g) private view {
        GroupView memory group = market.groupOf(jobId, g);
        uint256 same;
        bytes32 root;
        bool paid;
        for (uint8 s; s < group.seats; ++s) {
            SeatView memory seat = market.seatOf(jobId, g, s);
            if (seat.state == SeatState.Agreed) (paid, root) = (true, seat.committed);
        }
        if (!paid) return;
        vm.assertTrue(group.state == GroupState.Agreed || group.state == GroupState.Credited, "only agreed groups");
        for (uint8 s; s < group.seats; ++s) {
            SeatView memory seat = market.seatOf(jobId, g, s);
            bool counts = seat.state == SeatState.Agreed || seat.state == SeatState.Unstored;
            if (counts && seat.committed == root) ++same;
            if (seat.state == SeatState.Agreed) vm.assertEq(seat.committed, root, "one root");
        }
        vm.assertGe(same, 2, "a quorum");
    }
}
