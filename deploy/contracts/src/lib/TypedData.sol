// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {
    Abstain,
    AbstainEntry,
    Bounds,
    Commit,
    CommitEntry,
    Content,
    Offer,
    Pricing,
    Receipt,
    Redundancy,
    Reveal,
    RevealEntry,
    Sale,
    Shape,
    Terms,
    Windows
} from "../Types.sol";

/// @title EIP-712 struct hashes (PROTOCOL.md, "Typed data")
/// @notice Type strings stand as written there. Values in calldata are hashed as they stand, which is their EIP-712
/// encoding word for word; one that is out of its type's range hashes to what no honest signer signs, and reading it
/// reverts.
library TypedData {
    bytes32 internal constant SHAPE_TYPE = keccak256(
        "Shape(uint32 units,uint32 unitsPerSlice,uint32 slicesPerGroup,uint16 slotsPerSeat,uint32 secondsPerUnit,bytes32 classId)"
    );
    bytes32 internal constant REDUNDANCY_TYPE = keccak256(
        "Redundancy(uint8 policy,uint8 quorum,uint8 picked,uint8 maxSeats,uint8 drawn,uint8 maxRounds,bool canary,uint8 entropy,uint32 auditFloorPpm,uint16 collusionBps)"
    );
    bytes32 internal constant WINDOWS_TYPE = keccak256(
        "Windows(uint64 openUntil,uint32 commitGrace,uint32 revealWindow,uint32 appealWindow,uint32 availabilityWindow,uint32 cancelGrace,uint32 retention)"
    );
    bytes32 internal constant PRICING_TYPE = keccak256(
        "Pricing(address token,uint96 pickedCap,uint96 drawnCap,uint24 bondBps,uint16 noShowBps,uint16 feeBps,uint16 inconclusiveBps,uint16 unresolvedBurnBps)"
    );
    bytes32 internal constant CONTENT_TYPE = keccak256(
        "Content(bytes32 templateDigest,bytes32 templateAddress,bytes32 keyCommitment,bytes32 secretsRoot,bytes32 spotChecksRoot,bytes32 comparator,address verifier)"
    );
    bytes32 internal constant SALE_TYPE = keccak256(
        "Sale(uint32 series,uint64 nonce,uint64 validFrom,uint64 validUntil,uint96 pricePerSlotSecond,uint32 slots,uint16 minChargeBps)"
    );
    bytes32 internal constant BOUNDS_TYPE = keccak256(
        "Bounds(uint32 maxSecondsPerUnit,uint32 maxLockSeconds,uint32 minCommitGrace,uint32 minRevealWindow,uint32 maxRetention,uint24 maxBondBps,uint16 maxNoShowBps,uint16 minInconclusiveBps,uint8 policies)"
    );
    bytes32 internal constant COMMIT_ENTRY_TYPE = keccak256(
        "CommitEntry(uint32 group,uint8 round,uint8 seat,bytes32 commitment)"
    );
    bytes32 internal constant ABSTAIN_ENTRY_TYPE = keccak256(
        "AbstainEntry(uint32 group,uint8 round,uint8 seat,uint8 reason)"
    );
    bytes32 internal constant REVEAL_ENTRY_TYPE = keccak256(
        "RevealEntry(uint32 group,uint8 round,uint8 seat,bytes32 rootA,bytes32 saltA,bytes32 hashB,address gateway,bytes32 storedRoot,uint64 size,uint64 until,bytes receipt)"
    );
    bytes32 internal constant TERMS_TYPE = keccak256(
        "Terms(Shape shape,Redundancy redundancy,Windows windows,Pricing pricing,Content content,address[] gateways)"
        "Content(bytes32 templateDigest,bytes32 templateAddress,bytes32 keyCommitment,bytes32 secretsRoot,bytes32 spotChecksRoot,bytes32 comparator,address verifier)"
        "Pricing(address token,uint96 pickedCap,uint96 drawnCap,uint24 bondBps,uint16 noShowBps,uint16 feeBps,uint16 inconclusiveBps,uint16 unresolvedBurnBps)"
        "Redundancy(uint8 policy,uint8 quorum,uint8 picked,uint8 maxSeats,uint8 drawn,uint8 maxRounds,bool canary,uint8 entropy,uint32 auditFloorPpm,uint16 collusionBps)"
        "Shape(uint32 units,uint32 unitsPerSlice,uint32 slicesPerGroup,uint16 slotsPerSeat,uint32 secondsPerUnit,bytes32 classId)"
        "Windows(uint64 openUntil,uint32 commitGrace,uint32 revealWindow,uint32 appealWindow,uint32 availabilityWindow,uint32 cancelGrace,uint32 retention)"
    );
    bytes32 internal constant OFFER_TYPE = keccak256(
        "Offer(address provider,address allowedBuyer,address token,bytes32 classId,bytes32 region,bytes32 details,bytes32 recipient,Sale sale,Bounds bounds,address[] gateways,address[] verifiers)"
        "Bounds(uint32 maxSecondsPerUnit,uint32 maxLockSeconds,uint32 minCommitGrace,uint32 minRevealWindow,uint32 maxRetention,uint24 maxBondBps,uint16 maxNoShowBps,uint16 minInconclusiveBps,uint8 policies)"
        "Sale(uint32 series,uint64 nonce,uint64 validFrom,uint64 validUntil,uint96 pricePerSlotSecond,uint32 slots,uint16 minChargeBps)"
    );
    bytes32 internal constant COMMIT_TYPE = keccak256(
        "Commit(address provider,bytes32 jobId,uint64 deadline,CommitEntry[] entries)"
        "CommitEntry(uint32 group,uint8 round,uint8 seat,bytes32 commitment)"
    );
    bytes32 internal constant ABSTAIN_TYPE = keccak256(
        "Abstain(address provider,bytes32 jobId,uint64 deadline,AbstainEntry[] entries)"
        "AbstainEntry(uint32 group,uint8 round,uint8 seat,uint8 reason)"
    );
    bytes32 internal constant REVEAL_TYPE = keccak256(
        "Reveal(address provider,bytes32 jobId,uint64 deadline,RevealEntry[] entries)"
        "RevealEntry(uint32 group,uint8 round,uint8 seat,bytes32 rootA,bytes32 saltA,bytes32 hashB,address gateway,bytes32 storedRoot,uint64 size,uint64 until,bytes receipt)"
    );
    bytes32 internal constant RECEIPT_TYPE = keccak256(
        "Receipt(address gateway,bytes32 roundId,address provider,bytes32 storedRoot,uint64 size,uint64 until)"
    );
    bytes32 internal constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 internal constant DOMAIN_NAME = keccak256("Tradewind");
    bytes32 internal constant DOMAIN_VERSION = keccak256("1");

    /// The separator of the running contract: under `delegatecall` that is the market, whichever part computes it.
    function domainSeparator() internal view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPE, DOMAIN_NAME, DOMAIN_VERSION, block.chainid, address(this)));
    }

    function digest(bytes32 separator, bytes32 structHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", separator, structHash));
    }

    function hashTerms(Terms calldata terms) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                TERMS_TYPE,
                _hashValues(SHAPE_TYPE, _at(terms.shape), 6),
                _hashValues(REDUNDANCY_TYPE, _at(terms.redundancy), 10),
                _hashValues(WINDOWS_TYPE, _at(terms.windows), 7),
                _hashValues(PRICING_TYPE, _at(terms.pricing), 8),
                _hashValues(CONTENT_TYPE, _at(terms.content), 7),
                _hashList(terms.gateways)
            )
        );
    }

    function hashOffer(Offer calldata offer) internal pure returns (bytes32 hash) {
        bytes32 sale = _hashValues(SALE_TYPE, _at(offer.sale), 7);
        bytes32 bounds = _hashValues(BOUNDS_TYPE, _at(offer.bounds), 9);
        bytes32 gateways = _hashList(offer.gateways);
        bytes32 verifiers = _hashList(offer.verifiers);
        bytes32 typeHash = OFFER_TYPE;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typeHash)
            calldatacopy(add(free, 0x20), offer, 0xe0)
            mstore(add(free, 0x100), sale)
            mstore(add(free, 0x120), bounds)
            mstore(add(free, 0x140), gateways)
            mstore(add(free, 0x160), verifiers)
            hash := keccak256(free, 0x180)
        }
    }

    function hashCommit(Commit calldata message) internal pure returns (bytes32) {
        bytes32[] memory hashes = new bytes32[](message.entries.length);
        for (uint256 i; i < hashes.length; ++i) {
            hashes[i] = _hashValues(COMMIT_ENTRY_TYPE, _at(message.entries[i]), 4);
        }
        return _message(COMMIT_TYPE, message.provider, message.jobId, message.deadline, hashes);
    }

    function hashAbstain(Abstain calldata message) internal pure returns (bytes32) {
        bytes32[] memory hashes = new bytes32[](message.entries.length);
        for (uint256 i; i < hashes.length; ++i) {
            hashes[i] = _hashValues(ABSTAIN_ENTRY_TYPE, _at(message.entries[i]), 4);
        }
        return _message(ABSTAIN_TYPE, message.provider, message.jobId, message.deadline, hashes);
    }

    function hashReveal(Reveal calldata message) internal pure returns (bytes32) {
        bytes32[] memory hashes = new bytes32[](message.entries.length);
        for (uint256 i; i < hashes.length; ++i) {
            hashes[i] = _hashRevealEntry(message.entries[i]);
        }
        return _message(REVEAL_TYPE, message.provider, message.jobId, message.deadline, hashes);
    }

    function hashReceipt(Receipt memory receipt) internal pure returns (bytes32) {
        return keccak256(abi.encode(RECEIPT_TYPE, receipt));
    }

    function _hashRevealEntry(RevealEntry calldata entry) private pure returns (bytes32 hash) {
        bytes32 receipt = keccak256(entry.receipt);
        bytes32 typeHash = REVEAL_ENTRY_TYPE;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typeHash)
            calldatacopy(add(free, 0x20), entry, 0x140)
            mstore(add(free, 0x160), receipt)
            hash := keccak256(free, 0x180)
        }
    }

    function _message(bytes32 typeHash, address provider, bytes32 jobId, uint64 deadline, bytes32[] memory entries)
        private
        pure
        returns (bytes32)
    {
        bytes32 all;
        assembly ("memory-safe") {
            all := keccak256(add(entries, 0x20), mul(mload(entries), 0x20))
        }
        return keccak256(abi.encode(typeHash, provider, jobId, deadline, all));
    }

    /// The hash of a struct of so many values, which stand in calldata as EIP-712 encodes them.
    function _hashValues(bytes32 typeHash, uint256 start, uint256 words) private pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            let free := mload(0x40)
            let length := mul(words, 0x20)
            mstore(free, typeHash)
            calldatacopy(add(free, 0x20), start, length)
            hash := keccak256(free, add(length, 0x20))
        }
    }

    function _hashList(address[] calldata list) private pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            let free := mload(0x40)
            let length := mul(list.length, 0x20)
            calldatacopy(free, list.offset, length)
            hash := keccak256(free, length)
        }
    }

    function _at(Shape calldata value) private pure returns (uint256 start) {
        assembly {
            start := value
        }
    }

    function _at(Redundancy calldata value) private pure returns (uint256 start) {
        assembly {
            start := value
        }
    }

    function _at(Windows calldata value) private pure returns (uint256 start) {
        assembly {
            start := value
        }
    }

    function _at(Pricing calldata value) private pure returns (uint256 start) {
        assembly {
            start := value
        }
    }

    function _at(Content calldata value) private pure returns (uint256 start) {
        assembly {
            start := value
        }
    }

    function _at(Sale calldata value) private pure returns (uint256 start) {
        assembly {
            start := value
        }
    }

    function _at(Bounds calldata value) private pure returns (uint256 start) {
        assembly {
            start := value
        }
    }

    function _at(CommitEntry calldata value) private pure returns (uint256 start) {
        assembly {
            start := value
        }
    }

    function _at(AbstainEntry calldata value) private pure returns (uint256 start) {
        assembly {
            start := value
        }
    }
}
