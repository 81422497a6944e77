// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";

import {ILedger} from "./interfaces/IMarket.sol";
import {Card} from "./lib/Card.sol";
import {Amounts} from "./lib/Amounts.sol";
import {Ids} from "./lib/Ids.sol";
import {TypedData} from "./lib/TypedData.sol";
import {MarketMoney} from "./MarketMoney.sol";
import {MarketPart} from "./MarketPart.sol";
import {BondView, GroupState, GroupView, JobView, Parameters, SeatState, SeatView} from "./Types.sol";

/// @title Balances, bonds, offers' cancellation, and reading (PROTOCOL.md C-1 to C-7)
/// @notice Starts, judges and settles no job.
contract Ledger is MarketPart, MarketMoney, ILedger {
    using Card for bytes;
    /// The market sends here whatever no other part claims.
    fallback() external {
        revert SelectorUnknown(msg.sig);
    }

    // Balances

    function deposit(address token, uint128 amount, bytes32 intent) external onlyInMarket nonReentrant returns (bool done) {
        return _deposit(token, amount, intent);
    }

    function depositWithPermit(
        address token,
        uint128 amount,
        bytes32 intent,
        uint256 permitDeadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external onlyInMarket nonReentrant returns (bool done) {
        // Anyone may have spent the permit before us; then the allowance is already there.
        try IERC20Permit(token).permit(msg.sender, address(this), amount, permitDeadline, v, r, s) {} catch {}
        return _deposit(token, amount, intent);
    }

    function withdrawTo(address token, uint128 amount, address to, bytes32 intent)
        external
        onlyInMarket
        nonReentrant
        returns (bool done)
    {
        if (amount == 0) revert AmountZero();
        if (to == address(0) || to == address(this)) revert AddressInvalid(to);
        if (!_once(intent)) return false;
        _takeBalance(msg.sender, token, amount);
        emit Withdrawn(msg.sender, token, to, amount, intent);
        _push(token, amount, to);
        return true;
    }

    function _deposit(address token, uint128 amount, bytes32 intent) private returns (bool) {
        if (amount == 0) revert AmountZero();
        if (!_once(intent)) return false;
        _pull(token, amount, intent);
        return true;
    }

    // Bonds and offers

    function postBond(address token, uint128 amount, bytes32 intent) external onlyInMarket nonReentrant returns (bool done) {
        if (amount == 0) revert AmountZero();
        if (!_once(intent)) return false;
        _takeBalance(msg.sender, token, amount);
        bonds[msg.sender][token].total += amount;
        emit BondPosted(msg.sender, token, amount, intent);
        return true;
    }

    function requestUnbond(address token, uint128 amount) external onlyInMarket nonReentrant {
        Bond storage bond = bonds[msg.sender][token];
        uint128 leaving = bond.leaving;
        if (amount == leaving) return;
        if (amount > leaving) {
            uint256 free = bond.total - bond.locked;
            if (amount - leaving > free) revert BondTooSmall(free, amount - leaving);
            bond.readyAt = uint64(block.timestamp + marketParameters.unbondDelay);
        }
        bond.locked = bond.locked - leaving + amount;
        bond.leaving = amount;
        emit UnbondRequested(msg.sender, token, amount, bond.readyAt);
    }

    function finishUnbond(address token) external onlyInMarket nonReentrant returns (uint128 amount) {
        Bond storage bond = bonds[msg.sender][token];
        amount = bond.leaving;
        if (amount == 0 || block.timestamp < bond.readyAt) revert NotReady(bond.readyAt);
        bond.leaving = 0;
        bond.locked -= amount;
        bond.total -= amount;
        balances[msg.sender][token] += amount;
        emit Unbonded(msg.sender, token, amount);
    }

    function cancelOffers(uint32 series, uint64 minNonce) external onlyInMarket nonReentrant {
        Series storage stored = offerSeries[msg.sender][series];
        if (minNonce <= stored.minNonce) return;
        stored.minNonce = minNonce;
        emit OffersCancelled(msg.sender, series, minNonce);
    }

    // Reading

    function balanceOf(address account, address token) external view returns (uint256) {
        return balances[account][token];
    }

    function bondOf(address provider, address token) external view returns (BondView memory) {
        Bond memory bond = bonds[provider][token];
        return BondView({
            total: bond.total,
            locked: bond.locked - bond.leaving,
            leaving: bond.leaving,
            readyAt: bond.readyAt
        });
    }

    function sinkOf(address token) external view returns (uint256) {
        return sinks[token];
    }

    function heldOf(address token) external view returns (uint256) {
        return held[token];
    }

    function intentUsed(address account, bytes32 intent) external view returns (bool) {
        return intents[account][intent];
    }

    function seriesOf(address provider, uint32 series) external view returns (uint32 slotsUsed, uint64 minNonce) {
        Series memory found = offerSeries[provider][series];
        return (found.used, found.minNonce);
    }

    function parameters() external view returns (Parameters memory) {
        return marketParameters;
    }

    function jobIdOf(address buyer, bytes32 nonce) external view returns (bytes32) {
        return Ids.job(buyer, nonce);
    }

    function domainSeparator() external view returns (bytes32) {
        return TypedData.domainSeparator();
    }

    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        )
    {
        // 0x0f: name, version, chain id and verifying contract are used.
        return (hex"0f", "Tradewind", "1", block.chainid, address(this), bytes32(0), new uint256[](0));
    }

    /// All zero for a job that there is not, so that "not opened" can be told from a failing call.
    function jobOf(bytes32 jobId) external view returns (JobView memory found) {
        if (jobWords[jobId] == 0) return found;
        Job memory job = _job(jobId);
        return JobView({
            state: job.state,
            buyer: job.card.buyer(),
            token: job.card.token(),
            termsHash: job.card.termsHash(),
            seq: job.seq,
            groups: uint32(job.card.groups()),
            ended: job.ended,
            escrow: job.escrow,
            allocated: job.allocated,
            until: job.until
        });
    }

    function groupOf(bytes32 jobId, uint32 group) external view returns (GroupView memory found) {
        Job memory job = _job(jobId);
        if (group >= job.card.groups()) return found;
        Group memory stored = _group(jobId, group);
        found.state = stored.state;
        found.seats = stored.seats;
        (found.firstUnit, found.units) = _unitsOf(job, group);
        found.deadline = stored.state == GroupState.Running
            ? uint64(_commitDeadline(job.state, job.until, stored.deadline))
            : stored.deadline;
    }

    function seatOf(bytes32 jobId, uint32 group, uint8 seat) external view returns (SeatView memory found) {
        Job memory job = _job(jobId);
        Group memory stored = _group(jobId, group);
        if (group >= job.card.groups() || seat >= stored.seats) return found;
        Fill memory filled = _fillOf(jobId, job, stored, seat);
        (, uint32 units) = _unitsOf(job, group);
        found.state = SeatState(_seatState(stored, seat));
        found.provider = filled.provider;
        found.pricePerUnit = filled.pricePerUnit;
        found.pay = Amounts.pay(filled.pricePerUnit, units);
        found.charge = uint128(Amounts.shareDown(found.pay, filled.chargeBps));
        found.bond = uint128(Amounts.shareUp(found.pay, job.card.bondBps()));
        found.committed = seatWords[jobId][_seatKey(group, seat)];
    }
}
