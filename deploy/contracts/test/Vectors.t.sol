// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Cheats} from "./Cheats.sol";
import {Ids} from "../src/lib/Ids.sol";
import {ResultTree} from "../src/lib/ResultTree.sol";
import {TypedData} from "../src/lib/TypedData.sol";
import "../src/Types.sol";

/// The hashing code at a fixed address, so that ids and the domain are the same in every run.
contract VectorHarness {
    function domainSeparator() external view returns (bytes32) {
        return TypedData.domainSeparator();
    }

    function job(address buyer, bytes32 nonce) external view returns (bytes32) {
        return Ids.job(buyer, nonce);
    }

    function termsHash(Terms calldata terms) external pure returns (bytes32) {
        return TypedData.hashTerms(terms);
    }

    function offerHash(Offer calldata offer) external pure returns (bytes32) {
        return TypedData.hashOffer(offer);
    }

    function commitHash(Commit calldata message) external pure returns (bytes32) {
        return TypedData.hashCommit(message);
    }

    function abstainHash(Abstain calldata message) external pure returns (bytes32) {
        return TypedData.hashAbstain(message);
    }

    function revealHash(Reveal calldata message) external pure returns (bytes32) {
        return TypedData.hashReveal(message);
    }
}

/// Golden vectors, shared with every other implementation: vectors/*.json hold inputs and outputs; this test computes
/// them anew and compares to the byte. `TRADEWIND_WRITE_VECTORS=true` writes them instead.
contract VectorsTest {
    bool public constant IS_TEST = true;
    Cheats private constant vm = Cheats(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);
    VectorHarness private constant HARNESS = VectorHarness(0x1111111111111111111111111111111111111111);
    uint256 private constant CHAIN = 31337;
    bytes32 private constant JOB_SALT = keccak256("job salt");

    /// JSON under construction: fields joined by commas.
    string private json;

    function setUp() public {
        vm.chainId(CHAIN);
        vm.etch(address(HARNESS), type(VectorHarness).runtimeCode);
    }

    // Building JSON

    function put(string memory key, string memory raw) private {
        json = string.concat(json, bytes(json).length == 0 ? "" : ",\n", '  "', key, '": ', raw);
    }

    function text(bytes32 value) private pure returns (string memory) {
        return string.concat('"', vm.toString(value), '"');
    }

    function text(address value) private pure returns (string memory) {
        return string.concat('"', vm.toString(value), '"');
    }

    function text(bytes memory value) private pure returns (string memory) {
        return string.concat('"', vm.toString(value), '"');
    }

    function text(bytes32[] memory values) private pure returns (string memory joined) {
        for (uint256 i; i < values.length; ++i) {
            joined = string.concat(joined, i == 0 ? "" : ", ", text(values[i]));
        }
        return string.concat("[", joined, "]");
    }

    /// Compares with the committed file, or writes it.
    function finish(string memory path) private {
        string memory made = string.concat("{\n", json, "\n}\n");
        json = "";
        if (vm.envOr("TRADEWIND_WRITE_VECTORS", false)) {
            vm.writeFile(path, made);
        } else {
            vm.assertEq(vm.readFile(path), made, path);
        }
    }

    function signed(uint256 key, bytes32 structHash) private view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, TypedData.digest(HARNESS.domainSeparator(), structHash));
        return abi.encodePacked(r, s, v);
    }

    function putTyped(string memory name, bytes memory encoded, bytes32 structHash, uint256 key) private {
        put(string.concat(name, "Abi"), text(encoded));
        put(string.concat(name, "Hash"), text(structHash));
        put(string.concat(name, "Digest"), text(TypedData.digest(HARNESS.domainSeparator(), structHash)));
        put(string.concat(name, "Signature"), text(signed(key, structHash)));
    }

    // Inputs: every field has a value of its own, so that swapping two is seen

    function sampleTerms() private pure returns (Terms memory terms) {
        terms.shape = Shape(96, 8, 4, 2, 120, keccak256("cpu/x86-64-v3"));
        terms.redundancy = Redundancy(Policy.Quorum, 2, 3, 5, 1, 4, true, 6, 70_000, 800);
        terms.windows = Windows(1_800_003_600, 601, 302, 1_803, 904, 7_205, 604_806);
        terms.pricing = Pricing(address(0x70CE), 2e16, 3e16, 20_000, 2_000, 150, 5_001, 6_002);
        terms.content = Content(
            keccak256("template"),
            keccak256("stored"),
            keccak256("key"),
            keccak256("secrets"),
            keccak256("checks"),
            keccak256("comparator"),
            address(0x7E51)
        );
        terms.gateways = new address[](2);
        (terms.gateways[0], terms.gateways[1]) = (address(0x6A01), address(0x6A02));
    }

    function sampleOffer() private pure returns (Offer memory offer) {
        offer.provider = vm.addr(1);
        offer.allowedBuyer = address(0xB0B);
        offer.token = address(0x70CE);
        offer.classId = keccak256("cpu/x86-64-v3");
        offer.region = keccak256("eu");
        offer.details = keccak256("details");
        offer.recipient = keccak256("recipient");
        offer.sale = Sale(3, 7, 1_800_000_000, 1_800_086_400, 4e14, 12, 500);
        offer.bounds = Bounds(3_600, 86_400, 60, 61, 2_592_000, 30_000, 5_000, 4_000, 1);
        offer.gateways = new address[](1);
        offer.gateways[0] = address(0x6A01);
        offer.verifiers = new address[](2);
        (offer.verifiers[0], offer.verifiers[1]) = (address(0x7E51), address(0x7E52));
    }

    function sampleReceipt(bytes32 roundId) private pure returns (Receipt memory) {
        return Receipt(vm.addr(2), roundId, vm.addr(1), keccak256("stored root"), 4_096, 1_800_700_000);
    }

    // The vectors

    function test_I01_to_I08_ids() public {
        bytes32 nonce = keccak256("nonce");
        bytes32 jobId = HARNESS.job(address(0xB0B), nonce);
        address[] memory providers = new address[](3);
        (providers[0], providers[1], providers[2]) = (vm.addr(1), vm.addr(2), vm.addr(3));
        uint32[] memory chosen = new uint32[](3);
        (chosen[0], chosen[1], chosen[2]) = (33, 40, 63);
        bytes32 seats = Ids.seats(providers);
        bytes32 range = Ids.unitRange(32, 32);
        bytes32 roundId = Ids.round(jobId, 1, 0, seats, range);
        bytes32 hashB = Ids.rootB(roundId, vm.addr(1), keccak256("root b"), keccak256("salt b"));
        bytes32 terms = HARNESS.termsHash(sampleTerms());

        put("chainId", vm.toString(CHAIN));
        put("market", text(address(HARNESS)));
        put("domainSeparator", text(HARNESS.domainSeparator()));
        put("buyer", text(address(0xB0B)));
        put("nonce", text(nonce));
        put("jobId", text(jobId));
        put(
            "seats",
            string.concat("[", text(providers[0]), ", ", text(providers[1]), ", ", text(providers[2]), "]")
        );
        put("seatsHash", text(seats));
        put("firstUnit", "32");
        put("units", "32");
        put("unitRangeHash", text(range));
        put("unitSet", "[33, 40, 63]");
        put("unitSetHash", text(Ids.unitSet(chosen)));
        put("group", "1");
        put("round", "0");
        put("roundId", text(roundId));
        put("provider", text(vm.addr(1)));
        put("rootA", text(keccak256("root a")));
        put("saltA", text(keccak256("salt a")));
        put("rootB", text(keccak256("root b")));
        put("saltB", text(keccak256("salt b")));
        put("hashB", text(hashB));
        put("termsHash", text(terms));
        put(
            "commitment",
            text(
                Ids.commitment(
                    HARNESS.domainSeparator(),
                    jobId,
                    terms,
                    roundId,
                    vm.addr(1),
                    keccak256("root a"),
                    keccak256("salt a"),
                    hashB
                )
            )
        );
        finish("vectors/ids.json");
    }

    /// `…Abi` is `abi.encode` of the struct; signatures are by private key 1 (the gateway's by key 2).
    function test_T01_to_T06_typed_data() public {
        put("chainId", vm.toString(CHAIN));
        put("market", text(address(HARNESS)));
        Terms memory terms = sampleTerms();
        put("termsAbi", text(abi.encode(terms)));
        put("termsHash", text(HARNESS.termsHash(terms)));
        Offer memory offer = sampleOffer();
        putTyped("offer", abi.encode(offer), HARNESS.offerHash(offer), 1);

        Commit memory commit = Commit(vm.addr(1), keccak256("job"), 1_800_000_100, new CommitEntry[](2));
        commit.entries[0] = CommitEntry(0, 0, 2, keccak256("commitment 0"));
        commit.entries[1] = CommitEntry(5, 0, 1, keccak256("commitment 5"));
        putTyped("commit", abi.encode(commit), HARNESS.commitHash(commit), 1);

        Abstain memory abstain = Abstain(vm.addr(1), keccak256("job"), 1_800_000_200, new AbstainEntry[](1));
        abstain.entries[0] = AbstainEntry(3, 0, 1, 6);
        putTyped("abstain", abi.encode(abstain), HARNESS.abstainHash(abstain), 1);

        Receipt memory receipt = sampleReceipt(keccak256("round"));
        bytes32 receiptHash = TypedData.hashReceipt(receipt);
        putTyped("receipt", abi.encode(receipt), receiptHash, 2);

        Reveal memory reveal = Reveal(vm.addr(1), keccak256("job"), 1_800_000_300, new RevealEntry[](1));
        RevealEntry memory entry = reveal.entries[0];
        (entry.group, entry.round, entry.seat) = (4, 0, 2);
        (entry.rootA, entry.saltA, entry.hashB) = (keccak256("root a"), keccak256("salt a"), keccak256("hash b"));
        (entry.gateway, entry.storedRoot, entry.size, entry.until) =
            (receipt.gateway, receipt.storedRoot, receipt.size, receipt.until);
        entry.receipt = signed(2, receiptHash);
        putTyped("reveal", abi.encode(reveal), HARNESS.revealHash(reveal), 1);
        finish("vectors/typed-data.json");
    }

    /// The EIP-712 hashes are checked against forge's own implementation, from the type strings in PROTOCOL.md.
    function test_T01_T02_T06_agree_with_another_eip712() public view {
        Receipt memory receipt = sampleReceipt(keccak256("round"));
        bytes32 theirs = vm.eip712HashStruct(
            "Receipt(address gateway,bytes32 roundId,address provider,bytes32 storedRoot,uint64 size,uint64 until)",
            abi.encode(receipt)
        );
        vm.assertEq(TypedData.hashReceipt(receipt), theirs, "receipt");
        theirs = vm.eip712HashStruct(
            "Offer(address provider,address allowedBuyer,address token,bytes32 classId,bytes32 region,bytes32 details,bytes32 recipient,Sale sale,Bounds bounds,address[] gateways,address[] verifiers)Bounds(uint32 maxSecondsPerUnit,uint32 maxLockSeconds,uint32 minCommitGrace,uint32 minRevealWindow,uint32 maxRetention,uint24 maxBondBps,uint16 maxNoShowBps,uint16 minInconclusiveBps,uint8 policies)Sale(uint32 series,uint64 nonce,uint64 validFrom,uint64 validUntil,uint96 pricePerSlotSecond,uint32 slots,uint16 minChargeBps)",
            abi.encode(sampleOffer())
        );
        vm.assertEq(HARNESS.offerHash(sampleOffer()), theirs, "offer");
        theirs = vm.eip712HashStruct(
            "Terms(Shape shape,Redundancy redundancy,Windows windows,Pricing pricing,Content content,address[] gateways)Content(bytes32 templateDigest,bytes32 templateAddress,bytes32 keyCommitment,bytes32 secretsRoot,bytes32 spotChecksRoot,bytes32 comparator,address verifier)Pricing(address token,uint96 pickedCap,uint96 drawnCap,uint24 bondBps,uint16 noShowBps,uint16 feeBps,uint16 inconclusiveBps,uint16 unresolvedBurnBps)Redundancy(uint8 policy,uint8 quorum,uint8 picked,uint8 maxSeats,uint8 drawn,uint8 maxRounds,bool canary,uint8 entropy,uint32 auditFloorPpm,uint16 collusionBps)Shape(uint32 units,uint32 unitsPerSlice,uint32 slicesPerGroup,uint16 slotsPerSeat,uint32 secondsPerUnit,bytes32 classId)Windows(uint64 openUntil,uint32 commitGrace,uint32 revealWindow,uint32 appealWindow,uint32 availabilityWindow,uint32 cancelGrace,uint32 retention)",
            abi.encode(sampleTerms())
        );
        vm.assertEq(HARNESS.termsHash(sampleTerms()), theirs, "terms");
    }

    function test_T03_to_T05_agree_with_another_eip712() public view {
        Commit memory commit = Commit(vm.addr(1), keccak256("job"), 9, new CommitEntry[](2));
        commit.entries[1] = CommitEntry(5, 0, 1, keccak256("commitment 5"));
        bytes32 theirs = vm.eip712HashStruct(
            "Commit(address provider,bytes32 jobId,uint64 deadline,CommitEntry[] entries)CommitEntry(uint32 group,uint8 round,uint8 seat,bytes32 commitment)",
            abi.encode(commit)
        );
        vm.assertEq(HARNESS.commitHash(commit), theirs, "commit");
        Abstain memory abstain = Abstain(vm.addr(1), keccak256("job"), 9, new AbstainEntry[](2));
        abstain.entries[1] = AbstainEntry(3, 0, 1, 6);
        theirs = vm.eip712HashStruct(
            "Abstain(address provider,bytes32 jobId,uint64 deadline,AbstainEntry[] entries)AbstainEntry(uint32 group,uint8 round,uint8 seat,uint8 reason)",
            abi.encode(abstain)
        );
        vm.assertEq(HARNESS.abstainHash(abstain), theirs, "abstain");
        Reveal memory reveal = Reveal(vm.addr(1), keccak256("job"), 9, new RevealEntry[](2));
        reveal.entries[1].receipt = hex"010203";
        reveal.entries[1].storedRoot = keccak256("stored");
        theirs = vm.eip712HashStruct(
            "Reveal(address provider,bytes32 jobId,uint64 deadline,RevealEntry[] entries)RevealEntry(uint32 group,uint8 round,uint8 seat,bytes32 rootA,bytes32 saltA,bytes32 hashB,address gateway,bytes32 storedRoot,uint64 size,uint64 until,bytes receipt)",
            abi.encode(reveal)
        );
        vm.assertEq(HARNESS.revealHash(reveal), theirs, "reveal");
    }

    // Trees

    function leafOf(bytes1 side, uint32 unit) private pure returns (bytes32) {
        return ResultTree.resultLeaf(
            side,
            keccak256("job"),
            unit,
            ResultTree.unitSalt(JOB_SALT, unit),
            unit % 3 == 0 ? 0x01000000 : 0x01000000 + unit,
            keccak256(abi.encode("digest", unit))
        );
    }

    function leaves(bytes1 side, uint32 count) private pure returns (bytes32[] memory made) {
        made = new bytes32[](count);
        for (uint32 i; i < count; ++i) {
            made[i] = leafOf(side, i);
        }
    }

    /// Siblings from the leaf up, made level by level: another algorithm than the verifier's.
    function proofOf(bytes32[] memory level, uint256 index) private pure returns (bytes32[] memory proof) {
        bytes32[] memory found = new bytes32[](32);
        uint256 used;
        while (level.length > 1) {
            bytes32[] memory next = new bytes32[]((level.length + 1) / 2);
            for (uint256 i; i < next.length; ++i) {
                bool pair = 2 * i + 1 < level.length;
                next[i] = pair ? ResultTree.inner(level[2 * i], level[2 * i + 1]) : level[2 * i];
            }
            uint256 sibling = index ^ 1;
            if (sibling < level.length) found[used++] = level[sibling];
            index /= 2;
            level = next;
        }
        proof = new bytes32[](used);
        for (uint256 i; i < used; ++i) {
            proof[i] = found[i];
        }
    }

    /// Unit i has outcome Exit(0) if i is a multiple of 3, else Exit(i), and digest keccak256(abi.encode("digest", i)).
    function test_I09_to_I15_I20_result_trees() public {
        put("jobId", text(keccak256("job")));
        put("jobSalt", text(JOB_SALT));
        put("unitSalt5", text(ResultTree.unitSalt(JOB_SALT, 5)));
        put("digest5", text(keccak256(abi.encode("digest", uint32(5)))));
        put("outcome5", vm.toString(uint256(0x01000005)));
        put("leafA5", text(leafOf(ResultTree.SIDE_A, 5)));
        put("leafB5", text(leafOf(ResultTree.SIDE_B, 5)));
        put("leavesA", text(leaves(ResultTree.SIDE_A, 13)));
        uint32[7] memory counts = [uint32(1), 2, 3, 5, 7, 8, 13];
        for (uint256 i; i < counts.length; ++i) {
            string memory suffix = vm.toString(uint256(counts[i]));
            put(string.concat("rootA", suffix), text(ResultTree.root(leaves(ResultTree.SIDE_A, counts[i]))));
            put(string.concat("rootB", suffix), text(ResultTree.root(leaves(ResultTree.SIDE_B, counts[i]))));
            put(
                string.concat("proofOfLast", suffix),
                text(proofOf(leaves(ResultTree.SIDE_A, counts[i]), counts[i] - 1))
            );
            put(
                string.concat("proofOfMiddle", suffix),
                text(proofOf(leaves(ResultTree.SIDE_A, counts[i]), counts[i] / 2))
            );
        }
        finish("vectors/result-tree.json");
    }

    function testFuzz_I20_every_leaf_has_its_proof_and_no_other(uint8 size, uint8 at, uint8 other) public pure {
        uint32 count = uint32(size % 40) + 1;
        uint32 index = uint32(at) % count;
        bytes32 root = ResultTree.root(leaves(ResultTree.SIDE_A, count));
        bytes32[] memory proof = proofOf(leaves(ResultTree.SIDE_A, count), index);
        bytes32 leaf = leafOf(ResultTree.SIDE_A, index);
        vm.assertTrue(ResultTree.verify(root, count, index, leaf, proof), "its proof");
        vm.assertFalse(ResultTree.verify(root, count + 1, index, leaf, proof), "another count");
        vm.assertFalse(ResultTree.verify(root, count, index, leafOf(ResultTree.SIDE_B, index), proof), "side B");
        uint32 wrong = uint32(other) % count;
        if (wrong != index) vm.assertFalse(ResultTree.verify(root, count, wrong, leaf, proof), "another index");
        vm.assertFalse(ResultTree.verify(root, count, count, leaf, proof), "outside");
        bytes32[] memory longer = new bytes32[](proof.length + 1);
        for (uint256 i; i < proof.length; ++i) {
            longer[i] = proof[i];
        }
        vm.assertFalse(ResultTree.verify(root, count, index, leaf, longer), "an unused sibling");
    }

    function blob(uint256 size) private pure returns (bytes memory made) {
        made = new bytes(size);
        for (uint256 i; i < size; ++i) {
            made[i] = bytes1(uint8((i * 7) % 251));
        }
    }

    function chunkRoot(bytes memory data) private pure returns (bytes32) {
        uint256 count = data.length == 0 ? 1 : (data.length + 1023) / 1024;
        bytes32[] memory chunks = new bytes32[](count);
        for (uint256 c; c < count; ++c) {
            uint256 from = c * 1024;
            uint256 size = data.length - from < 1024 ? data.length - from : 1024;
            bytes memory chunk = new bytes(size);
            for (uint256 i; i < size; ++i) {
                chunk[i] = data[from + i];
            }
            chunks[c] = ResultTree.chunkLeaf(uint32(c), chunk);
        }
        return ResultTree.root(chunks);
    }

    /// Byte i of a blob is (7 i) mod 251. Unit i is stored as a blob of sizes[i] bytes at address keccak256("blob" i).
    function test_I16_to_I19_stored_trees() public {
        uint16[6] memory sizes = [uint16(0), 1, 1024, 1025, 3000, 5120];
        bytes32[] memory stored = new bytes32[](sizes.length);
        for (uint32 i; i < sizes.length; ++i) {
            bytes32 root = chunkRoot(blob(sizes[i]));
            put(string.concat("chunkRoot", vm.toString(uint256(sizes[i]))), text(root));
            stored[i] = ResultTree.storedLeaf(i, keccak256(abi.encode("blob", i)), sizes[i], root);
            put(string.concat("blobAddress", vm.toString(uint256(i))), text(keccak256(abi.encode("blob", i))));
        }
        put("sizes", "[0, 1, 1024, 1025, 3000, 5120]");
        put("storedLeaves", text(stored));
        put("storedRoot", text(ResultTree.root(stored)));
        finish("vectors/stored-tree.json");
    }

    function test_I14_an_empty_tree_has_no_root() public {
        try this.rootOfNothing() {
            revert("an empty tree had a root");
        } catch (bytes memory reason) {
            vm.assertTrue(bytes4(reason) == ResultTree.TreeEmpty.selector, "named");
        }
    }

    function rootOfNothing() external pure returns (bytes32) {
        return ResultTree.root(new bytes32[](0));
    }
}
