// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Card} from "./lib/Card.sol";
import {Amounts} from "./lib/Amounts.sol";
import {Signatures} from "./lib/Signatures.sol";
import {TypedData} from "./lib/TypedData.sol";
import {MAX_OFFER_LIST, MAX_PAGES, WHOLE_REQUEST} from "./Limits.sol";
import {MarketStorage} from "./MarketStorage.sol";
import {
    Bounds,
    FillRefusal,
    FillRequest,
    GroupState,
    Offer,
    Sale,
    SeatKind,
    SeatState,
    Terms
} from "./Types.sol";

/// @title Seats from standing offers (PROTOCOL.md, "Fills")
/// @notice A request that cannot be taken is passed over with a notice; it never stops the others.
abstract contract MarketFills is MarketStorage {
    using Card for bytes;
    /// @dev What one request works on. Bond, series and job money are read once and written once.
    struct Award {
        bytes32 offerHash;
        address provider;
        uint96 pricePerUnit;
        uint16 chargeBps;
        uint8 gateways;
        uint32 seriesNumber;
        uint32 slots;
        uint32 slotsUsed;
        uint256 bondFree;
        uint256 bondLocked;
        uint256 fillNumber;
        // The consecutive groups awarded in the same seat, not yet told.
        uint32 runStart;
        uint32 runLength;
        uint8 runSeat;
    }

    function _fillAll(bytes32 jobId, Job memory job, Terms calldata terms, FillRequest[] calldata fills) internal {
        bytes32 separator = TypedData.domainSeparator();
        // D-9.
        uint256 lockSeconds = job.until - block.timestamp + job.card.commitWindow() + job.card.revealWindow() + job.card.agreedWindow();
        for (uint256 i; i < fills.length; ++i) {
            FillRequest calldata request = fills[i];
            bytes32 offerHash = TypedData.hashOffer(request.offer);
            (FillRefusal refusal, uint256 price, uint8 common) = _checkOffer(job, terms, request.offer, lockSeconds);
            if (refusal == FillRefusal.None && job.pages == MAX_PAGES) refusal = FillRefusal.TooManyFills;
            if (
                refusal == FillRefusal.None
                    && !Signatures.isValid(
                        request.offer.provider, TypedData.digest(separator, offerHash), request.signature
                    )
            ) refusal = FillRefusal.SignatureInvalid;
            if (refusal == FillRefusal.None) {
                _award(jobId, job, request, offerHash, uint96(price), common);
            } else {
                emit FillSkipped(jobId, request.offer.provider, offerHash, WHOLE_REQUEST, uint8(refusal));
            }
        }
    }

    /// Everything about an offer but its signature, in the order of rows F-2 to F-12; also its price per unit and the
    /// gateways that it shares with the job, one bit each.
    function _checkOffer(Job memory job, Terms calldata terms, Offer calldata offer, uint256 lockSeconds)
        private
        view
        returns (FillRefusal, uint256 price, uint8 common)
    {
        Sale calldata sale = offer.sale;
        if (block.timestamp < sale.validFrom) return (FillRefusal.NotYetValid, 0, 0);
        if (block.timestamp > sale.validUntil) return (FillRefusal.Expired, 0, 0);
        if (sale.nonce < offerSeries[offer.provider][sale.series].minNonce) return (FillRefusal.Superseded, 0, 0);
        address allowed = offer.allowedBuyer;
        if (allowed != address(0) && allowed != job.card.buyer()) return (FillRefusal.BuyerNotAllowed, 0, 0);
        if (offer.token != job.card.token()) return (FillRefusal.TokenMismatch, 0, 0);
        bytes32 classId = terms.shape.classId;
        if (classId != bytes32(0) && offer.classId != classId) return (FillRefusal.ClassMismatch, 0, 0);
        price = uint256(sale.pricePerSlotSecond) * terms.shape.secondsPerUnit;
        if (price > terms.pricing.pickedCap) return (FillRefusal.PriceAboveCap, 0, 0);
        if (!_withinBounds(job, terms, offer.bounds, lockSeconds)) return (FillRefusal.TermsOutOfBounds, 0, 0);
        common = _commonGateways(terms.gateways, offer.gateways);
        if (common == 0) return (FillRefusal.NoCommonGateway, 0, 0);
        address verifier = terms.content.verifier;
        if (verifier != address(0) && !_names(offer.verifiers, verifier)) {
            return (FillRefusal.VerifierNotNamed, 0, 0);
        }
        if (sale.minChargeBps > job.card.noShowBps()) return (FillRefusal.ChargeAboveBurn, 0, 0);
        return (FillRefusal.None, price, common);
    }

    function _withinBounds(Job memory job, Terms calldata terms, Bounds calldata bounds, uint256 lockSeconds)
        private
        pure
        returns (bool)
    {
        return terms.shape.secondsPerUnit <= bounds.maxSecondsPerUnit && lockSeconds <= bounds.maxLockSeconds
            && terms.windows.commitGrace >= bounds.minCommitGrace && job.card.revealWindow() >= bounds.minRevealWindow
            && job.card.retention() <= bounds.maxRetention && job.card.bondBps() <= bounds.maxBondBps
            && job.card.noShowBps() <= bounds.maxNoShowBps && terms.pricing.inconclusiveBps >= bounds.minInconclusiveBps
            && (bounds.policies >> uint8(terms.redundancy.policy)) & 1 == 1;
    }

    function _commonGateways(address[] calldata ofJob, address[] calldata ofOffer) private pure returns (uint8 common) {
        for (uint256 i; i < ofJob.length; ++i) {
            if (_names(ofOffer, ofJob[i])) common |= uint8(1) << uint8(i);
        }
    }

    function _names(address[] calldata list, address wanted) private pure returns (bool) {
        uint256 count = list.length < MAX_OFFER_LIST ? list.length : MAX_OFFER_LIST;
        for (uint256 i; i < count; ++i) {
            if (list[i] == wanted) return true;
        }
        return false;
    }

    function _award(
        bytes32 jobId,
        Job memory job,
        FillRequest calldata request,
        bytes32 offerHash,
        uint96 price,
        uint8 common
    ) private {
        Award memory award;
        award.offerHash = offerHash;
        award.provider = request.offer.provider;
        award.pricePerUnit = price;
        award.chargeBps = request.offer.sale.minChargeBps;
        award.gateways = common;
        award.seriesNumber = request.offer.sale.series;
        award.slots = request.offer.sale.slots;
        award.fillNumber = (uint256(job.pages) << 8) | job.fills;
        Series storage series = offerSeries[award.provider][award.seriesNumber];
        uint32 usedBefore = series.used;
        award.slotsUsed = usedBefore;
        Bond storage bond = bonds[award.provider][job.card.token()];
        award.bondFree = bond.total - bond.locked;

        _awardRange(jobId, job, award, request.firstGroup, request.groups);
        _tell(jobId, job, award);
        if (award.slotsUsed == usedBefore) return;

        bond.locked += uint128(award.bondLocked);
        (series.used, series.minNonce, series.touched) = (award.slotsUsed, request.offer.sale.nonce, true);
        ++job.fills;
        _appendFill(
            job.draft,
            Fill({
                provider: award.provider,
                pricePerUnit: price,
                series: award.seriesNumber,
                chargeBps: award.chargeBps,
                gateways: common
            })
        );
    }

    function _awardRange(bytes32 jobId, Job memory job, Award memory award, uint32 first, uint32 count) private {
        uint256 end = uint256(first) + count;
        for (uint256 number = first; number < end; ++number) {
            FillRefusal refusal = _awardOne(jobId, job, award, number);
            if (refusal == FillRefusal.None) continue;
            emit FillSkipped(jobId, award.provider, award.offerHash, uint32(number), uint8(refusal));
            if (refusal == FillRefusal.GroupOutOfRange || refusal == FillRefusal.SlotsSpent) return;
        }
    }

    function _awardOne(bytes32 jobId, Job memory job, Award memory award, uint256 number)
        private
        returns (FillRefusal)
    {
        if (number >= job.card.groups()) return FillRefusal.GroupOutOfRange;
        Group memory group = _group(jobId, number);
        if (group.state != GroupState.Filling) return FillRefusal.GroupNotFilling;
        if (group.seats >= job.card.picked()) return FillRefusal.GroupFull;
        for (uint256 seat; seat < group.seats; ++seat) {
            if (_providerOf(jobId, job, group, seat) == award.provider) return FillRefusal.AlreadySeated;
        }
        if (uint256(award.slotsUsed) + job.card.slotsPerSeat() > award.slots) return FillRefusal.SlotsSpent;
        (, uint32 units) = _unitsOf(job, number);
        uint256 pay = Amounts.pay(award.pricePerUnit, units);
        uint256 bond = Amounts.shareUp(pay, job.card.bondBps());
        if (bond > award.bondFree) return FillRefusal.BondTooSmall;
        uint256 cost = pay + Amounts.shareDown(pay, job.card.feeBps());
        if (cost > job.escrow - job.allocated) return FillRefusal.EscrowSpent;

        award.slotsUsed += job.card.slotsPerSeat();
        award.bondFree -= bond;
        award.bondLocked += bond;
        job.allocated += uint96(cost);
        uint8 taken = group.seats;
        group.seatFills |= uint128(award.fillNumber) << uint128(taken * 16);
        _setSeatState(group, taken, SeatState.Awarded);
        group.seats = taken + 1;
        _writeGroup(jobId, number, group);

        bool extendsRun = award.runLength > 0 && award.runSeat == taken && award.runStart + award.runLength == number;
        if (!extendsRun) {
            _tell(jobId, job, award);
            award.runStart = uint32(number);
            award.runSeat = taken;
        }
        ++award.runLength;
        return FillRefusal.None;
    }

    /// Tells of the run of groups awarded in one seat, if there is one.
    function _tell(bytes32 jobId, Job memory job, Award memory award) private {
        if (award.runLength == 0) return;
        emit SeatsFilled(
            jobId,
            award.provider,
            award.offerHash,
            ++job.seq,
            uint8(SeatKind.Picked),
            0,
            award.runSeat,
            award.runStart,
            award.runLength,
            award.pricePerUnit,
            award.seriesNumber,
            award.chargeBps,
            award.gateways
        );
        award.runLength = 0;
    }
}
