// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Scene} from "./Scene.sol";
import {IMarketErrors} from "../src/interfaces/IMarketErrors.sol";
import "../src/Types.sol";

/// PROTOCOL.md, "Terms": each guard refuses by its name, and the edge just inside it is taken.
contract TermsTest is Scene {
    Terms private terms;

    function setUp() public override {
        super.setUp();
        terms = defaultTerms();
    }

    function refused(bytes32 term) private {
        FillRequest[] memory none = new FillRequest[](0);
        Terms memory given = terms;
        vm.expectRevert(abi.encodeWithSelector(IMarketErrors.TermsInvalid.selector, term));
        vm.prank(buyer);
        market.openJob(NONCE, given, 1e18, none);
        terms = defaultTerms();
    }

    function taken() private {
        FillRequest[] memory none = new FillRequest[](0);
        Terms memory given = terms;
        vm.prank(buyer);
        bytes32 jobId = market.openJob(keccak256(abi.encode(given)), given, 1e15, none);
        vm.assertEq(uint256(market.jobOf(jobId).state), uint256(JobState.Open), "opened");
        terms = defaultTerms();
    }

    function test_G01_shape() public {
        terms.shape.units = 0;
        refused("shape");
        terms.shape.unitsPerSlice = 0;
        refused("shape");
        terms.shape.slicesPerGroup = 0;
        refused("shape");
        terms.shape.slotsPerSeat = 0;
        refused("shape");
        terms.shape.secondsPerUnit = 0;
        refused("shape");
        terms.shape.slotsPerSeat = 3;
        refused("shape");
        terms.shape.units = 80_001;
        refused("shape");
        terms.shape.units = 80_000;
        taken();
        terms.shape.secondsPerUnit = type(uint32).max;
        refused("shape");
        terms.shape.unitsPerSlice = type(uint32).max;
        refused("shape");
    }

    function test_G02_only_quorum_can_be_opened() public {
        terms.redundancy.policy = Policy.Sampled;
        refused("policy");
        terms.redundancy.policy = Policy.Adaptive;
        refused("policy");
        terms.redundancy.policy = Policy.Attested;
        refused("policy");
    }

    function test_G03_quorum_is_a_majority_of_the_picked() public {
        terms.redundancy.quorum = 0;
        refused("quorum");
        terms.redundancy.quorum = 1;
        refused("quorum");
        terms.redundancy.quorum = 4;
        refused("quorum");
        terms.redundancy.picked = 4;
        refused("quorum");
        terms.redundancy.maxSeats = 9;
        refused("quorum");
        (terms.redundancy.quorum, terms.redundancy.picked, terms.redundancy.maxSeats) = (2, 4, 4);
        refused("quorum");
        (terms.redundancy.quorum, terms.redundancy.picked, terms.redundancy.maxSeats) = (1, 1, 1);
        taken();
        (terms.redundancy.quorum, terms.redundancy.picked, terms.redundancy.maxSeats) = (5, 8, 8);
        taken();
    }

    function test_G04_rounds() public {
        terms.redundancy.drawn = 4;
        refused("rounds");
        terms.redundancy.maxRounds = 0;
        refused("rounds");
        terms.redundancy.auditFloorPpm = 1_000_001;
        refused("rounds");
        terms.redundancy.collusionBps = 10_000;
        refused("rounds");
        (terms.redundancy.drawn, terms.redundancy.maxRounds, terms.redundancy.maxSeats) = (1, 2, 4);
        taken();
    }

    function test_G05_open_until() public {
        terms.windows.openUntil = uint64(START - 1);
        refused("openUntil");
        terms.windows.openUntil = uint64(START + 2 ** 31);
        refused("openUntil");
        terms.windows.openUntil = uint64(START);
        taken();
    }

    function test_G06_windows() public {
        terms.windows.revealWindow = 0;
        refused("windows");
        terms.windows.appealWindow = 2 ** 31;
        refused("windows");
        terms.windows.commitGrace = 2 ** 31;
        refused("windows");
        terms.windows.retention = 2 ** 31;
        refused("windows");
        terms.windows.revealWindow = 1;
        terms.windows.commitGrace = 0;
        terms.windows.appealWindow = 0;
        terms.windows.availabilityWindow = 0;
        taken();
    }

    function test_G07_cancel_grace_covers_the_hard_limit() public {
        // Two slices of four units of a minute, one slot: eight minutes.
        terms.windows.cancelGrace = 8 minutes - 1;
        refused("cancelGrace");
        terms.windows.cancelGrace = 8 minutes;
        taken();
    }

    function test_G08_the_burn_is_there_to_burn() public {
        terms.pricing.bondBps = 1_999;
        refused("bond");
        (terms.pricing.noShowBps, terms.pricing.bondBps) = (10_001, 20_000);
        refused("bond");
        terms.pricing.bondBps = 2_000;
        taken();
    }

    function test_G09_fee_is_the_markets() public {
        terms.pricing.feeBps = FEE_BPS + 1;
        refused("fee");
        terms.pricing.feeBps = 0;
        refused("fee");
    }

    function test_G10_unresolved_burn_is_at_least_half() public {
        terms.pricing.unresolvedBurnBps = 4_999;
        refused("shares");
        terms.pricing.unresolvedBurnBps = 10_001;
        refused("shares");
        terms.pricing.inconclusiveBps = 10_001;
        refused("shares");
        terms.pricing.unresolvedBurnBps = 10_000;
        taken();
    }

    function test_G11_gateways() public {
        terms.gateways = new address[](0);
        refused("gateways");
        terms.gateways.push(gateway);
        refused("gateways");
        terms.gateways[0] = address(0);
        refused("gateways");
        for (uint160 i = 1; i <= 4; ++i) {
            terms.gateways.push(address(i));
        }
        refused("gateways");
        for (uint160 i = 1; i <= 3; ++i) {
            terms.gateways.push(address(i));
        }
        taken();
    }

    function test_G12_equality_needs_no_verifier() public {
        terms.content.verifier = address(1);
        refused("comparator");
        terms.content.comparator = bytes32(uint256(1));
        refused("comparator");
    }

    function test_G12a_byte_equality_needs_one_class() public {
        terms.shape.classId = 0;
        refused("class");
    }

    function test_G13_token_is_a_contract() public {
        terms.pricing.token = address(0x1234);
        refused("token");
    }

    function test_G14_reserve_fits() public {
        (terms.redundancy.maxSeats, terms.pricing.drawnCap) = (8, type(uint96).max);
        refused("reserve");
        terms.redundancy.maxSeats = 3;
        terms.pricing.drawnCap = type(uint96).max;
        taken();
    }
}
