// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IMarketErrors} from "../interfaces/IMarketErrors.sol";
import {
    BPS,
    MAX_DURATION,
    MAX_GATEWAYS,
    MAX_GROUPS,
    MAX_SEATS,
    MIN_UNRESOLVED_BURN_BPS,
    PPM
} from "../Limits.sol";
import {Content, Policy, Pricing, Redundancy, Shape, Terms, Windows} from "../Types.sol";

/// @title What terms a job may be opened with (PROTOCOL.md G-1 to G-14), and what follows from them
/// @notice Knows no storage. Every derived figure is computed here once, for guards and parts alike.
library TermsCheck {
    /// @dev What follows from the terms.
    struct Sizes {
        uint256 unitsPerGroup;
        uint256 groups;
        /// The hard limit of a whole group's run in one seat.
        uint256 runSeconds;
        uint256 reservePerUnit;
    }

    function check(Terms calldata terms, uint16 marketFeeBps) internal view returns (Sizes memory sizes) {
        _checkShape(terms.shape, sizes);
        _checkRedundancy(terms.redundancy);
        _checkWindows(terms.windows, sizes.runSeconds);
        _checkPricing(terms.pricing, marketFeeBps);
        _checkContent(terms.content, terms.shape.classId);
        _checkGateways(terms.gateways);
        uint256 seats = terms.redundancy.maxSeats - terms.redundancy.picked;
        sizes.reservePerUnit = (uint256(terms.pricing.drawnCap) * seats * (BPS + marketFeeBps) + BPS - 1) / BPS;
        _require(sizes.reservePerUnit <= type(uint88).max, "reserve");
    }

    function agreedWindow(Windows calldata windows) internal pure returns (uint32) {
        return windows.appealWindow > windows.availabilityWindow ? windows.appealWindow : windows.availabilityWindow;
    }

    function _checkShape(Shape calldata shape, Sizes memory sizes) private pure {
        (uint256 units, uint256 unitsPerSlice, uint256 slices) =
            (shape.units, shape.unitsPerSlice, shape.slicesPerGroup);
        (uint256 slots, uint256 secondsPerUnit) = (shape.slotsPerSeat, shape.secondsPerUnit);
        bool some = units > 0 && unitsPerSlice > 0 && slices > 0 && slots > 0 && secondsPerUnit > 0;
        _require(some && slots <= slices, "shape");
        // Three factors of at most 32 bits each.
        unchecked {
            uint256 unitsPerGroup = unitsPerSlice * slices;
            sizes.unitsPerGroup = unitsPerGroup;
            sizes.groups = (units + unitsPerGroup - 1) / unitsPerGroup;
            sizes.runSeconds = ((slices + slots - 1) / slots) * unitsPerSlice * secondsPerUnit;
        }
        _require(sizes.unitsPerGroup <= type(uint32).max && sizes.groups <= MAX_GROUPS, "shape");
        _require(sizes.runSeconds <= MAX_DURATION, "shape");
    }

    function _checkRedundancy(Redundancy calldata redundancy) private pure {
        _require(redundancy.policy == Policy.Quorum, "policy");
        bool ordered = redundancy.quorum >= 1 && redundancy.quorum <= redundancy.picked
            && redundancy.picked <= redundancy.maxSeats && redundancy.maxSeats <= MAX_SEATS;
        _require(ordered && 2 * uint256(redundancy.quorum) > redundancy.picked, "quorum");
        bool rounds = redundancy.drawn <= redundancy.maxSeats && redundancy.maxRounds >= 1
            && redundancy.auditFloorPpm <= PPM && redundancy.collusionBps < BPS;
        _require(rounds, "rounds");
    }

    function _checkWindows(Windows calldata windows, uint256 runSeconds) private view {
        _require(
            windows.openUntil >= block.timestamp && windows.openUntil - block.timestamp <= MAX_DURATION, "openUntil"
        );
        bool bounded = windows.commitGrace <= MAX_DURATION && windows.revealWindow <= MAX_DURATION
            && windows.appealWindow <= MAX_DURATION && windows.availabilityWindow <= MAX_DURATION
            && windows.cancelGrace <= MAX_DURATION && windows.retention <= MAX_DURATION;
        _require(bounded && windows.revealWindow > 0, "windows");
        _require(windows.cancelGrace >= runSeconds, "cancelGrace");
    }

    function _checkPricing(Pricing calldata pricing, uint16 marketFeeBps) private view {
        _require(pricing.token.code.length > 0, "token");
        _require(pricing.noShowBps <= pricing.bondBps && pricing.noShowBps <= BPS, "bond");
        _require(pricing.feeBps == marketFeeBps, "fee");
        bool shares = pricing.inconclusiveBps <= BPS && pricing.unresolvedBurnBps <= BPS
            && pricing.unresolvedBurnBps >= MIN_UNRESOLVED_BURN_BPS;
        _require(shares, "shares");
    }

    function _checkContent(Content calldata content, bytes32 classId) private pure {
        // Quorum compares roots, so there is nothing for a comparator or its verifier to do.
        _require(content.comparator == bytes32(0) && content.verifier == address(0), "comparator");
        _require(classId != bytes32(0), "class");
    }

    function _checkGateways(address[] calldata gateways) private pure {
        _require(gateways.length > 0 && gateways.length <= MAX_GATEWAYS, "gateways");
        for (uint256 i; i < gateways.length; ++i) {
            _require(gateways[i] != address(0), "gateways");
            for (uint256 j; j < i; ++j) {
                _require(gateways[i] != gateways[j], "gateways");
            }
        }
    }

    function _require(bool holds, bytes32 term) private pure {
        if (!holds) revert IMarketErrors.TermsInvalid(term);
    }
}
