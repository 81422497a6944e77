// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {
    Abstain,
    AbstainEntry,
    Commit,
    CommitEntry,
    Offer,
    Receipt,
    Reveal,
    RevealEntry,
    Terms
} from "../Types.sol";

/// @title EIP-712 struct hashes (PROTOCOL.md, "Typed data")
/// @notice Type strings stand as written there. Structs of value types only are hashed as `abi.encode(typehash, it)`,
/// which is their EIP-712 encoding word for word.
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
                keccak256(abi.encode(SHAPE_TYPE, terms.shape)),
                keccak256(abi.encode(REDUNDANCY_TYPE, terms.redundancy)),
                keccak256(abi.encode(WINDOWS_TYPE, terms.windows)),
                keccak256(abi.encode(PRICING_TYPE, terms.pricing)),
                keccak256(abi.encode(CONTENT_TYPE, terms.content)),
                keccak256(abi.encodePacked(terms.gateways))
            )
        );
    }

    function hashOffer(Offer calldata offer) internal pure returns (bytes32) {
        bytes32 sale = keccak256(abi.encode(SALE_TYPE, offer.sale));
        bytes32 bounds = keccak256(abi.encode(BOUNDS_TYPE, offer.bounds));
        bytes memory head = abi.encode(
            OFFER_TYPE,
            offer.provider,
            offer.allowedBuyer,
            offer.token,
            offer.classId,
            offer.region,
            offer.details,
            offer.recipient
        );
        return keccak256(
            bytes.concat(
                head,
                sale,
                bounds,
                keccak256(abi.encodePacked(offer.gateways)),
                keccak256(abi.encodePacked(offer.verifiers))
            )
        );
    }

    function hashCommit(Commit calldata message) internal pure returns (bytes32) {
        bytes32[] memory hashes = new bytes32[](message.entries.length);
        for (uint256 i; i < hashes.length; ++i) {
            CommitEntry calldata entry = message.entries[i];
            hashes[i] = keccak256(abi.encode(COMMIT_ENTRY_TYPE, entry));
        }
        return _message(COMMIT_TYPE, message.provider, message.jobId, message.deadline, hashes);
    }

    function hashAbstain(Abstain calldata message) internal pure returns (bytes32) {
        bytes32[] memory hashes = new bytes32[](message.entries.length);
        for (uint256 i; i < hashes.length; ++i) {
            AbstainEntry calldata entry = message.entries[i];
            hashes[i] = keccak256(abi.encode(ABSTAIN_ENTRY_TYPE, entry));
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

    function _hashRevealEntry(RevealEntry calldata entry) private pure returns (bytes32) {
        bytes memory head = abi.encode(
            REVEAL_ENTRY_TYPE, entry.group, entry.round, entry.seat, entry.rootA, entry.saltA, entry.hashB
        );
        bytes memory tail =
            abi.encode(entry.gateway, entry.storedRoot, entry.size, entry.until, keccak256(entry.receipt));
        return keccak256(bytes.concat(head, tail));
    }

    function _message(bytes32 typeHash, address provider, bytes32 jobId, uint64 deadline, bytes32[] memory entries)
        private
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(typeHash, provider, jobId, deadline, keccak256(abi.encodePacked(entries))));
    }
}
