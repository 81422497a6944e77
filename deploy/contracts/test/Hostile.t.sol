// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";

import {Scene} from "./Scene.sol";
import {FeeToken, LyingToken, ReentrantToken, SilentToken} from "./tokens/HostileTokens.sol";
import {IMarket} from "../src/interfaces/IMarket.sol";
import {IMarketErrors} from "../src/interfaces/IMarketErrors.sol";
import {Signatures} from "../src/lib/Signatures.sol";
import {TypedData} from "../src/lib/TypedData.sol";
import "../src/Types.sol";

/// A provider that is a contract: answers ERC-1271 in the way it is told to.
contract Wallet is IERC1271 {
    enum Manner {
        Approve,
        Refuse,
        BurnGas,
        HugeAnswer,
        ShortAnswer,
        Revert
    }

    Manner public manner;

    function behave(Manner manner_) external {
        manner = manner_;
    }

    function act(address target, bytes calldata call) external {
        (bool ok,) = target.call(call);
        require(ok, "call failed");
    }

    function isValidSignature(bytes32, bytes calldata) external view returns (bytes4) {
        if (manner == Manner.Approve) return IERC1271.isValidSignature.selector;
        if (manner == Manner.Refuse) return 0xffffffff;
        if (manner == Manner.Revert) revert("no");
        bytes4 magic = IERC1271.isValidSignature.selector;
        if (manner == Manner.BurnGas) {
            for (uint256 i; gasleft() > 100; ++i) {}
        }
        bool short = manner == Manner.ShortAnswer;
        assembly {
            mstore(0, magic)
            if short { return(0, 4) }
            // More than the allowance can pay for would only revert; this much it can return.
            return(0, 50000)
        }
    }
}

/// Calls the signature library with a gas allowance of the test's choice.
contract SignatureCaller {
    function ask(address signer, bytes32 digest, bytes calldata signature) external view returns (bool) {
        return Signatures.isValid(signer, digest, signature);
    }
}

/// Tokens and signers that misbehave: A-11, A-12, A-17, M-1, T-20, T-21.
contract HostileTest is Scene {
    function test_M01_A17_fee_on_transfer_is_refused() public {
        FeeToken fee = new FeeToken();
        fee.mint(buyer, 1000);
        vm.startPrank(buyer);
        fee.approve(address(market), 1000);
        vm.expectRevert(abi.encodeWithSelector(IMarketErrors.TransferInexact.selector, address(fee), 1000, 990));
        market.deposit(address(fee), 1000, 0);
        vm.stopPrank();
        vm.assertEq(market.heldOf(address(fee)), 0, "nothing held");
    }

    function test_M01_A17_a_token_that_moves_nothing_is_refused() public {
        LyingToken lying = new LyingToken();
        vm.expectPartialRevert(IMarketErrors.TransferInexact.selector);
        market.deposit(address(lying), 1000, 0);
    }

    function test_M01_a_token_without_return_values_pays() public {
        SilentToken silent = new SilentToken();
        silent.mint(buyer, 1000);
        vm.startPrank(buyer);
        silent.approve(address(market), 1000);
        market.deposit(address(silent), 1000, 0);
        market.withdrawTo(address(silent), 400, address(0xA), 0);
        vm.stopPrank();
        vm.assertEq(silent.balanceOf(address(0xA)), 400, "out");
        vm.assertEq(market.heldOf(address(silent)), 600, "held");
    }

    function test_M01_what_is_no_token_is_refused() public {
        vm.expectRevert();
        market.deposit(address(0xDEAD), 1, 0);
        vm.expectRevert();
        market.depositWithPermit(address(0xDEAD), 1, 0, FAR, 27, 0, 0);
    }

    function test_A17_reentering_is_refused_everywhere() public {
        ReentrantToken token2 = new ReentrantToken();
        token2.mint(buyer, 1000);
        vm.startPrank(buyer);
        token2.approve(address(market), 1000);
        market.deposit(address(token2), 500, 0);
        bytes[] memory inner = new bytes[](1);
        inner[0] = abi.encodeCall(market.withdrawTo, (address(token2), 1, buyer, 0));
        bytes[3] memory attacks = [
            abi.encodeCall(market.withdrawTo, (address(token2), 1, buyer, 0)),
            abi.encodeCall(market.multicall, (inner)),
            abi.encodeCall(market.judge, (NONCE, list(0)))
        ];
        for (uint256 i; i < attacks.length; ++i) {
            token2.aim(address(market), attacks[i]);
            market.withdrawTo(address(token2), 1, address(0xA), 0);
            market.deposit(address(token2), 1, 0);
            vm.assertFalse(token2.letThrough(), "let through");
        }
        vm.stopPrank();
    }

    function test_T20_a_batch_cannot_reenter_either() public {
        ReentrantToken token2 = new ReentrantToken();
        token2.mint(buyer, 1000);
        bytes[] memory inner = new bytes[](1);
        inner[0] = abi.encodeCall(market.deposit, (address(token2), 1, 0));
        vm.startPrank(buyer);
        token2.approve(address(market), 1000);
        token2.aim(address(market), abi.encodeCall(market.batch, (inner)));
        market.deposit(address(token2), 100, 0);
        vm.stopPrank();
        vm.assertEq(market.balanceOf(address(token2), address(token2)), 0, "the inner step failed alone");
        vm.assertEq(market.heldOf(address(token2)), 100, "held");
        vm.assertEq(token2.balanceOf(address(market)), 100, "tokens");
    }

    // Signers

    function contractProvider() private returns (Wallet wallet, bytes32 jobId) {
        wallet = new Wallet();
        token.mint(address(wallet), FUNDS);
        wallet.act(address(token), abi.encodeCall(token.approve, (address(market), FUNDS)));
        wallet.act(address(market), abi.encodeCall(market.deposit, (address(token), uint128(FUNDS), 0)));
        wallet.act(address(market), abi.encodeCall(market.postBond, (address(token), uint128(FUNDS), 0)));
        FillRequest[] memory fills = requests(3, 1);
        fills[0].offer.provider = address(wallet);
        fills[0].signature = "anything";
        vm.prank(buyer);
        jobId = market.openJob(NONCE, defaultTerms(), 1e18, fills);
        seal(jobId, 0, 1);
    }

    function test_T20_erc1271_providers_work() public {
        (Wallet wallet, bytes32 jobId) = contractProvider();
        assertGroup(jobId, 0, GroupState.Running);
        Commit memory message = commitMessage(jobId, 0, 0, ROOT);
        message.provider = address(wallet);
        market.commit(message, "anything");
        assertSeat(jobId, 0, 0, SeatState.Committed);
    }

    function test_T20_A12_signers_that_misbehave_are_a_no() public {
        (Wallet wallet, bytes32 jobId) = contractProvider();
        Commit memory message = commitMessage(jobId, 0, 0, ROOT);
        message.provider = address(wallet);
        for (uint8 manner = 1; manner < 6; ++manner) {
            wallet.behave(Wallet.Manner(manner));
            if (Wallet.Manner(manner) == Wallet.Manner.HugeAnswer) continue;
            uint256 gasBefore = gasleft();
            vm.expectPartialRevert(IMarketErrors.SignatureInvalid.selector);
            market.commit(message, "anything");
            vm.assertLe(gasBefore - gasleft(), 250_000, "gas is capped");
        }
        assertSeat(jobId, 0, 0, SeatState.Awarded);
        // A huge answer that begins with the magic value is a yes, and costs us one word.
        wallet.behave(Wallet.Manner.HugeAnswer);
        market.commit(message, "anything");
        assertSeat(jobId, 0, 0, SeatState.Committed);
    }

    function test_T20_a_bad_signer_skips_only_its_own_fill() public {
        Wallet wallet = new Wallet();
        wallet.behave(Wallet.Manner.BurnGas);
        FillRequest[] memory fills = requests(3, 1);
        fills[0].offer.provider = address(wallet);
        vm.prank(buyer);
        bytes32 jobId = market.openJob(NONCE, defaultTerms(), 1e18, fills);
        vm.assertEq(market.groupOf(jobId, 0).seats, 2, "the other two");
    }

    function test_T20_ecdsa_first_so_that_delegated_accounts_keep_their_key() public {
        bytes32 jobId = running();
        Commit memory message = commitMessage(jobId, 0, 0, ROOT);
        bytes memory signed =
            signature(providerKeys[0], TypedData.digest(market.domainSeparator(), hasher.commitHash(message)));
        Wallet refusing = new Wallet();
        vm.etch(providers[0], address(refusing).code);
        Wallet(providers[0]).behave(Wallet.Manner.Refuse);
        market.commit(message, signed);
        assertSeat(jobId, 0, 0, SeatState.Committed);
    }

    function test_T20_high_s_and_other_lengths_are_refused() public {
        SignatureCaller caller = new SignatureCaller();
        bytes32 digest = keccak256("digest");
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(providerKeys[0], digest);
        vm.assertTrue(caller.ask(providers[0], digest, abi.encodePacked(r, s, v)), "good");
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        bytes memory mirrored = abi.encodePacked(r, bytes32(order - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        vm.assertFalse(caller.ask(providers[0], digest, mirrored), "high s");
        vm.assertFalse(caller.ask(providers[0], digest, abi.encodePacked(r, s)), "64 bytes");
        vm.assertFalse(caller.ask(address(0), digest, abi.encodePacked(r, s, uint8(9))), "nobody");
    }

    function test_T21_A11_a_starved_signer_reverts_instead_of_refusing() public {
        Wallet wallet = new Wallet();
        SignatureCaller caller = new SignatureCaller();
        vm.assertTrue(caller.ask(address(wallet), NONCE, "x"), "with gas");
        for (uint256 given = 20_000; given < 130_000; given += 5_000) {
            try caller.ask{gas: given}(address(wallet), NONCE, "x") returns (bool valid) {
                vm.assertTrue(valid, "never a false no");
            } catch {}
        }
        vm.expectPartialRevert(IMarketErrors.SignatureGasTooLow.selector);
        caller.ask{gas: 90_000}(address(wallet), NONCE, "x");
    }
}
