// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// @title Ids and commitments (PROTOCOL.md I-1 and I-4 to I-8)
/// @notice Pure; knows no storage.
library Ids {
    bytes32 internal constant JOB = keccak256("tradewind/job/1");
    bytes32 internal constant UNIT_RANGE = keccak256("tradewind/units/range/1");
    bytes32 internal constant UNIT_SET = keccak256("tradewind/units/set/1");
    bytes32 internal constant ROUND = keccak256("tradewind/round/1");
    bytes32 internal constant ROOT_B = keccak256("tradewind/root-b/1");
    bytes32 internal constant COMMIT = keccak256("tradewind/commit/1");

    function job(address buyer, bytes32 nonce) internal view returns (bytes32) {
        return keccak256(abi.encode(JOB, block.chainid, address(this), buyer, nonce));
    }

    function seats(address[] memory providers) internal pure returns (bytes32 hash) {
        // In memory, as in packed encoding, each stands in a word of its own.
        assembly ("memory-safe") {
            hash := keccak256(add(providers, 0x20), mul(mload(providers), 0x20))
        }
    }

    function unitRange(uint32 firstUnit, uint32 units) internal pure returns (bytes32) {
        return keccak256(abi.encode(UNIT_RANGE, firstUnit, units));
    }

    function unitSet(uint32[] memory units) internal pure returns (bytes32) {
        return keccak256(abi.encode(UNIT_SET, keccak256(abi.encodePacked(units))));
    }

    function round(bytes32 jobId, uint32 group, uint8 roundNumber, bytes32 seatsHash, bytes32 unitsHash)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(ROUND, jobId, group, roundNumber, seatsHash, unitsHash));
    }

    function rootB(bytes32 roundId, address provider, bytes32 root, bytes32 salt) internal pure returns (bytes32) {
        return keccak256(abi.encode(ROOT_B, roundId, provider, root, salt));
    }

    function commitment(
        bytes32 domainSeparator,
        bytes32 jobId,
        bytes32 termsHash,
        bytes32 roundId,
        address provider,
        bytes32 rootA,
        bytes32 saltA,
        bytes32 hashB
    ) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(COMMIT, domainSeparator, jobId, termsHash, roundId, provider, rootA, saltA, hashB)
        );
    }
}
