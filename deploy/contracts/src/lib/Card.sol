// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Terms} from "../Types.sol";
import {TermsCheck} from "./TermsCheck.sol";

/// @title What calls need of a job and what never changes: the start of its page 0
/// @notice Owns the layout, in words of 32 bytes of which the first begins with the zero byte of every page:
/// 0, token, bondBps, feeBps, noShowBps, unresolvedBurnBps, slotsPerSeat · buyer, reservePerUnit, quorum · termsHash ·
/// units, unitsPerGroup, groups, openUntil, commitWindow, revealWindow, retention, cancelGrace, picked · agreedWindow,
/// appealWindow, canary, count of gateways; then the gateways, without gaps. Widths are held by the guards on terms.
library Card {
    uint256 private constant HEAD = 138;
    uint256 private constant GATEWAY = 20;

    /// The card of a job that `buyer` opens with these terms, which have been checked.
    function make(Terms calldata terms, TermsCheck.Sizes memory sizes, bytes32 hash, address owner)
        internal
        pure
        returns (bytes memory card)
    {
        card = abi.encodePacked(
            _rates(terms),
            owner,
            uint88(sizes.reservePerUnit),
            terms.redundancy.quorum,
            hash,
            _times(terms, sizes),
            terms.redundancy.picked,
            _ends(terms)
        );
        for (uint256 i; i < terms.gateways.length; ++i) {
            card = bytes.concat(card, bytes20(terms.gateways[i]));
        }
    }

    /// How much of page 0 to read for the whole card, however many gateways it has.
    function maxLength(uint256 maxGateways) internal pure returns (uint256) {
        return HEAD + maxGateways * GATEWAY;
    }

    /// Where the card ends and fills begin.
    function end(bytes memory card) internal pure returns (uint256) {
        unchecked {
            return HEAD + gateways(card) * GATEWAY;
        }
    }

    function token(bytes memory card) internal pure returns (address) {
        return address(uint160(_word(card, 0) >> 88));
    }

    function bondBps(bytes memory card) internal pure returns (uint256) {
        return uint24(_word(card, 0) >> 64);
    }

    function feeBps(bytes memory card) internal pure returns (uint256) {
        return uint16(_word(card, 0) >> 48);
    }

    function noShowBps(bytes memory card) internal pure returns (uint256) {
        return uint16(_word(card, 0) >> 32);
    }

    function unresolvedBurnBps(bytes memory card) internal pure returns (uint256) {
        return uint16(_word(card, 0) >> 16);
    }

    function slotsPerSeat(bytes memory card) internal pure returns (uint16) {
        return uint16(_word(card, 0));
    }

    function buyer(bytes memory card) internal pure returns (address) {
        return address(uint160(_word(card, 32) >> 96));
    }

    function reservePerUnit(bytes memory card) internal pure returns (uint256) {
        return uint88(_word(card, 32) >> 8);
    }

    function quorum(bytes memory card) internal pure returns (uint256) {
        return uint8(_word(card, 32));
    }

    function termsHash(bytes memory card) internal pure returns (bytes32) {
        return bytes32(_word(card, 64));
    }

    function units(bytes memory card) internal pure returns (uint256) {
        return uint32(_word(card, 96) >> 224);
    }

    function unitsPerGroup(bytes memory card) internal pure returns (uint256) {
        return uint32(_word(card, 96) >> 192);
    }

    function groups(bytes memory card) internal pure returns (uint256) {
        return uint16(_word(card, 96) >> 176);
    }

    function openUntil(bytes memory card) internal pure returns (uint40) {
        return uint40(_word(card, 96) >> 136);
    }

    /// From the sealing of a group to its commit deadline.
    function commitWindow(bytes memory card) internal pure returns (uint256) {
        return uint32(_word(card, 96) >> 104);
    }

    function revealWindow(bytes memory card) internal pure returns (uint256) {
        return uint32(_word(card, 96) >> 72);
    }

    function retention(bytes memory card) internal pure returns (uint256) {
        return uint32(_word(card, 96) >> 40);
    }

    function cancelGrace(bytes memory card) internal pure returns (uint256) {
        return uint32(_word(card, 96) >> 8);
    }

    function picked(bytes memory card) internal pure returns (uint256) {
        return uint8(_word(card, 96));
    }

    function agreedWindow(bytes memory card) internal pure returns (uint256) {
        return uint32(_word(card, 128) >> 224);
    }

    function appealWindow(bytes memory card) internal pure returns (uint256) {
        return uint32(_word(card, 128) >> 192);
    }

    function canary(bytes memory card) internal pure returns (bool) {
        return (_word(card, 128) >> 184) & 1 == 1;
    }

    function gateways(bytes memory card) internal pure returns (uint256) {
        return uint8(_word(card, 128) >> 176);
    }

    /// Whether `gateway` is one of those that `common` names, one bit each.
    function accepts(bytes memory card, uint256 common, address gateway) internal pure returns (bool) {
        uint256 count = gateways(card);
        for (uint256 i; i < count; ++i) {
            if ((common >> i) & 1 == 0) continue;
            if (address(uint160(_word(card, HEAD + i * GATEWAY) >> 96)) == gateway) return true;
        }
        return false;
    }

    function _rates(Terms calldata terms) private pure returns (bytes memory) {
        return abi.encodePacked(
            bytes1(0),
            terms.pricing.token,
            terms.pricing.bondBps,
            terms.pricing.feeBps,
            terms.pricing.noShowBps,
            terms.pricing.unresolvedBurnBps,
            terms.shape.slotsPerSeat
        );
    }

    function _times(Terms calldata terms, TermsCheck.Sizes memory sizes) private pure returns (bytes memory) {
        return abi.encodePacked(
            terms.shape.units,
            uint32(sizes.unitsPerGroup),
            uint16(sizes.groups),
            uint40(terms.windows.openUntil),
            uint32(sizes.runSeconds) + terms.windows.commitGrace,
            terms.windows.revealWindow,
            terms.windows.retention,
            terms.windows.cancelGrace
        );
    }

    function _ends(Terms calldata terms) private pure returns (bytes memory) {
        return abi.encodePacked(
            TermsCheck.agreedWindow(terms.windows),
            terms.windows.appealWindow,
            terms.redundancy.canary,
            uint8(terms.gateways.length)
        );
    }

    /// 32 bytes of the card or of what follows it; memory is read beyond a card that ends earlier.
    function _word(bytes memory card, uint256 offset) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := mload(add(add(card, 0x20), offset))
        }
    }
}
