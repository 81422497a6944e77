"""The market's events, decoded from raw logs by the table below and nothing else."""

import re
from dataclasses import dataclass

from keccak import keccak256

# Written from the protocol's table of events. `*` marks an indexed field.
SIGNATURES = """
Deposited(address* account, address* token, uint128 amount, bytes32 intent)
Withdrawn(address* account, address* token, address to, uint128 amount, bytes32 intent)
BondPosted(address* provider, address* token, uint128 amount, bytes32 intent)
UnbondRequested(address* provider, address* token, uint128 amount, uint64 readyAt)
Unbonded(address* provider, address* token, uint128 amount)
OffersCancelled(address* provider, uint32* series, uint64 minNonce)
JobOpened(bytes32* jobId, address* buyer, address* token, uint32 seq, bytes32 nonce, uint128 escrow, bytes32 termsHash, bytes terms)
JobToppedUp(bytes32* jobId, address* payer, uint32 seq, uint128 amount, bytes32 intent)
SeatsFilled(bytes32* jobId, address* provider, bytes32* offerHash, uint32 seq, uint8 kind, uint8 round, uint8 seat, uint32 firstGroup, uint32 groups, uint128 pricePerUnit, uint32 series, uint16 chargeBps, uint8 gateways)
GroupsSealed(bytes32* jobId, uint32 seq, uint32 firstGroup, uint32 groups, uint64 commitBy)
JobCancelNoticed(bytes32* jobId, uint32 seq, uint64 graceUntil)
JobEnded(bytes32* jobId, uint32 seq, uint128 refunded)
SeatCommitted(bytes32* jobId, address* provider, uint32 seq, uint32 group, uint8 round, uint8 seat, bytes32 commitment)
SeatAbstained(bytes32* jobId, address* provider, uint32 seq, uint32 group, uint8 round, uint8 seat, uint8 reason)
RevealStarted(bytes32* jobId, uint32 seq, uint32 group, uint8 round, uint64 revealBy)
SeatRevealed(bytes32* jobId, address* provider, uint32 seq, uint32 group, uint8 round, uint8 seat, bytes32 rootA, bytes32 hashB, address gateway, bytes32 storedRoot, uint64 size, uint64 until)
ReceiptAttached(bytes32* jobId, address* provider, uint32 seq, uint32 group, uint8 round, uint8 seat, address gateway, bytes32 storedRoot, uint64 size, uint64 until)
GroupJudged(bytes32* jobId, uint32 seq, uint32 group, uint8 round, uint8 state, bytes32 root, uint8 agreed, uint32 seatStates, uint64 settleAt)
SeatSettled(bytes32* jobId, address* provider, uint32 seq, uint32 group, uint8 seat, uint8 state, uint128 paid, uint128 chargeToSink, uint128 burned, uint128 bondReleased)
GroupEnded(bytes32* jobId, uint32 seq, uint32 group, uint8 state, uint128 paid, uint128 fee, uint128 toSink, uint128 released)
FillSkipped(bytes32* jobId, address* provider, bytes32 offerHash, uint32 group, uint8 reason)
EntrySkipped(bytes32* jobId, address* provider, uint32 group, uint8 round, uint8 seat, uint8 reason)
StepFailed(uint256* index, bytes4* selector, bytes reason)
"""


@dataclass
class Event:
    """One decoded log: its name, its fields by name, and where it stands."""

    name: str
    fields: dict
    transaction: str
    block: int
    index: int

    def __getattr__(self, name):
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(name) from None


def _schema():
    table = {}
    for line in SIGNATURES.split("\n"):
        match = re.fullmatch(r"(\w+)\((.*)\)", line.strip())
        if not match:
            continue
        name, inside = match.groups()
        fields = [field.split(" ") for field in inside.split(", ")]
        types = [kind.rstrip("*") for kind, _ in fields]
        topic = "0x" + keccak256(f"{name}({','.join(types)})".encode()).hex()
        table[topic] = (name, [(kind.rstrip("*"), label, kind.endswith("*")) for kind, label in fields])
    return table


_SCHEMA = _schema()


def _value(kind, raw):
    if kind == "address":
        return "0x" + raw[12:].hex()
    if kind.startswith("bytes"):
        return "0x" + raw.hex()
    return int.from_bytes(raw, "big")


def decode(log):
    """The event of a raw log; raises `ValueError` for a log that is none of the market's."""
    if log["topics"][0] not in _SCHEMA:
        raise ValueError(f"log {log['transactionHash']}/{log['logIndex']} is no event of the market")
    name, schema = _SCHEMA[log["topics"][0]]
    topics = iter(log["topics"][1:])
    data = bytes.fromhex(log["data"][2:])
    fields, head = {}, 0
    for kind, label, indexed in schema:
        if indexed:
            fields[label] = _value(kind, bytes.fromhex(next(topics)[2:]))
            continue
        raw = data[head:head + 32]
        head += 32
        if kind == "bytes":
            start = int.from_bytes(raw, "big")
            length = int.from_bytes(data[start:start + 32], "big")
            fields[label] = data[start + 32:start + 32 + length]
        else:
            fields[label] = _value(kind, raw)
    return Event(name, fields, log["transactionHash"], int(log["blockNumber"], 16), int(log["logIndex"], 16))


def terms(encoded):
    """The terms of a job that money depends on, from `abi.encode(Terms)`."""
    start = int.from_bytes(encoded[:32], "big")
    at = lambda index: int.from_bytes(encoded[start + 32 * index:start + 32 * index + 32], "big")
    return {
        "units": at(0),
        "unitsPerGroup": at(1) * at(2),
        "quorum": at(7),
        "picked": at(8),
        "token": "0x" + at(23).to_bytes(32, "big")[12:].hex(),
        "bondBps": at(26),
        "noShowBps": at(27),
        "feeBps": at(28),
        "unresolvedBurnBps": at(30),
    }
