// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Cheats} from "./Cheats.sol";
import {LabToken} from "./tokens/LabToken.sol";
import {IMarket} from "../src/interfaces/IMarket.sol";
import {IMarketErrors} from "../src/interfaces/IMarketErrors.sol";
import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {Ids} from "../src/lib/Ids.sol";
import {Jobs} from "../src/Jobs.sol";
import {Ledger} from "../src/Ledger.sol";
import {Market} from "../src/Market.sol";
import {TypedData} from "../src/lib/TypedData.sol";
import "../src/Types.sol";

/// Turns what the market takes in calldata into hashes, for tests that hold it in memory.
contract Hasher {
    function commitHash(Commit calldata message) external pure returns (bytes32) {
        return TypedData.hashCommit(message);
    }

    function abstainHash(Abstain calldata message) external pure returns (bytes32) {
        return TypedData.hashAbstain(message);
    }

    function revealHash(Reveal calldata message) external pure returns (bytes32) {
        return TypedData.hashReveal(message);
    }

    function offerHash(Offer calldata offer) external pure returns (bytes32) {
        return TypedData.hashOffer(offer);
    }

    function termsHash(Terms calldata terms) external pure returns (bytes32) {
        return TypedData.hashTerms(terms);
    }
}

/// A market with a buyer, five providers, a gateway and one token, and the steps of a job as one-liners. The default
/// job is one group of 8 units for three picked seats, quorum two; prices are chosen so that every figure is distinct.
abstract contract Scene {
    bool public constant IS_TEST = true;
    Cheats internal constant vm = Cheats(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);

    uint256 internal constant START = 1_800_000_000;
    uint16 internal constant FEE_BPS = 150;
    uint32 internal constant UNBOND_DELAY = 7 days;
    uint256 internal constant PRICE_PER_SECOND = 1e12;
    uint256 internal constant FUNDS = 1_000_000e18;
    bytes32 internal constant CLASS = keccak256("cpu/x86-64-v3");
    bytes32 internal constant NONCE = keccak256("job one");
    bytes32 internal constant ROOT = keccak256("the right root");
    bytes32 internal constant WRONG = keccak256("a wrong root");
    uint64 internal constant FAR = type(uint64).max;

    IMarket internal market;
    LabToken internal token;
    Hasher internal hasher;
    address internal buyer = address(0xB0B);
    uint256[] internal providerKeys;
    address[] internal providers;
    uint256 internal gatewayKey = uint256(keccak256("gateway"));
    address internal gateway;

    function setUp() public virtual {
        vm.warp(START);
        hasher = new Hasher();
        token = new LabToken();
        market = deployMarket();
        gateway = vm.addr(gatewayKey);
        for (uint256 i; i < 5; ++i) {
            providerKeys.push(uint256(keccak256(abi.encode("provider", i))));
            providers.push(vm.addr(providerKeys[i]));
            fundBond(providers[i], token);
        }
        token.mint(buyer, FUNDS);
        vm.prank(buyer);
        token.approve(address(market), type(uint256).max);
    }

    function deployMarket() internal returns (IMarket) {
        Parameters memory parameters = Parameters({feeBps: FEE_BPS, unbondDelay: UNBOND_DELAY});
        Market deployed = new Market(parameters, address(new Jobs()), address(new Ledger()));
        return IMarket(address(deployed));
    }

    function fundBond(address provider, LabToken paid) internal {
        paid.mint(provider, FUNDS);
        vm.startPrank(provider);
        paid.approve(address(market), type(uint256).max);
        market.deposit(address(paid), uint128(FUNDS), 0);
        market.postBond(address(paid), uint128(FUNDS / 2), 0);
        vm.stopPrank();
    }

    // Terms and offers

    function defaultTerms() internal view returns (Terms memory terms) {
        terms.shape = Shape({
            units: 8,
            unitsPerSlice: 4,
            slicesPerGroup: 2,
            slotsPerSeat: 1,
            secondsPerUnit: 60,
            classId: CLASS
        });
        terms.redundancy = Redundancy({
            policy: Policy.Quorum,
            quorum: 2,
            picked: 3,
            maxSeats: 3,
            drawn: 0,
            maxRounds: 1,
            canary: false,
            entropy: 0,
            auditFloorPpm: 0,
            collusionBps: 0
        });
        terms.windows = Windows({
            openUntil: uint64(START + 1 hours),
            commitGrace: 10 minutes,
            revealWindow: 5 minutes,
            appealWindow: 30 minutes,
            availabilityWindow: 20 minutes,
            cancelGrace: 1 hours,
            retention: 7 days
        });
        terms.pricing = Pricing({
            token: address(token),
            pickedCap: 1e18,
            drawnCap: 2e18,
            bondBps: 20_000,
            noShowBps: 2_000,
            feeBps: FEE_BPS,
            inconclusiveBps: 5_000,
            unresolvedBurnBps: 5_000
        });
        terms.content.templateDigest = keccak256("template");
        terms.content.templateAddress = keccak256("template as stored");
        terms.content.keyCommitment = keccak256("key");
        terms.gateways = new address[](1);
        terms.gateways[0] = gateway;
    }

    /// Terms with `groups` groups of 8 units.
    function termsOf(uint32 groups) internal view returns (Terms memory terms) {
        terms = defaultTerms();
        terms.shape.units = groups * 8;
    }

    function offerOf(uint256 provider) internal view returns (Offer memory offer) {
        offer.provider = providers[provider];
        offer.token = address(token);
        offer.classId = CLASS;
        offer.region = keccak256("eu");
        offer.details = keccak256("details");
        offer.recipient = keccak256("recipient");
        offer.sale = Sale({
            series: 1,
            nonce: 1,
            validFrom: uint64(START - 1),
            validUntil: uint64(START + 30 days),
            pricePerSlotSecond: uint96(PRICE_PER_SECOND * (provider + 1)),
            slots: 100,
            minChargeBps: 500
        });
        offer.bounds = Bounds({
            maxSecondsPerUnit: 1 hours,
            maxLockSeconds: 30 days,
            minCommitGrace: 1,
            minRevealWindow: 1,
            maxRetention: 30 days,
            maxBondBps: 30_000,
            maxNoShowBps: 5_000,
            minInconclusiveBps: 0,
            policies: 1
        });
        offer.gateways = new address[](1);
        offer.gateways[0] = gateway;
        offer.verifiers = new address[](0);
    }

    function request(uint256 provider, Offer memory offer, uint32 first, uint32 groups)
        internal
        view
        returns (FillRequest memory)
    {
        bytes32 digest = TypedData.digest(market.domainSeparator(), hasher.offerHash(offer));
        return FillRequest({
            offer: offer,
            signature: signature(providerKeys[provider], digest),
            firstGroup: first,
            groups: groups
        });
    }

    function requests(uint256 count, uint32 groups) internal view returns (FillRequest[] memory fills) {
        fills = new FillRequest[](count);
        for (uint256 i; i < count; ++i) {
            fills[i] = request(i, offerOf(i), 0, groups);
        }
    }

    function one(FillRequest memory only) internal pure returns (FillRequest[] memory single) {
        single = new FillRequest[](1);
        single[0] = only;
    }

    function signature(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    // Figures

    function payOf(uint256 provider, uint256 units) internal pure returns (uint256) {
        return PRICE_PER_SECOND * (provider + 1) * 60 * units;
    }

    function feeOf(uint256 provider, uint256 units) internal pure returns (uint256) {
        return (payOf(provider, units) * FEE_BPS) / 10_000;
    }

    function bondOf(uint256 provider, uint256 units) internal pure returns (uint256) {
        return payOf(provider, units) * 2;
    }

    function balance(address who) internal view returns (uint256) {
        return market.balanceOf(who, address(token));
    }

    function locked(uint256 provider) internal view returns (uint256) {
        return market.bondOf(providers[provider], address(token)).locked;
    }

    // Steps

    function open(Terms memory terms, uint256 seats, uint128 escrow) internal returns (bytes32 jobId) {
        uint256 perGroup = uint256(terms.shape.unitsPerSlice) * terms.shape.slicesPerGroup;
        uint32 groups = uint32((terms.shape.units + perGroup - 1) / perGroup);
        FillRequest[] memory fills = requests(seats, groups);
        vm.prank(buyer);
        return market.openJob(NONCE, terms, escrow, fills);
    }

    /// The default job, sealed: three seats in one group.
    function running() internal returns (bytes32 jobId) {
        jobId = open(defaultTerms(), 3, 1e18);
        seal(jobId, 0, 1);
    }

    function seal(bytes32 jobId, uint32 first, uint32 groups) internal returns (uint32) {
        vm.prank(buyer);
        return market.seal(jobId, first, groups);
    }

    function saltOf(uint256 provider) internal pure returns (bytes32) {
        return keccak256(abi.encode("salt", provider));
    }

    function hashBOf(uint256 provider) internal pure returns (bytes32) {
        return keccak256(abi.encode("hash b", provider));
    }

    function commitmentOf(bytes32 jobId, uint32 group, uint256 provider, bytes32 root)
        internal
        view
        returns (bytes32)
    {
        return Ids.commitment(
            market.domainSeparator(),
            jobId,
            market.jobOf(jobId).termsHash,
            market.roundIdOf(jobId, group, 0),
            providers[provider],
            root,
            saltOf(provider),
            hashBOf(provider)
        );
    }

    function commitMessage(bytes32 jobId, uint32 group, uint256 provider, bytes32 root)
        internal
        view
        returns (Commit memory message)
    {
        message.provider = providers[provider];
        message.jobId = jobId;
        message.deadline = FAR;
        message.entries = new CommitEntry[](1);
        message.entries[0] = CommitEntry({
            group: group,
            round: 0,
            seat: uint8(provider),
            commitment: commitmentOf(jobId, group, provider, root)
        });
    }

    function commitTo(bytes32 jobId, uint32 group, uint256 provider, bytes32 root) internal {
        Commit memory message = commitMessage(jobId, group, provider, root);
        vm.prank(providers[provider]);
        market.commit(message, "");
    }

    function abstainMessage(bytes32 jobId, uint32 group, uint256 provider, uint8 reason)
        internal
        view
        returns (Abstain memory message)
    {
        message.provider = providers[provider];
        message.jobId = jobId;
        message.deadline = FAR;
        message.entries = new AbstainEntry[](1);
        message.entries[0] = AbstainEntry({group: group, round: 0, seat: uint8(provider), reason: reason});
    }

    function abstainFrom(bytes32 jobId, uint32 group, uint256 provider) internal {
        Abstain memory message = abstainMessage(jobId, group, provider, 2);
        vm.prank(providers[provider]);
        market.abstain(message, "");
    }

    function receiptOf(bytes32 jobId, uint32 group, uint256 provider) internal view returns (Receipt memory) {
        return Receipt({
            gateway: gateway,
            roundId: market.roundIdOf(jobId, group, 0),
            provider: providers[provider],
            storedRoot: keccak256(abi.encode("stored", provider)),
            size: 4096,
            until: uint64(block.timestamp + 8 days)
        });
    }

    function signReceipt(Receipt memory receipt) internal view returns (bytes memory) {
        return signature(gatewayKey, TypedData.digest(market.domainSeparator(), TypedData.hashReceipt(receipt)));
    }

    function revealMessage(bytes32 jobId, uint32 group, uint256 provider, bytes32 root, bool withReceipt)
        internal
        view
        returns (Reveal memory message)
    {
        message.provider = providers[provider];
        message.jobId = jobId;
        message.deadline = FAR;
        message.entries = new RevealEntry[](1);
        RevealEntry memory entry = message.entries[0];
        entry.group = group;
        entry.seat = uint8(provider);
        entry.rootA = root;
        entry.saltA = saltOf(provider);
        entry.hashB = hashBOf(provider);
        if (withReceipt) {
            Receipt memory receipt = receiptOf(jobId, group, provider);
            entry.gateway = receipt.gateway;
            entry.storedRoot = receipt.storedRoot;
            entry.size = receipt.size;
            entry.until = receipt.until;
            entry.receipt = signReceipt(receipt);
        }
    }

    function revealTo(bytes32 jobId, uint32 group, uint256 provider, bytes32 root, bool withReceipt) internal {
        Reveal memory message = revealMessage(jobId, group, provider, root, withReceipt);
        vm.prank(providers[provider]);
        market.reveal(message, "");
    }

    function judge(bytes32 jobId, uint32 group) internal returns (uint32) {
        return market.judge(jobId, list(group));
    }

    function settle(bytes32 jobId, uint32 group) internal returns (uint32) {
        return market.settle(jobId, list(group));
    }

    function list(uint32 group) internal pure returns (uint32[] memory groups) {
        groups = new uint32[](1);
        groups[0] = group;
    }

    function later(uint256 time) internal {
        vm.warp(block.timestamp + time);
    }

    /// Takes a running group of three seats to its judgement: seat i commits and reveals `roots[i]`; zero abstains.
    function play(bytes32 jobId, uint32 group, bytes32 first, bytes32 second, bytes32 third) internal {
        bytes32[3] memory roots = [first, second, third];
        for (uint256 i; i < 3; ++i) {
            if (roots[i] == 0) abstainFrom(jobId, group, i);
            else commitTo(jobId, group, i, roots[i]);
        }
        for (uint256 i; i < 3; ++i) {
            if (roots[i] != 0) revealTo(jobId, group, i, roots[i], true);
        }
        judge(jobId, group);
    }

    // What must hold

    function groupState(bytes32 jobId, uint32 group) internal view returns (GroupState) {
        return market.groupOf(jobId, group).state;
    }

    function seatState(bytes32 jobId, uint32 group, uint8 seat) internal view returns (SeatState) {
        return market.seatOf(jobId, group, seat).state;
    }

    function assertSeat(bytes32 jobId, uint32 group, uint8 seat, SeatState expected) internal view {
        vm.assertEq(uint256(seatState(jobId, group, seat)), uint256(expected), "seat state");
    }

    function assertGroup(bytes32 jobId, uint32 group, GroupState expected) internal view {
        vm.assertEq(uint256(groupState(jobId, group)), uint256(expected), "group state");
    }

    /// M-11 for the scene's actors and one job.
    function assertConserved(bytes32 jobId) internal view {
        uint256 owed = balance(buyer) + market.sinkOf(address(token)) + market.jobOf(jobId).escrow;
        for (uint256 i; i < providers.length; ++i) {
            owed += balance(providers[i]) + market.bondOf(providers[i], address(token)).total;
        }
        vm.assertEq(owed, market.heldOf(address(token)), "ledger");
        vm.assertEq(owed, token.balanceOf(address(market)), "tokens");
    }
}
