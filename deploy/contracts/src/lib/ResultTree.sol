// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// @title Result, chunk and storage trees (PROTOCOL.md I-9 to I-20)
/// @notice Pure. Leaves of different trees have different prefixes, the leaf count is hashed into the root, and the
/// verifier derives positions from index and count: there is one proof for each leaf and one meaning for each root.
library ResultTree {
    bytes1 internal constant SIDE_A = 0x41;
    bytes1 internal constant SIDE_B = 0x42;

    uint8 private constant RESULT_LEAF = 0x00;
    uint8 private constant INNER = 0x01;
    uint8 private constant ROOT = 0x02;
    uint8 private constant STORED_LEAF = 0x03;
    uint8 private constant CHUNK_LEAF = 0x04;

    bytes32 private constant UNIT_SALT = keccak256("tradewind/unit-salt/1");

    /// The tree has no leaves, so it has no root.
    error TreeEmpty();

    function unitSalt(bytes32 jobSalt, uint32 unit) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(UNIT_SALT, jobSalt, unit));
    }

    function resultLeaf(bytes1 side, bytes32 jobId, uint32 unit, bytes32 salt, uint32 outcome, bytes32 digest)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encodePacked(RESULT_LEAF, side, jobId, unit, salt, outcome, digest));
    }

    function storedLeaf(uint32 unit, bytes32 blob, uint64 length, bytes32 chunkRoot) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(STORED_LEAF, unit, blob, length, chunkRoot));
    }

    function chunkLeaf(uint32 index, bytes memory chunk) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(CHUNK_LEAF, index, chunk));
    }

    function inner(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(INNER, left, right));
    }

    function bindCount(uint32 count, bytes32 top) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(ROOT, count, top));
    }

    /// Consumes `leaves` as its working space.
    function root(bytes32[] memory leaves) internal pure returns (bytes32) {
        uint256 width = leaves.length;
        if (width == 0) revert TreeEmpty();
        uint32 count = uint32(width);
        while (width > 1) {
            uint256 next = width / 2;
            for (uint256 i; i < next; ++i) {
                leaves[i] = inner(leaves[2 * i], leaves[2 * i + 1]);
            }
            if (width % 2 == 1) {
                leaves[next] = leaves[width - 1];
                ++next;
            }
            width = next;
        }
        return bindCount(count, leaves[0]);
    }

    /// Whether `leaf` is at `index` of the tree of `count` leaves with this root. Every sibling must be used.
    function verify(bytes32 expectedRoot, uint32 count, uint32 index, bytes32 leaf, bytes32[] memory siblings)
        internal
        pure
        returns (bool)
    {
        if (index >= count) return false;
        bytes32 node = leaf;
        uint256 position = index;
        uint256 width = count;
        uint256 used;
        while (width > 1) {
            bool promoted = position == width - 1 && width % 2 == 1;
            if (!promoted) {
                if (used == siblings.length) return false;
                bytes32 sibling = siblings[used++];
                node = position % 2 == 0 ? inner(node, sibling) : inner(sibling, node);
            }
            position /= 2;
            width = (width + 1) / 2;
        }
        return used == siblings.length && bindCount(count, node) == expectedRoot;
    }
}
